"""Drawn pictures into files."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from torch_utils.image_io import LEGIBLE, enlarge, labelled_table, save_picture, tile

from ..drawing import Picture
from ..latents import save_ws
from ..video import DEFAULT_QUALITY, VideoWriter
from .request import Request
from .scenes import Scene

Drawn = Iterable[tuple[Picture, np.ndarray]]


def groups(drawn: Drawn, size: int) -> Iterator[tuple[list[Picture], np.ndarray]]:
    """So many at a time: the pictures, and their pixels, uint8 `[size, C, H, W]`."""
    drawn = iter(drawn)
    while chunk := list(islice(drawn, size)):
        yield [picture for picture, _ in chunk], np.stack([pixels for _, pixels in chunk])


def sheet_of(scene: Scene, pixels: np.ndarray) -> np.ndarray:
    """The tiles of a file in one picture, labelled where the scene has labels: uint8 `[H, W, C]`.

    Args:
        pixels: uint8 `[tiles, C, H, W]`.
    """
    if not scene.labels:
        return tile(pixels, scene.columns)
    rows = np.split(pixels, len(scene.labels))
    return labelled_table(dict(zip(scene.labels, rows)), scene.headings)


def save_images(drawn: Drawn, scene: Scene, request: Request, info: dict[str, Any]) -> int:
    """A file for each group of tiles, its ws beside it if asked for, and the grid if there is to be
    one.

    Args:
        drawn: the scene's pictures.
        info: what to write into every file, with what each picture adds.

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
    for pictures, pixels in groups(drawn, scene.tiles):
        path = request.outdir / f'{pictures[0].name}.{request.format}'
        save_picture(path, sheet_of(scene, pixels), {**info, **pictures[0].info}, request.quality)
        if request.save_w:
            save_ws(
                path.with_suffix('.npz'),
                [picture.w for picture in pictures],
                [picture.noise for picture in pictures],
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


def save_video(drawn: Drawn, scene: Scene, request: Request) -> tuple[int, int]:
    """A video with a frame for each group of tiles.

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
