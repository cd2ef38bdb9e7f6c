"""Settings: defaults < preset < command line."""

import json

import pytest

from dnnlib import UserError
from training.config import (
    NetworkConfig,
    TrainingConfig,
    auto_rule,
    build_config,
    check,
    merge,
    run_name,
)
from training.presets import preset_names


def test_auto_rule() -> None:
    """The rule that users know, for one GPU and for eight."""
    for res, gpus, mb, mbstd, fmaps, lr in [
        (256, 1, 16, 4, 0.5, 0.0025),
        (512, 1, 8, 4, 1, 0.0025),
        (1024, 1, 4, 4, 1, 0.002),
        (64, 1, 32, 4, 0.5, 0.0025),
        (256, 8, 64, 4, 0.5, 0.0025),
        (1024, 8, 32, 4, 1, 0.002),
    ]:
        c = build_config('auto', res, gpus, {})
        assert (
            c.batch_size,
            c.network.mbstd_group_size,
            c.network.channel_base,
            c.optimizer.lr,
        ) == (mb, mbstd, 32768 * fmaps, lr)
        assert (
            c.loss.r1_gamma == pytest.approx(0.0002 * res**2 / mb)
            and c.ema.kimg == mb * 10 / 32
            and c.ema.rampup == 0.05
        )
        assert c.network.mapping_layers == 2 and c.total_kimg == 25000 and c.batch_gpu == mb // gpus


def test_auto_rule_gives_every_process_its_share_of_the_batch() -> None:
    assert auto_rule(256, 1)['batch_gpu'] == auto_rule(256, 1)['batch_size'] == 16
    assert (auto_rule(256, 8)['batch_size'], auto_rule(256, 8)['batch_gpu']) == (64, 8)
    assert auto_rule(1024, 64)['batch_gpu'] == 1, 'at least one picture a process'


@pytest.mark.parametrize(
    'name,kimg,mb,mbstd,fmaps,lr,gamma,ema,ramp,layers',
    [
        ('stylegan2', 25000, 32, 4, 1, 0.002, 10, 10, None, 8),
        ('paper256', 25000, 64, 8, 0.5, 0.0025, 1, 20, None, 8),
        ('paper512', 25000, 64, 8, 1, 0.0025, 0.5, 20, None, 8),
        ('paper1024', 25000, 32, 4, 1, 0.002, 2, 10, None, 8),
        ('cifar', 100000, 64, 32, 1, 0.0025, 0.01, 500, 0.05, 2),
    ],
)
def test_presets(
    name: str,
    kimg: float,
    mb: int,
    mbstd: int,
    fmaps: float,
    lr: float,
    gamma: float,
    ema: float,
    ramp: float,
    layers: int,
) -> None:
    c = build_config(name, 256, 1, {})
    assert (
        c.total_kimg,
        c.batch_size,
        c.network.mbstd_group_size,
        c.network.channel_base / 32768,
    ) == (kimg, mb, mbstd, fmaps)
    assert (
        c.optimizer.lr,
        c.loss.r1_gamma,
        c.ema.kimg,
        c.ema.rampup,
        c.network.mapping_layers,
    ) == (lr, gamma, ema, ramp, layers)
    assert (c.loss.pl_weight, c.loss.style_mixing_prob, c.network.d_architecture) == (
        (0, 0, 'orig') if name == 'cifar' else (2, 0.9, 'resnet')
    )


def test_every_preset_is_valid() -> None:
    assert {
        'auto',
        'stylegan2',
        'paper256',
        'paper512',
        'paper1024',
        'cifar',
        'toonify256',
        'demo',
    } <= set(preset_names())
    for name in preset_names():
        json.dumps(build_config(name, 256, 1, {}).to_dict())
    study = build_config('toonify256', 256, 1, {})
    assert (
        study.loss.r1_gamma,
        study.augment.pipe,
        study.augment.p,
        study.start_kimg,
        study.snapshot_ticks,
    ) == (50, 'bg', 0.328, 10, 1)


def test_command_line_wins() -> None:
    c = build_config('paper256', 256, 1, {'batch_size': 16, 'loss': {'r1_gamma': 3}})
    assert (c.batch_size, c.batch_gpu, c.loss.r1_gamma, c.loss.pl_weight) == (16, 8, 3, 2)
    assert build_config('paper256', 256, 1, {'batch_size': 4}).batch_gpu == 4


@pytest.mark.parametrize(
    'settings,words',
    [
        ({'batchsize': 4}, "unknown setting 'batchsize'; did you mean 'batch_size'"),
        ({'loss': {'r1_gama': 4}}, "did you mean 'r1_gamma'"),
        ({'batch_size': 'many'}, "'many' is not of type int"),
        ({'batch_size': True}, 'not of type int'),
        ({'optimizer': {'lr': 'fast'}}, 'not of type float'),
    ],
)
def test_bad_settings(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        merge(TrainingConfig(), settings, 'here')


def test_yaml_numbers() -> None:
    # PyYAML reads 1e-3 as text
    assert merge(TrainingConfig(), {'optimizer': {'eps': '1e-3'}}, 'x').optimizer.eps == 1e-3
    assert merge(NetworkConfig(), {'conv_clamp': None}, 'x').conv_clamp is None


@pytest.mark.parametrize(
    'overrides,words',
    [
        ({'batch_size': 10, 'batch_gpu': 4}, '--batch=10 must be a multiple'),
        ({'batch_size': 6, 'batch_gpu': 6}, 'multiple of 4'),
        ({'start_kimg': 10.0, 'total_kimg': 10.0}, '--kimg=10 must be more than 10'),
        ({'augment': {'p': 1.5}}, 'not 1.5'),
        ({'tick_kimg': 0.0}, '--tick=0'),
    ],
)
def test_impossible_settings(overrides: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_config('auto', 256, 1, overrides)


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match='--cfg=huge: no such preset; there are auto'):
        build_config('huge', 256, 1, {})


def test_run_name_is_a_file_name() -> None:
    c = merge(
        check(TrainingConfig()),
        {'data': {'path': '/a b/my faces!.zip', 'xflip': True}, 'network': {'freeze_layers': 4}},
        'x',
    )
    assert run_name(c) == 'my_faces_-auto-mirror-gamma10-ada_bgc-freezed4'
