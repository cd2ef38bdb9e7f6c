"""Snapshots: the one entry for loading networks from a file, and the one for saving them."""

import copy
import hashlib
import logging
import os
import pickle
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib import UserError, atomic_path, printable
from dnnlib.download import fetch, is_url
from dnnlib.reading import open_file
from dnnlib.util import is_out_of_memory
from torch_utils import persistence
from torch_utils.misc import named_tensors
from torch_utils.torch_file import is_torch_file

from ..augment import AugmentPipe
from ..networks import Discriminator, Generator
from . import nvidia, rosinality, safetensors, tensorflow, unpickling

log = logging.getLogger(__name__)

WRITERS = {'.pkl': nvidia.write, '.pt': rosinality.write, '.safetensors': safetensors.write}
MAX_FILE_SIZE = 4 << 30  # bytes; a 1024 px snapshot has under 400 MB
_NO_SNAPSHOT = 'no snapshot: neither a pickle (.pkl) nor a PyTorch file (.pt) nor .safetensors'
MAX_MESSAGE = 600  # characters of an error
MAX_NIMG = 1e15  # pictures seen


@dataclass(frozen=True)
class NamedSource:
    """A published snapshot that has a name here.

    Attributes:
        url: where it is downloaded from.
        resolution: of its pictures, pixels.
        licence: of its weights, and of all networks that are fine-tuned from it.
    """

    url: str
    resolution: int
    licence: str


_PUBLISHED = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained'
_TRANSFER = f'{_PUBLISHED}/transfer-learning-source-nets'
_NVIDIA = 'NVIDIA Source Code License, non-commercial'
NAMED_SOURCES = {
    name: NamedSource(url, resolution, _NVIDIA)
    for name, url, resolution in (
        ('ffhq256', f'{_TRANSFER}/ffhq-res256-mirror-paper256-noaug.pkl', 256),
        ('ffhq512', f'{_TRANSFER}/ffhq-res512-mirror-stylegan2-noaug.pkl', 512),
        ('ffhq1024', f'{_TRANSFER}/ffhq-res1024-mirror-stylegan2-noaug.pkl', 1024),
        (
            'celebahq256',
            f'{_TRANSFER}/celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl',
            256,
        ),
        ('lsundog256', f'{_TRANSFER}/lsundog-res256-paper256-kimg100000-noaug.pkl', 256),
        ('ffhq', f'{_PUBLISHED}/ffhq.pkl', 1024),
        ('metfaces', f'{_PUBLISHED}/metfaces.pkl', 1024),
        ('afhqcat', f'{_PUBLISHED}/afhqcat.pkl', 512),
        ('afhqdog', f'{_PUBLISHED}/afhqdog.pkl', 512),
        ('afhqwild', f'{_PUBLISHED}/afhqwild.pkl', 512),
        ('brecahad', f'{_PUBLISHED}/brecahad.pkl', 512),
        ('cifar10', f'{_PUBLISHED}/cifar10.pkl', 32),
    )
}


@dataclass
class Networks:
    """What a snapshot holds.

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


def load_networks(path: str | os.PathLike[str], trust_pickle: bool = False) -> Networks:
    """Load a snapshot without executing anything in it.

    Args:
        path: a name of `NAMED_SOURCES`, an http(s) URL, or a file; in NVIDIA's PyTorch or
            TensorFlow format, rosinality's, or .safetensors, told apart by content, not by name.
        trust_pickle: execute what a pickle asks for, instead of refusing it; with a warning.

    Returns:
        float32 networks on the CPU, in evaluation mode, without gradients, of the architecture that
        the file has.

    Raises:
        UserError: no such file, not a snapshot, damaged, hostile, or another kind of network.
    """
    path = local_copy(path)
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
            f' (nor a known name: {", ".join(NAMED_SOURCES)})'
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


def local_copy(source: str | os.PathLike[str]) -> Path:
    """The file that a name of `NAMED_SOURCES`, a URL or a path means; downloads are cached. A file
    of that name comes first.
    """
    text = str(source)
    if not is_elsewhere(text):
        return Path(text)
    url = NAMED_SOURCES[text].url if text in NAMED_SOURCES else text
    return fetch(url, check=_problem_of_start, max_size=MAX_FILE_SIZE)


def is_elsewhere(text: str) -> bool:
    """Whether a text means a snapshot on the network: a URL, or a name of `NAMED_SOURCES` that no
    file bears.

    Raises:
        UserError: it looks like an address, but not like one of http or https.
    """
    # as a path it would lose slashes
    if re.match(r'[A-Za-z][A-Za-z0-9+.-]+:/', text) and not is_url(text):
        raise UserError(
            f'{printable(text)}: not an http(s) address, which begins with https:// or http://'
        )
    return is_url(text) or (text in NAMED_SOURCES and not Path(text).exists())


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
    if not _starts_as_pickle(data):
        raise UserError(f'{name}: {_NO_SNAPSHOT}')
    content = unpickling.load(data, name, trusted)
    return (
        tensorflow.read(content, name) if isinstance(content, tuple) else nvidia.read(content, name)
    )


def _starts_as_pickle(data: bytes) -> bool:
    return data[:1] in (pickle.PROTO, b'(', b'}', b']')


def _problem_of_start(head: bytes) -> str:
    """What a download is if its first bytes are no snapshot's; else empty."""
    known = (
        is_torch_file(head) or safetensors.starts_as_safetensors(head) or _starts_as_pickle(head)
    )
    return '' if known else _NO_SNAPSHOT


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
    content['training_set_kwargs'] = _without_folders(content['training_set_kwargs'])
    with atomic_path(path) as temp, temp.open('wb') as file:
        WRITERS[path.suffix](file, content)


