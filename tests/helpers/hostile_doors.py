"""Hostile files of every kind but snapshots: weights, statistics, latents, JSON, data sets,
pictures, archives.
"""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from hostile_parts import Evil, equal_keys, torch_file, zip_of
from PIL import Image


def png(size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new('RGB', (size, size), 'red').save(buffer, 'PNG')
    return buffer.getvalue()


def plain_files(marker: Path) -> dict[str, bytes]:
    """Weights and training states."""
    laughs = b'\x80\x02)q\x000' + b'h\x00h\x00\x86q\x000' * 40 + b'h\x00'
    return {
        'tower': zip_of(b'\x80\x02)' + b'\x85' * 1_000_000 + b'.'),
        'tower as a key': zip_of(b'\x80\x02})' + b'\x85' * 1_000_000 + b'Ns.'),
        'tower of lists': zip_of(b'\x80\x02' + b']' * 500_000 + b'a' * 499_999 + b'.'),
        'laughs as a key': zip_of(laughs.replace(b'\x80\x02', b'\x80\x02}') + b'Ns.'),
        'expanded': torch_file({'a': torch.zeros(1).expand(1 << 15, 1 << 15)}),
        'bytearray': zip_of(
            b'\x80\x02cbuiltins\nbytearray\n\x8a\x05'
            + (4 * 10**9).to_bytes(5, 'little')
            + b'\x85R.'
        ),
        'equal hashes': zip_of(equal_keys(100_000)),
        'large numbers as keys': zip_of(pickle.dumps(dict.fromkeys(range(20_000)), 2)),
        'huge memo': zip_of(b'\x80\x02]r\xff\xff\xff\x7f.'),
        'executes': torch_file({'a': Evil(os.system, (f'touch {marker}',))}),
        'pickle': pickle.dumps(Evil(os.system, (f'touch {marker}',))),
        'text': b'<html>',
        'empty': b'',
        'cut': torch_file({'a': torch.zeros(1000)})[:-500],
    }


def npz(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as archive:
        for name, data in members.items():
            archive.writestr(f'{name}.npy', data)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_header(text: bytes, data: bytes = b'') -> bytes:
    return b'\x93NUMPY\1\0' + struct.pack('<H', len(text)) + text + data


def array_files(name: str, other: str) -> dict[str, bytes]:
    """Files of arrays, such as `w` of latents, or `mu` and `sigma`."""
    good, zeros = npy(np.zeros([2, 3])), npy(np.zeros([600, 1 << 17], np.float32)[:, : 1 << 15])

    def both(first: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
        return npz(compression, **{name: first, other: good})

    torn = bytearray(both(npy(np.random.RandomState(0).rand(1000)), zipfile.ZIP_DEFLATED))
    torn[2000:2400] = bytes(400)
    locked, odd_method = bytearray(both(good)), bytearray(both(good))
    for place in (6, locked.index(b'PK\1\2') + 8):
        locked[place] |= 1
    for place in (8, odd_method.index(b'PK\1\2') + 10):
        odd_method[place] = 98
    return {
        'unfolds': both(zeros, zipfile.ZIP_DEFLATED),
        'unfolds by bzip2': both(zeros, zipfile.ZIP_BZIP2),
        'torn deflate': bytes(torn),
        'encrypted': bytes(locked),
        'method 98': bytes(odd_method),
        'says too much': both(
            npy_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 100000), }")
        ),
        'odd header': both(npy_header(b"{'descr': '<f8', 'shape': ")),
        'nested header': both(npy_header(b'(' * 9000)),
        'long header': both(b'\x93NUMPY\2\0' + struct.pack('<I', 1 << 31)),
        'pickled': both(npy(np.array([{}], dtype=object))),
        'text': b'hello',
        'nothing': npz(),
    }


def json_files() -> dict[str, bytes]:
    return {
        'deep lists': b'[' * 100_000 + b']' * 100_000,
        'nested': b'{"a":' * 60 + b'1' + b'}' * 60,
        'deep objects': b'{"a":' * 900 + b'1' + b'}' * 900,
        'many digits': b'{"a": ' + b'9' * 100_000 + b'}',
        'a list': b'[]',
        'cut': b'{"a": [1, 2',
        'not text': b'{"\xff": 1}',
        'escapes': b'{"\x1b[2J": 1',
        'large': b'{"a": "' + b'x' * (20 << 20) + b'"}',
    }


def pictures() -> dict[str, bytes]:
    """Pictures that would take a minute or gigabytes."""
    buffer = io.BytesIO()
    Image.new('RGB', (3000, 3000)).save(buffer, 'JPEG', progressive=True)
    progressive = buffer.getvalue()
    scan = progressive[progressive.rindex(b'\xff\xda') : -2]
    side = 3000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    def png_of(width: int, colour: int, data: bytes) -> bytes:
        head = struct.pack('>IIBBBBB', width, width, 8, colour, 0, 0, 0)
        return (
            b'\x89PNG\r\n\x1a\n'
            + chunk(b'IHDR', head)
            + chunk(b'IDAT', zlib.compress(data))
            + chunk(b'IEND', b'')
        )

    return {
        'progressive.jpg': progressive[:-2] + scan * 3000 + b'\xff\xd9',
        'large.qoi': b'qoif'
        + struct.pack('>IIBB', side, side, 3, 0)
        + b'\xfe\1\2\3' * 100_000
        + bytes(7)
        + b'\1',
        'plain.ppm': b'P3 %d %d 255\n' % (side, side) + b'1 ' * 1000,
        'deep.ppm': b'P6 %d %d 1000\n' % (side, side) + bytes(1000),
        'large.png': png_of(16384, 2, bytes(1000)),
        'large grey.png': png_of(1 << 20, 0, bytes(1000)),
        'palette without one.png': png_of(8, 3, bytes(72)),
        'program.eps': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n',
    }


def cifar_files() -> dict[str, dict[str, bytes]]:
    """Folders that look like CIFAR."""
    laughs = b'\x80\x02})q\x000' + b'h\x00h\x00\x86q\x000' * 40 + b'h\x00Ns.'
    files = {
        'laughs': laughs,
        'tower': b'\x80\x02})' + b'\x85' * 400_000 + b'Ns.',
        'tower as a value': b'\x80\x02}U\1a)' + b'\x85' * 400_000 + b's.',
        'equal hashes': equal_keys(100_000),
    }
    return {name: {'data_batch_1': data, 'batches.meta': data} for name, data in files.items()}


def tars() -> dict[str, bytes]:
    def header(name: str, kind: bytes, size: bytes) -> bytes:
        info = tarfile.TarInfo(name)
        info.type = kind
        head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        head[124:136] = size
        head[148:156] = b'%06o\0 ' % (sum(head) - sum(head[148:156]) + 8 * ord(' '))
        return bytes(head)

    good = tarfile.TarInfo('a.png')
    good.size = len(png())
    start = good.tobuf() + png() + bytes(-len(png()) % 512)
    negative = b'\xff' * 10 + b'\xfa\0'  # -1536, base 256: back to the first file
    digits = b'9' * (512 * 1024)
    many = gzip.compress(
        start + b''.join(tarfile.TarInfo(f'{i}').tobuf() for i in range(2000)) * 80, 1
    )
    return {
        'negative size.tar': start + header('b.png', tarfile.REGTYPE, negative) + bytes(1024),
        'negative pax.tar': start + header('b.png', tarfile.XHDTYPE, negative) + bytes(1024),
        'digits.tar': start
        + header('b.png', tarfile.XHDTYPE, b'%011o\0' % len(digits))
        + digits
        + start,
        'many members.tar.gz': many,
    }


def sets(folder: Path) -> None:
    """Data sets, as `set--…` and `pictures--…`, in a folder."""
    for kind in ('set', 'pictures'):
        for name in ('pipe', 'device', 'large', 'folder', 'huge'):
            place = folder / f'{kind}--{name}'
            place.mkdir()
            for good in ('a.png', 'b.png'):
                (place / good).write_bytes(png())
            if name == 'pipe':
                os.mkfifo(place / 'c.png')
            elif name == 'device':
                (place / 'c.png').symlink_to('/dev/zero')
            elif name == 'folder':
                (place / 'c.png').symlink_to('/')
            elif name == 'large':
                with (place / 'c.png').open('wb') as file:
                    file.truncate(3 << 30)
            else:
                (place / 'c.png').write_bytes(pictures()['large.png'])
        with zipfile.ZipFile(
            folder / f'{kind}--bomb', 'w', zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive:
            for good in ('a.png', 'b.png'):
                archive.writestr(good, png())
            archive.writestr('c.png', png() + bytes(200 << 20))
        data = bytearray((folder / f'{kind}--bomb').read_bytes())
        place_of_size = data.rindex(b'PK\1\2') + 24
        # says that it has one megabyte
        data[place_of_size : place_of_size + 4] = struct.pack('<I', 1 << 20)
        (folder / f'{kind}--bomb that lies').write_bytes(data)
        (folder / f'{kind}--cut').write_bytes(data[:-100])
    for name, content in {
        'large json': None,
        'deep json': b'{"labels":' + b'[' * 100_000,
        'one label': b'',
    }.items():
        place = folder / f'set--{name}'
        place.mkdir()
        count = 9000 if name == 'one label' else 2
        for i in range(count):
            (place / f'{i}.png').write_bytes(png())
        with (place / 'dataset.json').open('wb') as file:
            if content is None:
                file.truncate(2 << 30)
            else:
                file.write(
                    content
                    or json.dumps({'labels': [[f'{i}.png', 32767] for i in range(count)]}).encode()
                )
    with zipfile.ZipFile(folder / 'set--many folders', 'w') as archive:
        for i in range(17_000):
            archive.writestr(f'c{i}/a.png', png())
        archive.writestr('dataset.json', '{"labels": null}')
