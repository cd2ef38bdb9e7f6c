"""Metrics by name, for a training loop: real pictures from a folder or zip, fakes from a function."""

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from dnnlib import UserError

from .detectors import Detector, load_detector
from .feature_stats import MeanCov, collect_stats
from .fid import FRECHET_NAMES, bias_warning, frechet_distance
from .pictures import PictureSet

Sampler = Callable[[int], Iterator[torch.Tensor]]
Evaluator = Callable[[Sampler], dict[str, float]]

_warn = logging.getLogger(__name__).warning
_DETECTOR_OF_KEY = {key: detector for detector, (key, _) in FRECHET_NAMES.items()}
_PATTERN = re.compile(rf'({"|".join(_DETECTOR_OF_KEY)})([1-9][0-9]*)(k?)_full')


@dataclass(frozen=True)
class Metric:
    """One Frechet distance: `num_fake` generated pictures against all real ones, never mirrored."""

    name: str
    detector: str
    num_fake: int


def metric_names() -> tuple[str, ...]:
    """The usual names; any other number may stand in place of theirs (`fid10k_full`, `fd_random_vgg500_full`)."""
    return 'fid50k_full', 'fd_random_vgg50k_full', 'fd_random_vgg1k_full'


def validate_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Look names up, in the order given; reads no file.

    Raises:
        UserError: a name is unknown; the message lists what there is.
    """
    return tuple(_parse(name) for name in names)


def make_evaluator(names: Sequence[str], data_path: str | os.PathLike[str], *, device: torch.device,
                   weights_path: str | os.PathLike[str] | None = None, batch_size: int = 32,
                   log: Callable[[str], None] = _warn) -> Evaluator:
    """Prepare to evaluate one generator after another against one set of real pictures.

    Names are checked here. Weights are fetched, and the real pictures read, on the first evaluation and then kept; if that
    fails, the next evaluation tries again.

    Args:
        names: see `metric_names`.
        data_path: folder or zip with the real pictures; all are used, as they are stored, never mirrored.
        device: where the detector computes.
        weights_path: see `load_detector`.
        batch_size: for the real pictures.
        log: takes one line about downloads, unknown weights, and sets that are too small.

    Returns:
        `evaluate(sample) -> {name: value}`, where `sample(num)` yields `num` generated pictures as batches of uint8
        `[N, C, H, W]`, 0…255, C of 1 or 3. It raises UserError where weights or pictures can't be had: a training run
        should report that and go on.

    Raises:
        UserError: a name is unknown.
    """
    metrics = validate_metrics(names)

    @functools.cache  # exceptions are not cached
    def detector(name: str) -> Detector:
        return load_detector(name, device=device, weights_path=weights_path if name == 'inception' else None, log=log)

    @functools.cache
    def real_stats(name: str) -> MeanCov:
        stats = collect_stats(PictureSet(data_path).batches(batch_size), detector(name))
        warning = bias_warning(FRECHET_NAMES[name][1], stats.num)
        if warning:
            log(warning)
        return stats

    def evaluate(sample: Sampler) -> dict[str, float]:
        results = {}
        for metric in metrics:
            real = real_stats(metric.detector)
            fake = collect_stats(sample(metric.num_fake), detector(metric.detector))
            results[metric.name] = frechet_distance(real, fake)
        return results

    return evaluate


def _parse(name: str) -> Metric:
    match = _PATTERN.fullmatch(name)
    if match is None or (match[2] == '1' and not match[3]):
        raise UserError(f'--metrics={name}: there is no such metric; there are {", ".join(metric_names())}, '
                        'and the same with other numbers of pictures')
    return Metric(name, _DETECTOR_OF_KEY[match[1]], int(match[2]) * (1000 if match[3] else 1))
