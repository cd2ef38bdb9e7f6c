"""Gradients of the four phases of a step, by one process or several; for test_distributed.py."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from torch_utils.distributed import join  # noqa: E402
from torch_utils.training_stats import StatsCollector  # noqa: E402
from training.ada import AdaController  # noqa: E402
from training.augment import AugmentPipe  # noqa: E402
from training.config import LossConfig, OptimizerConfig  # noqa: E402
from training.networks import Discriminator, Generator  # noqa: E402
from training.phases import Batch, Losses, build_phases  # noqa: E402


def main() -> None:
    out, batch_gpu = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    with join('cpu') as ranks:
        torch.manual_seed(0)
        G = (
            Generator(
                16, 2, 16, 16, 3, channel_base=256, channel_max=16, mapping_kwargs={'num_layers': 2}
            )
            .train()
            .requires_grad_(False)
        )
        D = (
            Discriminator(
                2, 16, 3, channel_base=256, channel_max=16, epilogue_kwargs={'mbstd_group_size': 4}
            )
            .train()
            .requires_grad_(False)
        )
        for name, tensor in G.named_parameters():
            if name.endswith('noise_strength'):
                tensor.fill_(0.1)
        pipe = AugmentPipe(xflip=1, scale=1, brightness=1, noise=1)
        pipe.p.fill_(0.7)
        ada = AdaController(pipe.p, 0.6, 100)
        losses = Losses(
            G, D, pipe, ada, LossConfig(r1_gamma=1), StatsCollector(), pl_mean=torch.full([], 0.3)
        )
        whole = Batch(
            torch.rand(8, 3, 16, 16) * 2 - 1,
            torch.eye(2)[[0, 1] * 4],
            torch.randn(8, 16),
            torch.eye(2)[[1, 0] * 4],
        )
        share = list(whole.split(8 // ranks.count))[ranks.rank]
        result = {}
        for phase in build_phases(losses, OptimizerConfig(lr=1e-3)):
            compute = phase.compute

            # so that a part is augmented alike, whoever computes it
            def seeded(part: Batch, compute: object = compute) -> torch.Tensor:
                torch.manual_seed(int(part.z[0, 0].abs() * 1e6))
                return compute(part)  # type: ignore[operator]

            phase.compute = seeded
            phase.run(share, batch_gpu, ranks)
            result.update(
                {
                    f'{phase.name}.{name}': tensor.grad.clone()
                    for name, tensor in phase.module.named_parameters()
                    if tensor.grad is not None
                }
            )
        result.update(
            {
                f'after.{name}': tensor
                for network in (G, D)
                for name, tensor in network.named_parameters()
            }
        )
        ranks.sum_([ada.signs])
        result.update(w_avg=G.mapping.w_avg, pl_mean=losses.pl_mean, signs=ada.signs)
        stats = losses.stats.read(ranks)
        if ranks.is_main:
            torch.save(
                {'tensors': result, 'stats': {name: row['mean'] for name, row in stats.items()}},
                out,
            )


if __name__ == '__main__':
    main()
