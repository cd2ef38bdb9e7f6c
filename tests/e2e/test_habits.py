"""Command lines as users of other projects type them: each works, or the error names what to type."""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.core import ParameterSource
from conftest import GOLDEN

import train
from dnnlib import UserError, habits
from synthesis.generate.request import parse_request
from torch_utils.misc import in_float64, select_device
from training.config import TrainingConfig, build_config, merge, run_name
from training.presets import FOREIGN, load_preset, preset_names
from training.snapshots import NAMED_SOURCES, load_networks

TRAIN = 'train.py --outdir=out --data=DATA --device=cpu '
GENERATE = 'generate.py --network=PKL --device=cpu '
SCRIPTS = (
    'train',
    'generate',
    'blend',
    'calc_fid',
    'project',
    'prepare_data',
    'convert',
    'toonify',
)

# Lines that work.
WORKS = [
    # NVIDIA, stylegan2-ada-pytorch
    TRAIN + '--gpus=1 --dry-run',
    TRAIN + '--gpus=1 --cfg=auto --aug=ada --metrics=None --snap=10 -n',
    TRAIN + '--resume=noresume --metrics=none --kimg=1000 --mirror=1 --gamma=10 -n',
    TRAIN + '--resume=PKL --mirror=True --aug=fixed --p=0.2 --augpipe=bgc --snap=10 --freezed=10 '
    '-n',
    TRAIN + '--nhwc True --nobench True --allow-tf32 True --workers 2 -n',
    TRAIN + '--nhwc --nobench --allow-tf32 --metrics=none --resume=noresume --dry-run',
    TRAIN + '--mirror true --cond false --subset 5 --target=0.7 --fp32=0 --seed=1 -n',
    GENERATE + '--outdir=out --trunc=0.7 --seeds=1,2,5-6 --noise-mode=const',
    GENERATE + '--outdir=out --trunc=1 --seeds=5-7,2 --noise-mode=random',
    GENERATE + '--outdir=out --projected_w=W',
    'calc_fid.py --network=PKL --data=DATA --mirror=1 --num=4 --metrics=fd_random_vgg4_full '
    '--device=cpu',
    'prepare_data.py --source=DATA --dest=out.zip --width=32 --height=32 --transform=center-crop '
    '--max-images=3 --resize-filter=box',
    'project.py --outdir=out --target=PICTURE --network=PKL --num-steps=2 --save-video=0 --seed=1 '
    '--loss=pyramid --device=cpu',
    # dvschultz's notebook
    TRAIN + '--snap=4 --resume=PKL --augpipe=bg --initstrength=0.328 --gamma=50.0 --mirror=True '
    '--mirrory=False --nkimg=10 --metrics=None -n',
    'blend.py --low=PKL --high=PKL --swap_resolution=8 --output=out.pkl',
    # stylegan3
    TRAIN + '--cfg=stylegan2 --gpus=1 --batch=8 --batch-gpu=4 --gamma=0.8 --map-depth=2 '
    '--glr=0.0025 --dlr=0.0025 --cbase=16384 --cmax=256 --mbstd-group=4 --mirror=1 --aug=ada '
    '--tick=1 --snap=2 --seed=3 --fp32=False --nobench=False --workers=3 --desc=first -n',
    TRAIN + '--cfg=stylegan2 --batch=8 --gamma=8 --metrics=NONE --dry-run',
    'prepare_data.py --source=DATA --dest=out.zip --resolution=32x32',
    'prepare_data.py --source=PICTURE --dest=out.zip --resolution=32',
]

