"""The running average of the generator's weights, which makes the pictures."""

import torch


def ema_beta(batch_size: int, half_life_kimg: float, cur_nimg: int, rampup: float | None) -> float:
    """Return the weight that the running average keeps in one step.

    Karras et al. 2018, "Progressive Growing of GANs", section 5; ramp-up as in ADA.

    Args:
        batch_size: pictures a step.
        half_life_kimg: thousands of pictures after which a value has half its weight.
        cur_nimg: pictures seen so far.
        rampup: the half-life is at most this share of `cur_nimg`; None for no such limit.
    """
    half_life = half_life_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, cur_nimg * rampup)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(G_ema: torch.nn.Module, G: torch.nn.Module, beta: float) -> None:
    """Move the average's parameters towards G's; buffers (w_avg, noise) are copied."""
    averaged: list[torch.Tensor] = list(G_ema.parameters())
    current: list[torch.Tensor] = list(G.parameters())
    torch._foreach_lerp_(averaged, current, 1 - beta)
    torch._foreach_copy_(list(G_ema.buffers()), list(G.buffers()))
