"""Inception score: are the pictures of clear classes, and of many."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_utils.misc import in_float64

from .detectors import Detector
from .features import Features
from .kind import Kind, spread

SPLITS, SEED = 10, 2020  # those of torch-fidelity
CLASSES = 1008


class InceptionScore(Kind):
    """Inception score."""

    key = 'is'
    names = ('is50k',)
    needs_reals = False
    results = {'_mean': True}
    full_only = True

    def compute(
        self, real: Features | None, fake: Features, detector: Detector
    ) -> dict[str, float]:
        assert fake.values is not None
        mean, std = inception_score(detector.logits(fake.values))
        return {'_mean': mean, '_std': std}

    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        return f'Inception score: {values["_mean"]:.4f}{spread(values)}'

    def few_warning(self, detector: str, num: int) -> str | None:
        return few_warning(num)


def inception_score(
    logits: torch.Tensor, *, splits: int = SPLITS, seed: int = SEED
) -> tuple[float, float]:
    """exp of the mean Kullback-Leibler divergence between p(class | picture) and p(class), over
    parts of a shuffled set.

    Paper: Salimans et al. 2016, "Improved Techniques for Training GANs", section 4.

    Args:
        logits: floating point `[N, classes]`, of the classifier without its bias.
        splits: parts; at most one a picture.
        seed: of the shuffle.

    Returns:
        Mean and standard deviation over the parts; 1…classes.
    """
    order = torch.from_numpy(np.random.RandomState(seed).permutation(len(logits))).to(logits.device)
    scores = []
    for part in torch.tensor_split(
        in_float64(logits[order]), [i * len(logits) // splits for i in range(1, splits)]
    ):
        if len(part) == 0:
            continue
        log_p = part.log_softmax(dim=1)
        log_q = log_p.logsumexp(dim=0) - np.log(len(part))
        scores.append((log_p.exp() * (log_p - log_q)).sum(dim=1).mean().exp())
    result = torch.stack(scores)
    return float(result.mean()), float(result.std(correction=0))


def few_warning(num: int) -> str | None:
    """Return a warning if there are too few pictures for the highest score, else None.

    A part of n pictures cannot score above n.
    """
    if num >= SPLITS * CLASSES:
        return None
    return (
        f'warning: the inception score from {num:,} pictures is too low, since each of its '
        f'{SPLITS} parts of '
        f'{max(num // SPLITS, 1):,} cannot exceed that number; compare it only with values '
        f'from equally many pictures'
    )
