"""From photographs to toons: load the networks, find the photographs' ws, draw and write."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dnnlib import UserError, cli, make_output_folder
from torch_utils.image_io import save_picture
from training.networks import Generator
from training.snapshots import load_networks

from .blending import BlendPlan, blend_generators, lineage_warning
from .latents import save_ws
from .noise import Noise
from .projection import Settings, project, render_projection
from .projection_losses import Embed
from .sampling import truncate

ENDINGS = ('.png', '-steps.png', '.npz')  # of the files of a photograph


@dataclass(frozen=True)
class Portrait:
    """A photograph, projected into a network.

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


@dataclass(frozen=True)
class ToonNetworks:
    """The generators of a toon.

    Attributes:
        base: draws photographs; None where none was named.
        toon: draws toons.
        info: facts for the files.
        warning: what is suspicious about them, or None.
    """

    base: Generator | None
    toon: Generator
    info: dict[str, Any]
    warning: str | None


@dataclass(frozen=True)
class ToonOptions:
    """The options of `toonify.py` that name networks; None for those that were not given."""

    network: str | None
    toon: str | None
    swap_resolution: int | None
    structure: Literal['network', 'toon'] | None
    blend_width: float | None
    blended: str | None

    def check(self, photos: Sequence[Path], projected_w: Path | None) -> None:
        """Refuse options that are missing or contradict each other, before anything is read.

        Raises:
            UserError: there are such options.
        """
        if bool(photos) == (projected_w is not None):
            raise UserError(
                'photographs are missing: name files or folders (or give --projected-w)'
                if not photos
                else f'--projected-w={projected_w} takes the place of photographs; leave '
                f'one of the two out'
            )
        if self.blended is None:
            for name in ('network', 'toon', 'swap_resolution'):
                if getattr(self, name) is None:
                    raise UserError(
                        f'--{name.replace("_", "-")} is missing: toonify blends '
                        f'--network and --toon at --swap-resolution '
                        '(or give --blended)'
                    )
            return
        for name in ('toon', 'swap_resolution', 'structure', 'blend_width'):
            if getattr(self, name) is not None:
                raise UserError(
                    f'--{name.replace("_", "-")}={getattr(self, name)} contradicts '
                    f'--blended, which is blended already'
                )
        if self.network is None and projected_w is None:
            raise UserError(
                '--network is missing: the network that draws photographs, in which they are '
                'looked for'
            )

    def load(self, *, trust_pickle: bool) -> ToonNetworks:
        """Read the networks, and blend them unless they are blended.

        Raises:
            UserError: a file can't be read, or the networks don't fit each other.
        """
        base = None
        if self.network is not None:
            base = load_networks(self.network, trust_pickle=trust_pickle)
        if self.blended is not None:
            G = None if base is None else base.G_ema
            return self._load_blended(G, trust_pickle=trust_pickle)
        assert base is not None and self.toon is not None
        tuned = load_networks(self.toon, trust_pickle=trust_pickle)
        plan = BlendPlan(
            swap_resolution=self.swap_resolution,
            blend_width=self.blend_width,
            mapping=1.0 if self.structure == 'toon' else 0.0,
        )
        # the mapping is always that of the network with the ws
        low, high = (tuned, base) if self.structure == 'toon' else (base, tuned)
        info = {
            'low_sha256': low.meta['sha256'],
            'high_sha256': high.meta['sha256'],
            **plan.record(base.G_ema.synthesis.block_resolutions),
        }
        toon = blend_generators(low.G_ema, high.G_ema, plan)
        return ToonNetworks(base.G_ema, toon, info, lineage_warning(low, high, plan))

    def _load_blended(self, base: Generator | None, *, trust_pickle: bool) -> ToonNetworks:
        assert self.blended is not None
        networks = load_networks(self.blended, trust_pickle=trust_pickle)
        G = networks.G_ema
        if base is not None and (base.num_ws, base.w_dim) != (G.num_ws, G.w_dim):
            raise UserError(
                f'--blended={self.blended}: its ws are {[G.num_ws, G.w_dim]}, those of --network '
                f'{[base.num_ws, base.w_dim]}; it must be a blend of that network'
            )
        return ToonNetworks(base, G, {'blended_sha256': networks.meta['sha256']}, None)


def saved_portraits(name: str, ws: torch.Tensor, noises: Sequence[Noise]) -> Iterator[Portrait]:
    """Make portraits of ws that were found earlier: float32 `[N, num_ws, w_dim]`, and N noises."""
    for i, noise in enumerate(noises):
        yield Portrait(name if len(ws) == 1 else f'{name}-{i:04d}', ws[i], noise)


def project_portraits(
    G: Generator,
    pictures: Mapping[str, np.ndarray],
    label: torch.Tensor,
    embed: Embed,
    settings: Settings,
    batch: int,
) -> Iterator[Portrait]:
    """Project photographs into a network, `batch` at a time.

    Args:
        pictures: uint8 `[H, W, C]` by name, of the network's size.
        label: float32 `[1, c_dim]`.
    """
    names = list(pictures)
    for start in range(0, len(names), batch):
        chosen = names[start : start + batch]
        targets = torch.from_numpy(np.stack([pictures[name] for name in chosen])).permute(
            0, 3, 1, 2
        )
        title = f'Projecting {start + len(chosen)} of {len(names)}'
        with contextlib.closing(
            cli.progress(list[int](), total=settings.num_steps, desc=title, unit='step')
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


def write_toons(
    portraits: Iterable[Portrait],
    networks: ToonNetworks,
    outdir: Path,
    *,
    trunc: float,
    save_found: bool,
) -> str:
    """Draw toons and write each one's NAME.png, NAME-steps.png and NAME.npz.

    Args:
        portraits: of which `networks` draws.
        trunc: truncation psi of the toon.
        save_found: write NAME.npz; not where the ws come from such a file.

    Returns:
        One line that says what was written.

    Raises:
        UserError: a file can't be written.
    """
    make_output_folder(outdir)
    count = 0
    for portrait in portraits:
        # first: it takes longest, and whatever fails later can be done again from it
        if save_found:
            save_ws(outdir / f'{portrait.name}.npz', [portrait.ws], [portrait.noise])
        toon, steps = picture_of_steps(portrait, networks.base, networks.toon, trunc)
        info = {**networks.info, 'photo': portrait.name, 'trunc': trunc}
        save_picture(outdir / f'{portrait.name}.png', toon, info)
        save_picture(outdir / f'{portrait.name}-steps.png', steps)
        count += 1
    size = networks.toon.img_resolution
    return f'{count} {"toon" if count == 1 else "toons"} of {size}×{size} in {outdir}'


def picture_of_steps(
    portrait: Portrait, G: Generator | None, G_toon: Generator, trunc: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the toon, and the steps from the photograph to it.

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
