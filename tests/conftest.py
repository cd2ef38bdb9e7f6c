"""What the tests share."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


@pytest.fixture
def golden() -> Path:
    return GOLDEN
