"""A run that is stopped and continued is the run that was never stopped."""

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

import train
from dnnlib import UserError
from torch_utils.misc import named_tensors
from training import training_loop
from training.config import AUGPIPES
from training.outputs import Evaluation
from training.ranking import Criterion
from training.run import Run
from training.run_dir import add_snapshot, claim
from training.snapshots import load_networks

SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')
ROOT = Path(__file__).parents[2]


def start(data: Path, outdir: Path, *options: str) -> Path:
    assert (
        train.main(
            [
                '--outdir',
                str(outdir),
                '--data',
                str(data),
                '--device=cpu',
                '--batch=4',
                '--snap=1',
                *options,
            ]
        )
        == 0
    )
    return max(outdir.iterdir())


def statistics(run_dir: Path) -> list[dict]:
    """stats.jsonl without what depends on the clock and on the process."""
    rows = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    return [
        {
            key: value
            for key, value in row.items()
            if not key.startswith(('Timing/', 'Resources/')) and key != 'timestamp'
        }
        for row in rows
    ]


def assert_same_end(one: Path, other: Path) -> None:
    names = [
        max(path.name for path in run_dir.glob('network-snapshot-*.pkl'))
        for run_dir in (one, other)
    ]
    assert names[0] == names[1]
    nets = [load_networks(run_dir / names[0]) for run_dir in (one, other)]
    for part in ('G', 'D', 'G_ema', 'augment_pipe'):
        for (name, a), (_, b) in zip(
            named_tensors(getattr(nets[0], part)), named_tensors(getattr(nets[1], part))
        ):
            assert torch.equal(a, b), f'{part}.{name}'
    assert statistics(one) == statistics(other)
    states = [
        torch.load(next(run_dir.glob('training-state-*.pt')), weights_only=True)
        for run_dir in (one, other)
    ]
    for name in ('Gmain', 'Dmain'):
        for key, row in states[0]['optimizers'][name]['state'].items():
            for field, value in row.items():
                assert torch.equal(value, states[1]['optimizers'][name]['state'][key][field]), (
                    name,
                    key,
                    field,
                )
    assert all(torch.equal(a, b) for a, b in zip(states[0]['rng'], states[1]['rng'], strict=True))
    assert states[0]['counters'] == states[1]['counters']


@pytest.mark.parametrize('workers', [0, 2])
def test_bit_for_bit(workers: int, data: Path, tmp_path: Path) -> None:
    options = [
        f'--resume={SNAPSHOT}',
        '--freezed=4',
        '--aug-strength=0.3',
        '--augpipe=bgc',
        '--mirror=1',
        '--nkimg=10',
        '--tick=0.012',
        f'--workers={workers}',
    ]
    whole = start(data, tmp_path / 'whole', *options, '--kimg=10.04')
    half = start(data, tmp_path / 'half', *options, '--kimg=10.024')
    assert train.main(['--continue', str(half), '--kimg=10.04', '--device=cpu']) == 0
    assert_same_end(whole, half)
    assert json.loads((half / 'training_options.json').read_text()) == {
        **json.loads((whole / 'training_options.json').read_text())
    }


def test_stopped_in_the_middle_of_a_tick(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ['--cfg=demo', '--tick=0.016', '--kimg=0.032', '--aug-strength=0.5']
    whole = start(data, tmp_path / 'whole', *options)
    step = training_loop.training_step

    def interrupted_step(run: Run) -> None:
        step(run)
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training_loop, 'training_step', interrupted_step)
    assert (
        train.main(
            [
                '--outdir',
                str(tmp_path / 'cut'),
                '--data',
                str(data),
                '--device=cpu',
                '--batch=4',
                '--snap=1',
                *options,
            ]
        )
        == 130
    )
    monkeypatch.undo()
    (cut,) = (tmp_path / 'cut').iterdir()
    assert [path.name for path in cut.glob('*.pt')] == [
        'training-state-000000.012.pt'
    ] and not list(cut.glob('*.pkl'))
    assert 'go on with: python train.py --continue' in (cut / 'log.txt').read_text()
    # what a killed process may have logged after its last state
    with (cut / 'stats.jsonl').open('a') as file:
        file.write('{"half a line')
    assert train.main(['--continue', str(cut), '--device=cpu']) == 0
    assert_same_end(whole, cut)


