"""CUDA graphs: what a function has the device do, recorded once, then replayed without Python and
without launching kernels one by one.
"""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import torch

from dnnlib import UserError

# ordinary runs before a recording: cuDNN, optimisers and the compiled kernels make in them what
# they need
WARM_UP = 3
SWITCH = 'STYLEGAN_GRAPHS'

log = logging.getLogger(__name__)

Replay = Callable[[], object]


class Recorder(Protocol):
    """Records functions as graphs."""

    def warm(self, function: Callable[[], object]) -> None:
        """Run a function as it is, where a recording would run it."""

    def record(self, function: Callable[[], object]) -> Replay:
        """Take note of all that a function would have the device do, without doing it.

        Raises:
            RuntimeError: it waits for the device, or does something else that no graph can hold.
        """


class CudaRecorder:
    """Recorder of CUDA graphs, which share their memory: only one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def warm(self, function: Callable[[], object]) -> None:
        """See `Recorder`; on the stream of the recordings, which is what autograd's accumulation
        needs.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], object]) -> Replay:
        """See `Recorder`. Other threads may go on copying pictures meanwhile."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode='thread_local'
            ):
                function()
        except RuntimeError:
            self._clear_up(current)
            raise
        return graph.replay

    def _clear_up(self, current: torch.cuda.Stream) -> None:
        """Undo what a recording leaves behind that waited for the device: PyTorch 2.9 stays on its
        stream, takes its memory for in use, and lets nobody draw random numbers until another
        recording has come to its end.
        """
        torch.cuda.set_stream(current)
        self._pool = torch.cuda.graph_pool_handle()
        nothing = torch.cuda.CUDAGraph()
        with (
            contextlib.suppress(RuntimeError),
            torch.cuda.graph(nothing, stream=self._stream, capture_error_mode='thread_local'),
        ):
            torch.zeros([], device=self._device)


def make_recorder(device: torch.device) -> Recorder | None:
    """Return what records graphs on a device; None where there are none."""
    return CudaRecorder(device) if device.type == 'cuda' else None


def first_line(error: Exception) -> str:
    """Of an error's message, which is a page where CUDA is concerned."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Captured:
    """A function of tensors to one tensor, that keeps nothing and draws no random numbers, as
    graphs where a device has them.

    There is a graph for each combination of shapes that comes more than `WARM_UP` times, if its
    first replay gives what the function gave; else one line says why not, and the function runs as
    it is. The environment variable `STYLEGAN_GRAPHS=off` leaves it at that everywhere.

    Args:
        function: of the tensors of a call.
        device: where the function works.
        name: of the function, for that line.

    Raises:
        UserError: `STYLEGAN_GRAPHS` is neither `auto` nor `off`.
    """

    def __init__(
        self, function: Callable[..., torch.Tensor], device: torch.device, name: str
    ) -> None:
        wanted = os.environ.get(SWITCH, 'auto')
        if wanted not in ('auto', 'off'):
            raise UserError(f'{SWITCH}={wanted}: auto or off')
        self._function, self._device, self._name = function, device, name
        self._recorder = make_recorder(device) if wanted == 'auto' else None
        self._runs: Counter[object] = Counter()
        # inputs, result
        self._graphs: dict[object, tuple[list[torch.Tensor], torch.Tensor, Replay]] = {}

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the function's result for these tensors, on `device`; the caller owns it."""
        inputs = tuple(tensor.to(self._device) for tensor in inputs)
        if self._recorder is None:
            return self._function(*inputs)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if shapes in self._graphs:
            own, result, replay = self._graphs[shapes]
            torch._foreach_copy_(own, list(inputs))
            replay()
            return result.clone()
        self._runs[shapes] += 1
        results: list[torch.Tensor] = []
        self._recorder.warm(lambda: results.append(self._function(*inputs)))
        if self._runs[shapes] == WARM_UP:
            self._record(self._recorder, shapes, inputs, results[0])
        return results[0]

    def _record(
        self,
        recorder: Recorder,
        shapes: object,
        inputs: tuple[torch.Tensor, ...],
        expected: torch.Tensor,
    ) -> None:
        own, results = [tensor.clone() for tensor in inputs], []
        try:
            replay = recorder.record(lambda: results.append(self._function(*own)))
            replay()
            difference = float((results[0].double() - expected.double()).abs().max())
            if not difference <= 1e-2 * float(expected.double().abs().max()):
                raise RuntimeError(f'the first replay is off by {difference:g}')
            self._graphs[shapes] = own, results[0], replay
        except RuntimeError as error:
            log.warning(
                '%s cannot be made a CUDA graph and runs as it is (%s)',
                self._name,
                first_line(error),
            )
            self._recorder = None
