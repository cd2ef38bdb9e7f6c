"""An interpreter of pickles that executes nothing: the one reader of pickles of this project.

A pickle is a program. `Unpickler` runs it with an allow-list of harmless globals, calls nothing
else, changes nothing but lists, dicts and sets, and counts every instruction and what it builds, so
that a small file can't fill the memory or the day. `check_tree` then bounds what walking through
the result can cost: references make a small graph a huge tree.
"""

import io
import itertools
import pickle
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, ClassVar

import numpy as np

# bytes that a pickle may build beyond twice its length: once as it stands in the file, once as what
# it means
ALLOWANCE = 32 << 20
OBJECT_SIZE = 100  # bytes that an instruction can cost besides its data
CALL_SIZE = 200  # and a call, besides its result's data
SET_SIZE = 250
MAX_INSTRUCTIONS = 3_000_000  # some seconds; a 1024 px snapshot has 50,000
# characters; longer ones take time to compare and grow when they are joined to paths
MAX_KEY = 1000
# whose hashes a file can choose; so few numbers can't get in each other's way in a table
MAX_NUMBER_KEY = 10_000
MAX_NODES = 500_000  # of the tree that a file's content unfolds into; a 1024 px snapshot has 50,000
MAX_DEPTH = 60  # of that tree; Python crashes when it hashes or compares something 100,000 deep
MAX_ARGUMENTS = 10

REFERENCE_SIZE = 8

CONTAINERS = (dict, set, OrderedDict)

_ABSENT = object()


class Forbidden(Exception):
    """What a pickle asks for and is not given; the text completes "refused: …"."""


