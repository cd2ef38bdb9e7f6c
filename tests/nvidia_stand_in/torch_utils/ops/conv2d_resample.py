import torch

from . import upfirdn2d


def conv2d_resample(
    x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False
):
    k = 0 if f is None else f.shape[-1]
    p0, p1 = padding, padding
    if up > 1:
        p0, p1 = p0 + (k + up - 1) // 2, p1 + (k - up) // 2
    if down > 1:
        p0, p1 = p0 + (k - down + 1) // 2, p1 + (k - down) // 2
    x = upfirdn2d.upfirdn2d(
        x,
        f if up > 1 else None,
        up=up,
        padding=[p0, p1, p0, p1],
        gain=up**2,
        flip_filter=flip_filter,
    )
    x = torch.nn.functional.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return upfirdn2d.upfirdn2d(x, f, down=down, flip_filter=flip_filter) if down > 1 else x
