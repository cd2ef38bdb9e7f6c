"""FID by each protocol against the tool it is named after, with the same weights, on PNGs, JPEGs
and mixed sizes.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image

from dnnlib import UserError
from metrics.detectors import load_detector
from metrics.features import FeatureCollector, MeanCov
from metrics.fid import frechet_distance
from metrics.image_set import PictureSet
from metrics.inception_score import inception_score
from metrics.kid import kernel_distance
from metrics.precision_recall import precision_recall
from metrics.protocols import PROTOCOLS

CPU = torch.device('cpu')


def draw(folder: Path, num: int, seed: int, low: int) -> Path:
    """A folder of PNGs, JPEGs, grey, transparent and palette pictures of several sizes."""
    folder.mkdir()
    rng = np.random.RandomState(seed)
    for i in range(num):
        size = ((32, 32), (48, 40), (320, 310))[i % 3]
        picture = Image.fromarray(rng.randint(low, 256, (5, 5, 3)).astype(np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        mode = {3: 'L', 5: 'RGBA', 7: 'P'}.get(i, 'RGB')
        picture = picture.convert(mode)
        if mode == 'RGBA':
            picture.putalpha(100)
        picture.save(folder / f'{i:02}{".jpg" if mode == "RGB" and i % 2 else ".png"}')
    return folder


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp('protocols')
    return draw(root / 'real', 8, 0, 0), draw(root / 'fake', 6, 1, 90)


@functools.cache
def ours(folder: Path, protocol: str, weights: Path, batch: int = 4) -> Any:
    detector = load_detector(
        'inception',
        device=CPU,
        weights_path=weights,
        protocol=PROTOCOLS[protocol],
        log=lambda message: None,
    )
    collector = FeatureCollector(detector, keep=True, ddof=detector.protocol.ddof)
    for indices, pictures in PictureSet(
        folder, drops_alpha=detector.protocol.drops_alpha
    ).numbered_batches(batch):
        collector.append(pictures, indices)
    return collector.result(), detector


def by_pytorch_fid(folder: Path, weights: Path) -> np.ndarray:
    import pytorch_fid.fid_score
    import pytorch_fid.inception

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pytorch_fid.inception,
            'load_state_dict_from_url',
            lambda *args, **kwargs: torch.load(weights),
        )
        net = pytorch_fid.inception.InceptionV3([3])
    return pytorch_fid.fid_score.get_activations(
        sorted(folder.iterdir()), net, batch_size=1, num_workers=0
    )


def by_clean_fid(folder: Path, weights: Path) -> np.ndarray:
    import cleanfid.fid
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    net = FeatureExtractorInceptionV3('test', ['2048'], feature_extractor_weights_path=weights)
    layers = torch.nn.Sequential(*list(net.children())[:-1], torch.nn.Flatten())
    files = sorted(map(str, folder.iterdir()))
    return cleanfid.fid.get_files_features(
        files,
        lambda x: layers((x - 128) / 128),
        num_workers=0,
        batch_size=3,
        device=CPU,
        verbose=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'protocol, theirs, module, function',
    [
        ('pytorch-fid', by_pytorch_fid, 'pytorch_fid.fid_score', 'calculate_frechet_distance'),
        ('clean', by_clean_fid, 'cleanfid.fid', 'frechet_distance'),
    ],
)
def test_fid_agrees(
    protocol: str,
    theirs: Callable[[Path, Path], np.ndarray],
    module: str,
    function: str,
    folders: tuple[Path, Path],
    inception_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = pytest.importorskip(module)
    sets = [theirs(folder, inception_file).astype(np.float64) for folder in folders]
    mine = [ours(folder, protocol, inception_file)[0] for folder in folders]
    for a, b in zip(mine, sets):
        np.testing.assert_allclose(a.values.numpy(), b, rtol=1e-3, atol=1e-4 * np.abs(b).max())
    # Their square root of 2048 x 2048 numbers takes minutes. In the span of all the features the
    # distance is the same.
    basis = np.linalg.qr(np.concatenate(sets).T)[0]
    moments = [
        moment
        for x in sets
        for moment in ((x @ basis).mean(axis=0), np.cov(x @ basis, rowvar=False))
    ]
    true = scipy.linalg.sqrtm  # scipy 1.18 has dropped its second argument, which they give
    monkeypatch.setattr(
        tool.linalg, 'sqrtm', lambda x, disp=True: true(x) if disp else (true(x), 0.0)
    )
    expected = getattr(tool, function)(*moments)
    assert frechet_distance(*(each.stats for each in mine)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize('size', [(299, 299), (32, 47), (256, 256), (640, 301), (1, 2)])
def test_resizing_is_that_of_the_tools(size: tuple[int, int]) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    pictures = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (2, 3, *size))).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(
        pictures, size=(299, 299), align_corners=False
    )
    # of 2
    torch.testing.assert_close(
        PROTOCOLS['nvidia'].prepare(pictures), (expected - 128) / 128, rtol=0, atol=2e-6
    )
    channels = [
        np.asarray(Image.fromarray(channel.numpy()).resize((299, 299), Image.Resampling.BICUBIC))
        for channel in pictures[0]
    ]
    # clean-fid's definition: Pillow in its mode F
    clean = torch.from_numpy(np.stack(channels)).clamp(0, 255)
    # of 255
    torch.testing.assert_close(
        PROTOCOLS['clean'].prepare(pictures)[0] * 128 + 128, clean, rtol=0, atol=0.01
    )


def test_protocols_differ(folders: tuple[Path, Path], inception_file: Path) -> None:
    values = [ours(folders[0], name, inception_file)[0].values for name in PROTOCOLS]
    assert all(
        float((a - b).norm() / a.norm()) > 1e-3 for i, a in enumerate(values) for b in values[:i]
    )
    with pytest.raises(UserError, match='--protocol=clean'):
        load_detector('random-vgg', device=CPU, protocol=PROTOCOLS['clean'])


@pytest.mark.slow
def test_all_metrics_agree_with_torch_fidelity_in_one_call(
    folders: tuple[Path, Path], inception_file: Path
) -> None:
    import torch_fidelity

    real, fake = (ours(folder, 'torch-fidelity', inception_file)[0] for folder in folders)
    detector = ours(folders[0], 'torch-fidelity', inception_file)[1]
    expected = torch_fidelity.calculate_metrics(
        input1=str(folders[1]),
        input2=str(folders[0]),
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        kid_subset_size=5,
        isc_splits=2,
        batch_size=1,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor='inception-v3-compat',
        feature_extractor_weights_path=str(inception_file),
    )
    assert frechet_distance(real.stats, fake.stats) == pytest.approx(
        expected['frechet_inception_distance'], rel=1e-3
    )
    mean, std = kernel_distance(real.values, fake.values, subset_size=5)
    assert mean == pytest.approx(expected['kernel_inception_distance_mean'], rel=1e-3)
    assert std == pytest.approx(expected['kernel_inception_distance_std'], rel=1e-3)
    assert precision_recall(real.values, fake.values) == pytest.approx(
        (expected['precision'], expected['recall']), abs=1e-6
    )
    mean, std = inception_score(detector.logits(fake.values), splits=2)
    assert (mean, std) == pytest.approx(
        (expected['inception_score_mean'], expected['inception_score_std']), rel=1e-3
    )


@pytest.mark.slow
def test_batches_do_not_matter(folders: tuple[Path, Path], inception_file: Path) -> None:
    """To 1e-6 of the features' scale, and in the order of the files however they were grouped by
    size.
    """
    fours, ones = (ours(folders[0], 'clean', inception_file, batch)[0] for batch in (4, 1))
    torch.testing.assert_close(
        fours.values, ones.values, rtol=1e-5, atol=1e-5 * float(ones.values.abs().max())
    )
    fake = ours(folders[1], 'clean', inception_file)[0].stats
    assert frechet_distance(fours.stats, fake) == pytest.approx(
        frechet_distance(ones.stats, fake), rel=1e-6
    )
    assert fours.sizes == {(32, 32), (40, 48), (310, 320)}


def test_covariances_follow_the_protocol(folders: tuple[Path, Path], inception_file: Path) -> None:
    a, b = (
        ours(folders[0], name, inception_file)[0].stats for name in ('nvidia', 'torch-fidelity')
    )
    values = ours(folders[0], 'torch-fidelity', inception_file)[0].values.double().numpy()
    np.testing.assert_allclose(b.cov, np.cov(values.T), atol=1e-9)
    values = ours(folders[0], 'nvidia', inception_file)[0].values.double().numpy()
    np.testing.assert_allclose(a.cov, np.cov(values.T, bias=True), atol=1e-9)
    assert isinstance(a, MeanCov) and a.num == 8


@pytest.mark.slow
def test_vgg16_agrees_with_torch_fidelity(folders: tuple[Path, Path], tmp_path: Path) -> None:
    import torch_fidelity
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.vgg16().state_dict(), tmp_path / 'vgg16.pth')
    detector = load_detector(
        'vgg16', device=CPU, weights_path=tmp_path / 'vgg16.pth', log=lambda message: None
    )
    values = [
        torch.cat([detector(batch) for batch in PictureSet(folder, drops_alpha=True).batches(1)])
        for folder in folders
    ]
    expected = torch_fidelity.calculate_metrics(
        input1=str(folders[1]),
        input2=str(folders[0]),
        prc=True,
        batch_size=1,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor='vgg16',
        feature_extractor_weights_path=str(tmp_path / 'vgg16.pth'),
    )
    assert values[0].shape == (8, 4096)
    assert precision_recall(*values) == pytest.approx(
        (expected['precision'], expected['recall']), abs=1e-6
    )
