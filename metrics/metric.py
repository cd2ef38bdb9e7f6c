"""Names of metrics: short ones, such as `fid`, and NVIDIA's, such as `fid50k_full`.

To add a metric, write a file with its computation and its subclass of `Kind` (`kind.py` says what
that needs; `kid.py` is a short example), and list it in `KINDS` below. calc_fid.py, train.py, the
reports and the ranking of snapshots find it there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dnnlib import UserError

from .fid import FID
from .inception_score import InceptionScore
from .kid import KID
from .kind import Kind
from .nearest import Nearest
from .ppl import PerceptualPathLength
from .precision_recall import PrecisionRecall

KINDS: dict[str, Kind] = {
    kind.key: kind
    for kind in (
        FID(),
        KID(),
        PrecisionRecall(),
        InceptionScore(),
        Nearest(),
        PerceptualPathLength(),
    )
}
# each usual name, its number replaced by a pattern for any number
_PATTERNS = tuple(
    (re.compile(re.sub(r'\d+k', '(?P<num>[1-9][0-9]*?k?)', name), re.ASCII), name, kind)
    for kind in KINDS.values()
    for name in kind.names
)
_NUM_FAKE = 50000  # of names without a number
_MAX_REALS = 50000  # of names without _full


@dataclass(frozen=True)
class Metric:
    """One quantity.

    Attributes:
        name: as given; results begin with it.
        kind: one of `KINDS`.
        detector: one of `metrics.detectors.DETECTOR_NAMES`; empty for path lengths, which have
            LPIPS.
        num_fake: how many generated pictures; None for as many as the caller says.
        num_real: at most so many real pictures, the first; None for all.
        full: real pictures are never mirrored; else they are where the data set is.
    """

    name: str
    kind: Kind
    detector: str
    num_fake: int | None = None
    num_real: int | None = None
    full: bool = False

    @property
    def directions(self) -> dict[str, bool]:
        """The names of its results, spreads left out, and whether more is better; the main result
        comes first.
        """
        return {f'{self.name}{suffix}': more for suffix, more in self.kind.results.items()}

    @property
    def main(self) -> tuple[str, bool]:
        """The name of the result that ranks snapshots, and whether more is better."""
        return next(iter(self.directions.items()))


def metric_names() -> tuple[str, ...]:
    """Return the usual names; any other number may replace theirs (`fid10k_full`)."""
    return tuple(name for _, name, _ in _PATTERNS)


def validate_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Look names up, in the order given; reads no file.

    Raises:
        UserError: a name is unknown; the message lists the known ones.
    """
    return tuple(_parse(name) for name in names)


def parse_names(text: str) -> tuple[str, ...]:
    """Split `fid50k_full,kid50k_full`; `none`, in any case, and an empty text are no metrics.

    Raises:
        UserError: a name is unknown.
    """
    words = split_names(text)
    names = () if words == ('none',) else words
    validate_metrics(names)
    return names


def split_names(text: str) -> tuple[str, ...]:
    """Return the lower-case words between commas or white space, each once."""
    return tuple(dict.fromkeys(word for word in re.split(r'[,\s]+', text.lower()) if word))


def parse_metrics(text: str, detector: str) -> tuple[Metric, ...]:
    """Parse `fid,kid` for a detector; NVIDIA's names may be among them.

    Raises:
        UserError: there is none, or one is unknown.
    """
    words = split_names(text)
    if not words or words == ('none',):
        raise UserError(
            f'--metrics={text}: there are {", ".join(KINDS)}, and {", ".join(metric_names())}'
        )
    if 'is' in words and detector != 'inception':
        raise UserError(
            f'--metrics=is: the inception score needs --detector=inception, not {detector}'
        )
    return tuple(_short(KINDS[word], detector) if word in KINDS else _parse(word) for word in words)


def _short(kind: Kind, detector: str) -> Metric:
    """A short name for a detector; only Inception's distances are called FID and KID."""
    if kind.needs == 'generator':
        return Metric(kind.key, kind, kind.detector)
    if kind.other_key is None or detector == 'inception':
        return Metric(kind.key, kind, detector)
    return Metric(f'{kind.other_key}_{detector.replace("-", "_")}', kind, detector)


def _parse(name: str) -> Metric:
    for pattern, usual, kind in _PATTERNS:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        if kind.needs == 'generator':
            return Metric(name, kind, kind.detector, _NUM_FAKE)
        digits = match['num']
        num = int(digits.removesuffix('k')) * (1000 if digits.endswith('k') else 1)
        full = kind.full_only or usual.endswith('_full')
        if num > 1:
            return Metric(
                name,
                kind,
                'random-vgg' if 'random_vgg' in usual else kind.detector,
                num,
                kind.max_reals if full else _MAX_REALS,
                full,
            )
    raise UserError(
        f'--metrics={name}: there is no such metric; there are '
        f'{", ".join(metric_names())}, '
        'and the same with other numbers of pictures'
    )
