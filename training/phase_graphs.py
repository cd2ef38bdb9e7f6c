"""The phases of a step as CUDA graphs.

A step of StyleGAN2 at 256 px launches thousands of kernels, most of them shorter than their launch.
What a graph needs is that a phase changes tensors in place, reads its inputs from where they always
are, and never waits for the device; `phases` is written so.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from torch_utils.cuda_graphs import WARM_UP, Recorder, Replay, first_line, make_recorder
from torch_utils.distributed import ALONE, Ranks

from .phases import Batch, Phase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _RecordedPhase:
    """A phase as CUDA graphs.

    Attributes:
        batch: the static tensors that it reads its inputs from.
        pieces: graphs to replay one after the other; between two of them the processes exchange
            gradients.
    """

    batch: Batch
    pieces: list[Replay]


class PhaseGraphs:
    """Run phases: the first times eagerly, then as graphs; those that can't be recorded stay eager.

    Args:
        recorder: makes the graphs.
        batch_gpu: see `Phase.run`.
        ranks: likewise.
        names: of the phases that must have run eagerly before any is recorded. The memory of a
            graph is lost for eager runs, so that recording one phase before the others have run
            would take the memory of two.
    """

    def __init__(
        self, recorder: Recorder, batch_gpu: int, ranks: Ranks = ALONE, names: Collection[str] = ()
    ) -> None:
        self._recorder = recorder
        self._batch_gpu = batch_gpu
        self._ranks = ranks
        self._names = names
        self._runs: Counter[str] = Counter()
        self._graphs: dict[str, _RecordedPhase | None] = {}  # None: can't be recorded

    def run(self, phase: Phase, batch: Batch) -> torch.Tensor:
        """`Phase.run`; every batch of a phase has the same shapes.

        Returns:
            See there; the next run overwrites it.
        """
        warm = all(self._runs[name] >= WARM_UP for name in (phase.name, *self._names))
        if warm and phase.name not in self._graphs:
            self._graphs[phase.name] = self._record(phase, batch)
        self._runs[phase.name] += 1
        graph = self._graphs.get(phase.name)
        if graph is None:
            self._recorder.warm(lambda: phase.run(batch, self._batch_gpu, self._ranks))
            return phase.bad
        graph.batch.copy_(batch)
        first, *rest = graph.pieces
        first()
        for piece in rest:
            self._ranks.mean_(phase.reduced)
            piece()
        return phase.bad

    def _record(self, phase: Phase, batch: Batch) -> _RecordedPhase | None:
        own = batch.clone()

        def accumulate() -> None:
            phase.accumulate(own, self._batch_gpu)

        def whole() -> None:
            accumulate()
            phase.apply()

        pieces: list[Callable[[], object]] = (
            [whole] if self._ranks.count == 1 else [accumulate, phase.apply]
        )
        groups = phase.optimizer.param_groups
        for group in groups:
            # or Adam refuses; the fused one keeps its counters on the device either way
            group['capturable'] = True
        try:
            return _RecordedPhase(own, [self._recorder.record(piece) for piece in pieces])
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning(
                '%s cannot be made a CUDA graph and runs as it is (%s)',
                phase.name,
                first_line(error),
            )
            return None
        finally:
            for group in groups:
                group['capturable'] = False  # or an ordinary step of another phase warns


def make_graphs(
    device: torch.device, batch_gpu: int, ranks: Ranks, names: Collection[str]
) -> PhaseGraphs | None:
    """Return what runs the phases of a device; None where there are no graphs."""
    recorder = make_recorder(device)
    return None if recorder is None else PhaseGraphs(recorder, batch_gpu, ranks, names)