class Unpickler(pickle._Unpickler):
    """The interpreter in Python, whose every instruction can be looked at (the C one also lets a
    short file ask for gigabytes of memo).

    Args:
        file: where the pickle starts. What comes after it is left unread.
        budget: bytes that may be built.

    Attributes:
        allowed: the globals that a pickle may name, and what it is given for them. Functions and
            container classes may be called.
        with_state: classes whose `__setstate__` may be called.
        left, instructions: bytes and instructions that the pickle may still use.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    allowed: ClassVar[dict[tuple[str, str], Any]] = {}
    with_state: ClassVar[tuple[type, ...]] = ()
    stack: list[Any]
    memo: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes], budget: int) -> None:
        super().__init__(file, fix_imports=False, encoding='latin1')
        self.memo = []  # a table could be filled with numbers whose hashes collide
        self.left = budget
        self.instructions = MAX_INSTRUCTIONS
        self._callable = {
            id(f) for f in self.allowed.values() if callable(f) and f is not np.ndarray
        }

    def spend(self, size: int, ahead: int = 0) -> None:
        """Count bytes that are about to be used, or just were.

        Args:
            size: what is used for good.
            ahead: what may be used before the next call says how much it was.
        """
        self.left -= size
        if self.left < ahead:
            raise Forbidden('it unfolds into far more than its length')

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise Forbidden(f'it refers to {module}.{name}') from None

    def persistent_load(self, pid: Any) -> Any:
        raise Forbidden('it refers to data outside itself')

    def get_extension(self, code: int) -> Any:
        raise Forbidden('it uses a registered extension')

    def refuse(self) -> None:
        raise Forbidden('it builds objects in a way that snapshots do not')

    # Text

    def load_unicode(self) -> None:
        line = self.readline()[:-1]
        self._append_text(line, 'raw-unicode-escape', 4)

    def load_binunicode(self) -> None:
        self._append_utf8(struct.unpack('<I', self.read(4))[0])

    def load_binunicode8(self) -> None:
        self._append_utf8(struct.unpack('<Q', self.read(8))[0])

    def load_short_binunicode(self) -> None:
        self._append_utf8(self.read(1)[0])

    def _append_utf8(self, length: int) -> None:
        if length > sys.maxsize:
            raise pickle.UnpicklingError('a text without end')
        raw = self.read(length)
        wide = (
            1
            if raw.isascii()
            else 4
            if re.search(rb'[\xf0-\xff]', raw)
            else 2
            if re.search(rb'[\xc4-\xef]', raw)
            else 1
        )
        self._append_text(raw, 'utf-8', wide)

    def _append_text(self, raw: bytes, encoding: str, wide: int) -> None:
        """Decode, unless it takes too much: one wide character makes every other as wide."""
        self.spend(0, ahead=wide * len(raw))
        text = str(raw, encoding, 'surrogatepass') if encoding == 'utf-8' else str(raw, encoding)
        self.spend(sys.getsizeof(text))
        self.append(text)

    # References

    def load_put(self) -> None:
        self._remember(self._index())

    def load_binput(self) -> None:
        self._remember(self.read(1)[0])

    def load_long_binput(self) -> None:
        self._remember(struct.unpack('<I', self.read(4))[0])

    def load_memoize(self) -> None:
        self.memo.append(self.stack[-1])

    def load_get(self) -> None:
        self._recall(self._index())

    def load_binget(self) -> None:
        self._recall(self.read(1)[0])

    def load_long_binget(self) -> None:
        self._recall(struct.unpack('<I', self.read(4))[0])

    def _remember(self, index: int) -> None:
        missing = index - len(self.memo)
        if missing >= 0:  # places are left out where a pickle was optimised
            self.spend(REFERENCE_SIZE * missing)
            self.memo.extend([_ABSENT] * missing)
            self.memo.append(self.stack[-1])
        else:
            self.memo[index] = self.stack[-1]

    def _recall(self, index: int) -> None:
        if index >= len(self.memo) or self.memo[index] is _ABSENT:
            raise pickle.UnpicklingError('a reference to nothing')
        self.append(self.memo[index])

    def _index(self) -> int:
        line = self.readline()
        if len(line) > 11:
            raise pickle.UnpicklingError('a reference out of range')
        index = int(line)
        if index < 0:
            raise pickle.UnpicklingError('a reference out of range')
        return index

    # Calls

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._checked_call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.append(self._checked_call(self.stack.pop(), arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        self.set_state(target, state)
        self.spend(self.size_of(target))

    def set_state(self, target: Any, state: Any) -> None:
        """Set the attributes of an object that was built."""
        if not isinstance(target, self.with_state):
            raise Forbidden(f'it sets the attributes of a {type(target).__name__}')
        target.__setstate__(state)  # type: ignore[attr-defined]

    def _checked_call(self, function: Any, arguments: Any) -> Any:
        if id(function) not in self._callable:
            raise Forbidden(f'it calls a {type(function).__name__}')
        if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
            raise pickle.UnpicklingError('a call with impossible arguments')
        self.spend(CALL_SIZE)
        if function in CONTAINERS:
            for argument in arguments:
                self.spend(OBJECT_SIZE * len(argument))
                self._check_keys(
                    argument
                    if isinstance(argument, (dict, set)) or function is set
                    else [pair[0] for pair in argument]
                )
        return self.call(function, arguments)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Call something of the allow-list."""
        result = function(*arguments)
        self.spend(self.size_of(result))
        return result

    def size_of(self, value: Any) -> int:
        """Bytes that a call has used, those of its parts aside."""
        if isinstance(value, np.ndarray):
            return value.nbytes
        if isinstance(value, (bytes, str, int)):
            return sys.getsizeof(value)
        return OBJECT_SIZE * len(value) if isinstance(value, CONTAINERS) else 0

    # Containers. Other classes have methods of these names too: a tensor's `add` could fill the
    # memory.

    def _changed(self, *kinds: type) -> Any:
        if type(self.stack[-1]) not in kinds:
            raise Forbidden(f'it changes a {type(self.stack[-1]).__name__}')
        return self.stack[-1]

    def load_append(self) -> None:
        value = self.stack.pop()
        self._changed(list).append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._changed(list).extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._check_keys([key])
        self._changed(dict, OrderedDict)[key] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._check_keys(items[::2])
        self._changed(dict, OrderedDict).update(zip(items[::2], items[1::2]))

    def load_additems(self) -> None:
        items = self.pop_mark()
        self._check_keys(items)
        self._changed(set).update(items)

    def load_dict(self) -> None:
        self._check_keys(self.stack[::2])  # the stack since the mark
        super().load_dict()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        self._check_keys(self.stack)
        self.spend(SET_SIZE)
        super().load_frozenset()  # type: ignore[misc]

    def load_empty_set(self) -> None:
        self.spend(SET_SIZE)
        self.append(set())

    def _check_keys(self, keys: Iterable[Any]) -> None:
        """Allow only keys that can't be made to collide: a table of equal hashes takes forever."""
        for key in keys:
            if not isinstance(key, (str, bytes, int, type(None))):
                raise Forbidden(f'it uses a {type(key).__name__} as a key')
            if isinstance(key, int) and not 0 <= key <= MAX_NUMBER_KEY:
                raise Forbidden(
                    f'it uses a number as a key that is not between 0 and {MAX_NUMBER_KEY}'
                )
            if isinstance(key, (str, bytes)) and len(key) > MAX_KEY:
                raise Forbidden(f'it uses a key of {len(key)} characters')


