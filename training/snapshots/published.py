"""Snapshots on the network: published ones by their names, URLs, and their cached downloads."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dnnlib import UserError, printable
from dnnlib.download import fetch, is_url
from torch_utils.torch_file import is_torch_file

from . import safetensors, unpickling
from .shipped import shipped_networks

log = logging.getLogger(__name__)

MAX_FILE_SIZE = 4 << 30  # bytes; a 1024 px snapshot has under 400 MB
NO_SNAPSHOT = 'no snapshot: neither a pickle (.pkl) nor a PyTorch file (.pt) nor .safetensors'


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


def local_copy(source: str | os.PathLike[str]) -> Path:
    """Return the file that a known name, a URL or a path means; downloads are cached.

    A file of that name comes first, and then a network that comes with the project.
    """
    text = str(source)
    if not is_elsewhere(text):
        shipped = shipped_networks().get(text)
        if shipped is None:
            return Path(text)
        if not Path(text).exists():
            return shipped
        log.warning('%s: the file of this name is used, not the network of the project', text)
        return Path(text)
    url = NAMED_SOURCES[text].url if text in NAMED_SOURCES else text
    return fetch(url, check=_problem_of_start, max_size=MAX_FILE_SIZE)


def names_a_network(text: str) -> bool:
    """Whether a text is a URL or the name of a network, rather than a path."""
    is_shipped = text in shipped_networks() and not Path(text).exists()
    return is_shipped or is_elsewhere(text)


def is_elsewhere(text: str) -> bool:
    """Return whether a text means a snapshot on the network.

    It does if it is a URL, or a name of `NAMED_SOURCES` that no file bears.

    Raises:
        UserError: it looks like an address, but not like one of http or https.
    """
    # as a path it would lose slashes
    if re.match(r'[A-Za-z][A-Za-z0-9+.-]+:/', text) and not is_url(text):
        raise UserError(
            f'{printable(text)}: not an http(s) address, which begins with https:// or http://'
        )
    return is_url(text) or (text in NAMED_SOURCES and not Path(text).exists())


def _problem_of_start(head: bytes) -> str:
    """Return what is wrong if the first bytes of a download are no snapshot's; else empty."""
    known = (
        is_torch_file(head)
        or safetensors.starts_as_safetensors(head)
        or unpickling.starts_as_pickle(head)
    )
    return '' if known else NO_SNAPSHOT
