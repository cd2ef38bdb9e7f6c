"""Lazy regularisation: which losses run at which step, with optimisers scaled to match (StyleGAN2,
appendix B).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from torch_utils.distributed import ALONE, Ranks
from torch_utils.training_stats import StatsCollector

from . import loss
from .ada import AdaController
from .augment import AugmentPipe
from .config import LossConfig, OptimizerConfig
from .networks import Discriminator, Generator


@dataclass
class Batch:
    """The inputs of one phase, a part of it at a time: `real_img` float32 `[N, C, H, W]`, `z` `[N,
    z_dim]`, labels `[N, c_dim]`.
    """

    real_img: torch.Tensor
    real_c: torch.Tensor
    z: torch.Tensor
    gen_c: torch.Tensor

    def split(self, size: int) -> Iterator['Batch']:
        """Yield parts of at most `size` samples."""
        for parts in zip(
            self.real_img.split(size),
            self.real_c.split(size),
            self.z.split(size),
            self.gen_c.split(size),
        ):
            yield Batch(*parts)

    def clone(self) -> 'Batch':
        """Copy the batch to memory of its own."""
        return Batch(self.real_img.clone(), self.real_c.clone(), self.z.clone(), self.gen_c.clone())

    def copy_(self, other: 'Batch') -> None:
        """Take over the contents of a batch of the same shapes."""
        self.real_img.copy_(other.real_img)
        self.real_c.copy_(other.real_c)
        self.z.copy_(other.z)
        self.gen_c.copy_(other.gen_c)

    def __len__(self) -> int:
        return self.z.shape[0]


@dataclass
class Phase:
    """One backward pass and optimiser step.

    Attributes:
        name: as in NVIDIA's logs: Gmain, Greg, Dmain, Dreg.
        module: the network that learns; the other one takes no gradients meanwhile.
        interval: runs every so many steps; its loss is scaled by as much.
        compute: a part of the batch to its loss, float32 `[N]` or `[N, 1]`.
        running: averages that `compute` moves in place. All parts of the batch move them from where
            they were before it, and the mean of where they came to is kept: neither `batch_gpu` nor
            the number of processes matters.
        bad: `[]`, 1 if the last step was skipped, else 0.
        bad_in_a_row: `[]`, how many steps have been skipped one after the other.
    """

    name: str
    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    interval: int
    compute: Callable[[Batch], torch.Tensor]
    running: Sequence[torch.Tensor] = ()

    def __post_init__(self) -> None:
        self.module.requires_grad_(False)  # until it is this phase's turn
        device = next(self.module.parameters()).device
        self.bad, self.bad_in_a_row = torch.zeros([], device=device), torch.zeros([], device=device)
        self._ends = [torch.zeros_like(tensor) for tensor in self.running]

    def run(self, batch: Batch, batch_gpu: int, ranks: Ranks = ALONE) -> torch.Tensor:
        """Accumulate the gradient of the mean loss over the batch of all processes, in parts of
        `batch_gpu`, and step.

        A gradient that is not finite changes nothing. There is no host sync to find out: the flag
        is passed to fused Adam on the device.

        Args:
            batch: the share of this process.

        Returns:
            `bad`.
        """
        self.accumulate(batch, batch_gpu)
        ranks.mean_(self.reduced)
        self.apply()
        return self.bad

    @property
    def reduced(self) -> list[torch.Tensor]:
        """Gradients and running averages, averaged over the processes between `accumulate` and
        `apply`.
        """
        return [*self._grads(), *self._ends]

    def accumulate(self, batch: Batch, batch_gpu: int) -> None:
        """Compute the gradients of this process, the first half of `run`."""
        try:
            for parameter in self.module.parameters():
                parameter.requires_grad_(True)
                # Adam must see every parameter at every step, also those that a loss leaves alone
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.optimizer.zero_grad(set_to_none=False)
            starts = [tensor.clone() for tensor in self.running]
            for end in self._ends:
                end.zero_()
            for part in batch.split(batch_gpu):
                share = len(part) / len(batch)
                (self.compute(part).mean() * (self.interval * share)).backward()
                for tensor, start, end in zip(self.running, starts, self._ends):
                    end.add_(tensor, alpha=share)
                    tensor.copy_(start)
        # also when the memory is full: what follows must not compute gradients for nothing
        finally:
            self.module.requires_grad_(False)

    def apply(self) -> None:
        """Take the optimiser step, the second half of `run`."""
        finite = torch.stack(torch._foreach_norm(self._grads(), float('inf'))).isfinite().all()
        self.bad.copy_(~finite)
        for tensor, end in zip(self.running, self._ends):
            tensor.copy_(torch.where(finite, end, tensor))
        self.optimizer.found_inf = self.bad  # type: ignore[attr-defined]  # what GradScaler tells a fused Adam
        self.optimizer.step()
        self.bad_in_a_row.add_(1).mul_(self.bad)

    def _grads(self) -> list[torch.Tensor]:
        return [
            parameter.grad for parameter in self.module.parameters() if parameter.grad is not None
        ]


class Losses:
    """The four loss terms bound to networks, weights and statistics: part of a batch to loss.

    Args:
        augment_pipe: None for no augmentation.
        ada: told the discriminator's verdicts on real pictures; None without the controller.
        pl_mean: `[]`, the running mean of path lengths, updated in place.
    """

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        augment_pipe: AugmentPipe | None,
        ada: AdaController | None,
        config: LossConfig,
        stats: StatsCollector,
        pl_mean: torch.Tensor,
    ) -> None:
        self.G = G
        self.D = D
        self.ada = ada
        self.config = config
        self.stats = stats
        self.pl_mean = pl_mean
        self.augment: loss.Augment = augment_pipe if augment_pipe is not None else _unchanged

    def G_main(self, batch: Batch) -> torch.Tensor:
        terms = loss.G_main(
            self.G, self.D, self.augment, batch.z, batch.gen_c, self.config.style_mixing_prob
        )
        self.stats.report('Loss/scores/fake', terms.gen_logits)
        self.stats.report('Loss/signs/fake', terms.gen_logits.sign())
        self.stats.report('Loss/G/loss', terms.loss)
        return terms.loss

    def G_pl(self, batch: Batch) -> torch.Tensor:
        size = max(len(batch) // self.config.pl_batch_shrink, 1)
        terms = loss.G_pl(
            self.G,
            batch.z[:size],
            batch.gen_c[:size],
            self.pl_mean,
            self.config.pl_decay,
            self.config.style_mixing_prob,
        )
        self.pl_mean.copy_(terms.mean)
        value = terms.penalty * self.config.pl_weight
        self.stats.report('Loss/pl_penalty', terms.penalty)
        self.stats.report('Loss/G/reg', value)
        return value

    def D_main(self, batch: Batch) -> torch.Tensor:
        terms = loss.D_main(
            self.G,
            self.D,
            self.augment,
            batch.z,
            batch.gen_c,
            batch.real_img,
            batch.real_c,
            self.config.style_mixing_prob,
        )
        if self.ada is not None:
            self.ada.observe(terms.real_logits)
        self.stats.report('Loss/scores/real', terms.real_logits)
        self.stats.report('Loss/signs/real', terms.real_logits.sign())
        self.stats.report('Loss/D/loss', terms.loss_gen + terms.loss_real)
        return terms.loss_gen + terms.loss_real

    def D_r1(self, batch: Batch) -> torch.Tensor:
        terms = loss.D_r1(self.D, self.augment, batch.real_img, batch.real_c)
        value = terms.penalty * (self.config.r1_gamma / 2)
        self.stats.report('Loss/r1_penalty', terms.penalty)
        self.stats.report('Loss/D/reg', value)
        return value


def _unchanged(images: torch.Tensor) -> torch.Tensor:
    return images


def build_phases(losses: Losses, optimizer: OptimizerConfig) -> list[Phase]:
    """Build the phases of a step in their order. A regulariser of weight 0 has none."""
    config = losses.config
    G_opt = lazy_adam(losses.G, optimizer, config.g_reg_interval, optimizer.g_lr)
    D_opt = lazy_adam(losses.D, optimizer, config.d_reg_interval, optimizer.d_lr)
    w_avg = losses.G.mapping.w_avg
    phases = [Phase('Gmain', losses.G, G_opt, 1, losses.G_main, [w_avg])]
    if config.pl_weight != 0:
        phases.append(
            Phase(
                'Greg', losses.G, G_opt, config.g_reg_interval, losses.G_pl, [w_avg, losses.pl_mean]
            )
        )
    phases.append(Phase('Dmain', losses.D, D_opt, 1, losses.D_main))
    if config.r1_gamma != 0:
        phases.append(Phase('Dreg', losses.D, D_opt, config.d_reg_interval, losses.D_r1))
    return phases


def lazy_adam(
    module: torch.nn.Module, config: OptimizerConfig, interval: int, lr: float | None = None
) -> torch.optim.Adam:
    """Build Adam with settings scaled by r / (r + 1), as every r-th step has a second update.

    Args:
        interval: r, steps between regularisations.
        lr: instead of that of `config`.
    """
    ratio = interval / (interval + 1)
    rate = (config.lr if lr is None else lr) * ratio
    betas = (config.beta1**ratio, config.beta2**ratio)
    return torch.optim.Adam(
        list(module.parameters()), lr=rate, betas=betas, eps=config.eps, fused=True
    )
