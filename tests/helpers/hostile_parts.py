"""What hostile files are made of."""

import functools
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import GOLDEN

from torch_utils import persistence
from training.snapshots import load_networks, safetensors, unpickling
from training.snapshots.unpickling import Record, TFNetwork

MARKED = 'replace me'


class Evil:
    """Pickles as whatever it is told."""

    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> Any:
        return self._reduced


def touching(marker: Path) -> bytes:
    """A whole snapshot that also wants to make a file."""
    odd = pickle.dumps(Evil(Path.touch, (marker,)), protocol=3)[2:-1]
    return (
        b'\x80\x03'
        + (GOLDEN / 'ada-uncond-32.pkl').read_bytes()[2:-1]
        + b'(X\x03\x00\x00\x00odd'
        + odd
        + b'u.'
    )


def network(source: str = '', **state: Any) -> Evil:
    """A pickled persistent object."""
    meta = {
        'type': 'class',
        'version': 6,
        'module_src': source,
        'class_name': 'Generator',
        'state': state,
    }
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
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return out.getvalue()


def safetensors_file(**kwargs: Any) -> bytes:
    from safetensors.torch import save

    return save(
        {'G_ema.x': torch.zeros(1)},
        metadata={'format': 'stylegan2-toonify 1', 'G_ema': json.dumps(kwargs)},
    )


def rosinality_file(**changes: Any) -> bytes:
    content = torch.load(GOLDEN / 'rosinality-32.pt', weights_only=True)
    content['g_ema'].update({key.replace('__', '.'): value for key, value in changes.items()})
    return torch_file(content)


# ----------------------------------------------------------------------------
# Good snapshots, changed somewhere


class Network:
    """What stands for a TensorFlow network until its bytes are written."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state


class SnapshotPickler(pickle._Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Record):
            meta = {
                'type': 'class',
                'version': 6,
                'module_src': '',
                'class_name': value.class_name,
                'state': value.state,
            }
            return persistence._reconstruct_persistent_obj, (meta,)
        if isinstance(value, TFNetwork):
            return Network, (), value.state
        return (
            (torch._utils._rebuild_tensor_v2, value.parts)
            if isinstance(value, TensorOf)
            else NotImplemented
        )


class TensorOf:
    """A tensor whose storage is read from any bytes."""

    def __init__(self, storage: bytes, shape: list[int]) -> None:
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
        self.parts = (
            Evil(torch.storage._load_from_bytes, (storage,)),
            0,
            tuple(shape),
            tuple(strides),
            False,
            {},
        )


def snapshot(
    change: Callable[[Any], Any], marked: bytes = b'', name: str = 'ada-uncond-32.pkl'
) -> bytes:
    """A golden snapshot with something else in it.

    Args:
        change: is given what the pickle holds.
        marked: opcodes that take the place of the text `MARKED`.
    """
    content = unpickling.load(small_snapshot(name), 'x')
    change(content)
    text = b'X' + struct.pack('<I', len(MARKED)) + MARKED.encode()
    return dumped(content).replace(text, marked or text)


def dumped(content: Any) -> bytes:
    for network in content if isinstance(content, tuple) else ():
        for part in (network, *network.state['components'].values()):
            part.state['variables'] = [
                (key, np.array(value) if isinstance(value, np.ndarray) else value)
                for key, value in part.state['variables']
            ]
    out = io.BytesIO()
    SnapshotPickler(out, protocol=3).dump(content)
    return out.getvalue().replace(
        f'c{__name__}\nNetwork\n'.encode(), b'cdnnlib.tflib.network\nNetwork\n'
    )


@functools.cache
def small_snapshot(name: str) -> bytes:
    content = unpickling.load((GOLDEN / name).read_bytes(), 'x')
    if isinstance(content, dict):
        content['G'] = content['D'] = None
    return dumped(content)


def with_state(module: str, key: str, value: Any, marked: bytes = b'') -> bytes:
    """A snapshot whose generator has something else as an attribute of a module."""

    def change(content: dict[str, Any]) -> None:
        record = content['G_ema']
        for part in filter(None, module.split('.')):
            record = record.modules[part]
        record.state[key] = value

    return snapshot(change, marked)


def with_weight(storage: Callable[[list[int]], bytes]) -> bytes:
    """A snapshot one of whose weights has another storage."""

    def change(content: dict[str, Any]) -> None:
        parameters = content['G_ema'].modules['mapping'].modules['fc0'].state['_parameters']
        shape = list(parameters['weight'].shape)
        parameters['weight'] = TensorOf(storage(shape), shape)

    return snapshot(change)


def empty(**children: Any) -> Record:
    return Record('X', {'_parameters': {}, '_buffers': {}, '_modules': children})


def nested_records(depth: int, copies: int, name: str = 'a', tensors: int = 0) -> Record:
    record = Record(
        'X',
        {
            '_parameters': {},
            '_buffers': dict.fromkeys(map(str, range(tensors)), torch.zeros(1)),
            '_modules': {},
        },
    )
    for _ in range(depth):
        record = empty(**{name + str(i): record for i in range(copies)})
    return record


def laughs(depth: int, width: int = 2, kind: type = list) -> Any:
    value: Any = 'ha'
    for _ in range(depth):
        value = kind([value] * width)
    return value


def tensorflow_file(change: Callable[[Any], Any]) -> bytes:
    return snapshot(change, name='tf-uncond-32.pkl')


@functools.cache
def small_safetensors() -> bytes:
    file = io.BytesIO()
    safetensors.write(file, {'G_ema': load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema})
    return file.getvalue()


def ours_file(change: Callable[[dict[str, str]], None]) -> bytes:
    """A .safetensors file of this project with other metadata."""
    data = small_safetensors()
    (length,) = struct.unpack('<Q', data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header['__metadata__'])
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + data[8 + length :]


def ours_with(**changes: Any) -> bytes:
    """The same with other constructor arguments; `mapping_kwargs__x` is one that is nested."""

    def change(metadata: dict[str, str]) -> None:
        kwargs = json.loads(metadata['G_ema'])
        for key, value in changes.items():
            where, _, inner = key.partition('__')
            kwargs.update(
                {where: {**(kwargs.get(where) or {}), inner: value}} if inner else {key: value}
            )
        metadata['G_ema'] = json.dumps(kwargs)

    return ours_file(change)


def zip_of(pickled: bytes, **files: bytes) -> bytes:
    """A .pt file of any pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as file:
        for name, data in {
            'data.pkl': pickled,
            'byteorder': b'little',
            'version': b'3\n',
            **files,
        }.items():
            file.writestr(f'archive/{name}', data)
    return out.getvalue()


