"""The life of a run: what is saved when, what --continue trusts, what is never touched."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image
from test_continue import assert_same_end, start, statistics

import train
from dnnlib import UserError
from metrics.metric import parse_metrics
from torch_utils import distributed, misc
from training import health, outputs, plan, training_loop
from training.config import TrainingConfig, build_config, merge
from training.health import advice_at_start
from training.outputs import Evaluation, evaluation_is_due
from training.ranking import Criterion
from training.run import Run
from training.run_dir import add_snapshot, claim, counter_name

ROOT = Path(__file__).parents[2]
SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')
DEMO = ['--cfg=demo', '--tick=0.004', '--aug-strength=0.5']


def go_on(run_dir: Path, *more: str) -> int:
    return train.main(['--continue', str(run_dir), '--device=cpu', *more])


def error_of(capsys: pytest.CaptureFixture) -> str:
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    return error


# ----------------------------------------------------------------------------
# State first


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize('where', ['evaluation', 'snapshot', 'sheet'])
def test_run_killed_after_a_tick_goes_on_from_that_tick(
    where: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        train,
        'make_evaluation',
        lambda run: Evaluation(lambda G_ema: {'fid50k_full': 1.0}, Criterion('fid50k_full')),
    )
    whole = start(data, tmp_path / 'whole', *DEMO, '--kimg=0.012', '--metrics=fid50k_full')

    def kill(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if where == 'evaluation':
            patch.setattr(
                train, 'make_evaluation', lambda run: Evaluation(kill, Criterion('fid50k_full'))
            )
        else:
            patch.setattr(
                outputs, {'snapshot': 'save_networks', 'sheet': 'save_progress'}[where], kill
            )
        with pytest.raises(Killed):
            start(data, tmp_path / 'cut', *DEMO, '--kimg=0.012', '--metrics=fid50k_full')
    (cut,) = (tmp_path / 'cut').iterdir()
    assert [path.name for path in cut.glob('*.pt')] == ['training-state-000000.004.pt']
    assert go_on(cut) == 0
    assert_same_end(whole, cut)
    for run_dir in (whole, cut):
        rows = [
            json.loads(line)
            for line in (run_dir / 'metric-fid50k_full.jsonl').read_text().splitlines()
        ]
        assert [row['snapshot_pkl'] for row in rows] == [
            f'network-snapshot-000000.{i:03d}.pkl' for i in (4, 8, 12)
        ]


@pytest.mark.parametrize('kimg', ['0.004', '0.008'])
def test_signal_stops_metrics_within_seconds(
    kimg: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(G_ema: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return {}

    begin = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(
            train, 'make_evaluation', lambda run: Evaluation(slow, Criterion('fid50k_full'))
        )
        arguments = [
            '--outdir',
            str(tmp_path),
            '--data',
            str(data),
            '--device=cpu',
            '--batch=4',
            '--snap=1',
            *DEMO,
        ]
        assert train.main([*arguments, f'--kimg={kimg}', '--metrics=fid50k_full']) == 143
    assert time.monotonic() - begin < 30
    (run_dir,) = tmp_path.iterdir()
    assert (
        'metrics of network-snapshot-000000.004.pkl stopped by a signal'
        in (run_dir / 'log.txt').read_text()
    )
    monkeypatch.setattr(
        train,
        'make_evaluation',
        lambda run: Evaluation(lambda G_ema: {'fid50k_full': 1.0}, Criterion('fid50k_full')),
    )
    assert go_on(run_dir) == 0
    index = json.loads((run_dir / 'snapshots.json').read_text())
    assert all(row['metrics'] == {'fid50k_full': 1.0} for row in index['snapshots'])


def test_state_is_saved_between_snapshots_after_ten_minutes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    save = training_loop.save_state
    monkeypatch.setattr(
        training_loop,
        'save_state',
        lambda run, run_dir: saved.append(run.cur_nimg) or save(run, run_dir),
    )
    start(data, tmp_path / 'quick', *DEMO, '--kimg=0.012', '--snap=50')
    monkeypatch.setattr(training_loop, 'STATE_SECONDS', -1)
    start(data, tmp_path / 'slow', *DEMO, '--kimg=0.012', '--snap=50')
    assert saved == [12, 4, 8, 12]


def test_evaluation_follows_its_own_interval() -> None:
    settings = {'metrics_kimg': 10.0, 'tick_kimg': 4.0, 'snapshot_ticks': 1, 'start_kimg': 2.0}
    config = merge(TrainingConfig(), settings, 'x')
    due, former = [], 2000
    for nimg in [*range(6000, 41_000, 4000), 41_016, 60_000]:  # in uneven steps, too
        run = SimpleNamespace(config=config, cur_nimg=nimg, start_nimg=2000, end_nimg=60_000)
        if evaluation_is_due(run, former):  # type: ignore[arg-type]
            due.append(nimg)
        former = nimg
    assert due == [14_000, 22_000, 34_000, 60_000]


def test_small_intervals_miss_no_evaluation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(lambda G_ema: {'fid50k_full': 1.0}, Criterion('fid50k_full'))
    monkeypatch.setattr(train, 'make_evaluation', lambda run: evaluation)
    options = ['--kimg=0.016', '--metrics=fid50k_full', '--metrics-kimg=0.008']
    run_dir = start(data, tmp_path, *DEMO, *options)
    rows = json.loads((run_dir / 'snapshots.json').read_text())['snapshots']
    assert [bool(row['metrics']) for row in rows] == [False, True, False, True]


def test_sheet_that_was_cut_off_is_written(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path, *DEMO, '--kimg=0.004')
    (run_dir / 'fakes000000.004.png').unlink()
    assert go_on(run_dir, '--kimg=0.008') == 0
    assert (run_dir / 'fakes000000.004.png').exists()


def test_best_snapshots_of_former_metrics_stay(tmp_path: Path) -> None:
    results = [{'fid': 3.0}, {'fid': 9.0}, {'kid': 5.0}, {'kid': 4.0}, {'kid': 6.0}, {'kid': 7.0}]
    for i, values in enumerate(results):
        name = f'network-snapshot-{i:06d}.pkl'
        (tmp_path / name).write_text('x')
        add_snapshot(tmp_path, name, 1000 * i, values, Criterion(next(iter(values))), keep=1)
    kept = [int(path.stem[-6:]) for path in sorted(tmp_path.glob('*.pkl'))]
    assert kept == [0, 3, 5]  # best by fid, best by kid, newest


def test_absurd_number_of_processes_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run_dir = start(data, tmp_path, *DEMO, '--kimg=0.004')
    options = json.loads((run_dir / 'training_options.json').read_text())
    (run_dir / 'training_options.json').write_text(json.dumps({**options, 'gpus': 100_000}))
    capsys.readouterr()
    assert go_on(run_dir, '--kimg=0.008') == 2
    assert '--gpus=100000: more processes than this machine has cores' in error_of(capsys)


def test_huge_numbers_in_the_index_are_no_results(tmp_path: Path) -> None:
    (tmp_path / 'network-snapshot-000001.pkl').write_text('x')
    row = {'file': 'network-snapshot-000001.pkl', 'kimg': 1.0, 'metrics': {'fid': 10**400}}
    rows = [row, {**row, 'kimg': 10**400}]
    (tmp_path / 'snapshots.json').write_text(json.dumps({'snapshots': rows}))
    (tmp_path / 'network-snapshot-000002.pkl').write_text('x')
    add_snapshot(tmp_path, 'network-snapshot-000002.pkl', 2000, {'fid': 5.0}, Criterion('fid'))
    best = json.loads((tmp_path / 'snapshots.json').read_text())['best']
    assert best == 'network-snapshot-000002.pkl'


@pytest.mark.parametrize(
    'cur_nimg,batch_size,name',
    [
        (0, 16, '000000'),
        (512, 16, '000000.512'),
        (4000, 16, '000004'),
        (4008, 24, '000004'),
        (8500, 64, '000008.500'),
        (25000064, 64, '25000.064'),
    ],
)
def test_no_two_steps_share_a_name(cur_nimg: int, batch_size: int, name: str) -> None:
    assert counter_name(cur_nimg, batch_size) == name.rjust(
        len(name) + max(0, 6 - len(name.split('.')[0])), '0'
    )


# ----------------------------------------------------------------------------
# Which snapshot is best


@pytest.mark.parametrize(
    'metric,values,best',
    [
        ('fid50k_full', [3, 1, 2], 1),
        ('kid50k_full', [3, 1, 2], 1),
        ('is50k', [3, 9, 2], 1),
        ('pr50k3_full', [0.3, 0.9, 0.2], 1),
        ('nearest1k', [0.3, 0.9, 0.2], 1),
        ('ppl2_wend', [3, 1, 2], 1),
    ],
)
def test_keep_one_keeps_the_best_by_each_kind_of_metric(
    metric: str, values: list[float], best: int, tmp_path: Path
) -> None:
    (parsed,) = parse_metrics(metric, 'inception')
    criterion = Criterion(*parsed.main)
    for i, value in enumerate(values):
        name = f'network-snapshot-{i:06d}.pkl'
        (tmp_path / name).write_text('x')
        add_snapshot(tmp_path, name, 1000 * i, {})
        add_snapshot(
            tmp_path, name, 1000 * i, {criterion.key: value, 'other': -value}, criterion, keep=1
        )
    assert sorted(path.name for path in tmp_path.glob('*.pkl')) == [
        f'network-snapshot-{i:06d}.pkl' for i in (best, len(values) - 1)
    ]
    assert (
        json.loads((tmp_path / 'snapshots.json').read_text())['best']
        == f'network-snapshot-{best:06d}.pkl'
    )


def test_main_results_are_those_that_metrics_give() -> None:
    names = {
        kind: parse_metrics(name, 'inception')[0].directions
        for kind, name in [
            ('is', 'is50k'),
            ('pr', 'pr50k3_full'),
            ('nearest', 'nearest1k'),
            ('fid', 'fid50k'),
        ]
    }
    assert names == {
        'is': {'is50k_mean': True},
        'pr': {'pr50k3_full_precision': True, 'pr50k3_full_recall': True},
        'nearest': {'nearest1k_ratio': True, 'nearest1k_close': False},
        'fid': {'fid50k': False},
    }


# ----------------------------------------------------------------------------
# What --continue trusts


def test_folder_is_claimed_before_its_state_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = start(data, tmp_path, *DEMO, '--kimg=0.004')
    load, claimed = plan.load_state, []

    def watched(folder: Path) -> dict[str, Any]:
        with pytest.raises(UserError, match='another process'), claim(folder, patience=0):
            pass
        claimed.append(folder)
        return load(folder)

    monkeypatch.setattr(plan, 'load_state', watched)
    assert go_on(run_dir, '--kimg=0.008') == 0 and claimed == [run_dir]


def test_continued_from_another_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(data, tmp_path / 'whole', *DEMO, '--kimg=0.008')
    monkeypatch.chdir(data.parent)
    half = start(Path(data.name), tmp_path / 'half', *DEMO, '--kimg=0.004')
    monkeypatch.chdir(tmp_path)
    assert go_on(half, '--kimg=0.008') == 0
    assert_same_end(whole, half)


def test_continued_with_the_same_pictures_elsewhere(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(data, tmp_path / 'first')
    run_dir = start(tmp_path / 'first', tmp_path / 'runs', *DEMO, '--kimg=0.004')
    (tmp_path / 'first').rename(tmp_path / 'second')
    assert go_on(run_dir, '--kimg=0.008', f'--data={tmp_path / "second"}') == 0
    assert json.loads((run_dir / 'training_options.json').read_text())['data']['path'] == str(
        tmp_path / 'second'
    )
    next((tmp_path / 'second').glob('*.png')).unlink()
    capsys.readouterr()
    assert go_on(
        run_dir, '--kimg=0.012'
    ) == 2 and 'has changed since the run was stopped' in error_of(capsys)


def test_trust_is_never_stored_nor_taken_from_a_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f'touch {tmp_path / "executed"}',)

    (tmp_path / 'evil.pkl').write_bytes(pickle.dumps({'G_ema': Evil()}))
    run_dir = start(
        data, tmp_path / 'runs', *DEMO, '--kimg=0.004', f'--resume={SNAPSHOT}', '--trust-pickle'
    )
    settings = json.loads((run_dir / 'training_options.json').read_text())
    assert 'trust_pickle' not in settings
    for path in [*run_dir.glob('*.pt'), *run_dir.glob('*.pkl'), run_dir / 'snapshots.json']:
        path.unlink()
    settings.update(trust_pickle=True, resume=str(tmp_path / 'evil.pkl'))
    (run_dir / 'training_options.json').write_text(json.dumps(settings))
    capsys.readouterr()
    assert go_on(
        run_dir
    ) == 2 and f'name its snapshot, --resume={tmp_path / "evil.pkl"}' in error_of(capsys)
    assert go_on(run_dir, f'--resume={tmp_path / "evil.pkl"}') == 2
    assert not (tmp_path / 'executed').exists()
    capsys.readouterr()
    assert go_on(run_dir, f'--resume={SNAPSHOT}') == 0


@pytest.mark.parametrize(
    'name',
    [
        'log.txt',
        'stats.jsonl',
        'metric-fid50k_full.jsonl',
        'snapshots.json',
        'training_options.json',
        'training-state-000009.pt',
        'fakes000001.png',
    ],
)
def test_link_in_a_run_folder_is_refused(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run_dir = start(data, tmp_path / 'runs', *DEMO, '--kimg=0.004')
    victim = tmp_path / 'victim'
    victim.write_text('precious\n' * 1000)
    (run_dir / name).unlink(missing_ok=True)
    (run_dir / name).symlink_to(victim)
    capsys.readouterr()
    assert go_on(run_dir, '--kimg=0.008') == 2
    assert (
        f'{name}: not a regular file' in error_of(capsys)
        and victim.read_text() == 'precious\n' * 1000
    )


@pytest.mark.parametrize('content', ['postscript', 'text', 'huge', 'folder'])
def test_planted_sheet_is_skipped(content: str, data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path / 'runs', *DEMO, '--kimg=0.004')
    planted = run_dir / 'fakes000000.002.png'
    if content == 'folder':
        planted.mkdir()
        assert go_on(run_dir, '--kimg=0.008') == 2
        return
    if content == 'huge':
        Image.new('1', (30000, 30000)).save(planted)
    else:
        planted.write_text(
            {
                'postscript': '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 480 256\nshowpage\n',
                'text': 'no picture',
            }[content]
        )
    assert go_on(run_dir, '--kimg=0.008') == 0
    progress = np.asarray(Image.open(run_dir / 'progress.png'))
    assert progress.shape[0] == 3 * 32  # fakes_init, 0.004, 0.008


def test_only_own_files_are_deleted(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path / 'runs', *DEMO, '--kimg=0.004')
    state = next(run_dir.glob('training-state-*.pt'))
    theirs = [
        'training-state-000000 (my backup).pt',
        '.notes.tmp',
        '.draft.tmp.txt',
        '.fakes.tmp.png',
        'network-snapshot-best.pkl',
    ]
    for name in theirs:
        shutil.copy(state, run_dir / name)
    leftover = run_dir / '.network-snapshot-000000.004.a1b2c3_4.tmp.pkl'
    leftover.write_text('half')
    assert go_on(run_dir, '--kimg=0.008', '--keep=1') == 0
    assert (
        all((run_dir / name).exists() for name in theirs)
        and not leftover.exists()
        and not state.exists()
    )


def test_infinite_counter_in_the_index_deletes_nothing(tmp_path: Path) -> None:
    for i in (1, 2):
        (tmp_path / f'network-snapshot-{i:06d}.pkl').write_text('x')
    rows = [{'file': 'network-snapshot-000001.pkl', 'kimg': float('inf'), 'metrics': {}}]
    (tmp_path / 'snapshots.json').write_text(json.dumps({'snapshots': rows}))
    add_snapshot(tmp_path, 'network-snapshot-000002.pkl', 2000, {}, keep=1)
    assert (tmp_path / 'network-snapshot-000002.pkl').exists() and (
        tmp_path / 'network-snapshot-000001.pkl'
    ).exists()


@pytest.mark.parametrize('text', ['{"a":' * 100_000, '[1]', '{"data": 3}', '\x00'])
def test_odd_options_of_a_folder_are_one_line(
    text: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'training_options.json').write_text(text)
    assert go_on(folder) == 2
    error_of(capsys)


# ----------------------------------------------------------------------------
# Several processes


LISTENING = """
import os, sys, time
sys.path.insert(0, {root!r})
from torch_utils import distributed
def listeners():
    inodes = set()
    for fd in os.listdir('/proc/self/fd'):
        try:
            target = os.readlink(f'/proc/self/fd/{{fd}}')
        except OSError:
            continue
        if target.startswith('socket:['):
            inodes.add(target[8:-1])
    for table in ('/proc/net/tcp', '/proc/net/tcp6'):
        for line in open(table).read().splitlines()[1:]:
            fields = line.split()
            if fields[3] == '0A' and fields[9] in inodes:
                yield fields[1].split(':')[0]