def test_stopped_where_a_tick_ends_without_a_snapshot(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = training_loop.training_step

    def interrupted_step(run: Run) -> None:
        step(run)
        if run.step == 2:  # the end of tick 1
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training_loop, 'training_step', interrupted_step)
    assert (
        train.main(
            [
                '--outdir',
                str(tmp_path),
                '--data',
                str(data),
                '--device=cpu',
                '--cfg=demo',
                '--batch=4',
                '--snap=50',
                '--tick=0.008',
                '--kimg=0.032',
            ]
        )
        == 130
    )
    (run_dir,) = tmp_path.iterdir()
    state = torch.load(next(run_dir.glob('training-state-*.pt')), weights_only=True)
    assert state['counters'] == {
        'cur_nimg': 8,
        'step': 2,
        'tick': 1,
        'start_nimg': 0,
        'tick_nimg': 8,
    }


@pytest.mark.slow
@pytest.mark.parametrize('number,code', [(signal.SIGTERM, 143), (signal.SIGUSR1, 0)])
def test_signals(number: int, code: int, data: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        str(ROOT / 'train.py'),
        '--outdir',
        str(tmp_path),
        '--data',
        str(data),
        '--device=cpu',
        '--cfg=demo',
        '--batch=8',
        '--kimg=0.4',
        '--tick=100',
    ]
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


