"""What people write after --metrics: short names, and NVIDIA's, which say how many pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dnnlib import UserError

KINDS = ('fid', 'kid', 'pr', 'is', 'nearest', 'ppl')
# What each kind's results are called, after the metric's name, and whether more is better. The
# first decides which snapshot is best.
_VALUES: dict[str, dict[str, bool]] = {
    'fid': {'': False},
    'kid': {'': False},
    'pr': {'_precision': True, '_recall': True},
    'is': {'_mean': True},
    'nearest': {'_ratio': True, '_close': False},
    'ppl': {'': False},
}
# with another detector than Inception they are other quantities, of other names
_KIND_OF_KEY = {'fd': 'fid', 'kd': 'kid'}

_NUM = r'(?P<num>[1-9][0-9]*?k?)'
_PATTERNS = tuple(
    (re.compile(pattern, re.ASCII), detector)
    for pattern, detector in (
        (rf'(?P<kind>fid|kid){_NUM}(?P<full>_full)?', 'inception'),
        (rf'(?P<kind>pr){_NUM}3(?P<full>_full)?', 'vgg16'),
        (rf'(?P<kind>is|nearest){_NUM}', 'inception'),
        (rf'(?P<kind>fd|kd|pr|nearest)_random_vgg{_NUM}(?P<full>_full)', 'random-vgg'),
        (r'(?P<kind>ppl)2_wend', ''),
        (r'(?P<kind>ppl)_(z|w)(full|end)', ''),
    )
)


@dataclass(frozen=True)
class Metric:
    """One quantity.

    Attributes:
        name: as given; results begin with it.
        kind: one of `KINDS`.
        detector: one of `metrics.detectors.DETECTOR_NAMES`; '' for path lengths, which have LPIPS.
        num_fake: how many generated pictures; None for as many as the caller says.
        num_real: at most so many real pictures, the first; None for all.
        full: real pictures are never mirrored; else they are where the data set is.
    """

    name: str
    kind: str
    detector: str
    num_fake: int | None = None
    num_real: int | None = None
    full: bool = False

    @property
    def directions(self) -> dict[str, bool]:
        """The names of its results, spreads left out, and whether more is better; the main result
        comes first.
        """
        return {f'{self.name}{suffix}': more for suffix, more in _VALUES[self.kind].items()}

    @property
    def main(self) -> tuple[str, bool]:
        """The name of the result that ranks snapshots, and whether more is better."""
        return next(iter(self.directions.items()))


def metric_names() -> tuple[str, ...]:
    """The usual names; any other number may stand in place of theirs (`fid10k_full`,
    `fd_random_vgg500_full`).
    """
    return (
        'fid50k_full',
        'kid50k_full',
        'pr50k3_full',
        'is50k',
        'fid50k',
        'kid50k',
        'pr50k3',
        'nearest1k',
        'fd_random_vgg50k_full',
        'fd_random_vgg1k_full',
        'kd_random_vgg1k_full',
        'pr_random_vgg1k_full',
        'nearest_random_vgg1k_full',
        'ppl2_wend',
        'ppl_zfull',
        'ppl_wfull',
        'ppl_zend',
        'ppl_wend',
    )


def validate_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Look names up, in the order given; reads no file.

    Raises:
        UserError: a name is unknown; the message lists what there is.
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
    """Lower-case words between commas or white space, each once."""
    return tuple(dict.fromkeys(word for word in re.split(r'[,\s]+', text.lower()) if word))


def parse_metrics(text: str, detector: str) -> tuple[Metric, ...]:
    """`fid,kid` for a chosen detector, mixed with NVIDIA's names as it may be, each once.

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
    return tuple(
        Metric(short_name(word, detector), word, '' if word == 'ppl' else detector)
        if word in KINDS
        else _parse(word)
        for word in words
    )


def short_name(kind: str, detector: str) -> str:
    """What a distance is called: only Inception's are FID and KID."""
    if detector == 'inception' or kind not in _KIND_OF_KEY.values():
        return kind
    key = next(key for key, value in _KIND_OF_KEY.items() if value == kind)
    return f'{key}_{detector.replace("-", "_")}'


def _parse(name: str) -> Metric:
    for pattern, detector in _PATTERNS:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        kind = _KIND_OF_KEY.get(match['kind'], match['kind'])
        if kind == 'ppl':
            return Metric(name, kind, detector, num_fake=50000)
        num = int(match['num'].removesuffix('k')) * (1000 if match['num'].endswith('k') else 1)
        full = match.groupdict().get('full') is not None or kind in ('is', 'nearest')
        limit = {'pr': 200000}.get(kind) if full else 50000
        if num > 1:
            return Metric(name, kind, detector, num, limit, full)
    raise UserError(
        f'--metrics={name}: there is no such metric; there are '
        f'{", ".join(metric_names())}, '
        'and the same with other numbers of pictures'
    )
