"""FID and its relatives (KID, precision and recall, inception score …) between real pictures and
fake ones, or those of a generator.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import UserError, cli

if TYPE_CHECKING:  # torch takes seconds to import, which --help should not
    import torch

    from metrics.compare import Comparison, Result
    from metrics.feature_sources import FeatureSource
    from metrics.metric import Metric

PAIRS = 24  # of --nearest

pictures_option = functools.partial(cli.option, group='Pictures')
metrics_option = functools.partial(cli.option, group='Metrics')
computing_option = functools.partial(cli.option, group='Computing')
output_option = functools.partial(cli.option, group='Output')


@cli.command(name='calc_fid')
@pictures_option(
    '--real',
    '--data',
    'real',
    type=cli.given_text,
    metavar='PATH',
    show_default=False,
    help='Real pictures: a folder (subfolders count), a zip, a network snapshot, or '
    'statistics (.npz).',
)
@pictures_option(
    '--fake',
    '--network',
    'fakes',
    type=cli.given_text,
    metavar='PATH',
    multiple=True,
    show_default=False,
    help='Pictures to judge: the same kinds; of a snapshot its G_ema draws. May be given '
    'several times.',
)
@cli.trust_option('Pictures')
@pictures_option(
    '--num',
    type=click.IntRange(min=2),
    metavar='N',
    help='From a folder or zip, on both sides: take at most N pictures, the first of a '
    'shuffle by --seed; default all. '
    'From a snapshot: draw N; default 50,000, as in fid50k_full.',
)
@pictures_option(
    '--seed',
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help='Of the choice of pictures, and of what a snapshot draws.',
)
@pictures_option(
    '--mirror',
    type=bool,
    default=False,
    help='Count real pictures mirrored, too; never for names in _full.',
)
@pictures_option(
    '--class',
    'class_idx',
    type=click.IntRange(min=0),
    metavar='N',
    help='Only this class: of a labelled set of real pictures, and of what a snapshot draws.',
)
@pictures_option(
    '--trunc',
    type=cli.finite,
    default=1.0,
    help="Truncation psi of a snapshot's pictures; ppl has none.",
)
@metrics_option(
    '--metrics',
    'names',
    default='fid',
    metavar='NAMES',
    help="Any of fid, kid, pr, is, nearest, ppl, and NVIDIA's names such as "
    'fid50k_full,pr50k3_full,ppl2_wend; comma-separated.',
)
@metrics_option(
    '--protocol',
    type=click.Choice(['nvidia', 'torch-fidelity', 'pytorch-fid', 'clean']),
    default='nvidia',
    help='Whose numbers to give: how pictures are resized for Inception, and what '
    'covariances are divided by.',
)
@metrics_option(
    '--detector',
    type=click.Choice(['inception', 'vgg16', 'random-vgg']),
    default='inception',
    help='inception gives FID. random-vgg needs no download; its distance is another '
    'quantity, not comparable with FID.',
)
@metrics_option(
    '--detector-weights',
    type=cli.given_path,
    metavar='PATH',
    show_default=False,
    help='weights-inception-2015-12-05-6726825d.pth of torch-fidelity, or '
    'vgg16-397923af.pth; default: downloaded once.',
)
@metrics_option(
    '--lpips-weights',
    type=cli.given_path,
    metavar='PATH',
    show_default=False,
    help="vgg16-397923af.pth of torchvision, for ppl and NVIDIA's pr; default: downloaded once.",
)
@metrics_option(
    '--no-cache',
    is_flag=True,
    help="Neither take the real pictures' features from the cache nor keep them.",
)
@cli.device_option(group='Computing')
@computing_option(
    '--precision',
    type=click.Choice(['float32', 'tf32', 'bfloat16']),
    default='float32',
    help='Of the detector. tf32 (CUDA only) and bfloat16 are faster on GPUs, and move '
    'every metric a little.',
)
@computing_option(
    '--batch', type=click.IntRange(min=1), default=32, metavar='N', help='Pictures at a time.'
)
@output_option(
    '--json',
    'as_json',
    is_flag=True,
    help='Print one JSON object a --fake, on one line, instead of sentences.',
)
@output_option(
    '--save-stats',
    type=cli.given_path,
    metavar='FILE.npz',
    show_default=False,
    help='Keep the statistics of --real, for --real or --fake of another time; pytorch-fid '
    'reads them, too.',
)
@output_option(
    '--plot',
    type=cli.given_path,
    metavar='FILE',
    show_default=False,
    help='Draw bars, a --fake each.',
)
@output_option(
    '--nearest',
    type=cli.given_path,
    metavar='FILE',
    show_default=False,
    help=f'Draw the {PAIRS} fakes that are nearest to a real picture beside it: has the '
    f'generator memorised its data?',
)
def calc_fid(  # over 60 lines: a third declares options, the rest only calls
    real: str | None,
    fakes: tuple[str, ...],
    names: str,
    detector: str,
    detector_weights: Path | None,
    lpips_weights: Path | None,
    protocol: str,
    precision: str,
    no_cache: bool,
    device: str,
    as_json: bool,
    save_stats: Path | None,
    plot: Path | None,
    nearest: Path | None,
    **given: Any,
) -> None:
    """How far apart two sets of pictures are.

    Unless --protocol says otherwise, conventions are those of NVIDIA's fid50k_full: all real
    pictures unless --num says less, never mirrored, 8-bit pixels, TensorFlow's Inception with its
    own resizing, covariances divided by N. A snapshot draws without truncation; its classes, if it
    has any, as often as they are in --real where that is a labelled set, else uniformly.
    """
    from metrics import report
    from metrics.compare import Comparison, refuse_unused_options
    from metrics.detectors import detector_loader
    from metrics.metric import parse_metrics
    from metrics.protocols import PROTOCOLS
    from torch_utils.image_io import require_picture_suffix, save_picture
    from torch_utils.misc import select_device

    metrics = parse_metrics(names, detector)
    check_sides(real, fakes, save_stats, nearest)
    for path in filter(None, (plot, nearest)):
        require_picture_suffix(path)
    if nearest is not None and not any(metric.kind.key == 'nearest' for metric in metrics):
        metrics = (*parse_metrics('nearest', detector), *metrics)

    where = select_device(device)
    log = functools.partial(cli.echo, err=True)
    # sources before detectors, so that wrong paths are reported at once
    given |= {'device': where, 'lpips_weights': lpips_weights, 'log': log}
    given['drops_alpha'] = PROTOCOLS[protocol].drops_alpha
    real_source = None if real is None else open_source(real, is_real=True, **given)
    given['labels_of'] = None if real_source is None else real_source.path
    sources = {text: open_source(text, is_real=False, **given) for text in fakes}
    refuse_unused_options(
        real_source, sources.values(), given['mirror'], given['class_idx'], given['trunc']
    )
    weights = {'vgg16': lpips_weights}
    weights[detector] = detector_weights or weights.get(detector)
    load_detector = detector_loader(
        device=where,
        weights=weights,
        protocols={detector: PROTOCOLS[protocol]},
        precision=precision,
        log=log,
    )
    options: dict[str, Any] = {'cache': not no_cache, 'show': True, 'log': log}
    comparison = Comparison(
        real_source, metrics, load_detector, batch_size=given['batch'], **options
    )
    if save_stats is not None:
        comparison.save_real(save_stats)
    settings = {
        'real': real,
        'fake': None,  # differs from set to set, as do its classes
        'seed': given['seed'],
        'mirror': given['mirror'],
        'class': given['class_idx'],
        'classes': None,
        'truncation_psi': given['trunc'],
    }
    pairs = PAIRS if nearest is not None else 0
    results = compare_and_print(comparison, sources, metrics, settings, as_json, pairs)
    if plot is not None and results:
        save_picture(plot, report.plot(results, metrics))
    if nearest is not None:
        save_picture(nearest, report.nearest_page(results[fakes[0]]))


def check_sides(
    real: str | None, fakes: Sequence[str], save_stats: Path | None, nearest: Path | None
) -> None:
    """Refuse outputs for which a side is missing."""
    if not fakes and (save_stats is None or real is None):
        raise UserError(
            '--fake is missing: what should be judged? (Or give --real and --save-stats)'
        )
    if nearest is not None and (len(fakes) != 1 or real is None):
        raise UserError('--nearest: give --real, and one --fake at a time')


def compare_and_print(
    comparison: 'Comparison',
    sources: 'Mapping[str, FeatureSource]',
    metrics: 'Sequence[Metric]',
    settings: Mapping[str, Any],
    as_json: bool,
    num_pairs: int,
) -> 'dict[str, Result]':
    """Compare one fake set after another; results before an error or Ctrl-C are still printed."""
    from metrics import report

    results: dict[str, Result] = {}
    try:
        for label, source in sources.items():
            start = time.perf_counter()
            results[label] = comparison.run(source, num_pairs)
            about = {
                **settings,
                'fake': label,
                'classes': source.classes,
                'seconds': time.perf_counter() - start,
                'timestamp': time.time(),
            }
            if as_json:
                click.echo(json.dumps(report.as_json(results[label], metrics, about)))
    finally:
        if results and not as_json:
            is_table = len(sources) > 1
            cli.echo('\n'.join(report.as_text(results, metrics, is_table=is_table)))
    return results


def open_source(
    text: str,
    *,
    num: int | None,
    seed: int,
    class_idx: int | None,
    trunc: float,
    batch: int,
    device: 'torch.device',
    trust_pickle: bool,
    lpips_weights: Path | None,
    log: Callable[[str], None],
    labels_of: Path | None = None,
    **of_files: Any,
) -> 'FeatureSource':
    """Open a folder, zip, file of statistics, or snapshot, which may be a URL or a name.

    Args:
        labels_of: a set that a snapshot draws its classes as.
        of_files: for `open_files` only.
    """
    from metrics.feature_sources import GeneratorSource, open_files
    from metrics.ppl import path_length_metric
    from training.snapshots import load_networks, names_a_network

    if not names_a_network(text) and (
        files := open_files(Path(text), num=num, seed=seed, class_idx=class_idx, **of_files)
    ):
        return files
    from synthesis.sampling import choose_labels, path_pairs, sample_images

    G = load_networks(text, trust_pickle=trust_pickle).G_ema.to(device)
    label_fn, classes = choose_labels(G, class_idx, labels_of, log)
    draw = functools.partial(
        sample_images, G, batch_size=batch, seed=seed, truncation_psi=trunc, label_fn=label_fn
    )
    pairs = functools.partial(path_pairs, G, batch_size=min(batch, 8), seed=seed, label_fn=label_fn)
    path_length = path_length_metric(
        pairs, device=device, weights_path=lpips_weights, num=num, show=True
    )
    return GeneratorSource(text, draw, num=num, path_length=path_length, classes=classes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(calc_fid, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    raise SystemExit(main())
