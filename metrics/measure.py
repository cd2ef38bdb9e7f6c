"""From the features of two sets to a metric's numbers."""

from .detectors import Detector
from .features import Features
from .fid import frechet_distance
from .inception_score import inception_score
from .kid import kernel_distance
from .metric import Metric
from .nearest import nearest_ratio
from .precision_recall import precision_recall


def needs_features(metric: Metric) -> bool:
    """Whether a mean and a covariance are not enough."""
    return metric.kind != 'fid'


def needs_reals(metric: Metric) -> bool:
    """Whether there is another set to compare with."""
    return metric.kind not in ('is', 'ppl')


def measure(
    metric: Metric, detector: Detector, real: Features | None, fake: Features
) -> dict[str, float]:
    """A metric's results.

    Args:
        real: None where the metric needs none. With `values` where `needs_features`, as `fake`.

    Returns:
        NAME for distances, NAME_std for their spread; NAME_precision and NAME_recall; NAME_mean and
        NAME_std of the inception score; NAME_ratio and NAME_close of `nearest_ratio`.

    Raises:
        UserError: a set is too small, or the detector can't do it.
    """
    name = metric.name
    if metric.kind == 'is':
        assert fake.values is not None
        mean, std = inception_score(detector.logits(fake.values))
        return {f'{name}_mean': mean, f'{name}_std': std}
    assert real is not None
    if metric.kind == 'fid':
        return {name: frechet_distance(real.stats, fake.stats)}
    assert real.values is not None and fake.values is not None
    x, y = real.values.to(detector.device), fake.values.to(detector.device)
    if metric.kind == 'kid':
        mean, std = kernel_distance(x, y)
        return {name: mean, f'{name}_std': std}
    if metric.kind == 'pr':
        precision, recall = precision_recall(x, y)
        return {f'{name}_precision': precision, f'{name}_recall': recall}
    ratio, close = nearest_ratio(x, y)
    return {f'{name}_ratio': ratio, f'{name}_close': close}
