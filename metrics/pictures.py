"""Folders and zips as iterables of uint8 batches."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from dnnlib import UserError
from dnnlib.archive import PictureArchive, decode_picture

_THREADS = min(os.cpu_count() or 1, 8)


class PictureSet:
    """The pictures of a folder or zip, or a random choice of them, as RGB and never mirrored.

    Args:
        path: folder or zip.
        num: take at most this many: the first `num` of a shuffle that depends on `seed` only, so that a smaller choice
            is part of a larger one. None takes all.
        seed: of that shuffle, 0…2^32 - 1.

    Raises:
        UserError: there is nothing at `path`, it can't be read, or it has fewer than 2 pictures.
    """

    def __init__(self, path: str | os.PathLike[str], *, num: int | None = None, seed: int = 0) -> None:
        self._archive = PictureArchive(path)
        names = self._archive.picture_names
        if len(names) < 2:
            found = f'only one picture ({names[0]})' if names else 'no pictures'
            raise UserError(f'{path}: {found} in it; at least 2 are needed')
        if num is not None and num < len(names):
            # RandomState, because numpy promises that its stream never changes.
            chosen = np.random.RandomState(seed).permutation(len(names))[:num]
            names = [names[i] for i in sorted(chosen)]
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def batches(self, batch_size: int = 32) -> Iterator[torch.Tensor]:
        """Every picture once. A batch holds pictures of one size, so it can be smaller than `batch_size` in a mixed set.

        Yields:
            uint8 `[N, 3, H, W]`, 0…255, on the CPU.

        Raises:
            UserError: a picture is broken or unreadable; the message names it.
        """
        waiting: dict[tuple[int, ...], list[np.ndarray]] = {}
        for pixels in self._decoded():
            group = waiting.setdefault(pixels.shape, [])
            group.append(pixels)
            if len(group) == batch_size:
                yield _stack(waiting.pop(pixels.shape))
            elif sum(map(len, waiting.values())) >= 4 * batch_size:  # many sizes: don't hold the whole set in memory
                yield from map(_stack, waiting.values())
                waiting.clear()
        yield from map(_stack, waiting.values())

    def _decoded(self) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(_THREADS) as pool:
            ahead: deque[Future[np.ndarray]] = deque()
            for name in self._names:
                ahead.append(pool.submit(self._load, name))
                if len(ahead) > 4 * _THREADS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _load(self, name: str) -> np.ndarray:
        return to_rgb(decode_picture(self._archive.read(name), f'{self._archive.path}: {name}'))


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Grey becomes three equal channels; what is transparent lies over white.

    Args:
        pixels: uint8 `[H, W, C]`, 0…255; C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).

    Returns:
        uint8 `[H, W, 3]`, 0…255.
    """
    if pixels.shape[2] in (2, 4):
        colour, alpha = pixels[:, :, :-1].astype(np.uint16), pixels[:, :, -1:].astype(np.uint16)
        pixels = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _stack(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
