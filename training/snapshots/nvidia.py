"""NVIDIA's PyTorch snapshots: `stylegan2-ada-pytorch` and `stylegan3 --cfg=stylegan2`, read and
written.

A file is a pickled dict `G D G_ema augment_pipe training_set_kwargs`. Each network is a persistent
object: the source of its module, a class name and the instance's state. Reading takes the
architecture from the state and from the tensors' shapes, builds our own class, and copies every
tensor. Writing embeds our source, which NVIDIA's loaders run.
"""

import io
import pickle
import re
from collections import OrderedDict
from typing import Any

import torch

from dnnlib import UserError, printable
from torch_utils import persistence

from .. import augment, networks
from .unpickling import Record
from .validation import (
    ACTIVATIONS,
    ARCHITECTURES,
    MAX_RESOLUTION,
    build,
    channel_kwargs,
    check_no_bomb,
    check_settings,
    clamp,
    flag,
    fused_modconv,
    number,
    plain_data,
    taps,
    whole,
    word,
)

NETWORKS = ('G', 'D', 'G_ema', 'augment_pipe')


def read(content: Any, name: str) -> dict[str, Any]:
    """Turn an unpickled dict into networks.

    Args:
        content: what `safe_pickle.load` made of the file.
        name: what to call it in an error.

    Returns:
        The networks under `G`, `D`, `G_ema`, `augment_pipe` (None where the file has none), float32
        on the CPU, in evaluation mode, without gradients; `training_set_kwargs`; whatever else the
        file holds.

    Raises:
        UserError: not StyleGAN2, or of a variant that these networks can't express.
    """
    if not isinstance(content, dict) or not any(
        isinstance(content.get(key), Record) for key in ('G', 'G_ema')
    ):
        raise UserError(
            f'{name}: a pickle, but not a StyleGAN2 snapshot: it should be a dict with G and G_ema'
        )
    builders = dict(G=_generator, G_ema=_generator, D=_discriminator, augment_pipe=_augment_pipe)
    try:
        result = plain_data(
            {
                key: value
                for key, value in content.items()
                if isinstance(key, str) and key not in NETWORKS
            }
        )
        check_no_bomb(
            tensor
            for key in NETWORKS
            if isinstance(content.get(key), Record)
            for tensor in content[key].tensors().values()
        )
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f'{name}: no StyleGAN2 snapshot ({printable(error)})') from error
    for key in NETWORKS:
        record = content.get(key)
        try:
            result[key] = (
                builders[key](record, f'{name}: {key}') if isinstance(record, Record) else None
            )
        except (
            KeyError,
            AttributeError,
            TypeError,
            ValueError,
            IndexError,
            RuntimeError,
            MemoryError,
            ArithmeticError,
        ) as error:
            raise UserError(
                f'{name}: {key} is no StyleGAN2 network that this program knows '
                f'({type(error).__name__}: {printable(error)})'
            ) from error
    return result


def write(file: Any, content: dict[str, Any]) -> None:
    """Write a snapshot that NVIDIA's loaders and this project's read.

    Args:
        file: a binary file, open for writing.
        content: as `read` returns it: modules, None, and plain data.
    """
    plain = {
        key: _Persistent(value) if isinstance(value, torch.nn.Module) else value
        for key, value in content.items()
    }
    pickle.dump(plain, file, protocol=3)  # the newest that Python 3.7 reads and writes alike


# ----------------------------------------------------------------------------
# Reading


def _generator(record: Record, name: str) -> networks.Generator:
    state, synthesis = record.state, record.modules['synthesis']
    if 'b4' not in synthesis.modules:
        raise UserError(f'{name}: a StyleGAN3 network; this toolkit is for StyleGAN2')
    resolution = whole(state['img_resolution'], 4, MAX_RESOLUTION)
    kwargs = dict(
        z_dim=state['z_dim'],
        c_dim=state['c_dim'],
        w_dim=state['w_dim'],
        img_resolution=resolution,
        img_channels=state['img_channels'],
        mapping_kwargs=_mapping_kwargs(record.modules['mapping']),
        synthesis_kwargs=_synthesis_kwargs(record, resolution),
    )
    return build(networks.Generator, kwargs, record.tensors(), name)


