"""Pictures of a folder or zip as training data."""

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from dnnlib import UserError
from dnnlib.archive import PictureArchive, decode_picture


class ImageFolderDataset(torch.utils.data.Dataset):
    """Square pictures of one size, with labels from `dataset.json` if wanted.

    Args:
        path: a folder or zip, as `prepare_data.py` makes them.
        use_labels: read `dataset.json`: `{"labels": [[name, class], …]}`.
        max_size: at most so many pictures, chosen by `seed`; None for all.
        xflip, yflip: add each picture mirrored; each doubles the set.
        seed: of the choice.

    Raises:
        UserError: no pictures, a picture of another size or shape than the rest, no labels where they are asked for.
    """

    def __init__(self, path: str | os.PathLike[str], *, use_labels: bool = False, max_size: int | None = None,
                 xflip: bool = False, yflip: bool = False, seed: int = 0) -> None:
        self.archive = PictureArchive(path)
        names = self.archive.picture_names
        if not names:
            raise UserError(f'{path}: no pictures in it; prepare_data.py makes a data set from whatever you have')
        self.shape = self._check_shapes(names)
        labels = self._read_labels(names) if use_labels else np.zeros([len(names), 0], dtype=np.float32)
        order = np.arange(len(names))
        if max_size is not None and max_size < len(names):
            if max_size < 1:
                raise UserError(f'--subset={max_size}: at least 1 picture is needed')
            order = np.sort(np.random.RandomState(seed % (1 << 31)).permutation(len(names))[:max_size])
        self._names = [names[i] for i in order]
        self._labels = labels[order]
        self._flips = [(False, False)] + [(True, False)] * xflip + [(False, True)] * yflip + [(True, True)] * (xflip and yflip)
        self.kwargs = dict(class_name='training.dataset.ImageFolderDataset', path=str(path), use_labels=use_labels,
                           max_size=len(self._names), xflip=xflip, resolution=self.resolution)  # NVIDIA's training_set_kwargs

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
        image = self._load(self._names[number])
        flip_x, flip_y = self._flips[flip]
        image = image[:, ::-1 if flip_y else 1, ::-1 if flip_x else 1]
        return np.ascontiguousarray(image), self._labels[number]

    def label(self, index: int) -> np.ndarray:
        """The label alone, float32 `[label_dim]`."""
        return self._labels[index % len(self._names)]

    def random_labels(self, count: int) -> torch.Tensor:
        """Labels of random pictures, float32 `[count, label_dim]`, drawn from PyTorch's global generator."""
        if self.label_dim == 0:
            return torch.zeros([count, 0])
        return torch.from_numpy(self._labels[torch.randint(len(self._names), [count]).numpy()])

    def _load(self, name: str) -> np.ndarray:
        image = decode_picture(self.archive.read(name), f'{self.archive.path}: {name}').transpose(2, 0, 1)
        if image.shape != self.shape:
            raise UserError(f'{self.archive.path}: {name} is {_describe(image.shape)}, the set is {_describe(self.shape)}; {_ADVICE}')
        return image

    def _check_shapes(self, names: list[str]) -> tuple[int, int, int]:
        """Look at every picture's header, so that a stray one is found now and not in an hour."""
        first, shape = names[0], (0, 0, 0)
        for name in names:
            this = _header_shape(self.archive.read(name), f'{self.archive.path}: {name}')
            if name == first:
                shape = this
                size = this[1]
                if this[1] != this[2] or size < 8 or size & (size - 1) != 0 or this[0] not in (1, 3):
                    raise UserError(f'{self.archive.path}: {name} is {_describe(this)}; pictures must be square, grey or RGB, '
                                    f'and of a power of two, at least 8 pixels; {_ADVICE}')
            elif this != shape:
                raise UserError(f'{self.archive.path}: {name} is {_describe(this)}, {first} is {_describe(shape)}; {_ADVICE}')
        return shape

    def _read_labels(self, names: list[str]) -> np.ndarray:
        listed = (self.archive.read_json() or {}).get('labels')
        if not listed:
            raise UserError(f'--cond: {self.archive.path} has no labels (a dataset.json with "labels" is needed)')
        try:
            by_name = {str(name).replace('\\', '/'): label for name, label in listed}
            labels = np.asarray([by_name[name] for name in names])
            if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0:
                return np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
            if labels.ndim == 2 and np.issubdtype(labels.dtype, np.number):
                return labels.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f'{self.archive.path}: "labels" of dataset.json should be [[name, class], …] ({error})') from error
        except KeyError as error:
            raise UserError(f'{self.archive.path}: dataset.json has no label for {error.args[0]}') from error
        raise UserError(f'{self.archive.path}: labels should be classes 0, 1, 2 … or vectors of one length')


_ADVICE = 'prepare_data.py makes them equal'


def _describe(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}×{shape[1]} with {shape[0]} channel{'s' if shape[0] > 1 else ''}"


def _header_shape(data: bytes, name: str) -> tuple[int, int, int]:
    """Channels, height, width, from the first bytes where that is enough."""
    if data[:8] == b'\x89PNG\r\n\x1a\n' and len(data) > 33 and data[24] == 8 and data[25] in (0, 2):
        width, height = struct.unpack('>II', data[16:24])
        return (1 if data[25] == 0 else 3), height, width
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode in ('L', 'RGB'):
                return len(picture.getbands()), picture.height, picture.width
    except (OSError, ValueError, SyntaxError):
        pass
    channels_last = decode_picture(data, name).shape
    return channels_last[2], channels_last[0], channels_last[1]


class InfiniteSampler(torch.utils.data.Sampler):
    """Indices without end: one permutation of the set after another, each decided by `seed` and its number.

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


def batches(dataset: ImageFolderDataset, batch_size: int, *, seed: int, workers: int, device: torch.device,
            start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled batches without end.

    Args:
        start: how many pictures have been drawn before.

    Yields:
        Pictures, float32 `[N, C, H, W]` in −1…1, and labels, float32 `[N, label_dim]`, both on `device`.
    """
    options: dict[str, Any] = dict(prefetch_factor=4, persistent_workers=True) if workers > 0 else {}
    loader = torch.utils.data.DataLoader(dataset, sampler=InfiniteSampler(len(dataset), seed, start), batch_size=batch_size,
                                         num_workers=workers, pin_memory=device.type == 'cuda',
                                         generator=torch.Generator(), **options)  # its own: the global one is the training's
    stream = iter(loader)
    while True:
        try:
            images, labels = next(stream)
        except UserError as error:  # a worker process puts its traceback before the message
            raise UserError(str(error).strip().splitlines()[-1].split('UserError: ')[-1]) from error
        yield images.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1, labels.to(device, non_blocking=True)
