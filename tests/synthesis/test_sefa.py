"""SeFa's directions."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from synthesis.sefa import factorize, style_layers
from training.networks import Generator
from training.snapshots import load_networks


@pytest.fixture(scope='module')
def G() -> Generator:
    return load_networks(GOLDEN / 'ada-uncond-32.pkl').G_ema


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
def test_sefa_is_the_closed_form(G: Generator, layers: Any) -> None:
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
