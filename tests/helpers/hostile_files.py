"""Files that would run a command, fill the memory, take forever, crash Python, or load and fail
later.
"""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import GOLDEN
from hostile_parts import (
    MARKED,
    Evil,
    array_with_a_buffer,
    deep,
    equal_keys,
    laughs,
    legacy,
    loading,
    nested,
    nested_records,
    network,
    ours_file,
    ours_with,
    repeated,
    rosinality_file,
    safetensors_file,
    shrunk,
    snapshot,
    squeezed,
    storage_bytes,
    tensorflow_file,
    torch_file,
    two_directories,
    with_state,
    with_weight,
    zip_of,
)

from training.snapshots.unpickling import TFNetwork


def executing(marker: Path) -> dict[str, bytes]:
    """Files that would run a command."""
    command = f'touch {marker}'
    call = Evil(os.system, (command,))
    return {
        'os.system': pickle.dumps({'G_ema': call}),
        'eval': pickle.dumps({'G_ema': Evil(eval, (f'__import__("os").system({command!r})',))}),
        'exec': pickle.dumps(Evil(exec, (f'import os; os.system({command!r})',))),
        'getattr': pickle.dumps(Evil(getattr, ('x', 'upper'))),
        'import': b'\x80\x03cbuiltins\n__import__\nX\x02\x00\x00\x00os\x85R.',
        'dotted name': b'\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.',
        'module_src': pickle.dumps({'G_ema': network(f'import os; os.system({command!r})')}),
        'inside a network': pickle.dumps({'G_ema': network(z_dim=call, _parameters={'a': call})}),
        'copyreg': (
            b'\x80\x03ccopyreg\n_reconstructor\n'
            b'ctraining.networks\nGenerator\ncbuiltins\nobject\nN\x87R.'
        ),
        'object array': pickle.dumps({'G_ema': np.asarray([call], dtype=object)}),
        'inst': b"(S'touch x'\nios\nsystem\n.",
        'obj': b'\x80\x03(cos\nsystem\nX\x04\x00\x00\x00trueo.',
        'newobj_ex': b'\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85}\x92.',
        'persistent id': b'\x80\x03X\x01\x00\x00\x00aQ.',
        'extension': b'\x80\x02\x82\x01.',
        'torch.load': pickle.dumps(Evil(torch.storage._load_from_bytes, (pickle.dumps(call),))),
        'torch.load of a zip': pickle.dumps(
            Evil(torch.storage._load_from_bytes, (torch_file({'a': call}),))
        ),
        '.pt': torch_file({'g_ema': call}),
        'setstate of a dict': b'\x80\x03ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aK\x01sb.',
        'setstate of a network': b'\x80\x03'
        + pickle.dumps(network(), protocol=3)[2:-1]
        + b'}X\x08\x00\x00\x00__call__K\x01sb.',
        'setstate of a global': (
            b'\x80\x03ccollections\nOrderedDict\n}X\x08\x00\x00\x00__init__K\x01sb.'
        ),
        'setattr by EasyDict': (
            b'\x80\x03cdnnlib.util\nEasyDict\n)R}X\x09\x00\x00\x00__class__K\x01sb.'
        ),
        'buffer of an array': array_with_a_buffer(),
        'nested type': pickle.dumps(Evil(np.dtype, (nested(40),))),
    }