def _mapping_kwargs(record: Record) -> dict[str, Any]:
    state, layers = record.state, record.modules
    first, w_dim = layers['fc0'], whole(state['w_dim'], 1, 1 << 20)
    kwargs: dict[str, Any] = dict(
        num_layers=whole(state['num_layers'], 1, 100), w_avg_beta=state['w_avg_beta']
    )
    # what a file claims must be there before it is built
    if kwargs['num_layers'] != sum(key.startswith('fc') for key in layers):
        raise ValueError(f'{kwargs["num_layers"]} mapping layers are claimed and not there')
    defaults = dict(
        activation='lrelu', lr_multiplier=0.01, layer_features=w_dim, embed_features=w_dim
    )
    found = dict(
        activation=word(first.state['activation'], ACTIVATIONS),
        lr_multiplier=float(number(first.state['bias_gain'])),
    )
    if kwargs['num_layers'] > 1:
        found['layer_features'] = _weight(first).shape[0]
    if 'embed' in layers:
        found['embed_features'] = _weight(layers['embed']).shape[0]
    kwargs.update({key: value for key, value in found.items() if value != defaults[key]})
    return kwargs


def _synthesis_kwargs(record: Record, resolution: int) -> dict[str, Any]:
    blocks = record.modules['synthesis'].modules
    top, layer = blocks[f'b{resolution}'], blocks[f'b{resolution}'].modules['conv1']
    init = record.state.get('_init_kwargs') or {}
    init = {**(init.get('synthesis_kwargs') or {}), **init}
    channels = {
        _resolution(key): _weight(block.modules['conv1']).shape[0] for key, block in blocks.items()
    }
    kwargs = dict(
        **channel_kwargs(channels, init),
        **_block_kwargs(blocks, layer, top),
        architecture=word(top.state['architecture'], ARCHITECTURES),
    )
    found = dict(
        activation=word(layer.state['activation'], ACTIVATIONS),
        use_noise=flag(layer.state['use_noise']),
        fused_modconv_default=fused_modconv(
            top.state.get('fused_modconv_default', 'inference_only')
        ),
    )
    defaults = dict(activation='lrelu', use_noise=True, fused_modconv_default='inference_only')
    kwargs.update({key: value for key, value in found.items() if value != defaults[key]})
    return kwargs


def _discriminator(record: Record, name: str) -> networks.Discriminator:
    state, parts = record.state, record.modules
    resolution, c_dim = (
        whole(state['img_resolution'], 8, MAX_RESOLUTION),
        whole(state['c_dim'], 0, 1 << 20),
    )
    blocks = {key: block for key, block in parts.items() if key.startswith('b') and key != 'b4'}
    top, epilogue = blocks[f'b{resolution}'], parts['b4']
    channels = {
        _resolution(key): _weight(block.modules['conv0']).shape[0] for key, block in blocks.items()
    }
    channels[4] = _weight(epilogue.modules['conv']).shape[0]
    ordered = [
        layer
        for key in sorted(blocks, key=lambda key: -_resolution(key))
        for layer in blocks[key].modules.values()
    ]
    frozen = sum('weight' in layer.state['_buffers'] for layer in ordered)
    common = _block_kwargs(blocks, top.modules['conv0'], top)
    block_kwargs: dict[str, Any] = {
        key: common.pop(key) for key in ('fp16_channels_last', 'resample_filter') if key in common
    }
    if frozen:
        block_kwargs['freeze_layers'] = frozen
    kwargs: dict[str, Any] = dict(
        c_dim=c_dim,
        img_resolution=resolution,
        img_channels=state['img_channels'],
        architecture=top.state['architecture'],
        **common,
        **channel_kwargs(channels, state.get('_init_kwargs', {})),
        block_kwargs=block_kwargs,
        epilogue_kwargs=_epilogue_kwargs(epilogue, common['conv_clamp']),
    )
    if c_dim > 0:
        kwargs.update(
            cmap_dim=epilogue.state['cmap_dim'], mapping_kwargs=_mapping_kwargs(parts['mapping'])
        )
    activation = word(top.modules['conv0'].state['activation'], ACTIVATIONS)
    if activation != 'lrelu':
        block_kwargs['activation'] = activation
    return build(networks.Discriminator, kwargs, record.tensors(), name)


