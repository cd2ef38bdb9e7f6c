"""Scenes: the latents of pictures, mixtures, interpolations, sweeps and SeFa's strips, in order."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from dnnlib import UserError
from training.networks import Generator

from ..interpolation import Circle, circle, positions, slerp
from ..latents import read_ws
from ..noise import Noise, blend_noise, random_noise, stored_noise, turn_noise
from ..sampling import (
    Latent,
    class_labels,
    latents_from_seeds,
    latents_of_seed,
    map_latents,
    map_seeds,
    truncate,
)
from ..sefa import factorize
from .request import Request

# ws from the column of a mix, as in NVIDIA's script; of small networks half of them
USUAL_STYLES = 7
# pictures in a row of a strip; odd, so that the one in the middle is the untouched one
SEFA_STEPS = 7

Tile = Callable[[int, int, float], Latent]  # of a sweep: how it looks at a place of `positions`


@dataclass(frozen=True)
class Scene:
    """Latents to draw, in this order.

    Attributes:
        total: how many there are.
        tiles: n consecutive ones make one file or frame.
        columns: of these tiles.
        labels: of the rows of tiles; none for a file without labels.
        headings: of the columns.
    """

    latents: Iterable[Latent]
    total: int
    tiles: int = 1
    columns: int = 1
    labels: Sequence[str] = ()
    headings: Sequence[str] = ()


def make_scene(G: Generator, request: Request) -> Scene:
    """Make the scene that a request asks for. Its ws are computed as they are drawn.

    Raises:
        UserError: the request asks for a class, a layer or a file that doesn't fit the network.
    """
    makers = {
        'pictures': _pictures,
        'style_mix': _style_mix,
        'interpolate': _interpolate,
        'sweep': _sweep,
        'sefa': _sefa,
    }
    scene = makers[request.mode](G, request)
    return _loop_noise(G, scene, request) if request.noise_mode == 'loop' else scene


def _loop_noise(G: Generator, scene: Scene, request: Request) -> Scene:
    """The same video, whose noise goes once round a circle, from each tile's own back to it."""
    stored = stored_noise(G)
    if not stored:
        raise UserError('--noise-mode=loop: this network has no noise inputs')

    def latents() -> Iterator[Latent]:
        others: dict[int, Noise] = {}
        for i, latent in enumerate(scene.latents):
            frame, tile = divmod(i, scene.tiles)
            if tile not in others:
                others[tile] = random_noise(G, latent.key[:-1])
            noise = turn_noise({**stored, **latent.noise}, others[tile], frame / request.frames)
            yield replace(latent, noise=noise)

    return replace(scene, latents=latents())


def _starts(G: Generator, request: Request, psi: float) -> tuple[Iterator[Latent], int]:
    """The latents of the seeds or of the files, and how many."""
    if request.projected_w:
        saved = _saved(G, request.projected_w)
        return (replace(latent, w=truncate(G, latent.w, psi)) for latent in saved), len(saved)
    seeds, label = request.seeds, class_labels(G, request.class_idx, 1)

    def from_seeds() -> Iterator[Latent]:
        for start in range(0, len(seeds), request.batch):
            chosen = seeds[start : start + request.batch]
            for seed, w in zip(chosen, truncate(G, map_seeds(G, chosen, label), psi)):
                yield Latent(f'seed{seed:04d}', w, (seed,), info={'seed': seed})

    return from_seeds(), len(seeds)


def _saved(G: Generator, paths: Sequence[Path]) -> list[Latent]:
    """The ws of files, one after the other. All have noise in the same layers, since they share
    batches.
    """
    latents: list[Latent] = []
    for path in paths:
        for i, (w, noise) in enumerate(zip(*read_ws(path, G))):
            number = len(latents)
            info = {'projected_w': path.name, 'index': i}
            latents.append(Latent(f'proj{number:02d}', w, (number,), noise, info))
    layers = {name for latent in latents for name in latent.noise}
    stored = {name: noise for name, noise in stored_noise(G).items() if name in layers}
    return [replace(latent, noise={**stored, **latent.noise}) for latent in latents]


def _pictures(G: Generator, request: Request) -> Scene:
    return Scene(*_starts(G, request, request.trunc))


