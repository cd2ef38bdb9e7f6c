"""Unpickling that executes nothing.

A pickle is a program. This reader runs it in an interpreter that knows a dozen harmless globals, builds only plain
data and tensors, and refuses everything else. Pickled networks come out as `Record`s: a class name and a state; the
source text beside them is dropped unread. What it builds is counted, so that a small file can't fill the memory.
"""

import io
import logging
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from dnnlib import UserError

log = logging.getLogger(__name__)

ALLOWANCE = 32 << 20  # bytes that a pickle may build beyond what it is long
OBJECT_SIZE = 100  # bytes that an instruction can cost besides its data


@dataclass
class Record:
    """A pickled instance of a persistent class.

    Attributes:
        class_name: as the file gives it.
        state: the instance's `__dict__`; for a module with `_parameters`, `_buffers` and `_modules`.
    """

    class_name: str
    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError('a network is built twice')

    @property
    def modules(self) -> dict[str, 'Record']:
        """The sub-modules that are there."""
        return {name: child for name, child in self.state.get('_modules', {}).items() if isinstance(child, Record)}

    def tensors(self, prefix: str = '') -> dict[str, torch.Tensor]:
        """All parameters and buffers of this module and those below it, by dotted name."""
        found = {}
        for kind in ('_parameters', '_buffers'):
            for name, tensor in self.state.get(kind, {}).items():
                if isinstance(tensor, torch.Tensor):
                    if tensor.layout != torch.strided or not tensor.is_floating_point():
                        raise ValueError(f'{prefix}{name} is no dense tensor of real numbers')
                    found[prefix + name] = tensor
        for name, child in self.modules.items():
            found.update(child.tensors(f'{prefix}{name}.'))
        return found


def load(data: bytes, name: str, trusted: bool = False) -> Any:
    """Read a pickle made of plain data, arrays, tensors and persistent objects.

    Args:
        data: the whole file.
        name: what to call it in an error.
        trusted: whatever else the pickle asks for is imported and called, as Python's own `pickle` does. The source text
            beside networks is dropped all the same.

    Raises:
        UserError: the pickle is damaged, cut off, or asks for anything outside the allow-list; nothing was executed.
    """
    try:
        return (_TrustingUnpickler if trusted else _Unpickler)(data).load()
    except _Forbidden as error:
        raise UserError(f'{name}: refused: {error}, which no StyleGAN2 snapshot needs; nothing in the file was executed '
                        '(--trust-pickle executes it, if you know where it comes from)') from error
    except Exception as error:  # a damaged program can fail in any way; whatever way, it is the file's fault
        text = (str(error).splitlines() or [''])[0][:200] or type(error).__name__
        reason = 'it ends too early' if isinstance(error, EOFError) or 'truncated' in text else text
        raise UserError(f'{name}: a damaged or cut-off pickle ({reason}); copy or download it again') from error


@dataclass
class TFNetwork:
    """A pickled TensorFlow network: `version static_kwargs components build_func_name variables`, its source text dropped."""

    state: dict[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: Any) -> None:
        if self.state or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError('a TensorFlow network is built twice, or of something else than names')
        self.state = {key: value for key, value in state.items() if key != 'build_module_src'}


class _Forbidden(Exception):
    pass


class _Dtype:
    """A number type under construction. Only plain numbers and booleans come out."""

    def __init__(self, code: Any, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str) or len(code) > 8:
            raise _Forbidden('it contains an array of a compound type')
        self._dtype = np.dtype(code)
        if self._dtype.kind not in 'biufc':
            raise _Forbidden(f'it contains an array of type {code}')

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ('<', '>'):
            self._dtype = self._dtype.newbyteorder(state[1])

    def resolve(self) -> np.dtype:
        return self._dtype


class _Array(np.ndarray):
    """An array under construction. It is built once: a second time would free memory that something may still point to."""

    _built = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self._built:
            raise pickle.UnpicklingError('an array is built twice')
        self._built = True
        _, shape, dtype, is_fortran, data = state
        dtype = dtype.resolve()
        if not isinstance(data, bytes) or math.prod(shape) * dtype.itemsize != len(data) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError('an array whose shape and data disagree')
        super().__setstate__((1, tuple(shape), dtype, bool(is_fortran), data))  # type: ignore[arg-type]


def _reconstruct_array(subtype: Any, shape: Any, code: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), 'B')


def _reconstruct_scalar(dtype: _Dtype, data: bytes = b'\0') -> int | float | complex | bool:
    return np.frombuffer(data, dtype=dtype.resolve(), count=1)[0].item()


def _encode(text: str, encoding: str = 'latin1') -> bytes:  # how old pickles spell bytes
    if encoding not in ('latin1', 'latin-1'):
        raise _Forbidden(f'it uses the encoding {encoding}')
    return text.encode('latin1')


def _reconstruct_record(meta: Any) -> Record:
    meta = dict(meta)
    if meta.get('type') != 'class' or not isinstance(meta.get('class_name'), str) or not isinstance(meta.get('state'), dict):
        raise pickle.UnpicklingError('a persistent object without class name or state')
    return Record(meta['class_name'], dict(meta['state']))


def _load_storage(data: bytes) -> torch.UntypedStorage | torch.TypedStorage:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError(f'a storage made of a {type(data).__name__}')
    try:
        storage = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:  # whose text advises to trust the file
        raise pickle.UnpicklingError('a storage that holds something else than numbers') from error
    if not isinstance(storage, (torch.UntypedStorage, torch.TypedStorage)):
        raise pickle.UnpicklingError(f'a storage turns out to be a {type(storage).__name__}')
    return storage


