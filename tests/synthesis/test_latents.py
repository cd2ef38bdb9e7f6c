"""ws and noise in files."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from dnnlib import UserError
from synthesis.latents import read_ws, save_ws
from synthesis.noise import random_noise
from synthesis.sampling import map_seeds
from training.networks import Generator
from training.snapshots import load_networks

LABEL = torch.zeros([1, 0])


@pytest.fixture(scope='module')
def G() -> Generator:
    return load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema


def test_saved_ws_and_noise_are_read_back(G: Generator, tmp_path: Path) -> None:
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


def bad_files(G: Generator) -> dict[str, dict[str, Any]]:
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


def test_bad_files_are_one_line(G: Generator, tmp_path: Path) -> None:
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


def test_npz_that_unpacks_too_large_is_refused(
    G: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('synthesis.latents.MAX_UNPACKED', 1 << 20)
    np.savez_compressed(tmp_path / 'a.npz', w=np.zeros([1 << 18], np.float64))
    assert (tmp_path / 'a.npz').stat().st_size < 1 << 14
    with pytest.raises(UserError, match='unpacks to 2 MB'):
        read_ws(tmp_path / 'a.npz', G)
