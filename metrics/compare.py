"""Compare one set of real pictures with one fake set after another, by any number of metrics."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib import UserError

from .detectors import Detector, detector_loader
from .feature_cache import save_statistics
from .feature_sources import (
    EmbeddedSet,
    Embedder,
    FeatureSource,
    FileSource,
    GeneratorSource,
    Sampler,
)
from .features import Features
from .image_set import PictureSet
from .metric import Metric, validate_metrics
from .nearest import NearestPairs
from .ppl import PathLengthFn

Evaluator = Callable[..., dict[str, float]]

_warn = logging.getLogger(__name__).warning


@dataclass
class Result:
    """The results of a comparison.

    Attributes:
        values: name of each result to its value. A metric NAME gives NAME, or NAME_precision and
            the like: see `Kind.results`; its spread is NAME_std.
        nums: metric to the numbers of real and fake pictures; None where there are none, or the
            number is unknown.
        detectors: those that were used.
        facts: of the sides, `real` and `fake`: see `EmbeddedSet`.
        pairs: see `NearestPairs`.
        pairs_of: the real pictures that `pairs` refers to.
    """

    values: dict[str, float] = field(default_factory=dict)
    nums: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    detectors: dict[str, Detector] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: list[tuple[float, torch.Tensor, int]] = field(default_factory=list)
    pairs_of: PictureSet | None = None


class Comparison:
    """One set of real pictures against one fake set after another.

    The reals are embedded when a metric first needs them, and kept.

    Args:
        real: their source; may be None where no metric needs it.
        metrics: what to compute.
        detector: a name to the detector.
        batch_size: pictures at a time, where a set of files is read.
        cache: whether the real side's features may come from the cache, and go there.
        show: progress bars.
        log: takes one line about sets that make a comparison doubtful.
    """

    def __init__(
        self,
        real: FeatureSource | None,
        metrics: Sequence[Metric],
        detector: Callable[[str], Detector],
        *,
        batch_size: int = 32,
        cache: bool = True,
        show: bool = False,
        log: Callable[[str], None] = _warn,
    ) -> None:
        self._source = real
        self._metrics = metrics
        self._detector = detector
        self._log = log
        self._logged: set[str] = set()
        self._reals: dict[Metric, EmbeddedSet] = {}
        self._num_fakes: dict[Metric, int | None] = {}
        self._embedder = Embedder(
            detector, self._say, batch_size, cache, progress='real' if show else None
        )
        self._fake_embedder = dataclasses.replace(
            self._embedder, cache=False, progress='fake' if show else None
        )

    def run(self, fake: FeatureSource, pairs: int = 0) -> Result:
        """Compute all metrics of a fake set.

        Args:
            fake: its source.
            pairs: how many of the fakes that are nearest to a real picture to keep, for a metric of
                the kind `nearest`.

        Raises:
            UserError: a side can't be read, is too small, or doesn't fit; or weights can't be had.
        """
        self._refuse_misfits(fake, pairs)
        reals = {metric: self._real(metric) for metric in self._metrics if metric.kind.needs_reals}
        nearest = self._nearest_pairs(pairs) if pairs else None
        fakes = fake.embed(
            [metric for metric in self._metrics if metric.kind.needs != 'generator'],
            self._fake_embedder,
            nearest and {nearest[0]: nearest[1].append},
        )
        result = Result()
        for metric in self._metrics:
            if metric.kind.needs == 'generator':
                assert fake.path_length is not None
                value, num = fake.path_length(metric.name, metric.num_fake)
                result.values[metric.name] = value
                result.nums[metric.name] = None, num
            else:
                self._measure(metric, reals.get(metric), fakes[metric], fake.label, result)
        if nearest is not None:
            real_pictures = reals[nearest[0]].pictures
            assert isinstance(real_pictures, PictureSet)
            result.pairs, result.pairs_of = nearest[1].pairs, real_pictures
        return result

    def save_real(self, path: Path) -> None:
        """Write the real side's statistics, as the first metric that needs reals sees them.

        Raises:
            UserError: no metric needs reals, or they can't be read, or `path` not written.
        """
        metric = next((metric for metric in self._metrics if metric.kind.needs_reals), None)
        if metric is None:
            raise UserError(
                f'--save-stats={path}: {self._metrics[0].name} needs no real pictures; '
                f'add a metric that does, such as fid'
            )
        if path.suffix.lower() != '.npz':
            raise UserError(
                f'--save-stats={path}: the name of such a file should end in .npz, by '
                f'which it is known'
            )
        real = self._real(metric)
        save_statistics(path, real.features, self._detector(metric.detector), real.facts)

    def _measure(
        self,
        metric: Metric,
        real: EmbeddedSet | None,
        fake: EmbeddedSet,
        label: str,
        result: Result,
    ) -> None:
        """Add a metric's values to the result, and log what makes them doubtful."""
        detector = self._detector(metric.detector)
        real_features = real.features if real else None
        dims = {len(side.features.stats.mean) for side in (real, fake) if side is not None}
        if len(dims) > 1:
            raise UserError(
                f'{label}: features of {" and ".join(map(str, sorted(dims)))} '
                f'dimensions cannot be compared; '
                'which detector are the saved statistics from?'
            )
        values = metric.kind.compute(real_features, fake.features, detector)
        nums = real_features.stats.num if real_features else None, fake.features.stats.num
        result.values |= {metric.name + suffix: value for suffix, value in values.items()}
        result.nums[metric.name] = nums
        result.detectors[metric.detector] = detector
        result.facts['fake'] = dict(fake.facts)

        known = [num for num in nums if num is not None]
        if known:
            self._say(metric.kind.few_warning(metric.detector, min(known)))
        if metric.kind.biased and nums[1] is not None:
            first = self._num_fakes.setdefault(metric, nums[1])
            if nums[1] != first:
                self._say(
                    'warning: the fake sets have different numbers of pictures, which alone '
                    'moves the distance; --num makes them equal'
                )
        if real is not None:
            result.facts['real'] = dict(real.facts)
            for doubt in doubts(real, fake):
                self._say(f'warning: {label}: {doubt}')

    def _real(self, metric: Metric) -> EmbeddedSet:
        """The real side as a metric sees it, embedded for all metrics of the same detector."""
        if self._source is None:
            raise UserError(f'{metric.name} needs real pictures to compare with: give --real')
        if metric not in self._reals:
            same = [
                other
                for other in self._metrics
                if other.kind.needs_reals and other.detector == metric.detector
            ]
            self._reals |= self._source.embed(same, self._embedder)
        return self._reals[metric]

    def _nearest_pairs(self, pairs: int) -> tuple[Metric, NearestPairs] | None:
        """Prepare to collect pairs of the first metric that wants them."""
        for metric in self._metrics:
            if metric.kind.key == 'nearest':
                values = self._real(metric).features.values
                assert values is not None
                device = self._detector(metric.detector).device
                return metric, NearestPairs(values.to(device), pairs)
        return None

    def _refuse_misfits(self, fake: FeatureSource, pairs: int) -> None:
        """Refuse, before anything is computed, sources that can't give what is asked for."""
        for metric in self._metrics:
            if metric.kind.needs == 'generator' and fake.path_length is None:
                raise UserError(
                    f"{fake.label}: path lengths are a generator's; {metric.name} needs a snapshot"
                )
        if not pairs:
            return
        source = self._source
        if source is None or source.path is None:
            label = None if source is None else source.label
            raise UserError(f'--nearest: {label} has no pictures to show; give a folder or zip')
        if not fake.has_pictures:
            raise UserError(
                f'--nearest: {fake.label} has no pictures to show; give a folder or zip'
            )

    def _say(self, message: str | None) -> None:
        if message is not None and message not in self._logged:
            self._logged.add(message)
            self._log(message)