def _without_folders(kwargs: Any) -> Any:
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


def ancestry(*parents: Networks) -> list[dict[str, Any]]:
    """What the descendants of snapshots remember: their files' `name`, `sha256`, `kimg` and
    `preset` (None where unknown), and those of their own ancestors.
    """
    found: dict[str, dict[str, Any]] = {}
    for parent in parents:
        if 'sha256' in parent.meta:
            name, own = Path(str(parent.meta.get('path'))).name, parent.meta.get('toonify')
            own = own if isinstance(own, dict) else {}
            sha256, preset = parent.meta['sha256'], own.get('preset')
            found[sha256] = {
                'name': name,
                'sha256': sha256,
                'kimg': kimg_of(name, own),
                'preset': preset,
            }
        found.update({row['sha256']: row for row in _remembered(parent)})
    return list(found.values())


def kimg_of(name: str, own: dict[str, Any]) -> float | None:
    """Thousands of pictures that a snapshot's counter had reached: as it says itself, else from its
    file name.
    """
    seen = own.get('cur_nimg')
    if isinstance(seen, (int, float)) and 0 <= seen < MAX_NIMG:
        return seen / 1000
    match = re.fullmatch(r'network-snapshot-([0-9]{1,12}(?:\.[0-9]{3})?)\.\w+', name)
    return float(match[1]) if match else None


def is_descendant(networks: Networks, other: Networks) -> bool:
    """Whether a snapshot is known to be made from another one, or is the same file."""
    return other.meta.get('sha256') in {row['sha256'] for row in ancestry(networks)}


def _remembered(networks: Networks) -> list[dict[str, Any]]:
    toonify = networks.meta.get('toonify')
    rows = toonify.get('parents') if isinstance(toonify, dict) else None
    return (
        [row for row in rows if isinstance(row, dict) and isinstance(row.get('sha256'), str)]
        if isinstance(rows, list)
        else []
    )


def describe_networks(networks: Networks) -> dict[str, str]:
    """One line of text for everything that a snapshot holds, by name."""
    lines = {}
    for name in ('G_ema', 'G', 'D', 'augment_pipe'):
        module = getattr(networks, name)
        if isinstance(module, (Generator, Discriminator)):
            count = sum(tensor.numel() for _, tensor in named_tensors(module))
            lines[name] = (
                f'{module.img_resolution}×{module.img_resolution}, '
                f'{module.img_channels} channels, {module.c_dim} classes, '
                f'{count:,} numbers'
            )
        elif isinstance(module, AugmentPipe):
            lines[name] = f'p = {float(module.p):.3f}'
    plain = {
        key: value
        for key, value in networks.meta.items()
        if key not in ('path', 'sha256') and value
    }
    lines.update({key: printable(value, 160) for key, value in plain.items()})
    return lines


def compare_networks(before: Networks, after: Networks) -> dict[str, str]:
    """One line of text for everything that a snapshot holds: whether it is in another one as well,
    down to single settings.
    """
    lines = {}
    for name in ('G_ema', 'G', 'D', 'augment_pipe'):
        ours, theirs = getattr(before, name), getattr(after, name)
        if ours is None and theirs is not None:
            lines[name] = 'added: this format insists on it'
        elif ours is not None and theirs is None:
            lines[name] = 'not carried: this format has no place for it'
        elif ours is not None:
            differences = _differences(ours, theirs)
            lines[name] = f'carried{", but: " + ", ".join(differences) if differences else ""}'
    for key, value in before.meta.items():
        if key not in ('path', 'sha256') and value:
            lines[key] = (
                'carried'
                if after.meta.get(key) == _without_folders(value)
                else 'not carried: this format has no place for it'
            )
    return lines


def settings_of(module: torch.nn.Module) -> dict[tuple[str, str], int | float | str | None]:
    """The plain settings of all parts of a network, such as activations and gains, by the part's
    dotted name and the setting's.
    """
    return {
        (name, key): value
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, (int, float, str, type(None))) and not key.startswith('_')
    }


def _differences(ours: torch.nn.Module, theirs: torch.nn.Module) -> list[str]:
    """Tensors that differ, and plain settings of modules that do, those of one name together."""
    tensors = dict(named_tensors(theirs))
    found = [
        name
        for name, tensor in named_tensors(ours)
        if name not in tensors or not torch.equal(tensor, tensors[name])
    ]
    settings: dict[tuple[str, str, str], int] = {}
    others = settings_of(theirs)
    for (name, key), value in settings_of(ours).items():
        other = others.get((name, key))
        if value != other and key != 'num_fp16_res':
            row = (key, str(value), str(other))
            settings[row] = settings.get(row, 0) + 1
    return found + [
        f'{key} {value} → {other}' + (f' in {count} layers' if count > 1 else '')
        for (key, value, other), count in settings.items()
    ]
