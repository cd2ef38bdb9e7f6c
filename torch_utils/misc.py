"""Helpers for modules and tensors."""

from collections.abc import Iterator

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


def named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, then buffers, with their dotted names. Frozen weights are buffers in this family of networks."""
    yield from module.named_parameters()
    yield from module.named_buffers()