# Lines with an error, and words in it.
NAMED = [
    (TRAIN + '--cfg=11gb-gpu', '--cfg=stylegan2 --batch=4'),
    (TRAIN + '--cfg=24gb-gpu', '--cfg=stylegan2 --batch=8'),
    (TRAIN + '--cfg=48gb-gpu', '--cfg=stylegan2 --batch=16'),
    (TRAIN + '--cfg=aydao', '--style-mix=0'),
    (TRAIN + '--cfg=stylegan3-t --gamma=8.2', '--cfg=stylegan2'),
    (TRAIN + '--cfg=stylegan3-r --gamma=8.2', '--cfg=auto'),
    (TRAIN + '--cfg=ffhq256', '--resume'),
    (TRAIN + '--resume=PKL --cbase=16384', '--cbase=16384'),
    (TRAIN + '--resume=PKL --map-depth=2', '--map-depth=2'),
    (TRAIN + '--allow-tf32=0 --tf32=1', 'contradict'),
    (TRAIN + '--cbase=16', '--cbase=16'),
    (TRAIN + '--resume_pkl=PKL', '--resume'),
    ('train.py --iter 800000 --batch 16 DATA', '--kimg'),
    ('train.py --batch 16 DATA', '--data'),
    ('blend.py --low_res_pkl=PKL --high_res_pkl=PKL', '--low'),
    ('blend.py --lower_res_pkl PKL --split_res 64 --higher_res_pkl PKL', '--low'),
    ('blend.py --low=PKL --split-res=64', '--swap-resolution'),
    ('blend.py PKL PKL 64 --blend-width=1', '--swap-resolution'),
    (GENERATE + '--outdir=out --rows=85,100 --cols=55,821 --styles=0-6', '--style-mix ROWS/COLS'),
    (GENERATE + '--outdir=out --truncation-psi=0.7', '--trunc'),
    (GENERATE + '--process=interpolation --interpolation=circularloop', '--interpolate'),
    (GENERATE + '--interpolation=noiseloop --diameter=0.9', '--sweep circle'),
    (GENERATE + '--seeds=0-31 --output=lerp.mp4 --grid=4x2', '--video'),
    (GENERATE + '--video=a.mp4 --w-frames=60', '--frames'),
    (GENERATE + '--outdir=out --translate=0.1,0', 'StyleGAN3'),
    ('generate.py --sample 4 --pics 20 --ckpt stylegan2-ffhq.pt', '--seeds'),
    ('generate.py --ckpt stylegan2-ffhq.pt', '--network'),
    ('project.py --ckpt PKL --w_plus photo.jpg', '--network'),
    ('project.py --network PKL --outdir=out photo.jpg', '--target'),
    ('project.py --network PKL --steps=100', '--num-steps'),
    ('calc_fid.py --data=DATA --network=PKL --gpus=1', 'one GPU'),
    ('convert.py --source=PKL --dest=out.pkl --force-fp32=1', 'leave it out'),
    ('convert.py --repo ~/stylegan2 stylegan2-ffhq-config-f.pkl', 'leave it out'),
    ('prepare_data.py --out LMDB --size 256', '--dest'),
]


def words_of(line: str, data: Path) -> tuple[str, list[str]]:
    """The script's module and its arguments, with the places of files filled in."""
    places = {
        'DATA': str(data),
        'PKL': str(GOLDEN / 'ada-uncond-32.pkl'),
        'PICTURE': str(data / '00.png'),
        'W': str(data / 'w.npz'),
    }
    script, *words = shlex.split(line)
    for name, path in places.items():
        words = [path if word == name else word.replace(f'={name}', f'={path}') for word in words]
    return script.removesuffix('.py'), words


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    from conftest import draw_pictures

    folder = draw_pictures(tmp_path_factory.mktemp('habits'), 4)
    np.savez(folder / 'w.npz', w=np.zeros([1, 8, 32], np.float32))
    return folder


def run(line: str, data: Path) -> int:
    script, words = words_of(line, data)
    return importlib.import_module(script).main(words)


@pytest.mark.usefixtures('own_cache')
@pytest.mark.parametrize('line', WORKS)
def test_line_from_habit_works(
    line: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line, data) == 0, capsys.readouterr().err


@pytest.mark.parametrize('line,words', NAMED)
def test_error_names_what_to_type_instead(
    line: str,
    words: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line, data) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error, error
    assert not list(tmp_path.iterdir())


def settings_of(capsys: pytest.CaptureFixture) -> dict:
    return json.loads(capsys.readouterr().out)


def test_stylegan3_options_set_the_network(data: Path, capsys: pytest.CaptureFixture) -> None:
    line = TRAIN + '--cfg=stylegan2 --cbase=16384 --cmax=128 --map-depth=2 --mbstd-group=2 -n'
    assert run(line, data) == 0
    network = settings_of(capsys)['network']
    assert (network['channel_base'], network['channel_max']) == (16384, 128)
    assert (network['mapping_layers'], network['mbstd_group_size']) == (2, 2)


