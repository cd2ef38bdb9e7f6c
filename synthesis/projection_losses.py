"""Losses of projection: the squared Euclidean distance of pictures embedded as vectors."""

import logging
import os
from collections.abc import Callable

import torch
import torch.nn.functional as F

from dnnlib import UserError
from torch_utils.lpips import LPIPS, MIN_SIZE, VGG_FILE, vgg_weights

Embed = Callable[[torch.Tensor], torch.Tensor]

COARSEST = 8  # pixels of the last level of the pyramid

log = logging.getLogger(__name__)


def pyramid(images: torch.Tensor) -> torch.Tensor:
    """Embed for multi-scale L2: the squared distance of two embeddings is the mean of the mean
    squared errors at full size, at half of it … at 8 px.

    Each level averages 2×2 pixels of the one above. A coarse level counts as much as a fine one,
    which has many more pixels: so colours and shapes come first, as in a perceptual distance, and
    detail after.

    Args:
        images: float32 `[N, C, H, W]`, square, of a power of two.

    Returns:
        float32 `[N, F]`.
    """
    levels = [images]
    while levels[-1].shape[2] > COARSEST:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return torch.cat(
        [level.flatten(1) / (level[0].numel() * len(levels)) ** 0.5 for level in levels], dim=1
    )


def perceptual(lpips: LPIPS) -> Embed:
    """Embed for LPIPS plus the multi-scale L2 of `pyramid`.

    LPIPS alone leaves colours free. The two have about the weights that Richardson et al. 2021
    ("Encoding in Style", pSp) give LPIPS and L2.
    """
    return lambda images: torch.cat([lpips(images), pyramid(images)], dim=1)


def choose_embedding(
    loss: str, weights: str | os.PathLike[str] | None, resolution: int, device: torch.device
) -> tuple[str, Embed]:
    """Choose the embedding that `--loss` and `--lpips-weights` ask for.

    Args:
        loss: `lpips`, `pyramid`, or `auto`, which is `lpips` where that can be had, else, with a
            warning, `pyramid`.
        weights: the file with VGG-16's weights; None for the caches, or a download.
        resolution: of the pictures.

    Returns:
        `lpips` or `pyramid`, and the function.

    Raises:
        UserError: LPIPS is asked for and can't be had. `auto` raises only for a file that was
            given.
    """
    if loss == 'pyramid':
        if weights is not None:
            raise UserError(
                f'--lpips-weights={weights}: --loss=pyramid uses none; leave one of the two out'
            )
        return 'pyramid', pyramid
    try:
        if resolution < MIN_SIZE:
            raise UserError(
                f'LPIPS needs pictures of at least {MIN_SIZE} px, these have '
                f'{resolution}; --loss=pyramid works'
            )
        patience = {'timeout': 10.0, 'pause': 0.1} if loss == 'auto' else {}
        lpips = LPIPS(vgg_weights(weights, **patience)).to(device)
    except UserError as error:
        if loss == 'lpips' or weights is not None:
            raise
        log.warning(
            'warning: no LPIPS, so the loss is multi-scale L2, which follows pixels more '
            'than looks (--lpips-weights takes %s, '
            '--loss=pyramid silences this): %s',
            VGG_FILE,
            error,
        )
        return 'pyramid', pyramid
    return 'lpips', perceptual(lpips)
