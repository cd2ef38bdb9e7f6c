"""Hostile and damaged files: none is executed, none hangs, none takes much memory, each gives one
line.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from hostile_files import executing, exploding, misleading
from hostile_parts import Evil, ours_file, snapshot, torch_file, touching

from dnnlib import UserError
from torch_utils import torch_file as torch_format
from training.networks import Discriminator, Generator
from training.snapshots import (
    Networks,
    ancestry,
    describe_networks,
    load_networks,
    save_networks,
    tensorflow,
    unpickling,
)

SEEDS = ['ada-uncond-32.pkl', 'tf-uncond-32.pkl', 'rosinality-32.pt', 'ours.safetensors']
MEMORY = 64 << 20  # bytes over four times the file
SECONDS = 20


@pytest.mark.parametrize('name', executing(Path('x')))
def test_nothing_is_executed(name: str, tmp_path: Path) -> None:
    marker, path = tmp_path / 'executed', tmp_path / 'evil.pkl'
    path.write_bytes(executing(marker)[name])
    with pytest.raises(UserError) as error:
        load_networks(path)
    assert str(path) in str(error.value) and not marker.exists()


def test_the_message_names_what_was_refused(tmp_path: Path) -> None:
    path = tmp_path / 'evil.pkl'
    path.write_bytes(pickle.dumps(Evil(os.system, ('true',))))
    with pytest.raises(
        UserError,
        match=r'refers to (posix|nt)\.system.*nothing in the file was '
        r'executed',
    ):
        load_networks(path)


def test_trust_pickle_executes_what_was_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker, path = tmp_path / 'executed', tmp_path / 'odd.pkl'
    path.write_bytes(touching(marker))
    with pytest.raises(UserError, match='refused.*--trust-pickle'):
        load_networks(path)
    assert not marker.exists()
    again = load_networks(path, trust_pickle=True)
    assert marker.exists() and again.G_ema.img_resolution == 32
    assert 'may run any program' in caplog.text and 'pathlib' in caplog.text


def corpus(folder: Path) -> int:
    """Write every hostile file, every cut and many flips; returns how many."""
    nets = load_networks(GOLDEN / 'ada-uncond-32.pkl')
    save_networks(folder / 'ours.safetensors', nets)
    for name, data in {**executing(folder / 'executed'), **exploding(), **misleading()}.items():
        (folder / f'hostile {name}').write_bytes(data)
    rng = np.random.RandomState(0)
    for name in SEEDS:
        data = (folder / name if name.startswith('ours') else GOLDEN / name).read_bytes()
        for percent in range(100):
            (folder / f'cut {percent} {name}').write_bytes(data[: len(data) * percent // 100])
        for i in range(40):
            damaged = bytearray(data)
            for place in rng.randint(0, 4000 if i % 2 else len(data), 3):
                damaged[place] ^= 1 << rng.randint(8)
            (folder / f'flip {i} {name}').write_bytes(damaged)
    return len(list(folder.iterdir()))


@pytest.mark.slow
def test_the_corpus_takes_little_memory_and_time(tmp_path: Path) -> None:
    folder = tmp_path / 'corpus'
    folder.mkdir()
    large = Generator(512, 0, 512, 64, 3, channel_base=16384)  # 14 million numbers
    D = Discriminator(0, 64, 3, channel_base=16384)
    for suffix in ('.pkl', '.pt', '.safetensors'):
        save_networks(folder / f'whole{suffix}', Networks(large, D, large))
    count = corpus(folder)
    report = tmp_path / 'report.jsonl'
    subprocess.run(
        [
            sys.executable,
            str(Path(__file__).parents[1] / 'helpers' / 'load_each.py'),
            str(folder),
            str(report),
            str(SECONDS),
        ],
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(rows) == count and not (folder / 'executed').exists()
    for row in rows:
        name = Path(row['path']).name
        assert row['outcome'] in ('loaded', 'refused'), row
        assert row['outcome'] == (
            'loaded'
            if name.startswith(('whole', 'ours'))
            else row['outcome']
            if name.startswith('flip')
            else 'refused'
        ), row
        assert (
            row['lines'] <= 1
            and len(row['message']) <= 600
            and (row['message'].isprintable() or not row['message'])
        ), row
        if row['memory'] is not None:
            assert row['memory'] <= 4 * Path(row['path']).stat().st_size + MEMORY, row


@pytest.mark.parametrize('key', ['latent_size', 'label_size', 'num_fp16_res', 'resolution_h'])
def test_huge_settings_of_a_tensorflow_network(key: str) -> None:
    content = unpickling.load((GOLDEN / 'tf-uncond-32.pkl').read_bytes(), 'x')
    for part in (content[0], *content[0].state['components'].values()):
        part.state['static_kwargs'][key] = 1 << 40
    if key == 'num_fp16_res':
        # more blocks than there are: all of them
        assert tensorflow.read(content, 'x')['G'].synthesis.b8.use_fp16
    else:
        with pytest.raises(UserError, match=r'^x'):
            tensorflow.read(content, 'x')


def test_keys_and_calls_are_counted() -> None:
    with pytest.raises(UserError, match='as a key'):
        unpickling.load(pickle.dumps({1.5: 0}), 'x')
    with pytest.raises(UserError, match='far more than its length'):
        unpickling.load(b'\x80\x03(' + b']' * 1_000_000 + b'l.', 'x')
    # an item, items, elements: methods that a tensor has too
    for change in (b'NK\x01s.', b'(NK\x01u.', b'(K\x01\x90.', b'K\x01a.', b'(K\x01e.'):
        with pytest.raises(UserError, match='changes a Tensor'):
            unpickling.load(
                b'\x80\x04' + pickle.dumps(torch.zeros(2), protocol=3)[2:-1] + change, 'x'
            )
    assert unpickling.load(pickle.dumps({'a': [{1: 2}, {3, 'b'}], None: True}), 'x') == {
        'a': [{1: 2}, {3, 'b'}],
        None: True,
    }


@pytest.mark.parametrize('value', [10**400, float('inf'), float('nan'), -1, 'x', [1]])
def test_pictures_seen(value: object, tmp_path: Path) -> None:
    """What no counter says is nothing: nobody counts further with it."""
    path = tmp_path / 'network-snapshot-000012.pkl'
    path.write_bytes(snapshot(lambda content: content.update(toonify={'cur_nimg': value})))
    nets = load_networks(path)
    assert ancestry(nets)[0]['kimg'] == 12
    json.dumps(nets.meta)


def test_other_content_cannot_pass_for_networks(tmp_path: Path) -> None:
    path = tmp_path / 'a.safetensors'
    path.write_bytes(
        ours_file(
            lambda metadata: metadata.update(
                meta=json.dumps({'G_ema': 'x', 'G': None, 'big': 10**4000, 'a\x1b[2J': 'b\x1b'})
            )
        )
    )
    nets = load_networks(path)
    assert nets.G_ema.img_resolution == 32 and nets.G is None and nets.meta['big'] == '<int>'
    for key, line in describe_networks(nets).items():
        assert key.isprintable() and line.isprintable()


def test_metadata_of_state_dict_is_ignored(tmp_path: Path) -> None:
    """Its OrderedDict carries `_metadata`, and training adds optimisers."""
    content = torch.load(GOLDEN / 'rosinality-32.pt', weights_only=True)
    assert content['g_ema']._metadata
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    adam.param_groups[0]['params'][0].sum().backward()
    adam.step()
    half = {key: value.half() for key, value in content['g_ema'].items()}
    (tmp_path / 'a.pt').write_bytes(
        torch_file(
            {
                **content,
                'g_ema': half,
                'g_optim': adam.state_dict(),
                'ada_aug_p': 0.5,
                'size': torch.Size([1]),
            }
        )
    )
    nets = load_networks(tmp_path / 'a.pt')
    assert torch.equal(nets.G_ema.synthesis.b4.const, half['input.input'][0].float())


def test_storages_of_either_format(tmp_path: Path) -> None:
    for dtype in (
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bool,
    ):
        tensor = torch.arange(6).to(dtype)
        for data in (
            torch_file(tensor.storage()),
            pickle.loads(pickle.dumps(tensor.storage().__reduce__()[1][0])),
        ):
            storage = torch_format.load_storage(data)
            assert storage.dtype == dtype and torch.equal(
                torch.tensor([], dtype=dtype).set_(storage._untyped_storage, 0, (6,), (1,)), tensor
            )
