"""Every control of a run shows its effect within a few steps; every warning comes when it should
and not otherwise.
"""

import json
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image

import train
from torch_utils.misc import named_tensors
from torch_utils.training_stats import StatsCollector
from training import loss
from training.config import LossConfig, OptimizerConfig
from training.freezing import freeze, frozen_names, layers_from
from training.health import CERTAIN_TICKS, HealthMonitor, diversity
from training.networks import Discriminator, Generator
from training.phases import Batch, Losses, Phase, build_phases
from training.snapshots import Networks, load_networks

SNAPSHOT = str(GOLDEN / 'ada-uncond-32.pkl')


def run(data: Path, outdir: Path, *options: str, code: int = 0) -> Path:
    few = [
        '--device=cpu',
        '--batch=4',
        '--snap=1',
        '--tick=0.016',
        '--kimg=0.016',
        f'--resume={SNAPSHOT}',
    ]
    assert train.main(['--outdir', str(outdir), '--data', str(data), *few, *options]) == code
    return max(outdir.iterdir())


def networks(run_dir: Path) -> Networks:
    return load_networks(max(run_dir.glob('network-snapshot-*.pkl')))


def moved(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """The largest change of a parameter."""
    return max(float((x - y).abs().max()) for x, y in zip(a.parameters(), b.parameters()))


def stats(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]


# ----------------------------------------------------------------------------
# Options


def test_learning_rates_of_one_network(data: Path, tmp_path: Path) -> None:
    source = load_networks(SNAPSHOT)
    assert source.G is not None and source.D is not None
    for option, still, moving in [('--glr=1e-12', 'G', 'D'), ('--dlr=1e-12', 'D', 'G')]:
        after = networks(run(data, tmp_path / still, option))
        assert (
            moved(getattr(after, still), getattr(source, still))
            < 1e-9
            < 1e-4
            < moved(getattr(after, moving), getattr(source, moving))
        )


def test_ema_kimg(data: Path, tmp_path: Path) -> None:
    short, long = (
        networks(run(data, tmp_path / kimg, f'--ema-kimg={kimg}')) for kimg in ('0.00001', '1000')
    )
    assert short.G is not None and long.G is not None
    assert moved(short.G_ema, short.G) < 1e-6 and moved(long.G_ema, long.G) > 1e-4


def test_loss_options(data: Path, tmp_path: Path) -> None:
    plain, without = run(data, tmp_path / 'plain'), run(data, tmp_path / 'without', '--pl-weight=0')
    assert 'Loss/pl_penalty' in stats(plain)[-1] and 'Loss/pl_penalty' not in stats(without)[-1]
    mixes = [networks(run(data, tmp_path / mix, f'--style-mix={mix}')).G for mix in ('0', '1')]
    assert mixes[0] is not None and mixes[1] is not None and moved(mixes[0], mixes[1]) > 0


def test_ada_options(data: Path, tmp_path: Path) -> None:
    capped = stats(
        run(
            data,
            tmp_path / 'capped',
            '--initstrength=0.3',
            '--ada-max=0.3',
            '--target=-1',
            '--ada-kimg=0.05',
        )
    )
    assert [row['Progress/augment']['mean'] for row in capped] == pytest.approx([0.3, 0.3])
    # 16 pictures of 50
    free = stats(
        run(data, tmp_path / 'free', '--aug-strength=0.3', '--target=-1', '--ada-kimg=0.05')
    )
    assert free[-1]['Progress/augment']['mean'] == pytest.approx(0.3 + 16 / 50)
    assert free[-1]['Progress/augment_per_kimg']['mean'] == pytest.approx(20)
    slow = stats(
        run(data, tmp_path / 'slow', '--aug-strength=0.3', '--target=-1', '--ada-kimg=0.5')
    )
    assert slow[-1]['Progress/augment']['mean'] == pytest.approx(0.3 + 16 / 500)


def test_the_status_line(data: Path, tmp_path: Path) -> None:
    log = (run(data, tmp_path, '--kimg=0.032', '--aug-strength=0.3') / 'log.txt').read_text()
    lines = [line for line in log.splitlines() if line.startswith('tick')]
    assert (
        'augment 0.3' in lines[1]
        and '/kimg) signs ' in lines[1]
        and ' left ' in lines[1]
        and ' left ' not in lines[2]
    )


def test_caches_train_alike(data: Path, tmp_path: Path) -> None:
    results = [
        networks(run(data, tmp_path / cache, f'--cache={cache}', '--mirror=1'))
        for cache in ('ram', 'none', 'auto')
    ]
    for other in results[1:]:
        for (name, a), (_, b) in zip(named_tensors(results[0].G_ema), named_tensors(other.G_ema)):
            assert torch.equal(a, b), name


def test_fewshot_preset(data: Path, tmp_path: Path) -> None:
    options = json.loads(
        (run(data, tmp_path, '--cfg=fewshot', '--tick=0.016') / 'training_options.json').read_text()
    )
    assert (
        options['augment']['p_max'] == 0.8
        and options['optimizer']['d_lr'] == 0.001
        and options['loss']['pl_weight'] == 0
    )


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    """`--batch-gpu`, where the groups of the minibatch standard deviation are the same: here of one
    picture each.
    """
    gradients = []
    for batch_gpu in (8, 4, 2):
        torch.manual_seed(0)
        G = (
            Generator(16, 0, 16, 16, 3, channel_base=256, channel_max=16)
            .train()
            .requires_grad_(False)
        )
        D = (
            Discriminator(
                0, 16, 3, channel_base=256, channel_max=16, epilogue_kwargs={'mbstd_group_size': 1}
            )
            .train()
            .requires_grad_(False)
        )
        losses = Losses(
            G,
            D,
            None,
            None,
            LossConfig(style_mixing_prob=0, pl_weight=0),
            StatsCollector(),
            pl_mean=torch.zeros([]),
        )
        batch = Batch(
            torch.rand(8, 3, 16, 16) * 2 - 1,
            torch.zeros(8, 0),
            torch.randn(8, 16),
            torch.zeros(8, 0),
        )
        found = {}
        for phase in build_phases(losses, OptimizerConfig(lr=1e-12)):
            phase.run(batch, batch_gpu)
            found.update(
                {
                    f'{phase.name}.{name}': parameter.grad.clone()
                    for name, parameter in phase.module.named_parameters()
                    # noise is drawn anew
                    if parameter.grad is not None and 'noise_strength' not in name
                }
            )
        gradients.append({**found, 'w_avg': G.mapping.w_avg.clone()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(
                other[name],
                gradient,
                rtol=1e-4,
                atol=1e-5 * float(gradient.abs().max()) + 1e-12,
                msg=name,
            )


# ----------------------------------------------------------------------------
# FreezeD


@pytest.mark.parametrize('resolution,layers', [(32, 4), (16, 7), (8, 10)])
def test_freezed_by_resolution(resolution: int, layers: int, data: Path, tmp_path: Path) -> None:
    source = load_networks(SNAPSHOT).D
    assert source is not None and layers_from(source, resolution) == layers
    run_dir = run(data, tmp_path, f'--freezed-res={resolution}')
    after = networks(run_dir).D
    assert after is not None and frozen_names(after) == frozen_names(freeze(source, layers))
    frozen, before = set(frozen_names(after)), dict(named_tensors(source))
    for name, tensor in named_tensors(after):
        assert torch.equal(tensor, before[name]) == (
            name in frozen or name.endswith('resample_filter')
        ), name
    log = (run_dir / 'log.txt').read_text()
    assert (
        f'FreezeD: {len(frozen)} tensors' in log
        and f'D: {sum(x.numel() for x in after.parameters()):,} trainable parameters' in log
    )


def test_nothing_is_computed_for_frozen_layers() -> None:
    """No gradient graph below the first layer that trains, and no optimiser state."""
    D = load_networks(SNAPSHOT).D
    assert D is not None
    images = torch.randn(4, 3, 32, 32)

    def nodes(D: torch.nn.Module) -> int:
        found, todo = set(), [D.requires_grad_(True)(images, None).sum().grad_fn]
        while todo:
            node = todo.pop()
            if node is not None and node not in found:
                found.add(node)
                todo += [parent for parent, _ in node.next_functions]
        return len(found)

    counts = [nodes(freeze(D, layers)) for layers in (0, 4, 7, 10)]
    assert counts[0] > counts[1] > counts[2] > counts[3]
    frozen = freeze(D, 10).requires_grad_(True)
    hidden = None
    for resolution in frozen.block_resolutions:
        hidden, _ = getattr(frozen, f'b{resolution}')(hidden, images)
    assert hidden is not None and not hidden.requires_grad
    assert sum(1 for _ in frozen.parameters()) == sum(1 for _ in D.parameters()) - len(
        frozen_names(frozen)
    )


@pytest.mark.parametrize(
    'options,words',
    [
        (['--freezed-res=12'], '32, 16, 8 px'),
        (['--freezed-res=16', '--freezed=2'], 'either --freezed'),
        (['--aug-strength=0.5', '--ada-max=0.4'], '--ada-max=0.4'),
        (['--cache=gpu'], 'gpu'),
        (['--glr=0'], '--glr=0'),
        (['--style-mix=2'], '--style-mix=2'),
        (['--ada-kimg=0'], '--ada-kimg=0'),
        (['--aug=noaug', '--target=0.5'], '--target=0.5 does nothing'),
    ],
)
def test_bad_input(
    options: list[str], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [
        '--outdir',
        str(tmp_path / 'out'),
        '--data',
        str(data),
        '--device=cpu',
        f'--resume={SNAPSHOT}',
        '--batch=4',
        *options,
    ]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error and not (tmp_path / 'out').exists()


def test_the_image_filter_needs_room(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for size, code in [(16, 2), (32, 0)]:
        folder = tmp_path / str(size)
        folder.mkdir()
        for i in range(4):
            Image.new('RGB', (size, size), (60 * i, 0, 0)).save(folder / f'{i}.png')
        options = [
            '--device=cpu',
            '--cfg=demo',
            '--batch=4',
            '--kimg=0.004',
            '--aug=fixed',
            '--p=1',
            '--augpipe=bgcfnc',
        ]
        assert (
            train.main(['--outdir', str(tmp_path / 'out'), '--data', str(folder), *options]) == code
        )
    assert (
        capsys.readouterr().err
        == 'train.py: error: --augpipe=bgcfnc: its filter is longer than pictures of 16 px; bgc '
        'does without\n'
    )


# ----------------------------------------------------------------------------
# A run that looks after itself


def poison(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> list[int]:
    """Make the discriminator's loss NaN at some steps. Returns the steps, as they go by."""
    seen: list[int] = []
    original = loss.D_main

    def poisoned(*args: object, **kwargs: object) -> loss.DMain:
        terms = original(*args, **kwargs)  # type: ignore[arg-type]
        seen.append(len(seen))
        return terms._replace(loss_gen=terms.loss_gen * float('nan')) if bad(seen[-1]) else terms

    monkeypatch.setattr(loss, 'D_main', poisoned)
    return seen


def test_a_gradient_that_is_not_finite_skips_its_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, lambda step: step == 2)
    run_dir = run(data, tmp_path, '--aug-strength=0.2')
    assert all(
        bool(tensor.isfinite().all())
        for part in ('G', 'D', 'G_ema')
        for _, tensor in named_tensors(getattr(networks(run_dir), part))
    )
    row = stats(run_dir)[-1]['Progress/skipped_steps']
    assert row['mean'] * row['num'] == pytest.approx(1)
    assert np.isfinite(stats(run_dir)[-1]['Progress/augment']['mean'])


def test_ten_skipped_steps_in_a_row_end_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    seen = poison(monkeypatch, lambda step: step >= 8)
    run_dir = run(data, tmp_path, '--kimg=1', code=2)
    assert len(seen) == 18
    error = capsys.readouterr().err
    (state,) = run_dir.glob('training-state-*.pt')
    assert (
        'Dmain: the gradients of 10 steps in a row were not finite' in error
        and str(state) in error
        and error.count('\n') == 1
    )
    monkeypatch.undo()
    assert train.main(['--continue', str(run_dir), '--device=cpu', '--kimg=0.08']) == 0


def test_out_of_memory_says_what_fits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    original, filled = Phase.run, []

    def greedy(self: Phase, batch: Batch, batch_gpu: int, *args: object) -> torch.Tensor:
        if batch_gpu > 4:
            activations = torch.zeros([100])
            filled.append(weakref.ref(activations))
            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
        assert not any(reference() for reference in filled), (
            'what did not fit is let go of before less is tried'
        )
        return original(self, batch, batch_gpu, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Phase, 'run', greedy)
    run(data, tmp_path, '--batch=16', code=2)
    error = capsys.readouterr().err
    assert (
        '--batch-gpu=16 is too much' in error
        and '--batch-gpu=4 fits' in error
        and error.count('\n') == 1
    )


def test_progress_png(data: Path, tmp_path: Path) -> None:
    run_dir = run(data, tmp_path)
    page, sheet = (
        np.asarray(Image.open(run_dir / name)) for name in ('progress.png', 'fakes_init.png')
    )
    assert page.shape == (64, 72 + 320, 3)  # the beginning and the end, ten pictures each
    assert np.array_equal(page[:32, 72:], sheet[:32, :320])


# ----------------------------------------------------------------------------
# Warnings


def test_fewer_pictures_than_the_batch(data: Path, tmp_path: Path) -> None:
    assert (
        'warning: 10 pictures are fewer than the batch of 12'
        in (
            run(data, tmp_path / 'a', '--batch=12', '--tick=0.012', '--kimg=0.012') / 'log.txt'
        ).read_text()
    )
    assert (
        'fewer than the batch'
        not in (run(data, tmp_path / 'b', '--batch=8') / 'log.txt').read_text()
    )


def test_warns_when_augmentations_leak() -> None:
    watch = HealthMonitor()
    assert watch.tick(0.79, 0.5) == [] and 'p is 0.85' in watch.tick(0.85, 0.5)[0]
    assert watch.tick(0.9, 0.5) == []  # once
    assert watch.tick(0.5, 0.5) == [] and len(watch.tick(0.81, 0.5)) == 1


def test_warns_when_the_discriminator_is_certain() -> None:
    watch = HealthMonitor()
    for _ in range(CERTAIN_TICKS - 1):
        assert watch.tick(0, 0.95) == []
    assert watch.tick(0, 0.5) == []  # it was not for long
    texts = [watch.tick(0, 0.95) for _ in range(CERTAIN_TICKS + 2)]
    assert [len(text) for text in texts] == [0] * (CERTAIN_TICKS - 1) + [
        1,
        0,
        0,
    ] and 'by heart' in texts[CERTAIN_TICKS - 1][0]


def test_warns_when_the_generator_collapses() -> None:
    rng = np.random.RandomState(0)
    reals = rng.randint(0, 256, [20, 3, 32, 32], dtype=np.uint8)
    same = np.repeat(reals[:1], 20, axis=0)
    watch = HealthMonitor()
    assert watch.pictures(reals[::-1], reals) == []
    assert 'only 0.00 times' in watch.pictures(same, reals)[0] and watch.pictures(same, reals) == []
    black_and_white = np.stack(
        [np.zeros([3, 32, 32], np.uint8), np.full([3, 32, 32], 255, np.uint8)]
    )
    assert diversity(black_and_white) == pytest.approx(255)


def test_warnings_reach_the_log(data: Path, tmp_path: Path) -> None:
    run_dir = run(data, tmp_path, '--aug=fixed', '--p=0.9')
    assert 'warning: p is 0.90' in (run_dir / 'log.txt').read_text()