def _counted(instruction: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted(unpickler: Unpickler) -> None:
        unpickler.instructions -= 1
        unpickler.left -= OBJECT_SIZE
        if unpickler.instructions < 0 or unpickler.left < 0:
            raise Forbidden('it unfolds into far more than its length')
        instruction(unpickler)

    return counted


def _weighed(instruction: Callable[[Any], None]) -> Callable[[Any], None]:
    """An instruction that takes its value from the file."""

    def weighed(unpickler: Unpickler) -> None:
        instruction(unpickler)
        unpickler.spend(sys.getsizeof(unpickler.stack[-1]))

    return weighed


_own = Unpickler.dispatch
for _code in (
    pickle.STRING,
    pickle.BINSTRING,
    pickle.SHORT_BINSTRING,
    pickle.BINBYTES,
    pickle.SHORT_BINBYTES,
    pickle.BINBYTES8,
    pickle.INT,
    pickle.LONG,
    pickle.LONG1,
    pickle.LONG4,
):
    _own[_code[0]] = _weighed(_own[_code[0]])
_own.update(
    {
        code[0]: instruction
        for code, instruction in [
            (pickle.UNICODE, Unpickler.load_unicode),
            (pickle.BINUNICODE, Unpickler.load_binunicode),
            (pickle.BINUNICODE8, Unpickler.load_binunicode8),
            (pickle.SHORT_BINUNICODE, Unpickler.load_short_binunicode),
            (pickle.PUT, Unpickler.load_put),
            (pickle.BINPUT, Unpickler.load_binput),
            (pickle.LONG_BINPUT, Unpickler.load_long_binput),
            (pickle.MEMOIZE, Unpickler.load_memoize),
            (pickle.GET, Unpickler.load_get),
            (pickle.BINGET, Unpickler.load_binget),
            (pickle.LONG_BINGET, Unpickler.load_long_binget),
            (pickle.REDUCE, Unpickler.load_reduce),
            (pickle.NEWOBJ, Unpickler.load_newobj),
            (pickle.BUILD, Unpickler.load_build),
            (pickle.APPEND, Unpickler.load_append),
            (pickle.APPENDS, Unpickler.load_appends),
            (pickle.SETITEM, Unpickler.load_setitem),
            (pickle.SETITEMS, Unpickler.load_setitems),
            (pickle.DICT, Unpickler.load_dict),
            (pickle.ADDITEMS, Unpickler.load_additems),
            (pickle.FROZENSET, Unpickler.load_frozenset),
            (pickle.EMPTY_SET, Unpickler.load_empty_set),
            *(
                (code, Unpickler.refuse)
                for code in (
                    pickle.INST,
                    pickle.OBJ,
                    pickle.NEWOBJ_EX,
                    pickle.BYTEARRAY8,
                    pickle.NEXT_BUFFER,
                    pickle.READONLY_BUFFER,
                )
            ),
        ]
    }
)
_own.update({_code: _counted(_instruction) for _code, _instruction in _own.items()})


def check_tree(content: Any, text: int, with_state: tuple[type, ...] = ()) -> None:
    """Walk through everything that a file holds, shared parts as often as they are referred to.

    Args:
        text: characters that may be met.
        with_state: classes whose `state` belongs to the tree.

    Raises:
        Forbidden: too large or too deep for a snapshot, so that comparing, printing or copying it
            might never end.
    """
    nodes = MAX_NODES
    path: list[Iterator[Any]] = [iter((content,))]
    while path:
        for value in path[-1]:
            nodes -= 1
            if isinstance(value, (str, bytes)):
                text -= len(value)
            elif isinstance(value, int):
                text -= value.bit_length() // 3
            if nodes < 0 or text < 0:
                raise Forbidden('it unfolds into far more than its length')
            below = _below(value, with_state)
            if below is not None:
                path.append(below)
                break
        else:
            path.pop()
        if len(path) > MAX_DEPTH:
            raise Forbidden(f'its parts are nested more than {MAX_DEPTH} deep')


def _below(value: Any, with_state: tuple[type, ...]) -> Iterator[Any] | None:
    if isinstance(value, dict):
        return itertools.chain(value.keys(), value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return iter(value)
    return iter((value.state,)) if isinstance(value, with_state) else None  # type: ignore[attr-defined]


def load_checked(kind: type[Unpickler], data: bytes, with_state: tuple[type, ...] = ()) -> Any:
    """Run a pickle that fills all of `data`, and check what came out."""
    content = kind(io.BytesIO(data), 2 * len(data) + ALLOWANCE).load()
    check_tree(content, len(data) + ALLOWANCE, with_state)
    return content
