"""A tape of what reaches the device, on the CPU, in place of a CUDA graph, and as strict as one.

A replay runs the recorded operators on the very tensors of the recording, and no Python: what a
function does by other means, or reads from elsewhere than its static inputs, comes out wrong, and
waiting for the device is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = ('_local_scalar_dense', 'item', 'nonzero', 'is_nonzero', 'equal')


class Tape(TorchDispatchMode):
    """Notes operators with their arguments and results, and how what they change in place was
    before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in WAITING:
            raise RuntimeError(f'operation not permitted when stream is capturing: {func}')
        for argument, value in zip(func._schema.arguments, args):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(value):
                    place = tensor.untyped_storage().data_ptr()
                    if place not in self.made and place not in self.before:
                        whole = torch.empty([0], dtype=tensor.dtype).set_(tensor.untyped_storage())
                        self.before[place] = whole, whole.clone()
        result = func(*args, **kwargs)
        self.steps.append((func, args, kwargs, result))
        known = {
            tensor.untyped_storage().data_ptr()
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, torch.Tensor)
        }
        self.made |= {
            tensor.untyped_storage().data_ptr()
            for tensor in tree_leaves(result)
            if isinstance(tensor, torch.Tensor)
        } - known
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.steps:
            again = func(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(result)):
                if (
                    isinstance(new, torch.Tensor)
                    and new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr()
                ):
                    old.copy_(new)


class TapeRecorder:
    def __init__(self) -> None:
        self.recorded = self.warmed = 0

    def warm(self, function: Callable[[], object]) -> None:
        self.warmed += 1
        function()

    def record(self, function: Callable[[], object]) -> Callable[[], object]:
        self.recorded += 1
        tape, random = Tape(), torch.get_rng_state()
        try:
            with tape:
                function()
        finally:  # a recording does nothing
            torch.set_rng_state(random)
            with torch.no_grad():
                for whole, values in tape.before.values():
                    whole.copy_(values)

        def replay() -> None:
            with torch.no_grad():
                tape.replay()

        return replay
