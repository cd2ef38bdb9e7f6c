"""Health of a run: warnings, gradients that are not finite, advice when the memory is full."""

import traceback
from pathlib import Path

import numpy as np
import torch

from dnnlib import UserError, format_time
from dnnlib.util import is_out_of_memory
from torch_utils.misc import in_float64, named_tensors

from .config import TrainingConfig
from .cost import CPU_CORE, Cost
from .phases import Batch
from .run import Run, draw_latents
from .run_dir import STATE_NAME, own_files

FEW = 500  # pictures, below which fewshot is for
SLOW_ON_A_CPU = 1e13  # multiply-adds per kimg: ten minutes
# of p: above it augmentations begin to show in the pictures (ADA, section 2.2 and figure 4)
LEAK = 0.8
CERTAIN, CERTAIN_TICKS = 0.9, 5  # of E[sign(D(real))]
BAD_STEPS = 10  # skipped one after the other, before a run gives up
COLLAPSED = 0.3  # of the mean distance between real pictures


def advice_at_start(
    config: TrainingConfig, num_pictures: int, cost: Cost, device: str
) -> list[str]:
    """Compare the settings with the set and the machine before anything is computed.

    Args:
        num_pictures: of the set, mirror images not counted.
        device: `cuda`, `cpu` or `mps`.

    Returns:
        Warnings.
    """
    found = []
    if num_pictures < config.batch_size:
        found.append(
            f'{num_pictures} pictures are fewer than the batch of {config.batch_size}, so '
            f'some are in it twice; use more, '
            '--mirror=1, or a smaller --batch'
        )
    if num_pictures < FEW and config.preset != 'fewshot' and device != 'cpu':
        found.append(
            f'{num_pictures} pictures are few: D will know them by heart soon. '
            f'--cfg=fewshot is made for under {FEW}'
        )
    if config.preset == 'fewshot' and config.resume is None:
        found.append(
            '--cfg=fewshot is for fine-tuning: with so few pictures a network learns '
            'nothing from scratch. '
            'Start from a snapshot of related pictures (--resume)'
        )
    if device == 'cpu' and cost.multiplications > SLOW_ON_A_CPU:
        found.append(
            f'this network takes about {format_time(cost.multiplications / CPU_CORE)} per '
            f'kimg on a CPU core; --cfg=demo is small '
            'enough for a CPU'
        )
    return [f'warning: {text}' for text in found]


class HealthMonitor:
    """Warns of leaking augmentations, a discriminator that overfits, a generator that collapses.

    Each warning is given once, and again only after its cause was over in between.
    """

    def __init__(self) -> None:
        self._active: set[str] = set()
        self._certain_ticks = 0

    def tick(self, p: float, signs: float | None) -> list[str]:
        """Check the figures of a tick.

        Args:
            p: augmentation probability.
            signs: mean of sign(D(real)), −1…1; None if there was none.

        Returns:
            Warnings.
        """
        is_certain = signs is not None and signs > CERTAIN
        self._certain_ticks = self._certain_ticks + 1 if is_certain else 0
        leak = (
            f'p is {p:.2f}: above {LEAK:g} augmentations leak into the pictures. There are too '
            f'few of them for '
            'so long a run: stop earlier, raise --target, or set --ada-max'
        )
        certain = (
            f'D has been certain of the real pictures for {self._certain_ticks} ticks (mean '
            f'sign above {CERTAIN:g}): it knows '
            'them by heart, and G learns nothing more. More augmentation (--aug=ada, '
            '--augpipe), FreezeD, a higher --gamma '
            'or a lower --dlr help'
        )
        return [
            *self._once('leak', p > LEAK, leak),
            *self._once('certain', self._certain_ticks >= CERTAIN_TICKS, certain),
        ]

    def pictures(self, fakes: np.ndarray, reals: np.ndarray) -> list[str]:
        """Check pictures, uint8 `[N, C, H, W]`. Returns warnings."""
        ratio = diversity(fakes) / max(diversity(reals), 1e-6)
        text = (
            f'the fakes differ from one another only {ratio:.2f} times as much as the real '
            f'pictures do: the generator is collapsing. '
            'Go back to an earlier snapshot; a higher --gamma or a lower --lrate help'
        )
        return self._once('collapse', ratio < COLLAPSED, text)

    def _once(self, name: str, now: bool, text: str) -> list[str]:
        before = name in self._active
        if now:
            self._active.add(name)
        else:
            self._active.discard(name)
        return [f'warning: {text}'] if now and not before else []


