"""Picture files."""

from pathlib import Path

import numpy as np
import pytest

from dnnlib import UserError
from torch_utils.image_io import save_picture, tile


# Pillow reads the last, and can't write it
@pytest.mark.parametrize('name', ['a', 'a.txt', 'a.psd'])
def test_pictures_of_no_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no picture format'):
        save_picture(tmp_path / name, np.zeros([2, 2, 3], np.uint8))
    with pytest.raises(UserError, match=r'cannot write .*a\.webp'):
        save_picture(tmp_path / 'a.webp', np.zeros([1, 20000, 3], np.uint8))
    assert not list(tmp_path.iterdir())


def test_tile() -> None:
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(
        tile(images, 2)[:, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]
    )
