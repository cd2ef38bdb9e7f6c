"""Latents to ws and pictures; random pictures for metrics."""

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from synthesis.noise import (
    given_noise,
    noise_layers,
    seeded_noise,
)
from synthesis.sampling import map_seeds, render, sample_images, truncate
from training.networks import Generator
from training.snapshots import load_networks

PLAIN, COND = str(GOLDEN / 'ada-uncond-32.pkl'), str(GOLDEN / 'ada-cond-32.pkl')


@pytest.fixture(scope='module')
def G() -> Generator:
    return load_networks(PLAIN).G_ema


def test_ws_and_truncation_are_those_of_the_mapping(G: Generator) -> None:
    z = torch.from_numpy(
        np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in (3, 4)]).astype(np.float32)
    )
    for psi in (1, 0.5, 0, -1):
        torch.testing.assert_close(
            truncate(G, map_seeds(G, [3, 4], torch.zeros([1, 0])), psi),
            G.mapping(z, None, truncation_psi=psi),
        )


def test_samples_come_in_batches_and_are_repeatable() -> None:
    G = load_networks(COND).G_ema
    first, second = (
        list(sample_images(G, 7, batch_size=3, seed=1, noise_mode='const')) for _ in range(2)
    )
    assert [len(batch) for batch in first] == [3, 3, 1] and first[0].dtype == torch.uint8
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    fixed = torch.cat(
        list(
            sample_images(
                G, 7, seed=1, noise_mode='const', label_fn=lambda n, _: torch.eye(3)[[0] * n]
            )
        )
    )
    assert not torch.equal(fixed, torch.cat(first))


@pytest.mark.parametrize('path', [COND, PLAIN])
def test_samples_depend_on_the_seed_only(path: str) -> None:
    G = load_networks(path).G_ema
    for layer in noise_layers(G).values():
        layer.noise_strength.data.fill_(0.3)
    seen = []
    for batch in (1, 3, 8):
        torch.manual_seed(batch)  # what ran before
        seen.append(torch.cat(list(sample_images(G, 8, batch_size=batch, seed=5))).short())
    assert all((other - seen[0]).abs().max() <= 1 for other in seen), (
        'but for the last bit of a sum'
    )
    assert torch.equal(
        torch.cat(list(sample_images(G, 3, batch_size=3, seed=5))).short(), seen[1][:3]
    ), 'fewer are the first of more'
    without = torch.cat(list(sample_images(G, 8, seed=5, noise_mode='none'))).short()
    assert (seen[0] - without).abs().float().mean() > 1, 'there is noise'
    assert (torch.cat(list(sample_images(G, 8, seed=6))).short() - seen[0]).abs().float().mean() > 5
    zero = torch.zeros(3, G.z_dim)
    with given_noise(G, seeded_noise(G, 1, range(3))):
        drawn = render(G, zero, torch.zeros(3, G.c_dim))
    assert not torch.equal(drawn[0], drawn[1]), 'each its own'
