"""Which classes a conditional generator draws for metrics."""

import logging
import os
from collections.abc import Callable
from typing import Any

from dnnlib import UserError
from dnnlib.image_archive import PictureArchive, read_labels
from training.dataset import choose_rows

from .sampling import LabelFn, class_labels

AS_IN_SET, UNIFORM = 'as in the data set', 'uniform'

_warn = logging.getLogger(__name__).warning


def choose_labels(
    G: Any,
    class_idx: int | None = None,
    data_path: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = _warn,
) -> tuple[LabelFn | None, str | int | None]:
    """One class; else labels of random pictures of a data set, as NVIDIA's metrics draw them; else
    all classes alike.

    Args:
        class_idx: the class, where one was asked for.
        data_path: a folder or zip, which may have labels.
        log: takes one line where its labels are not this network's.

    Returns:
        What `sample_images` takes, and what it does in words: the class, `AS_IN_SET`, `UNIFORM`, or
        None for an unconditional network.

    Raises:
        UserError: the network has no such class, or the set's labels are damaged.
    """
    if class_idx is not None:
        label = class_labels(G, class_idx, 1)
        return lambda count, generator: label.repeat(count, 1), class_idx
    if G.c_dim == 0:
        return None, None
    labels = None
    if data_path is not None:
        archive = PictureArchive(data_path)
        try:
            labels = read_labels(archive, '--real')[0]
        except UserError:
            if (archive.read_json() or {}).get('labels'):
                raise
    if labels is None:
        return None, UNIFORM
    if labels.shape[1] != G.c_dim:
        log(
            f'warning: {data_path} has {labels.shape[1]} classes, the network {G.c_dim}, which are '
            f'drawn uniformly'
        )
        return None, UNIFORM
    return lambda count, generator: choose_rows(labels, count, generator), AS_IN_SET
