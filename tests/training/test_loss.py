"""The loss terms and their gradients against reference vectors."""

import pytest
import torch
from conftest import GOLDEN, load_npz

from training import loss
from training.augment import AugmentPipe
from training.config import AUGPIPES
from training.snapshots import load_networks


@pytest.fixture(scope='module')
def data() -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value) for name, value in load_npz('losses').items()}


@pytest.fixture
def nets():  # type: ignore[no-untyped-def]
    nets = load_networks(GOLDEN / 'ada-uncond-32.pkl')
    for name, p in nets.G.named_parameters():
        if name.endswith('noise_strength'):
            p.zero_()
    nets.G.train().requires_grad_(True)
    nets.D.train().requires_grad_(True)
    return nets


C = torch.zeros(4, 0)


def check_gradients(data: dict, term: str, module: torch.nn.Module, value: torch.Tensor) -> None:
    value.mean().backward()
    names = [key.split(':', 2)[2] for key in data if key.startswith(f'grad_norm:{term}:')]
    assert len(names) > 20
    parameters = dict(module.named_parameters())
    for name in names:
        grad = parameters[name].grad
        norm = 0.0 if grad is None else grad.norm().item()
        assert norm == pytest.approx(data[f'grad_norm:{term}:{name}'].item(), rel=1e-3, abs=1e-9), (
            name
        )


def test_G_main(data: dict, nets) -> None:  # type: ignore[no-untyped-def]
    terms = loss.G_main(nets.G, nets.D, lambda x: x, data['z'], C, update_w_avg=False)
    torch.testing.assert_close(terms.loss, data['G_main'], atol=1e-4, rtol=0)
    check_gradients(data, 'G_main', nets.G, terms.loss)


def test_G_pl(data: dict, nets) -> None:  # type: ignore[no-untyped-def]
    noise = data['pl_noise'] / 32  # the reference holds it before the division by √(H·W)
    terms = loss.G_pl(
        nets.G,
        data['z'][:2],
        C[:2],
        torch.zeros([]),
        pl_decay=0.01,
        pl_noise=noise,
        update_w_avg=False,
    )
    torch.testing.assert_close(terms.lengths, data['pl_lengths'], atol=1e-4, rtol=0)
    torch.testing.assert_close(terms.penalty, data['pl_penalty'], atol=1e-4, rtol=0)
    torch.testing.assert_close(terms.mean, data['pl_lengths'].mean() * 0.01)
    check_gradients(data, 'G_pl', nets.G, terms.penalty * 2)


def test_D_main(data: dict, nets) -> None:  # type: ignore[no-untyped-def]
    terms = loss.D_main(nets.G, nets.D, lambda x: x, data['z'], C, data['real'], C)
    torch.testing.assert_close(terms.loss_gen, data['D_gen'], atol=1e-4, rtol=0)
    torch.testing.assert_close(terms.loss_real, data['D_real'], atol=1e-4, rtol=0)
    check_gradients(data, 'D_main', nets.D, terms.loss_gen + terms.loss_real)
    assert all(p.grad is None for p in nets.G.parameters())


@pytest.mark.parametrize(
    'percentile,key,term', [(None, 'r1_penalty', 'D_r1'), (0.7, 'r1_penalty_aug_p0.7', 'D_r1_aug')]
)
def test_D_r1(data: dict, nets, percentile: float | None, key: str, term: str) -> None:  # type: ignore[no-untyped-def]
    pipe = AugmentPipe(**dict.fromkeys(AUGPIPES['bgc'], 1))
    augment = (
        (lambda x: x) if percentile is None else (lambda x: pipe(x, debug_percentile=percentile))
    )
    terms = loss.D_r1(nets.D, augment, data['real'], C)
    torch.testing.assert_close(terms.penalty, data[key], atol=1e-4, rtol=1e-3)
    check_gradients(data, term, nets.D, terms.penalty * 5)


def test_style_mixing(nets) -> None:  # type: ignore[no-untyped-def]
    G, z = nets.G, torch.randn(4, nets.G.z_dim)
    plain = G.mapping(z, C, update_emas=False)
    assert torch.equal(loss.mixed_ws(G, z, C, 0, update_w_avg=False), plain)
    cutoffs = set()
    for seed in range(40):
        torch.manual_seed(seed)
        ws = loss.mixed_ws(G, z, C, 1.0, update_w_avg=False)
        same = (ws == plain).all(dim=2)
        cutoff = int(same[0].sum())
        # the first layers of one latent, the others of another
        assert same[:, :cutoff].all() and not same[:, cutoff:].any()
        cutoffs.add(cutoff)
    assert cutoffs == set(range(1, G.num_ws))
