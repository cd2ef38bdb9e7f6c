"""What a run is warned of while there is time: augmentations that leak, a discriminator that is
certain, pictures that are all the same.
"""

import numpy as np
import torch

from dnnlib import format_time

from .config import TrainingConfig
from .cost import CPU_CORE, Cost

FEW = 500  # pictures, below which fewshot is for
SLOW_ON_A_CPU = 1e13  # multiply-adds per kimg: ten minutes
# of p: above it augmentations begin to show in the pictures (ADA, section 2.2 and figure 4)
LEAK = 0.8
CERTAIN, CERTAIN_TICKS = 0.9, 5  # of E[sign(D(real))]
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


class Watch:
    """Tells each thing once, and again only after it was over in between."""

    def __init__(self) -> None:
        self._active: set[str] = set()
        self._certain_ticks = 0

    def tick(self, p: float, signs: float | None) -> list[str]:
        """Look at a tick.

        Args:
            p: augmentation probability.
            signs: mean of sign(D(real)), −1…1; None if there was none.

        Returns:
            Warnings.
        """
        self._certain_ticks = (
            self._certain_ticks + 1 if signs is not None and signs > CERTAIN else 0
        )
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
        """Look at pictures, uint8 `[N, C, H, W]`. Returns warnings."""
        ratio = diversity(fakes) / max(diversity(reals), 1e-6)
        text = (
            f'the fakes differ from one another only {ratio:.2f} times as much as the real '
            f'pictures do: the generator is collapsing. '
            'Go back to an earlier snapshot; a higher --gamma or a lower --lrate help'
        )
        return self._once('collapse', ratio < COLLAPSED, text)

    def _once(self, name: str, now: bool, text: str) -> list[str]:
        before = name in self._active
        (self._active.add if now else self._active.discard)(name)
        return [f'warning: {text}'] if now and not before else []


def diversity(pictures: np.ndarray, size: int = 16) -> float:
    """Mean distance (root mean square over pixels, 0…255) between all pairs of pictures, which are
    reduced to `size` × `size` first.

    Args:
        pictures: uint8 `[N, C, H, W]`.
    """
    small = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(np.ascontiguousarray(pictures)).to(torch.float32), size
    ).flatten(1)
    return float(torch.pdist(small).mean()) / small.shape[1] ** 0.5 if len(small) > 1 else 0.0
