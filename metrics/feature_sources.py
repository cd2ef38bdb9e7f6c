"""Where features come from: pictures in a folder or zip, a generator, or saved statistics.

A source gives any number of metrics what they need; each picture is drawn and embedded once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from dnnlib import cli

from .detectors import Detector
from .feature_cache import cached_features, check_fits, load_statistics
from .features import FeatureCollector, Features
from .image_set import PictureSet
from .metric import Metric
from .ppl import PathLengthFn

NUM_GENERATED = 50000  # as in fid50k_full

# a number to that many pictures, in batches of uint8 [N, C, H, W], 0…255, C of 1 or 3
Sampler = Callable[[int], Iterator[torch.Tensor]]
# takes each batch of pictures and its features
Observer = Callable[[torch.Tensor, torch.Tensor], None]


class Pictures(Protocol):
    """Pictures in numbered batches: a `PictureSet`, or `GeneratedPictures`."""

    def __len__(self) -> int: ...

    def numbered_batches(
        self, batch_size: int = 32
    ) -> Iterator[tuple[list[int], torch.Tensor]]: ...


class GeneratedPictures:
    """The first `num` pictures of a sampler."""

    def __init__(self, sample: Sampler, num: int) -> None:
        self._sample = sample
        self._num = num

    def __len__(self) -> int:
        return self._num

    def numbered_batches(self, batch_size: int = 32) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield the pictures' places and the pictures; the sampler chooses the batch size."""
        start = 0
        for batch in self._sample(self._num):
            yield list(range(start, start + len(batch))), batch
            start += len(batch)


@dataclass(frozen=True)
class EmbeddedSet:
    """One set as one metric sees it.

    Attributes:
        features: of its pictures.
        pictures: None where there are only statistics.
        facts: how the set was made, where that is known: `resize_filter` and `content_sha256` of
            `dataset.json`.
    """

    features: Features
    pictures: Pictures | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Embedder:
    """How pictures become features.

    Attributes:
        detector: a name to the detector.
        warn: takes a warning, or None.
        batch_size: pictures at a time, where a set of files is read.
        cache: whether features of files may come from the cache, and go there.
        progress: title of a progress bar; None for no bar.
    """

    detector: Callable[[str], Detector]
    warn: Callable[[str | None], None]
    batch_size: int = 32
    cache: bool = False
    progress: str | None = None

    def embed(
        self, pictures: Pictures, keep: Mapping[str, bool], observers: Mapping[str, Observer]
    ) -> dict[str, Features]:
        """Compute the features of a set by one or several detectors.

        Args:
            keep: name of each detector to whether the features themselves are needed.
            observers: name of a detector to what takes its features; only without `cache`.
        """
        if not (self.cache and isinstance(pictures, PictureSet)):
            return self._read_once(pictures, keep, observers)

        def cached(files: PictureSet, name: str) -> Features:
            def compute() -> Features:
                return self._read_once(files, {name: keep[name]}, {})[name]

            return cached_features(files, self.detector(name), keep[name], compute)

        return {name: cached(pictures, name) for name in keep}

    def _read_once(
        self, pictures: Pictures, keep: Mapping[str, bool], observers: Mapping[str, Observer]
    ) -> dict[str, Features]:
        collectors = {}
        for name in keep:
            detector = self.detector(name)
            collectors[name] = FeatureCollector(
                detector, keep=keep[name], ddof=detector.protocol.ddof
            )
        bar: tqdm[None] = cli.progress(
            (),
            total=len(pictures),
            desc=self.progress or '',
            unit='img',
            disable=self.progress is None,
        )
        with bar:
            for indices, batch in pictures.numbered_batches(self.batch_size):
                for name, collector in collectors.items():
                    features = collector.append(batch, indices)
                    if name in observers:
                        observers[name](batch, features)
                bar.update(len(batch))
        return {name: collector.result() for name, collector in collectors.items()}


class FeatureSource(ABC):
    """One side of a comparison.

    Attributes:
        label: what people call it, such as a path.
        path: the folder or zip that its pictures are from.
        classes: which classes a generator draws, for reports.
        path_length: measures path lengths, where there is a generator.
        has_pictures: whether there is more than statistics.
    """

    label: str
    path: Path | None = None
    classes: str | int | None = None
    path_length: PathLengthFn | None = None
    has_pictures = True

    @abstractmethod
    def embed(
        self,
        metrics: Sequence[Metric],
        embedder: Embedder,
        observers: Mapping[Metric, Observer] | None = None,
    ) -> dict[Metric, EmbeddedSet]:
        """Return the set as each of the metrics sees it.

        Args:
            observers: take the batches of a metric's pictures, and their features.

        Raises:
            UserError: it can't be read, is too small or doesn't fit, or weights can't be had.
        """


