"""Labels of a picture set, by its `dataset.json` or by its folders."""

import numpy as np

from .image_archive import PictureArchive
from .util import UserError, printable

_MAX_CLASSES = 1 << 15
_MAX_BYTES = 1 << 30  # of the vectors of all labels


def read_labels(archive: PictureArchive, option: str) -> tuple[np.ndarray, list[str] | None]:
    """Those of `dataset.json`. Where it has none, the folders of the first level are the classes,
    in sorted order, unless all of them have numbers for names, as `prepare_data.py` and NVIDIA
    number them.

    Args:
        option: what asked for labels, for errors.

    Returns:
        float32 `[N, label_dim]` in the order of `picture_names`, and the names of the folders that
        are the classes; None for the labels of `dataset.json`.

    Raises:
        UserError: it has none, or they are no labels.
    """
    names, listed = archive.picture_names, (archive.read_json() or {}).get('labels')
    if not listed:
        folders = _class_folders(archive, option)
        numbers = {folder: number for number, folder in enumerate(folders)}
        return _one_hot(
            archive, np.asarray([numbers[name.split('/')[0]] for name in names])
        ), folders
    try:
        by_name = {str(name).replace('\\', '/'): label for name, label in listed}
        labels = np.asarray([by_name[name] for name in names])
        if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0:
            return _one_hot(archive, labels), None
        if (
            labels.ndim == 2
            and np.issubdtype(labels.dtype, np.number)
            and (np.abs(labels) <= np.finfo(np.float32).max).all()
        ):
            return labels.astype(np.float32), None
    except (TypeError, ValueError) as error:
        raise UserError(
            f'{archive.path}: "labels" of dataset.json should be [[name, class], …] '
            f'({printable(error)})'
        ) from error
    except KeyError as error:
        raise UserError(
            f'{archive.path}: dataset.json has no label for {printable(error.args[0])}'
        ) from error
    raise UserError(f'{archive.path}: labels should be classes 0, 1, 2 … or vectors of one length')


def _one_hot(archive: PictureArchive, classes: np.ndarray) -> np.ndarray:
    highest = int(classes.max())
    if highest >= _MAX_CLASSES:
        raise UserError(
            f'{archive.path}: a label of dataset.json is {highest}; classes are '
            f'numbered 0, 1, 2 … without gaps; the network '
            'has an input for each number'
        )
    num_bytes = 4 * len(classes) * (highest + 1)
    if num_bytes > _MAX_BYTES:
        raise UserError(
            f'{archive.path}: {len(classes)} pictures of {highest + 1} classes: their '
            f'labels would take '
            f'{num_bytes / 1e9:.1f} GB; use fewer classes'
        )
    one_hot = np.zeros([len(classes), highest + 1], dtype=np.float32)
    one_hot[np.arange(len(classes)), classes] = 1
    return one_hot


def _class_folders(archive: PictureArchive, option: str) -> list[str]:
    names = archive.picture_names
    folders = sorted({name.split('/')[0] for name in names if '/' in name})
    named = any(not folder.isdecimal() for folder in folders)
    at_top = next((name for name in names if '/' not in name), None)
    if named and at_top is not None:
        raise UserError(
            f'{option}: {archive.path} has pictures in folders ({folders[0]}) and '
            f'beside them ({at_top}); '
            'put each into the folder of its class, or list the labels in dataset.json'
        )
    if not named or len(folders) < 2:
        raise UserError(
            f'{option}: {archive.path} has no labels (a dataset.json with "labels" is '
            f'needed, or a folder for each '
            'class, at least two and not all of them numbers)'
        )
    return folders
