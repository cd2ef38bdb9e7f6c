"""Caches of a decoded data set, in RAM or on the GPU, and the batches that come out of them."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dnnlib import UserError
from dnnlib.cli import progress
from dnnlib.util import is_out_of_memory

CACHES = ('auto', 'gpu', 'ram', 'none')

_THREADS = min(os.cpu_count() or 1, 8)
_AHEAD = 4  # batches that wait in memory
_MAX_RAM = 16 * 10**9  # what 'auto' takes at most, bytes
_MEMINFO = Path('/proc/meminfo')
_CGROUP_LIMITS = (
    Path('/sys/fs/cgroup/memory.max'),
    Path('/sys/fs/cgroup/memory/memory.limit_in_bytes'),
)


def choose_cache(num_bytes: int, device: torch.device, num_ranks: int = 1) -> str:
    """Choose what `auto` means: the fastest cache that leaves the machine most of its memory.

    Every rank holds a copy of its own, so the allowance of RAM is shared out among them, as if all
    ran on one machine. Ranks may choose differently; their batches stay the same.

    Args:
        num_bytes: the set takes decoded, mirror images not counted.
        device: that trains.
        num_ranks: processes that train.

    Returns:
        'gpu' for at most a quarter of the free memory of a GPU; else 'ram' for at most a quarter of
        the available memory and 16 GB, by `num_ranks`; else 'none', also where the memory is
        unknown.
    """
    if device.type == 'cuda' and num_bytes <= torch.cuda.mem_get_info(device)[0] // 4:
        return 'gpu'
    available = available_memory()
    return (
        'ram'
        if available is not None and num_bytes <= min(available // 4, _MAX_RAM) // num_ranks
        else 'none'
    )


def available_memory() -> int | None:
    """Bytes that processes can still have, or at least the size of the memory, within the
    container's limit; None for unknown.
    """
    try:
        fields = dict(
            line.split(':', 1) for line in _MEMINFO.read_text(encoding='ascii').splitlines()
        )
        memory = int(fields['MemAvailable'].split()[0]) * 1024
    except (OSError, ValueError, KeyError):  # not Linux, or a sandbox
        try:
            memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        except (AttributeError, OSError, ValueError):  # Windows
            return None
    for path in _CGROUP_LIMITS:  # in a container /proc/meminfo tells the whole machine's
        try:
            memory = min(memory, int(path.read_text(encoding='ascii')))
        except (OSError, ValueError):  # no such file, or 'max'
            continue
    return memory if memory > 0 else None


def decode_all(
    load: Callable[[int], np.ndarray],
    shape: tuple[int, int, int, int],
    device: torch.device,
    *,
    show: bool = True,
) -> torch.Tensor:
    """Decode a set in threads.

    Args:
        load: a number, 0…N-1, to its picture, uint8 `[C, H, W]`.
        shape: of the result.
        device: where it shall lie.
        show: a progress bar.

    Returns:
        uint8 `[N, C, H, W]`, 0…255.

    Raises:
        UserError: the memory doesn't suffice, or a picture can't be read.
    """
    num_bytes, cache = int(np.prod(shape)), 'gpu' if device.type == 'cuda' else 'ram'
    available = available_memory() if cache == 'ram' else None
    try:
        # Linux would hand the memory out and end the process later
        if available is not None and num_bytes > available:
            raise MemoryError
        pictures = torch.empty(shape, dtype=torch.uint8, device=device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        other = 'ram or none needs none of the GPU' if cache == 'gpu' else 'none needs none'
        raise UserError(
            f'--cache={cache}: the decoded set takes {num_bytes / 1e9:.1f} GB, more '
            f'than is free; --cache={other}'
        ) from error

    def store(number: int) -> None:
        pictures[number].copy_(torch.tensor(load(number)))

    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[None]] = deque()  # short, since whatever stops this has to wait for it
        for number in (
            progress(range(shape[0]), desc='Decoding', unit='img') if show else range(shape[0])
        ):
            ahead.append(pool.submit(store, number))
            if len(ahead) > 4 * _THREADS:
                ahead.popleft().result()
        while ahead:
            ahead.popleft().result()
    return pictures


# ----------------------------------------------------------------------------
# Batches. A plan, int64 `[3, N]` on the CPU, says for each picture of a batch: its number in the
# set, whether it is mirrored in x, and in y.

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def batches_from_ram(
    pictures: torch.Tensor,
    labels: torch.Tensor,
    plans: Iterator[torch.Tensor],
    device: torch.device,
) -> Batches:
    """Batches of pictures in RAM, gathered ahead by a thread that ends with the generator or the
    process.

    Args:
        pictures: uint8 `[M, C, H, W]`, 0…255, on the CPU.
        labels: float32 `[M, label_dim]`, on the CPU.
        plans: of the batches; read by the thread.
        device: where the batches go.

    Yields:
        Pictures, float32 `[N, C, H, W]` in −1…1, and labels, float32 `[N, label_dim]`, both on
        `device`.
    """
    pin, stored = device.type == 'cuda', pictures.numpy()

    def gather() -> tuple[torch.Tensor, torch.Tensor]:
        plan = next(plans)
        images = torch.empty(
            [plan.shape[1], *pictures.shape[1:]], dtype=torch.uint8, pin_memory=pin
        )
        for image, (number, flip_x, flip_y) in zip(images.numpy(), plan.T.tolist()):
            image[:] = stored[number, :, :: -1 if flip_y else 1, :: -1 if flip_x else 1]
        c = labels[plan[0]]
        return images, c.pin_memory() if pin else c

    with ThreadPoolExecutor(1) as pool:
        ahead = deque(pool.submit(gather) for _ in range(_AHEAD))
        while True:
            images, c = ahead.popleft().result()
            ahead.append(pool.submit(gather))
            yield normalize(images.to(device, non_blocking=True)), c.to(device, non_blocking=True)


def batches_from_gpu(
    pictures: torch.Tensor, labels: torch.Tensor, plans: Iterator[torch.Tensor]
) -> Batches:
    """Batches of pictures that lie where they are needed: only the plans travel.

    Args:
        pictures: uint8 `[M, C, H, W]`, 0…255.
        labels: float32 `[M, label_dim]`, on the same device.
        plans: of the batches.

    Yields:
        Pictures, float32 `[N, C, H, W]` in −1…1, and labels, float32 `[N, label_dim]`, on that
        device.
    """
    for plan in plans:
        there = (plan.pin_memory() if pictures.is_cuda else plan).to(
            pictures.device, non_blocking=True
        )
        images = pictures.index_select(0, there[0])
        for row, axis in ((1, 3), (2, 2)):
            if plan[row].any():  # asks the CPU, so nothing waits
                images = torch.where(
                    there[row].bool()[:, None, None, None], images.flip(axis), images
                )
        yield normalize(images), labels[there[0]]


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8, 0…255, to float32, −1…1."""
    return images.to(torch.float32).div_(127.5).sub_(1)
