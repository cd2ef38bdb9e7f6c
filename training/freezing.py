"""FreezeD: fine-tune with the discriminator's first layers fixed (Mo et al. 2020, "Freeze the
Discriminator").
"""

import torch

from dnnlib import UserError
from torch_utils import persistence

from .networks import Conv2dLayer, Discriminator


def freeze(D: Discriminator, num_layers: int) -> Discriminator:
    """Copy D with the weights of its first layers as buffers, which no optimiser sees.

    Args:
        num_layers: counted as NVIDIA's `--freezed`: from the image side, fromrgb first, then conv0,
            conv1 and skip of each block. More than there are is legal; the 4×4 epilogue is never
            frozen.
    """
    block_kwargs = {
        **(persistence.constructor_kwargs(D).get('block_kwargs') or {}),
        'freeze_layers': num_layers,
    }
    return persistence.clone(D, block_kwargs=block_kwargs)


def layers_from(D: Discriminator, resolution: int) -> int:
    """Return how many layers make up all blocks of D of this resolution and above.

    They are counted from the image side, fromrgb and skip included.

    Raises:
        UserError: D has no such block.
    """
    if resolution not in D.block_resolutions:
        blocks = ', '.join(map(str, D.block_resolutions))
        raise UserError(
            f'--freezed-res={resolution}: D has blocks of {blocks} px (and 4, which is '
            f'never frozen)'
        )
    return sum(getattr(D, f'b{res}').num_layers for res in D.block_resolutions if res >= resolution)


def frozen_names(D: Discriminator) -> list[str]:
    """Return the names of the frozen tensors, sorted."""
    names = []
    for prefix, module in D.named_modules():
        if isinstance(module, Conv2dLayer):
            names += [
                f'{prefix}.{name}'
                for name in ('weight', 'bias')
                if isinstance(module._buffers.get(name), torch.Tensor)
            ]
    return sorted(names)
