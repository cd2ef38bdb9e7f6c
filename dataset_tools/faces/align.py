"""Cut a face out as an upright square, as the pictures of FFHQ were (Karras et al. 2018, appendix
C; Karras et al. 2019, appendix A).
"""

import math

import numpy as np
from PIL import Image, ImageFilter

from dnnlib import UserError

from ..image.resize import RESIZE_FILTERS, ResizeFilter
from .landmarks import Landmarks

# times the longer side of its picture: a tight portrait has a square of about twice that
_LARGEST = 4
_MARGIN = 3  # pixels that bicubic interpolation may look at beyond the quad

# All in sides of the square.
_BLUR_SIGMA = 0.02
_BLUR_REACH = 0.1  # how far into the picture the blur begins at most
_FADE_REACH = 0.3  # how far out the median colour is all that is left, at least


def ffhq_quad(landmarks: Landmarks) -> np.ndarray:
    """Return the square that FFHQ cuts out for a face.

    Returns:
        float64 `[4, 2]`: the corners at the face's top left, bottom left, bottom right and top
        right, in the coordinates of `Landmarks`.
    """
    across, down = landmarks.eye_to_eye, landmarks.eye_to_mouth
    right = across - _quarter_turn(down)
    right *= max(2.0 * math.hypot(*across), 1.8 * math.hypot(*down)) / math.hypot(*right)
    bottom = _quarter_turn(right)
    centre = landmarks.eye_middle + 0.1 * down
    return centre + np.stack([-right - bottom, bottom - right, right + bottom, right - bottom])


def quad_side(quad: np.ndarray) -> float:
    """Return the length of a square's sides in pixels.

    Args:
        quad: float64 `[4, 2]`, of `ffhq_quad`.
    """
    return math.dist(quad[0], quad[3])


def align_face(
    picture: Image.Image, landmarks: Landmarks, size: int, resize_filter: ResizeFilter = 'lanczos'
) -> Image.Image:
    """Cut a face out, upright, with its eyes and mouth where FFHQ has them.

    What the square has beyond the picture is its mirror image, blurred and, farther out, faded to
    the median colour.

    Args:
        picture: mode 'RGB', upright.
        landmarks: of the face.
        size: width and height of the result in pixels. A face whose `quad_side` is smaller is
            enlarged.
        resize_filter: a key of `RESIZE_FILTERS`, for the last step, from two to four times the
            size.

    Raises:
        UserError: the landmarks can't be of this picture: the square's middle is outside it, or the
            square is far larger.
    """
    quad = ffhq_quad(landmarks)
    _check_overlap(quad, picture.size)
    reduction = max(1, int(quad_side(quad) / (2 * size)))
    part, corners = _cut(picture, quad, reduction)
    oversampling = min(max(2, math.ceil(quad_side(quad) / reduction / size)), 4)
    large, data = (oversampling * size,) * 2, tuple(corners.ravel())
    # because Pillow's transforms cut off what is behind the point, which darkens
    planes = [
        plane.convert('F')
        .transform(large, Image.Transform.QUAD, data, Image.Resampling.BICUBIC)
        .resize((size, size), RESIZE_FILTERS[resize_filter])
        for plane in part.split()
    ]
    return _soften(
        np.stack([np.asarray(plane) for plane in planes], axis=2).clip(0, 255), quad, picture.size
    )


def _quarter_turn(vector: np.ndarray) -> np.ndarray:
    return np.array([-vector[1], vector[0]])


def _check_overlap(quad: np.ndarray, picture_size: tuple[int, int]) -> None:
    x, y = middle = quad.mean(axis=0)
    inside = (middle >= -0.5).all() and (middle <= np.array(picture_size) - 0.5).all()
    if not inside or quad_side(quad) > _LARGEST * max(picture_size):
        raise UserError(
            f'its square, {quad_side(quad):.0f} pixels wide around ({x:.0f}, {y:.0f}), '
            f'does not fit a picture of '
            f'{picture_size[0]}x{picture_size[1]} pixels; were the landmarks measured '
            f'in another size?'
        )


def _cut(picture: Image.Image, quad: np.ndarray, reduction: int) -> tuple[Image.Image, np.ndarray]:
    """The part of a picture that holds a quad, smaller by a whole number and mirrored where the
    picture ends; and the quad's corners in it, (0, 0) being the outer corner of the first pixel."""
    size = np.array(picture.size)
    low = np.floor(quad.min(axis=0)).astype(int) - _MARGIN * reduction
    high = np.ceil(quad.max(axis=0)).astype(int) + 1 + _MARGIN * reduction
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, size)
    part = picture.reduce(reduction, (*inner_low.tolist(), *inner_high.tolist()))
    before, after = -(-(inner_low - low) // reduction), -(-(high - inner_high) // reduction)
    if before.any() or after.any():
        widths = list(zip(before.tolist(), after.tolist()))
        part = Image.fromarray(
            np.pad(np.asarray(part), [widths[1], widths[0], (0, 0)], mode='reflect')
        )
    return part, (quad + 0.5 - inner_low) / reduction + before


def _soften(pixels: np.ndarray, quad: np.ndarray, picture_size: tuple[int, int]) -> Image.Image:
    """Blur what lies beyond the picture's edges, and a little on this side of them; fade it to the
    median colour farther out.

    Args:
        pixels: float `[S, S, 3]`, 0…255.
        quad: where they are in the picture.
        picture_size: its width and height.
    """
    low, high = np.array([-0.5, -0.5]), np.array(picture_size) - 0.5
    side = quad_side(quad)
    # beyond the left, top, right, bottom edge
    reach = np.concatenate([low - quad.min(axis=0), quad.max(axis=0) - high]) / side
    over = reach > 1e-6
    square = _to_picture(pixels)
    if not over.any():
        return square
    steps = (np.arange(square.width) + 0.5)[:, np.newaxis] / square.width
    # [S, S, 2], in the picture
    places = quad[0] + (steps * (quad[1] - quad[0]))[:, np.newaxis] + steps * (quad[3] - quad[0])
    # [S, S, 4], negative inside
    beyond = np.concatenate([low - places, places - high], axis=2) / side
    # a pixel's width more, so that it is never empty
    inside = pixels[(beyond <= 1 / square.width).all(axis=2)]
    blur = np.clip(1 + beyond[..., over] / np.minimum(reach[over], _BLUR_REACH), 0, 1).max(
        axis=2, keepdims=True
    )
    fade = np.clip(beyond[..., over] / np.maximum(reach[over], _FADE_REACH), 0, 1).max(
        axis=2, keepdims=True
    )
    blurred = np.asarray(square.filter(ImageFilter.GaussianBlur(_BLUR_SIGMA * square.width)))
    pixels = pixels + (blurred - pixels) * blur
    return _to_picture(pixels + (np.median(inside, axis=0) - pixels) * fade)


def _to_picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(pixels).astype(np.uint8))
