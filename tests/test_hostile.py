"""Hostile and damaged files: none is executed, none hangs, none takes much memory, each gives one line."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from dnnlib import UserError
from torch_utils import persistence
from training.checkpoint import Networks, load_networks, save_networks
from training.formats import safe_pickle, tensorflow
from training.networks import Discriminator, Generator

SEEDS = ['ada-uncond-32.pkl', 'tf-uncond-32.pkl', 'rosinality-32.pt', 'ours.safetensors']
MEMORY = 64 << 20  # bytes over four times the file
SECONDS = 20


class Evil:
    """Pickles as whatever it is told."""

    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> Any:
        return self._reduced


def network(source: str = '', **state: Any) -> Evil:
    """A pickled persistent object."""
    meta = {'type': 'class', 'version': 6, 'module_src': source, 'class_name': 'Generator', 'state': state}
    return Evil(persistence._reconstruct_persistent_obj, (meta,))


def nested(depth: int, value: Any = 'f4') -> Any:
    for _ in range(depth):
        value = (value, value)
    return value


def deep(depth: int) -> bytes:
    return b'\x80\x03' + b']' * depth + b'a' * (depth - 1) + b'.'


def array_with_a_buffer() -> bytes:
    """A view of an array's memory (opcode READONLY_BUFFER), given to what reads storages."""
    array = pickle.dumps(np.arange(1000, dtype='>u2'), protocol=3)[2:-1]
    return b'\x80\x05ctorch.storage\n_load_from_bytes\n' + array + b'\x98\x85R.'


def repeated(start: bytes, again: bytes, times: int) -> bytes:
    """Keep something in the memo, and make something of it again and again."""
    return b'\x80\x03' + start + again * times + b'.'


