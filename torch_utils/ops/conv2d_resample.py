"""Convolution with resampling before and after it, in the cheapest order that gives the same
result.
"""

import torch

from . import conv2d_gradfix, upfirdn2d


# Long because each fast path stands beside the case that it serves.
def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | list[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> torch.Tensor:
    """Upsample by `up` with filter `f`, pad, convolve with `w`, downsample by `down` with filter
    `f`.

    Args:
        x: any float dtype, `[N, C_in, H, W]`.
        w: `[C_out, C_in / groups, kh, kw]`, the dtype of `x`.
        f: a filter of `upfirdn2d.setup_filter`; None is the identity.
        padding: in pixels of the upsampled picture: one number, `[x, y]` or `[x0, x1, y0, y1]`.
        flip_weight: True for correlation (as in `torch.nn.functional.conv2d`), False for
            convolution.
        flip_filter: the same for `f`.

    Returns:
        `[N, C_out, …]`, the dtype of `x`.
    """
    kh, kw = w.shape[2:]
    fw, fh = upfirdn2d._filter_size(f)
    px0, px1, py0, py1 = upfirdn2d._parse_padding(padding)
    if up > 1:  # the filters' own reach, so that pixels stay where they are
        px0, px1, py0, py1 = (
            px0 + (fw + up - 1) // 2,
            px1 + (fw - up) // 2,
            py0 + (fh + up - 1) // 2,
            py1 + (fh - up) // 2,
        )
    if down > 1:
        px0, px1, py0, py1 = (
            px0 + (fw - down + 1) // 2,
            px1 + (fw - down) // 2,
            py0 + (fh - down + 1) // 2,
            py1 + (fh - down) // 2,
        )
    pads = [px0, px1, py0, py1]

    if up > 1 and kh == kw == 1:  # convolve the small picture
        x = _conv(x, w, groups=groups, flip_weight=flip_weight)
        x = upfirdn2d.upfirdn2d(x, f, up=up, padding=pads, gain=up**2, flip_filter=flip_filter)
        return upfirdn2d.upfirdn2d(x, f, down=down, flip_filter=flip_filter) if down > 1 else x

    if up > 1:
        # A transposed convolution upsamples and convolves at once; it pads by kw − 1 and kw − up of
        # its own accord.
        px0, px1, py0, py1 = px0 - (kw - 1), px1 - (kw - up), py0 - (kh - 1), py1 - (kh - up)
        crop_x, crop_y = max(min(-px0, -px1), 0), max(min(-py0, -py1), 0)
        x = _conv_transpose(
            x, w, stride=up, padding=(crop_y, crop_x), groups=groups, flip_weight=flip_weight
        )
        pads = [px0 + crop_x, px1 + crop_x, py0 + crop_y, py1 + crop_y]
        x = upfirdn2d.upfirdn2d(x, f, padding=pads, gain=up**2, flip_filter=flip_filter)
        return upfirdn2d.upfirdn2d(x, f, down=down, flip_filter=flip_filter) if down > 1 else x

    if down > 1 and kh == kw == 1:  # reduce first
        x = upfirdn2d.upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter)
        return _conv(x, w, groups=groups, flip_weight=flip_weight)

    if down > 1:  # filter at full size, convolve only at the pixels that stay
        x = upfirdn2d.upfirdn2d(x, f, padding=pads, flip_filter=flip_filter)
        return _conv(x, w, stride=down, groups=groups, flip_weight=flip_weight)

    if px0 == px1 >= 0 and py0 == py1 >= 0:
        return _conv(x, w, padding=(py0, px0), groups=groups, flip_weight=flip_weight)
    return _conv(
        upfirdn2d.upfirdn2d(x, None, padding=pads), w, groups=groups, flip_weight=flip_weight
    )


def _conv(
    x: torch.Tensor,
    w: torch.Tensor,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    flip_weight: bool = True,
) -> torch.Tensor:
    if not flip_weight and w.shape[2:] != (1, 1):
        w = w.flip([2, 3])
    return conv2d_gradfix.conv2d(x, w, stride=stride, padding=padding, groups=groups)


def _conv_transpose(
    x: torch.Tensor,
    w: torch.Tensor,
    stride: int,
    padding: tuple[int, int],
    groups: int,
    flip_weight: bool,
) -> torch.Tensor:
    if flip_weight and w.shape[2:] != (1, 1):  # transposed convolution flips
        w = w.flip([2, 3])
    if groups == 1:
        w = w.transpose(0, 1)
    else:
        c_out, c_in, kh, kw = w.shape
        w = (
            w.reshape(groups, c_out // groups, c_in, kh, kw)
            .transpose(1, 2)
            .reshape(groups * c_in, c_out // groups, kh, kw)
        )
    return conv2d_gradfix.conv_transpose2d(x, w, stride=stride, padding=padding, groups=groups)
