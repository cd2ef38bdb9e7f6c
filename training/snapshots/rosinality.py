"""rosinality's `.pt` files (`stylegan2-pytorch`): `g_ema`, sometimes `g d latent_avg`.

The generator is StyleGAN2's `skip`, the discriminator its `resnet`. Weights are the same numbers as
NVIDIA's under other names, with a leading axis here and there; the blur kernels are constants and
are not carried.
"""

import io
import logging
import math
import re
from typing import Any, cast

import torch

from dnnlib import UserError, printable
from dnnlib.util import MAX_TEXT
from torch_utils.misc import named_tensors, save_plain
from torch_utils.torch_file import load

from .. import networks
from .validation import MAX_RESOLUTION, blank, build, channel_kwargs, check_no_bomb, plain_data

log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
MAX_TENSORS = 5000  # of a network; one for 1024 px has 300


# Long because of its list of what a damaged file may raise.
def read(data: bytes, name: str, trusted: bool = False) -> dict[str, Any]:
    """Read a checkpoint. See `nvidia.read`.

    Args:
        trusted: whatever the pickle inside asks for is executed.

    Returns:
        `G`, `D`, `G_ema` (None where the file has none); `augment_pipe` is None; `toonify` where
        this project wrote the file.

    Raises:
        UserError: damaged, hostile, or of another architecture.
    """
    try:
        content = (
            torch.load(io.BytesIO(data), map_location='cpu', weights_only=False)
            if trusted
            else load(data)
        )
    except Exception as error:  # whatever the reason, it is the file's
        reason = printable(error) or type(error).__name__
        raise UserError(
            f'{name}: not a PyTorch file that can be read without executing it ({reason})'
        ) from error
    if (
        not isinstance(content, dict)
        or not isinstance(content.get('g_ema'), dict)
        or 'style.1.weight' not in content['g_ema']
    ):
        raise UserError(
            f"{name}: a PyTorch file, but not one of rosinality's StyleGAN2: it should hold g_ema"
        )
    w_avg = content.get('latent_avg')
    try:
        for part in ('g_ema', 'g', 'd'):
            names = content.get(part, {}).keys()
            if len(names) > MAX_TENSORS or not all(
                isinstance(key, str) and len(key) <= MAX_TEXT for key in names
            ):
                raise ValueError('more tensors, or longer names, than any network has')
        check_no_bomb(
            tensor for part in ('g_ema', 'g', 'd') for tensor in content.get(part, {}).values()
        )
        check_no_bomb([] if w_avg is None else [w_avg])
        own = content.get('toonify')
        return {
            'G_ema': _generator(content['g_ema'], w_avg, f'{name}: g_ema'),
            'G': _generator(content['g'], w_avg, f'{name}: g') if 'g' in content else None,
            'D': _discriminator(content['d'], f'{name}: d') if 'd' in content else None,
            'augment_pipe': None,
            **(plain_data({'toonify': own}) if isinstance(own, dict) else {}),
        }
    except (
        KeyError,
        IndexError,
        ValueError,
        AttributeError,
        RuntimeError,
        TypeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise UserError(
            f"{name}: tensors that rosinality's StyleGAN2 has are missing or misshapen "
            f'({printable(error)})'
        ) from error


def write(file: Any, content: dict[str, Any]) -> None:
    """Write `g_ema`, and `g d latent_avg` where they are there, for rosinality's scripts; and this
    project's own `toonify`.

    Raises:
        UserError: the networks are of an architecture that this format cannot hold.
    """
    G_ema = content['G_ema']
    out: dict[str, Any] = {
        'g_ema': _generator_out(G_ema),
        'latent_avg': G_ema.mapping.w_avg.detach().cpu().clone(),
    }
    if content.get('G') is not None:
        out['g'] = _generator_out(content['G'])
    if content.get('D') is not None:
        out['d'] = _discriminator_out(content['D'])
    if content.get('toonify'):  # lineage; their scripts pass over a key that they don't know
        out['toonify'] = content['toonify']
    save_plain(out, file)


def _generator_names(resolution: int, layers: int) -> list[tuple[str, str]]:
    """Pairs of our tensor names and theirs."""
    pairs = [
        (f'mapping.fc{i}.{kind}', f'style.{i + 1}.{kind}')
        for i in range(layers)
        for kind in ('weight', 'bias')
    ]
    pairs.append(('synthesis.b4.const', 'input.input'))

    def affine(ours: str, theirs: str) -> list[tuple[str, str]]:
        return [
            (f'{ours}.affine.{kind}', f'{theirs}.conv.modulation.{kind}')
            for kind in ('weight', 'bias')
        ]

    def layer(ours: str, theirs: str, noise: int) -> None:
        pairs.extend(
            [
                (f'{ours}.weight', f'{theirs}.conv.weight'),
                (f'{ours}.bias', f'{theirs}.activate.bias'),
                *affine(ours, theirs),
                (f'{ours}.noise_strength', f'{theirs}.noise.weight'),
                (f'{ours}.noise_const', f'noises.noise_{noise}'),
            ]
        )

    def to_rgb(ours: str, theirs: str) -> None:
        pairs.extend(
            [
                (f'{ours}.weight', f'{theirs}.conv.weight'),
                (f'{ours}.bias', f'{theirs}.bias'),
                *affine(ours, theirs),
            ]
        )

    layer('synthesis.b4.conv1', 'conv1', 0)
    to_rgb('synthesis.b4.torgb', 'to_rgb1')
    for i in range(int(math.log2(resolution)) - 2):
        block = f'synthesis.b{8 << i}'
        layer(f'{block}.conv0', f'convs.{2 * i}', 2 * i + 1)
        layer(f'{block}.conv1', f'convs.{2 * i + 1}', 2 * i + 2)
        to_rgb(f'{block}.torgb', f'to_rgbs.{i}')
    return pairs


def _discriminator_names(resolution: int) -> list[tuple[str, str]]:
    pairs = [
        (f'b{resolution}.fromrgb.weight', 'convs.0.0.weight'),
        (f'b{resolution}.fromrgb.bias', 'convs.0.1.bias'),
    ]
    for i in range(int(math.log2(resolution)) - 2):
        ours, theirs = f'b{resolution >> i}', f'convs.{i + 1}'
        pairs += [
            (f'{ours}.conv0.weight', f'{theirs}.conv1.0.weight'),
            (f'{ours}.conv0.bias', f'{theirs}.conv1.1.bias'),
            (f'{ours}.conv1.weight', f'{theirs}.conv2.1.weight'),
            (f'{ours}.conv1.bias', f'{theirs}.conv2.2.bias'),
            (f'{ours}.skip.weight', f'{theirs}.skip.1.weight'),
        ]
    return [
        *pairs,
        ('b4.conv.weight', 'final_conv.0.weight'),
        ('b4.conv.bias', 'final_conv.1.bias'),
        ('b4.fc.weight', 'final_linear.0.weight'),
        ('b4.fc.bias', 'final_linear.0.bias'),
        ('b4.out.weight', 'final_linear.1.weight'),
        ('b4.out.bias', 'final_linear.1.bias'),
    ]


def _read_pairs(
    pairs: list[tuple[str, str]], theirs: Tensors, module_shapes: dict[str, torch.Size]
) -> Tensors:
    return {ours: theirs[name].view(module_shapes[ours]) for ours, name in pairs}


def _generator(theirs: Tensors, w_avg: torch.Tensor | None, name: str) -> networks.Generator:
    resolution = 8 << _highest('to_rgbs', theirs)
    layers = sum(bool(re.fullmatch(r'style\.\d+\.weight', key)) for key in theirs)
    channels = {4: theirs['input.input'].shape[1]}
    channels.update(
        {
            8 << i: theirs[f'convs.{2 * i + 1}.conv.weight'].shape[1]
            for i in range(int(math.log2(resolution)) - 2)
        }
    )
    w_dim, z_dim = theirs['style.1.weight'].shape
    kwargs = dict(
        z_dim=z_dim,
        c_dim=0,
        w_dim=w_dim,
        img_resolution=resolution,
        img_channels=theirs['to_rgb1.bias'].numel(),
        mapping_kwargs=dict(num_layers=layers),
        synthesis_kwargs=dict(**channel_kwargs(channels), architecture='skip'),
    )
    shapes, filters = blank(networks.Generator, kwargs)
    tensors = {**_read_pairs(_generator_names(resolution, layers), theirs, shapes), **filters}
    tensors['mapping.w_avg'] = w_avg.view(w_dim) if w_avg is not None else torch.zeros([w_dim])
    G = build(networks.Generator, kwargs, tensors, name)
    if w_avg is None:  # what rosinality's own scripts do
        log.warning(
            '%s: the file has no latent_avg; w_avg is estimated from %s latents',
            name,
            f'{_estimate_w_avg(G):,}',
        )
    return G


def _highest(layer: str, theirs: Tensors) -> int:
    """The highest number of a layer, if there can be a network with so many."""
    highest = max(
        int(match[1]) for key in theirs if (match := re.match(rf'{layer}\.([0-9]+)\.', key))
    )
    if highest > math.log2(MAX_RESOLUTION):
        raise ValueError(f'a layer {layer}.{highest}')
    return highest


def _estimate_w_avg(G: networks.Generator) -> int:
    """Set it to the mean over many latents, and say how many: fewer for mappings larger than those
    in use.
    """
    numbers = sum(tensor.numel() for tensor in G.mapping.parameters())
    count = max(100, min(10_000, (1 << 36) // numbers))
    size = max(
        1,
        min(
            400,
            (1 << 22)
            // max(
                G.num_ws * G.w_dim, G.z_dim, *(tensor.shape[0] for tensor in G.mapping.parameters())
            ),
        ),
    )
    random = torch.Generator().manual_seed(0)
    total = torch.zeros([G.w_dim], dtype=torch.float64)
    for start in range(0, count, size):
        z = torch.randn([min(size, count - start), G.z_dim], generator=random)
        total += G.mapping(z, None)[:, 0].sum(dim=0, dtype=torch.float64)
    G.mapping.w_avg.copy_(total / count)
    return count


def _discriminator(theirs: Tensors, name: str) -> networks.Discriminator:
    blocks = _highest('convs', theirs)
    resolution = 4 << blocks
    channels = {
        resolution >> i: theirs[f'convs.{i + 1}.conv1.0.weight'].shape[0] for i in range(blocks)
    }
    channels[4] = theirs['final_conv.0.weight'].shape[0]
    kwargs = dict(
        c_dim=0,
        img_resolution=resolution,
        img_channels=theirs['convs.0.0.weight'].shape[1],
        architecture='resnet',
        **channel_kwargs(channels),
    )
    shapes, filters = blank(networks.Discriminator, kwargs)
    tensors = {**_read_pairs(_discriminator_names(resolution), theirs, shapes), **filters}
    return build(networks.Discriminator, kwargs, tensors, name)


def _generator_out(G: networks.Generator) -> Tensors:
    block = cast(networks.SynthesisBlock, G.synthesis.b4)
    if (
        G.c_dim != 0
        or block.architecture != 'skip'
        or not block.conv1.use_noise
        or G.z_dim != G.w_dim
    ):
        raise UserError(
            "rosinality's format holds only unconditional generators of architecture "
            'skip, with noise, and with z_dim = w_dim'
        )
    ours = dict(named_tensors(G))
    out = {}
    for name, theirs in _generator_names(G.img_resolution, G.mapping.num_layers):
        tensor = ours[name].detach().cpu().clone()
        if theirs.endswith('conv.weight') or theirs == 'input.input':
            tensor = tensor[None]
        elif theirs.startswith('noises.'):
            tensor = tensor[None, None]
        elif theirs.endswith('noise.weight'):
            tensor = tensor.reshape(1)
        elif re.fullmatch(r'to_rgb\w*(\.\d+)?\.bias', theirs):
            tensor = tensor.reshape(1, -1, 1, 1)
        out[theirs] = tensor
    # their upsampling filters carry the gain of 4
    for i in range(int(math.log2(G.img_resolution)) - 2):
        kernel = ours[f'synthesis.b{8 << i}.resample_filter'].detach().cpu() * 4
        out[f'convs.{2 * i}.conv.blur.kernel'] = out[f'to_rgbs.{i}.upsample.kernel'] = kernel
    return out


def _discriminator_out(D: networks.Discriminator) -> Tensors:
    if D.c_dim != 0 or getattr(D, f'b{D.img_resolution}').architecture != 'resnet':
        raise UserError(
            "rosinality's format holds only unconditional discriminators of architecture resnet"
        )
    ours = dict(named_tensors(D))
    out = {
        theirs: ours[name].detach().cpu().clone()
        for name, theirs in _discriminator_names(D.img_resolution)
    }
    for i in range(int(math.log2(D.img_resolution)) - 2):
        kernel = ours[f'b{D.img_resolution >> i}.resample_filter'].detach().cpu().clone()
        out[f'convs.{i + 1}.conv2.0.kernel'] = out[f'convs.{i + 1}.skip.0.kernel'] = kernel
    return out
