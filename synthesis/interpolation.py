"""Interpolation and easing: positions along a path, spherical interpolation, circles in z."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch


def _linear(t: float) -> float:
    return t


def _smooth(t: float) -> float:
    """Start and stop softly at each stop of the path."""
    return t * t * (3 - 2 * t)


def _circular(t: float) -> float:
    """Two quarter circles: linger at the stops and rush between them."""
    if t < 0.5:
        return (1 - math.sqrt(1 - 4 * t * t)) / 2
    return (1 + math.sqrt(1 - 4 * (1 - t) ** 2)) / 2


EASINGS: dict[str, Callable[[float], float]] = {  # 0…1 to 0…1, rising, 0 and 1 kept
    'linear': _linear,
    'smooth': _smooth,
    'circular': _circular,
}


def positions(
    stops: int, frames: int, easing: str = 'linear', loop: bool = False
) -> Iterator[tuple[int, int, float]]:
    """Place each frame of a video on a path. All parts of the path take equally long.

    Args:
        stops: of the path, at least 2.
        frames: of the whole video.
        easing: within each part; of `EASINGS`.
        loop: go on from the last stop to the first, which the frame after the last would show;
            otherwise the last frame shows the last stop.

    Yields:
        The stops that the frame is between, and how far it has come: 0…1.
    """
    parts = stops if loop else stops - 1
    for frame in range(frames):
        at = Fraction(frame * parts, frames if loop else max(frames - 1, 1))
        start = min(int(at), parts - 1)
        yield start, (start + 1) % stops, EASINGS[easing](float(at - start))


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Interpolate on the sphere (Shoemake 1985): angle and length change evenly from `a` to `b`.

    Args:
        a, b: float `[z_dim]`, not zero.
        t: 0…1.
    """
    length = torch.lerp(a.norm(), b.norm(), t)
    a, b = a / a.norm(), b / b.norm()
    # exact for small angles, where acos is not
    angle = torch.atan2((a - b).norm(), (a + b).norm()) * 2
    # the same direction; or opposite ones, between which there is no shortest way
    if angle < 1e-4 or angle > math.pi - 1e-4:
        way = torch.lerp(a, b, t)
        return way / way.norm().clamp(min=1e-8) * length
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle) * length


@dataclass(frozen=True)
class Circle:
    """A circle on the sphere, through one point.

    Attributes:
        axes: float `[3, z_dim]`, orthonormal. The circle starts at the first one.
        length: of the points.
        radius: of the circle, as a part of the sphere's: 1 is a great circle.
    """

    axes: torch.Tensor
    length: float
    radius: float

    def at(self, turns: float) -> torch.Tensor:
        """Return the point after some turns, float `[z_dim]`; whole numbers give the start."""
        start, inward, along = self.axes
        tilt = math.asin(self.radius)  # angle between the start and the axis of rotation
        axis = math.cos(tilt) * start + math.sin(tilt) * inward
        outward = math.sin(tilt) * start - math.cos(tilt) * inward
        angle = 2 * math.pi * (turns % 1)
        spoke = math.cos(angle) * outward + math.sin(angle) * along
        return self.length * (math.cos(tilt) * axis + math.sin(tilt) * spoke)


def circle(points: torch.Tensor, radius: float) -> Circle:
    """Make the circle that starts at the first of three points; the others give its directions.

    Args:
        points: float `[3, z_dim]`, linearly independent; z_dim is 3 at least.
        radius: over 0, at most 1.
    """
    q, r = torch.linalg.qr(points.double().t())
    # the first has the first point's direction
    axes = (q * r.diagonal().sign()).t().to(points.dtype)
    return Circle(axes, float(points[0].norm()), radius)
