"""FID and its relatives (KID, precision and recall, inception score …) between real pictures and
fake ones, or those of a generator.
"""

import dnnlib  # noqa: F401 # isort: skip (first: Ctrl-C during the other imports is one line, too)
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import UserError, cli

if TYPE_CHECKING:  # torch takes seconds to import, which --help should not
    import torch

    from metrics.compare import Source

DEFAULT_NUM_GENERATED = 50000
PAIRS = 24  # of --nearest


@cli.command(name='calc_fid')
@cli.option(
    '--real',
    '--data',
    'real',
    type=cli.given_text,
    metavar='PATH',
    group='Pictures',
    show_default=False,
    help='Real pictures: a folder (subfolders count), a zip, a network snapshot, or '
    'statistics (.npz).',
)
@cli.option(
    '--fake',
    '--network',
    'fakes',
    type=cli.given_text,
    metavar='PATH',
    group='Pictures',
    multiple=True,
    show_default=False,
    help='Pictures to judge: the same kinds; of a snapshot its G_ema draws. May be given '
    'several times.',
)
@cli.trust_option('Pictures')
@cli.option(
    '--num',
    type=click.IntRange(min=2),
    metavar='N',
    group='Pictures',
    help='From a folder or zip, on both sides: take at most N pictures, the first of a '
    'shuffle by --seed; default all. '
    f'From a snapshot: draw N; default {DEFAULT_NUM_GENERATED:,}, as in fid50k_full.',
)
@cli.option(
    '--seed',
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    group='Pictures',
    help='Of the choice of pictures, and of what a snapshot draws.',
)
@cli.option(
    '--mirror',
    type=bool,
    default=False,
    group='Pictures',
    help='Count real pictures mirrored, too; never for names in _full.',
)
@cli.option(
    '--class',
    'class_idx',
    type=click.IntRange(min=0),
    metavar='N',
    group='Pictures',
    help='Only this class: of a labelled set of real pictures, and of what a snapshot draws.',
)
@cli.option(
    '--trunc',
    type=cli.finite,
    default=1.0,
    group='Pictures',
    help="Truncation psi of a snapshot's pictures; ppl has none.",
)
@cli.option(
    '--metrics',
    'names',
    default='fid',
    metavar='NAMES',
    group='Metrics',
    help="Any of fid, kid, pr, is, nearest, ppl, and NVIDIA's names such as "
    'fid50k_full,pr50k3_full,ppl2_wend; comma-separated.',
)
@cli.option(
    '--protocol',
    type=click.Choice(['nvidia', 'torch-fidelity', 'pytorch-fid', 'clean']),
    default='nvidia',
    group='Metrics',
    help='Whose numbers to give: how pictures are resized for Inception, and what '
    'covariances are divided by.',
)
@cli.option(
    '--detector',
    type=click.Choice(['inception', 'vgg16', 'random-vgg']),
    default='inception',
    group='Metrics',
    help='inception gives FID. random-vgg needs no download; its distance is another '
    'quantity, not comparable with FID.',
)
@cli.option(
    '--detector-weights',
    type=cli.given_path,
    metavar='PATH',
    group='Metrics',
    show_default=False,
    help='weights-inception-2015-12-05-6726825d.pth of torch-fidelity, or '
    'vgg16-397923af.pth; default: downloaded once.',
)
@cli.option(
    '--lpips-weights',
    type=cli.given_path,
    metavar='PATH',
    group='Metrics',
    show_default=False,
    help="vgg16-397923af.pth of torchvision, for ppl and NVIDIA's pr; default: downloaded once.",
)
@cli.option(
    '--no-cache',
    is_flag=True,
    group='Metrics',
    help="Neither take the real pictures' features from the cache nor keep them.",
)
@cli.device_option(group='Computing')
@cli.option(
    '--precision',
    type=click.Choice(['float32', 'tf32', 'bfloat16']),
    default='float32',
    group='Computing',
    help='Of the detector. tf32 (CUDA only) and bfloat16 are faster on GPUs, and move '
    'every metric a little.',
)
@cli.option(
    '--batch',
    type=click.IntRange(min=1),
    default=32,
    metavar='N',
    group='Computing',
    help='Pictures at a time.',
)
@cli.option(
    '--json',
    'as_json',
    is_flag=True,
    group='Output',
    help='Print one JSON object a --fake, on one line, instead of sentences.',
)
@cli.option(
    '--save-stats',
    type=cli.given_path,
    metavar='FILE.npz',
    group='Output',
    show_default=False,
    help='Keep the statistics of --real, for --real or --fake of another time; pytorch-fid '
    'reads them, too.',
)
@cli.option(
    '--plot',
    type=cli.given_path,
    metavar='FILE',
    group='Output',
    show_default=False,
    help='Draw bars, a --fake each.',
)
@cli.option(
    '--nearest',
    type=cli.given_path,
    metavar='FILE',
    group='Output',
    show_default=False,
    help=f'Draw the {PAIRS} fakes that are nearest to a real picture beside it: has the '
    f'generator memorised its data?',
)
def calc_fid(
    real: str | None,
    fakes: tuple[str, ...],
    names: str,
    detector: str,
    detector_weights: Path | None,
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
    from metrics.compare import Comparison, Result, refuse_idle_options
    from metrics.detectors import Detector, load_detector
    from metrics.metric import parse_metrics
    from metrics.protocols import NVIDIA, PROTOCOLS
    from torch_utils.image_io import require_picture_suffix, save_picture
    from torch_utils.misc import select_device

    metrics = parse_metrics(names, detector)
    if not fakes and (save_stats is None or real is None):
        raise UserError(
            '--fake is missing: what should be judged? (Or give --real and --save-stats)'
        )
    if nearest is not None and (len(fakes) != 1 or real is None):
        raise UserError('--nearest: give --real, and one --fake at a time')
    for path in filter(None, (plot, nearest)):
        require_picture_suffix(path)
    if nearest is not None and not any(metric.kind == 'nearest' for metric in metrics):
        metrics = (*parse_metrics('nearest', detector), *metrics)
    where = select_device(device)
    log = functools.partial(cli.echo, err=True)

    @functools.cache
    def embed(name: str) -> Detector:
        weights = (detector_weights if name == detector else None) or (
            given['lpips_weights'] if name == 'vgg16' else None
        )
        return load_detector(
            name,
            device=where,
            weights_path=weights,
            log=log,
            precision=precision,
            protocol=PROTOCOLS[protocol] if name == detector else NVIDIA,
        )

    given |= {'device': where, 'drops_alpha': PROTOCOLS[protocol].drops_alpha, 'log': log}
    real_source = None if real is None else open_source(real, is_real=True, **given)
    given['labels_of'] = None if real_source is None else real_source.path
    # before detectors: wrong paths are told at once
    sources = {text: open_source(text, is_real=False, **given) for text in fakes}
    refuse_idle_options(
        real_source, sources.values(), given['mirror'], given['class_idx'], given['trunc']
    )
    comparison = Comparison(
        real_source,
        metrics,
        embed,
        batch_size=given['batch'],
        cache=not no_cache,
        show=True,
        log=log,
    )
    if save_stats is not None:
        comparison.save_real(save_stats)
    results: dict[str, Result] = {}
    try:
        for label, source in sources.items():
            start = time.perf_counter()
            results[label] = comparison.run(source, PAIRS if nearest is not None else 0)
            settings = {
                'real': real,
                'fake': label,
                'seed': given['seed'],
                'mirror': given['mirror'],
                'class': given['class_idx'],
                'classes': source.classes,
                'truncation_psi': given['trunc'],
                'seconds': time.perf_counter() - start,
                'timestamp': time.time(),
            }
            if as_json:
                click.echo(json.dumps(report.as_json(results[label], metrics, settings)))
    finally:  # those that were done before an error or Ctrl-C, too
        if results and not as_json:
            cli.echo(
                '\n'.join(
                    report.as_table(results, metrics)
                    if len(sources) > 1
                    else report.as_lines(results[fakes[0]], metrics)
                )
            )
    if plot is not None and results:
        save_picture(plot, report.plot(results, metrics))
    if nearest is not None:
        save_picture(nearest, report.nearest_page(results[fakes[0]]))


def open_source(
    text: str,
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
) -> 'Source':
    """A folder, zip, file of statistics, or snapshot, which may be a URL or a name; then with
    classes as in the set `labels_of`.
    """
    from metrics.compare import Drawn, Source, open_files
    from metrics.ppl import path_length_metric
    from training.snapshots import is_elsewhere, load_networks

    if not is_elsewhere(text) and (
        files := open_files(Path(text), num=num, seed=seed, class_idx=class_idx, **of_files)
    ):
        return files
    from synthesis.labels import choose_labels
    from synthesis.path_pairs import path_pairs
    from synthesis.sampling import sample_images

    G = load_networks(text, trust_pickle=trust_pickle).G_ema.to(device)
    label_fn, classes = choose_labels(G, class_idx, labels_of, log)
    draw = functools.partial(
        sample_images, G, batch_size=batch, seed=seed, truncation_psi=trunc, label_fn=label_fn
    )
    pairs = functools.partial(path_pairs, G, batch_size=min(batch, 8), seed=seed, label_fn=label_fn)
    return Source(
        text,
        lambda metric: Drawn(draw, num or metric.num_fake or DEFAULT_NUM_GENERATED),
        classes=classes,
        path_length=path_length_metric(
            pairs, device=device, weights_path=lpips_weights, num=num, show=True
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(calc_fid, argv, saves_memory=cli.SMALLER_BATCH)


if __name__ == '__main__':
    raise SystemExit(main())
