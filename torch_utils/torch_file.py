"""PyTorch's own files, read without PyTorch's reader, which builds whatever size a file asks for.

Two formats: a zip whose `data.pkl` refers to files beside it (`.pt`), and, from before 2020, a row
of pickles followed by the numbers. NVIDIA's snapshots hold one such file per storage, of the older
format. The file is long because both formats are read here from the first byte to the tensors.
"""

import io
import math
import os
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from dnnlib import UserError, printable
from dnnlib.interpreter import ALLOWANCE, Forbidden, Unpickler, check_tree
from dnnlib.reading import read_file

# bytes that a storage is counted as besides its numbers: each takes a fraction of a millisecond
STORAGE_COST = 10_000
TENSOR_SIZE = 1000  # bytes that a tensor is counted as besides its numbers
MAX_DIMENSIONS = 8
MAX_FILE = 4 << 30  # bytes; the state of a training at 1024 px has 900 MB
MAX_ENTRIES = 20_000  # of a zip; a training checkpoint has 2,000
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older format

_MAGIC_PICKLE = pickle.dumps(MAGIC, protocol=2)

_END, _END64, _LOCATOR64 = (
    struct.Struct('<4s4H2IH'),
    struct.Struct('<4sQ2H2I4Q'),
    struct.Struct('<4sIQI'),
)
# of a file: in the directory, before its data
_ENTRY, _LOCAL = struct.Struct('<4s6H3I5H2I'), struct.Struct('<4s5H3I2H')


def rebuild_tensor(
    storage: torch.TypedStorage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> torch.Tensor:
    """What PyTorch's pickles call to make a tensor.

    Raises:
        UnpicklingError: the tensor would reach beyond its data, or be larger than it.
    """
    if (
        not isinstance(storage, torch.TypedStorage)
        or not isinstance(size, tuple)
        or not isinstance(stride, tuple)
    ):
        raise pickle.UnpicklingError('a tensor made of something else than numbers')
    if (
        len(size) != len(stride)
        or len(size) > MAX_DIMENSIONS
        or not all(_is_count(number) for number in (offset, *size, *stride))
    ):
        raise pickle.UnpicklingError('a tensor with an impossible shape')
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride)) + 1 if 0 not in size else 0
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if max(reach, math.prod(size)) > held:  # the second: strides of 0 must not blow up a small file
        raise pickle.UnpicklingError('a tensor larger than its data')
    return torch.empty([0], dtype=storage.dtype).set_(
        storage._untyped_storage, offset, size, stride
    )


def rebuild_parameter(
    data: torch.Tensor, requires_grad: bool = True, hooks: Any = None
) -> torch.Tensor:
    """Parameters become plain tensors."""
    return data


def load_storage(data: bytes) -> torch.TypedStorage:
    """A file of either format that holds one storage, as `torch.storage._load_from_bytes` reads.

    Raises:
        Forbidden: it asks for anything else.
    """
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError(f'a storage made of a {type(data).__name__}')
    storage = (
        _load_zip(data, STORAGE_COST)
        if data[:4] == b'PK\x03\x04'
        else _load_legacy(data, STORAGE_COST)
    )
    if not isinstance(storage, torch.TypedStorage):
        raise pickle.UnpicklingError('a storage that holds something else than numbers')
    return storage


def load_plain(path: str | os.PathLike[str], max_bytes: int = MAX_FILE) -> Any:
    """Read a file that `torch.save` wrote: nested dicts, lists, tuples, numbers, texts and tensors,
    on the CPU.

    Nothing in it is executed, and it takes no more memory than twice its size and some megabytes.

    Args:
        max_bytes: that the file may have.

    Raises:
        UserError: it can't be read, is damaged, or holds anything else.
    """
    return load_plain_bytes(read_file(path, max_bytes), path)


