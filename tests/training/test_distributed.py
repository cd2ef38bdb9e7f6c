"""Several processes: the same gradients as one, the same weights everywhere, one writer, and an end
that explains itself.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN
from test_continue import assert_same_end, statistics

from torch_utils.distributed import Ranks, launch

ROOT = Path(__file__).parents[2]
SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')
OPTIONS = [
    '--device=cpu',
    '--batch=8',
    '--snap=1',
    '--tick=0.016',
    f'--resume={SNAPSHOT}',
    '--aug-strength=0.3',
    '--freezed=4',
]


def run(
    *options: str, before: tuple[str, ...] = (sys.executable,), timeout: int = 240
) -> 'subprocess.CompletedProcess[str]':
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [*before, str(ROOT / 'train.py'), *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def phases(count: int, batch_gpu: int, out: Path) -> dict:
    assert (
        launch(
            [
                sys.executable,
                str(ROOT / 'tests' / 'helpers' / 'four_phases.py'),
                str(out),
                str(batch_gpu),
            ],
            count,
        )
        == 0
    )
    return torch.load(out, weights_only=True)


def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    one, two = phases(1, 4, tmp_path / 'one.pt'), phases(2, 4, tmp_path / 'two.pt')
    assert one['tensors'].keys() == two['tensors'].keys() and len(one['tensors']) > 100
    for name, tensor in one['tensors'].items():
        torch.testing.assert_close(
            two['tensors'][name],
            tensor,
            rtol=1e-5,
            atol=1e-5 * float(tensor.abs().max()) + 1e-12,
            msg=name,
        )
    assert one['stats'] == pytest.approx(two['stats'], rel=1e-5, abs=1e-6)


def test_two_processes_train_one_network_and_go_on_exactly(data: Path, tmp_path: Path) -> None:
    common = ['--data', str(data), '--gpus=2', *OPTIONS]
    result = run('--outdir', str(tmp_path / 'whole'), '--kimg=0.048', *common)
    assert result.returncode == 0, result.stderr
    assert (
        result.stdout.count('\ntick 0') == 1
        and '2 processes, each with 4 of 8 pictures a step' in result.stdout
    )
    assert run('--outdir', str(tmp_path / 'half'), '--kimg=0.032', *common).returncode == 0
    ((whole,), (half,)) = ((tmp_path / name).iterdir() for name in ('whole', 'half'))
    assert run('--continue', str(half), '--kimg=0.048', '--device=cpu').returncode == 0
    state = torch.load(next(half.glob('training-state-*.pt')), weights_only=True)
    assert len(state['rng']) == 2 and not torch.equal(state['rng'][0], state['rng'][1])
    assert statistics(whole)[-1]['Loss/scores/real']['num'] == 16  # of both processes
    assert_same_end(whole, half)


@pytest.mark.slow
def test_torchrun(data: Path, tmp_path: Path) -> None:
    before = (sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2')
    result = run(
        '--outdir', str(tmp_path), '--data', str(data), '--kimg=0.016', *OPTIONS, before=before
    )
    assert result.returncode == 0, result.stderr
    (run_dir,) = tmp_path.iterdir()
    assert json.loads((run_dir / 'training_options.json').read_text())['gpus'] == 2 and list(
        run_dir.glob('network-snapshot-*.pkl')
    )


DYING = """
import os, sys
sys.path.insert(0, {root!r})
from training import training_loop
step = training_loop.training_step
def dying(run):
    step(run)
    if run.step == 3 and run.ranks.rank == 1:
        if {how!r} == 'kill':
            os.kill(os.getpid(), 9)
        raise ValueError('a fault in process 1')
training_loop.training_step = dying
import train
sys.exit(train.main({options!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    'how,words', [('raise', 'a fault in process 1'), ('kill', 'process 1 was ended by signal 9')]
)
def test_a_process_that_dies_ends_the_run(
    how: str, words: str, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = ['--outdir', str(tmp_path), '--data', str(data), '--gpus=2', '--kimg=10', *OPTIONS]
    start = time.monotonic()
    code = launch([sys.executable, '-c', DYING.format(root=str(ROOT), how=how, options=options)], 2)
    assert code != 0 and time.monotonic() - start < 60
    error = capfd.readouterr().err
    assert words in error and 'another process has ended' not in error


@pytest.mark.slow
def test_ctrl_c_stops_all_at_the_same_step(data: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        str(ROOT / 'train.py'),
        '--outdir',
        str(tmp_path),
        '--data',
        str(data),
        '--gpus=2',
        '--kimg=10',
        *OPTIONS,
    ]
    with subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith('tick 0'):
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 130 and 'stopped; go on with' in rest
        assert process.stderr.read().count('\n') <= 1
    (run_dir,) = tmp_path.iterdir()
    assert len(list(run_dir.glob('training-state-*.pt'))) == 1


@pytest.mark.parametrize(
    'options,words', [(['--gpus=3'], '--batch=8 must be a multiple'), (['--gpus=0'], '--gpus=0')]
)
def test_bad_numbers(options: list[str], words: str, data: Path, tmp_path: Path) -> None:
    result = run('--outdir', str(tmp_path / 'out'), '--data', str(data), *OPTIONS, *options)
    assert (
        result.returncode == 2
        and words in result.stderr
        and result.stderr.count('\n') == 1
        and not (tmp_path / 'out').exists()
    )


def test_alone_nothing_is_reduced() -> None:
    tensor = torch.ones(2)
    Ranks().mean_([tensor])
    assert (
        tensor.tolist() == [1, 1] and Ranks().gather('a') == ['a'] and Ranks().flags(1, 0) == [1, 0]
    )
