"""Options of other StyleGAN2 projects: those accepted, and what to type instead of the others."""

from collections.abc import Callable
from typing import Any

import click

from .util import UserError

# Script → option of another project, without dashes → what to do instead. An answer that is an
# option is a plain renaming. '' answers arguments without an option.
_BLEND_LOW = ('low-res-pkl', 'lower-res-pkl', 'low-pkl', 'lower-pkl', 'network1', 'base-pkl')
_BLEND_HIGH = ('high-res-pkl', 'higher-res-pkl', 'high-pkl', 'higher-pkl', 'network2', 'top-pkl')
_KEYFRAMES = 'name the seeds with --interpolate 1,2,3 --loop; --frames counts the whole video'
_PROCESS = 'it is chosen by --seeds (pictures), --interpolate (videos) or --sweep trunc=-1:1'
_WALK = (
    'linear is --interpolate SEEDS, slerp adds --space z, circularloop and noiseloop are '
    '--sweep circle, and --noise-mode loop moves the noise inputs'
)
_GRADIENT_STEPS = 'set g_reg_interval or d_reg_interval under loss: in a .yaml file for --cfg'
_ONLY_STYLEGAN3 = 'only StyleGAN3 networks can do this; leave it out'
_NOT_NEEDED = 'it is not needed here; leave it out'
ANSWERS: dict[str, dict[str, str]] = {
    'train': {
        '': 'name the data set with --data',
        'aug-target': '--target',
        'augment': '--aug=ada',
        'augment-p': '--aug=fixed --p',
        'ada-target': '--target',
        'ada-length': '--ada-kimg, in thousands of pictures',
        'ada-every': 'it is every 4 steps; set augment: {interval: 4} in a .yaml file for --cfg',
        'arch': _NOT_NEEDED,
        'channel-multiplier': 'take --cbase=16384 for 1, --cbase=32768 for 2',
        'ckpt': '--resume',
        'config': '--cfg',
        'data-dir': '--data',
        'd-reg-every': _GRADIENT_STEPS,
        'dataset': '--data',
        'fp16': 'float16 is used where it is faster; --fp32=1 turns it off',
        'g-reg-every': _GRADIENT_STEPS,
        'gpu': '--gpus counts them; CUDA_VISIBLE_DEVICES chooses them',
        'iter': '--kimg, in thousands of pictures: iterations times batch / 1000',
        'local-rank': 'start torchrun, or use --gpus',
        'lr': '--lrate',
        'mixing': '--style-mix',
        'n-sample': 'the number of pictures in a sheet follows from their resolution; leave it out',
        'network': '--resume',
        'num-gpus': '--gpus',
        'output': '--outdir',
        'path-batch-shrink': 'set loss: {pl_batch_shrink: 2} in a .yaml file for --cfg',
        'path-regularize': '--pl-weight',
        'r1': '--gamma',
        'r1-gamma': '--gamma',
        'resume-from': '--resume',
        'resume-kimg': '--nkimg',
        'resume-pkl': '--resume',
        'result-dir': '--outdir',
        'size': 'the resolution is that of the pictures, which prepare_data.py makes; leave it out',
        'total-kimg': '--kimg',
        'wandb': 'stats.jsonl and TensorBoard files are written to the run folder; leave it out',
    },
    'generate': {
        'ckpt': '--network',
        'col-seeds': '--style-mix ROWS/COLS',
        'cols': '--style-mix ROWS/COLS',
        'degree': '--sefa-scale',
        'diameter': '--radius, of --sweep circle, 0 to 1',
        'duration': '--frames, which is the duration in seconds times --fps',
        'easing-function': '--easing',
        'factor': '--sefa N, which computes the directions itself',
        'increment': '--frames, which counts the whole video',
        'interpolation': _WALK,
        'interpolation-type': _WALK,
        'num-keyframes': _KEYFRAMES,
        'output': '--outdir for pictures, --video for a video',
        'pics': '--seeds, such as 0-19 for 20 pictures',
        'pkl': '--network',
        'process': _PROCESS,
        'psi': '--trunc',
        'random-seed': '--seeds or --interpolate',
        'rotate': _ONLY_STYLEGAN3,
        'row-seeds': '--style-mix ROWS/COLS',
        'rows': '--style-mix ROWS/COLS',
        'sample': 'one picture is drawn per seed; name them with --seeds',
        'scale-type': 'pictures keep the resolution of the network; leave it out',
        'seed': '--seeds',
        'shuffle-seed': _KEYFRAMES,
        'size': 'pictures keep the resolution of the network; leave it out',
        'start': '--sweep trunc=START:STOP',
        'start-seed': '--sweep circle --seeds SEED',
        'stop': '--sweep trunc=START:STOP',
        'translate': _ONLY_STYLEGAN3,
        'truncation': '--trunc',
        'truncation-mean': 'the mean w is in the snapshot; leave it out',
        'truncation-psi': '--trunc',
        'w-frames': '--frames, which counts the whole video: keyframes times w-frames',
    },
    'blend': {
        '': 'name the snapshots with --low and --high, the resolution with --swap-resolution',
        **dict.fromkeys(_BLEND_LOW, '--low'),
        **dict.fromkeys(_BLEND_HIGH, '--high'),
        'blend-res': '--swap-resolution',
        'layers': '--weights',
        'network': 'name the two snapshots with --low and --high',
        'networks': 'name the two snapshots with --low and --high',
        'level': '--swap-level',
        'out': '--output',
        'output-grid': '--grid',
        'output-path': '--output',
        'output-pkl': '--output',
        'outdir': '--output, which names a file',
        'resolution': '--swap-resolution',
        'split-res': '--swap-resolution',
        'truncation-psi': '--trunc',
        'verbose': _NOT_NEEDED,
    },
    'calc_fid': {
        '': 'name the two sides with --real and --fake',
        'batch-size': '--batch',
        'ckpt': '--fake',
        'dims': 'features have 2048 dimensions; leave it out',
        'gpus': 'one GPU computes; leave it out',
        'gpu': '--device',
        'inception': '--detector-weights',
        'n-sample': '--num',
        'num-samples': '--num',
        'outdir': 'results are printed, with --json as JSON; leave it out',
        'seeds': '--seed and --num',
        'num-workers': _NOT_NEEDED,
        'size': 'pictures keep the resolution of the network; leave it out',
        'snapshot': '--fake',
        'truncation': '--trunc',
        'truncation-psi': '--trunc',
        'verbose': _NOT_NEEDED,
    },
    'project': {
        '': 'name the pictures with --target',
        'ckpt': '--network',
        'image': '--target',
        'lr': 'the learning rate is fixed; leave it out',
        'lr-rampdown': 'the learning rate is fixed; leave it out',
        'lr-rampup': 'the learning rate is fixed; leave it out',
        'mse': '--loss pyramid',
        'noise-ramp': '--noise optimise',
        'noise-regularize': '--noise optimise',
        'size': 'pictures are resized to the resolution of the network; leave it out',
        'step': '--num-steps',
        'steps': '--num-steps',
        'w-plus': '--space w+',
    },
    'prepare_data': {
        '': 'name the pictures with --source and the data set with --dest',
        'data': '--source',
        'input': '--source',
        'max-num-images': '--max-images',
        'n-worker': '--workers',
        'out': '--dest',
        'outdir': '--dest',
        'output': '--dest',
        'resample': '--resize-filter',
        'size': '--resolution',
    },
    'convert': {
        '': 'name the file with --source and the new one with --dest',
        'ckpt': '--source',
        'disc': _NOT_NEEDED,
        'force-fp32': 'float16 is a setting of the network and stays as it is; leave it out',
        'gen': _NOT_NEEDED,
        'input': '--source',
        'network': '--source',
        'outdir': '--dest, which names a file',
        'output': '--dest',
        'repo': _NOT_NEEDED,
    },
    'toonify': {
        'ckpt': '--network',
        'input': 'name the photographs without an option: toonify.py photo.jpg …',
        'output': '--outdir',
        'steps': '--num-steps',
        'target': 'name the photographs without an option: toonify.py photo.jpg …',
        'truncation-psi': '--trunc',
    },
}


