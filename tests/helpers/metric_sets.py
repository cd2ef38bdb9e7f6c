"""Sets of pictures for tests of metrics."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics import detectors
from metrics.features import FeatureCollector, MeanCov
from metrics.image_set import PictureSet


def draw_pictures(folder: Path, num: int, *, seed: int = 0, tint: int = 0, size: int = 32) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    for i in range(num):
        pixels = rng.randint(0, 200, (4, 4, 3)).astype(np.uint8)
        pixels[:, :, 0] += tint
        Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(
            folder / f'{i:03}.png'
        )
    return folder


def stats_of(folder: Path, detector: detectors.Detector) -> MeanCov:
    collector = FeatureCollector(detector)
    for batch in PictureSet(folder).batches():
        collector.append(batch)
    return collector.result().stats


def assert_one_error_line(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if 'error' in line]
    assert out == '' and 'Traceback' not in err
    assert len(errors) == 1 and errors[0].startswith('calc_fid.py: error: ')
    for word in words:
        assert word in errors[0]
