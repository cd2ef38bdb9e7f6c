"""Read files that others made: regular files only, no more bytes than expected, JSON and `.npz`
with bounds.
"""

import contextlib
import errno
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from .util import UserError, printable, special_kind, starts_as_zip

MAX_FILE = 1 << 29  # bytes: no picture that can be used is larger
MAX_JSON = 1 << 24  # bytes, unless the caller allows more
MAX_JSON_DEPTH = 50
MAX_RATIO = 200  # pictures and labels shrink less than that
HARMLESS = 1 << 26  # bytes: what unpacks to less fills no memory

_MAX_HEADER = 10_000  # characters of an array's description in an .npz
_ARRAY_RATIO = 20  # arrays of measured numbers hardly shrink at all
_SLICE = 4096  # bytes of a packed member that are unpacked at once where zipfile sets no limit

PathLike = str | os.PathLike[str]


def open_file(path: PathLike, *, buffered: bool = True) -> IO[bytes]:
    """Open a regular file, or a link to one, for reading; every file that others made is opened so.

    Args:
        buffered: without a buffer, opening is faster.

    Raises:
        OSError: it can't be opened, or is a folder, device, pipe or socket, which could be read for
            ever.
    """
    _check_regular(os.stat(path))  # noqa: PTH116 (before opening: of a pipe that waits)
    handle = os.open(path, os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_NONBLOCK', 0))
    try:
        _check_regular(os.fstat(handle))
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, 'rb', buffering=-1 if buffered else 0)


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, 'it is a folder, not a file')
    if not stat.S_ISREG(status.st_mode):
        kind = special_kind(status.st_mode)
        raise OSError(
            errno.EINVAL, f'it is {kind}, not a regular file; copy what it gives into a file first'
        )


