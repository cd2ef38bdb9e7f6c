"""How well projection finds a network's own pictures again: PSNR, and how much nearer than random
pictures it comes.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import cli  # noqa: E402
from dnnlib.cli import option  # noqa: E402

if TYPE_CHECKING:
    import torch

NETWORK = str(Path(__file__).resolve().parent.parent / 'tests' / 'golden' / 'ada-uncond-32.pkl')
RANDOM = 64


def psnr(a: 'torch.Tensor', b: 'torch.Tensor') -> 'torch.Tensor':
    """Peak signal-to-noise ratio in dB of uint8 `[N, C, H, W]`: float32 `[N]`."""
    error = ((a.float() - b.float()) / 255).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp(min=1e-10).log10()


@cli.command(name='project', help=__doc__)
@option('--network', type=cli.given_text, default=NETWORK, help='An unconditional snapshot.')
@option('--num', type=click.IntRange(1), default=6, help='Own pictures to project, of seeds 0, 1 …')
@option('--num-steps', type=click.IntRange(1), default=1000, help='Steps of each projection.')
@option(
    '--noise',
    type=click.Choice(['const', 'optimise', 'none']),
    default='const',
    help='As of project.py.',
)
@option('--w-plus-reg', type=cli.finite, default=0.003, help='As of project.py.')
@option(
    '--lpips-weights',
    type=cli.given_path,
    default=None,
    help='As of project.py; without it the loss is multi-scale L2.',
)
@cli.device_option()
def command(
    network: str,
    num: int,
    num_steps: int,
    noise: Any,
    w_plus_reg: float,
    lpips_weights: Path | None,
    device: str,
) -> None:
    import torch

    from synthesis.projection import Settings, project, render_projection
    from synthesis.projection_losses import choose_embedding
    from synthesis.sampling import class_labels, latents_from_seeds, render
    from torch_utils.lpips import squared_distance
    from torch_utils.misc import select_device
    from training.snapshots import load_networks

    place = select_device(device)
    G = load_networks(network).G_ema.to(place)
    loss, embed = choose_embedding(
        'lpips' if lpips_weights else 'pyramid', lpips_weights, G.img_resolution, place
    )
    images = render(
        G, latents_from_seeds(range(num + RANDOM), G.z_dim), class_labels(G, None, num + RANDOM)
    )
    targets, others = images[:num], images[num:]

    def embedded(pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [embed((picture.unsqueeze(0) - 127.5) / 127.5) for picture in pictures.float()]
        )

    wanted = embedded(targets)
    baseline = torch.stack([squared_distance(embedded(others), row).mean() for row in wanted])
    chance = torch.stack([psnr(others, target).mean() for target in targets])
    name = (
        torch.cuda.get_device_name()
        if place.type == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    click.echo(
        f'{name}; PyTorch {torch.__version__}; {G.img_resolution} px, {num} own pictures, '
        f'{num_steps} steps, loss {loss}, '
        f'noise {noise}'
    )
    click.echo(f'random pictures: PSNR {chance.mean():.2f} dB, distance {baseline.mean():.4f}')
    for space in ('w', 'w+'):
        start = time.perf_counter()
        settings = Settings(space=space, noise=noise, w_plus_weight=w_plus_reg, num_steps=num_steps)  # type: ignore[arg-type]
        *_, state = project(G, targets, embed, settings, every=num_steps)
        found = torch.stack([render_projection(G, *pair) for pair in zip(state.ws, state.noises)])
        seconds = time.perf_counter() - start
        decibels = psnr(found, targets)
        ratio = baseline / squared_distance(embedded(found), wanted).clamp(min=1e-10)
        click.echo(
            f'{space:2}: PSNR mean {decibels.mean():.2f} dB, least {decibels.min():.2f}; '
            f'distance of random pictures over its own: '
            f'median {ratio.median():.0f}x, least {ratio.min():.0f}x; {seconds:.0f} s'
        )


if __name__ == '__main__':
    sys.exit(cli.run(command, sys.argv[1:]))
