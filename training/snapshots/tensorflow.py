"""TensorFlow snapshots of `stylegan2` and `stylegan2-ada`: a pickled tuple (G, D, Gs) of
`dnnlib.tflib.network.Network`.

Read only: what TensorFlow would run is the source text inside such a file, which is NVIDIA's and
can't be written here. Weights are stored transposed (HWIO, in × out), `Conv0_up` and the upsampling
skips are flipped in both axes, and the biases of the modulation are one less.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dnnlib import UserError, printable

from .. import networks
from .unpickling import TFNetwork
from .validation import MAX_RESOLUTION, blank, build, channel_kwargs, check_no_bomb, number, whole

MAX_PARTS = 10  # of a network; a generator has two
MAX_VARIABLES = 5000  # of a network; one for 1024 px has 300
MAX_NAME = 200  # characters


def read(content: Any, name: str) -> dict[str, Any]:
    """Turn an unpickled tuple into networks. See `nvidia.read`.

    Raises:
        UserError: not StyleGAN2, or of a variant that these networks can't express.
    """
    if (
        not isinstance(content, tuple)
        or len(content) != 3
        or not all(isinstance(net, TFNetwork) for net in content)
    ):
        raise UserError(f'{name}: a TensorFlow pickle, but not a tuple of G, D and Gs')
    G, D, Gs = content
    try:
        return {
            'G': _generator(G, f'{name}: G'),
            'D': _discriminator(D, f'{name}: D'),
            'G_ema': _generator(Gs, f'{name}: Gs'),
            'augment_pipe': None,
        }
    except (
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
        ArithmeticError,
    ) as error:
        raise UserError(
            f'{name}: no StyleGAN2 network that this program knows '
            f'({type(error).__name__}: {printable(error)})'
        ) from error


@dataclass
class _Source:
    """The variables and settings of a network and its components, `mapping/…` and `synthesis/…`
    included.
    """

    name: str
    variables: dict[str, np.ndarray]
    static: dict[str, Any]

    @classmethod
    def of(cls, network: TFNetwork, name: str) -> '_Source':
        variables: dict[str, np.ndarray] = {}
        static: dict[str, Any] = {}
        parts = network.state.get('components') or {}
        if len(parts) > MAX_PARTS:
            raise ValueError(f'a network of {len(parts)} parts')
        for prefix, part in [('', network), *((f'{key}/', part) for key, part in parts.items())]:
            static.update(part.state.get('static_kwargs') or {})
            if len(variables) + len(part.state['variables']) > MAX_VARIABLES:
                raise ValueError('more variables than any network has')
            for key, value in part.state['variables']:
                if not isinstance(key, str) or len(prefix) + len(key) > MAX_NAME:
                    raise ValueError('a variable without a name, or with an endless one')
                variables[prefix + key] = _real(value)
        check_no_bomb(torch.from_numpy(value) for value in variables.values() if value.ndim > 0)
        if any(
            key.endswith('/lrelu/w') or '/StyleMod/' in key or '/LayerEpilogue/' in key
            for key in variables
        ):
            raise UserError(f'{name}: a StyleGAN1 network; this toolkit is for StyleGAN2')
        if any('LabelConcat' in key for key in variables):
            raise UserError(
                f"{name}: StyleGAN2's first kind of label input (LabelConcat), which "
                f"these networks don't have"
            )
        return cls(name, variables, static)

    def resolution(self, prefix: str = '') -> int:
        sizes = [
            int(key[len(prefix) :].split('x')[0])
            for key in self.variables
            if key.startswith(prefix) and key[len(prefix) :].split('/')[0].split('x')[0].isdigit()
        ]
        height, width = (
            whole(self.static.get(key, 1), 1, MAX_RESOLUTION)
            for key in ('resolution_h', 'resolution_w')
        )
        if height != width:
            raise UserError(
                f'{self.name}: a network for {width}×{height} pictures; only square '
                f'ones are known here'
            )
        return whole(max(sizes), 4, MAX_RESOLUTION)

    def has(self, end: str) -> bool:
        return any(key.endswith(end) or f'/{end}' in key for key in self.variables)

    def dense(self, name: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.variables[name].T))

    def conv(self, name: str, flip: bool = False) -> torch.Tensor:
        weight = self.variables[name]
        return torch.from_numpy(
            np.ascontiguousarray((weight[::-1, ::-1] if flip else weight).transpose(3, 2, 0, 1))
        )

    def plain(self, name: str, plus: float = 0) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.variables[name] + np.float32(plus)))


def _real(value: Any) -> np.ndarray:
    """A variable: an array of floats, or one number."""
    if type(value) in (int, float):
        return np.asarray(float(value))
    if not isinstance(value, np.ndarray) or value.dtype.kind != 'f' or value.dtype.itemsize < 4:
        raise ValueError('a variable that is no array of real numbers')
    return value


# Long because it is a table: where each tensor of ours comes from.
def _generator(network: TFNetwork, name: str) -> networks.Generator:
    source = _Source.of(network, name)
    if 'synthesis/4x4/Const/const' not in source.variables:
        raise UserError(
            f'{name}: no StyleGAN2 generator ({printable(next(iter(source.variables), "empty"))})'
        )
    resolution = source.resolution('synthesis/')
    log2 = int(math.log2(resolution))
    architecture = (
        'orig'
        if source.has('ToRGB_lod0/weight')
        else 'resnet'
        if source.has('Skip/weight')
        else 'skip'
    )
    layers = sum(
        key.startswith('mapping/Dense') and key.endswith('/weight') for key in source.variables
    )
    channels = {4: source.variables['synthesis/4x4/Const/const'].shape[1]}
    channels.update(
        {
            1 << i: source.variables[f'synthesis/{1 << i}x{1 << i}/Conv1/weight'].shape[3]
            for i in range(3, log2 + 1)
        }
    )
    last_rgb = f'synthesis/{resolution}x{resolution}/ToRGB' + (
        '_lod0' if architecture == 'orig' else ''
    )
    z_dim, c_dim = (
        source.static.get('latent_size', 512),
        whole(source.static.get('label_size', 0), 0, 1 << 20),
    )
    w_dim, img_channels = (
        source.variables['dlatent_avg'].shape[0],
        source.variables[f'{last_rgb}/weight'].shape[3],
    )
    mapping = dict(
        num_layers=layers,
        lr_multiplier=float(number(source.static.get('mapping_lrmul', 0.01))),
        w_avg_beta=float(
            number(
                source.static.get('dlatent_avg_beta') or source.static.get('w_avg_beta') or 0.995
            )
        ),
    )
    if layers > 1:
        mapping['layer_features'] = source.variables['mapping/Dense0/weight'].shape[1]
    kwargs = dict(
        z_dim=z_dim,
        c_dim=c_dim,
        w_dim=w_dim,
        img_resolution=resolution,
        img_channels=img_channels,
        mapping_kwargs=mapping,
        synthesis_kwargs=dict(
            **channel_kwargs(channels),
            architecture=architecture,
            num_fp16_res=_num_fp16(source),
            conv_clamp=source.static.get('conv_clamp'),
        ),
    )
    _, tensors = blank(networks.Generator, kwargs)
    tensors['mapping.w_avg'] = source.plain('dlatent_avg')
    _mapping(tensors, source, 'mapping/', 'Dense', layers, c_dim)
    tensors['synthesis.b4.const'] = source.plain('synthesis/4x4/Const/const')[0]
    _synthesis_layer(tensors, source, 'synthesis.b4.conv1', 'synthesis/4x4/Conv', 0)
    for i in range(3, log2 + 1):
        ours, theirs = f'synthesis.b{1 << i}', f'synthesis/{1 << i}x{1 << i}'
        _synthesis_layer(
            tensors, source, f'{ours}.conv0', f'{theirs}/Conv0_up', 2 * i - 5, flip=True
        )
        _synthesis_layer(tensors, source, f'{ours}.conv1', f'{theirs}/Conv1', 2 * i - 4)
        if architecture == 'resnet':
            tensors[f'{ours}.skip.weight'] = source.conv(f'{theirs}/Skip/weight', flip=True)
    for i in range(2, log2 + 1) if architecture == 'skip' else [log2]:
        ours = f'synthesis.b{1 << i}.torgb'
        theirs = f'synthesis/{1 << i}x{1 << i}/ToRGB' + ('_lod0' if architecture == 'orig' else '')
        tensors[f'{ours}.weight'], tensors[f'{ours}.bias'] = (
            source.conv(f'{theirs}/weight'),
            source.plain(f'{theirs}/bias'),
        )
        _affine(tensors, source, ours, theirs)
    return build(networks.Generator, kwargs, tensors, name)


# Long for the same reason as `_generator`.
def _discriminator(network: TFNetwork, name: str) -> networks.Discriminator:
    source = _Source.of(network, name)
    resolution = source.resolution()
    log2 = int(math.log2(resolution))
    c_dim = whole(source.static.get('label_size', 0), 0, 1 << 20)
    top = f'{resolution}x{resolution}'
    if source.has('FromRGB_lod0/weight'):
        architecture = 'orig'
    elif source.has('Skip/weight'):
        architecture = 'resnet'
    elif f'{resolution >> 1}x{resolution >> 1}/FromRGB/weight' in source.variables:
        architecture = 'skip'
    else:
        architecture = 'orig'
    lod = '_lod0' if source.has('FromRGB_lod0/weight') else ''
    channels = {
        1 << i: source.variables[f'{1 << i}x{1 << i}/Conv0/weight'].shape[3]
        for i in range(3, log2 + 1)
    }
    channels[4] = source.variables['4x4/Conv/weight'].shape[3]
    layers = sum(key.startswith('Mapping') and key.endswith('/weight') for key in source.variables)
    statistics = source.variables['4x4/Conv/weight'].shape[2] - channels[4]
    group = source.static.get('mbstd_group_size', 4)
    kwargs: dict[str, Any] = dict(
        c_dim=c_dim,
        img_resolution=resolution,
        img_channels=source.variables[f'{top}/FromRGB{lod}/weight'].shape[2],
        architecture=architecture,
        **channel_kwargs(channels),
        num_fp16_res=_num_fp16(source),
        conv_clamp=source.static.get('conv_clamp'),
        epilogue_kwargs=dict(mbstd_group_size=group, mbstd_num_channels=statistics),
    )
    if c_dim > 0:
        if not layers:
            raise UserError(
                f"{name}: StyleGAN2's first kind of label input, which these networks don't have"
            )
        kwargs.update(
            cmap_dim=source.variables['Output/weight'].shape[1],
            mapping_kwargs=dict(num_layers=layers),
        )
    _, tensors = blank(networks.Discriminator, kwargs)
    for i in range(3, log2 + 1):
        ours, theirs = f'b{1 << i}', f'{1 << i}x{1 << i}'
        if i == log2 or architecture == 'skip':
            _conv(tensors, source, f'{ours}.fromrgb', f'{theirs}/FromRGB{lod}')
        _conv(tensors, source, f'{ours}.conv0', f'{theirs}/Conv0')
        _conv(tensors, source, f'{ours}.conv1', f'{theirs}/Conv1_down')
        if architecture == 'resnet':
            tensors[f'{ours}.skip.weight'] = source.conv(f'{theirs}/Skip/weight')
    if architecture == 'skip':
        _conv(tensors, source, 'b4.fromrgb', '4x4/FromRGB')
    _conv(tensors, source, 'b4.conv', '4x4/Conv')
    for ours, theirs in [('b4.fc', '4x4/Dense0'), ('b4.out', 'Output')]:
        tensors[f'{ours}.weight'], tensors[f'{ours}.bias'] = (
            source.dense(f'{theirs}/weight'),
            source.plain(f'{theirs}/bias'),
        )
    if c_dim > 0:
        _mapping(tensors, source, '', 'Mapping', layers, c_dim)
    return build(networks.Discriminator, kwargs, tensors, name)


def _num_fp16(source: _Source) -> int:
    # more than there are means all of them
    return min(whole(source.static.get('num_fp16_res', 0), 0, 1 << 60), 100)


def _mapping(
    tensors: dict[str, torch.Tensor],
    source: _Source,
    prefix: str,
    layer: str,
    layers: int,
    c_dim: int,
) -> None:
    pairs = [(f'fc{i}', f'{layer}{i}') for i in range(layers)] + (
        [('embed', 'LabelEmbed')] if c_dim > 0 else []
    )
    for ours, theirs in pairs:
        tensors[f'mapping.{ours}.weight'] = source.dense(f'{prefix}{theirs}/weight')
        tensors[f'mapping.{ours}.bias'] = source.plain(f'{prefix}{theirs}/bias')


def _synthesis_layer(
    tensors: dict[str, torch.Tensor],
    source: _Source,
    ours: str,
    theirs: str,
    noise: int,
    flip: bool = False,
) -> None:
    tensors[f'{ours}.weight'] = source.conv(f'{theirs}/weight', flip)
    tensors[f'{ours}.bias'] = source.plain(f'{theirs}/bias')
    tensors[f'{ours}.noise_strength'] = source.plain(f'{theirs}/noise_strength').reshape([])
    tensors[f'{ours}.noise_const'] = source.plain(f'synthesis/noise{noise}')[0, 0]
    _affine(tensors, source, ours, theirs)


def _affine(tensors: dict[str, torch.Tensor], source: _Source, ours: str, theirs: str) -> None:
    tensors[f'{ours}.affine.weight'] = source.dense(f'{theirs}/mod_weight')
    tensors[f'{ours}.affine.bias'] = source.plain(f'{theirs}/mod_bias', plus=1)


def _conv(tensors: dict[str, torch.Tensor], source: _Source, ours: str, theirs: str) -> None:
    tensors[f'{ours}.weight'], tensors[f'{ours}.bias'] = (
        source.conv(f'{theirs}/weight'),
        source.plain(f'{theirs}/bias'),
    )