def exploding() -> dict[str, bytes]:
    """Small files that would take memory or time without end."""
    text = b'X' + struct.pack('<I', 1 << 20) + b'a' * (1 << 20) + b'q\x01'
    storage = storage_bytes(1)
    items = b'](' + b'N' * 100_000 + b'eq\x01'
    ones = torch.zeros(1).expand(1 << 17, 1 << 17)
    return {
        'huge memo': b'\x80\x03]r\xff\xff\xff\x7f.',
        'huge string': b'\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00abc.',
        'huge bytes': b'\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00abc.',
        'huge frame': b'\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f].',
        'many digits': b'\x80\x03I' + b'9' * 2_000_000 + b'\n.',
        'millions of lists': b'\x80\x03(' + b']' * 3_000_000 + b'l.',
        'millions of marks': b'\x80\x03' + b'(' * 3_000_000 + b'.',
        'deep lists': deep(100_000),
        'deep lists in a snapshot': b'\x80\x03}X\x05\x00\x00\x00G_ema'
        + pickle.dumps(network(), protocol=3)[2:-1]
        + b'sX\x01\x00\x00\x00a'
        + deep(50_000)[2:-1]
        + b's.',
        'encoding again and again': repeated(
            b'c_codecs\nencode\nq\x00' + text, b'h\x00h\x01X\x06\x00\x00\x00latin1\x86R', 2000
        ),
        'sets again and again': repeated(
            b'cbuiltins\nset\nq\x00' + items, b'h\x00h\x01\x85R', 2000
        ),
        'storages again and again': repeated(
            b'ctorch.storage\n_load_from_bytes\nq\x00B'
            + struct.pack('<I', len(storage))
            + storage
            + b'q\x01',
            b'h\x00h\x01\x85R',
            2000,
        ),
        'arrays again and again': repeated(
            b'cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nK\x00\x85C\x01b\x87q\x02cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87Rq\x03'
            b'c_codecs\nencode\n' + text + b'X\x06\x00\x00\x00latin1\x86Rq\x01',
            b'h\x00h\x02R(K\x01J\x00\x00\x10\x00\x85h\x03\x89h\x01tb',
            2000,
        ),
        'equal hashes': equal_keys(200_000),
        'equal floats': b'\x80\x03]('
        + b'G'
        + struct.pack('>d', 0.5)
        + b'e'
        + b'0}'
        + b'G'
        + struct.pack('>d', 0.5)
        + b'Ns.',
        'parameters that share': pickle.dumps(
            {
                'G_ema': network(
                    _parameters=dict.fromkeys(
                        map(str, range(500)), torch.nn.Parameter(torch.zeros(1 << 20))
                    ),
                    _buffers={},
                    _modules={},
                )
            },
            protocol=3,
        ),
        'expanded .pt': rosinality_file(style__1__weight=ones),
        'compressed .pt': squeezed(rosinality_file(style__1__weight=torch.zeros(1 << 25))),
        'empty with a huge side': rosinality_file(style__1__weight=torch.zeros(1 << 40, 0)),
        'empty constant': rosinality_file(input__input=torch.zeros(1, 1 << 40, 4, 0)),
        'resolution by name': rosinality_file(to_rgbs__40__bias=torch.zeros(1)),
        'safetensors, layers': safetensors_file(
            z_dim=512,
            c_dim=0,
            w_dim=512,
            img_resolution=256,
            img_channels=3,
            mapping_kwargs={'num_layers': 10**9},
        ),
        'safetensors, resolution': safetensors_file(
            z_dim=512, c_dim=0, w_dim=512, img_resolution=2**60, img_channels=3
        ),
        'safetensors, width': safetensors_file(
            z_dim=512,
            c_dim=0,
            w_dim=1 << 19,
            img_resolution=1024,
            img_channels=3,
            synthesis_kwargs={'channel_base': 1 << 19, 'channel_max': 1 << 19},
        ),
        'safetensors, words': safetensors_file(
            z_dim='a', c_dim=[], w_dim={}, img_resolution=None, img_channels=3
        ),
        'safetensors, header': struct.pack('<Q', 1 << 60) + b'{}',
        'safetensors, offsets': struct.pack('<Q', 60)
        + b'{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4]}}'.ljust(60)
        + bytes(4),
        **exploding_pickles(),
        **exploding_torch_files(),
    }


