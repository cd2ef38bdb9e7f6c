"""How scripts end: memory that does not suffice, signals, paths as people type them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import blend
import calc_fid
import convert
import generate
import project
import toonify
from dnnlib import cli
from dnnlib.image_decoding import decode_picture
from dnnlib.util import UserError
from training.snapshots import load_networks

ROOT = Path(__file__).parents[2]
NET = str(GOLDEN / 'ada-uncond-32.pkl')


def failing(error: BaseException) -> click.Command:
    @cli.command(name='script')
    def command() -> None:
        raise error

    return command


def too_much_of_torch() -> None:
    torch.empty(1 << 50)


def too_much_of_numpy() -> None:
    np.ones(1 << 50)


@pytest.mark.parametrize('allocate', [too_much_of_torch, too_much_of_numpy])
def test_too_little_memory_is_one_line(
    allocate: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as error:
        allocate()
    assert cli.run(failing(error.value), [], saves_memory='a smaller --batch needs less') == 2
    line = capsys.readouterr().err
    assert line.startswith('script.py: error: not enough memory (') and line.endswith(
        'more were needed); a smaller --batch needs less\n'
    )


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has'),
        MemoryError(),
    ],
)
def test_out_of_memory_errors_without_a_hint(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(failing(error), []) == 2
    text = capsys.readouterr().err
    assert (
        text.count('\n') == 1
        and 'not enough memory' in text
        and ('20.00 GiB' in text) == bool(str(error))
    )


SCRIPTS = {
    'generate': (
        generate,
        ['--network', NET, '--seeds=0', '--outdir=out'],
        'synthesis.sampling.render_ws',
        '--batch',
    ),
    'calc_fid': (
        calc_fid,
        ['--real=a', '--fake=b', '--detector=random-vgg'],
        'metrics.feature_sources.open_files',
        '--batch',
    ),
    'project': (
        project,
        ['--target=a', '--network', NET, '--outdir=out'],
        'training.snapshots.load_networks',
        '--batch',
    ),
    'toonify': (
        toonify,
        ['a', '--network', NET, '--blended', NET, '--align=none', '--outdir=out'],
        'synthesis.toonify.load_networks',
        '--batch',
    ),
    'blend': (
        blend,
        ['--low', NET, '--high', NET, '--swap-resolution=8', '--output=x.pkl'],
        'synthesis.blend_figures.blend_networks',
        '--seeds',
    ),
}


@pytest.mark.parametrize('name', SCRIPTS)
def test_each_script_names_what_saves_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, options, function, option = SCRIPTS[name]
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('a.png')
    Path('a').mkdir()
    Path('a.png').rename('a/a.png')

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr(function, fail)
    assert script.main([*options, '--device=cpu']) == 2
    text = capsys.readouterr().err
    assert (
        text.splitlines()[-1].startswith(f'{name}.py: error: not enough memory; ')
        and option in text
    )


def test_a_snapshot_that_memory_does_not_hold_is_not_called_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr('training.snapshots.nvidia.read', fail)
    with pytest.raises(MemoryError):
        load_networks(NET)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP'])
def test_a_signal_leaves_no_temporary_file_of_a_video(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(self: object, frame: object) -> None:
        assert len(list(tmp_path.iterdir())) == 1
        os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr('synthesis.video.VideoWriter.add', add)
    options = [
        '--network',
        NET,
        '--device=cpu',
        '--interpolate=0,1',
        '--frames=4',
        '--video',
        str(tmp_path / 'a.gif'),
    ]
    assert generate.main(options) == 130
    assert list(tmp_path.iterdir()) == [] and 'interrupted' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    'script', ['generate', 'blend', 'convert', 'project', 'toonify', 'calc_fid', 'prepare_data']
)
def test_ctrl_c_during_imports_is_one_line(script: str, tmp_path: Path) -> None:
    """Interrupted by the script's second import, of whatever module."""
    (tmp_path / 'sitecustomize.py').write_text("""
import sys
class Finder:
    seen = False
    def find_spec(name, path, target=None):
        if Finder.seen:
            raise KeyboardInterrupt
        Finder.seen = name == 'click'
        return None
sys.meta_path.insert(0, Finder)
""")
    done = subprocess.run(
        [sys.executable, str(ROOT / f'{script}.py'), '--help'],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        130,
        '',
        f'{script}.py: error: interrupted\n',
    )


