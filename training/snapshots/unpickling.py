"""Unpickling that executes nothing.

A pickle is a program. This reader runs it in an interpreter that knows a dozen harmless globals,
builds only plain data and tensors, and refuses everything else. Pickled networks come out as
`Record`s: a class name and a state; the source text beside them is dropped unread.
"""

import io
import logging
import math
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from dnnlib import UserError, printable
from dnnlib.interpreter import OBJECT_SIZE, Forbidden, load_checked
from torch_utils.torch_file import STORAGE_COST, TENSOR_GLOBALS, TensorUnpickler, load_storage

log = logging.getLogger(__name__)

MAX_TENSORS = 5000  # of a network; one for 1024 px has 300
MAX_NAME = 200  # characters of a tensor's dotted name


@dataclass(eq=False)
class Record:
    """A pickled instance of a persistent class.

    Attributes:
        class_name: as the file gives it.
        state: the instance's `__dict__`; for a module with `_parameters`, `_buffers` and
            `_modules`.
    """

    class_name: str
    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError('a network is built twice')

    @property
    def modules(self) -> dict[str, 'Record']:
        """The sub-modules that are there."""
        return {
            name: child
            for name, child in self.state.get('_modules', {}).items()
            if isinstance(child, Record)
        }

    def tensors(self, prefix: str = '') -> dict[str, torch.Tensor]:
        """All parameters and buffers of this module and those below it, by dotted name."""
        found: dict[str, torch.Tensor] = {}
        for kind in ('_parameters', '_buffers'):
            for name, tensor in self.state.get(kind, {}).items():
                if isinstance(tensor, torch.Tensor):
                    if len(found) >= MAX_TENSORS or len(prefix) + len(name) > MAX_NAME:
                        raise ValueError('more tensors, or longer names, than any network has')
                    found[f'{prefix}{name}'] = tensor
        for name, child in self.modules.items():
            if len(found) >= MAX_TENSORS or len(prefix) + len(name) > MAX_NAME:
                raise ValueError('more tensors, or longer names, than any network has')
            found.update(child.tensors(f'{prefix}{name}.'))
        return found


def starts_as_pickle(data: bytes) -> bool:
    """Return whether the first bytes of a file are those of a pickle."""
    return data[:1] in (pickle.PROTO, b'(', b'}', b']')


def load(data: bytes, name: str, trusted: bool = False) -> Any:
    """Read a pickle made of plain data, arrays, tensors and persistent objects.

    Args:
        data: the whole file.
        name: what to call it in an error.
        trusted: whatever else the pickle asks for is imported and called, as Python's own `pickle`
            does. The source text beside networks is dropped all the same.

    Raises:
        UserError: the pickle is damaged, cut off, or asks for anything outside the allow-list;
            nothing was executed.
    """
    try:
        return (
            _TrustingUnpickler(data).load()
            if trusted
            else load_checked(_SnapshotUnpickler, data, (Record, TFNetwork))
        )
    except Forbidden as error:
        raise UserError(
            f'{name}: refused: {printable(error)}, which no StyleGAN2 snapshot needs; '
            f'nothing in the file was executed '
            '(--trust-pickle executes it, if you know where it comes from)'
        ) from error
    # a damaged program can fail in any way; whatever way, it is the file's fault
    except Exception as error:
        text = printable(error) or type(error).__name__
        reason = 'it ends too early' if isinstance(error, EOFError) or 'truncated' in text else text
        raise UserError(
            f'{name}: a damaged or cut-off pickle ({reason}); copy or download it again'
        ) from error


@dataclass(eq=False)
class TFNetwork:
    """A pickled TensorFlow network: `version static_kwargs components build_func_name variables`,
    its source text dropped.
    """

    state: dict[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: Any) -> None:
        if (
            self.state
            or not isinstance(state, dict)
            or not all(isinstance(key, str) for key in state)
        ):
            raise pickle.UnpicklingError(
                'a TensorFlow network is built twice, or of something else than names'
            )
        self.state = {key: value for key, value in state.items() if key != 'build_module_src'}


