"""Pictures as training data."""

import io
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib import UserError
from dnnlib.image_decoding import decode_picture
from training import dataset_cache
from training.dataset import ImageFolderDataset, InfiniteSampler, batches
from training.dataset_cache import (
    available_memory,
    batches_from_gpu,
    batches_from_ram,
    choose_cache,
    decode_all,
)

CPU = torch.device('cpu')


def picture(seed: int, size: int = 8, mode: str = 'RGB') -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, [size, size, 3], dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def make(folder: Path, count: int = 6, labels: list | None = None, mode: str = 'RGB') -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        picture(i, mode=mode).save(folder / f'{i}.png')
    (folder / 'notes.csv').write_text('a,b')
    if labels is not None:
        (folder / 'dataset.json').write_text(json.dumps({'labels': labels}))
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix('.zip')
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted(folder.rglob('*')):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_folder_and_zip_give_the_same_pictures(mode: str, tmp_path: Path) -> None:
    folder = make(tmp_path / 'set', mode=mode)
    for path in (folder, zipped(folder)):
        data = ImageFolderDataset(path)
        assert (len(data), data.resolution, data.num_channels, data.label_dim) == (
            6,
            8,
            1 if mode == 'L' else 3,
            0,
        )
        image, label = data[2]
        want = np.asarray(picture(2, mode=mode)).reshape(8, 8, -1).transpose(2, 0, 1)
        assert image.dtype == np.uint8 and label.shape == (0,)
        np.testing.assert_array_equal(image, want)


def test_mirror_images_double_the_set(tmp_path: Path) -> None:
    path = make(tmp_path / 'set', count=3)
    data = ImageFolderDataset(path, xflip=True, yflip=True)
    assert len(data) == 12
    plain = data[1][0]
    for index, axes in [(4, (2,)), (7, (1,)), (10, (1, 2))]:
        np.testing.assert_array_equal(data[index][0], np.flip(plain, axes))
    assert len(ImageFolderDataset(path, xflip=True)) == 6