with distributed.join('cpu') as ranks:
    import torch
    plain = {{'text': 'ä', 'numbers': [1, 2.5, float('inf')], 'none': None}}
    got = ranks.gather({{**plain, 'tensors': {{'a': torch.arange(ranks.rank + 1)}}}})
    assert [row.pop('tensors')['a'].tolist() for row in got] == [[0], [0, 1]], got
    assert got == [plain, plain], got
    found = ranks.gather(sorted(set(listeners())))
    if ranks.is_main:
        open({out!r}, 'w').write(repr(found))
    if ranks.is_main:
        time.sleep(4)
    ranks.wait_for_main()
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_processes_talk_over_loopback_in_plain_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = LISTENING.format(root=str(ROOT), out=str(tmp_path / 'found'))
    script = script.replace(
        'with distributed.join',
        'import datetime\ndistributed.TIMEOUT = '
        'datetime.timedelta(seconds=2)\nwith '
        'distributed.join',
    )
    # the first takes 4 s for its metrics, twice the others' patience
    assert distributed.launch([sys.executable, '-c', script], 2) == 0
    addresses = {address for row in eval((tmp_path / 'found').read_text()) for address in row}
    loopback = {'0100007F', '00000000000000000000000001000000', '0000000000000000FFFF00000100007F'}
    assert addresses and addresses <= loopback


