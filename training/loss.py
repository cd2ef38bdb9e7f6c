"""The four terms of StyleGAN2's training: what G and D minimise, and their regularisers.

Each is a function of networks and inputs that returns named tensors, one value a sample; the loop
weighs and averages.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from torch_utils.ops import conv2d_gradfix

from .networks import Discriminator, Generator

Augment = Callable[[torch.Tensor], torch.Tensor]


class GMain(NamedTuple):
    """`loss` and `gen_logits`: float32 `[N, 1]`."""

    loss: torch.Tensor
    gen_logits: torch.Tensor


class GPathLength(NamedTuple):
    """`penalty` and `lengths`: float32 `[N]`; `mean`: `[]`, the new running mean of the lengths,
    detached.
    """

    penalty: torch.Tensor
    lengths: torch.Tensor
    mean: torch.Tensor


class DMain(NamedTuple):
    """All float32 `[N, 1]`."""

    loss_gen: torch.Tensor
    loss_real: torch.Tensor
    gen_logits: torch.Tensor
    real_logits: torch.Tensor


class DR1(NamedTuple):
    """`penalty`: float32 `[N]`, the squared gradient norm, without γ / 2."""

    penalty: torch.Tensor


def mixed_ws(
    G: Generator,
    z: torch.Tensor,
    c: torch.Tensor,
    style_mixing_prob: float,
    update_w_avg: bool = True,
) -> torch.Tensor:
    """Map latents with style mixing: from a random layer on, w is that of another latent.

    Karras et al. 2019, section 3.1.

    Args:
        z: float32 `[N, z_dim]`.
        c: float32 `[N, c_dim]`.
        style_mixing_prob: how often a batch is mixed at all.
        update_w_avg: let the running mean of w follow.

    Returns:
        float32 `[N, num_ws, w_dim]`.
    """
    ws = G.mapping(z, c, update_emas=update_w_avg)
    if style_mixing_prob == 0:
        return ws
    other = G.mapping(torch.randn_like(z), c, update_emas=False)
    cutoff = torch.randint(1, G.num_ws, [], device=z.device)
    cutoff = torch.where(
        torch.rand([], device=z.device) < style_mixing_prob,
        cutoff,
        torch.full_like(cutoff, G.num_ws),
    )
    # a mask on the device: slicing by `cutoff` would wait for it
    keep = torch.arange(G.num_ws, device=z.device) < cutoff
    return torch.where(keep[None, :, None], ws, other)


def G_main(
    G: Generator,
    D: Discriminator,
    augment: Augment,
    z: torch.Tensor,
    c: torch.Tensor,
    style_mixing_prob: float = 0.0,
    update_w_avg: bool = True,
) -> GMain:
    """Non-saturating logistic loss of the generator (Goodfellow et al. 2014, section 3).

    Args:
        augment: applied to what D sees.
        z: float32 `[N, z_dim]`.
        c: float32 `[N, c_dim]`.
    """
    gen_img = G.synthesis(mixed_ws(G, z, c, style_mixing_prob, update_w_avg))
    gen_logits = D(augment(gen_img), c)
    return GMain(F.softplus(-gen_logits), gen_logits)


def G_pl(
    G: Generator,
    z: torch.Tensor,
    c: torch.Tensor,
    pl_mean: torch.Tensor,
    pl_decay: float = 0.01,
    style_mixing_prob: float = 0.0,
    pl_noise: torch.Tensor | None = None,
    update_w_avg: bool = True,
) -> GPathLength:
    """Path length regularisation (StyleGAN2, equation 4): steps in w should change pictures by a
    constant amount.

    Args:
        z: float32 `[N, z_dim]`.
        c: float32 `[N, c_dim]`.
        pl_mean: `[]`, the running mean of lengths before this step.
        pl_noise: float32 `[N, C, H, W]`, normal with standard deviation 1 / √(H·W); None draws it.
    """
    ws = mixed_ws(G, z, c, style_mixing_prob, update_w_avg)
    gen_img = G.synthesis(ws)
    if pl_noise is None:
        pl_noise = torch.randn_like(gen_img) / math.sqrt(gen_img.shape[2] * gen_img.shape[3])
    with conv2d_gradfix.no_weight_gradients():
        (grads,) = torch.autograd.grad([(gen_img * pl_noise).sum()], [ws], create_graph=True)
    lengths = grads.square().sum(dim=2).mean(dim=1).sqrt()
    mean = pl_mean.lerp(lengths.mean(), pl_decay)
    return GPathLength((lengths - mean).square(), lengths, mean.detach())


def D_main(
    G: Generator,
    D: Discriminator,
    augment: Augment,
    z: torch.Tensor,
    gen_c: torch.Tensor,
    real_img: torch.Tensor,
    real_c: torch.Tensor,
    style_mixing_prob: float = 0.0,
) -> DMain:
    """Logistic loss of the discriminator on fakes and on reals.

    Args:
        z: float32 `[N, z_dim]`.
        gen_c, real_c: float32 `[N, c_dim]`.
        real_img: float32 `[N, C, H, W]`, −1…1; as many as `z`.
    """
    with torch.no_grad():
        gen_img = G.synthesis(mixed_ws(G, z, gen_c, style_mixing_prob, update_w_avg=False))
    assert len(gen_img) == len(real_img)
    # half the launches of one after the other
    logits = D(augment(torch.cat([gen_img, real_img])), torch.cat([gen_c, real_c]), batches=2)
    gen_logits, real_logits = logits.chunk(2)
    return DMain(F.softplus(gen_logits), F.softplus(-real_logits), gen_logits, real_logits)


def D_r1(D: Discriminator, augment: Augment, real_img: torch.Tensor, real_c: torch.Tensor) -> DR1:
    """R1, the squared gradient of D's output at real pictures (Mescheder et al. 2018, equation 9).

    Args:
        real_img: float32 `[N, C, H, W]`, −1…1.
        real_c: float32 `[N, c_dim]`.
    """
    real_img = real_img.detach().requires_grad_(True)
    real_logits = D(augment(real_img), real_c)
    with conv2d_gradfix.no_weight_gradients():
        (grads,) = torch.autograd.grad([real_logits.sum()], [real_img], create_graph=True)
    return DR1(grads.square().sum(dim=[1, 2, 3]))