def storage_bytes(megabytes: int) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.zeros(megabytes << 18).storage(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def torch_file(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def squeezed(data: bytes) -> bytes:
    """The same zip, compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return out.getvalue()


def safetensors_file(**kwargs: Any) -> bytes:
    from safetensors.torch import save
    return save({'G_ema.x': torch.zeros(1)}, metadata={'format': 'stylegan2-toonify 1', 'G_ema': json.dumps(kwargs)})


def rosinality_file(**changes: Any) -> bytes:
    content = torch.load(GOLDEN / 'rosinality-32.pt', weights_only=True)
    content['g_ema'].update({key.replace('__', '.'): value for key, value in changes.items()})
    return torch_file(content)


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
        'copyreg': b'\x80\x03ccopyreg\n_reconstructor\nctraining.networks\nGenerator\ncbuiltins\nobject\nN\x87R.',
        'object array': pickle.dumps({'G_ema': np.asarray([call], dtype=object)}),
        'inst': b"(S'touch x'\nios\nsystem\n.",
        'obj': b'\x80\x03(cos\nsystem\nX\x04\x00\x00\x00trueo.',
        'newobj_ex': b'\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85}\x92.',
        'persistent id': b'\x80\x03X\x01\x00\x00\x00aQ.',
        'extension': b'\x80\x02\x82\x01.',
        'torch.load': pickle.dumps(Evil(torch.storage._load_from_bytes, (pickle.dumps(call),))),
        'torch.load of a zip': pickle.dumps(Evil(torch.storage._load_from_bytes, (torch_file({'a': call}),))),
        '.pt': torch_file({'g_ema': call}),
        'setstate of a dict': b'\x80\x03ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aK\x01sb.',
        'setstate of a network': b'\x80\x03' + pickle.dumps(network(), protocol=3)[2:-1] + b'}X\x08\x00\x00\x00__call__K\x01sb.',
        'setstate of a global': b'\x80\x03ccollections\nOrderedDict\n}X\x08\x00\x00\x00__init__K\x01sb.',
        'setattr by EasyDict': b'\x80\x03cdnnlib.util\nEasyDict\n)R}X\x09\x00\x00\x00__class__K\x01sb.',
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
        'deep lists in a snapshot': b'\x80\x03}X\x05\x00\x00\x00G_ema' + pickle.dumps(network(), protocol=3)[2:-1] + b'sX\x01\x00\x00\x00a'
                                    + deep(50_000)[2:-1] + b's.',
        'encoding again and again': repeated(b'c_codecs\nencode\nq\x00' + text, b'h\x00h\x01X\x06\x00\x00\x00latin1\x86R', 2000),
        'sets again and again': repeated(b'cbuiltins\nset\nq\x00' + items, b'h\x00h\x01\x85R', 2000),
        'storages again and again': repeated(b'ctorch.storage\n_load_from_bytes\nq\x00B' + struct.pack('<I', len(storage)) + storage + b'q\x01',
                                             b'h\x00h\x01\x85R', 2000),
        'arrays again and again': repeated(
            b'cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nK\x00\x85C\x01b\x87q\x02cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87Rq\x03'
            b'c_codecs\nencode\n' + text + b'X\x06\x00\x00\x00latin1\x86Rq\x01', b'h\x00h\x02R(K\x01J\x00\x00\x10\x00\x85h\x03\x89h\x01tb', 2000),
        'equal hashes': b'\x80\x03}(' + b''.join(
            b'\x8a\x0a' + ((2 ** 61 - 1) * i).to_bytes(10, 'little') + b'N' for i in range(200_000)) + b'u.',
        'equal floats': b'\x80\x03](' + b'G' + struct.pack('>d', 0.5) + b'e' + b'0}' + b'G' + struct.pack('>d', 0.5) + b'Ns.',
        'parameters that share': pickle.dumps({'G_ema': network(_parameters=dict.fromkeys(map(str, range(500)), torch.nn.Parameter(
            torch.zeros(1 << 20))), _buffers={}, _modules={})}, protocol=3),
        'expanded .pt': rosinality_file(style__1__weight=ones),
        'compressed .pt': squeezed(rosinality_file(style__1__weight=torch.zeros(1 << 27))),
        'empty with a huge side': rosinality_file(style__1__weight=torch.zeros(1 << 40, 0)),
        'empty constant': rosinality_file(input__input=torch.zeros(1, 1 << 40, 4, 0)),
        'resolution by name': rosinality_file(to_rgbs__40__bias=torch.zeros(1)),
        'safetensors, layers': safetensors_file(z_dim=512, c_dim=0, w_dim=512, img_resolution=256, img_channels=3,
                                                mapping_kwargs={'num_layers': 10 ** 9}),
        'safetensors, resolution': safetensors_file(z_dim=512, c_dim=0, w_dim=512, img_resolution=2 ** 60, img_channels=3),
        'safetensors, width': safetensors_file(z_dim=512, c_dim=0, w_dim=1 << 19, img_resolution=1024, img_channels=3,
                                               synthesis_kwargs={'channel_base': 1 << 19, 'channel_max': 1 << 19}),
        'safetensors, words': safetensors_file(z_dim='a', c_dim=[], w_dim={}, img_resolution=None, img_channels=3),
        'safetensors, header': struct.pack('<Q', 1 << 60) + b'{}',
        'safetensors, offsets': struct.pack('<Q', 60) + b'{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4]}}'.ljust(60) + bytes(4),
    }


# ----------------------------------------------------------------------------


@pytest.mark.parametrize('name', executing(Path('x')))
def test_nothing_is_executed(name: str, tmp_path: Path) -> None:
    marker, path = tmp_path / 'executed', tmp_path / 'evil.pkl'
    path.write_bytes(executing(marker)[name])
    with pytest.raises(UserError) as error:
        load_networks(path)
    assert str(path) in str(error.value) and not marker.exists()


def test_the_message_names_what_was_refused(tmp_path: Path) -> None:
    path = tmp_path / 'evil.pkl'
    path.write_bytes(pickle.dumps(Evil(os.system, ('true',))))
    with pytest.raises(UserError, match=r'refers to (posix|nt)\.system.*nothing in the file was executed'):
        load_networks(path)


def test_trust_pickle_is_the_way_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    marker, path = tmp_path / 'executed', tmp_path / 'odd.pkl'
    content = pickle.loads(pickle.dumps({'training_set_kwargs': {'path': 'x'}}))
    nets = load_networks(GOLDEN / 'ada-uncond-32.pkl')
    save_networks(path, nets)
    data = path.read_bytes()
    odd = pickle.dumps({**content, 'odd': Evil(Path.touch, (marker,))}, protocol=3)[2:-1]
    path.write_bytes(b'\x80\x03' + data[2:-1] + b'(X\x03\x00\x00\x00odd' + odd + b'u.')
    with pytest.raises(UserError, match='refused.*--trust-pickle'):
        load_networks(path)
    assert not marker.exists()
    again = load_networks(path, trust_pickle=True)
    assert marker.exists() and again.G_ema.img_resolution == 32
    assert 'may run any program' in caplog.text and 'pathlib' in caplog.text


def corpus(folder: Path) -> int:
    """Write every hostile file, every cut and many flips; returns how many."""
    nets = load_networks(GOLDEN / 'ada-uncond-32.pkl')
    save_networks(folder / 'ours.safetensors', nets)
    for name, data in {**executing(folder / 'executed'), **exploding()}.items():
        (folder / f'hostile {name}').write_bytes(data)
    rng = np.random.RandomState(0)
    for name in SEEDS:
        data = (folder / name if name.startswith('ours') else GOLDEN / name).read_bytes()
        for percent in range(100):
            (folder / f'cut {percent} {name}').write_bytes(data[:len(data) * percent // 100])
        for i in range(40):
            damaged = bytearray(data)
            for place in rng.randint(0, 4000 if i % 2 else len(data), 3):
                damaged[place] ^= 1 << rng.randint(8)
            (folder / f'flip {i} {name}').write_bytes(damaged)
    return len(list(folder.iterdir()))


def test_the_corpus_takes_little_memory_and_time(tmp_path: Path) -> None:
    folder = tmp_path / 'corpus'
    folder.mkdir()
    large = Generator(512, 0, 512, 64, 3, channel_base=16384)  # 14 million numbers
    D = Discriminator(0, 64, 3, channel_base=16384)
    for suffix in ('.pkl', '.pt', '.safetensors'):
        save_networks(folder / f'whole{suffix}', Networks(large, D, large))
    count = corpus(folder)
    report = tmp_path / 'report.jsonl'
    subprocess.run([sys.executable, str(Path(__file__).parent / 'load_each.py'), str(folder), str(report), str(SECONDS)], check=True,
                   cwd=Path(__file__).parent.parent, timeout=600)
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(rows) == count and not (folder / 'executed').exists()
    for row in rows:
        name = Path(row['path']).name
        assert row['outcome'] in ('loaded', 'refused'), row
        assert row['outcome'] == ('loaded' if name.startswith(('whole', 'ours')) else row['outcome'] if name.startswith('flip') else 'refused'), row
        assert row['lines'] <= 1 and len(row['message']) < 600, row
        if row['memory'] is not None:
            assert row['memory'] <= 4 * Path(row['path']).stat().st_size + MEMORY, row


@pytest.mark.parametrize('key', ['latent_size', 'label_size', 'num_fp16_res', 'resolution_h'])
def test_huge_settings_of_a_tensorflow_network(key: str) -> None:
    content = safe_pickle.load((GOLDEN / 'tf-uncond-32.pkl').read_bytes(), 'x')
    for part in (content[0], *content[0].state['components'].values()):
        part.state['static_kwargs'][key] = 1 << 40
    if key == 'num_fp16_res':
        assert tensorflow.read(content, 'x')['G'].synthesis.b8.use_fp16  # more blocks than there are: all of them
    else:
        with pytest.raises(UserError, match=r'^x'):
            tensorflow.read(content, 'x')


def test_keys_and_calls_are_counted() -> None:
    with pytest.raises(UserError, match='as a key'):
        safe_pickle.load(pickle.dumps({1.5: 0}), 'x')
    with pytest.raises(UserError, match='far more than its length'):
        safe_pickle.load(b'\x80\x03(' + b']' * 1_000_000 + b'l.', 'x')
    assert safe_pickle.load(pickle.dumps({'a': [{1: 2}, {3, 'b'}], None: True}), 'x') == {'a': [{1: 2}, {3, 'b'}], None: True}
