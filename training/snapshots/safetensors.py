"""`.safetensors`: the tensors of G_ema, optionally G, D and augment_pipe, and everything else as
JSON in the header.

Nothing in such a file can be executed. Keys of the header's metadata: `format`, one per network
with its constructor arguments, `meta` (lineage and the like), `licence`.
"""

import json
import struct
from typing import Any

import torch

from dnnlib import UserError, printable
from dnnlib.reading import read_json
from torch_utils import persistence
from torch_utils.misc import named_tensors

from .. import augment, networks
from .validation import build, check_no_bomb, plain_data

FORMAT = 'stylegan2-toonify 1'
LICENCE = (
    "The weights' licence is that of what they were trained from; NVIDIA's snapshots and their "
    'descendants are non-commercial.'
)
CLASSES: dict[str, type[torch.nn.Module]] = {
    'G_ema': networks.Generator,
    'G': networks.Generator,
    'D': networks.Discriminator,
    'augment_pipe': augment.AugmentPipe,
}
MAX_HEADER = 1 << 20  # bytes; that of three networks for 1024 px has 100,000


def is_safetensors(data: bytes) -> bool:
    """Return whether a file starts with the length of a JSON object, and that object."""
    return starts_as_safetensors(data) and struct.unpack('<Q', data[:8])[0] < len(data)


def starts_as_safetensors(head: bytes) -> bool:
    """`is_safetensors` for the first bytes of a file of unknown size."""
    return len(head) > 9 and struct.unpack('<Q', head[:8])[0] <= MAX_HEADER and head[8:9] == b'{'


def read(data: bytes, name: str) -> dict[str, Any]:
    """Read a file. See `nvidia.read`.

    Raises:
        UserError: damaged, or not written by this project.
    """
    load = _library(name).load
    try:
        (length,) = struct.unpack('<Q', data[:8])
        if length > MAX_HEADER:
            raise ValueError(f'a header of {length / 1e6:.1f} MB')
        tensors = load(data)  # which is quick to find what is wrong with a header
        metadata = (
            read_json(data[8 : 8 + length], name, max_bytes=MAX_HEADER).get('__metadata__') or {}
        )
        if metadata.get('format') != FORMAT:
            written = printable(repr(metadata.get('format')))
            raise UserError(
                f'{name}: a safetensors file, but not one of this project (format {written})'
            )
        if 'G' not in metadata and 'G_ema' not in metadata:
            raise UserError(f'{name}: a safetensors file without G and G_ema')
        check_no_bomb(tensors.values())
        content: dict[str, Any] = dict.fromkeys(CLASSES)
        for key, cls in CLASSES.items():
            if key in metadata:
                own = {
                    tensor_name[len(key) + 1 :]: tensor
                    for tensor_name, tensor in tensors.items()
                    if tensor_name.startswith(f'{key}.')
                }
                content[key] = build(
                    cls, read_json(metadata[key].encode(), name), own, f'{name}: {key}'
                )
        return {**plain_data(read_json(metadata.get('meta', '{}').encode(), name)), **content}
    except UserError:
        raise
    except Exception as error:  # whatever the reason, it is the file's
        raise UserError(
            f'{name}: a damaged safetensors file ({printable(error) or type(error).__name__})'
        ) from error


def write(file: Any, content: dict[str, Any]) -> None:
    """Write networks (None is left out) and plain data."""
    save = _library('writing').save
    tensors, metadata = {}, {'format': FORMAT, 'licence': LICENCE}
    for key in CLASSES:
        module = content.get(key)
        if module is None:
            continue
        metadata[key] = json.dumps(persistence.constructor_kwargs(module))
        tensors.update(
            {
                f'{key}.{name}': tensor.detach().cpu().contiguous().clone()
                for name, tensor in named_tensors(module)
            }
        )
    metadata['meta'] = json.dumps(
        {key: value for key, value in content.items() if key not in CLASSES}
    )
    file.write(save(tensors, metadata=metadata))


def _library(name: str) -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UserError(
            f'{name}: .safetensors files need the package safetensors: pip install safetensors'
        ) from error
    return safetensors.torch
