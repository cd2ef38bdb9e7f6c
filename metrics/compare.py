"""Sets of pictures, however they are given, and any number of metrics between them, with each
picture drawn and embedded once.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from dnnlib import UserError, cli

from .detectors import Detector
from .feature_cache import cached_features, check_fits, load_statistics, save_statistics
from .features import FeatureCollector, Features
from .fid import FRECHET_NAMES, bias_warning
from .image_set import PictureSet
from .inception_score import few_warning
from .measure import measure, needs_features, needs_reals
from .metric import Metric
from .nearest import NearestPairs

Sampler = Callable[[int], Iterator[torch.Tensor]]

_warn = logging.getLogger(__name__).warning


class Pictures(Protocol):
    """Something that yields pictures: a `PictureSet`, or `Drawn`."""

    def __len__(self) -> int: ...

    def numbered_batches(
        self, batch_size: int = 32
    ) -> Iterator[tuple[list[int], torch.Tensor]]: ...


class Drawn:
    """Generated pictures.

    Args:
        sample: a number to so many pictures, in batches of uint8 `[N, C, H, W]`, 0…255, C of 1 or
            3.
        num: how many.
    """

    def __init__(self, sample: Sampler, num: int) -> None:
        self._sample, self._num = sample, num

    def __len__(self) -> int:
        return self._num

    def numbered_batches(self, batch_size: int = 32) -> Iterator[tuple[list[int], torch.Tensor]]:
        """The batches with their pictures' places; of the size that the sampler likes."""
        start = 0
        for batch in self._sample(self._num):
            yield list(range(start, start + len(batch))), batch
            start += len(batch)


@dataclass(frozen=True)
class Source:
    """One side of a comparison.

    Attributes:
        label: what people call it, such as a path.
        open: its pictures as a metric wants them (how many of the reals, whether mirrored, how many
            fakes). What it gives for two metrics is the same where it has the same length.
        saved: instead of pictures, what `load_statistics` has read.
        path_length: a metric of the kind `ppl` to its value and the number of pairs, where there is
            a generator.
        path: the folder or zip that the pictures are from.
        classes: which ones a generator draws, for reports.
    """

    label: str
    open: Callable[[Metric], Pictures] | None = None
    saved: tuple[Features, Mapping[str, Any]] | None = None
    path_length: Callable[[Metric], tuple[float, int]] | None = None
    path: Path | None = None
    classes: str | int | None = None


@dataclass
class Result:
    """What came of a comparison.

    Attributes:
        values: see `measure`.
        nums: metric to the numbers of real and fake pictures; None where there are none, or nobody
            knows.
        detectors: those that were used.
        real: its pictures, where it has some.
        facts: what is known of how the sides (`real` and `fake`) were made: `resize_filter` and
            `content_sha256` of `dataset.json`.
        pairs: see `NearestPairs`.
    """

    values: dict[str, float] = field(default_factory=dict)
    nums: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    detectors: dict[str, Detector] = field(default_factory=dict)
    real: Pictures | None = None
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: list[tuple[float, torch.Tensor, int]] = field(default_factory=list)


def open_files(
    path: Path,
    *,
    is_real: bool,
    num: int | None = None,
    seed: int = 0,
    mirror: bool = False,
    class_idx: int | None = None,
    drops_alpha: bool = False,
) -> Source | None:
    """A folder, zip or file of statistics as a source; None for a path to something else, which may
    be a snapshot.

    Args:
        is_real: `mirror`, `class_idx` and a metric's number of real pictures are for this side
            only.
        num, seed, mirror, class_idx, drops_alpha: see `PictureSet`; names with `_full` never
            mirror.

    Raises:
        UserError: there is nothing at `path`, or it can't be used.
    """
    if path.suffix.lower() == '.npz':
        return Source(str(path), saved=load_statistics(path))
    if path.exists() and not path.is_dir() and path.suffix.lower() != '.zip':
        return None
    options: dict[str, Any] = {'num': num, 'seed': seed, 'drops_alpha': drops_alpha}
    if is_real:
        options['class_idx'] = class_idx
    PictureSet(path, **options)  # what is wrong with it is told at once

    def read(metric: Metric) -> PictureSet:
        return PictureSet(
            path,
            **options,
            mirror=is_real and mirror and not metric.full,
            limit=metric.num_real if is_real else None,
        )

    return Source(str(path), read, path=path)