def load_plain_bytes(data: bytes, path: str | os.PathLike[str]) -> Any:
    """As `load_plain`, for the content of a file.

    Args:
        path: what to call it in an error.
    """
    try:
        if not is_torch_file(data):
            raise ValueError('it begins as no file of PyTorch does')
        return load(data)
    except Forbidden as error:
        raise UserError(
            f'{path}: not a file of plain weights: {printable(error)}; nothing in it was executed'
        ) from error
    except Exception as error:  # damaged bytes make readers raise nearly anything
        reason = printable(error) or type(error).__name__
        raise UserError(
            f'{path}: not a file of plain weights, or a damaged one ({reason})'
        ) from error


def is_torch_file(data: bytes) -> bool:
    """Return whether a file starts as one of the two formats does."""
    return data[:4] == b'PK\x03\x04' or data[: len(_MAGIC_PICKLE)] == _MAGIC_PICKLE


def load(data: bytes) -> Any:
    """A `.pt` file of either format: plain data and tensors.

    Raises:
        Forbidden: it asks for anything else.
        Exception: of any kind, when it is damaged.
    """
    content = (
        _load_zip(data, ALLOWANCE) if data[:4] == b'PK\x03\x04' else _load_legacy(data, ALLOWANCE)
    )
    check_tree(content, len(data) + ALLOWANCE)
    return content


# ----------------------------------------------------------------------------


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _rebuild_size(numbers: Any = ()) -> tuple[int, ...]:
    if (
        not isinstance(numbers, (tuple, list))
        or len(numbers) > MAX_DIMENSIONS
        or not all(_is_count(number) for number in numbers)
    ):
        raise pickle.UnpicklingError('an impossible shape')
    return tuple(numbers)


@dataclass(frozen=True)
class _Claim:
    """A storage as a pickle describes it; its numbers are elsewhere in the file."""

    dtype: torch.dtype
    key: str
    count: int

    @classmethod
    def of(cls, pid: Any) -> '_Claim':
        if (
            type(pid) is not tuple
            or len(pid) not in (5, 6)
            or not isinstance(pid[0], str)
            or pid[0] != 'storage'
        ):
            raise Forbidden('it refers to data outside itself')
        dtype, key, _, count = pid[1:5]
        if (
            not isinstance(dtype, torch.dtype)
            or not isinstance(key, str)
            or not _is_count(count)
            or (len(pid) == 6 and pid[5] is not None)
        ):
            raise pickle.UnpicklingError('an impossible storage')
        return cls(dtype, key, count)

    @property
    def size(self) -> int:
        return self.count * self.dtype.itemsize

    def storage(self, data: torch.UntypedStorage) -> torch.TypedStorage:
        if data.nbytes() < self.size:
            raise pickle.UnpicklingError('a storage with less data than it claims')
        return torch.TypedStorage(wrap_storage=data, dtype=self.dtype, _internal=True)


def _untyped(numbers: memoryview) -> torch.UntypedStorage:
    """A storage with memory of its own, from PyTorch, since results may depend on where in memory
    numbers lie.
    """
    tensor = torch.empty([numbers.nbytes], dtype=torch.uint8)
    if numbers.nbytes:
        tensor.numpy()[:] = np.frombuffer(numbers, np.uint8)
    return tensor.untyped_storage()


_DTYPES = {
    'Float': torch.float32,
    'Half': torch.float16,
    'BFloat16': torch.bfloat16,
    'Double': torch.float64,
    'Byte': torch.uint8,
    'Char': torch.int8,
    'Short': torch.int16,
    'Int': torch.int32,
    'Long': torch.int64,
    'Bool': torch.bool,
}


def _no_tensor(*arguments: Any) -> None:
    return None


