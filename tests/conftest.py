"""What the tests share."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / 'golden'


def pytest_configure() -> None:
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '2')))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA GPU')


def load_npz(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f'{name}.npz') as data:
        return dict(data)


def load_json(name: str) -> Any:
    return json.loads((GOLDEN / f'{name}.json').read_text())


def read_video(path: Path) -> tuple[np.ndarray, float]:
    """The frames of an .mp4 or .gif, uint8 `[T, H, W, 3]`, and how many seconds they last."""
    if path.suffix.lower() == '.gif':
        with Image.open(path) as image:
            frames = [
                (np.asarray(frame.convert('RGB')), frame.info['duration'])
                for frame in ImageSequence.Iterator(image)
            ]
        return np.stack([frame for frame, _ in frames]), sum(time for _, time in frames) / 1000
    import imageio_ffmpeg  # not everywhere that the tests for GPUs run

    reader = imageio_ffmpeg.read_frames(path)
    width, height = next(reader)['size']
    return (
        np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]),
        imageio_ffmpeg.count_frames_and_secs(path)[1],
    )


def draw_pictures(folder: Path, count: int) -> Path:
    """Noise of 32×32, `00.png` …"""
    rng = np.random.RandomState(0)
    for i in range(count):
        Image.fromarray(rng.randint(0, 256, [32, 32, 3], dtype=np.uint8)).save(
            folder / f'{i:02d}.png'
        )
    return folder


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten pictures."""
    return draw_pictures(tmp_path_factory.mktemp('pictures'), 10)


@pytest.fixture(scope='session')
def labelled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures with three classes."""
    folder = draw_pictures(tmp_path_factory.mktemp('labelled'), 12)
    (folder / 'dataset.json').write_text(
        json.dumps({'labels': [[f'{i:02d}.png', i % 3] for i in range(12)]})
    )
    return folder


@pytest.fixture(scope='session')
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right structure: random, of a scale that keeps the features alive."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args: Any, **kwargs: Any) -> None:
            pass

    folder = tmp_path_factory.mktemp('weights')
    torch.save({}, folder / 'nothing.pth')
    generator = torch.Generator().manual_seed(0)
    state = Unloaded(
        'random', ['2048'], feature_extractor_weights_path=folder / 'nothing.pth'
    ).state_dict()
    for weight in state.values():
        if weight.ndim == 4:
            weight.copy_(
                torch.randn(weight.shape, generator=generator) * (2 / weight[0].numel()) ** 0.5
            )
    torch.save(state, folder / 'inception.pth')
    return folder / 'inception.pth'


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of downloads and statistics that no other test and no user has."""
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def golden() -> Path:
    return GOLDEN
