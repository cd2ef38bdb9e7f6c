"""Inception score: are the pictures of clear classes, and of many."""

import numpy as np
import torch

from torch_utils.misc import in_float64

SPLITS, SEED = 10, 2020  # those of torch-fidelity
CLASSES = 1008


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


def few_warning(num: int | None) -> str | None:
    """What to tell the user where there are too few pictures for the highest score, else None: a
    part of n cannot score above n.

    Args:
        num: of pictures; None where nobody knows.
    """
    if num is None or num >= SPLITS * CLASSES:
        return None
    return (
        f'warning: the inception score from {num:,} pictures is too low, since each of its '
        f'{SPLITS} parts of '
        f'{max(num // SPLITS, 1):,} cannot exceed that number; compare it only with values '
        f'from equally many pictures'
    )
