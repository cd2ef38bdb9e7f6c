"""The labels of a data set's `dataset.json`: one class number or one vector for every picture, or none at all."""

import math
from collections.abc import Sequence
from typing import Any

from dnnlib import UserError

Label = int | list[float]


def read_labels(metadata: dict[str, Any] | None, picture_names: Sequence[str], where: str) -> dict[str, Label] | None:
    """Check the labels of a `dataset.json` against the pictures they belong to.

    Args:
        metadata: the content of the file, None where there is no such file.
        picture_names: the pictures of the source; labels of other files are ignored.
        where: what to call the source in an error.

    Returns:
        The label of each picture, or None where there are no labels.

    Raises:
        UserError: the labels have an unknown form, differ in kind or length, or leave pictures out.
    """
    pairs = (metadata or {}).get('labels')
    if not pairs:
        return None
    try:  # a list of pairs is the format; some tools write an object instead. Old ones on Windows wrote backslashes
        found = {name.replace('\\', '/'): label for name, label in (pairs.items() if isinstance(pairs, dict) else pairs)}
    except (TypeError, ValueError, AttributeError):
        raise UserError(f'{where}: labels in dataset.json should be a list of [file name, label] pairs, or null') from None
    missing = [name for name in picture_names if name not in found]
    if missing:
        raise UserError(f'{where}: dataset.json has labels, but none for {len(missing)} of {len(picture_names)} pictures, such as '
                        f'{missing[0]}; label every picture, or set "labels" to null')
    labels = {name: found[name] for name in picture_names}
    shapes = {_shape(label) for label in labels.values()}
    if None in shapes or len(shapes) > 1:
        raise UserError(f'{where}: labels in dataset.json should all be class numbers from 0 on, or all lists of numbers of one length')
    return labels


def _shape(label: object) -> int | None:
    """0 for a class number, the length of a vector, None for anything else."""
    if isinstance(label, int) and not isinstance(label, bool) and label >= 0:
        return 0
    if isinstance(label, list) and label and all(_is_number(value) for value in label):
        return len(label)
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