def shrunk(data: bytes) -> bytes:
    """A .pt file whose storages have lost their numbers but for eight bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, 'w') as new:
        for entry in old.infolist():
            new.writestr(
                entry.filename, old.read(entry)[: 8 if '/data/' in entry.filename else None]
            )
    return out.getvalue()


def two_directories(data: bytes) -> bytes:
    """A zip in which one reader finds other sizes than another."""
    end = data.rfind(b'PK\5\6')
    size, start = struct.unpack('<2I', data[end + 12 : end + 20])
    second, place = bytearray(data[start : start + size]), 0
    while place < size:
        second[place + 24 : place + 28] = bytes(4)
        place += 46 + sum(struct.unpack('<3H', second[place + 28 : place + 34]))
    return data[:end] + bytes(second) + data[end:]


def legacy(keys: list[str], numbers: bytes, shape: list[int]) -> bytes:
    """A storage in PyTorch's older format."""
    out = b''.join(
        pickle.dumps(value, protocol=2)
        for value in (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})
    )
    out += (
        b'\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuJ'
        + struct.pack('<i', int(np.prod(shape)))
        + b'NtQ.'
    )
    return out + pickle.dumps(keys, protocol=2) + numbers


def loading(storage: bytes, times: int = 1) -> bytes:
    """A pickle that loads a storage from the same bytes again and again."""
    return (
        repeated(
            b'ctorch.storage\n_load_from_bytes\nq\x00B'
            + struct.pack('<I', len(storage))
            + storage
            + b'q\x010',
            b'h\x00h\x01\x85R0',
            times,
        )[:-1]
        + b'N.'
    )


def equal_keys(times: int) -> bytes:
    return (
        b'\x80\x02}('
        + b''.join(
            b'\x8a\x0a' + ((2**61 - 1) * i).to_bytes(10, 'little') + b'N' for i in range(times)
        )
        + b'u.'
    )
