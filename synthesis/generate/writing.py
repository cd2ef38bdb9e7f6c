"""Files of a scene: draw its latents, write pictures or a video."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib import cli, make_output_folder, require_outputs_beside_inputs
from torch_utils.image_io import LEGIBLE, enlarge, labelled_table, save_picture, tile
from training.snapshots import Networks

from ..latents import save_ws
from ..sampling import DrawnLatent, Latent, draw_latents
from ..video import DEFAULT_QUALITY, VideoWriter
from .request import Request
from .scenes import Scene, make_scene


def write_request(networks: Networks, request: Request, device: torch.device) -> str:
    """Draw what a request asks for and write its files.

    Args:
        networks: of which `G_ema` draws.
        device: where to draw.

    Returns:
        One line that says what was written.

    Raises:
        UserError: the request asks for what this network doesn't have, or a file can't be written.
    """
    G = networks.G_ema.to(device)
    scene = make_scene(G, request)
    if request.outdir is not None:
        make_output_folder(request.outdir)
    drawn = cli.progress(
        draw_latents(G, scene.latents, request.noise_mode, request.batch),
        total=scene.total,
        desc='Drawing',
        unit='img',
    )
    if request.video is not None:
        width, height = save_video(drawn, scene, request)
        seconds = request.frames / request.fps
        return f'{request.video}: {request.frames} frames of {width}×{height}, {seconds:.1f} s'
    info = {
        'network': Path(networks.meta['path']).name,
        'network_sha256': networks.meta['sha256'],
        'trunc': request.trunc,
        'class': request.class_idx,
        'noise_mode': request.noise_mode,
    }
    count = save_images(drawn, scene, request, info)
    plural = '' if count == 1 else 's'
    kind = (
        f'strip{plural} of {scene.tiles} pictures' if request.mode == 'sefa' else f'picture{plural}'
    )
    return f'{count} {kind} of {G.img_resolution}×{G.img_resolution} in {request.outdir}'


def groups(drawn: Iterable[DrawnLatent], size: int) -> Iterator[tuple[list[Latent], np.ndarray]]:
    """Group the latents by `size`, and their pixels: uint8 `[size, C, H, W]`."""
    drawn = iter(drawn)
    while chunk := list(islice(drawn, size)):
        yield [latent for latent, _ in chunk], np.stack([pixels for _, pixels in chunk])


def sheet_of(scene: Scene, pixels: np.ndarray) -> np.ndarray:
    """Put the tiles of a file into one picture, labelled where the scene is: uint8 `[H, W, C]`.

    Args:
        pixels: uint8 `[tiles, C, H, W]`.
    """
    if not scene.labels:
        return tile(pixels, scene.columns)
    rows = np.split(pixels, len(scene.labels))
    return labelled_table(dict(zip(scene.labels, rows)), scene.headings)


def save_images(
    drawn: Iterable[DrawnLatent], scene: Scene, request: Request, info: dict[str, Any]
) -> int:
    """Write a file for each group of tiles, its ws beside it if asked for, and the grid if asked
    for.

    Args:
        drawn: the scene's latents with their pictures.
        info: what to write into every file, with what each latent adds.

    Returns:
        How many files, not counting .npz.
    """
    assert request.outdir is not None
    mix = request.mode == 'style_mix'
    columns, rows = (
        (len(request.mix_columns) + 1, len(request.seeds) + 1) if mix else request.grid or (0, 0)
    )
    columns = min(columns, scene.total + mix)
    kept: list[np.ndarray] = []
    count = 0
    for latents, pixels in groups(drawn, scene.tiles):
        path = request.outdir / f'{latents[0].name}.{request.format}'
        require_outputs_beside_inputs([path.with_suffix('.npz')], request.projected_w)
        save_picture(path, sheet_of(scene, pixels), {**info, **latents[0].info}, request.quality)
        if request.save_w:
            save_ws(
                path.with_suffix('.npz'),
                [latent.w for latent in latents],
                [latent.noise for latent in latents],
            )
        count += 1
        if mix and not kept:
            kept.append(np.zeros_like(pixels[0]))  # the corner
        if len(kept) < columns * rows:
            kept.append(pixels[0])
    if kept:
        save_picture(
            request.outdir / f'grid.{request.format}',
            tile(np.stack(kept), columns),
            info,
            request.quality,
        )
    return count


def save_video(drawn: Iterable[DrawnLatent], scene: Scene, request: Request) -> tuple[int, int]:
    """Write a video with a frame for each group of tiles.

    Returns:
        Width and height of the frames in pixels.
    """
    assert request.video is not None
    at_least = LEGIBLE if request.mode == 'sweep' else 1
    groups_of_tiles = groups(drawn, scene.tiles)
    frames = (tile(enlarge(pixels, at_least), scene.columns) for _, pixels in groups_of_tiles)
    first = next(frames)
    height, width = first.shape[:2]
    with VideoWriter(
        request.video, (width, height), request.fps, request.quality or DEFAULT_QUALITY
    ) as video:
        video.add(first)
        for frame in frames:
            video.add(frame)
    return width, height
