"""Load networks from a file of any format, and save them in that which the suffix names."""

import copy
import hashlib
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib import UserError, atomic_path, printable
from dnnlib.reading import open_file
from dnnlib.util import is_out_of_memory
from torch_utils import persistence
from torch_utils.torch_file import is_torch_file

from ..augment import AugmentPipe
from ..networks import Discriminator, Generator
from . import nvidia, rosinality, safetensors, tensorflow, unpickling
from .published import MAX_FILE_SIZE, NAMED_SOURCES, NO_SNAPSHOT, local_copy
from .shipped import how_to_restore, shipped_networks

log = logging.getLogger(__name__)

WRITERS = {'.pkl': nvidia.write, '.pt': rosinality.write, '.safetensors': safetensors.write}
MAX_MESSAGE = 600  # characters of an error


@dataclass
class Networks:
    """The contents of a snapshot.

    Attributes:
        G, D: the trained networks, None where the file has none.
        G_ema: the running average of G, which makes the pictures.
        augment_pipe: the augmentations, whose buffer `p` is the probability reached; None without
            ADA.
        meta: plain data: `path` and `sha256` of the file, `training_set_kwargs`, and for our own
            files `toonify` (see `save_networks`).
    """

    G: Generator | None
    D: Discriminator | None
    G_ema: Generator
    augment_pipe: AugmentPipe | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def load_networks(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> Networks:
    """Load a snapshot without executing anything in it.

    Args:
        path: a name of `shipped_networks` or `NAMED_SOURCES`, an http(s) URL, or a file; in
            NVIDIA's PyTorch or TensorFlow format, rosinality's, or .safetensors, told apart by
            content, not by name.
        trust_pickle: execute what a pickle asks for, instead of refusing it; with a warning.

    Returns:
        float32 networks on the CPU, in evaluation mode, without gradients, of the architecture that
        the file has.

    Raises:
        UserError: no such file, not a snapshot, damaged, hostile, or another kind of network.
    """
    path = local_copy(path)
    try:
        return _load(path, trust_pickle=trust_pickle)
    except UserError as error:
        raise UserError(f'{error}{how_to_restore(path)}') from error


def _load(path: Path, *, trust_pickle: bool) -> Networks:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise UserError(f'{path}: a folder, not a snapshot file')
        if size > MAX_FILE_SIZE:
            raise UserError(f'{path}: {size / 1e9:.1f} GB is too large for a StyleGAN2 snapshot')
        with open_file(path) as file:
            data = file.read()
    except FileNotFoundError:
        hint = (
            f' (nor a known name: {", ".join([*shipped_networks(), *NAMED_SOURCES])})'
            if path.name == str(path) and not path.suffix
            else ''
        )
        raise UserError(f'{path}: no such snapshot file{hint}') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror or error}') from error
    if not data:
        raise UserError(f'{path}: an empty file')
    if trust_pickle:
        log.warning('--trust-pickle: %s may run any program as you', path)
    content = _read(data, str(path), trust_pickle)
    sha256 = hashlib.sha256(data).hexdigest()
    del data
    G, D, G_ema, augment_pipe = (content.pop(key) for key in ('G', 'D', 'G_ema', 'augment_pipe'))
    if G_ema is None:
        G_ema = persistence.clone(G)
    return Networks(G, D, G_ema, augment_pipe, {**content, 'path': str(path), 'sha256': sha256})


def _read(data: bytes, name: str, trusted: bool) -> dict[str, Any]:
    """Tell the format by the content, whatever the file is called. Whatever is wrong with it
    becomes one short line.
    """
    try:
        return _read_format(data, name, trusted)
    except UserError as error:
        text = str(error)
        raise (
            error
            if len(text) <= MAX_MESSAGE and text.isprintable()
            else UserError(printable(text, MAX_MESSAGE))
        ) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            printable(
                f'{name}: a damaged snapshot ({type(error).__name__}: {printable(error)})',
                MAX_MESSAGE,
            )
        ) from error


def _read_format(data: bytes, name: str, trusted: bool) -> dict[str, Any]:
    if is_torch_file(data):
        return rosinality.read(data, name, trusted)
    if safetensors.is_safetensors(data):
        return safetensors.read(data, name)
    if not unpickling.starts_as_pickle(data):
        raise UserError(f'{name}: {NO_SNAPSHOT}')
    content = unpickling.load(data, name, trusted)
    return (
        tensorflow.read(content, name) if isinstance(content, tuple) else nvidia.read(content, name)
    )


def save_networks(path: str | os.PathLike[str], networks: Networks) -> None:
    """Save a snapshot. It takes its final name only when it is whole.

    Args:
        path: the suffix chooses the format: `.pkl` is NVIDIA's (by custom
            `network-snapshot-000000.pkl`), `.pt` rosinality's, `.safetensors` our own.
        networks: modules on any device; `meta` must be plain data. What belongs to this project
            goes under its key `toonify`: `cur_nimg` (pictures seen), `preset`, `parents` (as
            `ancestry` makes them).

    Raises:
        UserError: the file can't be written, has another suffix, or its format can't hold these
            networks.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise UserError(f'{path}: networks are saved as {", ".join(WRITERS)}')
    modules: dict[str, torch.nn.Module | None] = dict(
        G=networks.G, D=networks.D, G_ema=networks.G_ema, augment_pipe=networks.augment_pipe
    )
    meta = {key: value for key, value in networks.meta.items() if key not in ('path', 'sha256')}
    if path.suffix == '.pkl':  # NVIDIA's loaders insist on G, D and G_ema
        modules['G'] = networks.G if networks.G is not None else networks.G_ema
        if networks.D is None:
            log.warning("%s has no D: this project loads it, NVIDIA's checkouts refuse it", path)
    content = {**modules, 'training_set_kwargs': {}, **meta}
    content['training_set_kwargs'] = without_folders(content['training_set_kwargs'])
    with atomic_path(path) as temp, temp.open('wb') as file:
        WRITERS[path.suffix](file, content)


def without_folders(kwargs: Any) -> Any:
    """Return a data set's description with its name in place of the path."""
    if isinstance(kwargs, dict) and isinstance(kwargs.get('path'), str):
        return {**kwargs, 'path': kwargs['path'].replace('\\', '/').rstrip('/').rsplit('/', 1)[-1]}
    return kwargs


def in_half(networks: Networks) -> Networks:
    """Return networks in float16, to save them in half the size; loaded, they are float32 again."""
    parts = {
        name: copy.deepcopy(getattr(networks, name)).half()
        for name in ('G', 'D', 'G_ema')
        if getattr(networks, name) is not None
    }
    return replace(networks, **parts)