@contextlib.contextmanager
def _one_line(path: PathLike) -> Iterator[None]:
    """Turn what `open_file` and the reading raise into a `UserError`."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f'{path}: no such file') from None
    except (OSError, ValueError) as error:  # the latter of a NUL in the name
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'{printable(path)}: cannot be read: {reason}') from error


def regular_file(path: PathLike) -> Path:
    """Return a path that `open_file` can open, for readers that open it themselves.

    Raises:
        UserError: there is nothing, or something else.
    """
    with _one_line(path), open_file(path):
        return Path(path)


def read_file(path: PathLike, max_bytes: int = MAX_FILE) -> bytes:
    """Read a regular file.

    Raises:
        UserError: it isn't there, can't be read, is no regular file, or is larger than `max_bytes`.
    """
    with _one_line(path), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= max_bytes:
            return file.read(size)
    raise UserError(
        f'{path}: {size / 1e6:.0f} MB; no more than {max_bytes / 1e6:.0f} MB are '
        f'read of such a file'
    )


def size_problem(size: int, packed: int | None = None, limit: int = MAX_FILE) -> str | None:
    """Check the size of a file that is about to be read or unpacked; None if nothing is wrong.

    Args:
        size: bytes that it has, or says that it has.
        packed: bytes that it has in its archive.
        limit: bytes allowed.
    """
    if size > limit:
        return f'{size / 1e6:.0f} MB; no file above {limit / 1e6:.0f} MB is read'
    if packed is not None and size > HARMLESS and size > MAX_RATIO * packed:
        return f'{packed} bytes that unpack to {size / 1e6:.0f} MB: a zip bomb'
    return None


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int | None = None) -> bytes:
    """Unpack a file of a zip: at most as many bytes as the zip says that it has, and at most
    `limit`.

    Raises:
        Exception: of nearly any kind, where the zip is damaged.
    """
    wanted = info.file_size if limit is None else min(limit, info.file_size)
    with archive.open(info) as file:
        if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            data = file.read(wanted)
        else:  # bzip2 and LZMA unpack all that they are given
            parts, have = [], 0
            while have < wanted and (part := file.read(min(_SLICE, wanted - have))):
                parts.append(part)
                have += len(part)
            data = b''.join(parts)
    if len(data) < wanted:
        raise EOFError(f'it ends after {len(data)} of its {info.file_size} bytes')
    return data


# ---- JSON -------------------------------------------------------------------


def read_json(
    source: bytes | str | os.PathLike[str],
    name: str = '',
    *,
    kind: type | tuple[type, ...] = dict,
    max_bytes: int = MAX_JSON,
) -> Any:
    """Read JSON that anybody may have written.

    Args:
        source: the bytes themselves, or the path of a file.
        name: what to call it in an error; the path where left out.
        kind: the type, or types, of its outermost value.
        max_bytes: that it may have.

    Returns:
        The value. Numbers may be infinite or NaN.

    Raises:
        UserError: it can't be read, is no JSON, larger than `max_bytes`, nested more than 50 deep,
            or of another kind.
    """
    where = name or (printable(os.fspath(source)) if not isinstance(source, bytes) else 'JSON')
    data = source if isinstance(source, bytes) else read_file(source, max_bytes)
    if len(data) > max_bytes:
        raise UserError(
            f'{where}: {len(data) / 1e6:.0f} MB of JSON; no more than '
            f'{max_bytes / 1e6:.0f} MB are read'
        )
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = 'it is nested too deep' if isinstance(error, RecursionError) else printable(error)
        raise UserError(f'{where}: not valid JSON: {reason}') from error
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds):
        names: dict[type, str] = {dict: 'an object', list: 'a list'}
        wanted = ' or '.join(names.get(one, one.__name__) for one in kinds)
        raise UserError(f'{where}: should hold {wanted}, not {type(value).__name__}')
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        nodes = [node for node in level if isinstance(node, (dict, list))]
        if not nodes:
            return value
        level = [
            part for node in nodes for part in (node.values() if isinstance(node, dict) else node)
        ]
    raise UserError(f'{where}: nested more than {MAX_JSON_DEPTH} deep')


# ---- .npz -------------------------------------------------------------------


def read_npz(
    path: PathLike,
    wanted: Callable[[str], bool],
    required: tuple[str, ...] = (),
    *,
    max_bytes: int = 4 << 30,
    what: str = 'no .npz file of arrays',
) -> dict[str, np.ndarray]:
    """Read arrays of numbers and texts out of an `.npz`. Their descriptions are looked at before
    any of them is unpacked.

    Args:
        wanted: says by an array's name whether it is read.
        required: names of arrays that must be there.
        max_bytes: of all arrays together; packed ones may have at most 20 times the file's size, or
            64 MB.
        what: words for errors: what the file is not.

    Raises:
        UserError: it can't be read, is no .npz, is damaged, lacks an array, or unfolds into too
            much.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            with zipfile.ZipFile(file) as archive:
                members = {
                    info.filename.removesuffix('.npy'): info
                    for info in archive.infolist()
                    if info.filename.endswith('.npy')
                }
                missing = [name for name in required if name not in members]
                if missing:
                    found = printable(', '.join(members)) or 'none'
                    raise UserError(
                        f'{path}: {what}: there is no array {missing[0]} in it; it has {found}'
                    )
                chosen = {name: info for name, info in members.items() if wanted(name)}
                total = sum(info.file_size for info in chosen.values())
                if total > min(max_bytes, max(HARMLESS, _ARRAY_RATIO * size)):
                    raise UserError(
                        f'{path}: {size / 1e6:.1f} MB that unpacks to '
                        f'{total / 1e6:.0f} MB, more than such a file needs'
                    )
                return {name: _read_array(archive, info) for name, info in chosen.items()}
    except FileNotFoundError:
        raise UserError(f'{path}: no such file') from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror or printable(error)}') from error
    except zipfile.BadZipFile as error:
        reason = printable(error)
        if 'is not a zip file' in reason:
            cut = 'a zip that was cut short; copy or download it again'
            reason = cut if starts_as_zip(path) else 'no zip archive'
        raise UserError(f'{path}: {what}: {reason}') from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        reason = str(error).split('\n', 1)[0] or type(error).__name__
        raise UserError(f'{path}: {what}, or damaged ({printable(reason)})') from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = printable(info.filename)
    with archive.open(info) as file:
        start = file.read(8)
        if start[:6] != b'\x93NUMPY' or start[6] not in (1, 2, 3):
            raise ValueError(f'{name} is no array')
        count = 2 if start[6] == 1 else 4
        length_bytes = file.read(count)
        length = int.from_bytes(length_bytes, 'little')
        if length > _MAX_HEADER:
            raise ValueError(f'{name} has a description of {length} bytes')
        header = io.BytesIO(length_bytes + file.read(length))
        read_header = (
            np.lib.format.read_array_header_1_0
            if start[6] == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, dtype = read_header(header)
        if (
            dtype.hasobject
            or dtype.kind not in 'biufcU'
            or not all(isinstance(n, int) and n >= 0 for n in shape)
        ):
            raise ValueError(f'{name} holds {printable(dtype)}, not numbers')
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes + 8 + count + length != info.file_size:
            raise ValueError(
                f'{name} says that it has {num_bytes} bytes of numbers, but has others'
            )
        data = file.read(num_bytes)
        if len(data) != num_bytes:
            raise ValueError(f'{name} ends early')
        file.read(1)  # at the end the checksum is compared
    array = (
        np.frombuffer(bytearray(data), dtype) if num_bytes else np.zeros(math.prod(shape), dtype)
    )
    return array.reshape(shape, order='F' if by_columns else 'C')