def answer(script: str, option: str) -> str | None:
    """What to type instead of an option that a script does not have; None where nothing is known.

    Args:
        script: name of the command.
        option: as typed, with its dashes; '' for an argument without an option.
    """
    name = option.lstrip('-').replace('_', '-')
    text = ANSWERS.get(script, {}).get(name)
    if text is not None and text.startswith('--'):
        return f'here it is {text}'
    return text


def nvidia_switches(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that adds NVIDIA's speed options, whose settings are made automatically here."""
    for name in ('allow-tf32', 'nobench', 'nhwc'):
        switch = click.option(
            f'--{name}', type=bool, default=None, is_flag=False, flag_value='1', hidden=True
        )
        function = switch(function)
    return function


def settle_nvidia_switches(given: dict[str, Any]) -> list[str]:
    """Take NVIDIA's speed options out of the given options, `--allow-tf32` as `tf32`.

    Args:
        given: options that the user gave, by name; changed in place.

    Returns:
        A line for each of them, which says what became of it.

    Raises:
        UserError: `--allow-tf32` and `--tf32` contradict each other.
    """
    lines = []
    if 'nhwc' in given:
        value = given.pop('nhwc')
        lines.append(f'--nhwc={value:d}: not used; channels-last is taken where it is faster')
    if 'nobench' in given:
        value = given.pop('nobench')
        lines.append(f'--nobench={value:d}: not used; cuDNN benchmarking is always off')
    if 'allow_tf32' in given:
        value = given.pop('allow_tf32')
        if given.setdefault('tf32', value) != value:
            raise UserError(
                f'--allow-tf32={value:d} and --tf32={given["tf32"]:d} contradict each other'
            )
        lines.append(f'--allow-tf32={value:d}: used as --tf32={value:d}')
    return lines
