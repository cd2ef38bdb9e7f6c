"""The table of metrics: each kind in `KINDS` is parsed, computed and described by what it says."""

import numpy as np
import pytest
import torch

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