def _epilogue_kwargs(epilogue: Record, conv_clamp: float | None) -> dict[str, Any]:
    conv, mbstd = epilogue.modules['conv'].state, epilogue.modules.get('mbstd')
    kwargs: dict[str, Any] = (
        dict(mbstd_num_channels=0)
        if mbstd is None
        else dict(mbstd_group_size=mbstd.state['group_size'])
    )
    if mbstd is not None and whole(mbstd.state.get('num_channels', 1), 1, 1 << 16) != 1:
        kwargs['mbstd_num_channels'] = mbstd.state['num_channels']
    if word(conv['activation'], ACTIVATIONS) != 'lrelu':
        kwargs['activation'] = conv['activation']
    if clamp(conv['conv_clamp']) != conv_clamp:
        kwargs['conv_clamp'] = conv['conv_clamp']
    return kwargs


def _block_kwargs(blocks: dict[str, Record], layer: Record, top: Record) -> dict[str, Any]:
    """Return the settings that the blocks of both networks share: precision, clamping, filter."""
    kwargs: dict[str, Any] = dict(
        num_fp16_res=sum(flag(block.state['use_fp16']) for block in blocks.values()),
        conv_clamp=clamp(layer.state['conv_clamp']),
    )
    if any(flag(block.state.get('channels_last', False)) for block in blocks.values()):
        kwargs['fp16_channels_last'] = True
    filters = top.state['_buffers']['resample_filter']
    default = networks.upfirdn2d.setup_filter(list(networks.FIR_FILTER))
    if filters.shape != default.shape or not torch.allclose(filters, default):
        kwargs['resample_filter'] = taps(filters)
    return kwargs


def _augment_pipe(record: Record, name: str) -> augment.AugmentPipe:
    state = record.state
    defaults = augment.AugmentPipe()
    kwargs = {
        key: value for key, value in state.items() if not key.startswith('_') and key != 'training'
    }
    check_settings(augment.AugmentPipe, kwargs)
    kwargs = {key: value for key, value in kwargs.items() if value != getattr(defaults, key)}
    return build(augment.AugmentPipe, kwargs, record.tensors(), name)


def _resolution(block: str) -> int:
    if not re.fullmatch(r'b[1-9][0-9]{0,4}', block):
        raise ValueError(f'a block called {printable(block, 40)}')
    return int(block[1:])


def _weight(layer: Record) -> torch.Tensor:
    """A layer's weight; frozen ones are among the buffers."""
    weight = layer.state['_parameters'].get('weight')
    return layer.state['_buffers']['weight'] if weight is None else weight


# ----------------------------------------------------------------------------
# Writing

_HOOKS = (
    '_backward_hooks',
    '_forward_hooks',
    '_forward_pre_hooks',
    '_state_dict_hooks',
    '_load_state_dict_pre_hooks',
)


class _Persistent:
    """Pickles a module as NVIDIA's persistent object, with a state that any PyTorch since 1.7
    takes.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def __reduce__(self) -> tuple[Any, ...]:
        module = self._module
        if not persistence.is_persistent(module):
            raise TypeError(f'{type(module).__name__} cannot travel: it has no @persistent_class')
        meta = dict(
            type='class',
            version=persistence.VERSION,
            module_src=persistence.module_source(type(module)),
            class_name=type(module).__name__,
            state=self._state(),
        )
        return persistence._reconstruct_persistent_obj, (meta,)

    def _state(self) -> dict[str, Any]:
        module = self._module
        state = {key: value for key, value in vars(module).items() if not key.startswith('_')}
        state.update(training=False, _init_args=module._init_args, _init_kwargs=module._init_kwargs)
        state.update({key: OrderedDict() for key in _HOOKS})
        state['_non_persistent_buffers_set'] = set()
        state['_parameters'] = OrderedDict(
            (key, _plain(value, parameter=True)) for key, value in module._parameters.items()
        )
        state['_buffers'] = OrderedDict(
            (key, _plain(value, parameter=False)) for key, value in module._buffers.items()
        )
        state['_modules'] = OrderedDict(
            (key, None if child is None else _Persistent(child))
            for key, child in module._modules.items()
        )
        return state


def _plain(tensor: torch.Tensor | None, parameter: bool) -> torch.Tensor | None:
    """On the CPU, contiguous, with storage of its own, so that a file holds neither devices nor
    more than it must.
    """
    if tensor is None:
        return None
    tensor = tensor.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
    return torch.nn.Parameter(tensor, requires_grad=False) if parameter else tensor


def dumps(content: dict[str, Any]) -> bytes:
    """`write` to memory."""
    buffer = io.BytesIO()
    write(buffer, content)
    return buffer.getvalue()
