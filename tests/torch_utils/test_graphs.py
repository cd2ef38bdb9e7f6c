"""Phases, and the generator, as graphs: on the CPU, where a tape stands for them."""

import contextlib
import gc
import logging
import unittest.mock
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from tape import TapeRecorder

from dnnlib import UserError
from synthesis.noise import given_noise, random_noise, stack_noise
from synthesis.sampling import (
    Latent,
    Renderer,
    draw_latents,
    path_pairs,
    render_ws,
    sample_images,
)
from torch_utils import cuda_graphs
from torch_utils.cuda_graphs import WARM_UP
from torch_utils.distributed import Ranks
from torch_utils.misc import named_tensors
from training.augment import AugmentPipe
from training.config import build_config
from training.dataset import ImageFolderDataset
from training.phase_graphs import PhaseGraphs, make_graphs
from training.phases import Batch
from training.run import Run, setup
from training.snapshots import load_networks
from training.training_loop import training_step

PLAIN: dict[str, Any] = {'augment': {'mode': 'noaug'}}


@pytest.fixture
def make(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    # As a GPU does it with pictures of this size: without looking.
    monkeypatch.setattr(
        AugmentPipe,
        '_margins',
        staticmethod(lambda x, inverse, reach: (x.shape[3] - 1, x.shape[2] - 1) * 2),
    )

    def make_run(**overrides: Any) -> Run:
        settings = {
            'batch_size': 4,
            'batch_gpu': 2,
            'data': {'workers': 0},
            'network': {'channel_base': 256, 'mbstd_group_size': 2},
            'augment': {'mode': 'ada', 'pipe': 'bgc', 'p': 0.4, 'interval': 2},
            'loss': {'pl_weight': 2.0, 'g_reg_interval': 2, 'd_reg_interval': 2},
        }
        for name, value in overrides.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
        return setup(
            build_config('demo', 32, 1, settings), ImageFolderDataset(data), torch.device('cpu')
        )

    yield make_run


def everything(run: Run) -> dict[str, torch.Tensor]:
    found = {
        f'{name}.{key}': tensor
        for name in ('G', 'D', 'G_ema')
        for key, tensor in named_tensors(getattr(run, name))
    }
    found |= {
        f'{phase.name}.{i}.{key}': value
        for phase in run.phases
        for i, state in enumerate(phase.optimizer.state.values())
        for key, value in state.items()
    }
    found |= {'pl_mean': run.losses.pl_mean, 'p': torch.tensor(run.p)}
    if run.ada is not None:
        found['signs'] = run.ada.signs
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def steps(run: Run, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    for _ in range(count):
        training_step(run)
    return everything(run)


@pytest.mark.parametrize(
    'overrides',
    [
        {},
        {'batch_gpu': 4, **PLAIN},
        {'network': {'freeze_layers': 3}, **PLAIN},
        {'loss': {'style_mixing_prob': 0.9}, **PLAIN},
    ],
    ids=['augmented', 'whole', 'frozen', 'mixed'],
)
def test_graphs_train_the_same(overrides: dict[str, Any], make: Callable[..., Run]) -> None:
    plain = make(**overrides)
    expected, stats = steps(plain, 9), plain.stats.read()
    graphed, recorder = make(**overrides), TapeRecorder()
    graphed.graphs = PhaseGraphs(recorder, graphed.config.batch_gpu)
    found = steps(graphed, 9)
    assert recorder.recorded == len(graphed.phases) == 4 and recorder.warmed == 4 * WARM_UP
    assert all(torch.equal(found[name], expected[name]) for name in expected), 'to the last bit'
    assert graphed.stats.read() == stats


def test_statistics_start_anew_after_a_tick(make: Callable[..., Run]) -> None:
    plain, graphed = make(**PLAIN), make(**PLAIN)
    graphed.graphs = PhaseGraphs(TapeRecorder(), 2)
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
    run.graphs = PhaseGraphs(TapeRecorder(), 2)
    steps(run, 8)
    phase = next(phase for phase in run.phases if phase.name == 'Dmain')
    real_img, real_c = next(run.data)
    batch = Batch(
        torch.full_like(real_img, float('nan')),
        real_c,
        torch.randn(4, run.G.z_dim),
        torch.zeros(4, 0),
    )
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
    run.graphs = PhaseGraphs(recorder, 2, Doubling(count=2))
    found = steps(run, 9)
    assert recorder.recorded == 8 and len(seen) == 9 + 5 + 9 + 5
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_phase_with_a_host_sync_runs_eagerly(
    make: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    expected, run = steps(make(**PLAIN), 8), make(**PLAIN)
    phase = next(phase for phase in run.phases if phase.name == 'Gmain')
    compute = phase.compute

    def waits(batch: Batch) -> torch.Tensor:
        loss = compute(batch)
        float(loss.sum())
        return loss

    phase.compute = waits
    run.graphs = PhaseGraphs(TapeRecorder(), 2)
    with caplog.at_level(logging.WARNING):
        found = steps(run, 8)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and lines[0].startswith(
        'Gmain cannot be made a CUDA graph and runs as it is (operation not permitted'
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_no_phase_is_recorded_before_all_have_run(make: Callable[..., Run]) -> None:
    """Or the memory would have to hold a graph's numbers and those of an ordinary run."""

    class Watching(TapeRecorder):
        def record(self, function: Callable[[], object]) -> Callable[[], object]:
            capturable.append(
                [
                    group['capturable']
                    for phase in run.phases
                    for group in phase.optimizer.param_groups
                ]
            )
            return super().record(function)

    settings = {'loss': {'g_reg_interval': 2, 'd_reg_interval': 4}, **PLAIN}
    capturable: list[list[bool]] = []
    expected, run, recorder = steps(make(**settings), 13), make(**settings), Watching()
    run.graphs = PhaseGraphs(recorder, 2, names=[phase.name for phase in run.phases])
    steps(run, 9)  # Dreg's third run is the last of them
    assert recorder.recorded == 0
    run = make(**settings)
    run.graphs = PhaseGraphs(recorder, 2, names=[phase.name for phase in run.phases])
    found = steps(run, 13)
    assert recorder.recorded == 4
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(any(flags) and not all(flags) for flags in capturable), (
        'Adam is told only of the recording that it is in'
    )
    assert not any(
        group['capturable'] for phase in run.phases for group in phase.optimizer.param_groups
    ), 'else it warns of ordinary steps'


def test_failed_recording_is_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch 2.9, imitated: what waits ends neither the stream nor the pool of its recording, nor
    that of random numbers.
    """
    state: dict[str, Any] = {'stream': 'ordinary', 'pools': 0, 'recording': False, 'open': set()}

    @contextlib.contextmanager
    def graph(
        graph: Any, pool: Any = None, stream: Any = None, capture_error_mode: str = ''
    ) -> Iterator[None]:
        assert pool not in state['open'], 'already recording to mempool_id'
        before, state['stream'], state['recording'] = state['stream'], stream, True
        state['open'].add(pool)
        yield  # an error of the function goes on from here, as from a failed capture_end
        state['open'].remove(pool)
        state['stream'], state['recording'] = before, False

    def new_pool() -> int:
        state['pools'] += 1
        return state['pools']

    cuda = dict(
        Stream=lambda device: 'recording',
        graph=graph,
        graph_pool_handle=new_pool,
        CUDAGraph=unittest.mock.MagicMock,
        current_stream=lambda device: state['stream'],
        set_stream=lambda stream: state.update(stream=stream),
    )
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    recorder = cuda_graphs.CudaRecorder(torch.device('cpu'))

    def waits() -> None:
        raise RuntimeError('operation not permitted when stream is capturing')

    for _ in range(2):
        with pytest.raises(RuntimeError, match='not permitted'):
            recorder.record(waits)
        assert state['stream'] == 'ordinary' and not state['recording']
    assert recorder.record(lambda: None)


def test_out_of_memory_while_recording_is_raised(make: Callable[..., Run]) -> None:
    class Full(TapeRecorder):
        def record(self, function: Callable[[], object]) -> Callable[[], object]:
            raise torch.cuda.OutOfMemoryError('full')

    run = make(**PLAIN)
    run.graphs = PhaseGraphs(Full(), 2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        steps(run, WARM_UP + 1)


def test_no_graphs_on_a_cpu() -> None:
    assert make_graphs(torch.device('cpu'), 4, Ranks(), []) is None


# ----------------------------------------------------------------------------
# The generator


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> TapeRecorder:
    tapes = TapeRecorder()
    monkeypatch.setattr(cuda_graphs, 'make_recorder', lambda device: tapes)
    return tapes


def pictures(G: Any, layers: list[str]) -> Iterator[Latent]:
    for i in range(22):
        noise = {name: value for name, value in random_noise(G, [i, 7]).items() if name in layers}
        yield Latent(
            str(i),
            G.mapping(torch.randn([1, G.z_dim], generator=torch.Generator().manual_seed(i)), None)[
                0
            ],
            (i,),
            noise,
        )


@pytest.mark.parametrize(
    'mode,layers',
    [('const', []), ('const', ['b8.conv0', 'b16.conv1']), ('random', []), ('none', [])],
)
def test_drawing(mode: str, layers: list[str], recorder: TapeRecorder) -> None:
    """The same pictures to the last bit, and only what came before the recording drawn as it is;
    the last batch is a shorter one.
    """
    G = load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema
    found = [pixels for _, pixels in draw_latents(G, pictures(G, layers), mode, batch=4)]
    assert (recorder.recorded, recorder.warmed) == (1, WARM_UP + 1)
    for picture, pixels in zip(pictures(G, layers), found, strict=True):
        noise = random_noise(G, picture.key) if mode == 'random' else picture.noise
        with given_noise(G, stack_noise([noise] * 4)):
            expected = render_ws(
                G, picture.w.expand(4, -1, -1), 'none' if mode == 'none' else 'const'
            )
        assert np.abs(pixels.astype(int) - expected[0].numpy()).max() <= 1


def test_memory_is_given_back_at_once(recorder: TapeRecorder) -> None:
    """Without the collector of cycles, which may come late."""
    G = load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema
    renderer = Renderer(G, lambda ws: render_ws(G, ws))
    for _ in range(WARM_UP + 1):
        renderer(torch.zeros([1, G.num_ws, G.w_dim]), noise={})
    gone = weakref.ref(renderer._by_layers[()])
    gc.disable()
    try:
        del renderer
        assert recorder.recorded == 1 and gone() is None
    finally:
        gc.enable()


def test_metrics_draw_the_same(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    G = load_networks(GOLDEN / 'ada-cond-32.pkl').G_ema
    found = list(sample_images(G, 14, batch_size=2, seed=3, truncation_psi=0.7))
    pairs = list(path_pairs(G, 10, space='w', sampling='full', epsilon=1e-2, batch_size=2))
    assert recorder.recorded == 2
    monkeypatch.setenv('STYLEGAN_GRAPHS', 'off')
    for one, other in zip(
        found, sample_images(G, 14, batch_size=2, seed=3, truncation_psi=0.7), strict=True
    ):
        assert torch.equal(one, other)
    for one, other in zip(
        pairs,
        path_pairs(G, 10, space='w', sampling='full', epsilon=1e-2, batch_size=2),
        strict=True,
    ):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert recorder.recorded == 2


@pytest.mark.parametrize(
    'flaw,words',
    [
        ('waits', 'operation not permitted when stream is capturing'),
        ('remembers', 'the first replay is off by'),
        ('nan', 'the first replay is off by nan'),
    ],
)
def test_function_falls_back_to_eager_when_capture_fails(
    flaw: str, words: str, recorder: TapeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def function(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        if flaw == 'waits':
            float(x.sum())
        if flaw == 'nan' and len(calls) == WARM_UP + 1:
            return x * torch.nan
        return x * 2 if flaw != 'remembers' or len(calls) != WARM_UP + 1 else x * 3

    captured = cuda_graphs.Captured(function, torch.device('cpu'), 'this')
    with caplog.at_level(logging.WARNING):
        for i in range(1, 8):
            assert torch.equal(captured(torch.full([2], float(i))), torch.full([2], 2.0 * i))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f'this cannot be made a CUDA graph and runs as it is ({words}')


def test_graph_result_belongs_to_the_caller(recorder: TapeRecorder) -> None:
    captured = cuda_graphs.Captured(lambda x: x + 1, torch.device('cpu'), 'this')
    results = [captured(torch.full([1], float(i))) for i in range(8)]
    assert [float(result) for result in results] == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    ] and recorder.recorded == 1


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('STYLEGAN_GRAPHS', 'fast')
    with pytest.raises(UserError, match='STYLEGAN_GRAPHS=fast: auto or off'):
        cuda_graphs.Captured(lambda x: x, torch.device('cpu'), 'this')
