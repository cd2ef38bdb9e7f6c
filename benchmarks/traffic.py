"""Count what a training step would ask of a GPU, without one: launches, bytes through memory,
convolutions, and a lower bound of the time.

The phases run on tensors without numbers (PyTorch's `meta` device) that pass for a GPU's. What
would wait for the device, or mix it with the CPU, ends the count with an error. The optimisers'
steps are left out. The bound is computed from three numbers of a GPU and holds for nothing else: an
operator takes the longest of its bytes, its multiplications and its launch.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from baseline import PHASES, use_plain_ops  # noqa: E402

import dnnlib  # noqa: E402
from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402
from torch_utils import custom_ops  # noqa: E402
from training.config import AUGPIPES, build_config  # noqa: E402

WAITING = ('_local_scalar_dense', 'item', 'nonzero', 'is_nonzero', 'equal')
# no launch
NOTHING = (
    'empty',
    'empty_like',
    'empty_strided',
    'new_empty',
    'new_empty_strided',
    'detach',
    'lift_fresh',
    '_unsafe_view',
)
MOVES = ('copy_', '_to_copy')


@dataclass
class Usage:
    """Of operators of one kind and shape."""

    launches: int = 0
    bytes: float = 0.0
    flops: float = 0.0


@dataclass(frozen=True)
class Machine:
    """TB/s, TFLOP/s in float16, and microseconds a launch."""

    bandwidth: float
    tflops: float
    launch: float

    def milliseconds(self, shape: str, count: Usage) -> float:
        """At least, for operators of this shape."""
        peak = self.tflops if 'float16' in shape else self.tflops / 2
        return max(
            count.bytes / self.bandwidth / 1e9,
            count.flops / peak / 1e9,
            count.launches * self.launch / 1000,
        )


class Waiting(Exception):
    """What no GPU does without waiting."""


class Meter(TorchDispatchMode):
    """Counts the operators that run within it, by name and largest tensor; our own kernels too."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: defaultdict[tuple[str, str], Usage] = defaultdict(Usage)
        # whose addresses have been asked for since the last kernel
        self._touched: dict[int, torch.Tensor] = {}

    def add(self, name: str, tensors: Sequence[torch.Tensor], flops: float = 0.0) -> None:
        """Note an operator that reads or writes these."""
        count = self.counts[name, describe(max(tensors, key=size_of))]
        count.launches += 1
        count.bytes += sum(map(size_of, tensors))
        count.flops += flops

    def address(self, tensor: torch.Tensor) -> int:
        """In place of `Tensor.data_ptr`: a kernel is about to get it."""
        self._touched[id(tensor)] = tensor
        return 0

    def kernel(self, source: str, name: str, device_index: int | None) -> custom_ops.Kernel:
        """In place of `custom_ops.get_kernel`."""

        def launch(grid: tuple[int, int, int], block: int, args: Sequence[Any]) -> None:
            self.add(name.split('<')[0], list(self._touched.values()))
            self._touched.clear()

        return launch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name in WAITING:
            raise Waiting(f'{name} waits for the device')
        devices = {tensor.device.type for tensor in inputs if tensor.ndim > 0}
        if len(devices) > 1 or (
            name in MOVES and any(str(kwargs.get('device', device)) != device for device in devices)
        ):
            raise Waiting(
                f'{name} has tensors on '
                f'{" and ".join(sorted(devices | {str(kwargs.get("device", "meta"))}))}'
            )
        result = func(*args, **kwargs)
        # as cuDNN does, and as PyTorch cannot know here
        if name == 'convolution' and any(map(is_channels_last, args[:2])):
            result = result.contiguous(memory_format=torch.channels_last)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        tensors = [tensor for tensor in inputs + outputs if tensor.is_meta]
        if tensors and not func.is_view and name not in NOTHING:
            self.add(name, tensors, flops_of(name, args, outputs))
        return result


def size_of(tensor: torch.Tensor) -> int:
    """In bytes; what is repeated counts once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def is_channels_last(tensor: torch.Tensor) -> bool:
    """And not both."""
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def describe(tensor: torch.Tensor) -> str:
    """Such as `float16[16,64,256,256], channels_last`."""
    shape = ','.join(map(str, tensor.shape))
    return (
        f'{str(tensor.dtype)[6:]}[{shape}]{", channels_last" if is_channels_last(tensor) else ""}'
    )


def flops_of(name: str, args: Sequence[Any], outputs: Sequence[torch.Tensor]) -> float:
    """Of convolutions and their gradients: two for each pixel of the smaller pictures and each
    weight that it meets.
    """
    if name == 'convolution':
        pictures, weight, times = args[0] if args[6] else outputs[0], args[1], 1
    elif name == 'convolution_backward':
        pictures, weight, times = args[1] if args[7] else args[0], args[2], sum(args[10][:2])
    else:
        return 0.0
    return 2.0 * times * pictures.shape[0] * pictures.shape[2:].numel() * weight.numel()


def pass_for_a_gpu(meter: Meter) -> None:
    """Have this process take `meta` tensors for a GPU's, with kernels that do nothing."""
    torch.Tensor.is_cuda = property(lambda tensor: tensor.device.type == 'meta')  # type: ignore[assignment,method-assign]
    torch.Tensor.data_ptr = lambda tensor: meter.address(tensor)  # type: ignore[assignment,method-assign]
    custom_ops.enabled = lambda device: device.type == 'meta'  # type: ignore[assignment]
    custom_ops.get_kernel = meter.kernel  # type: ignore[assignment]