class _Dtype:
    """A number type under construction. Only plain numbers and booleans come out."""

    def __init__(self, code: Any, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str) or len(code) > 8:
            raise Forbidden('it contains an array of a compound type')
        self._dtype = np.dtype(code)
        if self._dtype.kind not in 'biufc':
            raise Forbidden(f'it contains an array of type {code}')

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if isinstance(state, tuple) and isinstance(state[1], str) and state[1] in ('<', '>'):
            self._dtype = self._dtype.newbyteorder('<' if state[1] == '<' else '>')

    def resolve(self) -> np.dtype:
        return self._dtype


class _ArrayBuilder(np.ndarray):
    """An array under construction. It is built once: a second time would free memory that something
    may still point to.
    """

    _built = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self._built:
            raise pickle.UnpicklingError('an array is built twice')
        self._built = True
        _, shape, dtype, is_fortran, data = state
        dtype = dtype.resolve()
        if (
            not isinstance(shape, tuple)
            or len(shape) > 32
            or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
        ):
            raise pickle.UnpicklingError('an array with an impossible shape')
        if not isinstance(data, bytes) or math.prod(shape) * dtype.itemsize != len(data):
            raise pickle.UnpicklingError('an array whose shape and data disagree')
        super().__setstate__((1, shape, dtype, bool(is_fortran), data))  # type: ignore[arg-type]


def _reconstruct_array(subtype: Any, shape: Any, code: Any) -> np.ndarray:
    return np.ndarray.__new__(_ArrayBuilder, (0,), 'B')


def _reconstruct_scalar(dtype: _Dtype, data: bytes = b'\0') -> int | float | complex | bool:
    return np.frombuffer(data, dtype=dtype.resolve(), count=1)[0].item()


def _encode(text: str, encoding: str = 'latin1') -> bytes:  # how old pickles spell bytes
    if (
        not isinstance(text, str)
        or not isinstance(encoding, str)
        or encoding not in ('latin1', 'latin-1')
    ):
        raise Forbidden('it uses another encoding than latin1')
    return text.encode('latin1')


def _reconstruct_record(meta: Any) -> Record:
    if (
        not isinstance(meta, dict)
        or not isinstance(meta.get('class_name'), str)
        or not isinstance(meta.get('state'), dict)
    ):
        raise pickle.UnpicklingError('a persistent object without class name or state')
    if not isinstance(meta.get('type'), str) or meta['type'] != 'class':
        raise pickle.UnpicklingError('a persistent object of another kind')
    return Record(meta['class_name'], meta['state'])


_ALLOWED: dict[tuple[str, str], Any] = {
    ('torch_utils.persistence', '_reconstruct_persistent_obj'): _reconstruct_record,
    ('dnnlib.util', 'EasyDict'): dict,  # whose attributes, unlike an EasyDict's, no file can set
    ('dnnlib', 'EasyDict'): dict,
    ('dnnlib.tflib.network', 'Network'): TFNetwork,
    **TENSOR_GLOBALS,
    ('_codecs', 'encode'): _encode,
    ('numpy', 'dtype'): _Dtype,
    ('numpy', 'ndarray'): np.ndarray,
    ('torch.storage', '_load_from_bytes'): load_storage,
}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _ALLOWED[_module, 'scalar'] = _reconstruct_scalar
    _ALLOWED[_module, '_reconstruct'] = _reconstruct_array


class _SnapshotUnpickler(TensorUnpickler):
    """The dialect of snapshots."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = _ALLOWED
    with_state: ClassVar[tuple[type, ...]] = (_Dtype, _ArrayBuilder, TFNetwork)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if function is load_storage and isinstance(arguments[0], bytes):
            self.spend(len(arguments[0]) + STORAGE_COST)
        return super().call(function, arguments)

    def set_state(self, target: Any, state: Any) -> None:
        if isinstance(target, TFNetwork) and isinstance(state, dict):
            self.spend(OBJECT_SIZE * len(state))
        super().set_state(target, state)


class _TrustingUnpickler(pickle._Unpickler):
    """Python's own interpreter; only networks, arrays and tensors become what they become in the
    other.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding='latin1')

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        log.warning('--trust-pickle: the file is given %s.%s', module, name)
        return super().find_class(module, name)
