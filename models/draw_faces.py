"""Draw photograph-like faces of people who don't exist, to train a source network on.

The pictures come from the DCGAN inside the pip package gan-face-generate 1.1.1 (MIT; trained by its
author on DigiFace-1M, rendered heads, whose own licence is for non-commercial research). Latents are
drawn at 0.85 of their usual spread. A picture is kept if it has contrast and dlib finds exactly one
frontal face of a fair size near its middle: about two in three are.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import UserError, cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

SPREAD = 0.85  # of the latents: below 1 for fewer odd faces
BATCHES, BATCH = 10, 100  # of a seed
MIN_CONTRAST = 25  # standard deviation of a picture's numbers, 0…255
DETECTOR_SIZE, PADDING = 192, 32  # what dlib looks at, pixels
MIN_FACE, MAX_OFFSET = 90, 28  # its width and its distance from the middle, in those pixels


def load_generator() -> Any:
    """Return the package's generator: float32 `[N, 100, 100]` to `[N, 3, 64, 64]`, −1…1.

    Raises:
        UserError: the package, or one that it needs, is missing.
    """
    import torch

    try:
        import gan_face_generate
        from gan_face_generate.models import Generator
    except ImportError as error:
        raise UserError(
            f'the package {error.name} is missing: pip install gan-face-generate==1.1.1'
        ) from error
    path = Path(gan_face_generate.__file__).with_name('weights.tar')
    weights = torch.load(path, map_location='cpu', weights_only=True)
    generator = Generator(1, 3, 100, 64)
    generator.load_state_dict(weights['netG_state_dict'])
    return generator.eval()


def is_good(image: np.ndarray, detector: Any) -> bool:
    """Whether a picture, uint8 `[64, 64, 3]`, shows one frontal face with enough contrast."""
    from PIL import Image

    if image.std() < MIN_CONTRAST:
        return False
    size = (DETECTOR_SIZE, DETECTOR_SIZE)
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    padded = np.pad(large, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), 'edge')
    faces, _, _ = detector.run(padded, 0, 0.35)
    if len(faces) != 1 or faces[0].width() <= MIN_FACE:
        return False
    middle = (faces[0].left() + faces[0].right()) / 2 - PADDING
    return abs(middle - DETECTOR_SIZE / 2) < MAX_OFFSET


def draw(out: Path, seed: int, batches: int = BATCHES) -> int:
    """Draw a seed's pictures and keep the good ones.

    Returns:
        How many were kept.
    """
    import dlib
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator, detector, kept = load_generator(), dlib.get_frontal_face_detector(), 0
    for batch in range(batches):
        with torch.no_grad():
            images = generator(torch.randn(BATCH, 100, 1, 1) * SPREAD)
        pixels = ((images + 1) * 127.5 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        for i, image in enumerate(pixels):
            if is_good(image, detector):
                Image.fromarray(image).save(out / f'f{seed:03d}{batch:03d}{i:02d}.png')
                kept += 1
    return kept


@cli.command(name='draw_faces', help=__doc__)
@option('--out', required=True, type=cli.given_path, help='Folder for the pictures.')
@option('--count', type=click.IntRange(1), default=12282, help='How many pictures.')
@option('--workers', type=click.IntRange(1), default=2, help='Processes.')
def command(out: Path, count: int, workers: int) -> None:
    load_generator()  # a missing package is an error before anything is drawn
    out.mkdir(parents=True, exist_ok=True)
    total, seed = 0, 0
    with ProcessPoolExecutor(workers) as pool:
        while total < count:
            seeds = range(seed, seed + workers)
            total += sum(pool.map(draw, [out] * workers, seeds))
            seed += workers
            click.echo(f'{min(total, count)} of {count}')
    for path in sorted(out.glob('f*.png'))[count:]:
        path.unlink()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return cli.run(command, argv)


if __name__ == '__main__':
    sys.exit(main())
