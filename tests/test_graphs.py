"""Phases as graphs, on the CPU: a tape of what reaches the device stands for a CUDA graph, and is as strict as one.

A replay runs the recorded operators on the very tensors of the recording, and no Python: what a phase does by other means, or reads from
elsewhere than its static inputs, comes out wrong, and waiting for the device is refused.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_utils.distributed import Ranks
from torch_utils.misc import named_tensors
from training.augment import AugmentPipe
from training.config import build_config
from training.dataset import ImageFolderDataset
from training.graphs import WARM_UP, Graphs, make_graphs
from training.phases import Batch
from training.training_loop import Run, setup, training_step

PLAIN: dict[str, Any] = {'augment': {'mode': 'noaug'}}
WAITING = ('_local_scalar_dense', 'item', 'nonzero', 'is_nonzero', 'equal')


class Tape(TorchDispatchMode):
    """Notes operators with their arguments and results, and how what they change in place was before."""

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
        known = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        self.made |= {tensor.untyped_storage().data_ptr() for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor)} - known
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.steps:
            again = func(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(result)):
                if isinstance(new, torch.Tensor) and new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr():
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


@pytest.fixture
def make(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    # As a GPU does it with pictures of this size: without looking.
    monkeypatch.setattr(AugmentPipe, '_margins', staticmethod(lambda x, inverse, reach: (x.shape[3] - 1, x.shape[2] - 1) * 2))

    def make_run(**overrides: Any) -> Run:
        settings = {'batch_size': 4, 'batch_gpu': 2, 'data': {'workers': 0}, 'network': {'channel_base': 256, 'mbstd_group_size': 2},
                    'augment': {'mode': 'ada', 'pipe': 'bgc', 'p': 0.4, 'interval': 2}, 'loss': {'pl_weight': 2.0, 'g_reg_interval': 2, 'd_reg_interval': 2}}
        for name, value in overrides.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
        return setup(build_config('demo', 32, 1, settings), ImageFolderDataset(data), torch.device('cpu'))

    yield make_run


def everything(run: Run) -> dict[str, torch.Tensor]:
    found = {f'{name}.{key}': tensor for name in ('G', 'D', 'G_ema') for key, tensor in named_tensors(getattr(run, name))}
    found |= {f'{phase.name}.{i}.{key}': value for phase in run.phases for i, state in enumerate(phase.optimizer.state.values())
              for key, value in state.items()}
    found |= {'pl_mean': run.losses.pl_mean, 'p': torch.tensor(run.p)}
    if run.ada is not None:
        found['signs'] = run.ada.signs
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def steps(run: Run, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    for _ in range(count):
        training_step(run)
    return everything(run)


@pytest.mark.parametrize('overrides', [
    {}, {'batch_gpu': 4, **PLAIN}, {'network': {'freeze_layers': 3}, **PLAIN}, {'loss': {'style_mixing_prob': 0.9}, **PLAIN},
], ids=['augmented', 'whole', 'frozen', 'mixed'])
def test_graphs_train_the_same(overrides: dict[str, Any], make: Callable[..., Run]) -> None:
    plain = make(**overrides)
    expected, stats = steps(plain, 9), plain.stats.read()
    graphed, recorder = make(**overrides), TapeRecorder()
    graphed.graphs = Graphs(recorder, graphed.config.batch_gpu)
    found = steps(graphed, 9)
    assert recorder.recorded == len(graphed.phases) == 4 and recorder.warmed == 4 * WARM_UP
    assert all(torch.equal(found[name], expected[name]) for name in expected), 'to the last bit'
    assert graphed.stats.read() == stats


def test_statistics_start_anew_after_a_tick(make: Callable[..., Run]) -> None:
    plain, graphed = make(**PLAIN), make(**PLAIN)
    graphed.graphs = Graphs(TapeRecorder(), 2)
    for run in (plain, graphed):
        steps(run, 8)
        run.stats.read()
    assert graphed.stats.read() == plain.stats.read() == {}
    for run in (plain, graphed):
        torch.manual_seed(2)
        training_step(run)
        training_step(run)
    assert graphed.stats.read() == plain.stats.read() != {}


def test_a_step_that_is_not_finite_changes_nothing(make: Callable[..., Run]) -> None:
    run = make(**PLAIN)
    run.graphs = Graphs(TapeRecorder(), 2)
    steps(run, 8)
    phase = next(phase for phase in run.phases if phase.name == 'Dmain')
    real_img, real_c = next(run.data)
    batch = Batch(torch.full_like(real_img, float('nan')), real_c, torch.randn(4, run.G.z_dim), torch.zeros(4, 0))
    before = {name: tensor.clone() for name, tensor in named_tensors(run.D)}
    for count in (1, 2):
        assert run.graphs.run(phase, batch) == 1 and phase.bad_in_a_row == count
    assert all(torch.equal(tensor, before[name]) for name, tensor in named_tensors(run.D))
    batch.real_img.copy_(real_img)
    assert run.graphs.run(phase, batch) == 0 and phase.bad_in_a_row == 0
    assert not all(torch.equal(tensor, before[name]) for name, tensor in named_tensors(run.D))


def test_processes_exchange_gradients_between_two_graphs(make: Callable[..., Run]) -> None:
    class Doubling(Ranks):  # as a second process with the same share would: the mean is the same
        def mean_(self, tensors: Any) -> None:
            seen.append(len(tensors))

    seen: list[int] = []
    expected = steps(make(**PLAIN), 9)
    run, recorder = make(**PLAIN), TapeRecorder()
    run.graphs = Graphs(recorder, 2, Doubling(count=2))
    found = steps(run, 9)
    assert recorder.recorded == 8 and len(seen) == 9 + 5 + 9 + 5
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_waits_runs_as_it_is(make: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    expected, run = steps(make(**PLAIN), 8), make(**PLAIN)
    phase = next(phase for phase in run.phases if phase.name == 'Gmain')
    compute = phase.compute

    def waits(batch: Batch) -> torch.Tensor:
        loss = compute(batch)
        float(loss.sum())
        return loss

    phase.compute = waits
    run.graphs = Graphs(TapeRecorder(), 2)
    with caplog.at_level(logging.WARNING):
        found = steps(run, 8)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and lines[0].startswith('Gmain cannot be made a CUDA graph and runs as it is (operation not permitted')
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_full_memory_is_no_reason_to_go_on_without(make: Callable[..., Run]) -> None:
    class Full(TapeRecorder):
        def record(self, function: Callable[[], object]) -> Callable[[], object]:
            raise torch.cuda.OutOfMemoryError('full')

    run = make(**PLAIN)
    run.graphs = Graphs(Full(), 2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        steps(run, WARM_UP + 1)


def test_there_are_none_on_a_cpu() -> None:
    assert make_graphs(torch.device('cpu'), 4, Ranks()) is None
