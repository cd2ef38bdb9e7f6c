"""A plugin of pytest's: the CPU passes for a GPU, with the kernels' own text run as
tests/host_kernels.py does.
"""

import host_kernels
import torch

from torch_utils import custom_ops
from torch_utils.ops import bias_act, upfirdn2d

torch.Tensor.is_cuda = property(lambda tensor: True)  # type: ignore[assignment,method-assign]
custom_ops.enabled = lambda device: True  # type: ignore[assignment]
custom_ops.get_kernel = host_kernels.get_kernel  # type: ignore[assignment]
LIBRARY = torch.library.Library('stylegan', 'IMPL')
for module, names in [
    (bias_act, ['bias_act', 'bias_act_grad', 'bias_act_grad2', 'bias_act_grad_sums']),
    (upfirdn2d, ['upfirdn2d']),
]:
    for name in names:
        LIBRARY.impl(name, getattr(module, f'_{name}_cuda'), 'CPU', allow_override=True)
