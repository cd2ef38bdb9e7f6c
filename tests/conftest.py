"""What the tests share."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

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


def draw_pictures(folder: Path, count: int) -> Path:
    """Noise of 32×32, `00.png` …"""
    rng = np.random.RandomState(0)
    for i in range(count):
        Image.fromarray(rng.randint(0, 256, [32, 32, 3], dtype=np.uint8)).save(folder / f'{i:02d}.png')
    return folder


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten pictures."""
    return draw_pictures(tmp_path_factory.mktemp('pictures'), 10)


@pytest.fixture(scope='session')
def labelled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures with three classes."""
    folder = draw_pictures(tmp_path_factory.mktemp('labelled'), 12)
    (folder / 'dataset.json').write_text(json.dumps({'labels': [[f'{i:02d}.png', i % 3] for i in range(12)]}))
    return folder


@pytest.fixture
def golden() -> Path:
    return GOLDEN
