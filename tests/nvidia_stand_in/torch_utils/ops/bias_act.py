import dnnlib
import numpy as np
import torch

activation_funcs = {
    'linear': dnnlib.EasyDict(func=lambda x, alpha: x, def_alpha=0, def_gain=1),
    'relu': dnnlib.EasyDict(func=lambda x, alpha: torch.relu(x), def_alpha=0, def_gain=np.sqrt(2)),
    'lrelu': dnnlib.EasyDict(
        func=lambda x, alpha: torch.nn.functional.leaky_relu(x, alpha),
        def_alpha=0.2,
        def_gain=np.sqrt(2),
    ),
}


def bias_act(x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, impl='cuda'):
    spec = activation_funcs[act]
    if b is not None:
        x = x + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    x = spec.func(x, alpha if alpha is not None else spec.def_alpha) * (
        gain if gain is not None else spec.def_gain
    )
    return x.clamp(-clamp, clamp) if clamp is not None else x
