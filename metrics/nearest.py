"""Memorisation: does the generator draw its training pictures again."""

from collections.abc import Mapping

import torch

from dnnlib import UserError

from .detectors import Detector
from .features import Features, squared_distances, squared_radii
from .kind import Kind, both_values


class Nearest(Kind):
    """Distance of fakes to their nearest reals."""

    key = 'nearest'
    names = ('nearest1k', 'nearest_random_vgg1k_full')
    results = {'_ratio': True, '_close': False}
    full_only = True

    def compute(
        self, real: Features | None, fake: Features, detector: Detector
    ) -> dict[str, float]:
        ratio, close = nearest_ratio(*both_values(real, fake, detector))
        return {'_ratio': ratio, '_close': close}

    def describe(self, name: str, detector: str, values: Mapping[str, float]) -> str:
        return (
            f'Distance to the nearest real picture: {values["_ratio"]:.3f} of that between '
            f'real pictures; {values["_close"]:.1%} of the fakes closer than half of it'
        )


def nearest_ratio(real: torch.Tensor, fake: torch.Tensor) -> tuple[float, float]:
    """How far fakes are from their nearest reals, compared with how far reals are from each other.

    Args:
        real: floating point `[N, D]`.
        fake: floating point `[M, D]`, on the same device.

    Returns:
        Median distance of a fake to its nearest real, divided by the median distance of a real to
        its nearest other real: about 1 for new pictures of the same kind, toward 0 for copies,
        infinite where most reals are equal and fakes are not. And the part of the fakes that are
        closer to a real than half that distance between reals, 0…1: copies, though most may be new.

    Raises:
        UserError: there are fewer than 2 reals.
    """
    if len(real) < 2:
        raise UserError(
            f'the nearest of {len(real)} real picture says nothing; at least 2 are needed'
        )
    among = float(squared_radii(real, 1).sqrt().median())
    distances = nearest(real, fake)[0]
    across = float(distances.median())
    ratio = across / among if among > 0 else float('inf') if across > 0 else 0.0
    return ratio, float((distances <= among / 2).double().mean())


def nearest(real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest real of each fake.

    Returns:
        Distances, float64 `[M]`, and places among the reals, int64 `[M]`.
    """
    found = [rows.min(dim=1) for _, rows in squared_distances(fake, real)]
    return torch.cat([each.values for each in found]).sqrt(), torch.cat(
        [each.indices for each in found]
    )


class NearestPairs:
    """The fakes that are nearest to a real picture, out of a stream.

    Args:
        real: features, floating point `[N, D]`.
        keep: how many pairs.

    Attributes:
        pairs: (distance, fake picture as uint8 `[C, H, W]`, place of the real picture), the nearest
            first.
    """

    def __init__(self, real: torch.Tensor, keep: int) -> None:
        self._real, self._keep = real, keep
        self.pairs: list[tuple[float, torch.Tensor, int]] = []

    def append(self, pictures: torch.Tensor, features: torch.Tensor) -> None:
        """Add a batch: uint8 `[M, C, H, W]` and its features, `[M, D]`."""
        distances, places = nearest(self._real, features.to(self._real.device))
        pairs = [
            (float(distance), picture.cpu(), int(place))
            for distance, picture, place in zip(distances, pictures, places)
        ]
        self.pairs = sorted([*self.pairs, *pairs], key=lambda pair: pair[0])[: self._keep]