def test_other_programs_keep_their_tracebacks(tmp_path: Path) -> None:
    (tmp_path / 'own.py').write_text('import dnnlib\nraise KeyboardInterrupt\n')
    done = subprocess.run(
        [sys.executable, str(tmp_path / 'own.py')],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert 'Traceback' in done.stderr


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', '/home/someone')
    assert cli.given_path('~/a.png') == Path('/home/someone/a.png')
    assert cli.given_text('~/net.pkl') == '/home/someone/net.pkl'
    assert (
        cli.given_text('https://host//~a') == 'https://host//~a'
        and cli.given_text('ffhq256') == 'ffhq256'
    )
    assert cli.given_path('~nobody-of-that-name/x') == Path('~nobody-of-that-name/x')


def test_errors_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(failing(UserError('a\x1b[2Jb\nc')), []) == 2
    assert capsys.readouterr().err == 'script.py: error: a\\x1b[2Jb c\n'


def test_errors_show_no_addresses_of_pillows_objects() -> None:
    with pytest.raises(
        UserError,
        match='a.png: not a readable picture .its content is in none of the known formats.$',
    ):
        decode_picture(b'hello', 'a.png')


# ----------------------------------------------------------------------------
# Outputs


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / 'net.pkl'
    path.write_bytes(Path(NET).read_bytes())
    (tmp_path / 'link.pkl').symlink_to(path)
    return path


@pytest.mark.parametrize('dest', ['net.pkl', 'link.pkl'])
def test_blend_and_convert_do_not_write_over_their_input(
    dest: str, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, output = net.read_bytes(), str(net.parent / dest)
    assert convert.main(['--source', str(net), '--dest', output]) == 2
    assert f'--dest={output}: that is the input' in capsys.readouterr().err
    for low, high in ((str(net), NET), (NET, str(net))):
        assert (
            blend.main(['--low', low, '--high', high, '--swap-resolution=8', '--output', output])
            == 2
        )
        assert f'--output={output}: that is the input' in capsys.readouterr().err
    assert net.read_bytes() == before


@pytest.mark.parametrize(
    'script,options',
    [
        (generate, ['--network', NET, '--seeds=0']),
        (project, ['--network', NET, '--target=a.png', '--loss=pyramid', '--num-steps=1']),
        (
            toonify,
            [
                'a.png',
                '--network',
                NET,
                '--blended',
                NET,
                '--align=none',
                '--loss=pyramid',
                '--num-steps=1',
            ],
        ),
    ],
    ids=['generate', 'project', 'toonify'],
)
def test_an_outdir_that_is_a_file_is_said_to_be_one(
    script: object,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('a.png')
    assert script.main([*options, '--device=cpu', '--outdir=a.png']) == 2  # type: ignore[attr-defined]
    assert (
        '--outdir=a.png: cannot be written: a.png is a file, not a folder\n'
        in capsys.readouterr().err
    )


def toonify_one(outdir: str) -> int:
    Image.new('RGB', (32, 32)).save('a.png')
    return toonify.main(
        [
            'a.png',
            '--network',
            NET,
            '--blended',
            NET,
            '--align=none',
            '--loss=pyramid',
            '--num-steps=1',
            '--device=cpu',
            '--outdir',
            outdir,
        ]
    )


def test_toonify_tries_its_folder_before_it_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('file').touch()
    monkeypatch.setattr('synthesis.toonify.project', None)  # a TypeError if it were called
    assert toonify_one('file/out') == 2


@pytest.mark.parametrize(
    'failing_part', ['synthesis.toonify.picture_of_steps', 'synthesis.toonify.save_picture']
)
def test_what_toonify_has_found_is_kept_when_drawing_fails(
    failing_part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError('no')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(failing_part, fail)
    assert toonify_one('out') == 2
    assert [path.name for path in Path('out').iterdir()] == ['a.npz']


def test_what_project_has_found_is_kept_when_a_video_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError('ffmpeg has failed')

    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (32, 32)).save('a.png')
    monkeypatch.setattr('synthesis.video.VideoWriter.__exit__', fail)
    assert (
        project.main(
            [
                '--target=a.png',
                '--network',
                NET,
                '--loss=pyramid',
                '--num-steps=1',
                '--device=cpu',
                '--outdir=out',
            ]
        )
        == 2
    )
    assert Path('out/projected_w.npz').exists()
