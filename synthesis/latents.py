"""ws in .npz files, and the noise beside them: `read_ws`, `save_ws`."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dnnlib import UserError, atomic_path
from dnnlib.reading import read_npz
from training.networks import Generator

from .noise import PREFIX, Noise, noise_arrays, read_noise

MAX_UNPACKED = 4 << 30  # bytes of an .npz


def read_ws(path: str | os.PathLike[str], G: Generator) -> tuple[torch.Tensor, list[Noise]]:
    """Read ws, as projection and `save_ws` write them, and the noise that belongs to them.

    Args:
        path: an .npz with an array `w`, float `[N, num_ws, w_dim]`, and maybe `noise.<layer>` (see
            `read_noise`); others are skipped.

    Returns:
        float32 `[N, num_ws, w_dim]` on the CPU, and N noises, which may be empty.

    Raises:
        UserError: no such file, no .npz, no `w`, another shape than this network's, or a NaN.
    """
    arrays = read_npz(path, _is_read, ('w',), max_bytes=MAX_UNPACKED)
    w = arrays['w']
    if w.dtype.kind != 'f' or w.ndim != 3 or len(w) == 0 or w.shape[1:] != (G.num_ws, G.w_dim):
        raise UserError(
            f'{path}: w is {w.dtype} {list(w.shape)}; this network needs floats [N, '
            f'{G.num_ws}, {G.w_dim}]'
        )
    with np.errstate(over='ignore'):
        w = w.astype(np.float32)
    if not np.isfinite(w).all():
        raise UserError(f'{path}: w has numbers that are not finite')
    return torch.from_numpy(w), read_noise(arrays, G, len(w), str(path))


def _is_read(name: str) -> bool:
    return name == 'w' or name.startswith(PREFIX)


def save_ws(
    path: str | os.PathLike[str],
    ws: Sequence[torch.Tensor],
    noises: Sequence[Noise],
    **more: np.ndarray,
) -> None:
    """Write ws so that `read_ws` and NVIDIA's `--projected-w` read them.

    Args:
        path: ends in .npz.
        ws: float32 `[num_ws, w_dim]` each.
        noises: as many, all with the same layers or all empty.
        more: further arrays.

    Raises:
        UserError: it can't be written.
    """
    arrays: dict[str, Any] = {'w': torch.stack(list(ws)).numpy(), **noise_arrays(noises), **more}
    with atomic_path(path) as temp:
        np.savez(temp, **arrays)
