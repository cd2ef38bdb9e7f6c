"""calc_fid.py's options, saved and cached statistics, memorisation, warnings: with the random
VGG-16, since weights don't matter here.
"""

import functools
import http.server
import json
import multiprocessing
import os
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from metric_sets import assert_one_error_line, draw_pictures
from PIL import Image

import calc_fid
from dnnlib import UserError
from dnnlib.image_archive import PictureArchive
from metrics import detectors, feature_cache
from metrics.compare import Comparison, make_evaluator
from metrics.detectors import Detector, load_detector
from metrics.feature_cache import load_statistics
from metrics.feature_sources import FileSource, GeneratorSource, open_files
from metrics.image_set import PictureSet
from metrics.metric import parse_metrics
from metrics.nearest import nearest_ratio
from synthesis.sampling import choose_labels
from training.dataset import ImageFolderDataset
from training.networks import Generator
from training.snapshots import Networks, load_networks, save_networks

pytestmark = pytest.mark.usefixtures('own_cache', 'narrow_vgg')
CPU = torch.device('cpu')
ALL = 'fid,kid,pr,nearest'


class NarrowVGG(detectors.RandomVGG16):
    """The same in a twentieth of the time."""

    _BLOCKS = ((16, 16), (32, 32), (64, 64, 64), (64, 64, 64), (64, 64, 64))


one_vgg = functools.cache(NarrowVGG)