def _rebuild_tensor(storage: torch.TypedStorage, offset: int, size: tuple[int, ...], stride: tuple[int, ...],
                    requires_grad: bool = False, hooks: Any = None, metadata: Any = None) -> torch.Tensor:
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise pickle.UnpicklingError('a tensor with an impossible shape')
    reach = offset + sum((n - 1) * s for n, s in zip(size, stride)) + 1 if 0 not in size else 0
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if max(reach, math.prod(size)) > held:  # the second: strides of 0 must not blow up a small file
        raise pickle.UnpicklingError('a tensor larger than its data')
    return torch.empty([0], dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)


def _rebuild_parameter(data: torch.Tensor, requires_grad: bool = True, hooks: Any = None) -> torch.Tensor:
    return data


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ('torch_utils.persistence', '_reconstruct_persistent_obj'): _reconstruct_record,
    ('dnnlib.util', 'EasyDict'): dict,  # whose attributes, unlike an EasyDict's, no file can set
    ('dnnlib', 'EasyDict'): dict,
    ('dnnlib.tflib.network', 'Network'): TFNetwork,
    ('collections', 'OrderedDict'): OrderedDict,
    ('builtins', 'set'): set,
    ('__builtin__', 'set'): set,
    ('_codecs', 'encode'): _encode,
    ('numpy', 'dtype'): _Dtype,
    ('numpy', 'ndarray'): np.ndarray,
    ('torch.storage', '_load_from_bytes'): _load_storage,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _ALLOWED[_module, 'scalar'] = _reconstruct_scalar
    _ALLOWED[_module, '_reconstruct'] = _reconstruct_array

_CALLABLE = frozenset(id(f) for f in _ALLOWED.values()) - {id(np.ndarray)}
_CONTAINERS = (dict, set, OrderedDict)
_WITH_STATE = (_Dtype, _Array, TFNetwork)


def _size(value: Any) -> int:
    """Bytes that a call has used, those of its parts aside."""
    if isinstance(value, (torch.UntypedStorage, torch.TypedStorage)):
        return (value if isinstance(value, torch.UntypedStorage) else value._untyped_storage).nbytes()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (Record, TFNetwork)):
        return OBJECT_SIZE * len(value.state)
    return len(value) if isinstance(value, bytes) else OBJECT_SIZE * len(value) if isinstance(value, _CONTAINERS) else 0


def _check_keys(keys: Iterable[Any]) -> None:
    """Keys whose hashes no file can make collide: a table full of equal hashes takes forever."""
    for key in keys:
        if not isinstance(key, (str, bytes, int, type(None))) or (isinstance(key, int) and abs(key) >> 60):
            raise _Forbidden(f'it uses a {type(key).__name__} as a key')


class _Unpickler(pickle._Unpickler):
    """The interpreter in Python, whose every instruction can be looked at (the C one also lets a short file ask for
    gigabytes of memo).
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding='latin1')
        self._left = len(data) + ALLOWANCE

    def spend(self, size: int) -> None:
        """Count bytes that are about to be used, or just were.

        Raises:
            _Forbidden: more than a file of this length has use for.
        """
        self._left -= size
        if self._left < 0:
            raise _Forbidden('it unfolds into far more than its length')

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Forbidden(f'it refers to {module}.{name}') from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Forbidden('it refers to data outside itself')

    def get_extension(self, code: int) -> Any:
        raise _Forbidden('it uses a registered extension')

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.append(self._call(self.stack.pop(), arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _WITH_STATE):
            raise _Forbidden(f'it sets the attributes of a {type(target).__name__}')
        target.__setstate__(state)
        self.spend(_size(target))

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])  # the stack since the mark
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def load_additems(self) -> None:
        _check_keys(self.stack)
        super().load_additems()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()  # type: ignore[misc]

    def refuse(self) -> None:
        raise _Forbidden('it builds objects in a way that snapshots do not')

    def _call(self, function: Any, arguments: Any) -> Any:
        if id(function) not in _CALLABLE:
            raise _Forbidden(f'it calls a {type(function).__name__}')
        if function in _CONTAINERS:
            for argument in arguments:
                self.spend(OBJECT_SIZE * len(argument))
                _check_keys(argument if isinstance(argument, (dict, set)) or function is set else [pair[0] for pair in argument])
        result = function(*arguments)
        self.spend(_size(result))
        return result


def _counted(instruction: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted(unpickler: _Unpickler) -> None:
        unpickler.spend(OBJECT_SIZE)
        instruction(unpickler)
    return counted


_Unpickler.dispatch.update({code[0]: instruction for code, instruction in [
    (pickle.REDUCE, _Unpickler.load_reduce), (pickle.NEWOBJ, _Unpickler.load_newobj), (pickle.BUILD, _Unpickler.load_build),
    (pickle.SETITEM, _Unpickler.load_setitem), (pickle.SETITEMS, _Unpickler.load_setitems), (pickle.DICT, _Unpickler.load_dict),
    (pickle.ADDITEMS, _Unpickler.load_additems), (pickle.FROZENSET, _Unpickler.load_frozenset),
    *((code, _Unpickler.refuse) for code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.BYTEARRAY8, pickle.NEXT_BUFFER,
                                             pickle.READONLY_BUFFER))]})
_Unpickler.dispatch.update({code: _counted(instruction) for code, instruction in _Unpickler.dispatch.items()})


class _TrustingUnpickler(pickle._Unpickler):
    """Python's own interpreter; only networks, arrays and tensors become what they become in the other."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding='latin1')

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        log.warning('--trust-pickle: the file is given %s.%s', module, name)
        return super().find_class(module, name)
