"""Helpers for modules and tensors."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import torch

from dnnlib import UserError


def select_device(name: str) -> torch.device:
    """What `--device` means.

    Args:
        name: `auto`, `cuda` or `cpu`.

    Raises:
        UserError: `cuda` without a GPU that PyTorch can use.
    """
    available = torch.cuda.is_available()
    if name == 'cuda' and not available:
        why = 'this PyTorch is built without CUDA' if torch.version.cuda is None else 'PyTorch finds no CUDA GPU here'
        raise UserError(f'--device=cuda: {why}; use --device=cpu or --device=auto')
    return torch.device('cuda' if available and name in ('auto', 'cuda') else 'cpu')


def save_plain(content: Any, file: Any) -> None:
    """`torch.save` of tensors and plain data, with an error that says what is wrong when a disk is full.

    Args:
        file: a path, or a binary file open for writing.

    Raises:
        OSError: it can't be written. PyTorch's own error is a RuntimeError about positions in a container.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise OSError(errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}? It could not be written to its end') from error


def named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, then buffers, with their dotted names. Frozen weights are buffers in this family of networks."""
    yield from module.named_parameters()
    yield from module.named_buffers()
