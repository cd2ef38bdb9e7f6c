"""Estimate what a run takes before it starts: arithmetic, memory, disk.

The estimates follow from the shapes of the networks alone. They are meant to tell an evening from a
week, and 2 GB from 20.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dnnlib import format_time
from torch_utils.misc import named_tensors

from .config import TrainingConfig
from .networks import Discriminator, Generator

# NVIDIA's published speed of their own code on one A100 (stylegan3, docs/configs.md): seconds per
# kimg of the `auto` networks, and the multiply-adds per kimg of those as counted here.
A100 = {256: (12.53, 2.0e14), 1024: (90.4, 9.95e14)}

# Multiply-adds per second of one thread of a shared 2-core cloud machine, all of a step included:
# 14 s/kimg with cfg demo at 64 px, 4,600 s/kimg with cfg auto at 64 px.
CPU_CORE = 2.2e10

# Of the outputs of all convolutions: 2.1 times are kept for the backward pass (64 and 128 px, cfg
# demo; 3.2 to 4.3 where weights weigh more than pictures), and the backward pass needs some more.
ACTIVATION_COPIES = 3.0


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a run.

    Attributes:
        multiplications: multiply-adds of a thousand pictures.
        memory: bytes at the peak of a step, without the decoded pictures.
        snapshot: bytes of a snapshot file.
        state: bytes of a training state; two of them lie on the disk while one is saved.
        num_snapshots: how many the run writes.
        num_kept: how many of them are on the disk at its end.
        num_evaluations: how many are evaluated.
        kimg: thousands of pictures that it trains on.
    """

    multiplications: float
    memory: float
    snapshot: int
    state: int
    num_snapshots: int
    num_kept: int
    num_evaluations: int
    kimg: float

    @property
    def disk(self) -> int:
        """Bytes at the end, or while the last state is saved."""
        return self.num_kept * self.snapshot + 2 * self.state


def estimate(config: TrainingConfig, G: Generator, D: Discriminator, device: str) -> Cost:
    """Estimate the cost of a run with these networks on a `cuda`, `cpu` or `mps` device."""
    sizes = [4 * sum(tensor.numel() for _, tensor in named_tensors(network)) for network in (G, D)]
    trained = [
        4 * sum(parameter.numel() for parameter in network.parameters()) for network in (G, D)
    ]
    snapshot, state = 2 * sizes[0] + sizes[1], 2 * sizes[0] + sizes[1] + 2 * sum(trained)
    kimg = config.total_kimg - config.start_kimg
    ticks = max(-(-kimg // config.tick_kimg), 1)
    num_snapshots = int(-(-ticks // config.snapshot_ticks))
    keep = config.keep_snapshots
    evaluations = 0
    if config.metrics:
        every = config.metrics_kimg or 0
        evaluations = int(min(num_snapshots, kimg // every + 1)) if every else num_snapshots
    return Cost(
        multiplications=1000 * multiplications(config, G, D),
        memory=state + sum(trained) + activations(config, G, D, device),
        snapshot=snapshot,
        state=state,
        num_snapshots=num_snapshots,
        num_kept=num_snapshots if keep is None else min(num_snapshots, keep + bool(config.metrics)),
        num_evaluations=evaluations,
        kimg=kimg,
    )


def multiplications(config: TrainingConfig, G: Generator, D: Discriminator) -> float:
    """Return the multiply-adds of the convolutions per training picture, all phases together.

    A backward pass costs twice its forward pass where weights learn, as much as it where they
    don't; a regulariser's second backward pass twice as much again.
    """
    g, d, loss = _forward(G), _forward(D), config.loss
    main = 3 * g + 2 * d + g + 6 * d  # Gmain, then Dmain: pictures of both kinds
    path_length = 6 * g / loss.pl_batch_shrink / loss.g_reg_interval if loss.pl_weight else 0.0
    r1 = 6 * d / loss.d_reg_interval if loss.r1_gamma else 0.0
    return main + path_length + r1


def activations(config: TrainingConfig, G: Generator, D: Discriminator, device: str) -> float:
    """Return the bytes of the activations of Gmain or Dmain, whichever has more."""
    half = 0.5 if device == 'cuda' and config.network.num_fp16_res and not config.fp32 else 1.0
    numbers = max(_outputs(G) + _outputs(D), 2 * _outputs(D))
    return 4 * half * ACTIVATION_COPIES * config.batch_gpu * numbers


def describe(cost: Cost, config: TrainingConfig, device: str) -> list[str]:
    """Return lines for the start of a run and for `--dry-run`."""
    work = f'{cost.kimg:g} kimg of {2 * cost.multiplications / 1e15:.2g} PFLOP each'
    if device == 'cpu':
        speed = f'on one CPU core about {format_time(cost.kimg * cost.multiplications / CPU_CORE)}'
    else:
        seconds = cost.kimg * _a100_seconds(cost.multiplications)
        speed = f"NVIDIA's own code takes about {format_time(seconds)} for that on one A100"
    lines = [
        f'Time: {work}; {speed}; the status line says from the first tick on how much is left',
        f'Memory: about {_gigabytes(cost.memory)} with --batch-gpu={config.batch_gpu}, and '
        f'the decoded pictures (--cache)',
    ]
    many = f'{cost.num_snapshots} snapshots of {_gigabytes(cost.snapshot)}'
    kept = (
        ''
        if cost.num_kept == cost.num_snapshots
        else f', {cost.num_kept} of which are kept (--keep)'
    )
    lines.append(
        f'Disk: about {_gigabytes(cost.disk)}: {many}{kept}, and two states of '
        f'{_gigabytes(cost.state)}'
    )
    if config.metrics:
        lines.append(
            f'Metrics: {", ".join(config.metrics)} {cost.num_evaluations} times '
            f'(--metrics, --metrics-kimg)'
        )
    return lines


def _a100_seconds(multiplications: float) -> float:
    """Seconds per kimg of NVIDIA's code on an A100: the power of the arithmetic that meets both
    published figures.
    """
    (seconds, count), (more_seconds, more_count) = A100[256], A100[1024]
    exponent = math.log(more_seconds / seconds) / math.log(more_count / count)
    return seconds * (multiplications / count) ** exponent


def _layers(network: torch.nn.Module) -> Iterator[tuple[torch.Tensor, int, int]]:
    """The weight of every convolution, the width of its smaller side and that of its output,
    pixels.
    """
    for block in network.modules():
        resolution = getattr(block, 'resolution', None)
        for layer in block.children():
            weight = getattr(layer, 'weight', None)
            if (
                isinstance(resolution, int)
                and isinstance(weight, torch.Tensor)
                and weight.ndim == 4
            ):
                resampled = getattr(layer, 'up', 1) > 1 or getattr(layer, 'down', 1) > 1
                smaller = resolution // 2 if resampled else resolution
                yield (
                    weight,
                    smaller,
                    resolution // 2 if getattr(layer, 'down', 1) > 1 else resolution,
                )


def _forward(network: torch.nn.Module) -> float:
    """Return the multiply-adds of a picture's convolutions; resampling ones compute at the smaller
    size.
    """
    return float(sum(weight.numel() * smaller**2 for weight, smaller, _ in _layers(network)))


def _outputs(network: torch.nn.Module) -> float:
    """Numbers in the outputs of a picture's convolutions."""
    return float(sum(weight.shape[0] * size**2 for weight, _, size in _layers(network)))


def _gigabytes(size: float) -> str:
    return f'{size / 1e9:.1f} GB' if size >= 5e7 else f'{size / 1e6:.0f} MB'