def exploding_pickles() -> dict[str, bytes]:
    """The same by other opcodes, by references to references, and by what a network's state holds
    in place of numbers.
    """
    empty_meta = (
        b'ctorch_utils.persistence\n_reconstruct_persistent_obj\nq\x00}'
        b'(X\4\0\0\0typeX\5\0\0\0classX\x0a\0\0\0class_nameX\1\0\0\0a'
    )
    large_meta = (
        b'X\5\0\0\0state}'
        + b''.join(b'J' + struct.pack('<i', i) + b'N' for i in range(100_000))
        + b'uq\x010'
    )
    laughing = b')q\x020' + b'h\x02h\x02\x86q\x020' * 40 + b'h\x02'
    return {
        'tuples as a key': b'\x80\x03})' + b'\x85' * 300_000 + b'Ns.',
        'tuples in a state': with_state(
            'synthesis.b32.conv1', 'activation', MARKED, b'N' + b'\x85' * 300_000
        ),
        'fewer tuples in a state': with_state(
            'synthesis.b32.conv1', 'activation', MARKED, b'N' + b'\x85' * 3000
        ),
        'laughs to hash': with_state('synthesis.b32.conv1', 'activation', laughs(40, kind=tuple)),
        'laughs to print': with_state('synthesis.b32', 'architecture', laughs(40)),
        'laughs to compare': with_state('synthesis.b32.conv1', 'conv_clamp', laughs(40)),
        'laughs beside the networks': snapshot(
            lambda content: content.update(training_set_kwargs=laughs(9, 200))
        ),
        'laughs in a shape': b'\x80\x03ctorch._utils\n_rebuild_tensor_v2\n('
        + loading(storage_bytes(0), 0)[2:-2]
        + b'h\x00h\x01\x85R'
        + laughing
        + 2 * (laughing + b'\x85')
        + b'\x89)tR.',
        'plain data by references': snapshot(lambda content: content.update(a=[[[]] * 500] * 500)),
        'a circle': snapshot(lambda content: content.update(a=content)),
        'a network in itself': snapshot(
            lambda content: content['G_ema'].state['_modules'].update(x=content['G_ema'])
        ),
        'networks by references': with_state('', '_modules', {'x': nested_records(16, 3)}),
        'endless names': with_state(
            '', '_modules', {'x': nested_records(15, 1, 'k' * 900, tensors=20_000)}
        ),
        'a long key': snapshot(lambda content: content.update(x={'k' * 100_000: 1})),
        'empty sets': b'\x80\x04](' + b'\x8f' * 334_000 + b'e.',
        'one wide character': b'\x80\x03X'
        + struct.pack('<I', 40_000_004)
        + b'a' * 40_000_000
        + '😀'.encode()
        + b'.',
        'short wide texts': b'\x80\x04]('
        + (b'\x8c\xfb' + b'a' * 247 + '😀'.encode()) * 150_000
        + b'e.',
        'places with equal hashes': b'\x80\x03N'
        + b''.join(b'p%d\n' % ((2**61 - 1) * i) for i in range(100_000))
        + b'.',
        'a text as arguments': b'\x80\x03cbuiltins\nset\nX'
        + struct.pack('<I', 20_000_000)
        + b'a' * 20_000_000
        + b'R.',
        'metas again and again': repeated(empty_meta + large_meta, b'h\x00h\x01\x85R0', 30_000)[:-1]
        + b'N.',
        'storages loaded again and again': loading(
            legacy(['0'], struct.pack('<q', 1) + bytes(4), [1]), 60_000
        ),
        'zipped storages loaded again and again': loading(
            torch_file(torch.zeros(1).storage()), 60_000
        ),
        'a compressed storage': loading(squeezed(torch_file(torch.zeros(1 << 25).storage()))),
        'a bytearray for a storage': loading(
            zip_of(
                b'\x80\x02cbuiltins\nbytearray\n\x8a\x05'
                + (2 * 10**9).to_bytes(5, 'little')
                + b'\x85R.'
            )
        ),
        'tuples as a key in a storage': loading(
            zip_of(b'\x80\x02})' + b'\x85' * 1_000_000 + b'Ns.')
        ),
        'a large filter': with_state(
            'synthesis.b32',
            '_buffers',
            {'resample_filter': torch.ones(3000, 3000, dtype=torch.float16)},
        ),
        'variables of nested lists': tensorflow_file(
            lambda content: content[2].state['variables'].append(('x', laughs(30)))
        ),
        'variables of every part': tensorflow_file(
            lambda content: (
                content[2]
                .state['components']
                .update(
                    dict.fromkeys(
                        map(str, range(300)),
                        TFNetwork(
                            {
                                'static_kwargs': {},
                                'components': {},
                                'variables': [(f'v{i}', 1.0) for i in range(300)],
                            }
                        ),
                    )
                )
            )
        ),
        'a long name of a global': b'\x80\x03cos\n' + b'x' * 2_000_000 + b'\n.',
        'a name that writes to the terminal': b'\x80\x04\x8c\x02os\x8c\x0b\x1b[31mhel\nlo\x93.',
        'a setting that writes to the terminal': with_state(
            'synthesis.b32', 'architecture', '\x1b[2Jx\n' * 10_000
        ),
    }