class EmbeddingSource(FeatureSource):
    """Base class of the sources whose pictures are embedded."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._opened: dict[int, Pictures] = {}

    @abstractmethod
    def open(self, metric: Metric) -> Pictures:
        """Open the pictures that a metric wants. Sets of equal length must be equal."""

    def embed(
        self,
        metrics: Sequence[Metric],
        embedder: Embedder,
        observers: Mapping[Metric, Observer] | None = None,
    ) -> dict[Metric, EmbeddedSet]:
        """See `FeatureSource.embed`."""
        groups: dict[int, list[Metric]] = {}
        for metric in metrics:
            pictures = self.open(metric)
            self._opened.setdefault(len(pictures), pictures)
            groups.setdefault(len(pictures), []).append(metric)
        found = {}
        for length, group in groups.items():
            pictures = self._opened[length]
            watching = {
                metric.detector: observer
                for metric, observer in (observers or {}).items()
                if metric in group
            }
            features = embedder.embed(pictures, detectors_of(group), watching)
            facts = _facts(pictures.info) if isinstance(pictures, PictureSet) else {}
            for metric in group:
                found[metric] = EmbeddedSet(features[metric.detector], pictures, facts)
        return found


class FileSource(EmbeddingSource):
    """Pictures of a folder or zip.

    Args:
        is_real: `mirror` and a metric's number of real pictures are for this side only; names with
            `_full` never mirror.
        options: of `PictureSet`.
    """

    path: Path

    def __init__(self, path: Path, *, is_real: bool, mirror: bool = False, **options: Any) -> None:
        super().__init__(str(path))
        self.path = path
        self._is_real = is_real
        self._mirror = mirror and is_real
        self._options = options

    def open(self, metric: Metric) -> PictureSet:
        """See `EmbeddingSource.open`."""
        return PictureSet(
            self.path,
            **self._options,
            mirror=self._mirror and not metric.full,
            limit=metric.num_real if self._is_real else None,
        )


class GeneratorSource(EmbeddingSource):
    """Pictures that a generator draws.

    Args:
        sample: see `Sampler`.
        num: how many; None for what a metric says, else `NUM_GENERATED`.
        path_length: see `metrics.ppl.path_length_metric`.
        classes: which ones it draws, for reports.
    """

    def __init__(
        self,
        label: str,
        sample: Sampler,
        *,
        num: int | None = None,
        path_length: PathLengthFn | None = None,
        classes: str | int | None = None,
    ) -> None:
        super().__init__(label)
        self.path_length = path_length
        self.classes = classes
        self._sample = sample
        self._num = num

    def open(self, metric: Metric) -> GeneratedPictures:
        """See `EmbeddingSource.open`."""
        return GeneratedPictures(self._sample, self._num or metric.num_fake or NUM_GENERATED)


class StatisticsSource(FeatureSource):
    """A file that `save_statistics` or another program has written.

    Raises:
        UserError: it can't be read, or holds something else.
    """

    has_pictures = False

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._features, self._about = load_statistics(path)

    def embed(
        self,
        metrics: Sequence[Metric],
        embedder: Embedder,
        observers: Mapping[Metric, Observer] | None = None,
    ) -> dict[Metric, EmbeddedSet]:
        """See `FeatureSource.embed`."""
        for name, keep in detectors_of(metrics).items():
            detector = embedder.detector(name)
            embedder.warn(check_fits(self.label, self._features, self._about, detector, keep))
        return dict.fromkeys(metrics, EmbeddedSet(self._features, None, _facts(self._about)))


def open_files(
    path: Path,
    *,
    is_real: bool,
    mirror: bool = False,
    class_idx: int | None = None,
    **options: Any,
) -> FeatureSource | None:
    """Open a folder, zip or file of statistics; None for something else, maybe a snapshot.

    Args:
        is_real, mirror: see `FileSource`.
        class_idx: only this class; for the real side only.
        options: `num`, `seed` and `drops_alpha` of `PictureSet`.

    Raises:
        UserError: there is nothing at `path`, or it can't be used.
    """
    if path.suffix.lower() == '.npz':
        return StatisticsSource(path)
    if path.exists() and not path.is_dir() and path.suffix.lower() != '.zip':
        return None
    if is_real:
        options['class_idx'] = class_idx
    PictureSet(path, **options)  # raises now what would be raised after minutes
    return FileSource(path, is_real=is_real, mirror=mirror, **options)


def detectors_of(metrics: Iterable[Metric]) -> dict[str, bool]:
    """Return the detectors of metrics, and whether one of the metrics needs the features."""
    keep: dict[str, bool] = {}
    for metric in metrics:
        needs = metric.kind.needs == 'features'
        keep[metric.detector] = needs or keep.get(metric.detector, False)
    return keep


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in ('resize_filter', 'content_sha256') if key in info}
