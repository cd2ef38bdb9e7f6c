"""Multiply and add in one pass."""

import torch


def fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """`a * b + c` with broadcasting, twice differentiable.

    Args:
        a, b, c: one float dtype, shapes that broadcast together.
    """
    return torch.addcmul(c, a, b)