def doubts(real: EmbeddedSet, fake: EmbeddedSet) -> Iterator[str]:
    """Yield what makes a comparison of two sets doubtful, one line each."""
    a, b = real.features, fake.features
    if np.array_equal(a.stats.mean, b.stats.mean) and np.array_equal(a.stats.cov, b.stats.cov):
        yield 'both sides are the same pictures'
    if a.sizes and b.sizes and a.sizes != b.sizes:
        yield (
            f'real pictures have {_sizes(a)} pixels, fake ones {_sizes(b)}; '
            'resizing them alone moves every metric'
        )
    if isinstance(real.pictures, PictureSet) and isinstance(fake.pictures, PictureSet):
        kind = {
            True: 'JPEG or the like',
            False: 'PNG or the like',
            None: 'a mixture of JPEG and PNG',
        }
        lossy = real.pictures.lossy, fake.pictures.lossy
        if lossy[0] is not lossy[1]:
            yield (
                f'real pictures are {kind[lossy[0]]}, fake ones {kind[lossy[1]]}; '
                'compression alone moves every metric'
            )
    filters = [side.facts.get('resize_filter') for side in (real, fake)]
    if None not in filters and filters[0] != filters[1]:
        yield (
            f'real pictures were made with the resize filter {filters[0]}, fake ones with '
            f'{filters[1]}; that alone moves FID by a point or more'
        )


def _sizes(features: Features) -> str:
    sizes = sorted(features.sizes)
    return (
        f'{len(sizes)} sizes of' if len(sizes) > 2 else ' and '.join(f'{w}x{h}' for h, w in sizes)
    )


def refuse_unused_options(
    real: FeatureSource | None,
    fakes: Iterable[FeatureSource],
    mirror: bool,
    class_idx: int | None,
    truncation_psi: float,
) -> None:
    """Refuse options that no source uses, since the report would repeat them.

    Raises:
        UserError: there is one.
    """
    files = real is not None and real.path is not None
    draws = any(source.path_length is not None for source in (real, *fakes) if source is not None)
    label = 'there' if real is None else real.label
    if mirror and not files:
        raise UserError(
            f'--mirror: {label} is no folder or zip of real pictures that could be '
            f'mirrored; leave the option out'
        )
    if class_idx is not None and not files and not draws:
        raise UserError(
            f'--class={class_idx}: {label} is no folder or zip to choose real pictures '
            f'from, and there is no snapshot; '
            'leave the option out'
        )
    if truncation_psi != 1 and not draws:
        raise UserError(
            f'--trunc={truncation_psi:g}: there is no snapshot to draw pictures; leave '
            f'the option out'
        )


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
    comparison = Comparison(
        FileSource(Path(data_path), is_real=True, mirror=mirror),
        validate_metrics(names),
        detector_loader(device=device, weights={'inception': weights_path}, log=log),
        batch_size=batch_size,
        log=log,
    )

    def evaluate(sample: Sampler, path_length: PathLengthFn | None = None) -> dict[str, float]:
        generator = GeneratorSource('the generator', sample, path_length=path_length)
        return comparison.run(generator).values

    return evaluate