def _layers(
    G: Generator, chosen: Sequence[int] | None, option: str, usual: Sequence[int]
) -> list[int]:
    if chosen is None:
        return list(usual)
    if chosen[-1] >= G.num_ws:
        raise UserError(
            f'{option}: there is no layer {chosen[-1]}; this network has the layers '
            f'0-{G.num_ws - 1}'
        )
    return list(chosen)


def _style_mix(G: Generator, request: Request) -> Scene:
    """The columns' pictures, then for each row its own and its crossings: what a grid shows whose
    first corner is empty.
    """
    styles = _layers(G, request.layers, '--styles', range(min(USUAL_STYLES, G.num_ws // 2)))
    label = class_labels(G, request.class_idx, 1)
    rows, columns = request.seeds, request.mix_columns
    row_ws, column_ws = (
        truncate(G, map_seeds(G, seeds, label), request.trunc) for seeds in (rows, columns)
    )

    def mix() -> Iterator[Latent]:
        for seed, w in zip(columns, column_ws):
            yield Latent(f'{seed}-{seed}', w, (seed,), info={'seed': seed})
        for row, base in zip(rows, row_ws):
            yield Latent(f'{row}-{row}', base, (row,), info={'seed': row})
            for column, other in zip(columns, column_ws):
                w = base.clone()
                w[styles] = other[styles]
                yield Latent(
                    f'{row}-{column}',
                    w,
                    (row, column),
                    info={'seed': row, 'style_seed': column, 'styles': styles},
                )

    return Scene(mix(), len(columns) + len(rows) * (len(columns) + 1))


def _interpolate(G: Generator, request: Request) -> Scene:
    """From seed to seed, or through the ws of files."""
    if request.projected_w:
        return _interpolate_saved(G, request)
    label = class_labels(G, request.class_idx, 1)
    seeds = request.seeds
    z = latents_from_seeds(seeds, G.z_dim)
    ws = map_latents(G, z, label)

    def frames() -> Iterator[Latent]:
        for i, (a, b, t) in enumerate(
            positions(len(seeds), request.frames, request.easing, loop=request.loop)
        ):
            w = (
                map_latents(G, slerp(z[a], z[b], t)[None], label)[0]
                if request.space == 'z'
                else torch.lerp(ws[a], ws[b], t)
            )
            yield Latent(f'frame{i:05d}', truncate(G, w, request.trunc), (seeds[0], i))

    return Scene(frames(), request.frames)


def _interpolate_saved(G: Generator, request: Request) -> Scene:
    saved = _saved(G, request.projected_w)
    if len(saved) < 2:
        raise UserError(
            f'--projected-w={request.projected_w[0]}: one w is no path; name more files, or one '
            f'with several'
        )

    def frames() -> Iterator[Latent]:
        places = positions(len(saved), request.frames, request.easing, loop=request.loop)
        for i, (a, b, t) in enumerate(places):
            w = truncate(G, torch.lerp(saved[a].w, saved[b].w, t), request.trunc)
            noise = blend_noise(saved[a].noise, saved[b].noise, t)
            yield Latent(f'frame{i:05d}', w, (0, i), noise)

    return Scene(frames(), request.frames)


def _sweep(G: Generator, request: Request) -> Scene:
    """The same seeds, or ws of a file, side by side, while something else changes."""
    makers = {
        'trunc': _sweep_trunc,
        'noise': _sweep_noise,
        'class': _sweep_class,
        'circle': _sweep_circle,
    }
    assert request.sweep is not None
    stops, tiles = makers[request.sweep](G, request)
    loop = request.loop or request.sweep in ('noise', 'circle')

    def frames() -> Iterator[Latent]:
        for i, place in enumerate(positions(stops, request.frames, request.easing, loop=loop)):
            for tile in tiles:
                latent = tile(*place)
                yield replace(latent, key=(*latent.key, i))

    return Scene(
        frames(), request.frames * len(tiles), len(tiles), math.ceil(math.sqrt(len(tiles)))
    )


def _sweep_trunc(G: Generator, request: Request) -> tuple[int, list[Tile]]:
    def tile(start: Latent, a: int, b: int, t: float) -> Latent:
        psi = request.stops[a] + (request.stops[b] - request.stops[a]) * t
        return replace(start, w=truncate(G, start.w, psi))

    return len(request.stops), [partial(tile, start) for start in _starts(G, request, 1.0)[0]]


def _sweep_noise(G: Generator, request: Request) -> tuple[int, list[Tile]]:
    """Half a turn from stop to stop: through noise of the seed, and back through its opposite."""
    stored = stored_noise(G)
    if not stored:
        raise UserError('--sweep=noise: this network has no noise inputs')

    def tile(start: Latent, own: Noise, other: Noise, a: int, b: int, t: float) -> Latent:
        return replace(start, noise=turn_noise(own, other, (a + t) / 2))

    starts = _starts(G, request, request.trunc)[0]
    return 2, [
        partial(tile, start, {**stored, **start.noise}, random_noise(G, start.key))
        for start in starts
    ]


def _sweep_class(G: Generator, request: Request) -> tuple[int, list[Tile]]:
    classes = [int(stop) for stop in request.stops] or list(range(G.c_dim))
    if len(classes) < 2 or not 0 <= min(classes) <= max(classes) < G.c_dim:
        has = 'knows no classes' if G.c_dim == 0 else f'has the classes 0…{G.c_dim - 1}'
        chosen = ','.join(str(int(stop)) for stop in request.stops)
        raise UserError(f'--sweep=class{"=" if chosen else ""}{chosen}: this network {has}')
    ws = torch.stack(
        [
            truncate(G, map_seeds(G, request.seeds, class_labels(G, i, 1)), request.trunc)
            for i in classes
        ],
        dim=1,
    )

    def tile(seed: int, ws: torch.Tensor, a: int, b: int, t: float) -> Latent:
        return Latent(f'seed{seed:04d}', torch.lerp(ws[a], ws[b], t), (seed,))

    return len(classes), [partial(tile, seed, w) for seed, w in zip(request.seeds, ws)]


def _sweep_circle(G: Generator, request: Request) -> tuple[int, list[Tile]]:
    """Once round a circle in z that starts at the seed's latent, half a turn from stop to stop."""
    if G.z_dim < 3:
        raise UserError(
            f'--sweep=circle: z of this network has {G.z_dim} dimensions, a circle needs 3'
        )
    label = class_labels(G, request.class_idx, 1)

    def tile(seed: int, path: Circle, a: int, b: int, t: float) -> Latent:
        w = map_latents(G, path.at((a + t) / 2)[None], label)[0]
        return Latent(f'seed{seed:04d}', truncate(G, w, request.trunc), (seed,))

    return 2, [
        partial(tile, seed, circle(latents_of_seed(seed, 3, G.z_dim), request.radius))
        for seed in request.seeds
    ]


def _sefa(G: Generator, request: Request) -> Scene:
    """A strip for each direction: a row for each start, along which it is moved from −scale to
    scale.
    """
    assert request.sefa is not None
    layers = _layers(G, request.layers, '--sefa-layers', range(G.num_ws))
    if request.sefa > G.w_dim:
        raise UserError(f'--sefa={request.sefa}: this network has {G.w_dim} directions')
    directions, eigenvalues = factorize(G, layers)
    starts = list(_starts(G, request, request.trunc)[0])
    steps = torch.linspace(-request.sefa_scale, request.sefa_scale, SEFA_STEPS).tolist()
    steps[SEFA_STEPS // 2] = 0.0  # where float32 leaves something like 1e-7

    def strips() -> Iterator[Latent]:
        for i in range(request.sefa or 0):
            info = {
                'sefa_direction': i,
                'eigenvalue': float(eigenvalues[i]),
                'layers': layers,
                'steps': steps,
                'rows': [start.info for start in starts],
            }
            for start in starts:
                for step in steps:
                    w = start.w.clone()
                    w[layers] += (step * directions[i]).float()
                    yield replace(start, name=f'sefa{i:02d}', w=w, info=info)

    tiles = len(starts) * SEFA_STEPS
    labels = _different([_label(start) for start in starts])
    headings = [f'{step:+.2g}' if step else '0' for step in steps]
    return Scene(strips(), request.sefa * tiles, tiles, SEFA_STEPS, labels, headings)


def _label(latent: Latent) -> str:
    seed = latent.info.get('seed')
    if seed is not None:
        return f'seed {seed}'
    return f'{latent.info["projected_w"]} {latent.info["index"]}'


def _different(labels: Sequence[str]) -> list[str]:
    """Number the labels that came before."""
    counts: dict[str, int] = {}
    found = []
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
        found.append(label if counts[label] == 1 else f'{label} ({counts[label]})')
    return found
