"""ws and noise out of files, ways between ws, SeFa's directions."""

import pickle
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib import UserError
from synthesis.interpolation import EASINGS, positions, slerp
from synthesis.latents import read_ws, save_ws
from synthesis.noise import (
    given_noise,
    noise_layers,
    random_noise,
    stack_noise,
    stored_noise,
    turn_noise,
)
from synthesis.sampling import map_seeds, truncate
from synthesis.sefa import factorize, style_layers
from training.networks import Generator
from training.snapshots import load_networks

LABEL = torch.zeros([1, 0])


@pytest.fixture(scope='module')
def G() -> Any:
    return load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema


def test_ws_and_truncation_are_those_of_the_mapping(G: Any) -> None:
    z = torch.from_numpy(
        np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in (3, 4)]).astype(np.float32)
    )
    for psi in (1, 0.5, 0, -1):
        torch.testing.assert_close(
            truncate(G, map_seeds(G, [3, 4], LABEL), psi), G.mapping(z, None, truncation_psi=psi)
        )


def test_files_come_back(G: Any, tmp_path: Path) -> None:
    ws, noises = map_seeds(G, [1, 2, 3], LABEL), [random_noise(G, [i]) for i in range(3)]
    save_ws(tmp_path / 'new' / 'a.npz', list(ws), noises)
    again, again_noises = read_ws(tmp_path / 'new' / 'a.npz', G)
    assert torch.equal(again, ws) and all(
        torch.equal(a[name], b[name]) for a, b in zip(noises, again_noises) for name in b
    )
    save_ws(tmp_path / 'b.npz', [ws[0]], [{}])
    assert read_ws(tmp_path / 'b.npz', G)[1] == [{}]
    shared = np.full([8, 8], 2.0, np.float16)
    np.savez(
        tmp_path / 'c.npz',
        **{'w': ws.numpy(), 'noise.b8.conv1': shared, 'cost': np.array([{}], dtype=object)},
    )
    assert all(
        torch.equal(noise['b8.conv1'], torch.full([8, 8], 2.0))
        for noise in read_ws(tmp_path / 'c.npz', G)[1]
    )


def bad_files(G: Any) -> dict[str, dict[str, Any]]:
    w = np.zeros([2, G.num_ws, G.w_dim], np.float32)
    broken = w.copy()
    broken[1, 0, 0] = np.nan
    noise = np.zeros([8, 8])
    return {
        'no array w in it; it has ws': {'ws': w},
        'not finite': {'w': broken},
        'this network needs floats': {'w': w[:, :5]},
        'floats': {'w': w.astype(int)},
        r'\[0, ': {'w': w[:0]},
        r'\[8, ': {'w': w[0]},
        'holds object': {'w': np.array([{}], dtype=object)},
        'b8.conv0 is float64': {'w': w, 'noise.b8.conv0': noise[:4]},
        r'or \[2, 8, 8\]': {'w': w, 'noise.b8.conv0': np.zeros([3, 8, 8])},
        'no such layer': {'w': w, 'noise.b64.conv0': noise},
        'noise.b8.conv1 has numbers': {'w': w, 'noise.b8.conv1': noise + np.inf},
        'needs floats.*8, 8': {'w': w, 'noise.b8.conv1': noise.astype(complex)},
        'w has numbers': {'w': w.astype(np.float64) + 1e300},
        'b16.conv0 has numbers': {'w': w, 'noise.b16.conv0': np.full([16, 16], 1e300)},
    }


def test_bad_files_are_one_line(G: Any, tmp_path: Path) -> None:
    path = tmp_path / 'a.npz'
    for words, arrays in bad_files(G).items():
        np.savez(path, **arrays)
        with pytest.raises(UserError, match=words) as caught:
            read_ws(path, G)
        assert str(path) in str(caught.value) and '\n' not in str(caught.value)
    save_ws(path, list(map_seeds(G, [1], LABEL)), [{}])
    whole = path.read_bytes()
    with zipfile.ZipFile(tmp_path / 'raw.npz', 'w') as archive:
        archive.writestr('w', b'12345')
    np.save(tmp_path / 'plain.npy', np.zeros(3))
    for name, data in {
        'cut': whole[:-40],
        'text': b'hello',
        'empty': b'',
        'pickle': pickle.dumps({'w': 1}),
        'npy': (tmp_path / 'plain.npy').read_bytes(),
        'raw': (tmp_path / 'raw.npz').read_bytes(),
        'flipped': whole[:300] + b'XXXX' + whole[304:],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            read_ws(tmp_path / name, G)
    with pytest.raises(UserError, match='cannot be read'):
        read_ws(tmp_path, G)
    with pytest.raises(UserError, match='no such file'):
        read_ws(tmp_path / 'nowhere.npz', G)


def test_a_file_that_unfolds(G: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('synthesis.latents.MAX_UNPACKED', 1 << 20)
    np.savez_compressed(tmp_path / 'a.npz', w=np.zeros([1 << 18], np.float64))
    assert (tmp_path / 'a.npz').stat().st_size < 1 << 14
    with pytest.raises(UserError, match='unpacks to 2 MB'):
        read_ws(tmp_path / 'a.npz', G)


def test_noise(G: Any) -> None:
    assert list(noise_layers(G)) == [
        'b4.conv1',
        *(f'b{res}.conv{i}' for res in (8, 16, 32) for i in (0, 1)),
    ]
    one, same, other = (random_noise(G, key) for key in ([5], [5], [5, 1]))
    assert all(
        torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])
        for name in one
    )
    large = torch.cat([noise.flatten() for noise in one.values()])
    assert abs(large.mean()) < 0.1 and abs(large.std() - 1) < 0.05
    assert torch.equal(turn_noise(one, other, 0)['b32.conv1'], one['b32.conv1'])
    quarter, whole = turn_noise(one, other, 0.25), turn_noise(one, other, 1)
    for name in one:
        torch.testing.assert_close(quarter[name], other[name], atol=1e-5, rtol=0)
        torch.testing.assert_close(whole[name], one[name], atol=1e-5, rtol=0)
    assert (
        abs(torch.cat([x.flatten() for x in turn_noise(one, other, 0.125).values()]).std() - 1)
        < 0.05
    )


