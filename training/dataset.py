"""Training data: pictures of a folder or zip, and shuffled batches of them."""

import hashlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from dnnlib.image_archive import PictureArchive, read_labels
from dnnlib.image_decoding import decode_picture

from .dataset_cache import (
    CACHES,
    batches_from_gpu,
    batches_from_ram,
    choose_cache,
    decode_all,
    normalize,
)


class ImageFolderDataset(torch.utils.data.Dataset):
    """Square pictures of one size, with labels from `dataset.json` or the folders' names if wanted.

    Args:
        path: a folder or zip, as `prepare_data.py` makes them.
        use_labels: read `dataset.json`: `{"labels": [[name, class], …]}`. Where it has none, the
            folders of the first level are the classes, in sorted order, unless all of them have
            numbers for names, as `prepare_data.py` and NVIDIA number them.
        max_size: the most pictures to use, chosen by `seed`; None for all.
        xflip, yflip: add each picture mirrored; each doubles the set.
        seed: of the choice.

    Attributes:
        class_names: the folders that are the classes; None without labels or with those of
            `dataset.json`.

    Raises:
        UserError: no pictures, a picture of another size or shape than the rest, no labels where
            they are asked for.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        use_labels: bool = False,
        max_size: int | None = None,
        xflip: bool = False,
        yflip: bool = False,
        seed: int = 0,
    ) -> None:
        self.archive = PictureArchive(path)
        names = self.archive.picture_names
        if not names:
            raise UserError(
                f'{path}: no pictures in it; prepare_data.py makes a data set from '
                f'whatever you have'
            )
        self.shape = self._check_shapes(names)
        self.class_names: list[str] | None = None
        labels = np.zeros([len(names), 0], dtype=np.float32)
        if use_labels:
            labels, self.class_names = read_labels(self.archive, '--cond')
        order = np.arange(len(names))
        if max_size is not None and max_size < len(names):
            if max_size < 1:
                raise UserError(f'--subset={max_size}: at least 1 picture is needed')
            order = np.sort(
                np.random.RandomState(seed % (1 << 31)).permutation(len(names))[:max_size]
            )
        self._names = [names[i] for i in order]
        self._labels = labels[order]
        self._flips = (
            [(False, False)]
            + [(True, False)] * xflip
            + [(False, True)] * yflip
            + [(True, True)] * (xflip and yflip)
        )
        self.kwargs = dict(  # NVIDIA's training_set_kwargs; snapshots are shared, so the name alone
            class_name='training.dataset.ImageFolderDataset',
            path=Path(path).absolute().name,
            use_labels=use_labels,
            max_size=len(self._names),
            xflip=xflip,
            resolution=self.resolution,
        )

    @property
    def resolution(self) -> int:
        """Width and height, pixels."""
        return self.shape[1]

    @property
    def num_channels(self) -> int:
        """1 or 3."""
        return self.shape[0]

    @property
    def label_dim(self) -> int:
        """Number of classes, or length of the label vectors; 0 without labels."""
        return self._labels.shape[1]

    @property
    def stored_shape(self) -> tuple[int, int, int, int]:
        """N, C, H, W of the pictures, mirror images not counted: the shape, and the number of
        bytes, that they decode to.
        """
        return len(self._names), *self.shape

    @property
    def stored_labels(self) -> torch.Tensor:
        """Their labels, float32 `[N, label_dim]`."""
        return torch.from_numpy(self._labels)

    @property
    def fingerprint(self) -> str:
        """A hash of the names, labels and shape of the pictures (not of their pixels)."""
        digest = hashlib.sha256(repr((self.shape, self._names, self._flips)).encode())
        digest.update(self._labels.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._names) * len(self._flips)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A picture, uint8 `[C, H, W]`, and its label, float32 `[label_dim]`."""
        flip, number = divmod(index, len(self._names))
        image = self.load(number)
        flip_x, flip_y = self._flips[flip]
        image = image[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1]
        # contiguous, and writable, which Pillow's may not be
        return image.copy(), self._labels[number]

    def label(self, index: int) -> np.ndarray:
        """The label alone, float32 `[label_dim]`."""
        return self._labels[index % len(self._names)]

    def random_labels(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Labels of random pictures, float32 `[count, label_dim]`; drawn from PyTorch's global
        generator where none is given.
        """
        return choose_rows(self._labels, count, generator)

    def load(self, number: int, *, in_threads: bool = False) -> np.ndarray:
        """A picture as it is stored, never mirrored, uint8 `[C, H, W]`; several threads may call
        this at a time.

        Args:
            number: 0…N-1.
            in_threads: they do; see `decode_picture`.

        Raises:
            UserError: it can't be read, or isn't like the rest; the message names it.
        """
        name = self._names[number]
        image = decode_picture(
            self.archive.read(name),
            f'{self.archive.path}: {name}',
            in_threads=in_threads,
            max_pixels=max(self.shape[1] * self.shape[2], _MIN_LIMIT),
        ).transpose(2, 0, 1)
        if image.shape != self.shape:
            raise UserError(
                f'{self.archive.path}: {name} is {_describe(image.shape)}, the set is '
                f'{_describe(self.shape)}; {_ADVICE}'
            )
        return image

    def locate(self, indices: list[int]) -> torch.Tensor:
        """int64 `[3, len(indices)]`: the number that `load` takes, and whether it is mirrored in x
        and in y, 0 or 1.
        """
        flips, numbers = np.divmod(np.asarray(indices, dtype=np.int64), len(self._names))
        return torch.from_numpy(
            np.stack([numbers, *np.asarray(self._flips, dtype=np.int64)[flips].T])
        )

    def _check_shapes(self, names: list[str]) -> tuple[int, int, int]:
        """Look at every picture's header, and no further, so that a stray one is found now and not
        in an hour.
        """
        first, shape = names[0], (0, 0, 0)
        for name in names:
            this = self.archive.shape(name)
            if name == first:
                shape = this
                size = this[1]
                if (
                    this[1] != this[2]
                    or size < 8
                    or size & (size - 1) != 0
                    or this[0] not in (1, 3)
                ):
                    raise UserError(
                        f'{self.archive.path}: {name} is {_describe(this)}; pictures '
                        f'must be square, grey or RGB, '
                        f'and of a power of two, at least 8 pixels; {_ADVICE}'
                    )
            elif this != shape:
                raise UserError(
                    f'{self.archive.path}: {name} is {_describe(this)}, {first} is '
                    f'{_describe(shape)}; {_ADVICE}'
                )
        return shape


def choose_rows(
    labels: np.ndarray, count: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Choose the labels of random pictures.

    Args:
        labels: of a set, float32 `[N, label_dim]`.
        count: how many.
        generator: what to draw from; None for PyTorch's global generator, which stays as it is
            where there are no labels.

    Returns:
        float32 `[count, label_dim]`.
    """
    if labels.shape[1] == 0:
        return torch.zeros([count, 0])
    return torch.from_numpy(
        labels[torch.randint(len(labels), [count], generator=generator).numpy()]
    )


_MIN_LIMIT = 1 << 20  # pixels that a stray picture may have and still be described
_ADVICE = 'prepare_data.py makes them equal'


def _describe(shape: tuple[int, ...]) -> str:
    return f'{shape[2]}×{shape[1]} with {shape[0]} channel{"s" if shape[0] > 1 else ""}'


class InfiniteSampler(torch.utils.data.Sampler):
    """Indices without end: one permutation of the set after another, each decided by `seed` and its
    number.

    Args:
        size: of the set.
        seed: of the permutations.
        start: how many indices have been drawn before.
    """

    def __init__(self, size: int, seed: int = 0, start: int = 0) -> None:
        assert size > 0
        self._size = size
        self._seed = seed
        self._start = start

    def __iter__(self) -> Iterator[int]:
        epoch, position = divmod(self._start, self._size)
        while True:
            order = np.random.RandomState([self._seed % (1 << 31), epoch]).permutation(self._size)
            yield from order[position:].tolist()
            epoch, position = epoch + 1, 0


def batches(
    dataset: ImageFolderDataset,
    batch_size: int,
    *,
    seed: int,
    workers: int,
    device: torch.device,
    start: int = 0,
    cache: str = 'none',
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled batches without end, the same ones whatever `workers` and `cache` are. A cache is
    filled before this returns.

    Args:
        batch_size: of all ranks together, which share it evenly.
        workers: processes that decode, without a cache; 0 decodes in this one.
        start: how many pictures have been drawn before, by all ranks together.
        cache: 'none' decodes each picture whenever it is drawn, 'ram' and 'gpu' hold the decoded
            set, 'auto' is for `choose_cache` to decide.
        rank: whose share, 0…num_ranks-1: the shares in the order of the ranks make up the batch.
        num_ranks: processes that train.

    Returns:
        A generator of pictures, float32 `[N, C, H, W]` in −1…1, and labels, float32 `[N,
        label_dim]`, both on `device`; N is `batch_size / num_ranks`. Its `close` ends the processes
        and threads behind it.

    Raises:
        UserError: the cache can't be had, or a picture can't be read; without a cache the generator
            raises that.
    """
    assert batch_size % num_ranks == 0 and 0 <= rank < num_ranks
    if cache not in CACHES:
        raise UserError(f'--cache={cache}: {", ".join(CACHES[:-1])} or {CACHES[-1]}')
    if cache == 'auto':
        cache = choose_cache(int(np.prod(dataset.stored_shape)), device, num_ranks)
    shares = _shares(InfiniteSampler(len(dataset), seed, start), batch_size, rank, num_ranks)
    if cache == 'none':
        return _load_batches(dataset, shares, workers, device)
    if cache == 'gpu' and device.type != 'cuda':
        raise UserError('--cache=gpu: the training is not on a GPU; ram and none need no GPU')
    place = device if cache == 'gpu' else torch.device('cpu')
    pictures = decode_all(
        partial(dataset.load, in_threads=True), dataset.stored_shape, place, show=rank == 0
    )
    labels, plans = dataset.stored_labels.to(place), map(dataset.locate, shares)
    return (
        batches_from_gpu(pictures, labels, plans)
        if cache == 'gpu'
        else batches_from_ram(pictures, labels, plans, device)
    )


def _shares(
    sampler: InfiniteSampler, batch_size: int, rank: int, num_ranks: int
) -> Iterator[list[int]]:
    """A rank's part of each batch."""
    indices, size = iter(sampler), batch_size // num_ranks
    while True:
        yield list(islice(indices, batch_size))[rank * size : (rank + 1) * size]


def _leave_signals_to_the_run(worker: int) -> None:
    """Ignore what a whole process group gets: a worker must outlive the run's last state."""
    for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _load_batches(
    dataset: ImageFolderDataset, shares: Iterator[list[int]], workers: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    options: dict[str, Any] = (
        dict(prefetch_factor=4, persistent_workers=True) if workers > 0 else {}
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=shares,
        num_workers=workers,
        pin_memory=device.type == 'cuda',
        # its own: the global one is the training's
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_the_run,
        **options,
    )
    stream = iter(loader)
    while True:
        try:
            images, labels = next(stream)
        except UserError as error:  # a worker process puts its traceback before the message
            # it holds the loader, and whoever keeps the error would keep the processes
            error.__traceback__ = None
            del loader, stream  # ends them; the garbage collector would wait 5 s for each
            raise UserError(str(error).strip().splitlines()[-1].split('UserError: ')[-1]) from error
        yield normalize(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True)
