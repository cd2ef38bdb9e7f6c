"""A run that is stopped and continued is the run that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import train
from torch_utils.misc import named_tensors
from training import training_loop
from training.checkpoint import load_networks

SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.RandomState(0)
    for i in range(10):
        Image.fromarray(rng.randint(0, 256, [32, 32, 3], dtype=np.uint8)).save(folder / f'{i:02d}.png')
    return folder


def start(data: Path, outdir: Path, *options: str) -> Path:
    assert train.main(['--outdir', str(outdir), '--data', str(data), '--device=cpu', '--batch=4', '--snap=1', *options]) == 0
    return max(outdir.iterdir())


def statistics(run_dir: Path) -> list[dict]:
    """stats.jsonl without what depends on the clock and on the process."""
    rows = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(('Timing/', 'Resources/')) and key != 'timestamp'} for row in rows]


def assert_same_end(one: Path, other: Path) -> None:
    names = [max(path.name for path in run_dir.glob('network-snapshot-*.pkl')) for run_dir in (one, other)]
    assert names[0] == names[1]
    nets = [load_networks(run_dir / names[0]) for run_dir in (one, other)]
    for part in ('G', 'D', 'G_ema', 'augment_pipe'):
        for (name, a), (_, b) in zip(named_tensors(getattr(nets[0], part)), named_tensors(getattr(nets[1], part))):
            assert torch.equal(a, b), f'{part}.{name}'
    assert statistics(one) == statistics(other)
    states = [torch.load(next(run_dir.glob('training-state-*.pt')), weights_only=True) for run_dir in (one, other)]
    for name in ('Gmain', 'Dmain'):
        for key, row in states[0]['optimizers'][name]['state'].items():
            for field, value in row.items():
                assert torch.equal(value, states[1]['optimizers'][name]['state'][key][field]), (name, key, field)
    assert torch.equal(states[0]['rng'], states[1]['rng']) and states[0]['counters'] == states[1]['counters']


@pytest.mark.parametrize('workers', [0, 2])
def test_bit_for_bit(workers: int, data: Path, tmp_path: Path) -> None:
    options = [f'--resume={SNAPSHOT}', '--freezed=4', '--aug-strength=0.3', '--augpipe=bgc', '--mirror=1', '--nkimg=10', '--tick=0.012',
               f'--workers={workers}']
    whole = start(data, tmp_path / 'whole', *options, '--kimg=10.04')
    half = start(data, tmp_path / 'half', *options, '--kimg=10.024')
    assert train.main(['--continue', str(half), '--kimg=10.04', '--device=cpu']) == 0
    assert_same_end(whole, half)
    assert json.loads((half / 'training_options.json').read_text()) == {
        **json.loads((whole / 'training_options.json').read_text())}


def test_stopped_in_the_middle_of_a_tick(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ['--cfg=demo', '--tick=0.016', '--kimg=0.032', '--aug-strength=0.5']
    whole = start(data, tmp_path / 'whole', *options)
    step = training_loop.training_step

    def interrupted_step(run: training_loop.Run) -> None:
        step(run)
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training_loop, 'training_step', interrupted_step)
    assert train.main(['--outdir', str(tmp_path / 'cut'), '--data', str(data), '--device=cpu', '--batch=4', '--snap=1', *options]) == 130
    monkeypatch.undo()
    (cut,) = (tmp_path / 'cut').iterdir()
    assert [path.name for path in cut.glob('*.pt')] == ['training-state-000000.pt'] and not list(cut.glob('*.pkl'))
    assert 'go on with: python train.py --continue' in (cut / 'log.txt').read_text()
    with (cut / 'stats.jsonl').open('a') as file:  # what a killed process may have logged after its last state
        file.write('{"half a line')
    assert train.main(['--continue', str(cut), '--device=cpu']) == 0
    assert_same_end(whole, cut)


def test_stopped_where_a_tick_ends_without_a_snapshot(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = training_loop.training_step

    def interrupted_step(run: training_loop.Run) -> None:
        step(run)
        if run.step == 2:  # the end of tick 1
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training_loop, 'training_step', interrupted_step)
    assert train.main(['--outdir', str(tmp_path), '--data', str(data), '--device=cpu', '--cfg=demo', '--batch=4', '--snap=50', '--tick=0.008',
                       '--kimg=0.032']) == 130
    (run_dir,) = tmp_path.iterdir()
    state = torch.load(next(run_dir.glob('training-state-*.pt')), weights_only=True)
    assert state['counters'] == {'cur_nimg': 8, 'step': 2, 'tick': 1, 'start_nimg': 0, 'tick_nimg': 8}


@pytest.mark.parametrize('number,code', [(signal.SIGTERM, 143), (signal.SIGUSR1, 0)])
def test_signals(number: int, code: int, data: Path, tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / 'train.py'), '--outdir', str(tmp_path), '--data', str(data), '--device=cpu', '--cfg=demo', '--batch=8',
             '--kimg=0.4', '--tick=100']
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('tick 0'):
                break
        time.sleep(0.5)
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(120) == code
    (run_dir,) = tmp_path.iterdir()
    assert list(run_dir.glob('training-state-*.pt'))
    assert ('state saved' in rest) and (('stopped; go on with' in rest) == (code != 0))


def test_a_finished_run_goes_on_when_told_to(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    before = (run_dir / 'stats.jsonl').read_text()
    assert train.main(['--continue', str(run_dir), '--device=cpu']) == 0
    assert (run_dir / 'stats.jsonl').read_text() == before
    assert train.main(['--continue', str(run_dir), '--device=cpu', '--kimg=0.008', '--snap=5']) == 0
    assert len(statistics(run_dir)) == 3 and json.loads((run_dir / 'training_options.json').read_text())['snapshot_ticks'] == 5


def test_a_damaged_state_is_passed_over(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    state = next(run_dir.glob('training-state-*.pt'))
    (run_dir / 'training-state-000099.pt').write_bytes(state.read_bytes()[:1000])
    assert train.main(['--continue', str(run_dir), '--device=cpu', '--kimg=0.008']) == 0
    assert len(statistics(run_dir)) == 3


@pytest.mark.parametrize('options,words', [
    (['--gamma=5'], "--gamma can't be changed"), (['--aug-strength=0.2'], "--aug-strength can't be changed"), (['--data=x'], "--data can't be changed"),
    (['--kimg=0'], '--kimg=0'), (['--metrics=fid7up'], 'fid7up'),
])
def test_bad_input(options: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run_dir = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    capsys.readouterr()
    assert train.main(['--continue', str(run_dir), '--device=cpu', *options]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error


def test_nothing_to_continue(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (tmp_path, tmp_path / 'none'):
        assert train.main(['--continue', str(path), '--device=cpu']) == 2
        assert f'--continue={path}' in capsys.readouterr().err


def test_a_state_executes_nothing(data: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f'touch {tmp_path / "executed"}',)

    run_dir = start(data, tmp_path / 'run', '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    for path in run_dir.glob('training-state-*.pt'):
        path.unlink()
    torch.save({'version': 1, 'config': Evil()}, run_dir / 'training-state-000001.pt')
    assert train.main(['--continue', str(run_dir), '--device=cpu']) == 2
    assert not (tmp_path / 'executed').exists()
