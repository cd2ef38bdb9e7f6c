"""Landmarks of faces (eyes, mouth), and the JSON file in which people mark them."""

import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from dnnlib import UserError
from dnnlib.reading import read_json

Point = tuple[float, float]

_MAX_COORDINATE = 1e6  # no picture is larger, and squares of it are still exact
_POINTS_68 = 68
_MAX_BYTES = 1 << 28  # 100,000 faces of 68 points have half of that


@dataclass(frozen=True)
class Landmarks:
    """Four points of a face, in pixels: x to the right, y downwards, (0, 0) the centre of the first
    pixel.

    Left and right are the viewer's, of the upright face: the left eye is the person's right one.
    Points may lie outside the picture.

    Args:
        eye_left: centre of the eye.
        eye_right: likewise.
        mouth_left: corner of the mouth.
        mouth_right: likewise.

    Raises:
        ValueError: a coordinate is no number below a million; the eyes coincide; or the mouth lies
            on the wrong side of them, as it seems to where left and right are exchanged.
    """

    eye_left: Point
    eye_right: Point
    mouth_left: Point
    mouth_right: Point

    def __post_init__(self) -> None:
        for name, point in asdict(self).items():
            if not (
                isinstance(point, tuple | list)
                and len(point) == 2
                and all(_is_coordinate(value) for value in point)
            ):
                raise ValueError(f'{name} should be [x, y] in pixels')
            object.__setattr__(self, name, (float(point[0]), float(point[1])))
        across, down = self.eye_to_eye, self.eye_to_mouth
        if across[0] * down[1] - across[1] * down[0] <= 0:
            raise ValueError(
                'the mouth does not lie below the eyes; left and right are the '
                "viewer's: are they exchanged?"
            )

    @classmethod
    def from_68(cls, points: np.ndarray) -> 'Landmarks':
        """Convert the 68 points of iBUG 300-W, which dlib's predictor gives: an eye's centre is the
        mean of its six.

        Args:
            points: float `[68, 2]`.

        Raises:
            ValueError: they are no face; see the class.
        """
        eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
        left, right, mouth_left, mouth_right = (
            (float(x), float(y)) for x, y in (*eyes, points[48], points[54])
        )
        return cls(left, right, mouth_left, mouth_right)

    @property
    def eye_middle(self) -> np.ndarray:
        """float64 `[2]`."""
        return (np.array(self.eye_left) + self.eye_right) / 2

    @property
    def eye_to_eye(self) -> np.ndarray:
        """From the left eye to the right one, float64 `[2]`."""
        return np.subtract(self.eye_right, self.eye_left)

    @property
    def eye_to_mouth(self) -> np.ndarray:
        """From the middle of the eyes to the middle of the mouth, float64 `[2]`."""
        return (np.array(self.mouth_left) + self.mouth_right) / 2 - self.eye_middle


def load_landmarks(
    path: str | os.PathLike[str], names: Collection[str] | None = None
) -> dict[str, list[Landmarks]]:
    """Read marked faces: `{"a/1.jpg": [{"eye_left": [203, 101], "eye_right": …, "mouth_left": …,
    "mouth_right": …}], …}`.

    A face may also be the list of its 68 points, `[[x, y], …]`. A picture has as many faces as its
    list has entries, none too. Coordinates are those of `Landmarks`, in the picture as one sees it:
    turned upright by its EXIF orientation, in full size.

    Args:
        path: the JSON file.
        names: the pictures that there are; None doesn't compare.

    Returns:
        The faces of each picture, under its path inside the source, with `/`.

    Raises:
        UserError: the file can't be read, has another form, or names a picture that there isn't.
    """
    where = f'--landmarks {os.fspath(path)}'
    try:
        data = read_json(path, max_bytes=_MAX_BYTES)
    except UserError as error:
        raise UserError(f'--landmarks {error}') from error
    result = {
        name.replace('\\', '/'): _read_faces(faces, f'{where}: {name}')
        for name, faces in data.items()
    }
    unknown = [name for name in result if names is not None and name not in names]
    if unknown:
        raise UserError(
            f'{where}: there is no picture {unknown[0]} in the source ({len(unknown)} '
            f'of {len(result)} names are unknown); '
            'names are paths inside the source, such as a/1.jpg'
        )
    return result


def _read_faces(faces: Any, where: str) -> list[Landmarks]:
    if not isinstance(faces, list):
        raise UserError(f'{where}: should be a list of faces')
    return [_read_face(face, f'{where}: face {number}') for number, face in enumerate(faces, 1)]


def _read_face(face: Any, where: str) -> Landmarks:
    keys = [field.name for field in fields(Landmarks)]
    try:
        if isinstance(face, dict) and face.keys() == set(keys):
            return Landmarks(**face)
        if isinstance(face, list) and len(face) == _POINTS_68:
            if not all(
                isinstance(point, list) and len(point) == 2 and all(map(_is_coordinate, point))
                for point in face
            ):
                raise ValueError('each of the 68 points should be [x, y] in pixels')
            return Landmarks.from_68(np.array(face, np.float64))
    except ValueError as error:
        raise UserError(f'{where}: {error}') from error
    raise UserError(
        f'{where}: should be an object of {", ".join(keys)}, or a list of {_POINTS_68} points'
    )


def _is_coordinate(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -_MAX_COORDINATE < value < _MAX_COORDINATE
    )
