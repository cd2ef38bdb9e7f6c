"""Helpers for modules and tensors."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch

from dnnlib import UserError

MAX_WEIGHTS = 1 << 30  # bytes of a detector's file; VGG-16 has 553 million


def select_device(name: str) -> torch.device:
    """Return the device that `--device` means.

    Args:
        name: `auto` (`cuda` where there is one, else `cpu`), `cuda`, `mps` or `cpu`.

    Raises:
        UserError: `cuda` or `mps` without a GPU that PyTorch can use.
    """
    if name == 'mps':
        if not torch.backends.mps.is_available():
            raise UserError(
                '--device=mps: PyTorch finds no Apple GPU here; use --device=cpu or --device=auto'
            )
        return torch.device('mps')
    available = torch.cuda.is_available()
    if name == 'cuda' and not available:
        why = (
            'this PyTorch is built without CUDA'
            if torch.version.cuda is None
            else 'PyTorch finds no CUDA GPU here'
        )
        raise UserError(f'--device=cuda: {why}; use --device=cpu or --device=auto')
    return torch.device('cuda' if available and name in ('auto', 'cuda') else 'cpu')


def set_float32_precision(
    convolutions: Literal['ieee', 'tf32'], matmul: Literal['ieee', 'tf32']
) -> None:
    """Choose how a GPU computes in float32. The only place that sets `torch.backends`.

    Args:
        convolutions: `tf32` rounds the factors to 10 bits, on tensor cores; `ieee` doesn't.
        matmul: the same for products of matrices.
    """
    torch.backends.cudnn.conv.fp32_precision = convolutions  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = matmul


@contextlib.contextmanager
def float32_precision(
    convolutions: Literal['ieee', 'tf32'], matmul: Literal['ieee', 'tf32']
) -> Iterator[None]:
    """Apply `set_float32_precision` within the block."""
    switches: list[Any] = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    try:
        set_float32_precision(convolutions, matmul)
        yield
    finally:
        for switch, value in zip(switches, before):
            switch.fp32_precision = value


def in_float64(x: torch.Tensor) -> torch.Tensor:
    """Return the tensor in float64, on its device.

    One of an Apple GPU, which has no float64, moves to the CPU.
    """
    return (x.cpu() if x.device.type == 'mps' else x).double()


def problem_of_weights(head: bytes) -> str:
    """Return what is wrong if a download does not begin as a PyTorch file; else empty."""
    return '' if head[:4] == b'PK\3\4' or head[:1] == b'\x80' else 'not a PyTorch file'


def save_plain(content: Any, file: Any) -> None:
    """Save tensors and plain data by `torch.save`, with a clear error when the disk is full.

    Args:
        file: a path, or a binary file open for writing.

    Raises:
        OSError: it can't be written. PyTorch's own error is a RuntimeError about positions in a
            container.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise OSError(
            errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}? It could not be written to its end'
        ) from error


def named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters, then buffers, with their dotted names.

    Frozen weights are buffers in this family of networks.
    """
    yield from module.named_parameters()
    yield from module.named_buffers()
