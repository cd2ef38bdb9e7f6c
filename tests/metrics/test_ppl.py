"""Perceptual path length: closed forms, the pairs that a generator draws, and LPIPS with weights
that are random.
"""

import json
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN

import calc_fid
import metrics.ppl as ppl
from dnnlib import UserError
from metrics.metric import metric_names
from metrics.ppl import PATH_KINDS, PathKind, path_length_metric, perceptual_path_length
from synthesis.noise import given_noise, picture_generator, seeded_noise
from synthesis.sampling import path_pairs
from training.networks import Generator
from training.snapshots import load_networks

UNCOND, COND = (str(GOLDEN / name) for name in ('ada-uncond-32.pkl', 'ada-cond-32.pkl'))


@pytest.fixture(scope='module')
def G() -> Generator:
    return load_networks(UNCOND).G_ema


def flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)


def test_closed_form() -> None:
    """Pictures that move evenly by v have the length |v|²; the two pairs of three hundred at either
    end are outliers.
    """
    a, v = torch.randn(300, 1, 16, 16, dtype=torch.float64), torch.ones(300, 1, 1, 1) / 16
    v[:2], v[2:4] = 100, 0
    assert perceptual_path_length(
        [(a[i : i + 7], (a + v * 0.01)[i : i + 7]) for i in range(0, 300, 7)], flat, epsilon=0.01
    ) == pytest.approx(1)
    a = torch.zeros(3, 1, 64, 64)
    b = a.clone()
    b[:, :, 24:56, 16:48] = 1e-4  # where the face is
    assert perceptual_path_length([(a, b)], flat, crop=True) == pytest.approx(32 * 32)
    b[:, :, 24:56, 16:48] = 0
    b[:, :, :24] = 1
    assert perceptual_path_length([(a, b)], flat, crop=True) == 0
    with pytest.raises(
        UserError, match='at least 16 pixels, these have 8 after cropping; ppl2_wend'
    ):
        perceptual_path_length([(a[:, :, :16, :16], a[:, :, :16, :16])], flat, crop=True)


def test_each_name_has_its_path_kind() -> None:
    kinds = {name: PATH_KINDS[name] for name in metric_names() if name.startswith('ppl')}
    assert kinds == {
        'ppl2_wend': PathKind('w', 'end', False),
        'ppl_zfull': PathKind('z', 'full', True),
        'ppl_wfull': PathKind('w', 'full', True),
        'ppl_zend': PathKind('z', 'end', True),
        'ppl_wend': PathKind('w', 'end', True),
    }
    assert PATH_KINDS['ppl'] == kinds['ppl2_wend']


@pytest.mark.parametrize('space', ['z', 'w'])
def test_pairs_lie_on_paths(G: Generator, space: str) -> None:
    with torch.no_grad():
        before = {name: buffer.clone() for name, buffer in G.named_buffers()}
        # the whole path: from one latent to the other
        (pair,) = path_pairs(G, 3, space=space, sampling='end', epsilon=1.0, seed=4)
        a, b = pair
        generators = [picture_generator(4, index) for index in range(3)]
        z = torch.stack(
            [
                torch.randn([2, G.z_dim], dtype=torch.float64, generator=generator)
                for generator in generators
            ],
            dim=1,
        ).float()
        with given_noise(G, seeded_noise(G, 4, range(3))):
            for ours, latent in zip((a, b), z):
                torch.testing.assert_close(
                    ours, G(latent, torch.zeros(3, 0), noise_mode='const'), rtol=1e-3, atol=1e-4
                )
        assert all(torch.equal(buffer, before[name]) for name, buffer in G.named_buffers())
        (full,) = path_pairs(G, 3, space=space, sampling='full', epsilon=0.0, seed=4)
        assert torch.allclose(*full, atol=1e-4) and not torch.allclose(full[0], a, atol=1e-2)


@pytest.mark.parametrize('sampling', ['full', 'end'])
@pytest.mark.parametrize('space', ['z', 'w'])
def test_pairs_depend_on_the_seed_only(space: str, sampling: str) -> None:
    cond = load_networks(COND).G_ema
    seen = []
    for batch in (1, 3, 7):
        torch.manual_seed(batch)
        pairs = list(
            path_pairs(
                cond, 7, space=space, sampling=sampling, epsilon=0.5, batch_size=batch, seed=2
            )
        )
        seen.append(torch.stack([torch.cat(side) for side in zip(*pairs)]))
    for other in seen[1:]:
        torch.testing.assert_close(other, seen[0], rtol=1e-4, atol=1e-4)
    (again,) = path_pairs(cond, 7, space=space, sampling=sampling, epsilon=0.5, seed=3)
    assert not torch.allclose(again[0], seen[0][0], atol=0.1)


def test_a_straight_path_halves_with_its_step(G: Generator) -> None:
    """d / epsilon² has a limit, and 1e-4 is near it in float32."""

    def length(epsilon: float) -> float:
        return perceptual_path_length(
            path_pairs(G, 12, space='w', sampling='end', epsilon=epsilon), flat, epsilon=epsilon
        )

    assert length(1e-4) == pytest.approx(length(1e-3), rel=0.05)


def test_pairs_take_labels_from_label_fn(G: Generator) -> None:
    cond = load_networks(COND).G_ema
    asked: list[int] = []

    def label_fn(count: int, _: torch.Generator) -> torch.Tensor:
        asked.append(count)
        return torch.eye(cond.c_dim)[[1] * count]

    sizes = [
        len(a)
        for a, _ in path_pairs(
            cond, 5, space='z', sampling='end', epsilon=1e-4, batch_size=2, label_fn=label_fn
        )
    ]
    assert sizes == [2, 2, 1] and sum(asked) == 5


class Flat(torch.nn.Module):
    def __init__(self, path: object) -> None:
        super().__init__()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return flat(images)


def test_path_lengths_by_calc_fid_and_by_training_agree(
    G: Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = tmp_path / 'vgg.pth'
    weights.write_bytes(b'')
    assert (
        calc_fid.main(
            [
                '--network',
                UNCOND,
                '--metrics=ppl2_wend',
                '--num=5',
                '--device=cpu',
                '--lpips-weights',
                str(weights),
            ]
        )
        == 2
    )
    assert 'vgg.pth' in capsys.readouterr().err
    monkeypatch.setattr(ppl, 'LPIPS', Flat)
    options = [
        '--network',
        UNCOND,
        '--num=5',
        '--device=cpu',
        '--lpips-weights',
        str(weights),
        '--seed=3',
    ]
    assert calc_fid.main([*options, '--metrics=ppl2_wend', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    expected = perceptual_path_length(
        path_pairs(G, 5, space='w', sampling='end', epsilon=1e-4, seed=3), flat
    )
    assert (
        report['results'] == {'ppl2_wend': pytest.approx(expected, rel=1e-5)}
        and report['num_fake'] == 5
        and report['real'] is None
    )
    assert calc_fid.main([*options, '--metrics=ppl']) == 0
    assert capsys.readouterr().out.startswith('Perceptual path length (ppl): ')
    by_training = path_length_metric(
        lambda num, **kind: path_pairs(G, 5, seed=3, **kind),
        device=torch.device('cpu'),
        weights_path=weights,
    )
    assert by_training('ppl2_wend', None) == (
        pytest.approx(expected, rel=1e-5),
        50000,
    )
