"""Folders and zips as iterables of uint8 batches."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from dnnlib import UserError
from dnnlib.image_archive import PictureArchive, read_labels
from dnnlib.image_decoding import decode_picture

T = TypeVar('T')

_THREADS = min(os.cpu_count() or 1, 8)
_LOSSY = frozenset({'.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.avif'})


class PictureSet:
    """The pictures of a folder or zip, or a random choice of them, as RGB.

    Args:
        path: folder or zip.
        num: take at most this many: the first `num` of a shuffle that depends on `seed` only, so
            that a smaller choice is part of a larger one. None takes all.
        seed: of that shuffle, 0…2^32 - 1.
        class_idx: only pictures of this class: see `read_labels`.
        mirror: each picture a second time, mirrored; those come after all others.
        limit: the first so many, mirrored ones included; None for all.
        drops_alpha: see `to_rgb`.

    Attributes:
        path: as given.
        names: of the files that were chosen, sorted.
        info: what `dataset.json` says beyond the labels, such as `resize_filter` and
            `content_sha256`.

    Raises:
        UserError: there is nothing at `path`, it can't be read, has no labels for `class_idx`, or
            has fewer than 2 such pictures.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num: int | None = None,
        seed: int = 0,
        class_idx: int | None = None,
        mirror: bool = False,
        limit: int | None = None,
        drops_alpha: bool = False,
    ) -> None:
        self._archive = PictureArchive(path)
        self.path = Path(path)
        self._drops_alpha = drops_alpha
        self._sha256: str | None = None
        names = self._archive.picture_names
        content = self._archive.read_json() or {}
        self.info: dict[str, Any] = {
            key: value for key, value in content.items() if key not in ('labels', 'files')
        }
        if class_idx is not None:
            names = _of_class(self._archive, class_idx)
        if len(names) < 2:
            found = f'only one picture ({names[0]})' if names else 'no pictures'
            raise UserError(
                f'{path}: {found} in '
                f'it{"" if class_idx is None else f" of class {class_idx}"}; at least '
                f'2 are needed'
            )
        if num is not None and num < len(names):
            # RandomState, because numpy promises that its stream never changes.
            chosen = np.random.RandomState(seed).permutation(len(names))[:num]
            names = [names[i] for i in sorted(chosen)]
        count = len(names) * (2 if mirror else 1)
        self._count = count if limit is None else min(count, limit)
        self.names = names[: self._count]

    def __len__(self) -> int:
        return self._count

    @property
    def settings(self) -> dict[str, int | bool]:
        """Beyond the files' content, what their features depend on."""
        return {'count': self._count, 'drops_alpha': self._drops_alpha}

    @property
    def lossy(self) -> bool | None:
        """Whether the files are JPEGs and the like; None where some are and some are not."""
        kinds = {Path(name).suffix.lower() in _LOSSY for name in self.names}
        return kinds.pop() if len(kinds) == 1 else None

    def content_sha256(self) -> str:
        """Of the bytes of all chosen files, in order: the same for a folder and for a zip of it,
        whatever they are called.
        """
        if self._sha256 is None:  # once for all detectors
            digests = self._ahead(lambda name: hashlib.sha256(self._archive.read(name)).digest())
            self._sha256 = hashlib.sha256(b''.join(digests)).hexdigest()
        return self._sha256

    def load(self, index: int) -> np.ndarray:
        """The picture at a place of the set: uint8 `[H, W, 3]`, 0…255."""
        pixels = self._load(self.names[index % len(self.names)])
        return pixels if index < len(self.names) else pixels[:, ::-1].copy()

    def batches(self, batch_size: int = 32) -> Iterator[torch.Tensor]:
        """`numbered_batches` without the numbers."""
        return (batch for _, batch in self.numbered_batches(batch_size))

    def numbered_batches(self, batch_size: int = 32) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Every picture once. A batch holds pictures of one size, so it can be smaller than
        `batch_size` in a mixed set.

        Yields:
            The pictures' places in the set, and uint8 `[N, 3, H, W]`, 0…255, on the CPU.

        Raises:
            UserError: a picture is broken or unreadable; the message names it.
        """
        for indices, batch in self._batches(batch_size):
            yield indices, batch
            mirrored = [
                i for i, index in enumerate(indices) if index + len(self.names) < self._count
            ]
            if mirrored:
                yield [indices[i] + len(self.names) for i in mirrored], batch[mirrored].flip(3)

    def _batches(self, batch_size: int) -> Iterator[tuple[list[int], torch.Tensor]]:
        waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for index, pixels in enumerate(self._ahead(self._load, batch_size)):
            group = waiting.setdefault(pixels.shape, [])
            group.append((index, pixels))
            if len(group) == batch_size:
                yield _stack(waiting.pop(pixels.shape))
            # many sizes: don't hold the whole set in memory
            elif sum(map(len, waiting.values())) >= 4 * batch_size:
                yield from map(_stack, waiting.values())
                waiting.clear()
        yield from map(_stack, waiting.values())

    def _ahead(self, work: Callable[[str], T], count: int = 0) -> Iterator[T]:
        """Results for all names, in order, by several threads, which go on with the next `count`
        while the last ones are used.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            ahead: deque[Future[T]] = deque()
            for name in self.names:
                ahead.append(pool.submit(work, name))
                if len(ahead) > max(4 * _THREADS, count):
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _load(self, name: str) -> np.ndarray:
        return to_rgb(
            decode_picture(self._archive.read(name), f'{self.path}: {name}', in_threads=True),
            self._drops_alpha,
        )


def to_rgb(pixels: np.ndarray, drops_alpha: bool = False) -> np.ndarray:
    """Grey becomes three equal channels; what is transparent lies over white.

    Args:
        pixels: uint8 `[H, W, C]`, 0…255; C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        drops_alpha: take the colours as they are stored under the transparency instead.

    Returns:
        uint8 `[H, W, 3]`, 0…255.
    """
    if pixels.shape[2] in (2, 4) and drops_alpha:
        pixels = pixels[:, :, :-1]
    elif pixels.shape[2] in (2, 4):
        colour, alpha = pixels[:, :, :-1].astype(np.uint16), pixels[:, :, -1:].astype(np.uint16)
        pixels = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _of_class(archive: PictureArchive, class_idx: int) -> list[str]:
    labels, _ = read_labels(archive, f'--class={class_idx}')
    return [
        name for name, label in zip(archive.picture_names, labels) if label.argmax() == class_idx
    ]


def _stack(pictures: Sequence[tuple[int, np.ndarray]]) -> tuple[list[int], torch.Tensor]:
    indices, pixels = zip(*pictures)
    return list(indices), torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
