"""Layer swapping: every tensor the mix of its parents that the plan states."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import expit
from two_networks import generator, networks, pair, run, snapshots

import blend
from dnnlib import UserError
from synthesis.blending import (
    RULES,
    BlendPlan,
    blend_generators,
    blend_networks,
    lineage_warning,
    parse_mapping,
    parse_weights,
)
from torch_utils.misc import named_tensors
from training.networks import Generator
from training.snapshots import Networks, is_descendant, load_networks

BUFFERS = ('noise_const', 'resample_filter', 'w_avg')
PLAIN, COND = str(GOLDEN / 'ada-uncond-32.pkl'), str(GOLDEN / 'ada-cond-32.pkl')


def assert_same(one: Generator, other: Generator) -> None:
    theirs = dict(named_tensors(other))
    for name, tensor in named_tensors(one):
        assert torch.equal(tensor, theirs[name]), name


# ----------------------------------------------------------------------------
# Every rule and mask, over random architectures

FEW_SHARES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


@st.composite
def plans(draw: st.DrawFn, log2: int) -> BlendPlan:
    resolution = 2 ** draw(st.integers(2, log2))
    level = draw(st.sampled_from([None, 0, 1]))
    width = draw(st.one_of(st.none(), st.floats(0.01, 20)))
    kind = draw(st.sampled_from(['swap', 'weights', 'pinkney', 'dvschultz', 'vtoonify']))
    if kind == 'swap':
        return BlendPlan(resolution, level, width, mapping=draw(st.one_of(st.none(), FEW_SHARES)))
    if kind == 'weights':
        return BlendPlan(
            weights={2**i: draw(FEW_SHARES) for i in range(2, log2 + 1)},
            mapping=draw(st.one_of(st.none(), FEW_SHARES)),
        )
    if kind == 'pinkney':
        return BlendPlan(resolution, level, width, rule='pinkney')
    return (
        BlendPlan(resolution, rule='dvschultz')
        if kind == 'dvschultz'
        else BlendPlan(rule='vtoonify')
    )


def stated_share(name: str, plan: BlendPlan) -> float:
    """What the documentation says, written another way than in the code."""
    parts = name.split('.')
    if plan.rule in ('pinkney', 'dvschultz') and (parts[0] == 'mapping' or parts[-1] in BUFFERS):
        return 0.0
    if parts[0] == 'mapping':
        return 1.0 if plan.rule == 'vtoonify' else plan.mapping or 0.0
    resolution, half = int(parts[1][1:]), parts[2] in ('conv1', 'torgb')
    if plan.rule == 'vtoonify':
        return float(resolution > 32)
    if plan.weights is not None:
        return plan.weights[resolution]
    assert plan.swap_resolution is not None
    halves = [(2**i, half) for i in range(2, 12) for half in (False, True)]
    distance = halves.index((resolution, half)) - halves.index(
        (plan.swap_resolution, plan.swap_level == 1)
    )
    return (
        float(distance > 1)
        if plan.blend_width is None
        else float(expit(distance / plan.blend_width))
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 6),
    st.sampled_from(['skip', 'resnet', 'orig']),
    st.sampled_from([0, 3]),
    st.integers(1, 3),
    st.data(),
)
def test_each_tensor_is_the_stated_mix(
    log2: int, architecture: str, c_dim: int, layers: int, data: st.DataObject
) -> None:
    plan = data.draw(plans(log2))
    low, high = pair(log2, architecture, c_dim, layers)
    blended, ours, theirs = (
        dict(named_tensors(G)) for G in (blend_generators(low, high, plan), low, high)
    )
    assert blended.keys() == ours.keys()
    for name, tensor in blended.items():
        share = stated_share(name, plan)
        assert tensor.dtype == torch.float32
        if share in (0, 1):
            assert torch.equal(tensor, (ours, theirs)[int(share)][name]) and not torch.equal(
                tensor, (theirs, ours)[int(share)][name]
            ), name
        else:
            want = ours[name].double() * (1 - share) + theirs[name].double() * share
            torch.testing.assert_close(tensor.double(), want, rtol=1e-6, atol=1e-7, msg=name)
    assert stated_share('mapping.fc0.weight', plan) == plan.mapping_share
    for res, shares in plan.shares(low.synthesis.block_resolutions).items():
        assert shares == pytest.approx(
            [stated_share(f'synthesis.b{res}.{part}.weight', plan) for part in ('conv0', 'conv1')],
            abs=1e-12,
        )


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 6),
    st.sampled_from(['skip', 'resnet', 'orig']),
    st.sampled_from([0, 3]),
    st.booleans(),
    st.data(),
)
def test_everything_from_one_parent_is_its_picture(
    log2: int, architecture: str, c_dim: int, from_high: bool, data: st.DataObject
) -> None:
    low, high = (
        generator(log2, architecture, c_dim, 2, seed, conv_clamp=clamp)
        for seed, clamp in ((0, 0.3), (1, None))
    )
    share, top = float(from_high), 2**log2
    choices = [BlendPlan(weights={2**i: share for i in range(2, log2 + 1)}, mapping=share)]
    if not from_high:
        choices += [
            BlendPlan(top),
            BlendPlan(top, 1),
            BlendPlan(top, rule='pinkney'),
            BlendPlan(top, rule='dvschultz'),
        ]
    z, c = torch.randn(2, 8), torch.eye(3)[[0, 2]] if c_dim else None
    same = blend_generators(low, high, data.draw(st.sampled_from(choices)))
    parent = high if from_high else low
    assert torch.equal(
        same(z, c, noise_mode='const', truncation_psi=0.5),
        parent(z, c, noise_mode='const', truncation_psi=0.5),
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.data())
def test_a_network_with_itself_is_itself(log2: int, data: st.DataObject) -> None:
    G = generator(log2, 'skip', 0, 2, 0)
    assert_same(blend_generators(G, G, data.draw(plans(log2))), G)


# ----------------------------------------------------------------------------
# The exact tensors that people know from other projects


def whole_from_high(plan: BlendPlan) -> set[str]:
    """What a 64 px network takes whole from the high one, as `resolution.layer`; nothing may be
    mixed.
    """
    names = [name for name, _ in named_tensors(generator(6, 'skip', 0, 2, 0))]
    assert {plan.share_of(name) for name in names} <= {0.0, 1.0}
    return {name.replace('synthesis.b', '') for name in names if plan.share_of(name) == 1}


def layer(name: str) -> set[str]:
    return {
        f'{name}.{tensor}'
        for tensor in ('weight', 'bias', 'noise_strength', 'affine.weight', 'affine.bias')
    }


def block(resolution: int) -> set[str]:
    return (
        layer(f'{resolution}.conv0')
        | layer(f'{resolution}.conv1')
        | layer(f'{resolution}.torgb') - {f'{resolution}.torgb.noise_strength'}
    )


def buffers(resolution: int) -> set[str]:
    return {
        f'{resolution}.{name}'
        for name in (
            'resample_filter',
            'conv0.resample_filter',
            'conv0.noise_const',
            'conv1.resample_filter',
            'conv1.noise_const',
        )
    }


MAPPING = {
    'mapping.fc0.weight',
    'mapping.fc0.bias',
    'mapping.fc1.weight',
    'mapping.fc1.bias',
    'mapping.w_avg',
}


@pytest.mark.parametrize(
    'plan,want',
    [
        (BlendPlan(16), block(32) | block(64) | buffers(32) | buffers(64)),
        (BlendPlan(16, mapping=1), block(32) | block(64) | buffers(32) | buffers(64) | MAPPING),
        (BlendPlan(16, 0, rule='pinkney'), block(32) | block(64)),
        (BlendPlan(16, 1, rule='pinkney'), (block(32) | block(64)) - layer('32.conv0')),
        (BlendPlan(32, 1, rule='pinkney'), block(64) - layer('64.conv0')),
        (BlendPlan(64, 0, rule='pinkney'), set()),
        (BlendPlan(64, 1, rule='pinkney'), set()),
        (BlendPlan(16, rule='dvschultz'), block(32) | block(64)),
        (BlendPlan(4, rule='dvschultz'), block(8) | block(16) | block(32) | block(64)),
        (BlendPlan(rule='vtoonify'), block(64) | buffers(64) | MAPPING),
    ],
)
def test_exact_tensors(plan: BlendPlan, want: set[str]) -> None:
    assert whole_from_high(plan) == want


def test_the_logistic_of_pinkney() -> None:
    want = {
        'b4.const': 0.0179862,
        'b4.conv1.weight': 0.0474259,
        'b4.torgb.bias': 0.0474259,
        'b8.conv0.affine.weight': 0.1192029,
        'b8.conv1.bias': 0.2689414,
        'b16.conv0.weight': 0.5,
        'b16.conv0.noise_strength': 0.5,
        'b16.conv1.weight': 0.7310586,
        'b16.torgb.weight': 0.7310586,
        'b32.conv0.weight': 0.8807971,
        'b32.conv1.weight': 0.9525741,
        'b64.torgb.affine.bias': 0.9933071,
    }
    plan = BlendPlan(16, 0, 1, rule='pinkney')
    for name, share in want.items():
        assert plan.share_of(f'synthesis.{name}') == pytest.approx(share, abs=5e-8), name
        assert BlendPlan(16, 0, 1).share_of(f'synthesis.{name}') == plan.share_of(
            f'synthesis.{name}'
        )
    for name in (
        'synthesis.b64.conv1.noise_const',
        'synthesis.b64.resample_filter',
        'mapping.w_avg',
        'mapping.fc0.weight',
    ):
        assert plan.share_of(name) == 0
    assert BlendPlan(16, 0, 1).share_of('synthesis.b16.conv1.noise_const') == pytest.approx(
        0.7310586
    )
    assert BlendPlan(16, 1, 2).share_at(16, 1) == 0.5 and BlendPlan(16, 1, 2).share_at(
        32, 1
    ) == pytest.approx(0.7310586)
    sudden, wide = BlendPlan(16, 1, 1e-320), BlendPlan(16, 0, 1e300)
    assert [
        sudden.share_at(16, 0),
        sudden.share_at(16, 1),
        sudden.share_at(32, 0),
    ] == pytest.approx([0, 0.5, 1]) and wide.share_at(64, 1) == 0.5


# ----------------------------------------------------------------------------
# Refusals


@pytest.mark.parametrize(
    'options,words',
    [
        (dict(), '--swap-resolution is missing'),
        (dict(mapping=0.5), '--swap-resolution is missing'),
        (dict(rule='pinkney'), '--swap-resolution is missing'),
        (dict(swap_resolution=8, weights={4: 0}), '--swap-resolution contradicts --weights'),
        (dict(swap_level=0, weights={4: 0}), '--swap-level contradicts'),
        (dict(blend_width=1, weights={4: 0}), '--blend-width contradicts'),
        (dict(rule='pinkney', weights={4: 0}), '--weights contradicts --rule=pinkney'),
        (
            dict(rule='pinkney', swap_resolution=8, mapping=0),
            '--mapping contradicts --rule=pinkney',
        ),
        (
            dict(rule='dvschultz', swap_resolution=8, swap_level=0),
            '--swap-level contradicts --rule=dvschultz',
        ),
        (
            dict(rule='dvschultz', swap_resolution=8, blend_width=1),
            '--blend-width contradicts --rule=dvschultz',
        ),
        (
            dict(rule='vtoonify', swap_resolution=32),
            '--swap-resolution contradicts --rule=vtoonify',
        ),
        (dict(rule='toonify'), '--rule=toonify'),
        (dict(swap_resolution=8, swap_level=2), '--swap-level=2'),
        (dict(swap_resolution=8, blend_width=0), '--blend-width=0'),
        (dict(swap_resolution=8, blend_width=-1), '--blend-width=-1'),
        (dict(swap_resolution=8, blend_width=float('nan')), '--blend-width=nan'),
        (dict(swap_resolution=8, mapping=1.5), '--mapping: 1.5'),
        (dict(weights={4: 0, 8: -0.1}), '--weights at 8 px: -0.1'),
    ],
)
def test_contradictions(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        BlendPlan(**options)


@pytest.mark.parametrize('swap', [0, 2, 3, 64, -4])
def test_resolution_must_be_one_of_the_networks(swap: int) -> None:
    with pytest.raises(
        UserError, match=f'--swap-resolution={swap}: these networks have the resolutions 4, 8, 16$'
    ):
        blend_generators(*pair(), BlendPlan(swap))


@pytest.mark.parametrize(
    'weights,words',
    [
        ({4: 0, 16: 1}, '8 is left out'),
        ({4: 0, 8: 0, 16: 1, 32: 1}, '32 is none of them'),
        ({}, '4 is left out'),
    ],
)
def test_weights_name_every_resolution(weights: dict[int, float], words: str) -> None:
    with pytest.raises(
        UserError, match=f'--weights: these networks have the resolutions 4, 8, 16, and {words}'
    ):
        blend_generators(*pair(), BlendPlan(weights=weights))


def test_different_networks_are_refused() -> None:
    low = generator(4, 'skip', 0, 2, 0)
    for other, words in [
        (generator(5, 'skip', 0, 2, 1), 'pictures of 16×16, --high of 32×32'),
        (generator(4, 'skip', 0, 3, 1), r'mapping\.fc2'),
        (generator(4, 'resnet', 0, 2, 1), 'skip'),
        (generator(4, 'skip', 2, 2, 1), r'mapping\.embed'),
        (
            generator(4, 'skip', 0, 2, 1, activation='relu'),
            r'activation of synthesis\.b4\.conv1 is lrelu in --low and relu in --high',
        ),
        (
            Generator(
                8,
                0,
                8,
                16,
                3,
                mapping_kwargs=dict(num_layers=2, lr_multiplier=1),
                channel_base=64,
                channel_max=8,
            ),
            r'gain of mapping\.fc0 is',
        ),
    ]:
        with pytest.raises(UserError, match=words):
            blend_generators(low, other, BlendPlan(8))
    wide = Generator(
        8, 0, 8, 16, 3, mapping_kwargs=dict(num_layers=2), channel_base=64, channel_max=16
    )
    with pytest.raises(UserError, match=r'is \[8.*in --low and \[16'):
        blend_generators(low, wide, BlendPlan(8))


def test_precision_may_differ() -> None:
    low, high = (
        generator(4, 'skip', 0, 2, 0, conv_clamp=256, num_fp16_res=2),
        generator(4, 'skip', 0, 2, 1),
    )
    assert blend_generators(low, high, BlendPlan(8)).synthesis.b16.conv1.conv_clamp == 256  # type: ignore[union-attr]
    assert blend_generators(high, low, BlendPlan(8)).synthesis.b16.conv1.conv_clamp is None  # type: ignore[union-attr]


def test_texts() -> None:
    choices = next(param.type for param in blend.command.params if param.name == 'rule')
    assert tuple(choices.choices) == RULES  # type: ignore[attr-defined]
    assert parse_weights('4:0, 8:0.25,16:1') == {4: 0, 8: 0.25, 16: 1} and parse_weights(
        '4:.5,8:1.'
    ) == {4: 0.5, 8: 1}
    for text in ('', '4', '4:', '4:x', '4:0,4:1', '4:-1', 'a:1', '4:nan', '4:0,,8:1', '4:1e3'):
        with pytest.raises(UserError, match='--weights='):
            parse_weights(text)
    assert [parse_mapping(text) for text in ('low', 'high', '0', '1', '.25')] == [0, 1, 0, 1, 0.25]
    for text in ('middle', '1.1', '-0.5', 'nan', 'inf', ''):
        with pytest.raises(UserError, match=f'--mapping={re.escape(text)}'):
            parse_mapping(text)
    assert BlendPlan(8, 1, 1).describe([4, 8]) == 'mapping 0, 4 px 0.0474/0.119, 8 px 0.269/0.5'
    assert (
        BlendPlan(4, rule='dvschultz').describe([4, 8])
        == 'mapping 0, 4 px 0, 8 px 1; noise and other buffers 0'
    )


# ----------------------------------------------------------------------------
# Snapshots


def test_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    low, high = networks(0), networks(1)
    out = blend_networks(low, high, BlendPlan(8))
    assert out.G is not None and out.D is low.D
    assert torch.equal(out.G.synthesis.b16.conv0.weight, high.G.synthesis.b16.conv0.weight)  # type: ignore[union-attr]
    assert torch.equal(out.G_ema.synthesis.b16.conv0.weight, high.G_ema.synthesis.b16.conv0.weight)
    assert torch.equal(out.G_ema.mapping.w_avg, low.G_ema.mapping.w_avg)
    low_file, high_file = snapshots(tmp_path)
    assert (
        run(
            low_file,
            high_file,
            '--swap-resolution=8',
            '--output',
            tmp_path / 'out.pkl',
            '--preview',
            tmp_path / 'p.png',
            '--seeds=0-3',
        )
        == 0
    )
    said = capsys.readouterr()
    assert 'nothing says that one of these networks was fine-tuned from the other' in said.err
    assert 'mapping 0, 4 px 0, 8 px 0, 16 px 1\n' in said.out
    written = load_networks(tmp_path / 'out.pkl')
    assert_same(written.G_ema, out.G_ema)
    families = [row['name'] for row in written.meta['toonify']['parents']]
    assert families == ['low.pkl', 'high.pkl'] and is_descendant(written, load_networks(low_file))
    assert not is_descendant(load_networks(low_file), load_networks(high_file))
    preview = np.asarray(Image.open(tmp_path / 'p.png'))
    assert preview.shape == (48, 64, 3)
    assert not np.array_equal(preview[:16], preview[16:32]) and not np.array_equal(
        preview[16:32], preview[32:]
    )


@pytest.mark.parametrize(
    'suffix,options,rule,level,width,mapping,buffers,shares',
    [
        ('.pkl', '--swap-resolution=8', None, None, None, 0, 'shares', [0, 0, 0, 0, 1, 1]),
        (
            '.pt',
            '--swap-resolution=8 --swap-level=1 --blend-width=0.5 --rule=pinkney',
            'pinkney',
            1,
            0.5,
            0,
            'low',
            expit([-6, -4, -2, 0, 2, 4]),
        ),
        (
            '.safetensors',
            '--weights=4:0,8:0.5,16:1 --mapping=0.25',
            None,
            None,
            None,
            0.25,
            'shares',
            [0, 0, 0.5, 0.5, 1, 1],
        ),
        ('.pt', '--rule=vtoonify', 'vtoonify', None, None, 1, 'shares', [0, 0, 0, 0, 0, 0]),
    ],
)
def test_every_format_holds_settings_and_lineage(
    suffix: str,
    options: str,
    rule: str | None,
    level: int | None,
    width: float | None,
    mapping: float,
    buffers: str,
    shares: Any,
    tmp_path: Path,
) -> None:
    low, high = snapshots(tmp_path)
    assert run(low, high, *options.split(), '--output', tmp_path / f'out{suffix}') == 0
    own = load_networks(tmp_path / f'out{suffix}').meta['toonify']
    found = own['blend'].pop('shares')
    assert list(found) == ['4', '8', '16'] and sum(found.values(), []) == pytest.approx(
        list(shares), abs=1e-12
    )
    assert own['blend'] == dict(
        low=low.name,
        high=high.name,
        rule=rule,
        swap_resolution=8 if 'swap-res' in options else None,
        swap_level=level,
        blend_width=width,
        mapping=mapping,
        buffers=buffers,
    )
    assert [row['sha256'] for row in own['parents']] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (low, high)
    ]


def relative(sha256: str, *parents: str) -> Networks:
    rows = [
        {'name': f'{name}.pkl', 'sha256': name, 'kimg': None, 'preset': None} for name in parents
    ]
    return Networks(
        None,
        None,
        generator(2, 'skip', 0, 1, 0),
        None,
        {'path': f'{sha256}.pkl', 'sha256': sha256, 'toonify': {'parents': rows}},
    )


def test_warnings() -> None:
    base, tuned, again, sibling = (
        relative('base'),
        relative('tuned', 'base'),
        relative('again', 'tuned', 'base'),
        relative('sibling', 'base'),
    )
    for low, high in [(base, tuned), (tuned, base), (base, again), (again, tuned), (base, base)]:
        assert lineage_warning(low, high, BlendPlan(4)) is None
    assert 'nothing says' in str(
        lineage_warning(base, relative('stranger'))
    ) and 'only both from base.pkl' in str(lineage_warning(tuned, sibling))
    assert lineage_warning(tuned, base, BlendPlan(rule='vtoonify')) is None
    assert 'other way round' in str(lineage_warning(base, tuned, BlendPlan(rule='vtoonify')))
    unknown = Networks(None, None, base.G_ema, None, {})
    assert 'nothing says' in str(lineage_warning(unknown, unknown))
    tuned.meta['toonify']['parents'][0]['name'] = ['\x1b[2J\n' * 500]  # a file can say anything
    warning = lineage_warning(tuned, sibling)
    assert warning is not None and len(warning) < 250 and warning.isprintable()


def test_a_blend_descends_from_its_parents(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    low, high = snapshots(tmp_path)
    assert run(low, high, '--swap-resolution=4', '--output', tmp_path / 'first.pt') == 0
    capsys.readouterr()
    assert (
        run(
            tmp_path / 'first.pt',
            high,
            '--swap-resolution=8',
            '--output',
            tmp_path / 'second.safetensors',
        )
        == 0
    )
    assert 'warning' not in capsys.readouterr().err
    rows = load_networks(tmp_path / 'second.safetensors').meta['toonify']['parents']
    assert [row['name'] for row in rows] == ['first.pt', 'low.pkl', 'high.pkl']


# ----------------------------------------------------------------------------
# The script


def alone(**more: Any) -> dict:
    return {'--output': None, '--swap-resolution': None, '--grid': 'g.png', **more}


@pytest.mark.parametrize(
    'change,words',
    [
        ({'--low': 'nowhere.pkl'}, 'no such snapshot'),
        ({'--swap-resolution': '7'}, '4, 8, 16, 32'),
        ({'--output': 'out.txt'}, '.pkl'),
        ({'--high': COND}, 'differ'),
        ({'--mapping': 'middle'}, 'middle'),
        ({'--seeds': 'a'}, '--seeds=a'),
        ({'--swap-resolution': None}, '--swap-resolution is missing'),
        ({'--output': None}, '--output is missing'),
        ({'--swap-level': '2'}, '2 is not in the range'),
        ({'--blend-width': '0'}, '--blend-width=0'),
        ({'--blend-width': 'wide'}, 'no number'),
        ({'--weights': '4:0'}, 'contradicts --weights'),
        ({'--swap-resolution': None, '--weights': '4:0'}, '8 is left out'),
        ({'--rule': 'toonify'}, 'toonify'),
        ({'--rule': 'vtoonify'}, '--rule=vtoonify'),
        ({'--rule': 'dvschultz', '--blend-width': '1'}, '--rule=dvschultz'),
        ({'--preview': 'p.xyz'}, 'p.xyz'),
        ({'--grid': 'g'}, 'suffix'),
        ({'--class': '0'}, 'no picture is drawn'),
        ({'--class': '0', '--preview': 'p.png'}, 'knows no classes'),
        ({'--preview': 'p.png', '--seeds': '0-99999'}, 'choose'),
        (alone(**{'--swap-resolution': '8'}), '--grid alone'),
        (alone(**{'--weights': '4:0'}), '--weights has none'),
        (alone(**{'--rule': 'vtoonify'}), '--rule=vtoonify has none'),
        (alone(**{'--rule': 'dvschultz', '--swap-level': '0'}), '--rule=dvschultz'),
        ({'--grid': 'g.png', '--swap-resolution': None}, '--swap-resolution is missing'),
    ],
)
def test_bad_input(
    change: dict,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        '--low': PLAIN,
        '--high': PLAIN,
        '--swap-resolution': '8',
        '--output': 'out.pkl',
        **change,
    }
    assert (
        blend.main([word for pair in options.items() if pair[1] is not None for word in pair]) == 2
    )
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error, error
    assert list(tmp_path.iterdir()) == []
