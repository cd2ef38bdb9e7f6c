"""Logging: the summary at the start, status line, stats.jsonl, TensorBoard."""

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from dnnlib import format_time
from torch_utils.training_stats import summary

from . import cost
from .freezing import frozen_names
from .health import advice_at_start
from .run import Run

log = logging.getLogger(__name__)


class Reporter:
    """Writes a run's log once a tick.

    Args:
        run_dir: where `stats.jsonl` goes, and TensorBoard's files where it is installed.
        device: whose memory is reported.
        elapsed: seconds that the run has taken before.
        p: augmentation probability at the beginning.
        end_nimg: where the counter ends.
    """

    def __init__(
        self,
        run_dir: Path,
        device: torch.device,
        elapsed: float = 0.0,
        p: float = 0.0,
        end_nimg: int = 0,
    ) -> None:
        self._file = (run_dir / 'stats.jsonl').open('a', encoding='utf-8')
        self._device = device
        self._tick_start = time.time()
        self._start = self._tick_start - elapsed
        self._maintenance = 0.0
        self._p, self._end_nimg = p, end_nimg
        self._tensorboard = _tensorboard_writer(run_dir)

    def tick(
        self,
        number: int,
        cur_nimg: int,
        tick_nimg: int,
        p: float,
        stats: dict[str, dict[str, float]],
    ) -> str:
        """Close a tick: write its statistics and return its status line.

        Args:
            cur_nimg: pictures seen.
            tick_nimg: of these, in this tick.
            p: augmentation probability.
            stats: of `StatsCollector.read`.
        """
        now = time.time()
        sec_per_tick = now - self._tick_start
        fields = {
            'Progress/tick': float(number),
            'Progress/kimg': cur_nimg / 1000,
            'Progress/augment': p,
            'Progress/augment_per_kimg': (p - self._p) / tick_nimg * 1000 if tick_nimg else 0.0,
            'Timing/total_sec': now - self._start,
            'Timing/sec_per_tick': sec_per_tick,
            'Timing/sec_per_kimg': sec_per_tick / tick_nimg * 1000 if tick_nimg else 0.0,
            'Timing/maintenance_sec': self._maintenance,
            'Resources/cpu_mem_gb': _cpu_memory_gb(),
            'Resources/peak_gpu_mem_gb': _gpu_memory_gb(self._device),
        }
        self._p = p
        left = 0.0
        if tick_nimg:
            left = (sec_per_tick + self._maintenance) * (self._end_nimg - cur_nimg) / tick_nimg
        rows = {name: summary(1, value, value**2) for name, value in fields.items()}
        rows.update(stats)
        self._file.write(json.dumps({**rows, 'timestamp': now}) + '\n')
        self._file.flush()
        if self._tensorboard is not None:
            for name, row in rows.items():
                self._tensorboard.add_scalar(
                    name, row['mean'], global_step=cur_nimg // 1000, walltime=now
                )
            self._tensorboard.flush()
        signs = stats['Loss/signs/real']['mean'] if 'Loss/signs/real' in stats else None
        return _status_line(fields, signs, left)

    def begin_tick(self, closed: float) -> None:
        """Start the clock of the next tick; what passed since `closed` (time.time()) was
        maintenance.
        """
        self._tick_start = time.time()
        self._maintenance = self._tick_start - closed

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def _status_line(fields: dict[str, float], signs: float | None, seconds_left: float) -> str:
    """Format the line that a tick prints.

    Args:
        fields: as in `stats.jsonl`.
        signs: mean of sign(D(real)); None if there was none.
        seconds_left: to the end of the run; 0 where it is not known.
    """
    p, speed = fields['Progress/augment'], fields['Progress/augment_per_kimg']
    parts = [
        f'tick {fields["Progress/tick"]:<5.0f}',
        f'kimg {fields["Progress/kimg"]:<8.1f}',
        f'time {format_time(fields["Timing/total_sec"]):<12s}',
        f'sec/tick {fields["Timing/sec_per_tick"]:<7.1f}',
        f'sec/kimg {fields["Timing/sec_per_kimg"]:<7.2f}',
        f'maintenance {fields["Timing/maintenance_sec"]:<6.1f}',
        f'cpumem {fields["Resources/cpu_mem_gb"]:<6.2f}',
        f'gpumem {fields["Resources/peak_gpu_mem_gb"]:<6.2f}',
        f'augment {p:.3f} ({speed:+.4f}/kimg)',
    ]
    if signs is not None:
        parts.append(f'signs {signs:+.2f}')
    if seconds_left > 0:
        parts.append(f'left {format_time(seconds_left)}')
    return ' '.join(parts)


def _tensorboard_writer(run_dir: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # optional
        return None
    return SummaryWriter(str(run_dir))


def _cpu_memory_gb() -> float:
    """Return the peak memory of this process; 0 where the system does not say."""
    if os.name == 'nt':
        return 0.0
    import resource

    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == 'darwin' else 1024)
        / 2**30
    )


def _gpu_memory_gb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == 'cuda' else 0.0


def log_start(run: Run) -> None:
    """Log what is about to be trained: data, networks, cost, warnings."""
    config, dataset = run.config, run.dataset
    log.info(
        'Data: %s, %d pictures%s, %d×%d, %d channels, %d classes',
        config.data.path,
        len(dataset),
        ' with mirror images' if config.data.xflip or config.data.yflip else '',
        dataset.resolution,
        dataset.resolution,
        dataset.num_channels,
        dataset.label_dim,
    )
    if run.ranks.count > 1:
        share = config.batch_size // run.ranks.count
        log.info(
            '%d processes, each with %d of %d pictures a step',
            run.ranks.count,
            share,
            config.batch_size,
        )
    for name, network in [('G', run.G), ('D', run.D)]:
        log.info(
            '%s: %s trainable parameters', name, f'{sum(x.numel() for x in network.parameters()):,}'
        )
    for note in run.notes:
        log.info('%s', note)
    if run.step == 0:
        price = cost.estimate(config, run.G, run.D, run.device.type)
        for line in cost.describe(price, config, run.device.type):
            log.info('%s', line)
        for line in advice_at_start(config, dataset.stored_shape[0], price, run.device.type):
            log.warning('%s', line)
    frozen = frozen_names(run.D)
    if frozen:
        buffers = dict(run.D.named_buffers())
        log.info(
            'FreezeD: %d tensors with %s parameters are frozen: %s',
            len(frozen),
            f'{sum(buffers[name].numel() for name in frozen):,}',
            ' '.join(frozen),
        )
