import torch


def setup_filter(
    f, device=torch.device('cpu'), normalize=True, flip_filter=False, gain=1, separable=None
):
    f = torch.as_tensor(f if f is not None else 1, dtype=torch.float32)
    if f.ndim == 0:
        f = f[None]
    if separable is None:
        separable = f.ndim == 1 and f.numel() >= 8
    if f.ndim == 1 and not separable:
        f = f.ger(f)
    if normalize:
        f = f / f.sum()
    return (f * gain ** (f.ndim / 2)).to(device)


def upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl='cuda'):
    n, c, h, w = x.shape
    f = torch.ones(1, 1) if f is None else f.ger(f) if f.ndim == 1 else f
    px0, px1, py0, py1 = [padding] * 4 if isinstance(padding, int) else padding
    y = torch.zeros(n, c, h * up, w * up)
    y[:, :, ::up, ::up] = x
    y = torch.nn.functional.pad(y, [px0, px1, py0, py1])
    f = f if flip_filter else f.flip([0, 1])
    y = torch.nn.functional.conv2d(y.reshape(n * c, 1, *y.shape[2:]), f[None, None] * gain)
    return y.reshape(n, c, *y.shape[2:])[:, :, ::down, ::down]


def upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1, impl='cuda'):
    k = f.shape[-1]
    pads = [padding + (k + up - 1) // 2, padding + (k - up) // 2] * 2
    return upfirdn2d(x, f, up=up, padding=pads, flip_filter=flip_filter, gain=gain * up * up)


def downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1, impl='cuda'):
    k = f.shape[-1]
    pads = [padding + (k - down + 1) // 2, padding + (k - down) // 2] * 2
    return upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter, gain=gain)