class _Settings:
    """The command line that rosinality's training keeps beside the networks. It is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


TENSOR_GLOBALS: dict[tuple[str, str], Any] = {  # what every pickle of tensors may name
    ('collections', 'OrderedDict'): OrderedDict,
    ('builtins', 'set'): set,
    ('__builtin__', 'set'): set,
    ('torch._utils', '_rebuild_tensor_v2'): rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): rebuild_parameter,
}


class TensorUnpickler(Unpickler):
    """Knows what a tensor costs."""

    def size_of(self, value: Any) -> int:
        """Bytes that a call has used, those of its parts aside."""
        return TENSOR_SIZE if isinstance(value, torch.Tensor) else super().size_of(value)


class _TensorUnpickler(TensorUnpickler):
    """The dialect of PyTorch's files, without storages."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        **TENSOR_GLOBALS,
        ('torch', 'Size'): _rebuild_size,
        ('torch.storage', 'UntypedStorage'): torch.uint8,
        ('argparse', 'Namespace'): _Settings,
        **{('torch', f'{name}Storage'): dtype for name, dtype in _DTYPES.items()},
    }

    with_state: ClassVar[tuple[type, ...]] = (_Settings,)

    def set_state(self, target: Any, state: Any) -> None:
        """The dict that `state_dict` returns carries versions of modules as an attribute, which
        nothing here asks for.
        """
        if (
            type(target) is not OrderedDict
            or not isinstance(state, dict)
            or list(state) != ['_metadata']
        ):
            super().set_state(target, state)


class _ClaimUnpickler(_TensorUnpickler):
    """The numbers come later: tensors are left out."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        **_TensorUnpickler.allowed,
        ('torch._utils', '_rebuild_tensor_v2'): _no_tensor,
        ('torch._utils', '_rebuild_parameter'): _no_tensor,
    }

    def __init__(self, file: io.BytesIO, budget: int) -> None:
        super().__init__(file, budget)
        self.claims: dict[str, _Claim] = {}

    def persistent_load(self, pid: Any) -> _Claim:
        claim = _Claim.of(pid)
        return self.claims.setdefault(claim.key, claim)


class _LegacyUnpickler(_TensorUnpickler):
    """The numbers have been found."""

    def __init__(
        self, file: io.BytesIO, budget: int, storages: dict[str, torch.UntypedStorage]
    ) -> None:
        super().__init__(file, budget)
        self._storages = storages

    def persistent_load(self, pid: Any) -> torch.TypedStorage:
        claim = _Claim.of(pid)
        return claim.storage(self._storages[claim.key])


class _ZipUnpickler(_TensorUnpickler):
    """The numbers are entries of the zip, found by the storage's key."""

    def __init__(self, file: io.BytesIO, budget: int, entries: dict[str, memoryview]) -> None:
        super().__init__(file, budget)
        self._entries = entries
        self._storages: dict[str, torch.UntypedStorage] = {}

    def persistent_load(self, pid: Any) -> torch.TypedStorage:
        claim = _Claim.of(pid)
        if claim.key not in self._storages:
            numbers = self._entries[f'data/{claim.key}']
            self.spend(STORAGE_COST + numbers.nbytes)
            self._storages[claim.key] = _untyped(numbers)
        return claim.storage(self._storages[claim.key])


def _load_legacy(data: bytes, allowance: int) -> Any:
    """Magic number, protocol, a description of the machine, the object, the keys of its storages,
    and for each its length and numbers.
    """
    file, budget = io.BytesIO(data), 2 * len(data) + allowance

    def following(kind: type, what: str) -> Any:
        value = _ClaimUnpickler(file, 2 * STORAGE_COST + len(data)).load()
        if type(value) is not kind:
            raise pickle.UnpicklingError(f'a file without {what}')
        return value

    if following(int, 'its magic number') != MAGIC or following(int, 'its protocol') != PROTOCOL:
        raise pickle.UnpicklingError('a file of an unknown format')
    if following(dict, 'its machine').get('little_endian') is False:
        raise pickle.UnpicklingError('a file whose bytes are in another order')
    start = file.tell()
    # where the numbers lie is known only after the object, which refers to them
    first = _ClaimUnpickler(file, budget)
    first.load()
    keys = following(list, 'keys')
    if (
        not all(isinstance(key, str) for key in keys)
        or set(keys) != first.claims.keys()
        or len(keys) != len(first.claims)
    ):
        raise pickle.UnpicklingError('a storage without its data')
    storages: dict[str, torch.UntypedStorage] = {}
    for key in keys:
        claim, count, place = first.claims[key], struct.unpack('<q', file.read(8))[0], file.tell()
        if count != claim.count or place + claim.size > len(data):
            raise pickle.UnpicklingError('a storage with less data than it claims')
        storages[key] = _untyped(memoryview(data)[place : place + claim.size])
        file.seek(place + claim.size)
    file.seek(start)
    return _LegacyUnpickler(file, budget, storages).load()


