"""The benchmarks run, and time any checkout with NVIDIA's module names."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOSS = '''
import torch
from torch_utils.ops import conv2d_gradfix

class StyleGAN2Loss:
    """The interface of such a checkout; what it computes is as much work as a loss."""

    def __init__(self, device, {networks}, D, augment_pipe=None, style_mixing_prob=0.9,
                 r1_gamma=10, pl_weight=2):
        self.D, self.pipe = D, augment_pipe
        self.weights = style_mixing_prob, r1_gamma, pl_weight
        self.generate = {generate}

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, {ending}):
        assert phase in ('Gmain', 'Greg', 'Dmain', 'Dreg') and gain >= 1
        assert self.pipe.p == 0.25 and self.weights == (0.5, 2, 0)
        self.D(self.pipe(self.generate(gen_z, gen_c)), gen_c).sum().mul(gain).backward()
'''
KINDS = {
    'networks': dict(
        networks='G_mapping, G_synthesis',
        generate='lambda z, c: G_synthesis(G_mapping(z, c))',
        ending='sync, gain',
    ),
    'networks_stylegan2': dict(networks='G', generate='G', ending='gain, cur_nimg'),
}


SMALL = ('--device=cpu', '--resolution=8', '--repeats=1', '--cfg=demo')


def run(script: str, *options: str, common: Sequence[str] = SMALL) -> str:
    words = [sys.executable, str(ROOT / 'benchmarks' / script), *common, *options]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_a_step_against_a_checkout(kind: str, tmp_path: Path) -> None:
    for folder in ('dnnlib', 'torch_utils', 'training'):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__')
        )
    (tmp_path / 'training' / 'networks.py').rename(tmp_path / 'training' / f'{kind}.py')
    (tmp_path / 'training' / 'loss.py').write_text(LOSS.format(**KINDS[kind]))
    output = run(
        'train_step.py', '--batch=2', '--p=0.25', '--augpipe=blit', f'--baseline={tmp_path}'
    )
    assert re.search(r'speedup \d+\.\d\dx\n$', output) and output.count('Dreg:') == 2


@pytest.mark.slow
def test_the_generator_against_plain_ops() -> None:
    output = run('generate.py', '--batch=1', '--baseline=eager')
    assert re.search(r'speedup \d+\.\d\dx\n$', output)


@pytest.mark.slow
def test_what_a_step_asks_of_a_gpu() -> None:
    """Nothing in it waits for the device or mixes it with the CPU, and there is less of it than
    without the kernels.
    """
    numbers = []
    for plain in (0, 1):
        output = run(
            'traffic.py',
            '--resolution=32',
            '--batch=8',
            '--augpipe=bgcfnc',
            f'--plain={plain}',
            '--top=2',
            common=(),
        )
        assert output.count(' × ') == 8
        numbers.append(
            [
                float(x)
                for x in re.search(
                    r'step: (\d+) launches, ([\d.]+) GB, ([\d.]+) '
                    r'TFLOP; at least [\d.]+ ms',
                    output,
                ).groups()
            ]
        )
    (launches, volume, flops), (plain_launches, plain_volume, plain_flops) = numbers
    assert launches < 0.7 * plain_launches and volume < 0.7 * plain_volume
    assert flops == pytest.approx(plain_flops, rel=0.1)


def test_preparing_against_plain_pillow() -> None:
    words = [
        sys.executable,
        str(ROOT / 'benchmarks/prepare.py'),
        '--count=3',
        '--size=32',
        '--resolution=16',
        '--repeats=1',
    ]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert re.search(r'MB for half as many\)\nspeedup \d+\.\d\dx\n$', result.stdout), result
