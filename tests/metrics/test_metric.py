"""The table of metrics: each kind in `KINDS` is parsed, computed and described by what it says."""

import numpy as np
import pytest
import torch

from dnnlib import UserError
from metrics.compare import make_evaluator
from metrics.detectors import Detector
from metrics.features import FeatureCollector
from metrics.kind import Kind
from metrics.metric import KINDS, metric_names, parse_metrics, validate_metrics

COMPUTED = [kind for kind in KINDS.values() if kind.needs != 'generator']


class Flat(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1)


@pytest.fixture(scope='module')
def detector() -> Detector:
    return Detector('inception', '', Flat(), torch.device('cpu'), classifier=torch.eye(12))


@pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)
def test_names_belong_to_their_kind(kind: Kind) -> None:
    assert set(kind.names) <= set(metric_names())
    assert all(metric.kind is kind for metric in validate_metrics(kind.names))
    (short,) = parse_metrics(kind.key, 'inception')
    assert short.kind is kind and short.name == kind.key
    assert short.main == next(iter(short.directions.items()))


@pytest.mark.parametrize('kind', COMPUTED, ids=lambda kind: kind.key)
def test_a_kind_computes_its_results_from_what_it_needs(kind: Kind, detector: Detector) -> None:
    sets = []
    for seed in range(2):
        collector = FeatureCollector(detector, keep=kind.needs == 'features')
        pixels = np.random.RandomState(seed).randint(0, 256, (20, 3, 2, 2))
        collector.append(torch.from_numpy(pixels.astype(np.uint8)))
        sets.append(collector.result())
    values = kind.compute(sets[0] if kind.needs_reals else None, sets[1], detector)
    assert kind.results.keys() <= values.keys() <= {*kind.results, '_std'}
    assert ': ' in kind.describe('name', 'inception', values)


@pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)
def test_few_pictures_are_warned_of_and_many_are_not(kind: Kind) -> None:
    assert kind.few_warning('inception', 100_000) is None
    warning = kind.few_warning('inception', 10)
    assert warning is None or warning.startswith('warning: ')


def test_names_give_detector_numbers_and_mirroring() -> None:
    assert len({validate_metrics([name]) for name in metric_names()}) == len(metric_names())
    described = {
        name: validate_metrics([name])[0]
        for name in (
            'fid50k_full',
            'fid50k',
            'fid10k_full',
            'kid50k_full',
            'pr50k3_full',
            'pr50k3',
            'is50k',
            'fd_random_vgg500_full',
            'ppl2_wend',
        )
    }
    assert {
        name: (m.kind.key, m.detector, m.num_fake, m.num_real, m.full)
        for name, m in described.items()
    } == {
        'fid50k_full': ('fid', 'inception', 50000, None, True),
        'fid50k': ('fid', 'inception', 50000, 50000, False),
        'fid10k_full': ('fid', 'inception', 10000, None, True),
        'kid50k_full': ('kid', 'inception', 50000, None, True),
        'pr50k3_full': ('pr', 'vgg16', 50000, 200000, True),
        'pr50k3': ('pr', 'vgg16', 50000, 50000, False),
        'is50k': ('is', 'inception', 50000, None, True),
        'fd_random_vgg500_full': ('fid', 'random-vgg', 500, None, True),
        'ppl2_wend': ('ppl', '', 50000, None, False),
    }
    for name in (
        'fid',
        'fid0k_full',
        'fid1_full',
        'fid50k_full ',
        'pr50k4',
        'ppl2_zend',
        'fid1٣k_full',
        '',
    ):
        with pytest.raises(UserError, match='fid50k_full, '):
            make_evaluator([name], 'nowhere', device=torch.device('cpu'))
    short = parse_metrics('fid,kid pr, fid,fid50k_full', 'random-vgg')
    assert [(m.name, m.detector) for m in short] == [
        ('fd_random_vgg', 'random-vgg'),
        ('kd_random_vgg', 'random-vgg'),
        ('pr', 'random-vgg'),
        ('fid50k_full', 'inception'),
    ]
    for text in ('', ' ,', 'fid,lpips'):
        with pytest.raises(UserError, match='--metrics='):
            parse_metrics(text, 'inception')