def test_subset_is_seeded(tmp_path: Path) -> None:
    path = make(tmp_path / 'set', count=9)
    chosen = [
        [ImageFolderDataset(path, max_size=4, seed=seed)[i][0].tobytes() for i in range(4)]
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    with pytest.raises(UserError, match='--subset=0'):
        ImageFolderDataset(path, max_size=0)


def test_labels_of_dataset_json_are_read(tmp_path: Path) -> None:
    path = make(tmp_path / 'set', count=3, labels=[['0.png', 2], ['1.png', 0], ['2.png', 1]])
    data = ImageFolderDataset(path, use_labels=True)
    assert data.label_dim == 3
    np.testing.assert_array_equal(data[0][1], [0, 0, 1])
    assert ImageFolderDataset(path).label_dim == 0
    vectors = make(tmp_path / 'vectors', count=2, labels=[['0.png', [0.5, 1]], ['1.png', [0, 2]]])
    np.testing.assert_array_equal(ImageFolderDataset(vectors, use_labels=True)[1][1], [0, 2])


@pytest.mark.parametrize(
    'labels,words',
    [
        (None, 'has no labels'),
        ([], 'has no labels'),
        ([['0.png', 1]], 'none for 1 of 2 pictures, such as 1.png'),
        ([['0.png', 'cat'], ['1.png', 'dog']], 'class numbers 0, 1, 2'),
        ([3], 'should be'),
        ([['0.png', -1], ['1.png', 0]], 'class numbers 0, 1, 2'),
        ([['0.png', 10**9], ['1.png', 0]], 'is 1000000000; classes are numbered 0, 1, 2'),
        ([['0.png', 10**99], ['1.png', 0]], 'class numbers'),
        ([['0.png', [1.5]], ['1.png', [float('nan')]]], 'vectors of one length'),
    ],
)
def test_bad_labels_are_refused(labels: list | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        ImageFolderDataset(make(tmp_path / 'set', count=2, labels=labels), use_labels=True)


def in_folders(path: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(path / name)
    return path


def test_folders_are_classes(tmp_path: Path) -> None:
    folder = in_folders(tmp_path / 'set', 'a/1.png', 'a b/2.png', 'a/deep/3.png', '2000/4.png')
    for path in (folder, zipped(folder)):
        data = ImageFolderDataset(path, use_labels=True)
        assert data.class_names == ['2000', 'a', 'a b'] and data.label_dim == 3
        by_picture = {data[i][0].tobytes(): int(data[i][1].argmax()) for i in range(4)}
        assert [
            by_picture[np.asarray(picture(i)).transpose(2, 0, 1).tobytes()] for i in range(4)
        ] == [1, 2, 1, 0]
        # the classes are those of the whole set
        few = ImageFolderDataset(path, use_labels=True, max_size=1)
        assert few.label_dim == 3 and few.label(0).sum() == 1
        assert (
            ImageFolderDataset(path).class_names is None and ImageFolderDataset(path).label_dim == 0
        )
    (folder / 'dataset.json').write_text('{"labels": null}')  # as prepare_data.py writes it
    assert ImageFolderDataset(folder, use_labels=True).label_dim == 3
    (folder / 'dataset.json').write_text(
        json.dumps(
            {'labels': [['a/1.png', 1], ['a b/2.png', 0], ['a/deep/3.png', 0], ['2000/4.png', 1]]}
        )
    )
    listed = ImageFolderDataset(folder, use_labels=True)
    assert listed.label_dim == 2 and listed.class_names is None


@pytest.mark.parametrize(
    'names,words',
    [
        (['00000/img00000000.png', '00001/img00001000.png'], 'has no labels'),
        (['cats/1.png', 'cats/2.png'], 'has no labels.*at least two'),
        (['00000/1.png', '2.png'], 'has no labels'),
        (
            ['cats/1.png', 'dogs/2.png', '3.png'],
            r'in folders \(cats\) and beside them \(3\.png\); put',
        ),
    ],
)
def test_folders_that_are_no_classes(names: list[str], words: str, tmp_path: Path) -> None:
    path = in_folders(tmp_path / 'set', *names)
    with pytest.raises(UserError, match=words):
        ImageFolderDataset(path, use_labels=True)
    assert len(ImageFolderDataset(path)) == len(names)


@pytest.mark.parametrize(
    'stray,words',
    [
        (picture(0, size=16), '1x.png is 16×16 with 3 channels, 0.png is 8×8'),
        (picture(0, mode='L'), 'with 1 channel,'),
        (Image.new('RGB', (8, 16)), '8×16'),
        (picture(0, mode='RGBA'), 'with 4 channels'),
    ],
)
def test_a_stray_picture_is_named(stray: Image.Image, words: str, tmp_path: Path) -> None:
    path = make(tmp_path / 'set')
    stray.save(path / '1x.png')
    with pytest.raises(UserError, match=words):
        ImageFolderDataset(path)


@pytest.mark.parametrize('size', [(12, 12), (8, 16), (4, 4)])
def test_sets_that_are_not_square_powers_of_two_are_refused(
    size: tuple[int, int], tmp_path: Path
) -> None:
    Image.new('RGB', size).save(tmp_path / 'a.png')
    with pytest.raises(UserError, match='prepare_data.py makes them equal'):
        ImageFolderDataset(tmp_path)


def test_sets_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('x')
    with pytest.raises(UserError, match='no pictures'):
        ImageFolderDataset(tmp_path)
    with pytest.raises(UserError, match='neither a folder nor a zip'):
        ImageFolderDataset(tmp_path / 'a.txt')
    with pytest.raises(UserError, match='no such'):
        ImageFolderDataset(tmp_path / 'none')


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / 'set')
    (path / '3.png').write_bytes((path / '3.png').read_bytes()[:60])
    data = ImageFolderDataset(path)  # its header is fine
    with pytest.raises(UserError, match=r'3\.png'):
        data[3]
    (path / '3.jpg').write_bytes(b'\xff\xd8 no')
    with pytest.raises(UserError, match=r'3\.jpg'):
        ImageFolderDataset(path)


def test_sampler_covers_the_set_and_goes_on() -> None:
    drawn = list(islice(InfiniteSampler(5, seed=1), 20))
    assert (
        all(sorted(drawn[i : i + 5]) == list(range(5)) for i in range(0, 20, 5))
        and drawn[:5] != drawn[5:10]
    )
    assert list(islice(InfiniteSampler(5, seed=1, start=7), 13)) == drawn[7:]
    assert list(islice(InfiniteSampler(5, seed=2), 20)) != drawn


def test_batches_with_and_without_workers(tmp_path: Path) -> None:
    data = ImageFolderDataset(zipped(make(tmp_path / 'set')))
    streams = [
        list(islice(batches(data, 4, seed=0, workers=workers, device=torch.device('cpu')), 3))
        for workers in (0, 2)
    ]
    for (a, _), (b, c) in zip(*streams):
        assert (
            torch.equal(a, b)
            and a.shape == (4, 3, 8, 8)
            and a.dtype == torch.float32
            and c.shape == (4, 0)
        )
        assert -1 <= a.min() < -0.5 and 0.5 < a.max() <= 1


def drawn(
    data: ImageFolderDataset,
    count: int = 5,
    batch: int = 4,
    workers: int = 0,
    device: torch.device = CPU,
    **kwargs,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    stream = batches(data, batch, seed=3, workers=workers, device=device, **kwargs)
    try:
        return [(images.cpu(), labels.cpu()) for images, labels in islice(stream, count)]
    finally:
        stream.close()


def same(
    a: list[tuple[torch.Tensor, torch.Tensor]], b: list[tuple[torch.Tensor, torch.Tensor]]
) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) and x.dtype == y.dtype and x.stride() == y.stride()
        for pair in zip(a, b)
        for x, y in zip(*pair)
    )


def labelled(path: Path, **kwargs) -> ImageFolderDataset:
    return ImageFolderDataset(
        zipped(make(path, labels=[[f'{i}.png', i % 3] for i in range(6)])),
        use_labels=True,
        **kwargs,
    )


@pytest.mark.parametrize(
    'flips', [{}, {'xflip': True}, {'yflip': True}, {'xflip': True, 'yflip': True}]
)
def test_caches_give_the_same_batches(flips: dict, tmp_path: Path) -> None:
    data = labelled(tmp_path / 'set', **flips)
    for start in (0, 13):
        picks = list(islice(InfiniteSampler(len(data), 3, start), 20))
        want = [
            (
                torch.from_numpy(np.stack([data[i][0] for i in part])).to(torch.float32) / 127.5
                - 1,
                torch.from_numpy(np.stack([data.label(i) for i in part])),
            )
            for part in (picks[j : j + 4] for j in range(0, 20, 4))
        ]
        assert same(drawn(data, start=start), want)
        assert same(drawn(data, start=start, cache='ram'), want)
        plans = (data.locate(picks[j : j + 4]) for j in range(0, 20, 4))
        # what runs on a GPU runs here too
        on_device = decode_all(data.load, data.stored_shape, CPU)
        assert same(list(batches_from_gpu(on_device, data.stored_labels, plans)), want)
    if flips:
        assert same(drawn(data, start=13, workers=2), want) and same(
            drawn(data, start=13, workers=2, cache='ram'), want
        )


@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_a_cache_of_a_set_without_labels(
    mode: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = make(tmp_path / 'set', mode=mode)
    picture(7, mode=mode).save(path / '7.jpg')
    data = ImageFolderDataset(path, max_size=5, seed=1)
    cached = drawn(data, cache='ram')
    assert same(cached, drawn(data)) and cached[0][1].shape == (4, 0)
    assert not recwarn.list


@pytest.mark.parametrize('kwargs', [{}, {'cache': 'ram'}, {'workers': 2}])
def test_ranks_share_each_batch(kwargs: dict, tmp_path: Path) -> None:
    data = labelled(tmp_path / 'set', xflip=True)
    whole = drawn(data, batch=6, start=7)
    for num_ranks in (2, 3):
        shares = [
            drawn(data, batch=6, start=7, rank=rank, num_ranks=num_ranks, **kwargs)
            for rank in range(num_ranks)
        ]
        assert same(
            [tuple(torch.cat(parts) for parts in zip(*step)) for step in zip(*shares)], whole
        )


@pytest.mark.parametrize('kwargs', [{}, {'workers': 2}, {'cache': 'ram'}])
def test_a_broken_picture_is_named_by_every_cache(kwargs: dict, tmp_path: Path) -> None:
    path = make(tmp_path / 'set')
    (path / '3.png').write_bytes((path / '3.png').read_bytes()[:60])
    data = ImageFolderDataset(path)
    with pytest.raises(UserError) as alone:
        data[3]
    with pytest.raises(UserError) as error:
        drawn(data, **kwargs)
    # in words of different decoders
    assert str(error.value).split(' (')[0] == str(alone.value).split(' (')[0]
    assert not multiprocessing.active_children()  # though `error` is still held


def test_caches_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ImageFolderDataset(make(tmp_path / 'set'))
    for cache, words in [
        ('disk', '--cache=disk: auto, gpu, ram or none'),
        ('gpu', '--cache=gpu: the training is not on a GPU'),
    ]:
        with pytest.raises(UserError, match=words):
            batches(data, 4, seed=0, workers=0, device=CPU, cache=cache)
    monkeypatch.setattr(dataset_cache, 'available_memory', lambda: 6 * 8 * 8 * 3 - 1)
    with pytest.raises(
        UserError,
        match=r'--cache=ram: the decoded set takes 0\.0 GB, more than is '
        r'free; --cache=none',
    ):
        batches(data, 4, seed=0, workers=0, device=CPU, cache='ram')


def test_choose_cache_takes_the_fastest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    GB, gpu = 10**9, torch.device('cuda')
    memory: dict[str, int | None] = {'free': 40 * GB}
    monkeypatch.setattr(dataset_cache, 'available_memory', lambda: memory['free'])
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (20 * GB, 80 * GB))
    assert [choose_cache(x * GB, gpu) for x in (5, 6, 10, 11)] == ['gpu', 'ram', 'ram', 'none']
    assert [choose_cache(x * GB, CPU) for x in (1, 10, 11)] == ['ram', 'ram', 'none']
    assert [choose_cache(x * GB, CPU, num_ranks=4) for x in (2, 3)] == ['ram', 'none']
    assert choose_cache(5 * GB, gpu, num_ranks=4) == 'gpu'  # each has its own
    memory['free'] = 1000 * GB
    assert [choose_cache(x * GB, CPU) for x in (16, 17)] == ['ram', 'none']
    memory['free'] = None
    assert choose_cache(1, CPU) == 'none'


def test_auto_takes_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = ImageFolderDataset(make(tmp_path / 'set'), xflip=True), []
    monkeypatch.setattr('training.dataset.choose_cache', lambda *args: asked.append(args) or 'ram')
    monkeypatch.setattr('training.dataset.batches_from_ram', lambda *args: iter(['from ram']))
    assert (
        next(batches(data, 4, seed=0, workers=0, device=CPU, cache='auto', rank=1, num_ranks=2))
        == 'from ram'
    )
    assert asked == [(6 * 3 * 8 * 8, CPU, 2)]


def test_available_memory_is_within_the_containers_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo, limit = tmp_path / 'meminfo', tmp_path / 'memory.max'
    monkeypatch.setattr(dataset_cache, '_MEMINFO', meminfo)
    monkeypatch.setattr(dataset_cache, '_CGROUP_LIMITS', (tmp_path / 'none', limit))
    assert (available_memory() or 0) > 2**27  # the machine's memory, where Linux doesn't say more
    meminfo.write_text(
        'MemTotal:       9000 kB\nMemAvailable:   5000 kB\nHugePages_Total:       0\n'
    )
    assert available_memory() == 5000 * 1024
    for text, want in [
        ('max\n', 5000 * 1024),
        ('9223372036854771712\n', 5000 * 1024),
        ('4096\n', 4096),
    ]:
        limit.write_text(text)
        assert available_memory() == want
    limit.unlink()
    meminfo.unlink()
    monkeypatch.delattr('os.sysconf')
    assert available_memory() is None


def test_ctrl_c_while_the_set_is_decoded() -> None:
    loaded: list[int] = []

    def load(number: int) -> np.ndarray:
        loaded.append(number)
        if number == 40:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            stopped.wait(0.2)  # the main thread is to be waiting
        return np.zeros([1, 8, 8], np.uint8)

    stopped = threading.Event()
    # a job in the background of a shell is told to ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            decode_all(load, (100_000, 1, 8, 8), CPU)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(loaded) < 10_000


def test_the_thread_ends_with_the_generator(tmp_path: Path) -> None:
    data = ImageFolderDataset(make(tmp_path / 'set'))
    before = threading.active_count()
    unused = batches(data, 4, seed=0, workers=0, device=CPU, cache='ram')
    streams = [batches(data, 4, seed=0, workers=0, device=CPU, cache='ram') for _ in range(2)]
    for stream in streams:
        next(stream)
    assert threading.active_count() == before + 2
    streams.pop().close()
    assert threading.active_count() == before + 1
    del stream, streams  # let go
    assert threading.active_count() == before
    unused.close()


def test_the_thread_ends_with_the_process(tmp_path: Path) -> None:
    code = f"""
import sys, torch
from training.dataset import ImageFolderDataset, batches
data = ImageFolderDataset({str(make(tmp_path / 'set'))!r})
stream = batches(data, 4, seed=0, workers=0, device=torch.device('cpu'), cache='ram')
next(stream)
sys.exit(7)
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (7, '')


def test_errors_of_the_thread_reach_the_consumer() -> None:
    def plans() -> Iterator[torch.Tensor]:
        yield torch.tensor([[0, 1], [0, 1], [1, 0]])
        raise ZeroDivisionError('on purpose')

    before = threading.active_count()
    stream = batches_from_ram(
        torch.zeros([2, 1, 8, 8], dtype=torch.uint8), torch.zeros([2, 0]), plans(), CPU
    )
    assert next(stream)[0].shape == (2, 1, 8, 8)
    with pytest.raises(ZeroDivisionError, match='on purpose'):
        next(stream)
    assert threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.parametrize('flips', [{}, {'xflip': True, 'yflip': True}])
def test_caches_on_a_gpu(flips: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, gpu = labelled(tmp_path / 'set', **flips), torch.device('cuda')
    for kwargs in ({}, {'start': 13}, {'rank': 1, 'num_ranks': 2}):
        want = drawn(data, count=20, device=gpu, **kwargs)
        for images, c in want[:1]:
            torch.testing.assert_close(images, drawn(data, count=1, **kwargs)[0][0])
            assert torch.equal(c, drawn(data, count=1, **kwargs)[0][1])
        for cache in ('ram', 'gpu', 'auto'):
            assert same(drawn(data, count=20, device=gpu, cache=cache, **kwargs), want), cache
    images, c = next(batches(data, 4, seed=0, workers=0, device=gpu, cache='gpu'))
    assert images.is_cuda and c.is_cuda

    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, 'empty', full)
    with pytest.raises(UserError, match='--cache=gpu: the decoded set takes'):
        batches(data, 4, seed=0, workers=0, device=gpu, cache='gpu')


@pytest.mark.parametrize('imagecodecs', [True, False])
@pytest.mark.parametrize('mode', ['L', 'LA', 'RGB', 'RGBA', 'P', '1', 'I;16'])
def test_decoding_in_threads(mode: str, imagecodecs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs do it then; the pictures are the same, and damaged ones are refused."""
    if imagecodecs:
        pytest.importorskip('imagecodecs')
    else:
        monkeypatch.setitem(sys.modules, 'imagecodecs', None)
    smooth = Image.fromarray(
        np.random.RandomState(0).randint(0, 256, [5, 7, 4], dtype=np.uint8)
    ).resize((64, 48))
    for options in ({}, {'transparency': (1, 2, 3) if mode == 'RGB' else 5}):
        with io.BytesIO() as file:
            smooth.convert(mode).save(file, 'png', **(options if mode in ('L', 'RGB', 'P') else {}))
            data = file.getvalue()
        expected = decode_picture(data)
        np.testing.assert_array_equal(decode_picture(data, in_threads=True), expected)
        with pytest.raises(UserError, match='not a readable picture'):
            decode_picture(data[: len(data) // 2], in_threads=True)


def test_snapshots_hold_the_name_of_the_data_and_not_where_it_lies(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ImageFolderDataset(data).kwargs['path'] == data.name
    monkeypatch.chdir(data)
    assert ImageFolderDataset('.').kwargs['path'] == data.name
