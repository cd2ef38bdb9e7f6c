"""Both ways to resize, against exact arithmetic and each other."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from dataset_tools.image import resize as module
from dataset_tools.image.resize import RESIZE_FILTERS, resize, resize_light, resizer_version


@pytest.fixture(params=['cykooz.resizer', 'Pillow'])
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == 'Pillow':
        monkeypatch.setitem(sys.modules, 'cykooz_resizer', None)  # as where it isn't installed
    else:
        pytest.importorskip('cykooz_resizer')
    module._implementation.cache_clear()
    yield request.param
    module._implementation.cache_clear()


def picture(width: int, height: int) -> Image.Image:
    small = np.random.RandomState(0).randint(0, 256, [6, 8, 3], dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def exactly(
    image: Image.Image, size: tuple[int, int], name: str, box: tuple[float, float, float, float]
) -> np.ndarray:
    """In floating point, rounded only by the eye."""
    planes = [
        Image.fromarray(np.asarray(plane).astype(np.float32)).resize(
            size, RESIZE_FILTERS[name], box
        )
        for plane in image.split()
    ]
    return np.stack([np.asarray(plane) for plane in planes], -1).clip(0, 255)


@pytest.mark.parametrize('name', RESIZE_FILTERS)
@pytest.mark.parametrize(
    'source, size, box',
    [
        ((512, 512), (256, 256), None),
        ((401, 300), (128, 128), None),
        ((64, 64), (256, 256), None),
        ((90, 301), (64, 256), None),
        ((300, 200), (64, 64), (50, 0, 250, 200)),
        ((300, 200), (64, 64), (0.5, 0.25, 199.5, 199.25)),
        ((300, 1), (8, 8), None),
        # more than one of Pillow's blocks of memory
        ((5, 5), (1, 1), None),
        ((4100, 2300), (512, 256), None),
    ],
)
def test_both_resizers_are_as_exact_as_8_bits_allow(
    chosen: str,
    name: str,
    source: tuple[int, int],
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None,
) -> None:
    assert resizer_version().startswith(chosen)
    image, part = picture(*source), box or (0, 0, *source)
    result, expected = resize(image, size, name, part), exactly(image, size, name, part)
    assert result.mode == 'RGB' and result.size == size
    difference = np.abs(np.asarray(result) - expected)
    assert (
        difference.max() <= (2.1 if size[0] > source[0] else 1.3)
        and np.sqrt(np.square(difference).mean()) <= 0.75
    )
    assert np.array_equal(np.asarray(image), np.asarray(picture(*source))), (
        'what it was made of stays'
    )


def test_resizing_to_the_same_size_changes_nothing(chosen: str) -> None:
    image = picture(64, 64)
    assert (
        resize(image, (64, 64), 'lanczos', (0, 0, 64, 64)) is image
        and resize_light(image, (64, 64), 'box', (0, 0, 64, 64)) is image
    )
    assert not np.array_equal(resize(image, (64, 64), 'lanczos', (0, 0, 32, 32)), image)


def test_resize_light_averages_light() -> None:
    stripes = np.zeros([64, 64, 3], np.uint8)
    stripes[:, ::2] = 255
    plain, light = (
        np.asarray(f(Image.fromarray(stripes), (16, 16), 'box', (0, 0, 64, 64)))
        for f in (resize, resize_light)
    )
    # sRGB of half the light
    assert np.all(np.abs(plain.astype(int) - 127) <= 1) and np.all(light == 188)
