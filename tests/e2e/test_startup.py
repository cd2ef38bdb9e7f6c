"""What a script imports and sets before it does its work: seconds of every call are at stake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_utils.persistence import ShapesOnly
from training.networks import Generator

ROOT = Path(__file__).parents[2]
HEAVY = ('torch._dynamo', 'sympy', 'scipy', 'torchvision', 'lpips', 'tensorboard', 'matplotlib')


def in_new_process(code: str, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in environment}
    env = {
        **env,
        'PYTHONPATH': str(ROOT),
        **{key: value for key, value in environment.items() if value},
    }
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, env=env, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_drawing_a_picture_imports_nothing_heavy(golden: Path, tmp_path: Path) -> None:
    arguments = [
        '--network',
        str(golden / 'ada-uncond-32.pkl'),
        '--seeds',
        '0',
        '--device=cpu',
        '--outdir',
        str(tmp_path / 'out'),
    ]
    code = f"""
import sys, generate
assert generate.main({arguments!r}) == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert in_new_process(code, TMPDIR=str(tmp_path)).splitlines()[-1] == '[]'
    assert [path.name for path in tmp_path.iterdir()] == [
        'out'
    ]  # torch._dynamo leaves a folder there


def test_no_format_imports_dynamo(golden: Path) -> None:
    names = ['sg3-cond-32.pkl', 'tf-uncond-32.pkl', 'rosinality-32.pt', 'trained-64.safetensors']
    code = f"""
import sys
from training.snapshots import load_networks
for name in {names!r}:
    load_networks({str(golden)!r} + '/' + name)
    print(name, 'torch._dynamo' in sys.modules)
"""
    assert in_new_process(code).splitlines() == [f'{name} False' for name in names]


def test_shapes_only_gives_the_shapes_of_an_ordinary_network() -> None:
    sizes = dict(z_dim=8, c_dim=2, w_dim=8, img_resolution=16, img_channels=3)
    kwargs = dict(channel_base=64, mapping_kwargs=dict(num_layers=2, lr_multiplier=0.01))
    with ShapesOnly():
        empty = Generator(**sizes, **kwargs)
    full = Generator(**sizes, **kwargs)
    shapes = {
        name: (value.shape, value.stride(), value.dtype)
        for name, value in empty.state_dict().items()
    }
    assert shapes == {
        name: (value.shape, value.stride(), value.dtype)
        for name, value in full.state_dict().items()
    }
    assert all(parameter.is_meta for parameter in empty.parameters())


def test_shapes_only_takes_no_memory() -> None:
    with ShapesOnly():
        huge = torch.randn([1 << 20, 1 << 20]) / 2.0
    assert huge.is_meta and huge.shape == (1 << 20, 1 << 20)


SCRIPTS = (
    'train',
    'blend',
    'generate',
    'calc_fid',
    'prepare_data',
    'convert',
    'project',
    'toonify',
)


@pytest.mark.parametrize('script', SCRIPTS)
def test_openmp_threads_sleep_rather_than_spin(script: str) -> None:
    assert policy(script, OMP_WAIT_POLICY='', KMP_BLOCKTIME='') == ['PASSIVE', '0']


def test_the_users_openmp_settings_are_kept() -> None:
    assert policy('train', OMP_WAIT_POLICY='ACTIVE', KMP_BLOCKTIME='200') == ['ACTIVE', '200']


def policy(script: str, **environment: str) -> list[str]:
    """The two settings at the moment at which torch is imported, which the script itself may do."""
    return in_new_process(
        f"""
import os, sys
class Finder:
    def find_spec(name, path, target=None):
        if name == 'torch':
            print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('KMP_BLOCKTIME'), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Finder)
import {script}
import torch
""",
        **environment,
    ).split()


@pytest.mark.parametrize(
    'words,error',
    [
        (['--outdir', 'out'], '--data and --outdir are needed'),
        (['--outdir', 'out', '--data', 'nowhere.zip'], '--data=nowhere.zip: no such file'),
        (['--outdir', 'out', '--data', '.', '--cfg', 'nosuch'], '--cfg=nosuch: no such preset'),
    ],
)
def test_train_names_missing_things_before_torch_is_imported(
    words: list[str], error: str, tmp_path: Path
) -> None:
    code = (
        'import sys, train; code = train.main(sys.argv[1:]); '
        'sys.exit("torch" in sys.modules or code)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code, *words],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and error in result.stderr, result.stderr