@torch.no_grad()
def test_noise_of_each_picture(G: Any) -> None:
    ws = map_seeds(G, [1, 2], LABEL)
    before, stored = G.synthesis(ws, noise_mode='const'), stored_noise(G)
    noises = [random_noise(G, [i]) for i in range(2)]
    with given_noise(G, stack_noise(noises)):
        pair = G.synthesis(ws, noise_mode='const')
    for i in range(2):
        with given_noise(G, stack_noise(noises[i : i + 1])):
            torch.testing.assert_close(
                G.synthesis(ws[i : i + 1], noise_mode='const')[0], pair[i], atol=1e-4, rtol=1e-4
            )
    assert (pair - before).abs().mean() > 0.01
    with given_noise(G, stack_noise([stored, stored])):
        assert torch.equal(G.synthesis(ws, noise_mode='const'), before)
    with pytest.raises(RuntimeError), given_noise(G, stack_noise(noises)):
        raise RuntimeError
    assert torch.equal(G.synthesis(ws, noise_mode='const'), before) and list(
        G.synthesis.b8.conv0.noise_const.shape
    ) == [8, 8]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 40), st.sampled_from(sorted(EASINGS)), st.booleans())
def test_positions(stops: int, frames: int, easing: str, loop: bool) -> None:
    places = list(positions(stops, frames, easing, loop))
    assert len(places) == frames and places[0] == (0, 1, 0.0)
    assert all(0 <= a < stops and b == (a + 1) % stops and 0 <= t <= 1 for a, b, t in places)
    along = [a + t for a, _, t in places]
    assert all(later >= earlier for earlier, later in pairwise(along))
    if loop:
        assert along[-1] < stops
    elif frames > 1:
        assert along[-1] == stops - 1
    if easing == 'linear' and frames > 2:
        np.testing.assert_allclose(
            np.diff(along), (stops if loop else stops - 1) / (frames if loop else frames - 1)
        )


@pytest.mark.parametrize('easing', EASINGS)
def test_easings(easing: str) -> None:
    ease = EASINGS[easing]
    assert [ease(0), ease(0.5), ease(1)] == [0, 0.5, 1]
    t = np.linspace(0, 1, 101)
    values = np.array([ease(x) for x in t])
    np.testing.assert_allclose(values, 1 - values[::-1], atol=1e-12)
    assert (np.diff(values) > 0).all() and (easing == 'linear' or values[10] < 0.05)


def test_slerp() -> None:
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0, 4.0, 0])
    torch.testing.assert_close(slerp(a, b, 1 / 3), torch.tensor([3**0.5 / 2, 0.5, 0]) * (2 + 2 / 3))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.randn([2, 64], generator=generator)
        points = [slerp(a, b, t) for t in np.linspace(0, 1, 5).tolist()]
        torch.testing.assert_close(points[0], a)
        torch.testing.assert_close(points[-1], b)
        angles = [torch.acos(torch.cosine_similarity(x, y, dim=0)) for x, y in pairwise(points)]
        torch.testing.assert_close(torch.stack(angles), angles[0].expand(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(slerp(a, a * 3, 0.5), a * 2)
    assert torch.isfinite(slerp(a, -a, 0.5)).all() and torch.isfinite(slerp(a, -a, 0.25)).all()


@pytest.mark.parametrize('architecture', ['skip', 'resnet', 'orig'])
def test_style_layers_are_those_that_read_each_w(architecture: str) -> None:
    G = Generator(
        8,
        0,
        8,
        16,
        3,
        mapping_kwargs=dict(num_layers=1),
        architecture=architecture,
        channel_base=64,
        channel_max=8,
    )
    read = []
    for layer in style_layers(G):
        layer.affine.register_forward_pre_hook(lambda _, args: read.append(float(args[0][0, 0])))
    G.synthesis(torch.arange(G.num_ws).float()[None, :, None].repeat(1, 1, 8))
    assert read == list(range(G.num_ws)) and len(style_layers(G)) == G.num_ws


@pytest.mark.parametrize('layers', [range(8), [2, 3]])
def test_sefa_is_the_closed_form(G: Any, layers: Any) -> None:
    directions, eigenvalues = factorize(G, layers)
    assert directions.dtype == torch.float64
    A = np.concatenate(
        [style_layers(G)[i].affine.weight.numpy().astype(np.float64) for i in layers]
    )
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    _, singular, vectors = np.linalg.svd(A, full_matrices=False)
    np.testing.assert_allclose(eigenvalues[: len(singular)], singular**2, atol=1e-9)
    for i in range(3):
        assert abs(vectors[i] @ directions[i].numpy()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(directions @ directions.t(), np.eye(len(directions)), atol=1e-9)
    change = np.linalg.norm(A @ directions.numpy().T, axis=0)
    assert (np.diff(change) < 1e-9).all()
    other = np.random.RandomState(0).randn(G.w_dim, 100)
    assert (np.linalg.norm(A @ (other / np.linalg.norm(other, axis=0)), axis=0) < change[0]).all()
    assert (directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)) > 0).all()
