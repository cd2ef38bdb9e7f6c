"""Frechet distance (FID) between real pictures and fake ones, or the pictures of a generator."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:  # torch takes seconds to import, which --help should not
    import torch
    from tqdm import tqdm

    Batches = tuple[int, Callable[[], Iterator[torch.Tensor]]]

DEFAULT_NUM_GENERATED = 50000


@cli.command(name='calc_fid')
@cli.option('--real', required=True, type=cli.given_path, metavar='DIR|ZIP', group='Pictures', help='Real pictures; subfolders count.')
@cli.option('--fake', required=True, type=cli.given_path, metavar='DIR|ZIP|PKL', group='Pictures',
            help='Pictures to judge, or a network snapshot whose G_ema draws them.')
@cli.trust_option('Pictures')
@cli.option('--num', type=click.IntRange(min=2), metavar='N', group='Pictures',
            help='From a folder or zip, on both sides: take at most N pictures, the first of a shuffle by --seed; default all. '
                 f'From a snapshot: draw N; default {DEFAULT_NUM_GENERATED:,}, as in fid50k_full.')
@cli.option('--seed', type=click.IntRange(0, 2**32 - 1), default=0, group='Pictures',
            help='Of the choice of pictures, and of what a snapshot draws.')
@cli.option('--detector', type=click.Choice(['inception', 'random-vgg']), default='inception', group='Detector',
            help='inception gives FID. random-vgg needs no download; its distance is another quantity, not comparable with FID.')
@cli.option('--detector-weights', type=cli.given_path, metavar='PATH', group='Detector',
            help='weights-inception-2015-12-05-6726825d.pth of torch-fidelity; default: downloaded once into the cache directory.')
@cli.device_option(group='Computing')
@cli.option('--batch', type=click.IntRange(min=1), default=32, metavar='N', group='Computing', help='Pictures at a time.')
@cli.option('--json', 'as_json', is_flag=True, group='Output', help='Print one JSON object on one line instead of a sentence.')
def calc_fid(real: Path, fake: Path, num: int | None, seed: int, detector: str, detector_weights: Path | None, device: str,
             batch: int, as_json: bool, trust_pickle: bool) -> None:
    """How far apart two sets of pictures are: the Frechet distance between their features.

    Conventions are those of NVIDIA's fid50k_full: all real pictures unless --num says less, never mirrored, 8-bit pixels,
    TensorFlow's Inception with its own resizing, covariances divided by N. A snapshot draws without truncation, its classes
    (if it has any) uniformly.
    """
    from metrics.detectors import load_detector
    from metrics.feature_stats import MeanCov, collect_stats
    from metrics.fid import FRECHET_NAMES, bias_warning, frechet_distance
    from torch_utils.misc import select_device

    def log(message: str) -> None:
        click.echo(message, err=True)

    where = select_device(device)
    real_set = open_pictures(real, num, seed, batch)
    fake_set = open_fakes(fake, num, seed, batch, where, trust_pickle)  # before the detector, so that a wrong path is told at once
    embed = load_detector(detector, device=where, weights_path=detector_weights, log=log)

    def stats(path: Path, pictures: 'Batches', desc: str) -> MeanCov:
        total, batches = pictures
        bar: tqdm[None] = cli.progress((), total=total, desc=desc, unit='img')
        with bar:

            def counted() -> Iterator['torch.Tensor']:
                for pixels in batches():
                    yield pixels
                    bar.update(len(pixels))

            return collect_stats(counted(), embed)

    real_stats, fake_stats = stats(real, real_set, 'real'), stats(fake, fake_set, 'fake')
    key, title = FRECHET_NAMES[detector]
    value = frechet_distance(real_stats, fake_stats)
    warning = bias_warning(title, real_stats.num, fake_stats.num)
    if warning:
        log(warning)
    if as_json:
        report: dict[str, Any] = {
            'results': {key: value}, 'detector': detector, 'detector_sha256': embed.sha256, 'real': str(real), 'fake': str(fake),
            'num_real': real_stats.num, 'num_fake': fake_stats.num, 'seed': seed, 'mirror': False, 'covariance_divisor': 'N',
        }
        click.echo(json.dumps(report))
    else:
        click.echo(f'{title}: {value:.4f} ({real_stats.num:,} real, {fake_stats.num:,} fake pictures)')


def open_pictures(path: Path, num: int | None, seed: int, batch: int) -> 'Batches':
    """The pictures of a folder or zip."""
    from metrics.pictures import PictureSet

    pictures = PictureSet(path, num=num, seed=seed)
    return len(pictures), lambda: pictures.batches(batch)


def open_fakes(path: Path, num: int | None, seed: int, batch: int, device: 'torch.device', trust_pickle: bool = False) -> 'Batches':
    """The pictures of a folder or zip, or those that a snapshot's G_ema draws."""
    if path.is_dir() or path.suffix.lower() == '.zip' or not path.exists():
        return open_pictures(path, num, seed, batch)
    import torch

    from synthesis.images import sample_images
    from training.checkpoint import load_networks

    G = load_networks(path, trust_pickle).G_ema.to(device)
    total = num or DEFAULT_NUM_GENERATED

    def draw() -> Iterator[torch.Tensor]:
        torch.manual_seed(seed)  # the networks' noise inputs come from the global generator
        yield from sample_images(G, total, batch_size=batch, seed=seed)

    return total, draw


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(calc_fid, argv)


if __name__ == '__main__':
    raise SystemExit(main())
