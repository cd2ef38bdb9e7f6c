"""Distances between all members of two sets, in pieces that fit into memory."""

from collections.abc import Iterator

import torch

from torch_utils.misc import in_float64

_PIECE = 1 << 24  # numbers at a time: 128 MiB of float64
# squared distances below this part of the squared lengths are rounding, of the features or of the
# product
_EQUAL = 1e-12


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows of the matrix of squared Euclidean distances.

    Args:
        a: floating point `[N, D]`.
        b: floating point `[M, D]`, on the same device.

    Yields:
        Which rows, and float64 `[rows, M]`, on the CPU for Apple GPUs; exactly 0 for members that
        are equal but for rounding.
    """
    b = in_float64(b)
    centre = b.mean(dim=0)
    b = b - centre
    lengths = b.square().sum(dim=1)
    step = max(_PIECE // max(len(b), 1), 1)
    for start in range(0, len(a), step):
        rows = in_float64(a[start : start + step]) - centre
        scale = rows.square().sum(dim=1, keepdim=True) + lengths
        distances = torch.addmm(scale, rows, b.T, alpha=-2)
        yield (
            slice(start, start + len(rows)),
            distances.masked_fill_(distances <= scale * _EQUAL, 0),
        )


def squared_radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Squared distance of each member to its k-th nearest other member: floating point `[N, D]`, N
    > k, to float64 `[N]`.
    """
    # the nearest of all is itself
    return torch.cat([rows.kthvalue(k + 1).values for _, rows in squared_distances(x, x)])