def _load_zip(data: bytes, allowance: int) -> Any:
    entries = _zip_entries(data)
    folders = [name[: -len('data.pkl')] for name in entries if name.endswith('/data.pkl')]
    if len(folders) != 1:
        raise ValueError('a zip that PyTorch has not written')
    inside = {
        name[len(folders[0]) :]: entry
        for name, entry in entries.items()
        if name.startswith(folders[0])
    }
    if bytes(inside.get('byteorder', b'little')) != b'little':
        raise ValueError('its numbers are in another byte order')
    return _ZipUnpickler(io.BytesIO(inside['data.pkl']), 2 * len(data) + allowance, inside).load()


# Long because it follows the directory of a zip record by record, and trusts none.
def _zip_entries(data: bytes) -> dict[str, memoryview]:
    """The files in a zip as PyTorch writes it: nothing compressed, nothing encrypted, nothing
    twice, one directory, at the end.

    Zips leave room for more: a reader that takes another directory for the right one sees other
    files.
    """
    end = len(data) - _END.size
    mark, *_, count, size, start, comment = _END.unpack_from(data, max(end, 0))
    if mark != b'PK\5\6' or comment:
        raise ValueError('a zip that is cut off or has something behind its end')
    directory_end = end
    if data[end - _LOCATOR64.size : end - _LOCATOR64.size + 4] == b'PK\6\7':
        directory_end = _LOCATOR64.unpack_from(data, end - _LOCATOR64.size)[2]
        mark, length, *_, count, size, start = _END64.unpack_from(data, directory_end)
        if (
            mark != b'PK\6\6'
            or directory_end + _END64.size != end - _LOCATOR64.size
            or length != _END64.size - 12
        ):
            raise ValueError('a zip with a damaged end')
    if count > MAX_ENTRIES:
        raise ValueError(f'a zip of {count} files')
    if start + size != directory_end:
        raise ValueError('a zip whose directory is not where it should be')
    entries: dict[str, memoryview] = {}
    place, total = start, 0
    for _ in range(count):
        (
            mark,
            _,
            _,
            flags,
            method,
            _,
            _,
            _,
            packed,
            unpacked,
            name_length,
            extra,
            comment,
            _,
            _,
            _,
            local,
        ) = _ENTRY.unpack_from(data, place)
        name = data[place + _ENTRY.size : place + _ENTRY.size + name_length]
        place += _ENTRY.size + name_length + extra + comment
        if mark != b'PK\1\2' or method or flags & 1 or packed != unpacked:
            raise ValueError('a zip with compressed files, which PyTorch does not write')
        mark, *_, local_length, extra = _LOCAL.unpack_from(data, local)
        first = local + _LOCAL.size + local_length + extra
        text = name.decode()
        total += unpacked
        if (
            mark != b'PK\3\4'
            or data[local + _LOCAL.size : local + _LOCAL.size + local_length] != name
            or first + unpacked > start
        ):
            raise ValueError('a zip whose files are not where its directory says')
        if text in entries or total > len(data):
            raise ValueError('a zip that holds a file twice')
        entries[text] = memoryview(data)[first : first + unpacked]
    if place != directory_end:
        raise ValueError('a zip with a damaged directory')
    return entries
