"""Noise of layers: drawn by a key, on a circle, put in place of the stored one."""

import pytest
import torch
from conftest import GOLDEN

from synthesis.noise import (
    given_noise,
    noise_layers,
    random_noise,
    stack_noise,
    stored_noise,
    turn_noise,
)
from synthesis.sampling import map_seeds
from training.networks import Generator
from training.snapshots import load_networks

LABEL = torch.zeros([1, 0])


@pytest.fixture(scope='module')
def G() -> Generator:
    return load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema


def test_random_noise_depends_on_its_key_and_turns_on_a_circle(G: Generator) -> None:
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
def test_each_picture_of_a_batch_gets_its_noise(G: Generator) -> None:
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
