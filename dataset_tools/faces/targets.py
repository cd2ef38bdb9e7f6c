"""Load single photographs for a network, to project or to toonify."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib import UserError
from dnnlib.image_archive import PictureArchive
from dnnlib.reading import read_file, regular_file

from ..image.crop import Conversion, convert_picture
from ..image.decode import BadPicture
from .detect import NO_FACE, WHAT_TO_TRY, check_detector, convert_faces
from .landmarks import Landmarks, load_landmarks


def find_targets(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """List the pictures among files and folders.

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
            found.append((path.name, regular_file(path)))
            continue
        names = PictureArchive(path).picture_names
        if not names:
            raise UserError(f'{path}: there are no pictures in it')
        found += [(name.replace('/', '-'), path / name) for name in names]
    # some file systems take a and A for the same
    stems = [Path(name).stem.lower() for name, _ in found]
    targets: dict[str, Path] = {}
    for name, path in found:
        base = name if stems.count(Path(name).stem.lower()) > 1 else Path(name).stem
        # '...png' has the stem '..', a folder beside --outdir
        base = base if base.strip('.') else 'picture'
        key = base
        number = 2
        while key.lower() in (other.lower() for other in targets):
            key, number = f'{base}-{number}', number + 1
        targets[key] = path
    return targets


def check_alignment(align: str, landmarks: Path | None, say: Callable[[str], object]) -> None:
    """Check `--align` and `--landmarks` before long work.

    Args:
        align: `ffhq` or `none`.
        say: told about the licence of dlib's predictor where that is to be used.

    Raises:
        UserError: the options contradict each other, or dlib is needed and not installed.
    """
    if landmarks is not None and align != 'ffhq':
        raise UserError(f'--landmarks={landmarks} does nothing without --align=ffhq')
    if align == 'ffhq' and landmarks is None:
        say(check_detector())


def load_targets(
    found: Mapping[str, Path],
    resolution: int,
    channels: int = 3,
    *,
    align: bool = False,
    landmarks: Path | None = None,
    warn: Callable[[str], object],
) -> dict[str, np.ndarray]:
    """Load pictures in the size and channels of a network.

    Args:
        found: of `find_targets`.
        align: cut the largest face out as FFHQ did; else the middle square is taken.
        landmarks: a JSON file with the faces under the pictures' file names, so that dlib need not
            look for them.
        warn: told of each picture that can't be used, as long as another one can.

    Returns:
        uint8 `[resolution, resolution, channels]` by name.

    Raises:
        UserError: no picture is left, a picture has no entry in `landmarks`, or dlib is needed and
            not installed.
    """
    marked = (
        None
        if landmarks is None
        else load_landmarks(landmarks, {path.name for path in found.values()})
    )
    pictures, errors = {}, []
    for name, path in found.items():
        try:
            faces = None if marked is None else marked.get(path.name, [])
            pictures[name] = load_target(path, resolution, channels, align=align, marked=faces)
        except UserError as error:
            errors.append(error)
    if not pictures:
        raise errors[0]
    for left_out in errors:
        warn(f'left out: {left_out}')
    return pictures


def load_target(
    path: str | os.PathLike[str],
    resolution: int,
    channels: int = 3,
    *,
    align: bool = False,
    marked: Sequence[Landmarks] | None = None,
) -> np.ndarray:
    """Load a picture in the size and channels of a network: upright, over white, its middle square
    or its largest face, resized with Lanczos's filter.

    Args:
        path: a picture file.
        resolution: width and height in pixels, a power of two from 4 to 8192.
        channels: 3 for RGB, 1 for grey.
        align: see `load_targets`.
        marked: its faces; None lets dlib look for them.

    Returns:
        uint8 `[resolution, resolution, channels]`.

    Raises:
        UserError: it can't be read, is no picture, or has no face; the message names it.
    """
    if channels not in (1, 3):
        raise UserError(f'{path}: pictures have 1 or 3 channels, this network has {channels}')
    try:
        data, conversion = read_file(path), Conversion(resolution)
        square = (
            convert_faces(data, conversion, marked=marked)[0]
            if align
            else convert_picture(data, conversion)
        )
        return (
            square.pixels
            if channels == 3
            else np.asarray(Image.fromarray(square.pixels).convert('L'))[:, :, np.newaxis]
        )
    except BadPicture as error:
        advice = f'; {WHAT_TO_TRY}' if error.kind == NO_FACE else ''
        raise UserError(f'{path}: {error.kind}: {error.reason}{advice}') from error
