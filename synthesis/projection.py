"""Projection: the latent, and the noise, with which a network draws a given picture.

Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (StyleGAN2), section 5
and appendix D. All numbers in `Settings` are the paper's unless it says otherwise.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from dnnlib import UserError, cli, make_output_folder
from torch_utils.image_io import save_picture
from torch_utils.lpips import squared_distance
from training.networks import Generator

from .latents import save_ws
from .noise import Noise, given_noise, noise_layers, stack_noise
from .projection_losses import Embed
from .sampling import latents_from_seeds, render_ws
from .video import VideoWriter

FILES = ('target.png', 'proj.png', 'projected_w.npz', 'proj.mp4')  # of a picture
NOISE_PYRAMID_END = 8  # pixels
VIDEO_FRAMES, VIDEO_FPS = 250, 25  # of the video of a projection; frames at most


@dataclass(frozen=True)
class Settings:
    """Settings of a projection.

    Attributes:
        space: `w`, one latent for all layers (the paper's), or `w+`, one for each (Abdal et al.
            2019, "Image2StyleGAN").
        noise: `const`, the network's own noise maps; `optimise`, maps of the picture's own (the
            paper's); `none`, no noise.
        num_steps: of Adam, at least 1.
        seed: of the latents behind the statistics of w, and of all noise.
        lr: the learning rate between its ramps.
        lr_rampup, lr_rampdown: shares of the steps: it rises linearly, and falls by half a cosine.
        w_samples: latents behind the statistics of w.
        w_noise, w_noise_length: Gaussian noise added to w falls from `w_noise` times the scale of w
            to 0, quadratically, in this share of the steps.
        noise_weight: of the regulariser that keeps noise maps free of structure.
        w_plus_weight: not in the paper; of the mean squared distance of `w+` latents from the mean
            latent, in units of the scale of w.
    """

    space: Literal['w', 'w+'] = 'w'
    noise: Literal['const', 'optimise', 'none'] = 'const'
    num_steps: int = 1000
    seed: int = 303
    lr: float = 0.1
    lr_rampup: float = 0.05
    lr_rampdown: float = 0.25
    w_samples: int = 10_000
    w_noise: float = 0.05
    w_noise_length: float = 0.75
    noise_weight: float = 1e5
    w_plus_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.w_plus_weight < math.inf:
            raise UserError(f'--w-plus-reg={self.w_plus_weight}: a number, at least 0')


@dataclass(frozen=True)
class State:
    """State of a projection between two steps.

    Attributes:
        step: number of steps done.
        ws: float32 `[N, num_ws, w_dim]`, on the network's device as all that follows.
        noises: N maps a layer, for noise mode `const`; empty where that is the network's own noise.
        distance: float32 `[N]`, of the pictures that the last step drew, with noise on their ws.
    """

    step: int
    ws: torch.Tensor
    noises: list[Noise]
    distance: torch.Tensor


def project(
    G: Generator,
    targets: torch.Tensor,
    embed: Embed,
    settings: Settings,
    c: torch.Tensor | None = None,
    every: int = 10,
) -> Iterator[State]:
    """Project pictures, each as if it were alone: losses are summed, Adam works number by number,
    and all get the same noise.

    Nothing waits for a GPU between two states.

    Args:
        G: a generator in evaluation mode. It is not changed.
        targets: uint8 `[N, C, H, W]`, of the network's size and channels.
        embed: what is to be alike; see `synthesis.projection_losses`.
        c: float32 `[1, c_dim]`, the class whose latents are the start; None for an unconditional
            network.
        every: steps between two states.

    Yields:
        The state after each `every` steps, and at the end.
    """
    device = next(G.parameters()).device
    with torch.no_grad():
        reference = embed((targets.to(device).float() - 127.5) / 127.5)
        w_avg, w_scale = w_statistics(G, c, settings.w_samples, settings.seed)
    generator = torch.Generator(device).manual_seed(settings.seed)
    w = w_avg.repeat(len(targets), G.num_ws if settings.space == 'w+' else 1, 1).requires_grad_()
    noises = _start_noises(G, len(targets), settings.noise, generator)
    trained = [w, *(noise for noise in noises.values() if noise.requires_grad)]
    optimizer = torch.optim.Adam(trained, betas=(0.9, 0.999))
    for step in range(settings.num_steps):
        time = step / settings.num_steps
        optimizer.param_groups[0]['lr'] = settings.lr * _ramps(time, settings)
        w_noise = settings.w_noise * w_scale * max(0.0, 1 - time / settings.w_noise_length) ** 2
        ws = w + torch.randn([1, *w.shape[1:]], device=device, generator=generator) * w_noise
        distance = squared_distance(embed(_draw(G, ws, noises)), reference)
        loss = distance
        if len(trained) > 1:
            loss = loss + settings.noise_weight * noise_autocorrelation(trained[1:])
        if settings.space == 'w+':
            loss = loss + settings.w_plus_weight * ((w - w_avg) / w_scale).square().sum(dim=2).mean(
                dim=1
            )
        for tensor, gradient in zip(trained, torch.autograd.grad(loss.sum(), trained)):
            tensor.grad = gradient
        optimizer.step()
        with torch.no_grad():
            for noise in trained[1:]:
                noise.copy_(normalize(noise))
        if (step + 1) % every == 0 or step + 1 == settings.num_steps:
            maps = [
                {layer: noise.detach()[i, 0].clone() for layer, noise in noises.items()}
                for i in range(len(targets))
            ]
            yield State(
                step + 1, w.detach().repeat(1, G.num_ws // w.shape[1], 1), maps, distance.detach()
            )


def render_projection(G: Generator, ws: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Draw one projection from its ws and noise alone, without what the optimiser adds.

    Args:
        ws: float32 `[num_ws, w_dim]`.

    Returns:
        uint8 `[C, H, W]` on the network's device.
    """
    with given_noise(G, stack_noise([noise])):
        return render_ws(G, ws.unsqueeze(0))[0]


def write_projections(
    G: Generator,
    targets: Mapping[Path, np.ndarray],
    label: torch.Tensor,
    embed: Embed,
    settings: Settings,
    *,
    batch: int,
    save_video: bool,
) -> None:
    """Project pictures and write each one's target.png, proj.png, projected_w.npz and proj.mp4.

    Args:
        targets: uint8 `[H, W, C]` by the folder for its files, of the network's size.
        label: float32 `[1, c_dim]`.
        embed, settings: see `project`.
        batch: how many at a time.
        save_video: write proj.mp4: target and projection side by side, step by step.

    Raises:
        UserError: a file can't be written.
    """
    for folder in targets:
        make_output_folder(folder)
    for start in range(0, len(targets), batch):
        folders = list(targets)[start : start + batch]
        pictures = np.stack([targets[folder] for folder in folders])
        _write_batch(G, pictures, folders, label, embed, settings, save_video=save_video)


def _write_batch(
    G: Generator,
    pictures: np.ndarray,
    folders: Sequence[Path],
    label: torch.Tensor,
    embed: Embed,
    settings: Settings,
    *,
    save_video: bool,
) -> None:
    targets = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    size = pictures.shape[2] * 2, pictures.shape[1]
    every = -(-settings.num_steps // VIDEO_FRAMES)
    with contextlib.ExitStack() as stack:
        videos = [
            stack.enter_context(VideoWriter(folder / 'proj.mp4', size, VIDEO_FPS))
            for folder in folders
            if save_video
        ]
        bar = stack.enter_context(
            cli.progress(list[int](), total=settings.num_steps, desc='Projecting', unit='step')
        )
        for state in project(G, targets, embed, settings, label, every):
            bar.set_postfix(distance=f'{state.distance.mean():.4f}', refresh=False)
            bar.update(state.step - bar.n)
            drawn = [
                render_projection(G, ws, noise).permute(1, 2, 0).cpu().numpy()
                for ws, noise in zip(state.ws, state.noises)
                if save_video or state.step == settings.num_steps
            ]
            for video, target, picture in zip(videos, pictures, drawn):
                video.add(np.concatenate([target, picture], axis=1))
        # before the videos' end, which may fail
        for folder, ws, noise in zip(folders, state.ws.cpu(), state.noises):
            own = {layer: values.cpu() for layer, values in noise.items()}
            save_ws(folder / 'projected_w.npz', [ws], [own])
    for folder, target, picture in zip(folders, pictures, drawn):
        save_picture(folder / 'target.png', target)
        save_picture(folder / 'proj.png', picture)


@torch.no_grad()
def w_statistics(
    G: Generator, c: torch.Tensor | None, samples: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate where a network's latents lie.

    Returns:
        Their mean, float32 `[w_dim]`, and their scale, float32 `[]`: the root of the mean squared
        distance from it.
    """
    device = next(G.parameters()).device
    z = latents_from_seeds([seed], samples * G.z_dim).reshape(samples, G.z_dim).to(device)
    ws = G.mapping(z, None if c is None else c.to(device).repeat(samples, 1))[:, 0]
    w_avg = ws.mean(dim=0)
    return w_avg, (ws - w_avg).square().sum(dim=1).mean().sqrt()


def noise_autocorrelation(noises: list[torch.Tensor]) -> torch.Tensor:
    """Measure how far noise maps are from white (StyleGAN2, appendix D): squared correlations of
    neighbours, at every size down to 8 px.

    Args:
        noises: float32 `[N, 1, r, r]` each, of unit variance.

    Returns:
        float32 `[N]`, the sum over maps, sizes and the two directions.
    """
    total = torch.zeros(len(noises[0]), device=noises[0].device)
    for noise in noises:
        while True:
            for dim in (2, 3):
                total = total + (noise * noise.roll(1, dim)).mean(dim=(1, 2, 3)).square()
            if noise.shape[2] <= NOISE_PYRAMID_END:
                break
            noise = F.avg_pool2d(noise, 2) * 2  # of white noise the variance is still 1
    return total


def normalize(noise: torch.Tensor) -> torch.Tensor:
    """Normalise `[N, 1, r, r]` to mean 0 and variance 1 in each map."""
    noise = noise - noise.mean(dim=(2, 3), keepdim=True)
    return noise * noise.square().mean(dim=(2, 3), keepdim=True).rsqrt()


def _draw(G: Generator, ws: torch.Tensor, noises: Noise) -> torch.Tensor:
    """Draw float32 pictures of ws `[N, 1 or num_ws, w_dim]` and noise, with gradients for both."""
    return torch.func.functional_call(
        G.synthesis,
        {f'{layer}.noise_const': noise for layer, noise in noises.items()},
        (ws.expand(-1, G.num_ws, -1),),
        dict(noise_mode='const', force_fp32=True, fused_modconv=False),
    )


def _ramps(time: float, settings: Settings) -> float:
    up = min(1.0, time / settings.lr_rampup)
    return up * (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - time) / settings.lr_rampdown)))


def _start_noises(G: Generator, count: int, kind: str, generator: torch.Generator) -> Noise:
    """float32 `[count, 1, resolution, resolution]` a layer, the same for each picture; empty for
    the network's own.
    """
    noises = {}
    for name, layer in noise_layers(G).items() if kind != 'const' else ():
        noise = torch.zeros([1, 1, layer.resolution, layer.resolution], device=generator.device)
        if kind == 'optimise':
            noise.normal_(generator=generator)
        noises[name] = noise.repeat(count, 1, 1, 1).requires_grad_(kind == 'optimise')
    return noises
