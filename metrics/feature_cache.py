"""Features of a set in a file: to share, in a form that pytorch-fid reads too, and as a cache that
can't be stale.
"""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib import UserError, atomic_path, make_cache_dir_path, printable
from dnnlib.reading import read_json, read_npz

from .detectors import Detector
from .features import Features, MeanCov
from .image_set import PictureSet

CACHE_BYTES = 4_000_000_000  # beyond that, the files that were not used for longest go
_VERSION = 1  # of what is cached; another number and old files are not looked at
# seconds after which a file that is being written is what a killed process left
_ABANDONED = 24 * 3600

log = logging.getLogger(__name__)


def save_statistics(
    path: str | os.PathLike[str],
    features: Features,
    detector: Detector,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write an `.npz` with pytorch-fid's `mu` and `sigma`, the features where they were kept, and
    where all that came from.

    Args:
        about: facts of the set, as JSON.

    Raises:
        UserError: it can't be written.
    """
    facts = {
        **(about or {}),
        'num': features.stats.num,
        'sizes': sorted(features.sizes),
        **_of_detector(detector),
    }
    arrays: dict[str, Any] = {
        'mu': features.stats.mean,
        'sigma': features.stats.cov,
        'about': np.array(json.dumps(facts)),
    }
    if features.values is not None:
        arrays['features'] = features.values.numpy()
    with atomic_path(path) as temp, temp.open('wb') as file:
        np.savez(file, **arrays)


def load_statistics(path: str | os.PathLike[str]) -> tuple[Features, dict[str, Any]]:
    """Read `save_statistics`'s file, or another program's with `mu` and `sigma`.

    Returns:
        The features, and the facts: empty for another program's file.

    Raises:
        UserError: it can't be read, or holds something else.
    """
    wanted = ('mu', 'sigma', 'about', 'features')
    arrays = read_npz(
        path,
        wanted.__contains__,
        ('mu', 'sigma'),
        what='no statistics for FID, as --save-stats or pytorch-fid write them',
    )
    about: dict[str, Any] = {}
    if 'about' in arrays:
        about = read_json(
            str(arrays['about']).encode('utf-8', 'replace'), f'{path}: about in the statistics'
        )
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    if any(arrays[name].dtype.kind not in 'iuf' for name in arrays if name != 'about'):
        raise UserError(f'{path}: no statistics for FID: mu, sigma and features should be numbers')
    mean, cov = (np.asarray(arrays[name], np.float64) for name in ('mu', 'sigma'))
    values = (
        torch.from_numpy(np.asarray(arrays['features'], np.float32))
        if 'features' in arrays
        else None
    )
    if (
        mean.ndim != 1
        or cov.shape != 2 * mean.shape
        or not (np.isfinite(mean).all() and np.isfinite(cov).all())
    ):
        raise UserError(
            f'{path}: no statistics for FID: mu {shapes["mu"]} and sigma '
            f'{shapes["sigma"]} should be [D] and [D, D], '
            'of finite numbers'
        )
    if values is not None and (values.ndim != 2 or values.shape[1] != len(mean)):
        raise UserError(
            f'{path}: no statistics for FID: features {shapes["features"]} should be '
            f'[N, {len(mean)}]'
        )
    num, sizes = about.get('num'), about.get('sizes', [])
    if (
        not (num is None or type(num) is int and 0 < num < 1 << 60)
        or not isinstance(sizes, list)
        or not all(map(_is_size, sizes))
    ):
        raise UserError(
            f'{path}: no statistics for FID: its number of pictures, or their sizes, make no sense'
        )
    return Features(MeanCov(num, mean, cov), values, frozenset((h, w) for h, w in sizes)), about


def _is_size(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and 0 < side < 1 << 20 for side in value)
    )


def check_fits(
    path: str | os.PathLike[str],
    features: Features,
    about: Mapping[str, Any],
    detector: Detector,
    keep: bool,
) -> str | None:
    """Refuse saved statistics that are another detector's or protocol's.

    Returns:
        What to tell the user, where the file doesn't say.

    Raises:
        UserError: they don't fit, or have no features where `keep` asks for them.
    """
    for key, expected in _of_detector(detector).items():
        if about.get(key, expected) != expected:
            found = printable(about[key])
            way_out = '' if key == 'detector_sha256' else f'; --{key}={found} goes with it'
            raise UserError(
                f'{path}: made with {key} {found}, not with {expected}: '
                f'distances between the two would mean nothing{way_out}'
            )
    if keep and features.values is None:
        raise UserError(
            f'{path}: has the mean and covariance that FID needs, but no features; '
            'make it with --save-stats and the same --metrics'
        )
    return (
        None
        if about
        else f'warning: {path} does not say which detector and protocol it was made with'
    )


def cached_features(
    pictures: PictureSet, detector: Detector, keep: bool, compute: Callable[[], Features]
) -> Features:
    """The features of a set, computed once on this machine.

    The file's name is a hash of the pictures' bytes, the detector's weights and all settings that
    change features, so a set that was changed is another one. Files appear whole or not at all;
    processes that come at the same time compute the same. A new file makes room for itself: see
    `prune`.

    Args:
        keep: whether the features themselves are needed.
        compute: gives them.
    """
    facts = [_VERSION, pictures.content_sha256(), pictures.settings, _of_detector(detector)]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = make_cache_dir_path('statistics')
    wanted = folder / f'{key}-features.npz'
    for path in [wanted] if keep else [wanted, folder / f'{key}.npz']:
        try:
            features, about = load_statistics(path)
            check_fits(path, features, about, detector, keep)
            _mark_used(path)
            return features
        except UserError:  # it isn't there, or damaged: then it is made anew
            continue
    features = compute()
    path = wanted if keep else folder / f'{key}.npz'
    try:
        save_statistics(path, features, detector)
        prune(folder, CACHE_BYTES, path)
    except UserError as error:
        log.warning('warning: statistics are not kept for the next time: %s', error)
    return features


def prune(folder: Path, limit: int, keep: Path) -> None:
    """Remove files of statistics, those that were not used for longest first, until the rest are
    within a limit.

    Several processes may do so at a time, and others read or write meanwhile: what is gone already,
    or held by another program, is skipped, and what is being written is not touched.

    Args:
        limit: bytes.
        keep: the file that was just written, which stays, of any size.
    """
    found = []
    for path in folder.glob('*.npz'):
        with contextlib.suppress(OSError):
            stat = path.stat()
            if not path.name.startswith('.') or stat.st_mtime < time.time() - _ABANDONED:
                found.append((path == keep, stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, _, size, _ in found)
    for is_kept, _, size, path in sorted(found):
        if total <= limit or is_kept:
            break
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            total -= size


def _mark_used(path: Path) -> None:
    with contextlib.suppress(OSError):  # a cache that others share may be read-only
        os.utime(path)


def _of_detector(detector: Detector) -> dict[str, str]:
    return {
        'detector': detector.name,
        'detector_sha256': detector.sha256,
        'protocol': detector.protocol.name,
        'precision': detector.precision,
    }
