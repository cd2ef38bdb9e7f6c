"""Options of generate.py that are missing, contradict each other or cannot be read."""

from pathlib import Path

import pytest
import torch
from conftest import GOLDEN

import generate
from dnnlib import UserError
from dnnlib.cli import parse_seeds

PLAIN, COND = str(GOLDEN / 'ada-uncond-32.pkl'), str(GOLDEN / 'ada-cond-32.pkl')
MIX, GO, SWEEP, SEFA = '--style-mix=1/2', '--interpolate=1,2', '--sweep=noise', '--sefa=1'


def error_of(capsys: pytest.CaptureFixture, *options: object) -> str:
    assert generate.main(['--device=cpu', *map(str, options)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    return error


@pytest.mark.parametrize(
    'options,words',
    [
        (['--network=none.pkl'], ['none.pkl: no such']),
        (['--network', COND], ['--class=0']),
        (['--network', COND, '--class=3'], ['0…2']),
        (['--class=0'], ['no classes']),
        (['--seeds=5-2'], ['--seeds=5-2']),
        (['--seeds='], ['--seeds=']),
        (['--grid=6'], ['--grid=6']),
        (['--noise-mode=loud'], ['loud']),
        (['--batch=0'], ['0']),
        (['--network', __file__], ['neither a pickle']),
        (['--trunc=nan'], ['nan']),
        (['--format=gif'], ['gif']),
        (['--quality=0', '--format=jpg'], ['0']),
        (['--device=tpu'], ['tpu']),
        ([MIX, GO], ['--style-mix', '--interpolate']),
        ([SWEEP, SEFA], ['--sweep', '--sefa']),
        ([MIX, '--grid=2x2'], ['--style-mix', '--grid=2x2']),
        ([MIX, '--seeds=1'], ['--style-mix', '--seeds=1']),
        ([MIX, '--loop'], ['--style-mix', '--loop']),
        (['--styles=1'], ['--styles=1', '--style-mix']),
        (['--frames=3'], ['--frames=3', '--interpolate or --sweep']),
        (['--sefa-scale=2'], ['--sefa-scale', '--sefa']),
        (['--space=z'], ['--space=z', '--interpolate']),
        (['--video=a.mp4'], ['--video=a.mp4', '--interpolate or --sweep']),
        ([SEFA, '--fps=3'], ['--sefa', '--fps=3.0']),
        (['--quality=90'], ['--quality=90', '--format=png']),
        (['--style-mix=1'], ['--style-mix=1', 'slash']),
        (['--style-mix=1/'], ['--style-mix']),
        ([MIX, '--styles=8'], ['--styles', '0-7']),
        ([MIX, '--styles=a'], ['--styles=a']),
        ([SEFA, '--sefa-layers=0-8'], ['--sefa-layers', '0-7']),
        (['--sefa=9999'], ['--sefa=9999']),
        (['--sefa=0'], ['0']),
        (['--projected-w=a.npz', '--seeds=1'], ['--projected-w', '--seeds']),
        (['--projected-w=a.npz', '--class=1'], ['--projected-w', '--class=1']),
        (['--noise-mode=loop'], ['--noise-mode=loop', '--sweep']),
        (['--radius=0.5'], ['--radius=0.5', '--sweep']),
        (['--projected-w=a.npz'], ['a.npz: no such file']),
        (['--projected-w', __file__], ['no .npz']),
    ],
)
def test_picture_options_that_cannot_work_are_one_line(
    options: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(
        capsys, *[] if '--network' in options else ['--network', PLAIN], '--outdir=out', *options
    )
    assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'options,words',
    [
        (['--interpolate=1'], ['--interpolate=1', 'two']),
        (['--interpolate=1,a'], ['--interpolate=1,a']),
        ([GO, '--outdir=a'], ['--interpolate', '--outdir=a']),
        ([GO, '--save-w'], ['--interpolate', '--save-w']),
        ([GO, '--format=jpg'], ['--interpolate', '--format=jpg']),
        ([GO, '--seeds=1'], ['--interpolate', '--seeds=1']),
        ([GO, '--projected-w=a.npz'], ['--interpolate', '--projected-w']),
        ([GO, '--quality=3'], ['--quality=3', '--video=a.gif']),
        ([GO, '--frames=0'], ['0']),
        ([GO, '--fps=60'], ['50']),
        ([GO, '--fps=0'], ['0 frames']),
        ([GO, '--video=a.avi'], ['a.avi', '.mp4 or .gif']),
        ([SWEEP, '--space=z'], ['--sweep', '--space']),
        (['--sweep=trunc'], ['trunc=-1:1']),
        (['--sweep=trunc=1'], ['trunc=-1:1']),
        (['--sweep=trunc=0:nan'], ['trunc=-1:1']),
        (['--sweep=colour'], ['--sweep=colour']),
        (['--sweep=noise=1'], ['--sweep=noise=1']),
        (['--sweep=class=1'], ['class=0,2,1']),
        (['--sweep=class'], ['knows no classes']),
        (['--sweep=class=0,1'], ['knows no classes']),
        (['--sweep=trunc=0:1', '--trunc=1'], ['--sweep=trunc=0:1', '--trunc=1']),
        (['--sweep=class', '--class=0'], ['--sweep=class', '--class=0']),
        (['--sweep=circle', '--projected-w=a'], ['--sweep=circle', '--projected-w=a']),
        (['--sweep=circle', '--loop'], ['--loop', 'loop already']),
        (['--sweep=circle', '--radius=2'], ['--radius=2']),
        ([SWEEP, '--radius=0.5'], ['--sweep=circle']),
        (['--interpolate=w'], ['--interpolate=w', '--projected-w']),
        (['--interpolate=w', '--projected-w=a.npz', '--space=z'], ['--space=z']),
        (['--interpolate=w', '--projected-w=a.npz'], ['a.npz: no such file']),
        (['--sweep=class', '--projected-w=a'], ['--sweep=class', '--projected-w=a']),
        ([SWEEP, '--noise-mode=const'], ['--sweep=noise', '--noise-mode=const']),
        ([SWEEP, '--loop'], ['--sweep=noise', '--loop']),
        (['--network', COND, '--sweep=class=0,3'], ['class=0,3', '0…2']),
    ],
)
def test_video_options_that_cannot_work_are_one_line(
    options: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(
        capsys, *[] if '--network' in options else ['--network', PLAIN], '--video=a.gif', *options
    )
    assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())


def test_missing_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "'--network'" in error_of(capsys) and '--outdir is missing' in error_of(
        capsys, '--network', PLAIN
    )
    for mode in (MIX, SEFA):
        assert '--outdir is missing' in error_of(capsys, '--network', PLAIN, mode)
    for mode in (GO, SWEEP):
        assert '--video is missing' in error_of(capsys, '--network', PLAIN, mode)
    if not torch.cuda.is_available():
        assert '--device=cuda' in error_of(
            capsys, '--network', PLAIN, '--outdir=a', '--device=cuda'
        )


def test_seeds_are_parsed() -> None:
    assert parse_seeds('0-3, 7,9-9') == [0, 1, 2, 3, 7, 9]
    for text in ('', 'a', '1-', '-1', '3-1', '4294967296', '0-99999999'):
        with pytest.raises(UserError, match='--seeds='):
            parse_seeds(text)