def refuse_idle_options(
    real: Source | None,
    fakes: Iterable[Source],
    mirror: bool,
    class_idx: int | None,
    truncation_psi: float,
) -> None:
    """Refuse options that none of the sides heeds, since the result would say that it is of
    mirrored pictures, or of one class.

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


class Comparison:
    """One set of real pictures against one fake set after another.

    Args:
        real: their real side; may be None where no metric needs it.
        metrics: what to compute.
        detector: a name to the detector; called when it is needed, and only once.
        batch_size: pictures at a time, where a set of files is read.
        cache: whether the real side's features may come from the cache, and go there.
        show: progress bars.
        log: takes one line about sets that make a comparison doubtful.
    """

    def __init__(
        self,
        real: Source | None,
        metrics: Sequence[Metric],
        detector: Callable[[str], Detector],
        *,
        batch_size: int = 32,
        cache: bool = True,
        show: bool = False,
        log: Callable[[str], None] = _warn,
    ) -> None:
        self._real, self._metrics, self._detector = real, metrics, detector
        self._batch_size, self._cache, self._show, self._log = batch_size, cache, show, log
        self._of_real: dict[Any, Features] = {}
        self._real_pictures: dict[str, Pictures] | None = None
        self._nums: dict[str, int | None] = {}
        self._told: set[str] = set()

    def run(self, fake: Source, pairs: int = 0) -> Result:
        """All metrics of a fake set.

        Args:
            fake: the set.
            pairs: how many of the fakes that are nearest to a real picture to keep, for a metric of
                the kind `nearest`.

        Raises:
            UserError: a side can't be read, is too small, or doesn't fit; or weights can't be had.
        """
        for metric in self._metrics:
            if metric.kind == 'ppl' and fake.path_length is None:
                raise UserError(
                    f"{fake.label}: path lengths are a generator's; {metric.name} needs a snapshot"
                )
        for label, shows in (
            (self._real and self._real.label, self._real and self._real.path),
            (fake.label, fake.open),
        ):
            if pairs and shows is None:
                raise UserError(f'--nearest: {label} has no pictures to show; give a folder or zip')
        result = Result()
        opened = _open(fake, [metric for metric in self._metrics if metric.kind != 'ppl'])
        for group in _groups(
            self._metrics,
            lambda metric: metric if metric.kind == 'ppl' else len(opened.get(metric.name, ())),
        ):
            if group[0].kind == 'ppl':
                assert fake.path_length is not None
                result.values[group[0].name], num = fake.path_length(group[0])
                result.nums[group[0].name] = None, num
            else:
                self._run_group(
                    fake, opened.get(group[0].name), group, 0 if result.pairs else pairs, result
                )
        return result

    def save_real(self, path: Path) -> None:
        """Write the real side's statistics, as the first metric that has one sees them.

        Raises:
            UserError: no metric has one, or it can't be read or written.
        """
        metric = next((metric for metric in self._metrics if needs_reals(metric)), None)
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
        features, pictures = self._real_side(metric)
        save_statistics(
            path, features, self._detector(metric.detector), _facts(self._real, pictures)
        )

    def _run_group(
        self,
        fake: Source,
        pictures: Pictures | None,
        group: Sequence[Metric],
        pairs: int,
        result: Result,
    ) -> None:
        """Metrics that want the same fakes."""
        # first, for they may be wrong
        reals = {metric.name: self._real_side(metric) for metric in group if needs_reals(metric)}
        nearest = None
        chosen = next((metric for metric in group if metric.kind == 'nearest'), None)
        if pairs and chosen is not None:
            values = reals[chosen.name][0].values
            assert values is not None
            nearest = (
                chosen.detector,
                NearestPairs(values.to(self._detector(chosen.detector).device), pairs),
            )
        features = self._embed_fakes(fake, pictures, group, nearest)
        for metric in group:
            detector = self._detector(metric.detector)
            real, real_pictures = reals.get(metric.name, (None, None))
            dims = {
                len(side.stats.mean)
                for side in (real, features[metric.detector])
                if side is not None
            }
            if len(dims) > 1:
                raise UserError(
                    f'{fake.label}: features of {" and ".join(map(str, sorted(dims)))} '
                    f'dimensions cannot be compared; '
                    'which detector are the saved statistics from?'
                )
            result.values.update(measure(metric, detector, real, features[metric.detector]))
            result.nums[metric.name] = (
                real.stats.num if real else None,
                features[metric.detector].stats.num,
            )
            result.detectors[metric.detector] = detector
            result.real = real_pictures or result.real
            result.facts['fake'] = _facts(fake, pictures)
            if metric.kind == 'is':
                self._say(few_warning(features[metric.detector].stats.num))
            if real is not None:
                result.facts['real'] = _facts(self._real, real_pictures)
                self._warn_of(
                    fake.label, metric, real, features[metric.detector], real_pictures, pictures
                )
                self._warn_of_filters(
                    fake.label,
                    *(result.facts[side].get('resize_filter') for side in ('real', 'fake')),
                )
        if nearest is not None:
            result.real, result.pairs = reals[chosen.name][1] if chosen else None, nearest[1].pairs

    def _real_side(self, metric: Metric) -> tuple[Features, Pictures | None]:
        if self._real is None:
            raise UserError(f'{metric.name} needs real pictures to compare with: give --real')
        wanted = [other for other in self._metrics if needs_reals(other)]
        if self._real_pictures is None:
            self._real_pictures = _open(self._real, wanted)
        pictures = self._real_pictures.get(metric.name)
        key = metric.detector, pictures
        if key not in self._of_real:
            keep = any(
                needs_features(other)
                for other in wanted
                if (other.detector, self._real_pictures.get(other.name)) == key
            )
            self._of_real[key] = self._real_features(
                self._real, pictures, self._detector(metric.detector), keep
            )
        return self._of_real[key], pictures

    def _real_features(
        self, real: Source, pictures: Pictures | None, detector: Detector, keep: bool
    ) -> Features:
        if pictures is None:
            return self._from_file(real, detector, keep)

        def compute() -> Features:
            return self._embed(pictures, 'real', {detector.name: (detector, keep)})[detector.name]

        if self._cache and isinstance(pictures, PictureSet):
            return cached_features(pictures, detector, keep, compute)
        return compute()

    def _embed_fakes(
        self,
        fake: Source,
        pictures: Pictures | None,
        group: Sequence[Metric],
        nearest: tuple[str, NearestPairs] | None,
    ) -> dict[str, Features]:
        wanted: dict[str, tuple[Detector, bool]] = {}
        for metric in group:
            keep = needs_features(metric) or wanted.get(metric.detector, (None, False))[1]
            wanted[metric.detector] = self._detector(metric.detector), keep
        if pictures is None:
            return {
                name: self._from_file(fake, detector, keep)
                for name, (detector, keep) in wanted.items()
            }
        return self._embed(pictures, 'fake', wanted, nearest)

    def _embed(
        self,
        pictures: Pictures,
        desc: str,
        wanted: Mapping[str, tuple[Detector, bool]],
        nearest: tuple[str, NearestPairs] | None = None,
    ) -> dict[str, Features]:
        collectors = {
            name: FeatureCollector(detector, keep=keep, ddof=detector.protocol.ddof)
            for name, (detector, keep) in wanted.items()
        }
        bar: tqdm[None] = cli.progress(
            (), total=len(pictures), desc=desc, unit='img', disable=not self._show
        )
        with bar:
            for indices, batch in pictures.numbered_batches(self._batch_size):
                for name, collector in collectors.items():
                    features = collector.append(batch, indices)
                    if nearest is not None and nearest[0] == name:
                        nearest[1].append(batch, features)
                bar.update(len(batch))
        return {name: collector.result() for name, collector in collectors.items()}

    def _from_file(self, source: Source, detector: Detector, keep: bool) -> Features:
        assert source.saved is not None
        features, about = source.saved
        self._say(check_fits(source.label, features, about, detector, keep))
        return features

    def _warn_of(
        self,
        label: str,
        metric: Metric,
        real: Features,
        fake: Features,
        real_pictures: Pictures | None,
        fake_pictures: Pictures | None,
    ) -> None:
        nums = [num for num in (real.stats.num, fake.stats.num) if num is not None]
        if metric.kind == 'fid' and nums:
            self._say(bias_warning(FRECHET_NAMES[metric.detector], *nums))
            if fake.stats.num not in (None, self._nums.setdefault(metric.name, fake.stats.num)):
                self._say(
                    'warning: the fake sets have different numbers of pictures, which alone '
                    'moves the distance; '
                    '--num makes them equal'
                )
        if np.array_equal(real.stats.mean, fake.stats.mean) and np.array_equal(
            real.stats.cov, fake.stats.cov
        ):
            self._say(f'warning: {label}: both sides are the same pictures')
        if real.sizes and fake.sizes and real.sizes != fake.sizes:
            self._say(
                f'warning: {label}: real pictures have {_sizes(real)} pixels, fake ones '
                f'{_sizes(fake)}; '
                'resizing them alone moves every metric'
            )
        sets = [
            pictures
            for pictures in (real_pictures, fake_pictures)
            if isinstance(pictures, PictureSet)
        ]
        if len(sets) == 2 and sets[0].lossy is not sets[1].lossy:
            kind = {
                True: 'JPEG or the like',
                False: 'PNG or the like',
                None: 'a mixture of JPEG and PNG',
            }
            self._say(
                f'warning: {label}: real pictures are {kind[sets[0].lossy]}, fake ones '
                f'{kind[sets[1].lossy]}; '
                'compression alone moves every metric'
            )

    def _warn_of_filters(self, label: str, real: str | None, fake: str | None) -> None:
        if None not in (real, fake) and real != fake:
            self._say(
                f'warning: {label}: real pictures were made with the resize filter {real}, '
                f'fake ones with {fake}; '
                'that alone moves FID by a point or more'
            )

    def _say(self, message: str | None) -> None:
        if message is not None and message not in self._told:
            self._told.add(message)
            self._log(message)


def _open(source: Source, metrics: Sequence[Metric]) -> dict[str, Pictures]:
    """Metrics' names to their pictures, the same object where they want the same; empty where there
    are only statistics.
    """
    by_size: dict[int, Pictures] = {}
    found = {}
    for metric in metrics if source.open is not None else ():
        assert source.open is not None
        pictures = source.open(metric)
        found[metric.name] = by_size.setdefault(len(pictures), pictures)
    return found


def _facts(source: Source | None, pictures: Pictures | None) -> dict[str, Any]:
    """What `dataset.json`, or a file of statistics that was made from it, says of how a set was
    made.
    """
    info = (
        pictures.info
        if isinstance(pictures, PictureSet)
        else source.saved[1]
        if source is not None and source.saved is not None
        else {}
    )
    return {key: info[key] for key in ('resize_filter', 'content_sha256') if key in info}


def _groups(metrics: Sequence[Metric], key: Callable[[Metric], Any]) -> list[list[Metric]]:
    groups: dict[Any, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(key(metric), []).append(metric)
    return list(groups.values())


def _sizes(features: Features) -> str:
    sizes = sorted(features.sizes)
    return (
        f'{len(sizes)} sizes of' if len(sizes) > 2 else ' and '.join(f'{w}x{h}' for h, w in sizes)
    )
