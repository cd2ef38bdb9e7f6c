"""Training, run as its user runs it, for a few steps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import train
from torch_utils.image_io import to_uint8
from torch_utils.misc import named_tensors
from training import training_loop
from training.config import OptimizerConfig, build_config
from training.dataset import ImageFolderDataset
from training.ema import ema_beta, update_ema
from training.freezing import frozen_names
from training.networks import Generator
from training.outputs import Evaluation
from training.phases import Batch, lazy_adam
from training.ranking import Criterion
from training.run import setup
from training.snapshots import is_descendant, load_networks

SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')
FEW = [
    '--batch=8',
    '--batch-gpu=4',
    '--tick=0.016',
    '--device=cpu',
    '--metrics=none',
    '--augpipe=color',
]


@pytest.fixture
def data(labelled_data: Path) -> Path:
    return labelled_data


def run(data: Path, outdir: Path, *options: str) -> Path:
    before = set(outdir.iterdir()) if outdir.exists() else set()
    few = [
        option
        for option in FEW
        if not ('--aug=noaug' in options and option.startswith('--augpipe'))
    ]
    assert train.main(['--outdir', str(outdir), '--data', str(data), *few, *options]) == 0
    (run_dir,) = set(outdir.iterdir()) - before
    return run_dir


def last_stats(run_dir: Path) -> dict:
    return json.loads((run_dir / 'stats.jsonl').read_text().splitlines()[-1])


def test_fine_tuning(data: Path, tmp_path: Path) -> None:
    run_dir = run(
        data,
        tmp_path,
        f'--resume={SNAPSHOT}',
        '--aug=ada',
        '--aug-strength=0.328',
        '--freezed=4',
        '--gamma=50',
        '--mirror=1',
        '--nkimg=10',
        '--kimg=10.032',
    )
    names = {path.name for path in run_dir.iterdir()}
    assert {
        'network-snapshot-000010.032.pkl',
        'fakes000010.032.png',
        'fakes_init.png',
        'reals.png',
        'stats.jsonl',
        'training_options.json',
        'log.txt',
    } <= names
    assert run_dir.name.startswith('00000-')
    source, nets = (
        load_networks(SNAPSHOT),
        load_networks(run_dir / 'network-snapshot-000010.032.pkl'),
    )
    assert (
        source.D is not None
        and nets.D is not None
        and nets.G is not None
        and nets.augment_pipe is not None
    )
    frozen = frozen_names(nets.D)
    assert len(frozen) == 7
    before, after = dict(named_tensors(source.D)), dict(named_tensors(nets.D))
    for name in before:
        assert torch.equal(before[name], after[name]) == (
            name in frozen or name.endswith('resample_filter')
        ), name
    assert not torch.equal(nets.G.synthesis.b32.conv0.weight, source.G.synthesis.b32.conv0.weight)  # type: ignore[union-attr]
    stats = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    assert (
        stats[0]['Progress/augment']['mean'] == pytest.approx(0.328)
        and stats[0]['Progress/kimg']['mean'] == 10
    )
    assert stats[-1]['Progress/kimg']['mean'] == pytest.approx(10.032)
    assert {
        'Loss/G/loss',
        'Loss/D/loss',
        'Loss/r1_penalty',
        'Loss/pl_penalty',
        'Loss/scores/real',
        'Loss/signs/real',
    } <= stats[-1].keys() | stats[1].keys()
    # --resume: 100 kimg from 0 to 1
    assert abs(float(nets.augment_pipe.p) - 0.328) == pytest.approx(32 / 100_000, rel=1e-3)
    options = json.loads((run_dir / 'training_options.json').read_text())
    assert (
        options['loss']['r1_gamma'] == 50
        and options['network']['freeze_layers'] == 4
        and options['ema']['rampup'] is None
    )
    log = (run_dir / 'log.txt').read_text()
    assert re.search(
        r'tick 0 +kimg 10\.0 +time \S+ +sec/tick .* sec/kimg .* maintenance .* cpumem '
        r'.* gpumem .* augment 0\.328',
        log,
    )
    assert 'FreezeD: 7 tensors with 7,536 parameters are frozen: b32.conv0.bias' in log
    assert (
        nets.meta['training_set_kwargs']['resolution'] == 32
        and nets.meta['toonify']['cur_nimg'] == 10032
    )
    assert [row['name'] for row in nets.meta['toonify']['parents']] == [
        'ada-uncond-32.pkl'
    ] and is_descendant(nets, source)


def test_from_scratch_with_classes(data: Path, tmp_path: Path) -> None:
    run_dir = run(
        data, tmp_path, '--cfg=demo', '--cond=1', '--aug=noaug', '--kimg=0.032', '--snap=1'
    )
    assert sorted(path.name for path in run_dir.glob('*.pkl')) == [
        'network-snapshot-000000.016.pkl',
        'network-snapshot-000000.032.pkl',
    ]
    nets = load_networks(run_dir / 'network-snapshot-000000.032.pkl')
    assert (
        nets.G_ema.c_dim == 3
        and nets.augment_pipe is None
        and nets.G_ema.synthesis.b32.conv1.conv_clamp is None
    )
    assert last_stats(run_dir)['Progress/tick']['mean'] == 2
    again = run(
        data,
        tmp_path,
        f'--resume={run_dir / "network-snapshot-000000.032.pkl"}',
        '--cfg=demo',
        '--cond=1',
        '--kimg=0.008',
    )
    assert again.name.startswith('00001-')


def test_step_0_draws_what_the_source_draws(data: Path, tmp_path: Path) -> None:
    run_dir = run(
        data, tmp_path, f'--resume={SNAPSHOT}', '--aug=noaug', '--nkimg=0', '--kimg=0.008'
    )
    G = load_networks(SNAPSHOT).G_ema
    # a batch, since its size decides the last bits
    z = torch.randn([4, G.z_dim], generator=torch.Generator().manual_seed(0))
    want = to_uint8(G(z, None, noise_mode='const')).permute(2, 0, 3, 1).flatten(1, 2).numpy()
    got = np.asarray(Image.open(run_dir / 'fakes_init.png'))[:32, :128]
    assert np.array_equal(got, want)


def test_same_seed_same_run(data: Path, tmp_path: Path) -> None:
    options = ['--cfg=demo', '--kimg=0.024', '--aug-strength=0.5']
    first, second = (run(data, tmp_path / str(i), *options) for i in range(2))
    other = run(data, tmp_path / '2', *options, '--seed=1')
    tensors = [
        dict(named_tensors(load_networks(path / 'network-snapshot-000000.024.pkl').G_ema))
        for path in (first, second, other)
    ]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert not torch.equal(tensors[0]['synthesis.b4.const'], tensors[2]['synthesis.b4.const'])


@pytest.mark.usefixtures('own_cache')
def test_metrics_are_written_and_never_stop_a_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = run(
        data,
        tmp_path / 'runs',
        '--cfg=demo',
        '--kimg=0.008',
        '--metrics=fd_random_vgg4_full,pr_random_vgg4_full',
    )
    (line,) = (run_dir / 'metric-fd_random_vgg4_full.jsonl').read_text().splitlines()
    row = json.loads(line)
    assert (
        row['snapshot_pkl'] == 'network-snapshot-000000.008.pkl'
        and row['results']['fd_random_vgg4_full'] > 0
    )
    row = json.loads((run_dir / 'metric-pr_random_vgg4_full.jsonl').read_text())
    assert (
        list(row['results']) == ['pr_random_vgg4_full_precision', 'pr_random_vgg4_full_recall']
        and row['metric'] == 'pr_random_vgg4_full'
    )
    assert len(list(run_dir.glob('metric-*'))) == 2

    def broken(*args: object, **kwargs: object) -> dict[str, float]:
        raise RuntimeError('no luck')

    monkeypatch.setattr(
        train, 'make_evaluation', lambda run: Evaluation(broken, Criterion('fd_random_vgg4_full'))
    )
    run_dir = run(
        data, tmp_path / 'runs', '--cfg=demo', '--kimg=0.008', '--metrics=fd_random_vgg4_full'
    )
    assert (
        'metrics failed and are left out (RuntimeError: no luck)'
        in (run_dir / 'log.txt').read_text()
    )
    assert (run_dir / 'network-snapshot-000000.008.pkl').exists()


def test_dry_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        train.main(
            [
                '--outdir',
                str(tmp_path / 'out'),
                '--data',
                str(data),
                '--device=cpu',
                '-n',
                '--gamma=7',
                '--fp32=1',
                '--lrate=0.001',
                '--subset=5',
                '--workers=2',
                '--aug=fixed',
                '--p=0.25',
                '--augpipe=bgcfnc',
                '--mirrory=1',
            ]
        )
        == 0
    )
    options = json.loads(capsys.readouterr().out)
    assert (
        options['loss']['r1_gamma'],
        options['fp32'],
        options['optimizer']['lr'],
        options['data']['subset'],
    ) == (7, True, 0.001, 5)
    assert options['augment'] == {
        **options['augment'],
        'mode': 'fixed',
        'p': 0.25,
        'pipe': 'bgcfnc',
        'target': 0.6,
    }
    assert (
        options['data']['workers'] == 2
        and options['data']['yflip']
        and options['metrics'] == []
        and not (tmp_path / 'out').exists()
    )


@pytest.mark.parametrize(
    'options,words',
    [
        (['--data=nowhere'], 'nowhere: no such file'),
        (['--cfg=huge'], '--cfg=huge: no such preset'),
        (['--resume=none.pkl'], 'none.pkl: no such'),
        (['--gpus=0'], '--gpus=0'),
        (['--aug=fixed'], '--p'),
        (['--p=0.5'], '--aug=fixed'),
        (['--aug=noaug', '--aug-strength=0.1'], 'ada'),
        (['--aug=maybe'], 'maybe'),
        (['--aug-strength=2'], '2'),
        (['--kimg=1', '--nkimg=2'], '--kimg=1'),
        (['--batch=7', '--batch-gpu=2'], '--batch=7'),
        (['--metrics=fid7up'], 'fid7up'),
        (['--augpipe=x'], 'x'),
        (['--tick=0'], '--tick=0'),
        (['--device=cuda'], '--device=cuda'),
        ([f'--resume={GOLDEN / "ada-cond-32.pkl"}'], 'number of classes is 3'),
        (['--cond=1', f'--resume={SNAPSHOT}'], 'number of classes is 0'),
        (['--lrate=fast'], 'fast'),
        (['--outdir=file'], 'file is a file, not a folder'),
        (['--lrate=-1'], '--lrate=-1'),
        (['--lrate=nan'], '--lrate=nan'),
        (['--workers=-1'], '--workers=-1'),
        (['--kimg=nan'], '--kimg=nan'),
        (['--kimg=inf'], '--kimg=inf'),
        (['--nkimg=-5'], '--nkimg=-5'),
        (['--seed=99999999999999999999999'], '--seed='),
        (['--gamma=-3'], '--gamma=-3'),
        (['--freezed=-3'], '--freezed=-3'),
        (['--target=9'], '--target=9'),
        (['--batch=100000000'], '--batch='),
        (['--resume='], '--resume'),
        (['--data='], '--data'),
        (['--outdir='], '--outdir'),
    ],
)
def test_bad_input(
    options: list[str],
    words: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    if options == ['--device=cuda'] and torch.cuda.is_available():
        pytest.skip('there is a GPU')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    assert train.main(['--outdir=out', f'--data={data}', '--device=cpu', *options]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error and 'Traceback' not in error
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_labels_are_needed_for_cond(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Image.new('RGB', (32, 32)).save(tmp_path / 'a.png')
    assert (
        train.main([f'--outdir={tmp_path}/out', f'--data={tmp_path}', '--cond=1', '--device=cpu'])
        == 2
    )
    assert 'has no labels' in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_a_snapshot_of_another_resolution(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.new('RGB', (64, 64)).save(tmp_path / 'a.png')
    assert (
        train.main(
            [
                f'--outdir={tmp_path}/out',
                f'--data={tmp_path}',
                f'--resume={SNAPSHOT}',
                '--device=cpu',
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert 'resolution is 32' in error and 'is 64' in error and not (tmp_path / 'out').exists()


def test_interrupted(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(run: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_loop, 'training_step', stop)
    assert train.main([f'--outdir={tmp_path}', f'--data={data}', '--cfg=demo', *FEW]) == 130
    (run_dir,) = tmp_path.iterdir()
    assert not list(run_dir.glob('*.pkl')) and not list(run_dir.glob('.*'))


def test_accumulation_gives_the_gradient_of_the_batch(data: Path) -> None:
    """Parts of 4 and the whole of 8 agree where the groups of the minibatch statistics do (here: no
    statistics).
    """
    config = build_config(
        'demo',
        32,
        1,
        {
            'augment': {'mode': 'noaug'},
            'data': {'workers': 0},
            'batch_size': 8,
            'loss': {'style_mixing_prob': 0},
        },
    )
    dataset = ImageFolderDataset(data)
    state = setup(config, dataset, torch.device('cpu'))
    for network in (state.G, state.D):
        for module in network.modules():
            if hasattr(module, 'use_noise'):
                module.use_noise = False
    state.D.b4.mbstd.group_size = 1
    images, labels = next(state.data)
    batch = Batch(images, labels, torch.randn(8, 64), labels)
    for phase in state.phases:
        gradients = []
        for size in (8, 4):
            phase.optimizer.step = lambda: None  # type: ignore[method-assign]
            phase.run(batch, size)
            gradients.append(
                [p.grad.clone() for p in phase.module.parameters() if p.grad is not None]
            )
        for a, b in zip(*gradients):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_lazy_adam() -> None:
    G = Generator(4, 0, 4, 8, 3, channel_base=32)
    settings = lazy_adam(G, OptimizerConfig(lr=0.0025), 4).param_groups[0]
    assert settings['lr'] == pytest.approx(0.002) and settings['betas'] == pytest.approx(
        (0.0, 0.99**0.8)
    )
    assert lazy_adam(G, OptimizerConfig(), 16).param_groups[0]['betas'][1] == pytest.approx(
        0.9906, abs=1e-4
    )


def test_ema() -> None:
    assert ema_beta(32, 10, 10**9, None) == pytest.approx(0.5 ** (32 / 10000))
    assert ema_beta(32, 10, 1000, 0.05) == pytest.approx(0.5 ** (32 / 50))
    a, b = (Generator(4, 0, 4, 8, 3, channel_base=32) for _ in range(2))
    want = a.synthesis.b4.const.detach() * 0.75 + b.synthesis.b4.const.detach() * 0.25
    b.mapping.w_avg.fill_(3)
    update_ema(a, b, 0.75)
    torch.testing.assert_close(a.synthesis.b4.const.detach(), want)
    assert torch.equal(a.mapping.w_avg, b.mapping.w_avg)
