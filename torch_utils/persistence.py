"""Classes whose instances travel inside snapshots together with the source of their module.

NVIDIA's snapshots hold, for each network, a class name, the source text of the file that defines it
and a state. NVIDIA's loaders execute that text. This project never does: `training.snapshots` maps
the names onto its own classes. What is here marks the classes that may travel and records how an
instance was built.
"""

import functools
import inspect
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from dnnlib import UserError

from .misc import named_tensors

T = TypeVar('T', bound=type)
M = TypeVar('M', bound=torch.nn.Module)

VERSION = 6  # of NVIDIA's format; its loaders refuse any other


def persistent_class(cls: T) -> T:
    """Class decorator: instances remember their constructor's arguments as `_init_args` and
    `_init_kwargs`.
    """
    init = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def remembering_init(self: Any, *args: Any, **kwargs: Any) -> None:
        # a subclass that calls super().__init__ has recorded its own
        if '_init_args' not in self.__dict__:
            self.__dict__.update(_init_args=args, _init_kwargs=dict(kwargs))
        init(self, *args, **kwargs)

    cls.__init__ = remembering_init  # type: ignore[misc]
    cls._is_persistent = True  # type: ignore[attr-defined]
    return cls


def is_persistent(obj: Any) -> bool:
    """Return whether an object's class carries the decorator."""
    return getattr(type(obj), '_is_persistent', False)


def module_source(cls: type) -> str:
    """The source text of the file that defines a class, as it is embedded in snapshots."""
    path = inspect.getsourcefile(sys.modules[cls.__module__])
    assert path is not None, f'{cls} has no source file'
    return _read_source(path)


@functools.cache  # one text object, so that a pickle holds it once
def _read_source(path: str) -> str:
    return Path(path).read_text(encoding='utf-8')


def construct(cls: type[M], kwargs: dict[str, Any]) -> M:
    """Build a module whose weights don't matter; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        return cls(**kwargs)


class ShapesOnly(TorchFunctionMode):
    """While it is active, new tensors of any size take no memory: they are on the device `meta`.

    `torch.device('meta')` does the same, but random numbers and arithmetic on that device are
    PyTorch's Python kernels, which import sympy and `torch._dynamo`: more than a second of every
    script. Nobody reads the values, so that here random numbers are not drawn and a tensor that is
    divided by a number stays as it is. Tensors of given values, such as filters, are ordinary ones.
    """

    _UNIFORM = (torch.empty, torch.zeros, torch.ones, torch.full)
    _RANDOM = (torch.rand, torch.randn)
    _DIVISION = (torch.Tensor.div, torch.Tensor.__truediv__)  # either is called for the operator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch in place of `func`."""
        kwargs = dict(kwargs or {})
        if func in self._RANDOM:
            func = torch.empty
        if func in self._UNIFORM:
            kwargs.setdefault('device', 'meta')
        elif func in self._DIVISION and args[0].is_meta and isinstance(args[1], (int, float)):
            return args[0]
        return func(*args, **kwargs)


def build(cls: type[M], kwargs: dict[str, Any], tensors: dict[str, torch.Tensor], name: str) -> M:
    """Construct a module and give it every one of these tensors: no more, no fewer, no other shape.

    Args:
        kwargs: constructor arguments.
        tensors: by dotted name. Whether a name is a parameter or a buffer doesn't matter: freezing
            turns one into the other.
        name: what to call the module in an error.

    Returns:
        The module in evaluation mode, without gradients.

    Raises:
        UserError: the tensors don't fit, naming those that don't.
    """
    with ShapesOnly():  # first: what a file claims must not be allocated before it is checked
        module = cls(**kwargs)
    own = dict(named_tensors(module))
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        # the file's, unlike the others
        unknown = [
            key if len(key) <= 60 and key.isprintable() else ascii(key[:50]) for key in unknown
        ]
        raise UserError(
            f"{name}: the tensors don't fit the architecture; missing: "
            f'{_some(missing)}; unknown: {_some(unknown)}'
        )
    for key, tensor in own.items():
        if tensor.shape != tensors[key].shape:
            found = str(list(tensors[key].shape))[:80]
            raise UserError(
                f'{name}: {key} has shape {found} where {list(tensor.shape)} is expected'
            )
    # Module.to_empty does the same by a Python kernel that imports sympy.
    module._apply(lambda t: torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device='cpu'))
    with torch.no_grad():
        for key, tensor in named_tensors(module):
            tensor.copy_(tensors[key])
    return module.eval().requires_grad_(False)


def clone(module: M, **overrides: Any) -> M:
    """A new module on the CPU with the same architecture and values; `overrides` are constructor
    arguments that differ.
    """
    return build(
        type(module),
        {**constructor_kwargs(module), **overrides},
        dict(named_tensors(module)),
        type(module).__name__,
    )


def constructor_kwargs(module: torch.nn.Module) -> dict[str, Any]:
    """Return what a persistent module was built with, positional arguments by their names."""
    names = list(inspect.signature(type(module).__init__).parameters)[1:]  # without self
    return {**dict(zip(names, module._init_args)), **module._init_kwargs}  # type: ignore[dict-item, arg-type]


def _some(names: list[str]) -> str:
    return (
        ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '') or 'none'
    )


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    """The global that snapshots name. Plain `pickle.load` ends here; the allow-list reader never
    calls it.
    """
    raise RuntimeError(
        f'a pickled {meta.get("class_name")} is read by '
        f'training.snapshots.load_networks, not by pickle.load'
    )
