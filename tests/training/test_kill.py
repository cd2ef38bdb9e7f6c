"""`kill -9` and full disks: whatever happens, the run goes on, and no file under a final name is
damaged.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN
from test_continue import assert_same_end

import train
from training.run_dir import STATE_NAME, own_files

ROOT = Path(__file__).parents[2]
SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')
# `TOONIFY_KILLS=100 pytest tests/test_kill.py` is the whole check
KILLS = int(os.environ.get('TOONIFY_KILLS', '12'))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_again_and_again(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    try:
        words = [
            sys.executable,
            str(ROOT / 'tests' / 'helpers' / 'kill_again.py'),
            str(data),
            str(tmp_path / 'killed'),
            SNAPSHOT,
            str(KILLS),
            '0',
        ]
        report = json.loads(
            subprocess.run(
                words, stdout=subprocess.PIPE, check=True, timeout=60 + 20 * KILLS
            ).stdout.splitlines()[-1]
        )
        assert report['damaged'] == [] and report['ended'] == [] and report['killed'] == KILLS, (
            report
        )
        kimg = f'--kimg={report["nimg"] / 1000 + 0.008}'
        (killed,) = (tmp_path / 'killed').glob('0*')
        assert train.main(['--continue', str(killed), '--device=cpu', kimg]) == 0
        # nothing half-written stays behind
        assert [path.name for path in killed.iterdir() if path.name.startswith('.')] == []
        options = [
            '--batch=4',
            '--snap=1',
            '--tick=0.004',
            '--aug-strength=0.5',
            f'--resume={SNAPSHOT}',
            '--seed=7',
            '--keep=3',
        ]
        assert (
            train.main(
                [
                    '--outdir',
                    str(tmp_path / 'whole'),
                    '--data',
                    str(data),
                    '--device=cpu',
                    kimg,
                    *options,
                ]
            )
            == 0
        )
    finally:
        torch.set_num_threads(2)
    (whole,) = (tmp_path / 'whole').iterdir()
    assert_same_end(whole, killed)
    assert sorted(path.name for path in whole.glob('*.pkl')) == sorted(
        path.name for path in killed.glob('*.pkl')
    )


FULL = """
import resource, sys
sys.path.insert(0, {root!r})
import train
# a file that grows beyond this fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.exit(train.main({options!r}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='needs resource limits')
@pytest.mark.parametrize('limit', [0.1, 0.6, 0.95])
def test_no_space_left(limit: float, data: Path, tmp_path: Path) -> None:
    options = [
        '--outdir',
        str(tmp_path / 'runs'),
        '--data',
        str(data),
        '--device=cpu',
        '--batch=4',
        '--snap=1',
        '--tick=0.004',
        '--kimg=0.004',
        f'--resume={SNAPSHOT}',
    ]
    assert train.main(options) == 0
    (run_dir,) = (tmp_path / 'runs').iterdir()
    (state,) = own_files(run_dir, STATE_NAME)
    before = {
        path.name: path.read_bytes()
        for path in run_dir.iterdir()
        if path.suffix in ('.pt', '.pkl', '.png')
    }
    script = FULL.format(
        root=str(ROOT),
        limit=int(state.stat().st_size * limit),
        options=['--continue', str(run_dir), '--device=cpu', '--kimg=0.02'],
    )
    result = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=120
    )
    assert (
        result.returncode == 2
        and result.stderr.count('\n') == 1
        and 'cannot write' in result.stderr
    ), result.stderr
    assert state.read_bytes() == before[state.name] and not [
        path for path in run_dir.iterdir() if path.name.startswith('.')
    ]
    assert train.main(['--continue', str(run_dir), '--device=cpu', '--kimg=0.012']) == 0
