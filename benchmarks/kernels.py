"""Speed of the CUDA kernels, as a percentage of the bandwidth of a plain copy on the same GPU, and
against PyTorch's own ops.

The warp of augmentation is timed with its gradient, in float32, on 3 channels.
"""

import functools
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dnnlib  # noqa: E402
from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

SHAPES = [(16, 64, 256, 256), (16, 128, 128, 128), (16, 256, 64, 64)]


@cli.command(name='kernels', help=__doc__)
@option(
    '--dtype',
    type=click.Choice(['float16', 'bfloat16', 'float32']),
    default='float16',
    help='Of the tensors.',
)
@option(
    '--layout',
    type=click.Choice(['channels_last', 'contiguous']),
    default='channels_last',
    help='Of the tensors.',
)
@option('--repeats', type=click.IntRange(1), default=20, help='Timings; the median counts.')
@cli.device_option()
def command(dtype: str, layout: str, repeats: int, device: str) -> None:
    import torch

    from torch_utils import custom_ops
    from torch_utils.misc import select_device
    from torch_utils.ops import affine_sample, bias_act, conv2d_gradfix, modulated_act, upfirdn2d
    from training.augment import AugmentPipe
    from training.config import AUGPIPES

    target = select_device(device)
    if target.type != 'cuda' or not custom_ops.enabled(
        torch.device('cuda', torch.cuda.current_device())
    ):
        raise dnnlib.UserError(
            'there is nothing to time: the kernels need a CUDA GPU and a loader '
            '(see STYLEGAN_OPS in the README)'
        )

    def milliseconds(work: Callable[[], object]) -> float:
        flush = torch.empty(256 << 20, dtype=torch.uint8, device=target)  # larger than the cache
        times = []
        for _ in range(repeats + 3):
            # and it keeps the GPU busy until all of the work is queued, or launches would be timed
            for _ in range(4):
                flush.zero_()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        return float(np.median(times[3:]))

    click.echo(
        f'{torch.cuda.get_device_name()}; PyTorch {torch.__version__}; {dtype}, {layout}; '
        f'median of {repeats}'
    )
    kind = getattr(torch, dtype)
    memory_format = torch.channels_last if layout == 'channels_last' else torch.contiguous_format
    f = upfirdn2d.setup_filter([1, 3, 3, 1]).to(target)
    ratios = []
    for shape in SHAPES:
        x = torch.randn(shape, device=target).to(kind).contiguous(memory_format=memory_format)
        b = torch.randn(shape[1], device=target, dtype=kind)
        partial = functools.partial
        # name, work, elements that are read and written
        cases: list[tuple[str, Callable[..., object], int]] = [
            ('bias_act', partial(bias_act.bias_act, x, b, act='lrelu', clamp=256.0), 2 * x.numel()),
            ('filter', partial(upfirdn2d.filter2d, x, f), 2 * x.numel()),
            ('up 2', partial(upfirdn2d.upsample2d, x, f), 5 * x.numel()),
            ('down 2', partial(upfirdn2d.downsample2d, x, f), x.numel() * 5 // 4),
        ]
        # GB/s
        bandwidth = (
            2
            * x.numel()
            * x.element_size()
            / milliseconds(partial(torch.empty_like(x).copy_, x))
            / 1e6
        )
        click.echo(f'{"x".join(map(str, shape))}: a copy runs at {bandwidth:.0f} GB/s')
        for name, work, elements in cases:
            fast, slow = milliseconds(work), milliseconds(partial(work, impl='ref'))
            ratios.append(slow / fast)
            share = 100 * elements * x.element_size() / fast / 1e6 / bandwidth
            click.echo(
                f'  {name:20s} {fast:7.3f} ms, {share:5.1f} % of a copy; plain PyTorch '
                f'{slow:7.3f} ms'
            )
        y = bias_act.bias_act(x, b, act='lrelu', clamp=256.0)
        fast = milliseconds(
            partial(torch.ops.stylegan.bias_act_grad, x, y, None, 1, 'lrelu', 0.2, 2**0.5, 256.0)
        )
        share = 100 * 3 * x.numel() * x.element_size() / fast / 1e6 / bandwidth
        click.echo(f'  {"bias_act, backward":20s} {fast:7.3f} ms, {share:5.1f} % of a copy')
        if memory_format != torch.channels_last:
            continue
        scale, noise, strength = (
            torch.ones(shape[:2], device=target),
            torch.randn(shape[2:], device=target),
            torch.ones([], device=target),
        )
        inputs = [
            x.requires_grad_(True),
            scale.requires_grad_(True),
            noise,
            strength.requires_grad_(True),
            b.requires_grad_(True),
        ]
        y = modulated_act.modulated_act(*inputs, clamp=256.0)
        dy = torch.randn_like(y).requires_grad_(True)
        backward = partial(torch.autograd.grad, y, [x, scale, strength, b], dy, retain_graph=True)
        with conv2d_gradfix.no_weight_gradients():
            first = torch.autograd.grad(y, [x, scale], dy, create_graph=True)
        twice = partial(
            torch.autograd.grad,
            first,
            [dy, x, scale],
            [torch.randn_like(y), torch.ones_like(scale)],
            retain_graph=True,
        )
        forward = partial(
            modulated_act.modulated_act, *(tensor.detach() for tensor in inputs), clamp=256.0
        )
        for name, step, passes in [
            ('modulated_act', forward, 2),
            ('modulated_act, backward', backward, 4),
            ('modulated_act, twice', twice, 6),
        ]:
            fast = milliseconds(step)
            share = 100 * passes * x.numel() * x.element_size() / fast / 1e6 / bandwidth
            click.echo(f'  {name:23s} {fast:7.3f} ms, {share:5.1f} % of a copy')
    pipe = AugmentPipe(**dict.fromkeys(AUGPIPES['bg'], 1)).to(target)
    images = torch.randn([16, 3, 256, 256], device=target, requires_grad=True)

    def warp() -> None:
        torch.autograd.grad(pipe(images).sum(), images)

    fast = milliseconds(warp)
    with unittest.mock.patch.object(affine_sample, 'available', lambda x, f: False):
        slow = milliseconds(warp)
    ratios.append(slow / fast)
    click.echo(f'16x3x256x256, augmentations bg: {fast:7.3f} ms; plain PyTorch {slow:7.3f} ms')
    click.echo(f'speedup {float(np.median(ratios)):.2f}x')


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
