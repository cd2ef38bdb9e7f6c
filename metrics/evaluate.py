"""Evaluate generators during training: reals from a folder or zip, fakes from a function."""

import functools
import logging
import os
from collections.abc import Callable, Sequence

import torch

from .compare import Comparison, Drawn, Sampler, Source
from .detectors import Detector, load_detector
from .image_set import PictureSet
from .metric import Metric, validate_metrics

PathLength = Callable[[Metric], tuple[float, int]]
Evaluator = Callable[..., dict[str, float]]

_warn = logging.getLogger(__name__).warning


def make_evaluator(
    names: Sequence[str],
    data_path: str | os.PathLike[str],
    *,
    device: torch.device,
    weights_path: str | os.PathLike[str] | None = None,
    mirror: bool = False,
    batch_size: int = 32,
    log: Callable[[str], None] = _warn,
) -> Evaluator:
    """Prepare to evaluate one generator after another against one set of real pictures.

    Names are checked here. Weights are fetched, and the real pictures read, on the first evaluation
    and then kept; if that fails, the next evaluation tries again.

    Args:
        names: see `metric_names`.
        data_path: folder or zip with the real pictures; all are used, as they are stored, unless a
            name says less.
        device: where the detector computes.
        weights_path: of Inception; see `load_detector`.
        mirror: the training mirrors its pictures; then names without `_full` do, too.
        batch_size: for the real pictures.
        log: takes one line about downloads, unknown weights, and sets that are too small.

    Returns:
        `evaluate(sample, path_length=None) -> {name: value}`, where `sample(num)` yields `num`
        generated pictures as batches of uint8 `[N, C, H, W]`, 0…255, C of 1 or 3, and `path_length`
        is what `path_length_metric` makes. It raises UserError where weights or pictures can't be
        had: a training run should report that and go on.

    Raises:
        UserError: a name is unknown.
    """
    metrics = validate_metrics(names)

    @functools.cache  # exceptions are not cached
    def detector(name: str) -> Detector:
        return load_detector(
            name, device=device, weights_path=weights_path if name == 'inception' else None, log=log
        )

    def reals(metric: Metric) -> PictureSet:
        return PictureSet(data_path, mirror=mirror and not metric.full, limit=metric.num_real)

    comparison = Comparison(
        Source(str(data_path), reals), metrics, detector, batch_size=batch_size, log=log
    )

    def evaluate(sample: Sampler, path_length: PathLength | None = None) -> dict[str, float]:
        def fakes(metric: Metric) -> Drawn:
            assert metric.num_fake is not None
            return Drawn(sample, metric.num_fake)

        return comparison.run(Source('the generator', fakes, path_length=path_length)).values

    return evaluate