def test_noresume_and_none_set_nothing(data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(TRAIN + '--resume=NoResume --metrics=None -n', data) == 0
    settings = settings_of(capsys)
    assert settings['resume'] is None and settings['metrics'] == []
    assert settings['augment']['kimg'] == 500 and settings['ema']['rampup'] == 0.05


def test_speed_options_say_what_became_of_them(data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(TRAIN + '--nhwc --nobench=1 --allow-tf32=0 -n', data) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)['tf32'] is False
    lines = [line for line in captured.err.splitlines() if line.startswith('--')]
    assert len(lines) == 3
    assert 'channels-last' in lines[0] and 'cuDNN' in lines[1] and '--tf32=0' in lines[2]


def test_description_ends_the_name_of_the_run() -> None:
    config = merge(TrainingConfig(), {'data': {'path': 'faces.zip'}, 'desc': 'third try'}, 'here')
    assert run_name(config) == 'faces-auto-gamma10-ada_bgc-third_try'


def test_yaml_file_as_preset(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    text = 'rule: auto\nbatch_size: 8\nloss: {r1_gamma: 3}\noptimizer: {lr: 1e-3}\n'
    (tmp_path / 'mine.yaml').write_text(text)
    assert run(TRAIN + f'--cfg={tmp_path}/mine.yaml -n', data) == 0
    settings = settings_of(capsys)
    assert (settings['preset'], settings['batch_size']) == ('mine.yaml', 8)
    assert (settings['loss']['r1_gamma'], settings['optimizer']['lr']) == (3, 1e-3)
    assert settings['network']['mapping_layers'] == 2
    config = build_config(f'{tmp_path}/mine.yaml', 32, 1, {'data': {'path': 'faces.zip'}})
    assert run_name(config) == 'faces-mine-gamma3-ada_bgc'
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'auto').write_text('batch_size: 2\n')  # a preset's name is the preset
    assert load_preset('auto').source == 'configs/auto.yaml'
    assert load_preset('mine.yaml').settings['batch_size'] == 8


@pytest.mark.parametrize(
    'content,words',
    [
        ('batchsize: 8', "did you mean 'batch_size'"),
        ('- 1', 'must hold settings'),
        ('a: [', 'not a YAML file'),
        ('rule: other', "rule: 'other'"),
        ('batch_size: many', 'many'),
        ('resume: ffhq256', 'resume belongs on the command line'),
        (None, 'no such file'),
    ],
)
def test_yaml_file_that_cannot_be_used(content: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'mine.yaml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=words):
        build_config(str(path), 32, 1, {})


def test_answers_name_options_that_exist() -> None:
    for script, answers in habits.ANSWERS.items():
        command = importlib.import_module(script)
        (cli,) = (value for value in vars(command).values() if hasattr(value, 'params'))
        names = {name for param in cli.params for name in param.opts}
        for typed, text in answers.items():
            assert f'--{typed}' not in names, f'{script}.py has --{typed}'
            for word in shlex.split(text.replace("'", '')):
                option = word.split('=')[0].rstrip(',;')
                assert not option.startswith('--') or option in names, f'{script}: {text}'


def test_answers_to_presets_can_be_followed() -> None:
    options = {option for param in train.command.params for option in param.opts}
    for text in FOREIGN.values():
        for word in text.replace(',', '').split():
            option, _, value = word.partition('=')
            assert not option.startswith('--') or option in options
            assert option != '--cfg' or value.rstrip(';') in preset_names()
    for batch in (4, 8, 16):
        assert build_config('stylegan2', 1024, 1, {'batch_size': batch}).batch_size == batch


@pytest.mark.parametrize(
    'every,names', [(None, ['000004']), (1, ['000001', '000002', '000003', '000004'])]
)
def test_sheets_of_pictures_between_snapshots(
    every: int | None, names: list[str], data: Path, tmp_path: Path
) -> None:
    options = '--outdir={} --cfg=demo --batch=1000 --batch-gpu=4 --aug=noaug --snap=50'
    line = 'train.py --data=DATA --device=cpu --tick=1 --kimg=4 ' + options.format(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('training.training_loop.training_step', count_pictures)
        assert run(line + (f' --img-snap={every}' if every else ''), data) == 0
    (run_dir,) = tmp_path.iterdir()
    assert sorted(run_dir.glob('fakes[0-9]*')) == [run_dir / f'fakes{name}.png' for name in names]
    assert len(list(run_dir.glob('*.pkl'))) == 1 and (run_dir / 'progress.png').exists()


def count_pictures(run: Any) -> None:
    """A training step that only counts."""
    run.cur_nimg += run.config.batch_size
    run.step += 1


def test_named_sources_are_those_that_were_published(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fetched: list[str] = []

    def fetch(url: str, **limits: object) -> Path:
        fetched.append(url)
        return GOLDEN / 'ada-uncond-32.pkl'

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('training.snapshots.published.fetch', fetch)
    for name in ('metfaces', 'afhqcat', 'afhqdog', 'afhqwild', 'brecahad', 'cifar10', 'ffhq'):
        load_networks(name)
        place = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained'
        assert fetched.pop() == f'{place}/{name}.pkl'
        assert 'non-commercial' in NAMED_SOURCES[name].licence
    load_networks('ffhq256')
    assert fetched.pop().endswith(
        '/transfer-learning-source-nets/ffhq-res256-mirror-paper256-noaug.pkl'
    )
    assert run('generate.py --network=ffhq2048 --outdir=out --device=cpu', data) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in NAMED_SOURCES)


def test_device_mps_without_an_apple_gpu(data: Path, capsys: pytest.CaptureFixture) -> None:
    if torch.backends.mps.is_available():
        pytest.skip('there is an Apple GPU')
    lines = [
        'train.py --outdir=out --data=DATA --cfg=demo',
        'generate.py --network=PKL --outdir=out',
        'calc_fid.py --real=DATA --fake=DATA',
        'project.py --network=PKL --target=PICTURE --outdir=out',
        'toonify.py PICTURE --network=PKL --blended=PKL --outdir=out',
        'blend.py --low=PKL --high=PKL --grid=out.png',
    ]
    for line in lines:
        assert run(line + ' --device=mps', data) == 2, line
        assert '--device=mps: PyTorch finds no Apple GPU' in capsys.readouterr().err


def test_device_mps_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    assert select_device('mps').type == 'mps'
    assert select_device('auto').type != 'mps'


def test_float64_never_reaches_an_apple_gpu() -> None:
    class OnMps:
        device = torch.device('mps')

        def cpu(self) -> torch.Tensor:
            return torch.ones(2)

    assert in_float64(OnMps()).dtype == torch.float64  # type: ignore[arg-type]
    root = Path(train.__file__).parent
    on_the_cpu = {
        'misc.py',  # in_float64 itself
        'blending.py',
        'sefa.py',
        'paths.py',  # weights and latents, before a device is used
        'graphs.py',  # CUDA graphs
        'nearest.py',
        'ppl.py',  # results of in_float64 and .cpu()
    }
    for folder in ('training', 'synthesis', 'metrics', 'torch_utils'):
        for path in (root / folder).glob('*.py'):
            if path.name not in on_the_cpu:
                assert '.double()' not in path.read_text(encoding='utf-8'), path


def commands_in_the_docs() -> list[str]:
    page = Path(train.__file__).parent / 'docs' / 'from-other-projects.md'
    rows = [line for line in page.read_text(encoding='utf-8').splitlines() if line[:2] == '| ']
    return [match for row in rows for match in re.findall(r'`python ([^`]+)` \|$', row)]


@pytest.mark.parametrize('line', commands_in_the_docs())
def test_command_in_the_docs_is_understood(line: str) -> None:
    script, *words = shlex.split(line)
    module = importlib.import_module(script.removesuffix('.py'))
    (command,) = (value for value in vars(module).values() if hasattr(value, 'params'))
    context = command.make_context(script, words)
    if script == 'generate.py':
        given = [
            name
            for name in context.params
            if context.get_parameter_source(name) != ParameterSource.DEFAULT
            and name not in ('network', 'device', 'trust_pickle')
        ]
        parse_request(context.params, given)


def test_the_docs_name_every_script_and_snapshot() -> None:
    page = Path(train.__file__).parent / 'docs' / 'from-other-projects.md'
    text = page.read_text(encoding='utf-8')
    scripts = 'style_mixing projector calc_metrics dataset_tool gen_images gen_video legacy'
    for name in (scripts + ' blend_models convert_weight').split():
        assert f'{name}.py' in text
    for name, source in NAMED_SOURCES.items():
        assert f'| `{name}` | {source.resolution} | {source.licence} |' in text
    assert len(commands_in_the_docs()) > 30


def test_one_picture_is_a_source(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / 'out'
    line = f'prepare_data.py --source={data}/01.png --source={data}/02.png --resolution=32'
    assert run(f'{line} --dest={out}', data) == 0
    assert 'written 2 pictures' in capsys.readouterr().out
    assert len(list(out.rglob('*.png'))) == 2
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    line = f'prepare_data.py --source={tmp_path}/broken.png --resolution=32 --dest={tmp_path}/b.zip'
    assert run(line, data) == 2
    assert 'broken.png' in capsys.readouterr().err
