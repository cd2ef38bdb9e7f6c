"""Perceptual path length: how evenly pictures change along a path between latents."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from dnnlib import UserError, cli
from torch_utils.lpips import LPIPS, MIN_SIZE, squared_distance, vgg_weights

from .kind import Kind

EPSILON = 1e-4  # between the two pictures of a pair, as a part of the path
_OUTLIERS = 1, 99  # percentiles; pairs beyond are left out

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]
DrawPairs = Callable[..., Pairs]
# a metric's name and its number of pairs, None for the default, to the path length and the number
PathLengthFn = Callable[[str, int | None], tuple[float, int]]


class PerceptualPathLength(Kind):
    """Perceptual path length. The generator's side computes it: see `path_length_metric`."""

    key = 'ppl'
    names = ('ppl2_wend', 'ppl_zfull', 'ppl_wfull', 'ppl_zend', 'ppl_wend')
    needs = 'generator'
    needs_reals = False
    results = {'': False}
    detector = ''

    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        return f'Perceptual path length ({name}): {values[""]:.4f}'


@dataclass(frozen=True)
class PathKind:
    """Which of the path lengths.

    Attributes:
        space: `z` or `w`, where paths are straight (in z on the sphere).
        sampling: `full` for anywhere on a path, `end` for its beginning.
        crop: only the part of a picture where FFHQ has the face.
    """

    space: Literal['z', 'w']
    sampling: Literal['full', 'end']
    crop: bool


PATH_KINDS = {
    'ppl': PathKind('w', 'end', crop=False),
    'ppl2_wend': PathKind('w', 'end', crop=False),
    'ppl_zfull': PathKind('z', 'full', crop=True),
    'ppl_wfull': PathKind('w', 'full', crop=True),
    'ppl_zend': PathKind('z', 'end', crop=True),
    'ppl_wend': PathKind('w', 'end', crop=True),
}


def perceptual_path_length(
    pairs: Pairs,
    embed: Callable[[torch.Tensor], torch.Tensor],
    *,
    crop: bool = False,
    epsilon: float = EPSILON,
) -> float:
    """The mean of d(a, b) / epsilon², without the lowest and the highest percent.

    Papers: Karras et al. 2019, "A Style-Based Generator Architecture for Generative Adversarial
    Networks", section 4.1; Karras et al. 2020, "Analyzing and Improving the Image Quality of
    StyleGAN", which takes the ends of paths in w, without cropping.

    Args:
        pairs: batches of pictures that are `epsilon` apart on their paths, float32 `[N, C, H, W]`,
            about −1…1.
        embed: pictures to vectors whose squared Euclidean distance is d.
        crop: see `PathKind`.

    Raises:
        UserError: the pictures are too small for d.
    """
    found = []
    for a, b in pairs:
        if crop:
            eighth = a.shape[2] // 8
            a, b = (x[:, :, 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth] for x in (a, b))
        if a.shape[2] < MIN_SIZE:
            raise UserError(
                f'path lengths need pictures of at least {MIN_SIZE} pixels, these have '
                f'{a.shape[2]}'
                f'{" after cropping; ppl2_wend does not crop" if crop else ""}'
            )
        found.append(squared_distance(embed(a), embed(b)).cpu().double() / epsilon**2)
    distances = torch.cat(found).numpy()
    low, high = (
        np.percentile(distances, _OUTLIERS[0], method='lower'),
        np.percentile(distances, _OUTLIERS[1], method='higher'),
    )
    return float(distances[(distances >= low) & (distances <= high)].mean())


def path_length_metric(
    draw: DrawPairs,
    *,
    device: torch.device,
    weights_path: str | os.PathLike[str] | None = None,
    num: int | None = None,
    default_num: int = 50000,
    show: bool = False,
) -> PathLengthFn:
    """Make the function that measures the path lengths of one generator.

    Args:
        draw: `draw(num, space=, sampling=, epsilon=)` to pairs; see `perceptual_path_length`.
        device: where LPIPS computes.
        weights_path: of its VGG-16; see `vgg_weights`.
        num: pairs; None for what the metric says, else `default_num`.
        show: a progress bar.
    """

    def path_length(name: str, num_pairs: int | None) -> tuple[float, int]:
        kind = PATH_KINDS[name]
        total = num or num_pairs or default_num
        net = LPIPS(vgg_weights(weights_path)).to(device)
        bar: tqdm[None] = cli.progress((), total=total, desc=name, unit='pair', disable=not show)
        with bar, torch.no_grad():

            def counted() -> Pairs:
                for a, b in draw(total, space=kind.space, sampling=kind.sampling, epsilon=EPSILON):
                    yield a, b
                    bar.update(len(a))

            return perceptual_path_length(counted(), net, crop=kind.crop), total

    return path_length