def test_finished_run_goes_on_with_more_kimg(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    before = (run_dir / 'stats.jsonl').read_text()
    assert train.main(['--continue', str(run_dir), '--device=cpu']) == 0
    assert (run_dir / 'stats.jsonl').read_text() == before
    assert train.main(['--continue', str(run_dir), '--device=cpu', '--kimg=0.008', '--snap=5']) == 0
    assert (
        len(statistics(run_dir)) == 3
        and json.loads((run_dir / 'training_options.json').read_text())['snapshot_ticks'] == 5
    )


def test_damaged_state_is_skipped(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    state = next(run_dir.glob('training-state-*.pt'))
    (run_dir / 'training-state-000099.pt').write_bytes(state.read_bytes()[:1000])
    assert train.main(['--continue', str(run_dir), '--device=cpu', '--kimg=0.008']) == 0
    assert len(statistics(run_dir)) == 3


@pytest.mark.parametrize(
    'options,words',
    [
        (['--gamma=5'], "--gamma can't be changed"),
        (['--aug-strength=0.2'], "--aug-strength can't be changed"),
        (['--data=x'], 'x: no such file'),
        (['--kimg=0'], '--kimg=0'),
        (['--metrics=fid7up'], 'fid7up'),
    ],
)
def test_bad_input(
    options: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
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


# ----------------------------------------------------------------------------
# What a run folder keeps


def test_snapshots_json_and_keep(tmp_path: Path) -> None:
    scores = {1: 5.0, 2: 3.0, 3: 4.0, 4: float('nan'), 5: 6.0}
    for i, score in scores.items():
        name = f'network-snapshot-{i:06d}.pkl'
        (tmp_path / name).write_text('x')
        add_snapshot(
            tmp_path,
            name,
            1000 * i,
            {'fid50k_full': score, 'other': -i},
            Criterion('fid50k_full'),
            keep=2,
        )
    index = json.loads((tmp_path / 'snapshots.json').read_text())
    assert (
        index['last'] == 'network-snapshot-000005.pkl'
        and index['best'] == 'network-snapshot-000002.pkl'
    )
    assert sorted(path.name for path in tmp_path.glob('*.pkl')) == [
        f'network-snapshot-{i:06d}.pkl' for i in (2, 4, 5)
    ]
    assert [row['kimg'] for row in index['snapshots']] == [2.0, 4.0, 5.0]
    (tmp_path / 'network-snapshot-000002.pkl').unlink()  # the user may delete what they like
    add_snapshot(tmp_path, 'network-snapshot-000005.pkl', 5000, {}, Criterion('fid50k_full'))
    index = json.loads((tmp_path / 'snapshots.json').read_text())
    assert index['best'] is None and len(index['snapshots']) == 2


def evaluation_by(
    values: list[float], key: str = 'fid50k_full', higher_is_better: bool = False
) -> Evaluation:
    """An evaluation that gives one value after the other."""
    left = iter(values)
    return Evaluation(lambda G_ema: {key: next(left)}, Criterion(key, higher_is_better))


def test_a_run_keeps_the_newest_and_the_best_snapshot(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = evaluation_by([3.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(train, 'make_evaluation', lambda run: evaluation)
    folder = start(
        data,
        tmp_path,
        '--cfg=demo',
        '--kimg=0.016',
        '--tick=0.004',
        '--metrics=fid50k_full',
        '--keep=1',
    )
    index = json.loads((folder / 'snapshots.json').read_text())
    rows = [(row['file'], row['kimg'], row['metrics']) for row in index['snapshots']]
    assert rows == [
        ('network-snapshot-000000.008.pkl', 0.008, {'fid50k_full': 1.0}),
        ('network-snapshot-000000.016.pkl', 0.016, {'fid50k_full': 4.0}),
    ]
    assert (index['last'], index['best'], index['metric']) == (
        'network-snapshot-000000.016.pkl',
        'network-snapshot-000000.008.pkl',
        'fid50k_full',
    )
    assert sorted(path.name for path in folder.glob('*.pkl')) == [row[0] for row in rows]


def test_a_run_that_never_saved_begins_again(data: Path, tmp_path: Path) -> None:
    options = ['--cfg=demo', '--kimg=0.008', '--tick=0.004', '--aug-strength=0.3']
    whole = start(data, tmp_path / 'whole', *options)
    folder = start(data, tmp_path / 'cut', *options)
    for path in folder.iterdir():
        if path.suffix in ('.pt', '.pkl') or path.name in ('snapshots.json', 'progress.png'):
            path.unlink()
    (folder / '.network-snapshot-000000.abcdefgh.tmp.pkl').write_text('half')
    assert train.main(['--continue', str(folder), '--device=cpu']) == 0
    assert_same_end(whole, folder)
    assert not list(folder.glob('.*'))
    # now there are snapshots that a new beginning would overwrite
    next(folder.glob('*.pt')).unlink()
    assert train.main(['--continue', str(folder), '--device=cpu']) == 2


# ----------------------------------------------------------------------------
# Runs of NVIDIA's


def nvidia_run(folder: Path, data: Path, **changes: object) -> Path:
    """A run folder as stylegan2-ada-pytorch leaves it."""
    folder.mkdir()
    (folder / 'network-snapshot-000000.pkl').write_bytes(b'older')
    (folder / 'network-snapshot-000403.pkl').write_bytes(
        (GOLDEN / 'ada-uncond-32.pkl').read_bytes()
    )
    options = {
        'num_gpus': 1,
        'image_snapshot_ticks': 10,
        'network_snapshot_ticks': 10,
        'metrics': ['fid50k_full'],
        'random_seed': 3,
        'training_set_kwargs': {
            'class_name': 'training.dataset.ImageFolderDataset',
            'path': str(data),
            'use_labels': False,
            'max_size': 9,
            'xflip': True,
            'resolution': 32,
        },
        'data_loader_kwargs': {'pin_memory': True, 'num_workers': 0, 'prefetch_factor': 2},
        'G_kwargs': {'class_name': 'training.networks.Generator', 'z_dim': 512, 'w_dim': 512},
        'D_kwargs': {
            'class_name': 'training.networks.Discriminator',
            'block_kwargs': {'freeze_layers': 4},
        },
        'G_opt_kwargs': {
            'class_name': 'torch.optim.Adam',
            'lr': 0.0025,
            'betas': [0, 0.99],
            'eps': 1e-8,
        },
        'D_opt_kwargs': {
            'class_name': 'torch.optim.Adam',
            'lr': 0.0025,
            'betas': [0, 0.99],
            'eps': 1e-8,
        },
        'loss_kwargs': {'class_name': 'training.loss.StyleGAN2Loss', 'r1_gamma': 7.5},
        'total_kimg': 25000,
        'batch_size': 8,
        'batch_gpu': 4,
        'ema_kimg': 5.0,
        'ema_rampup': None,
        'ada_target': 0.5,
        'ada_kimg': 100,
        'augment_kwargs': {
            'class_name': 'training.augment.AugmentPipe',
            **dict.fromkeys(AUGPIPES['bg'], 1),
        },
        'run_dir': 'training-runs/00000-x',
        'resume_pkl': 'ffhq256',
        **changes,
    }
    (folder / 'training_options.json').write_text(json.dumps(options))
    return folder


def test_a_run_of_nvidias_goes_on(data: Path, tmp_path: Path) -> None:
    theirs = nvidia_run(tmp_path / '00004-theirs', data)
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    assert train.main(['--continue', str(theirs), '--device=cpu', '--kimg=403.008']) == 0
    (ours,) = tmp_path.glob('00005-*')
    options, log = (
        json.loads((ours / 'training_options.json').read_text()),
        (ours / 'log.txt').read_text(),
    )
    assert (
        options['start_kimg'],
        options['batch_size'],
        options['batch_gpu'],
        options['seed'],
    ) == (403.0, 8, 4, 3)
    assert (
        options['loss']['r1_gamma'] == 7.5
        and options['optimizer']['lr'] == 0.0025
        and options['ema'] == {'kimg': 5.0, 'rampup': None}
    )
    assert (
        options['data']['xflip']
        and options['data']['subset'] == 9
        and options['network']['freeze_layers'] == 4
    )
    assert (
        options['augment']['pipe'] == 'bg'
        and options['augment']['target'] == 0.5
        and options['augment']['p'] == pytest.approx(0.328)
    )
    assert (
        'Not restored' in log
        and "Adam's moments" in log
        and 'fid50k_full' in log
        and '(403 kimg)' in log
        and '18 pictures' in log
    )
    nets = load_networks(ours / 'network-snapshot-000403.008.pkl')
    assert nets.augment_pipe is not None and abs(float(nets.augment_pipe.p) - 0.328) < 1e-3
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before
    # from now on exactly
    assert train.main(['--continue', str(ours), '--device=cpu', '--kimg=403.016']) == 0


@pytest.mark.parametrize(
    'changes,options,words',
    [
        ({'training_set_kwargs': {'class_name': 'x'}}, [], 'names no data set'),
        ({}, ['--gamma=1'], "--gamma can't be changed"),
        ({'training_set_kwargs': {'path': '/nowhere.zip'}}, [], '/nowhere.zip'),
        ({'batch_size': 'many'}, [], 'batch_size'),
    ],
)
def test_bad_runs_of_nvidias(
    changes: dict,
    options: list[str],
    words: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    theirs = nvidia_run(tmp_path / '00000-theirs', data, **changes)
    assert train.main(['--continue', str(theirs), '--device=cpu', *options]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error


def test_other_data_for_a_run_from_another_machine(data: Path, tmp_path: Path) -> None:
    theirs = nvidia_run(tmp_path / '00000-theirs', Path('/content/drive/data.zip'))
    assert (
        train.main(['--continue', str(theirs), '--device=cpu', f'--data={data}', '--kimg=403.008'])
        == 0
    )


def test_nvidia_settings_of_odd_kinds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for i, changes in enumerate(
        [
            {'G_opt_kwargs': [1]},
            {'D_kwargs': 'x'},
            {'augment_kwargs': [2]},
            {'loss_kwargs': {'pl_batch_shrink': 0}},
            {'G_reg_interval': 0},
            {'ada_interval': 0},
        ]
    ):
        theirs = nvidia_run(tmp_path / f'{i:05d}', data, **changes)
        assert train.main(['--continue', str(theirs), '--device=cpu']) == 2, changes
        assert capsys.readouterr().err.count('\n') == 1
    assert len(list(tmp_path.iterdir())) == 6


def test_truncated_nvidia_snapshot_is_skipped(data: Path, tmp_path: Path) -> None:
    theirs = nvidia_run(tmp_path / '00000-theirs', data)
    (theirs / 'network-snapshot-000500.pkl').write_bytes(
        (theirs / 'network-snapshot-000403.pkl').read_bytes()[:5000]
    )
    assert train.main(['--continue', str(theirs), '--device=cpu', '--kimg=403.008']) == 0
    assert (
        'network-snapshot-000500.pkl cannot be read'
        in next(tmp_path.glob('00001-*/log.txt')).read_text()
    )


def test_the_best_snapshot_outlives_a_change_of_metrics(tmp_path: Path) -> None:
    for i, (metrics, metric) in enumerate(
        [({'fid': 3.0}, 'fid'), ({'fid': 9.0}, 'fid'), ({}, None), ({'other': 5.0}, 'other')]
    ):
        name = f'network-snapshot-{i:06d}.pkl'
        (tmp_path / name).write_text('x')
        add_snapshot(tmp_path, name, 1000 * i, metrics, metric and Criterion(metric), keep=1)
        assert (tmp_path / 'network-snapshot-000000.pkl').exists()


def test_a_run_is_continued_once_at_a_time(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    with (
        claim(folder),
        pytest.raises(UserError, match='another process'),
        claim(folder, patience=0.0),
    ):
        pass
    with claim(folder):
        pass


def test_logs_without_states_are_not_begun_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = start(data, tmp_path, '--cfg=demo', '--kimg=0.004', '--tick=0.004')
    for path in [*folder.glob('*.pt'), *folder.glob('*.pkl')]:
        path.unlink()
    before = (folder / 'log.txt').read_text()
    assert train.main(['--continue', str(folder), '--device=cpu', '--kimg=1']) == 2
    assert (folder / 'log.txt').read_text() == before