def diversity(pictures: np.ndarray, size: int = 16) -> float:
    """Return the mean distance between all pairs of pictures, reduced to `size` × `size` first.

    The distance is the root mean square over pixels, 0…255.

    Args:
        pictures: uint8 `[N, C, H, W]`.
    """
    small = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(np.ascontiguousarray(pictures)).to(torch.float32), size
    ).flatten(1)
    return float(torch.pdist(small).mean()) / small.shape[1] ** 0.5 if len(small) > 1 else 0.0


# ----------------------------------------------------------------------------
# When something goes wrong


def check_gradients(run: Run, run_dir: Path) -> None:
    """Stop a run whose steps have all been skipped for a while.

    Raises:
        UserError: naming the last good state.
    """
    for phase in run.phases:
        count = int(phase.bad_in_a_row)
        if count >= BAD_STEPS:
            last = max(own_files(run_dir, STATE_NAME), default='the beginning')
            raise UserError(
                f'{phase.name}: the gradients of {count} steps in a row were not '
                f'finite, so they changed nothing; '
                f'a lower --lrate, a higher --gamma or --fp32=1 may help. The last '
                f'good state is {last}'
            )


def check_weights(run: Run) -> None:
    """Check that all processes have the same networks.

    Raises:
        RuntimeError: they haven't, which would be our fault.
    """
    if run.ranks.count > 1:
        sums = [
            float(sum(in_float64(tensor).sum() for _, tensor in named_tensors(network)))
            for network in (run.G, run.D, run.G_ema)
        ]
        if len(set(map(str, run.ranks.gather(sums)))) > 1:
            raise RuntimeError('the networks of the processes differ')


def advice_on_memory(run: Run) -> str:
    """Say what to change when the memory is full, by trying it now.

    Tried in this order: the same `--batch-gpu` without CUDA graphs, with the pictures in RAM
    instead of on the GPU, and smaller parts of the batch. Nothing of the run is used after this.
    """
    config = run.config
    share = config.batch_size // config.gpus
    group = config.network.mbstd_group_size or 1
    machine = 'GPU' if run.device.type == 'cuda' else 'machine'
    what = f'--batch-gpu={config.batch_gpu} is too much for the memory of this {machine}'
    if run.graphs is not None:
        run.graphs = None  # they have memory of their own
        if _fits(run, config.batch_gpu):
            return f'{what} with CUDA graphs; --graphs=0 fits'
    if run.cache == 'gpu':
        run.data = iter(())  # whose pictures fill the memory, too
        if _fits(run, config.batch_gpu):
            return f'{what} beside the decoded pictures; --cache=ram fits'
    for size in range(config.batch_gpu - 1, 0, -1):
        if share % size == 0 and size % min(group, size) == 0 and _fits(run, size):
            return (
                f'{what}; --batch-gpu={size} fits. The batch stays {config.batch_size}: gradients '
                'add up, and the result is the same'
            )
    return (
        f'{what}, and so is any smaller number that divides --batch; a smaller network (--cfg) or '
        'more memory is needed'
    )


def _fits(run: Run, size: int) -> bool:
    """Return whether every phase runs with parts of `size` pictures."""
    if run.device.type == 'cuda':
        torch.cuda.empty_cache()
    try:
        for phase in run.phases:
            image = torch.zeros([size, *run.dataset.shape], device=run.device)
            label = run.dataset.random_labels(size).to(run.device)
            phase.run(Batch(image, label, *draw_latents(run, size)), size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        return False
    return True
