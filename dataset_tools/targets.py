"""Single pictures for a network: photographs to project or to toonify."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib import UserError
from dnnlib.archive import PictureArchive

from .crop import Conversion, convert_picture
from .decode import BadPicture


def find_targets(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The pictures that `--target` means.

    Args:
        paths: picture files, and folders whose pictures are all taken, sub-folders included.

    Returns:
        Their paths, by names that are fit for folders: without suffix where that tells them apart.

    Raises:
        UserError: there is nothing at a path, or no picture in a folder.
    """
    found: list[tuple[str, Path]] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.is_file():
                raise UserError(f'--target={path}: no such file or folder')
            found.append((path.name, path))
            continue
        names = PictureArchive(path).picture_names
        if not names:
            raise UserError(f'--target={path}: there are no pictures in it')
        found += [(name.replace('/', '-'), path / name) for name in names]
    stems = [Path(name).stem.lower() for name, _ in found]  # some file systems take a and A for the same
    targets: dict[str, Path] = {}
    for name, path in found:
        key = base = name if stems.count(Path(name).stem.lower()) > 1 else Path(name).stem
        number = 2
        while key.lower() in (other.lower() for other in targets):
            key, number = f'{base}-{number}', number + 1
        targets[key] = path
    return targets


def load_target(path: str | os.PathLike[str], resolution: int, channels: int = 3) -> np.ndarray:
    """A picture as a network draws them: upright, over white, its middle square, resized with Lanczos's filter.

    Args:
        path: a picture file.
        resolution: width and height in pixels, a power of two from 4 to 8192.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 `[resolution, resolution, channels]`.

    Raises:
        UserError: it can't be read, or is no picture; the message names it.
    """
    if channels not in (1, 3):
        raise UserError(f'--target={path}: pictures have 1 or 3 channels, this network has {channels}')
    try:
        pixels = convert_picture(Path(path).read_bytes(), Conversion(resolution)).pixels
        return pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert('L'))[:, :, np.newaxis]
    except OSError as error:
        raise UserError(f'--target={path}: cannot be read: {error.strerror or error}') from error
    except BadPicture as error:
        raise UserError(f'--target={path}: {error.kind}: {error.reason}') from error