def report(name: str, meter: Meter, machine: Machine, top: int) -> tuple[Usage, float]:
    """Print a phase and its costliest operators; returns their sum and its milliseconds."""
    rows = [
        (machine.milliseconds(shape, count), operator, shape, count)
        for (operator, shape), count in meter.counts.items()
    ]
    total, milliseconds = Usage(), sum(row[0] for row in rows)
    for *_, count in rows:
        total = Usage(
            total.launches + count.launches, total.bytes + count.bytes, total.flops + count.flops
        )
    click.echo(
        f'{name}: {total.launches:5d} launches, {total.bytes / 1e9:6.2f} GB, '
        f'{total.flops / 1e12:5.2f} TFLOP; '
        f'at least {milliseconds:6.2f} ms, every {PHASES[name]} steps'
    )
    for cost, operator, shape, count in sorted(rows, key=lambda row: row[0], reverse=True)[:top]:
        click.echo(
            f'  {cost:7.3f} ms, {count.launches:3d} × {operator}, largest {shape}: '
            f'{count.bytes / 1e9:.2f} GB'
        )
    return total, milliseconds


POSITIVE = click.FloatRange(0, min_open=True)


@cli.command(name='traffic', help=__doc__)
@option('--resolution', type=click.IntRange(8), default=256, help='Size of the pictures.')
@option('--batch', type=click.IntRange(1), default=16, help='Pictures a step.')
@option('--cfg', default='auto', help='Preset of configs/.')
@option(
    '--augpipe',
    type=click.Choice(['none', *AUGPIPES]),
    default='bgc',
    help='Which augmentations; none for none.',
)
@option('--bandwidth', type=POSITIVE, default=2.8, help='Of the memory, in TB/s.')
@option(
    '--tflops',
    type=POSITIVE,
    default=500.0,
    help='Of convolutions in float16; half of it for others.',
)
@option('--launch', type=POSITIVE, default=1.5, help='Microseconds that the shortest kernel takes.')
@option(
    '--top',
    type=click.IntRange(0),
    default=0,
    help='Print so many of the costliest operators of each phase.',
)
@option(
    '--plain',
    type=bool,
    default=False,
    help="Count PyTorch's plain ops, without this project's kernels.",
)
def command(
    resolution: int,
    batch: int,
    cfg: str,
    augpipe: str,
    bandwidth: float,
    tflops: float,
    launch: float,
    top: int,
    plain: bool,
) -> None:
    from training.dataset import ImageFolderDataset
    from training.phases import Batch
    from training.run import setup

    meter = Meter()
    augment = (
        {'mode': 'noaug'} if augpipe == 'none' else {'mode': 'fixed', 'pipe': augpipe, 'p': 0.3}
    )
    config = build_config(
        cfg,
        resolution,
        1,
        {
            'batch_size': batch,
            'batch_gpu': batch,
            'augment': augment,
            'data': {'workers': 0},
            'network': {'mbstd_group_size': min(batch, 4)},
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        Image.new('RGB', (resolution, resolution)).save(Path(folder, '0.png'))
        run = setup(config, ImageFolderDataset(folder), torch.device('meta'))
    if plain:
        use_plain_ops()
    pass_for_a_gpu(meter)

    def draw(*size: int) -> torch.Tensor:
        return torch.empty([batch, *size], device='meta')

    machine = Machine(bandwidth, tflops, launch)
    click.echo(
        f'{resolution} px, batch {batch}, cfg {cfg}, augpipe '
        f'{augpipe}{", plain ops" if plain else ""}; '
        f'PyTorch {torch.__version__}; bound for {bandwidth:g} TB/s, {tflops:g} TFLOP/s, '
        f'{launch:g} µs a launch'
    )
    step = Usage()
    total = 0.0
    for phase in run.phases:
        inputs = Batch(
            draw(3, resolution, resolution), draw(0), draw(config.network.z_dim), draw(0)
        )
        phase.optimizer.step = lambda: None  # type: ignore[method-assign]
        for _ in range(2):  # the first time makes what stays
            meter.counts.clear()
            try:
                with meter:
                    phase.run(inputs, batch)
            except Waiting as error:
                less = (
                    '; without kernels large batches do: take a smaller --batch or --augpipe=none'
                    if plain
                    else ''
                )
                raise dnnlib.UserError(
                    f'{phase.name} waits for the device and cannot be counted ({error}){less}'
                ) from error
        count, milliseconds = report(phase.name, meter, machine, top)
        share = 1 / PHASES[phase.name]
        step = Usage(
            step.launches + round(count.launches * share),
            step.bytes + count.bytes * share,
            step.flops + count.flops * share,
        )
        total += milliseconds * share
    click.echo(
        f'step: {step.launches} launches, {step.bytes / 1e9:.2f} GB, '
        f'{step.flops / 1e12:.2f} TFLOP; at least {total:.2f} ms, '
        f'{total / batch:.2f} s/kimg'
    )


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
