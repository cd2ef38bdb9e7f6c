"""ws: from seeds and from files, truncated, saved."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dnnlib import UserError, atomic_path
from dnnlib.reading import read_npz

from .noise import PREFIX, Noise, noise_arrays, read_noise
from .sampling import latents_from_seeds

MAX_UNPACKED = 4 << 30  # bytes of an .npz


@torch.no_grad()
def map_seeds(G: Any, seeds: Sequence[int], label: torch.Tensor) -> torch.Tensor:
    """ws of seeds, not truncated.

    Args:
        label: float32 `[1, c_dim]`, for all.

    Returns:
        float32 `[len(seeds), num_ws, w_dim]` on the CPU.
    """
    return map_latents(G, latents_from_seeds(seeds, G.z_dim), label)


@torch.no_grad()
def map_latents(G: Any, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """As `map_seeds`, for z: float32 `[N, z_dim]`."""
    device = next(G.parameters()).device
    return G.mapping(z.to(device), label.to(device).expand(len(z), -1)).cpu()


def truncate(G: Any, ws: torch.Tensor, psi: float) -> torch.Tensor:
    """Move ws towards the network's mean w (the truncation trick, Karras et al. 2019, appendix B).

    Args:
        ws: float32 `[..., w_dim]` on the CPU.
        psi: 1 leaves it alone, 0 gives the mean, below 0 lies the opposite.
    """
    return ws if psi == 1 else G.mapping.w_avg.cpu().lerp(ws, psi)


def read_ws(path: str | os.PathLike[str], G: Any) -> tuple[torch.Tensor, list[Noise]]:
    """Read ws, as projection and `save_ws` write them, and the noise that belongs to them.

    Args:
        path: an .npz with an array `w`, float `[N, num_ws, w_dim]`, and maybe `noise.<layer>` (see
            `read_noise`); others are passed over.

    Returns:
        float32 `[N, num_ws, w_dim]` on the CPU, and N noises, which may be empty.

    Raises:
        UserError: no such file, no .npz, no `w`, another shape than this network's, or a NaN.
    """
    arrays = read_npz(
        path, lambda name: name == 'w' or name.startswith(PREFIX), ('w',), max_bytes=MAX_UNPACKED
    )
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