def exploding_torch_files() -> dict[str, bytes]:
    """The same as .pt and .safetensors."""
    without_average = torch.load(GOLDEN / 'rosinality-32.pt', weights_only=True)['g_ema']
    width = without_average['style.1.weight'].shape[0]
    header = b'{"a":[' + (b'[],' * 5_000_000)[:-1] + b']}'
    return {
        '.pt, many lists': zip_of(b'\x80\x02](' + b']' * 3_000_000 + b'e.'),
        '.pt, a bytearray': zip_of(
            b'\x80\x02cbuiltins\nbytearray\n\x8a\x05'
            + (2 * 10**9).to_bytes(5, 'little')
            + b'\x85R.'
        ),
        '.pt, tuples as a key': zip_of(b'\x80\x02})' + b'\x85' * 300_000 + b'Ns.'),
        '.pt, laughs as a key': zip_of(
            b'\x80\x02})q\x010' + b'h\x01h\x01\x86q\x010' * 45 + b'h\x01Ns.'
        ),
        '.pt, equal hashes': zip_of(equal_keys(200_000)),
        '.pt, an attribute of a dict': zip_of(
            b'\x80\x02ccollections\nOrderedDict\n)R}X\3\0\0\0getNsb.'
        ),
        '.pt, two directories': two_directories(
            squeezed(rosinality_file(style__1__weight=torch.zeros(1 << 25)))
        ),
        '.pt, many files': zip_of(b'\x80\x02N.')[:-14]
        + struct.pack('<2H2IH', 60_000, 60_000, 1 << 24, 0, 0),
        '.pt, layer 8e9': rosinality_file(to_rgbs__8000000000__bias=torch.zeros(1)),
        '.pt, layer 1e14': rosinality_file(to_rgbs__99999999999999__bias=torch.zeros(1)),
        '.pt, wide latents': torch_file(
            {'g_ema': {**without_average, 'style.1.weight': torch.zeros(width, 60_000)}}
        ),
        'safetensors, lists': struct.pack('<Q', len(header)) + header + bytes(20),
        'safetensors, taps': ours_with(synthesis_kwargs__resample_filter=[1.0] * 50_000),
        'safetensors, nested': ours_file(
            lambda metadata: metadata.update(meta='[' * 100_000 + ']' * 100_000)
        ),
    }


def misleading() -> dict[str, bytes]:
    """Files that would load, and fail later or hold what is not in them."""

    def complex_constant(content: Any) -> None:
        variables = content[2].state['components']['synthesis'].state['variables']
        variables[:] = [
            (key, value.astype('c8') + 1j if key == '4x4/Const/const' else value)
            for key, value in variables
        ]

    def group(content: Any) -> None:
        content[1].state['static_kwargs']['mbstd_group_size'] = 'x'

    return {
        'a storage without numbers': with_weight(lambda shape: legacy([], b'', shape)),
        'a storage with too few': with_weight(
            lambda shape: legacy(['0'], struct.pack('<q', int(np.prod(shape))) + bytes(8), shape)
        ),
        'a storage that says so': with_weight(
            lambda shape: legacy(['0'], struct.pack('<q', 2) + bytes(8), shape)
        ),
        'a zipped storage with too few': with_weight(
            lambda shape: shrunk(torch_file(torch.zeros(shape).storage()))
        ),
        '.pt, storages with too few': shrunk((GOLDEN / 'rosinality-32.pt').read_bytes()),
        '.pt, integers': rosinality_file(style__1__weight=torch.zeros(32, 32, dtype=torch.int8)),
        'conv_clamp': with_state('synthesis.b32.conv1', 'conv_clamp', 'abc'),
        'w_avg_beta': with_state('mapping', 'w_avg_beta', {'a': 1}),
        'w_avg_beta of a list': with_state('mapping', 'w_avg_beta', [1]),
        'a resolution without end': with_state('', 'img_resolution', 10**5000),
        'complex variables': tensorflow_file(complex_constant),
        'a group size': tensorflow_file(group),
        'safetensors, conv_clamp': ours_with(synthesis_kwargs__conv_clamp='abc'),
        'safetensors, w_avg_beta': ours_with(mapping_kwargs__w_avg_beta=[1]),
        'safetensors, kernel size': ours_with(synthesis_kwargs__kernel_size=0),
        'safetensors, no network': ours_file(lambda metadata: metadata.pop('G_ema') and None),
    }