def test_gather_refuses_objects() -> None:
    with pytest.raises(TypeError, match='no plain data'):
        distributed._pack({'a': object()})


# ----------------------------------------------------------------------------
# Settings


@pytest.mark.parametrize(
    'settings,words',
    [
        (
            {'augment': {'mode': 'adda'}},
            "'adda' is not one of ada, fixed, noaug; did you mean 'ada'",
        ),
        ({'augment': {'pipe': 'bgd'}}, "'bgd' is not one of"),
        ({'data': {'cache': 'disk'}}, "'disk' is not one of"),
        ({'network': {'d_architecture': 'res'}}, "'res' is not one of"),
        ({'resume_labels': 'maybe'}, "'maybe' is not one of keep, drop"),
    ],
)
def test_literals_are_checked_wherever_they_come_from(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        merge(TrainingConfig(), settings, 'here')


@pytest.mark.parametrize(
    'batch,batch_gpu', [(24, 12), (16, 16), (20, 4), (7, 7), (48, 16), (18, 9)]
)
def test_batch_gpu_divides_the_batch_unless_given(batch: int, batch_gpu: int) -> None:
    config = build_config(
        'auto',
        256,
        1,
        {'batch_size': batch, 'network': {'mbstd_group_size': 1 if batch % 4 else 4}},
    )
    assert config.batch_gpu == batch_gpu


def test_dry_run_loads_the_snapshot_and_says_the_cost(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    common = ['--outdir', str(tmp_path / 'out'), '--data', str(data), '--device=cpu', '--dry-run']
    assert train.main([*common, '--resume=nosuch.pkl']) == 2
    assert 'nosuch.pkl: no such snapshot file' in error_of(capsys)
    assert (
        train.main(
            [
                *common,
                f'--resume={SNAPSHOT}',
                '--cfg=toonify256',
                '--mirror=1',
                '--metrics=fid50k_full',
            ]
        )
        == 0
    )
    told = capsys.readouterr()
    json.loads(told.out)
    assert (
        'tensors copied' in told.err
        and 'Time: 490 kimg' in told.err
        and 'Memory: about' in told.err
        and '6 of which are kept' in told.err
    )
    assert 'fid50k_full 13 times' in told.err and not (tmp_path / 'out').exists()


def test_recipe_is_affordable() -> None:
    """The README's fine-tuning of FFHQ-256: a dozen evaluations and a few gigabytes, where it once
    took 123 and 36 GB.
    """
    from training import cost
    from training.resume import new_discriminator, new_generator

    dataset: Any = SimpleNamespace(label_dim=0, resolution=256, num_channels=3)
    config = build_config('toonify256', 256, 1, {'metrics': ('fid50k_full',)})
    price = cost.estimate(
        config,
        new_generator(config.network, dataset),
        new_discriminator(config.network, dataset),
        'cuda',
    )
    assert (
        price.num_evaluations == 13
        and price.disk < 4e9
        and price.num_kept == 6
        and price.num_snapshots == 123
    )
    # counted by PyTorch's profiler for NVIDIA's networks
    assert 2 * price.multiplications == pytest.approx(0.39e15, rel=0.05)
    assert price.memory == pytest.approx(4.7e9, rel=0.1)  # NVIDIA's published peak at this setting


def test_advice_follows_the_size_of_the_set_and_the_machine() -> None:
    def advice(
        num: int,
        preset: str,
        device: str,
        resume: str | None = 'x.pkl',
        multiplications: float = 2e14,
    ) -> str:
        config = merge(
            TrainingConfig(), {'preset': preset, 'resume': resume, 'batch_size': 16}, 'x'
        )
        return ' '.join(
            advice_at_start(config, num, SimpleNamespace(multiplications=multiplications), device)
        )  # type: ignore[arg-type]

    assert '--cfg=fewshot is made for under 500' in advice(
        300, 'auto', 'cuda'
    ) and 'fewshot' not in advice(500, 'auto', 'cuda')
    assert advice(300, 'fewshot', 'cuda') == '' and 'Start from a snapshot' in advice(
        300, 'fewshot', 'cuda', resume=None
    )
    assert (
        'per kimg on a CPU core' in advice(5000, 'auto', 'cpu')
        and advice(5000, 'demo', 'cpu', multiplications=3e11) == ''
    )
    assert '10 pictures are fewer than the batch of 16' in advice(
        10, 'demo', 'cpu', multiplications=3e11
    )


def test_small_sets_are_judged_by_kid() -> None:
    assert plan.default_metrics(2047) == (
        'kid5k_full',
        'fid5k_full',
    ) and plan.default_metrics(2048) == ('fid50k_full',)
    parse_metrics(','.join(plan.default_metrics(1)), 'inception')


def test_float32_precision_is_set_by_one_interface_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        before = torch.backends.cudnn.conv.fp32_precision
        with misc.float32_precision('ieee', 'ieee'):
            assert (
                torch.backends.cudnn.conv.fp32_precision
                == torch.backends.cuda.matmul.fp32_precision
                == 'ieee'
            )
            with misc.float32_precision('tf32', 'ieee'):
                assert torch.backends.cudnn.conv.fp32_precision == 'tf32'
        assert torch.backends.cudnn.conv.fp32_precision == before
    places = [
        path
        for folder in ('training', 'metrics', 'torch_utils', 'synthesis')
        for path in (ROOT / folder).rglob('*.py')
        if re.search(r'(fp32_precision|allow_tf32) = ', path.read_text())
    ]
    assert places == [ROOT / 'torch_utils' / 'misc.py']


# ----------------------------------------------------------------------------
# Memory


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError('CUDA out of memory'),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
)
def test_full_memory_is_one_line_that_names_what_fits(
    error: Exception,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def full(run: Run) -> None:
        raise error

    monkeypatch.setattr(training_loop, 'training_step', full)
    arguments = [
        '--outdir',
        str(tmp_path),
        '--data',
        str(data),
        '--device=cpu',
        '--cfg=demo',
        '--batch=8',
        '--kimg=0.016',
    ]
    assert train.main(arguments) == 2
    assert (
        '--batch-gpu=8 is too much for the memory of this machine; --batch-gpu=4 fits'
        in error_of(capsys)
    )


def test_advice_on_memory_keeps_the_batch_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config('auto', 256, 1, {})

    def advice(*fits: bool, **changes: Any) -> str:
        left = iter(fits)
        monkeypatch.setattr(health, '_fits', lambda run, size: next(left))
        fields = {
            'config': config,
            'device': torch.device('cuda'),
            'graphs': None,
            'cache': 'none',
            **changes,
        }
        return health.advice_on_memory(SimpleNamespace(**fields))  # type: ignore[arg-type]

    assert advice(True, graphs=object()).endswith('--graphs=0 fits') and advice(
        False, True, graphs=object(), cache='gpu'
    ).endswith('--cache=ram fits')
    assert '--batch-gpu=4 fits' in advice(False, True) and 'a smaller network' in advice(
        *[False] * 4
    )


def test_phase_that_fails_leaves_its_network_without_gradients(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Run] = []
    step = training_loop.training_step

    def failing(run: Run) -> None:
        seen.append(run)
        phase = next(phase for phase in run.phases if phase.name == 'Dmain')
        monkeypatch.setattr(phase, 'compute', lambda part: 1 / 0)
        step(run)

    monkeypatch.setattr(training_loop, 'training_step', failing)
    arguments = [
        '--outdir',
        str(tmp_path),
        '--data',
        str(data),
        '--device=cpu',
        '--cfg=demo',
        '--batch=4',
        '--kimg=0.008',
    ]
    assert train.main(arguments) == 1
    assert not any(parameter.requires_grad for parameter in seen[0].D.parameters())


def test_killed_process_is_not_needed_to_release_the_claim(data: Path, tmp_path: Path) -> None:
    run_dir = start(data, tmp_path, *DEMO, '--kimg=0.004')
    words = [
        sys.executable,
        str(ROOT / 'train.py'),
        '--continue',
        str(run_dir),
        '--device=cpu',
        '--kimg=100',
    ]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith('Run: '))
    with pytest.raises(UserError, match='another process'), claim(run_dir, patience=0):
        pass
    process.kill()
    process.wait()
    assert go_on(run_dir, '--kimg=0.008') == 0 and len(statistics(run_dir)) == 3


def test_names_reach_the_terminal_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'set\x1b[2J'
    folder.mkdir()
    for i in range(4):
        Image.new('RGB', (32, 32), (i, i, i)).save(folder / f'{i}.png')
    start(folder, tmp_path / 'runs', *DEMO, '--kimg=0.004')
    told = capsys.readouterr()
    assert '\x1b' not in told.out + told.err and 'set\\x1b[2J, 4 pictures' in told.out