@pytest.fixture
def narrow_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, 'RandomVGG16', one_vgg)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reals, two sets of fakes, and the same as JPEGs of another size."""
    root = tmp_path_factory.mktemp('comparison')
    draw_pictures(root / 'real', 12, seed=1)
    draw_pictures(root / 'near', 10, seed=2, tint=10)
    draw_pictures(root / 'far', 10, seed=3, tint=55)
    (root / 'jpeg').mkdir()
    for path in (root / 'far').iterdir():
        Image.open(path).resize((24, 20)).save(root / 'jpeg' / f'{path.stem}.jpg')
    return root


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[list[dict[str, Any]], str]:
    """JSON reports and what was said."""
    assert calc_fid.main(['--device', 'cpu', '--detector', 'random-vgg', '--json', *options]) == 0
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_a_snapshot_is_read_from_a_url(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(GOLDEN))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}/ada-uncond-32.pkl'
        reports, _ = run(
            capsys,
            '--real',
            str(root / 'real'),
            '--fake',
            address,
            '--fake',
            str(GOLDEN / 'ada-uncond-32.pkl'),
            '--num',
            '4',
        )
        server.shutdown()
    assert reports[0]['fake'] == address and reports[0]['results'] == reports[1]['results']


def test_every_result_says_what_it_is(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (report,), _ = run(
        capsys,
        '--data',
        str(root / 'real'),
        '--network',
        str(root / 'near'),
        '--metrics',
        ALL,
        '--seed',
        '5',
    )
    assert list(report['results']) == [
        'fd_random_vgg',
        'kd_random_vgg',
        'kd_random_vgg_std',
        'pr_precision',
        'pr_recall',
        'nearest_ratio',
        'nearest_close',
    ]
    expected = {
        'protocol': 'nvidia',
        'detector': 'random-vgg',
        'num_real': 12,
        'num_fake': 10,
        'seed': 5,
        'truncation_psi': 1,
        'class': None,
        'mirror': False,
        'covariance_divisor': 'N',
        'nums': {
            name: {'real': 12, 'fake': 10}
            for name in ('fd_random_vgg', 'kd_random_vgg', 'pr', 'nearest')
        },
    }
    assert report | expected == report and '64x64' in report['resize'] and report['seconds'] > 0


def test_a_table_and_a_plot_of_several_sets(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        '--real',
        str(root / 'real'),
        '--fake',
        str(root / 'near'),
        '--fake',
        str(root / 'far'),
        '--metrics',
        'fid,kid,pr',
    ]
    reports, _ = run(capsys, *options)
    assert reports[0]['results']['fd_random_vgg'] < reports[1]['results']['fd_random_vgg']
    assert (
        calc_fid.main(
            [
                *options,
                '--detector=random-vgg',
                '--device=cpu',
                '--plot',
                str(tmp_path / 'bars.png'),
            ]
        )
        == 0
    )
    head, *rows = capsys.readouterr().out.splitlines()
    assert (
        [word for word in head.split() if word not in '↑↓'] == list(reports[0]['results'])
        and '↑' in head
        and '↓' in head
    )
    for row, report in zip(rows, reports):
        label, *numbers = row.split()
        assert label == report['fake'] and [float(x) for x in numbers] == pytest.approx(
            list(report['results'].values()), rel=1e-5
        )
    bars = np.asarray(Image.open(tmp_path / 'bars.png')).astype(int)
    blue, orange = (
        int((np.abs(bars - colour).sum(axis=2) < 9).sum())
        for colour in ([78, 121, 167], [242, 142, 43])
    )
    assert blue > 1000 and orange > 1000


def test_sentences_name_each_metric_and_both_counts(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        calc_fid.main(
            [
                '--device=cpu',
                '--detector=random-vgg',
                '--real',
                str(root / 'real'),
                '--fake',
                str(root / 'near'),
                '--metrics',
                ALL,
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == [
        'Frechet distance in a random VGG-16 embedding',
        'Kernel distance',
        'Precision',
        'Distance to the nearest real picture',
    ]
    assert ' ± ' in lines[1] and all(line.endswith('(12 real, 10 fake pictures)') for line in lines)


def test_saved_statistics_give_the_same_results(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, real, fake = str(tmp_path / 'real.npz'), str(root / 'real'), str(root / 'near')
    run(capsys, '--real', real, '--save-stats', file, '--metrics', 'fid,pr')
    direct, saved = (
        run(capsys, '--real', side, '--fake', fake, '--metrics', 'fid,pr')[0][0]
        for side in (real, file)
    )
    assert saved['results'] == direct['results'] and saved['num_real'] == 12
    with np.load(file) as arrays:
        x = arrays['features'].astype(np.float64)
        np.testing.assert_allclose(arrays['mu'], x.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(arrays['sigma'], np.cov(x.T, bias=True), atol=1e-9)
        # as pytorch-fid writes them
        np.savez(tmp_path / 'foreign.npz', mu=arrays['mu'], sigma=arrays['sigma'])
        np.savez(
            tmp_path / 'other.npz',
            mu=arrays['mu'],
            sigma=arrays['sigma'],
            about=np.array('{"detector_sha256": "f00"}'),
        )
    theirs = pytest.importorskip('pytorch_fid.fid_score').compute_statistics_of_path(
        file, None, 1, 64, 'cpu'
    )
    np.testing.assert_array_equal(theirs[0], load_statistics(file)[0].stats.mean)
    (foreign,), said = run(capsys, '--real', str(tmp_path / 'foreign.npz'), '--fake', file)
    assert (
        foreign['results']['fd_random_vgg'] < 1e-6
        and foreign['num_real'] is None
        and 'does not say which detector' in said
    )
    # a number of pictures that is unknown is not few
    foreign_file = str(tmp_path / 'foreign.npz')
    _, said = run(capsys, '--real', foreign_file, '--fake', foreign_file)
    assert 'is biased' not in said
    np.savez(tmp_path / 'wide.npz', mu=np.zeros(2048), sigma=np.eye(2048))
    for name, metrics, words in (
        ('wide', 'fid', ['64 and 2048 dimensions']),
        ('other', 'fid', ['made with detector_sha256 f00']),
        ('foreign', 'pr', ['no features', '--save-stats']),
    ):
        options = [
            '--device=cpu',
            '--detector=random-vgg',
            '--real',
            str(tmp_path / f'{name}.npz'),
            '--fake',
            fake,
            '--metrics',
            metrics,
        ]
        assert calc_fid.main(options) == 2
        assert_one_error_line(capsys, *words)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'PK\3\4 no more',
        {'mu': np.zeros(3)},
        {'mu': np.zeros(3), 'sigma': np.zeros(3)},
        {'mu': np.full(2, np.nan), 'sigma': np.eye(2)},
        {'mu': np.array([None]), 'sigma': np.eye(1)},
        {'mu': np.zeros(2), 'sigma': np.eye(2), 'about': np.array('[]')},
    ],
)
def test_other_files_are_no_statistics(tmp_path: Path, content: Any) -> None:
    path = tmp_path / 'a.npz'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UserError, match=r'a\.npz: .*statistics'):
        load_statistics(path)


@functools.cache
def embed() -> Detector:
    return load_detector('random-vgg', device=CPU)


def compare(real: Path, fake: Path, names: str = 'fid') -> dict[str, float]:
    source = open_files(real, is_real=True)
    other = open_files(fake, is_real=False)
    assert source is not None and other is not None
    return (
        Comparison(
            source,
            parse_metrics(names, 'random-vgg'),
            lambda name: embed(),
            log=lambda message: None,
        )
        .run(other)
        .values
    )


def test_the_cache_knows_content_not_names(
    root: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    batches = PictureSet.numbered_batches
    monkeypatch.setattr(
        PictureSet,
        'numbered_batches',
        lambda self, size=32: read.append(self.path) or batches(self, size),
    )
    real, fake = tmp_path / 'set', root / 'near'
    shutil.copytree(root / 'real', real)
    first = compare(real, fake)
    with zipfile.ZipFile(tmp_path / 'moved.zip', 'w') as file:
        for path in sorted(real.iterdir()):
            file.write(path, f'elsewhere/{path.name}')
    read.clear()
    assert compare(tmp_path / 'moved.zip', fake) == first and read == [fake]
    compare(real, fake, 'fid,kid')  # needs more than is there
    read.clear()
    assert compare(real, fake) == first and read == [fake]
    # The same name, size and date, another picture.
    victim = real / '000.png'
    stat = victim.stat()
    Image.fromarray(255 - np.asarray(Image.open(victim))).save(victim)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    read.clear()
    assert compare(real, fake) != first and read == [real, fake]
    for path in (own_cache / 'statistics').iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    read.clear()
    changed = compare(real, fake)
    assert read == [real, fake] and compare(real, fake) == changed


def _compare_in_process(real: Path, fake: Path, queue: Any) -> None:
    torch.set_num_threads(1)
    queue.put(compare(real, fake, 'fid,kid'))


def test_several_processes_share_the_cache(root: Path, own_cache: Path) -> None:
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    processes = [
        context.Process(target=_compare_in_process, args=(root / 'real', root / 'near', queue))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    results = [queue.get(timeout=100) for _ in processes]
    for process in processes:
        process.join()
    assert results[0] == results[1] == results[2]
    (file,) = (own_cache / 'statistics').iterdir()
    assert load_statistics(file)[0].stats.num == 12


def test_the_cache_stays_within_its_limit(
    root: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_cache / 'statistics'
    monkeypatch.setattr(
        feature_cache, 'CACHE_BYTES', 200_000
    )  # a file has 35 kB, 37 kB with features
    used = []
    for number in range(4):
        compare(draw_pictures(tmp_path / str(number), 4, seed=number), root / 'near')
        (new,) = set(folder.iterdir()) - set(used)
        used.append(new)
        os.utime(new, (number, number))
    (folder / 'theirs').mkdir()  # no file of statistics
    # of a process that was killed, and of one that is at it
    for name in ('.old.tmp.npz', '.new.tmp.npz'):
        (folder / name).write_bytes(bytes(100_000))
    os.utime(folder / '.old.tmp.npz', (0, 0))
    compare(tmp_path / '0', root / 'near')  # is there still, and the newest now
    monkeypatch.setattr(feature_cache, 'CACHE_BYTES', 3 * used[0].stat().st_size + 1000)
    compare(root / 'real', root / 'near')
    (new,) = set(folder.glob('[!.]*.npz')) - set(used)
    assert {path.name for path in folder.iterdir()} == {
        'theirs',
        '.new.tmp.npz',
        *(path.name for path in (used[0], used[3], new)),
    }
    monkeypatch.setattr(feature_cache, 'CACHE_BYTES', 10)
    compare(root / 'far', root / 'near')
    assert len(list(folder.glob('[!.]*.npz'))) == 1, 'what was just written stays'


def test_bfloat16_moves_features_a_little() -> None:
    pictures = torch.from_numpy(
        np.random.RandomState(0).randint(0, 256, (2, 3, 16, 16)).astype(np.uint8)
    )
    exact = embed()(pictures)
    rounded = load_detector('random-vgg', device=CPU, precision='bfloat16')(pictures)
    assert (
        rounded.dtype == torch.float32
        and 1e-3 < float((rounded - exact).norm() / exact.norm()) < 3e-2
    )
    for precision, words in (('tf32', 'only CUDA GPUs'), ('float16', 'float32, tf32, bfloat16')):
        with pytest.raises(UserError, match=f'--precision={precision}: .*{words}'):
            load_detector('random-vgg', device=CPU, precision=precision)


def test_precision_is_part_of_the_result_the_cache_and_statistics(
    root: Path, own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, file = (
        ['--real', str(root / 'real'), '--fake', str(root / 'near')],
        tmp_path / 'real.npz',
    )
    (exact,), _ = run(capsys, *options, '--save-stats', str(file))
    (rounded,), _ = run(capsys, *options, '--precision=bfloat16')
    assert (exact['precision'], rounded['precision']) == ('float32', 'bfloat16') and len(
        list((own_cache / 'statistics').iterdir())
    ) == 2
    a, b = (report['results']['fd_random_vgg'] for report in (exact, rounded))
    assert a != b and a == pytest.approx(b, rel=0.05)
    for options, words in (
        (
            ['--real', str(file), '--precision=bfloat16'],
            ['made with precision float32', '--precision=float32'],
        ),
        (['--real', str(root / 'real'), '--precision=tf32'], ['--precision=tf32', 'CUDA']),
    ):
        assert (
            calc_fid.main(
                ['--device=cpu', '--detector=random-vgg', '--fake', str(root / 'near'), *options]
            )
            == 2
        )
        assert_one_error_line(capsys, *words)


def test_files_that_another_process_removed_or_holds_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (tmp_path / f'{number}.npz').write_bytes(bytes(100))
        os.utime(tmp_path / f'{number}.npz', (number, number))
    unlink = Path.unlink

    def contested(path: Path, missing_ok: bool = False) -> None:
        if path.name == '0.npz':
            raise PermissionError(path)  # as Windows says of an open file
        if path.name == '1.npz':
            unlink(path)  # by somebody else
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, 'unlink', contested)
    feature_cache.prune(tmp_path, 250, tmp_path / '3.npz')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.npz', '3.npz']


@pytest.mark.parametrize(
    'real, fake, words',
    [
        ('real', 'real', ['both sides are the same pictures']),
        (
            'real',
            'jpeg',
            [
                'real pictures have 32x32 pixels, fake ones 24x20',
                'real pictures are PNG or the like, fake ones JPEG',
            ],
        ),
        ('lanczos', 'box', ['the resize filter lanczos, fake ones with box']),
        ('real', 'near', []),
    ],
)
def test_doubtful_comparisons_are_warned_of(
    root: Path,
    tmp_path: Path,
    real: str,
    fake: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, source in (('lanczos', 'real'), ('box', 'near')):
        shutil.copytree(root / source, tmp_path / name)
        (tmp_path / name / 'dataset.json').write_text(
            json.dumps({'labels': None, 'resize_filter': name, 'content_sha256': name * 2})
        )
    sides = [
        str(tmp_path / side if side in ('lanczos', 'box') else root / side) for side in (real, fake)
    ]
    (report,), said = run(capsys, '--real', sides[0], '--fake', sides[1])
    warnings = [
        line
        for line in said.splitlines()
        if line.startswith('warning: ') and 'is biased' not in line
    ]
    assert (
        'is biased' in said
        and len(warnings) == len(words)
        and all(word in line for word, line in zip(words, warnings))
    )
    if real == 'lanczos':
        assert all(line.startswith(f'warning: {sides[1]}: ') for line in warnings)
        assert (
            report['real_resize_filter'] == 'lanczos' and report['fake_content_sha256'] == 'boxbox'
        )
        run(capsys, '--real', sides[0], '--save-stats', str(tmp_path / 'real.npz'))  # knows as much
        (saved,), said = run(capsys, '--real', str(tmp_path / 'real.npz'), '--fake', sides[1])
        assert (
            words[0] in said
            and saved['real_resize_filter'] == 'lanczos'
            and saved['real_content_sha256'] == 'lanczoslanczos'
        )


def test_an_inception_score_of_few_pictures_is_warned_of(root: Path) -> None:
    log: list[str] = []
    fake = open_files(root / 'near', is_real=False)
    assert fake is not None
    classifier = Detector('inception', '', one_vgg(), CPU, classifier=torch.eye(64))
    values = (
        Comparison(None, parse_metrics('is', 'inception'), lambda name: classifier, log=log.append)
        .run(fake)
        .values
    )
    assert (
        list(values) == ['is_mean', 'is_std']
        and len(log) == 1
        and 'score from 10 pictures is too low' in log[0]
    )


def test_mirror_doubles_the_real_pictures(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = PictureSet(root / 'real')
    for path in (root / 'real').iterdir():
        shutil.copy(path, tmp_path / f'a{path.name}')
        Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(tmp_path / f'b{path.name}')
    options = ['--fake', str(root / 'near'), '--metrics', 'fid,kid']
    (mirrored,), _ = run(capsys, '--real', str(root / 'real'), '--mirror=1', *options)
    (by_hand,), _ = run(capsys, '--real', str(tmp_path), *options)
    assert (
        mirrored['results'] == pytest.approx(by_hand['results'], rel=1e-6)
        and mirrored['num_real'] == 24
    )
    half = PictureSet(root / 'real', mirror=True, limit=15)
    found = sorted(
        (index, batch[i])
        for index_list, batch in half.numbered_batches(5)
        for i, index in enumerate(index_list)
    )
    assert [index for index, _ in found] == list(range(15)) and len(half) == 15
    assert all(
        np.array_equal(picture.permute(1, 2, 0), half.load(index)) for index, picture in found
    )
    assert np.array_equal(half.load(13), plain.load(1)[:, ::-1])
    (full,), _ = run(
        capsys,
        '--real',
        str(root / 'real'),
        '--mirror=1',
        '--fake',
        str(root / 'near'),
        '--metrics',
        'fd_random_vgg10_full',
    )
    assert full['num_real'] == 12


def test_class_limits_the_real_pictures_and_the_snapshot(
    labelled_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = conditional(tmp_path / 'network-snapshot-000000.pkl')
    options = ['--real', str(labelled_data), '--fake', str(snapshot), '--num', '4']
    reports = [
        run(capsys, *options, *more)[0][0]
        for more in ([], ['--class=0'], ['--class=1'], ['--class=1', '--trunc=0.5'])
    ]
    assert [(report['num_real'], report['class']) for report in reports] == [
        (4, None),
        (4, 0),
        (4, 1),
        (4, 1),
    ]
    assert len({report['results']['fd_random_vgg'] for report in reports}) == 4
    with pytest.raises(UserError, match='--class=1: .*plain has no labels'):
        PictureSet(draw_pictures(tmp_path / 'plain', 3), class_idx=1)
    for name in 'ab':
        draw_pictures(tmp_path / 'folders' / name, 2)
    assert PictureSet(tmp_path / 'folders', class_idx=1).names == ['b/000.png', 'b/001.png']
    assert PictureSet(labelled_data, class_idx=2).names == ['02.png', '05.png', '08.png', '11.png']
    with pytest.raises(UserError, match='no pictures in it of class 7'):
        PictureSet(labelled_data, class_idx=7)


def conditional(path: Path) -> Path:
    """A snapshot of three classes that look different."""
    torch.manual_seed(0)
    G = Generator(z_dim=8, c_dim=3, w_dim=8, img_resolution=16, img_channels=3).eval()
    with torch.no_grad():
        G.mapping.embed.weight.mul_(100)
    save_networks(path, Networks(G=G, D=None, G_ema=G))
    return path


def labelled(folder: Path, classes: list[Any]) -> Path:
    draw_pictures(folder, len(classes))
    listed = [[f'{i:03}.png', value] for i, value in enumerate(classes)]
    (folder / 'dataset.json').write_text(json.dumps({'labels': listed}))
    return folder


def test_classes_are_as_frequent_as_in_the_data_set(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = conditional(tmp_path / 'network-snapshot-000000.pkl')
    one = labelled(tmp_path / 'one', [[0, 1, 0]] * 5)
    alike = {
        'as in the data set': one,
        'uniform': shutil.copytree(one, tmp_path / 'plain', ignore=lambda *_: ['dataset.json']),
        1: one,
    }
    reports = {}
    for classes, real in alike.items():
        more = ['--class=1'] if classes == 1 else []
        (reports[classes],), _ = run(
            capsys, '--real', str(real), '--fake', str(snapshot), '--num=5', '--seed=3', *more
        )
        assert reports[classes]['classes'] == classes
    results = [report['results']['fd_random_vgg'] for report in reports.values()]
    assert results[0] == results[2] != results[1], 'a set of one class is like --class'
    (report,), said = run(
        capsys,
        '--real',
        str(labelled(tmp_path / 'four', [0, 3])),
        '--fake',
        str(snapshot),
        '--num=5',
    )
    assert report['classes'] == 'uniform' and 'has 4 classes, the network 3' in said
    (report,), _ = run(capsys, '--real', str(one), '--fake', str(root / 'near'))
    assert report['classes'] is None
    labelled(tmp_path / 'damaged', [0, 1, 'two'])
    assert (
        calc_fid.main(
            [
                '--device=cpu',
                '--detector=random-vgg',
                '--real',
                str(tmp_path / 'damaged'),
                '--fake',
                str(snapshot),
            ]
        )
        == 2
    )
    assert_one_error_line(capsys, 'damaged', 'labels')


def test_labels_for_metrics_are_those_of_the_training(tmp_path: Path) -> None:
    G = load_networks(conditional(tmp_path / 'network-snapshot-000000.pkl')).G_ema
    data = labelled(tmp_path / 'set', [0] * 8 + [2] * 2)
    label_fn, classes = choose_labels(G, None, data)
    assert label_fn is not None and classes == 'as in the data set'
    drawn, trained = (
        draw(2000, torch.Generator().manual_seed(5))
        for draw in (label_fn, ImageFolderDataset(data, use_labels=True).random_labels)
    )
    assert torch.equal(drawn, trained) and drawn.mean(dim=0).tolist() == pytest.approx(
        [0.8, 0, 0.2], abs=0.04
    )
    folders = tmp_path / 'folders'
    for name in 'abc':
        draw_pictures(folders / name, 2)
    assert choose_labels(G, None, folders)[1] == 'as in the data set'
    assert choose_labels(G, 2, folders)[1] == 2
    with pytest.raises(UserError, match='classes 0…2'):
        choose_labels(G, 3, folders)


def test_snapshots_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        G = Generator(z_dim=8, c_dim=0, w_dim=8, img_resolution=16, img_channels=3).eval()
        paths.append(str(tmp_path / f'network-snapshot-{seed:06d}.pkl'))
        save_networks(Path(paths[-1]), Networks(G=G, D=None, G_ema=G))
    (report,), _ = run(capsys, '--real', paths[0], '--fake', paths[1], '--num=6', '--metrics', ALL)
    assert (report['num_real'], report['num_fake']) == (6, 6) and report['results'][
        'fd_random_vgg'
    ] > 0


def test_copies_of_real_pictures_are_found_and_drawn_first(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.RandomState(0)
    real, new = (torch.from_numpy(rng.randn(num, 20)) for num in (300, 200))
    ratio, close = nearest_ratio(real, new)
    assert ratio == pytest.approx(1, abs=0.1) and close == 0
    assert nearest_ratio(real, torch.cat([new[:150], real[:50]]))[1] == 0.25
    assert nearest_ratio(real, real[:50]) == (0, 1)
    fakes = tmp_path / 'fakes'
    shutil.copytree(root / 'far', fakes)
    shutil.copy(root / 'real' / '007.png', fakes / 'copy.png')
    Image.new('L', (9, 50), 77).save(fakes / 'slim.png')
    (report,), _ = run(
        capsys,
        '--real',
        str(root / 'real'),
        '--fake',
        str(fakes),
        '--nearest',
        str(tmp_path / 'page.png'),
    )
    assert report['results']['nearest_close'] == pytest.approx(1 / 12)
    page, copied = (
        np.asarray(Image.open(tmp_path / 'page.png')),
        np.asarray(Image.open(root / 'real' / '007.png')),
    )
    # as tables enlarge it
    copied = copied.repeat(96 // copied.shape[0], axis=0).repeat(96 // copied.shape[1], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(page, copied.shape)[:, :, 0]
    found = np.argwhere((windows[:, :, ::8, ::8] == copied[::8, ::8]).all(axis=(2, 3, 4)))
    assert found[0][0] == found[1][0] < 40  # beside each other, in the first row


def test_equally_many_fakes_are_drawn_once(root: Path) -> None:
    asked: list[int] = []

    def sample(num: int) -> Any:
        asked.append(num)
        yield from torch.cat(list(PictureSet(root / 'near').batches())).split(4)

    names = [
        'fd_random_vgg10_full',
        'kd_random_vgg10_full',
        'pr_random_vgg10_full',
        'nearest_random_vgg10_full',
    ]
    results = make_evaluator(names, root / 'real', device=CPU, log=lambda message: None)(sample)
    expected = compare(root / 'real', root / 'near', ALL)
    assert asked == [10] and list(results.values()) == pytest.approx(
        list(expected.values()), rel=1e-5
    )


def test_class_and_truncation_are_accepted_if_one_side_uses_them(
    labelled_data: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot, file = (
        str(conditional(tmp_path / 'network-snapshot-000000.pkl')),
        str(tmp_path / 'real.npz'),
    )
    run(capsys, '--real', str(labelled_data), '--save-stats', file, '--class=1')
    (report,), _ = run(
        capsys, '--real', file, '--fake', snapshot, '--num=4', '--class=1', '--trunc=0.5'
    )
    assert (report['num_real'], report['classes'], report['truncation_psi']) == (4, 1, 0.5)
    (report,), _ = run(
        capsys, '--real', str(labelled_data), '--fake', str(root / 'near'), '--class=1'
    )
    assert (report['num_real'], report['classes']) == (4, None)


def test_each_detector_gets_its_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def load(name: str, **options: Any) -> Detector:
        asked[name] = str(options['weights_path']), options['protocol'].name, options['precision']
        return load_detector('random-vgg', device=CPU)

    monkeypatch.setattr(detectors, 'load_detector', load)
    assert (
        calc_fid.main(
            [
                '--real',
                str(root / 'real'),
                '--fake',
                str(root / 'near'),
                '--metrics=fid,pr50k3_full,kd_random_vgg9_full',
                '--detector-weights=a.pth',
                '--lpips-weights=b.pth',
                '--protocol=clean',
                '--precision=bfloat16',
                '--no-cache',
            ]
        )
        == 0
    )
    assert asked == {
        'inception': ('a.pth', 'clean', 'bfloat16'),
        'vgg16': ('b.pth', 'nvidia', 'bfloat16'),
        'random-vgg': ('None', 'nvidia', 'bfloat16'),
    }


def test_a_set_is_hashed_once_for_all_detectors(
    root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = parse_metrics('fid,fd_random_vgg9_full', 'inception')
    both = {name: Detector(name, '', one_vgg(), CPU) for name in ('inception', 'random-vgg')}
    read: list[Path] = []
    read_file = PictureArchive.read
    monkeypatch.setattr(
        PictureArchive, 'read', lambda self, name: read.append(self.path) or read_file(self, name)
    )
    for times in (1 + 2, 1):  # to hash, and to decode for each detector; then from the cache
        source, fake = (
            open_files(root / 'real', is_real=True),
            open_files(root / 'near', is_real=False),
        )
        assert source is not None and fake is not None
        Comparison(source, metrics, both.__getitem__, log=lambda message: None).run(fake)
        assert read.count(root / 'real') == 12 * times
        read.clear()


def test_results_before_an_error_are_printed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / 'far', tmp_path / 'broken')
    (tmp_path / 'broken' / '005.png').write_bytes((root / 'far' / '005.png').read_bytes()[:60])
    fakes = [root / 'near', tmp_path / 'broken', root / 'far']
    assert (
        calc_fid.main(
            [
                '--device=cpu',
                '--detector=random-vgg',
                '--real',
                str(root / 'real'),
                *(f'--fake={path}' for path in fakes),
            ]
        )
        == 2
    )
    out, err = capsys.readouterr()
    head, row = out.splitlines()
    assert (
        head.split() == ['fd_random_vgg', '↓']
        and row.startswith(str(root / 'near'))
        and float(row.split()[1]) > 0
    )
    assert '005.png: not a readable picture' in err.splitlines()[-1]


def test_fake_sets_of_different_length_are_warned_of_and_infinity_is_null_in_json(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        (tmp_path / 'same').mkdir(exist_ok=True)
        shutil.copy(root / 'far' / '000.png', tmp_path / 'same' / f'{i}.png')
    near, far, same = (str(path) for path in (root / 'near', root / 'far', tmp_path / 'same'))
    _, said = run(capsys, '--real', same, '--fake', near, '--fake', far)
    assert 'different numbers' not in said
    reports, said = run(capsys, '--real', str(root / 'real'), '--fake', near, '--fake', same)
    assert said.count('different numbers of pictures') == 1 and [
        report['num_fake'] for report in reports
    ] == [10, 3]
    (report,), _ = run(capsys, '--real', same, '--fake', near, '--metrics=nearest')
    assert report['results'] == {'nearest_ratio': None, 'nearest_close': 0}


@pytest.mark.parametrize(
    'names, options, real, fake',
    [
        ('fid,kid,pr', [], 12, 10),
        (
            'fid,fd_random_vgg50k_full,kd_random_vgg9_full',
            [],
            12,
            10,
        ),  # a folder has as many as it has
        ('fid,fd_random_vgg50k_full,kid', ['--mirror=1'], 12 + 24, 10),  # _full never mirrors
        ('fid,fd_random_vgg50k_full', ['--num=7'], 7, 7),
        (
            'fid,kid,fd_random_vgg7_full',
            ['--fake', str(GOLDEN / 'ada-uncond-32.pkl'), '--num=7'],
            7,
            7 + 7,
        ),
    ],
)
def test_a_picture_is_embedded_once_for_all_metrics(
    names: str,
    options: list[str],
    real: int,
    fake: int,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    embedded = 0
    detect = Detector.__call__

    def counting(self: Detector, pictures: torch.Tensor) -> torch.Tensor:
        nonlocal embedded
        embedded += len(pictures)
        return detect(self, pictures)

    monkeypatch.setattr(Detector, '__call__', counting)
    reports, _ = run(
        capsys,
        '--real',
        str(root / 'real'),
        '--fake',
        str(root / 'near'),
        '--metrics',
        names,
        '--no-cache',
        *options,
    )
    assert embedded == real + fake
    for name in names.split(','):
        (alone, *_), _ = run(
            capsys,
            '--real',
            str(root / 'real'),
            '--fake',
            str(root / 'near'),
            '--metrics',
            name,
            *options,
        )
        assert alone['results'] == pytest.approx(
            {key: reports[0]['results'][key] for key in alone['results']}, rel=1e-6
        )
        assert alone['nums'].items() <= reports[0]['nums'].items()


def test_sides_and_options_that_cannot_be_compared_are_one_error_line(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real, fake, file = str(root / 'real'), str(root / 'near'), str(tmp_path / 'real.npz')
    run(capsys, '--real', real, '--save-stats', file, '--metrics', 'fid,nearest')
    for options, words in (
        (['--fake', fake], ['--real', 'fd_random_vgg']),
        (
            ['--real', real, '--fake', fake, '--metrics', 'fid,foo'],
            ['--metrics=foo', 'fid50k_full'],
        ),
        (
            ['--real', real, '--fake', fake, '--metrics', 'fid,is'],
            ['--metrics=is', 'inception score', 'random-vgg'],
        ),
        (
            ['--real', file, '--fake', fake, '--mirror=1'],
            ['--mirror', 'real.npz', 'leave the option out'],
        ),
        (
            ['--real', file, '--fake', fake, '--class=1'],
            ['--class=1', 'real.npz', 'leave the option out'],
        ),
        (
            ['--real', real, '--fake', fake, '--trunc=0.5'],
            ['--trunc=0.5', 'no snapshot', 'leave the option out'],
        ),
        (
            ['--real', real, '--fake', file, '--nearest', 'a.png'],
            ['--nearest', 'real.npz has no pictures'],
        ),
        (
            ['--real', file, '--fake', fake, '--nearest', 'a.png'],
            ['--nearest', 'real.npz has no pictures'],
        ),
        (
            ['--real', real, '--save-stats', str(tmp_path / 'a.txt')],
            ['--save-stats', 'a.txt', '.npz'],
        ),
        (['--real', str(tmp_path / 'nowhere.npz'), '--fake', fake], ['nowhere.npz: no such file']),
        (['--real', real, '--fake', fake, '--metrics', 'ppl'], ['near', 'snapshot']),
        (['--real', real, '--fake', fake, '--protocol', 'clean'], ['--protocol=clean']),
        (['--real', real, '--fake', fake, '--plot', 'a.txt'], ['a.txt', '.png']),
        (['--real', real, '--fake', fake, '--fake', fake, '--nearest', 'a.png'], ['--nearest']),
        (['--real', real, '--fake', str(tmp_path / 'no.npz')], ['no.npz']),
        (
            ['--real', real, '--save-stats', str(tmp_path / 'a.npz'), '--metrics', 'ppl'],
            ['--save-stats', 'ppl'],
        ),
    ):
        assert calc_fid.main(['--device=cpu', '--detector=random-vgg', *options]) == 2
        assert_one_error_line(capsys, *words)
    comparison = Comparison(
        GeneratorSource('reals', lambda num: iter(()), num=4),
        parse_metrics('fid', 'random-vgg'),
        lambda name: embed(),
    )
    with pytest.raises(UserError, match='got 0 pictures'):
        comparison.run(FileSource(root / 'near', is_real=False))
