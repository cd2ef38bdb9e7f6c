"""Sources of pictures, one reader each. A source says what it has and yields its pictures.

A new kind of source is a subclass of `base.PictureSource` in a module of its own; `_open` below
finds out which one a path needs.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from dnnlib import UserError
from dnnlib.containers import Container, FolderContainer, Skipped, open_container
from dnnlib.image_archive import is_picture_name

from ..image.decode import known_suffixes
from ..label_sources import check_mode
from .base import PictureSource, SourcePicture, StreamSource
from .cifar import CifarSource, find_cifar
from .files import FileSource
from .lmdb import is_lmdb, open_lmdb
from .merged import MergedSource
from .mnist import MnistSource, find_idx_images, one_idx_file
from .tar import TarContainer
from .video_frames import VIDEO_SUFFIXES, read_video

__all__ = ['PictureSource', 'Skipped', 'SourcePicture', 'open_sources']


def open_sources(
    paths: Sequence[str | os.PathLike[str]], labels: str | None = None, every: int | None = None
) -> PictureSource:
    """Find out what each path holds, and join them.

    Folders (recursive), zips, tars (packed or not, in their own order, the others sorted), CIFAR's
    and MNIST's archives, unpacked or not, LMDBs, videos.

    Args:
        paths: one or more.
        labels: 'none', 'folder', 'json', 'csv:COLUMN', or None for those that a source brings
            along.
        every: of a video, every nth frame.

    Raises:
        UserError: there is nothing at a path, it can't be read, it holds no pictures, its labels
            are unusable, or an option would do nothing.
    """
    check_mode(labels)
    if any(not os.fspath(path) for path in paths):  # Path('') would be the current folder
        raise UserError('--source is empty; give a folder, an archive or a video')
    if every is not None and not any(Path(path).suffix.lower() in VIDEO_SUFFIXES for path in paths):
        raise UserError(f'--every {every} does nothing: no --source is a video')
    sources = [_open(Path(path), labels, every or 1, alone=len(paths) == 1) for path in paths]
    return sources[0] if len(sources) == 1 else MergedSource(sources)


def _open(path: Path, mode: str | None, every: int, alone: bool) -> PictureSource:
    try:
        # one folder a class is as common as a folder of them
        class_name = path.resolve().name if mode == 'folder' and not alone else None
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            return StreamSource(path, mode, class_name, read_video(path, every), None)
        if is_lmdb(path):
            total, pictures = open_lmdb(path)
            return StreamSource(path, mode, class_name, pictures, total)
        idx_file = one_idx_file(path)
        container = idx_file or _one_picture(path) or _open_container(path)
    # the latter of links that lead to themselves, before Python 3.13
    except (OSError, RuntimeError) as error:
        raise UserError(
            f'--source {path}: cannot be read: {getattr(error, "strerror", None) or error}'
        ) from error
    batches = find_cifar(container)
    if batches:
        return CifarSource(container, mode, batches)
    names = [entry.name for entry in container.entries]
    idx = [path.name] if idx_file is not None else find_idx_images(names)
    if idx:
        return MnistSource(path, container, mode, container.entries[names.index(idx[0])])
    entries = [
        entry for entry in container.entries if is_picture_name(entry.name, known_suffixes())
    ]
    if not entries:
        found = (
            f'none of its {len(container.entries)} files is one'
            if container.entries
            else 'it is empty'
        )
        problem = (
            f'; {container.problems[0].name}: {container.problems[0].reason}'
            if container.problems
            else ''
        )
        raise UserError(f'--source {path}: there are no pictures in it ({found}){problem}')
    return FileSource(container, mode, entries, class_name)


def _one_picture(path: Path) -> Container | None:
    """The folder of a picture file, with only this file."""
    if is_picture_name(path.name, known_suffixes()) and path.is_file():
        return FolderContainer(path.parent, [path.name])
    return None


def _open_container(path: Path) -> Container:
    """A folder, a zip, or what is neither and hence, perhaps, a tar."""
    if path.is_file() and path.suffix.lower() != '.zip':
        with path.open('rb') as file:
            if file.read(2) != b'PK':
                return TarContainer(path)
    return open_container(path, foreign=True)
