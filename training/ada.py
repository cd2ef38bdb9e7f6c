"""Adaptive discriminator augmentation: the controller of p."""

import torch


class AdaController:
    """Raises p while D is too sure of the real pictures, lowers it else (ADA, section 3.2, with r_t
    = E[sign(D(real))]).

    All of it happens on p's device; nothing waits for it.

    Args:
        p: `[]`, changed in place: the buffer of an `AugmentPipe`.
        target: of r_t.
        kimg: thousands of pictures in which p can go from 0 to 1.
        p_max: above this p does not go.

    Attributes:
        signs: `[2]`, the sum and number of the signs observed since the last step.
    """

    def __init__(self, p: torch.Tensor, target: float, kimg: float, p_max: float = 1.0) -> None:
        self.p = p
        self._target = target
        self._nimg = kimg * 1000
        self._p_max = p_max
        self.signs = torch.zeros([2], device=p.device)

    @torch.no_grad()
    def observe(self, real_logits: torch.Tensor) -> None:
        """Accumulate the signs of D's output for real pictures, float32 `[N, 1]`."""
        signs = real_logits.detach().sign().to(torch.float32).nan_to_num(0)
        self.signs += torch.stack([signs.sum(), torch.full_like(signs.sum(), signs.numel())])

    @torch.no_grad()
    def step(self, nimg: int) -> None:
        """Move p for the last `nimg` pictures, by the signs observed since the step before."""
        r_t = self.signs[0] / self.signs[1].clamp(min=1)
        self.p.copy_(
            (self.p + (r_t - self._target).sign() * (nimg / self._nimg)).clamp(0, self._p_max)
        )
        self.signs.zero_()
