"""From photographs to toons: which network draws them, and from which ws."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from training.networks import Generator
from training.snapshots import load_networks

from .blending import BlendPlan, blend_generators, lineage_warning
from .latents import truncate
from .noise import Noise
from .projection import Settings, project, render_projection
from .projection_losses import Embed


@dataclass(frozen=True)
class Portrait:
    """A photograph, as far as a network knows it.

    Attributes:
        name: of its files.
        ws: float32 `[num_ws, w_dim]` on the CPU.
        noise: its own, or empty for the network's.
        photo: uint8 `[H, W, C]`, or None where only ws are left of it.
    """

    name: str
    ws: torch.Tensor
    noise: Noise
    photo: np.ndarray | None = None


def toon_network(
    network: str | None,
    toon: str | None,
    swap_resolution: int | None,
    structure: str | None,
    blend_width: float | None,
    blended: str | None,
    trust_pickle: bool,
) -> tuple[Generator | None, Generator, dict[str, Any], str | None]:
    """The generators that the options of `toonify.py` name.

    Returns:
        The network of photographs (None where none is named), the network of toons, facts for the
        files, and a warning or None.

    Raises:
        UserError: a file can't be read, or the networks don't fit each other.
    """
    base = None if network is None else load_networks(network, trust_pickle=trust_pickle)
    if blended is not None:
        networks = load_networks(blended, trust_pickle=trust_pickle)
        G, info = networks.G_ema, {'blended_sha256': networks.meta['sha256']}
        if base is not None and (base.G_ema.num_ws, base.G_ema.w_dim) != (G.num_ws, G.w_dim):
            raise UserError(
                f'--blended={blended}: its ws are {[G.num_ws, G.w_dim]}, those of '
                f'--network '
                f'{[base.G_ema.num_ws, base.G_ema.w_dim]}; it must be a blend of that '
                f'network'
            )
        return None if base is None else base.G_ema, G, info, None
    assert base is not None and toon is not None
    tuned = load_networks(toon, trust_pickle=trust_pickle)
    plan = BlendPlan(
        swap_resolution=swap_resolution,
        blend_width=blend_width,
        mapping=1.0 if structure == 'toon' else 0.0,
    )
    # the mapping is always that of the network with the ws
    low, high = (tuned, base) if structure == 'toon' else (base, tuned)
    info = {
        'low_sha256': low.meta['sha256'],
        'high_sha256': high.meta['sha256'],
        **plan.record(base.G_ema.synthesis.block_resolutions),
    }
    return (
        base.G_ema,
        blend_generators(low.G_ema, high.G_ema, plan),
        info,
        lineage_warning(low, high, plan),
    )


def saved_portraits(name: str, ws: torch.Tensor, noises: Sequence[Noise]) -> Iterator[Portrait]:
    """Of ws that were found earlier: float32 `[N, num_ws, w_dim]`, and as many noises."""
    for i, noise in enumerate(noises):
        yield Portrait(name if len(ws) == 1 else f'{name}-{i:04d}', ws[i], noise)


def project_portraits(
    G: Generator,
    pictures: Mapping[str, np.ndarray],
    label: torch.Tensor,
    embed: Embed,
    settings: Settings,
    batch: int,
    progress: Callable[..., Any],
) -> Iterator[Portrait]:
    """Look for photographs in a network, some at a time.

    Args:
        pictures: uint8 `[H, W, C]` by name, of the network's size.
        label: float32 `[1, c_dim]`.
        progress: `dnnlib.cli.progress`.
    """
    names = list(pictures)
    for start in range(0, len(names), batch):
        chosen = names[start : start + batch]
        targets = torch.from_numpy(np.stack([pictures[name] for name in chosen])).permute(
            0, 3, 1, 2
        )
        title = f'Projecting {start + len(chosen)} of {len(names)}'
        with contextlib.closing(
            progress([], total=settings.num_steps, desc=title, unit='step')
        ) as bar:
            for state in project(G, targets, embed, settings, label):
                bar.update(state.step - bar.n)
        for i, name in enumerate(chosen):
            yield Portrait(
                name,
                state.ws[i].cpu(),
                {layer: noise.cpu() for layer, noise in state.noises[i].items()},
                pictures[name],
            )


def picture_of_steps(
    portrait: Portrait, G: Generator | None, G_toon: Generator, trunc: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the toon.

    Args:
        G: the network of photographs; None if it isn't known.
        trunc: truncation psi of the toon.

    Returns:
        The toon, uint8 `[H, W, C]`, and side by side what there is of photograph, projection and
        toon, uint8 `[H, n·W, C]`.
    """

    def draw(network: Generator, ws: torch.Tensor) -> np.ndarray:
        return render_projection(network, ws, portrait.noise).permute(1, 2, 0).cpu().numpy()

    toon = draw(G_toon, truncate(G_toon, portrait.ws, trunc))
    steps = [] if portrait.photo is None else [portrait.photo]
    steps += [] if G is None else [draw(G, portrait.ws)]
    return toon, np.concatenate([*steps, toon], axis=1)
