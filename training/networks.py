"""The networks of StyleGAN2: mapping, synthesis, discriminator.

Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (StyleGAN2), with the
mixed precision of Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data"
(ADA), appendix D. Names of arguments, attributes and tensors are NVIDIA's.

This file travels inside snapshots and is executed by NVIDIA's loaders: Python 3.7 syntax, PyTorch
1.7 API, nothing imported that those checkouts don't have, stored attributes that are plain Python
values. It is one long file because a snapshot carries the text of one file.
"""

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch

from torch_utils import persistence
from torch_utils.ops import bias_act, conv2d_resample, fma, upfirdn2d

try:
    from torch_utils.ops import modulated_act
except ImportError:  # a checkout of NVIDIA's
    modulated_act = None  # type: ignore[assignment]

FIR_FILTER = (1, 3, 3, 1)  # of all up- and downsampling


def _assert_shape(x: torch.Tensor, *sizes: Optional[int]) -> None:
    """Check a tensor that one module hands to another; None stands for any size."""
    fits = x.ndim == len(sizes) and all(
        want is None or size == want for size, want in zip(x.shape, sizes)
    )
    assert fits, 'a tensor of shape {} where {} is expected'.format(list(x.shape), list(sizes))


def _describe(module: torch.nn.Module, *names: str) -> str:
    """Return the attributes of these names, for `extra_repr`."""
    return ', '.join('{}={}'.format(name, getattr(module, name)) for name in names)


def normalize_2nd_moment(x: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    """Scale so that the mean square along `dim` is 1."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: Optional[torch.Tensor] = None,
    up: int = 1,
    padding: int = 0,
    resample_filter: Optional[torch.Tensor] = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = False,
) -> torch.Tensor:
    """Convolution with weights scaled per sample (StyleGAN2, section 2.2).

    Args:
        x: float32 or float16 `[N, C_in, H, W]`.
        weight: float32 `[C_out, C_in, kh, kw]`.
        styles: float32 `[N, C_in]`, the scales of the input channels.
        noise: added to the result; broadcasts to it. None for none.
        demodulate: scale each output channel to unit expected variance (equation 3).
        flip_weight: True for correlation, False for convolution.
        fused_modconv: scale the weights, one group a sample, rather than the activations around a
            shared convolution.

    Returns:
        `[N, C_out, H * up, W * up]`, the dtype of `x`.
    """
    batch_size = x.shape[0]
    out_channels, in_channels, kh, kw = weight.shape
    _assert_shape(x, batch_size, in_channels, None, None)
    _assert_shape(styles, batch_size, in_channels)
    if not fused_modconv:
        x, dcoefs = _modulated_conv2d(
            x,
            weight,
            styles,
            up=up,
            padding=padding,
            resample_filter=resample_filter,
            demodulate=demodulate,
            flip_weight=flip_weight,
        )
        return _demodulate(x, dcoefs, noise)
    weight, styles, dcoefs = _scales(x, weight, styles, demodulate)
    w = weight.unsqueeze(0) * styles.reshape(batch_size, 1, in_channels, 1, 1)  # [N, O, I, kh, kw]
    if dcoefs is not None:
        w = w * dcoefs.reshape(batch_size, out_channels, 1, 1, 1)
    w = w.reshape(batch_size * out_channels, in_channels, kh, kw)  # [N * O, I, kh, kw]
    x = x.reshape(1, batch_size * in_channels, x.shape[2], x.shape[3])  # [1, N * I, H, W]
    x = conv2d_resample.conv2d_resample(
        x=x,
        w=w.to(x.dtype),
        f=resample_filter,
        up=up,
        padding=padding,
        groups=batch_size,
        flip_weight=flip_weight,
    )
    x = x.reshape(batch_size, out_channels, x.shape[2], x.shape[3])  # [N, O, H * up, W * up]
    return x if noise is None else x + noise.to(x.dtype)


def _scales(
    x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor, demodulate: bool
) -> Tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
    """Prepare a modulated convolution.

    Returns:
        Weights and styles that suit the dtype of `x`, and the factors that demodulate each output
        channel, `[N, C_out]`, or None.
    """
    if not demodulate:
        return weight, styles, None
    # demodulation undoes any scale, so take one that cannot overflow; hence it needs no gradient
    # either
    if x.dtype == torch.float16:
        weight = weight / (
            weight.detach().norm(float('inf'), dim=(1, 2, 3), keepdim=True)
            * math.sqrt(weight[0].numel())
        )
        styles = styles / styles.detach().norm(float('inf'), dim=1, keepdim=True)
    # the sum over (w_oik * s_i)^2, without making the product
    squares = styles.square().matmul(_SquaresOfKernels.apply(weight).t())  # [N, C_out]
    return weight, styles, (squares + 1e-8).rsqrt()


class _SquaresOfKernels(torch.autograd.Function):
    """Sum the squares of each kernel: `[C_out, C_in, kh, kw]` to `[C_out, C_in]`.

    PyTorch's own derivative of a square makes three passes.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return weight.square().sum(dim=(2, 3))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (weight,) = ctx.saved_tensors
        return weight * (grad * 2)[:, :, None, None]


def _for_pictures(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return weights in the dtype of the pictures and, on a GPU, in their layout, in one copy."""
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    memory_format = torch.channels_last if x.is_cuda and is_last else torch.preserve_format
    return weight.to(dtype=x.dtype, memory_format=memory_format)


def _modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    up: int,
    padding: int,
    resample_filter: Optional[torch.Tensor],
    demodulate: bool,
    flip_weight: bool,
) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """Scale the activations and convolve; the demodulation, `[N, C_out]`, is still to come."""
    weight, styles, dcoefs = _scales(x, weight, styles, demodulate)
    if modulated_act is not None and modulated_act.available(x, None, 'linear'):
        x = modulated_act.modulated_act(x, styles)
    else:
        x = x * styles.to(x.dtype)[:, :, None, None]
    weight = _for_pictures(weight, x)
    x = conv2d_resample.conv2d_resample(
        x=x, w=weight, f=resample_filter, up=up, padding=padding, flip_weight=flip_weight
    )
    return x, dcoefs


def _demodulate(
    x: torch.Tensor, dcoefs: Optional[torch.Tensor], noise: Optional[torch.Tensor]
) -> torch.Tensor:
    if dcoefs is None:
        return x if noise is None else x + noise.to(x.dtype)
    dcoefs = dcoefs.to(x.dtype)[:, :, None, None]
    return x * dcoefs if noise is None else fma.fma(x, dcoefs, noise.to(x.dtype))


def _channels(resolution: int, channel_base: int, channel_max: int) -> int:
    return min(channel_base // resolution, channel_max)


def _fp16_from(img_resolution_log2: int, num_fp16_res: int) -> int:
    """Return the lowest resolution that computes in float16."""
    return max(2 ** (img_resolution_log2 + 1 - num_fp16_res), 8)


def _memory_format(channels_last: bool, half: bool, like: torch.Tensor) -> torch.memory_format:
    """Return the layout of a block's activations.

    A CPU and tensor cores are faster with channels_last, whatever the block says.
    """
    together = channels_last or half or not like.is_cuda or _may_use_tf32()
    return torch.channels_last if together else torch.contiguous_format


def _may_use_tf32() -> bool:
    # newer versions have a switch for each kind of operator
    convolutions = getattr(torch.backends.cudnn, 'conv', None)
    return (
        torch.backends.cudnn.allow_tf32
        if convolutions is None
        else convolutions.fp32_precision == 'tf32'
    )


@persistence.persistent_class
class FullyConnectedLayer(torch.nn.Module):
    """Linear layer with equalised learning rate (Karras et al. 2018, section 4.1) and activation.

    Args:
        lr_multiplier: scales the effective learning rate: weights are stored divided by it.
        bias_init: the bias at the start.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = 'linear',
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = (
            torch.nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        )
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[N, in_features]` to `[N, out_features]`."""
        _assert_shape(x, None, self.in_features)
        w = self.weight.to(x.dtype) * self.weight_gain
        b = None if self.bias is None else self.bias.to(x.dtype)
        if b is not None and self.bias_gain != 1:
            b = b * self.bias_gain
        if self.activation == 'linear' and b is not None:
            return torch.addmm(b.unsqueeze(0), x, w.t())
        return bias_act.bias_act(x.matmul(w.t()), b, act=self.activation)

    def extra_repr(self) -> str:
        return _describe(self, 'in_features', 'out_features', 'activation')


@persistence.persistent_class
class Conv2dLayer(torch.nn.Module):
    """Convolution with equalised learning rate, resampling, activation and clamping.

    Args:
        up, down: factors of resampling.
        conv_clamp: results are limited to −conv_clamp…conv_clamp; None for no limit.
        channels_last: store weights in that memory format.
        trainable: False keeps weight and bias as buffers, which no optimiser sees.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = 'linear',
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[int] = FIR_FILTER,
        conv_clamp: Optional[float] = None,
        channels_last: bool = False,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.resample_filter: torch.Tensor
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(list(resample_filter)))
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(max(in_channels * kernel_size**2, 1))
        self.act_gain = float(bias_act.activation_funcs[activation].def_gain)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size]).to(
            memory_format=memory_format
        )
        bias_values = torch.zeros([out_channels]) if bias else None
        self.weight: torch.Tensor
        self.bias: Optional[torch.Tensor]
        if trainable:
            self.weight = torch.nn.Parameter(weight)
            self.bias = torch.nn.Parameter(bias_values) if bias_values is not None else None
        else:
            self.register_buffer('weight', weight)
            if bias_values is not None:
                self.register_buffer('bias', bias_values)
            else:
                self.bias = None

    def forward(self, x: torch.Tensor, gain: float = 1) -> torch.Tensor:
        """`[N, in_channels, H, W]` to `[N, out_channels, H * up / down, W * up / down]`."""
        _assert_shape(x, None, self.in_channels, None, None)
        w = _for_pictures(self.weight * self.weight_gain, x)
        b = self.bias.to(x.dtype) if self.bias is not None else None
        x = conv2d_resample.conv2d_resample(
            x=x,
            w=w,
            f=self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=(self.up == 1),
        )
        return bias_act.bias_act(
            x,
            b,
            act=self.activation,
            gain=self.act_gain * gain,
            clamp=None if self.conv_clamp is None else self.conv_clamp * gain,
        )

    def extra_repr(self) -> str:
        return _describe(self, 'in_channels', 'out_channels', 'activation', 'up', 'down')


@persistence.persistent_class
class MappingNetwork(torch.nn.Module):
    """z and c to w (StyleGAN2, figure 2): normalisation, optional label embedding, fully connected
    layers.

    Args:
        z_dim: 0 for no latent (the discriminator's mapping of labels).
        c_dim: number of classes; 0 for none.
        num_ws: copies of w that are returned; None for a plain `[N, w_dim]`.
        embed_features, layer_features: None for w_dim.
        w_avg_beta: decay of the running mean of w; None for no tracking.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: Optional[int],
        num_layers: int = 8,
        embed_features: Optional[int] = None,
        layer_features: Optional[int] = None,
        activation: str = 'lrelu',
        lr_multiplier: float = 0.01,
        w_avg_beta: Optional[float] = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        embed_features = 0 if c_dim == 0 else (w_dim if embed_features is None else embed_features)
        layer_features = w_dim if layer_features is None else layer_features
        features = [z_dim + embed_features] + [layer_features] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        for i in range(num_layers):
            layer = FullyConnectedLayer(
                features[i], features[i + 1], activation=activation, lr_multiplier=lr_multiplier
            )
            setattr(self, 'fc{}'.format(i), layer)
        if num_ws is not None and w_avg_beta is not None:
            self.w_avg: torch.Tensor
            self.register_buffer('w_avg', torch.zeros([w_dim]))

    def forward(
        self,
        z: Optional[torch.Tensor],
        c: Optional[torch.Tensor],
        truncation_psi: float = 1,
        truncation_cutoff: Optional[int] = None,
        skip_w_avg_update: bool = False,
        update_emas: Optional[bool] = None,
    ) -> torch.Tensor:
        """Map latents.

        Args:
            z: float32 `[N, z_dim]`, standard normal; None where z_dim is 0.
            c: float32 `[N, c_dim]`, one-hot; unused where c_dim is 0.
            truncation_psi: 1 leaves w alone, 0 gives w_avg.
            truncation_cutoff: only the first so many ws are truncated; None for all.
            skip_w_avg_update: don't move w_avg in training mode.
            update_emas: True or False overrides both the mode and `skip_w_avg_update`.

        Returns:
            float32 `[N, num_ws, w_dim]`, or `[N, w_dim]` where num_ws is None.
        """
        inputs = []
        if self.z_dim > 0:
            assert z is not None
            _assert_shape(z, None, self.z_dim)
            inputs.append(normalize_2nd_moment(z.to(torch.float32)))
        if self.c_dim > 0:
            assert c is not None
            _assert_shape(c, None, self.c_dim)
            inputs.append(normalize_2nd_moment(self.embed(c.to(torch.float32))))
        x = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]  # [N, z_dim + embedding]
        for i in range(self.num_layers):
            x = getattr(self, 'fc{}'.format(i))(x)  # [N, w_dim] from the last one
        update = (self.training and not skip_w_avg_update) if update_emas is None else update_emas
        if update and self.w_avg_beta is not None and self.num_ws is not None:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is None:
            return x
        x = x.unsqueeze(1).repeat([1, self.num_ws, 1])  # [N, num_ws, w_dim]
        if truncation_psi != 1:
            count = self.num_ws if truncation_cutoff is None else truncation_cutoff
            x = torch.cat([self.w_avg.lerp(x[:, :count], truncation_psi), x[:, count:]], dim=1)
        return x

    def extra_repr(self) -> str:
        return _describe(self, 'z_dim', 'c_dim', 'w_dim', 'num_ws')


@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Modulated convolution, noise, bias, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = 'lrelu',
        resample_filter: Sequence[int] = FIR_FILTER,
        conv_clamp: Optional[float] = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.resample_filter: torch.Tensor
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(list(resample_filter)))
        self.padding = kernel_size // 2
        self.act_gain = float(bias_act.activation_funcs[activation].def_gain)
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.weight = torch.nn.Parameter(
            torch.randn([out_channels, in_channels, kernel_size, kernel_size]).to(
                memory_format=memory_format
            )
        )
        if use_noise:
            self.noise_const: torch.Tensor
            self.register_buffer('noise_const', torch.randn([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        noise_mode: str = 'random',
        fused_modconv: bool = False,
        gain: float = 1,
    ) -> torch.Tensor:
        """`[N, in_channels, resolution / up, resolution / up]` and w `[N, w_dim]` to
        `[N, out_channels, resolution, resolution]`.
        """
        size = self.resolution // self.up
        _assert_shape(x, None, self.in_channels, size, size)
        _assert_shape(w, x.shape[0], self.w_dim)
        styles = self.affine(w)  # [N, in_channels]
        noise = self._noise(x, noise_mode)
        act_gain = self.act_gain * gain
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        if fused_modconv:
            x = modulated_conv2d(
                x,
                self.weight,
                styles,
                None if noise is None else noise * self.noise_strength,
                up=self.up,
                padding=self.padding,
                resample_filter=self.resample_filter,
                flip_weight=(self.up == 1),
                fused_modconv=True,
            )
        else:
            x, dcoefs = _modulated_conv2d(
                x,
                self.weight,
                styles,
                up=self.up,
                padding=self.padding,
                resample_filter=self.resample_filter,
                demodulate=True,
                flip_weight=(self.up == 1),
            )
            if modulated_act is not None and modulated_act.available(x, noise, self.activation):
                assert dcoefs is not None
                return modulated_act.modulated_act(
                    x,
                    dcoefs,
                    noise,
                    None if noise is None else self.noise_strength,
                    self.bias,
                    act=self.activation,
                    gain=act_gain,
                    clamp=clamp,
                )
            x = _demodulate(x, dcoefs, None if noise is None else noise * self.noise_strength)
        return bias_act.bias_act(
            x, self.bias.to(x.dtype), act=self.activation, gain=act_gain, clamp=clamp
        )

    def _noise(self, x: torch.Tensor, noise_mode: str) -> Optional[torch.Tensor]:
        """Return `[N, 1, H, W]` (random), `[H, W]` (const) or None, before `noise_strength`."""
        if self.use_noise and noise_mode == 'random':
            return torch.randn([x.shape[0], 1, self.resolution, self.resolution], device=x.device)
        return self.noise_const if self.use_noise and noise_mode == 'const' else None

    def extra_repr(self) -> str:
        names = ('in_channels', 'out_channels', 'w_dim', 'resolution', 'up', 'activation')
        return _describe(self, *names)


@persistence.persistent_class
class ToRGBLayer(torch.nn.Module):
    """Modulated 1×1 convolution to colours, without demodulation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: Optional[float] = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.weight = torch.nn.Parameter(
            torch.randn([out_channels, in_channels, kernel_size, kernel_size]).to(
                memory_format=memory_format
            )
        )
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(max(in_channels * kernel_size**2, 1))

    def forward(
        self, x: torch.Tensor, w: torch.Tensor, fused_modconv: bool = False
    ) -> torch.Tensor:
        """`[N, in_channels, H, W]` and w `[N, w_dim]` to `[N, out_channels, H, W]`."""
        _assert_shape(x, None, self.in_channels, None, None)
        _assert_shape(w, x.shape[0], self.w_dim)
        styles = self.affine(w) * self.weight_gain  # [N, in_channels]
        x = modulated_conv2d(
            x=x, weight=self.weight, styles=styles, demodulate=False, fused_modconv=fused_modconv
        )
        return bias_act.bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)

    def extra_repr(self) -> str:
        return _describe(self, 'in_channels', 'out_channels', 'w_dim')


@persistence.persistent_class
class SynthesisBlock(torch.nn.Module):
    """All layers of one resolution.

    Args:
        in_channels: 0 for the first block, which starts from a learned constant.
        architecture: `skip` (a ToRGB at every resolution, summed), `resnet` or `orig` (ToRGB at the
            last one only).
        fp16_channels_last: use that memory format where the block is in float16.
        fused_modconv_default: `inference_only` scales weights rather than activations when a single
            picture is made and no kernel scales activations in one pass; or True or False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = 'skip',
        resample_filter: Sequence[int] = FIR_FILTER,
        conv_clamp: Optional[float] = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        fused_modconv_default: Union[bool, str] = 'inference_only',
        use_noise: bool = True,
        activation: str = 'lrelu',
        kernel_size: int = 3,
    ) -> None:
        if architecture not in ('orig', 'skip', 'resnet'):
            raise ValueError('architecture is orig, skip or resnet, not {!r}'.format(architecture))
        super().__init__()
        self.in_channels = in_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.is_last = is_last
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.fused_modconv_default = fused_modconv_default
        self.resample_filter: torch.Tensor
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(list(resample_filter)))
        self.num_conv = 0
        self.num_torgb = 0
        layer = dict(
            w_dim=w_dim,
            resolution=resolution,
            conv_clamp=conv_clamp,
            channels_last=self.channels_last,
            use_noise=use_noise,
            activation=activation,
            kernel_size=kernel_size,
        )  # type: Dict[str, Any]
        if in_channels == 0:
            self.const = torch.nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, up=2, resample_filter=resample_filter, **layer
            )
            self.num_conv += 1
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer)
        self.num_conv += 1
        if is_last or architecture == 'skip':
            self.torgb = ToRGBLayer(
                out_channels,
                img_channels,
                w_dim=w_dim,
                conv_clamp=conv_clamp,
                channels_last=self.channels_last,
            )
            self.num_torgb += 1
        if in_channels != 0 and architecture == 'resnet':
            self.skip = Conv2dLayer(
                in_channels,
                out_channels,
                kernel_size=1,
                bias=False,
                up=2,
                resample_filter=resample_filter,
                channels_last=self.channels_last,
            )

    def forward(
        self,
        x: Optional[torch.Tensor],
        img: Optional[torch.Tensor],
        ws: torch.Tensor,
        noise_mode: str = 'random',
        force_fp32: bool = False,
        fused_modconv: Union[bool, str, None] = None,
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """One resolution up.

        Args:
            x: `[N, in_channels, resolution / 2, resolution / 2]`; None in the first block.
            img: float32 `[N, img_channels, resolution / 2, resolution / 2]` or None.
            ws: float32 `[N, num_conv + num_torgb, w_dim]`.

        Returns:
            `x` and `img` at this block's resolution.
        """
        _assert_shape(ws, None, self.num_conv + self.num_torgb, self.w_dim)
        # a CPU computes such blocks in float32
        half = self.use_fp16 and not force_fp32 and ws.is_cuda
        dtype = torch.float16 if half else torch.float32
        memory_format = _memory_format(self.channels_last, half, ws)
        if fused_modconv is None:
            fused_modconv = self.fused_modconv_default
        if fused_modconv == 'inference_only':
            kernels = (
                modulated_act is not None
                and memory_format == torch.channels_last
                and modulated_act.has_kernels(ws.device)
            )
            fused_modconv = not self.training and ws.shape[0] == 1 and not kernels
        w_iter = iter(ws.unbind(dim=1))
        style: Dict[str, Any] = dict(noise_mode=noise_mode, fused_modconv=fused_modconv)

        if self.in_channels == 0:
            x = (
                self.const.to(dtype)
                .unsqueeze(0)
                .repeat([ws.shape[0], 1, 1, 1])
                .contiguous(memory_format=memory_format)
            )
            x = self.conv1(x, next(w_iter), **style)
        else:
            assert x is not None
            _assert_shape(
                x, ws.shape[0], self.in_channels, self.resolution // 2, self.resolution // 2
            )
            x = x.to(dtype=dtype, memory_format=memory_format)
            if self.architecture == 'resnet':
                y = self.skip(x, gain=math.sqrt(0.5))
                x = self.conv0(x, next(w_iter), **style)
                x = self.conv1(x, next(w_iter), gain=math.sqrt(0.5), **style)
                x = y + x
            else:
                x = self.conv0(x, next(w_iter), **style)
                x = self.conv1(x, next(w_iter), **style)

        if img is not None:
            _assert_shape(img, None, self.img_channels, self.resolution // 2, self.resolution // 2)
            img = upfirdn2d.upsample2d(img, self.resample_filter)  # [N, img_channels, res, res]
        if self.is_last or self.architecture == 'skip':
            y = self.torgb(x, next(w_iter), fused_modconv=fused_modconv)
            y = y.to(dtype=torch.float32, memory_format=torch.contiguous_format)
            img = img + y if img is not None else y
        return x, img

    def extra_repr(self) -> str:
        return _describe(self, 'resolution', 'architecture')


@persistence.persistent_class
class SynthesisNetwork(torch.nn.Module):
    """ws to pictures.

    Args:
        channel_base: a resolution R has `channel_base / R` feature maps, at most `channel_max`.
        num_fp16_res: how many of the highest resolutions compute in float16 on a GPU.
        The others are passed to every `SynthesisBlock`.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        **block_kwargs: Any,
    ) -> None:
        if img_resolution < 4 or img_resolution & (img_resolution - 1) != 0:
            raise ValueError(
                'img_resolution is a power of two, at least 4, not {}'.format(img_resolution)
            )
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = int(math.log2(img_resolution))
        self.img_channels = img_channels
        self.num_fp16_res = num_fp16_res
        self.block_resolutions = [2**i for i in range(2, self.img_resolution_log2 + 1)]
        fp16_resolution = _fp16_from(self.img_resolution_log2, num_fp16_res)
        self.num_ws = 0
        for res in self.block_resolutions:
            is_last = res == img_resolution
            block = SynthesisBlock(
                _channels(res // 2, channel_base, channel_max) if res > 4 else 0,
                _channels(res, channel_base, channel_max),
                w_dim=w_dim,
                resolution=res,
                img_channels=img_channels,
                is_last=is_last,
                use_fp16=(res >= fp16_resolution),
                **block_kwargs,
            )
            self.num_ws += block.num_conv
            if is_last:
                self.num_ws += block.num_torgb
            setattr(self, 'b{}'.format(res), block)

    def forward(
        self,
        ws: torch.Tensor,
        noise_mode: str = 'random',
        force_fp32: bool = False,
        fused_modconv: Optional[bool] = None,
        update_emas: bool = False,
    ) -> torch.Tensor:
        """Draw pictures.

        Args:
            ws: float32 `[N, num_ws, w_dim]`.
            noise_mode: `random`, `const` (the stored noise) or `none`.
            force_fp32: compute every block in float32.
            fused_modconv: None for the blocks' default.
            update_emas: accepted for callers of StyleGAN3's interface; these networks have nothing
                to update here.

        Returns:
            float32 `[N, img_channels, img_resolution, img_resolution]`, about −1…1.
        """
        if noise_mode not in ('random', 'const', 'none'):
            raise ValueError('noise_mode is random, const or none, not {!r}'.format(noise_mode))
        _assert_shape(ws, None, self.num_ws, self.w_dim)
        ws = ws.to(torch.float32)
        x, img = None, None
        index = 0
        for res in self.block_resolutions:
            block = getattr(self, 'b{}'.format(res))
            # ToRGB shares its w with the next block
            block_ws = ws.narrow(1, index, block.num_conv + block.num_torgb)
            x, img = block(
                x,
                img,
                block_ws,
                noise_mode=noise_mode,
                force_fp32=force_fp32,
                fused_modconv=fused_modconv,
            )
            index += block.num_conv
        assert img is not None
        return img

    def extra_repr(self) -> str:
        names = ('w_dim', 'num_ws', 'img_resolution', 'img_channels', 'num_fp16_res')
        return _describe(self, *names)


@persistence.persistent_class
class Generator(torch.nn.Module):
    """Mapping and synthesis.

    The arguments of `SynthesisNetwork` come nested in `synthesis_kwargs`, or flat beside the
    others, or both.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: Optional[Dict[str, Any]] = None,
        synthesis_kwargs: Optional[Dict[str, Any]] = None,
        **flat_synthesis_kwargs: Any,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        synthesis_kwargs = dict(synthesis_kwargs or {}, **flat_synthesis_kwargs)
        self.synthesis = SynthesisNetwork(
            w_dim=w_dim,
            img_resolution=img_resolution,
            img_channels=img_channels,
            **synthesis_kwargs,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=self.num_ws, **(mapping_kwargs or {})
        )

    def forward(
        self,
        z: torch.Tensor,
        c: Optional[torch.Tensor],
        truncation_psi: float = 1,
        truncation_cutoff: Optional[int] = None,
        noise_mode: str = 'random',
        force_fp32: bool = False,
        fused_modconv: Optional[bool] = None,
        skip_w_avg_update: bool = False,
        update_emas: Optional[bool] = None,
    ) -> torch.Tensor:
        """z `[N, z_dim]` and c `[N, c_dim]` to pictures; see the two parts for the arguments."""
        ws = self.mapping(
            z,
            c,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            skip_w_avg_update=skip_w_avg_update,
            update_emas=update_emas,
        )
        return self.synthesis(
            ws, noise_mode=noise_mode, force_fp32=force_fp32, fused_modconv=fused_modconv
        )

    def extra_repr(self) -> str:
        names = ('z_dim', 'c_dim', 'w_dim', 'num_ws', 'img_resolution', 'img_channels')
        return _describe(self, *names)


@persistence.persistent_class
class DiscriminatorBlock(torch.nn.Module):
    """All layers of one resolution of the discriminator.

    Args:
        in_channels: 0 for the first block, which starts from colours.
        first_layer_idx: number of layers before this block, counted from the image side.
        freeze_layers: layers with a lower index are held as buffers (FreezeD, Mo et al. 2020).
    """

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        resolution: int,
        img_channels: int,
        first_layer_idx: int,
        architecture: str = 'resnet',
        activation: str = 'lrelu',
        resample_filter: Sequence[int] = FIR_FILTER,
        conv_clamp: Optional[float] = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        freeze_layers: int = 0,
    ) -> None:
        if architecture not in ('orig', 'skip', 'resnet'):
            raise ValueError('architecture is orig, skip or resnet, not {!r}'.format(architecture))
        super().__init__()
        self.in_channels = in_channels
        self.resolution = resolution
        self.img_channels = img_channels
        self.first_layer_idx = first_layer_idx
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.resample_filter: torch.Tensor
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(list(resample_filter)))
        self.num_layers = 0

        def layer(c_in: int, c_out: int, kernel_size: int, **kwargs: Any) -> Conv2dLayer:
            trainable = self.first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(
                c_in,
                c_out,
                kernel_size=kernel_size,
                trainable=trainable,
                channels_last=self.channels_last,
                resample_filter=resample_filter,
                **kwargs,
            )

        if in_channels == 0 or architecture == 'skip':
            self.fromrgb = layer(
                img_channels, tmp_channels, 1, activation=activation, conv_clamp=conv_clamp
            )
        self.conv0 = layer(
            tmp_channels, tmp_channels, 3, activation=activation, conv_clamp=conv_clamp
        )
        self.conv1 = layer(
            tmp_channels, out_channels, 3, activation=activation, conv_clamp=conv_clamp, down=2
        )
        if architecture == 'resnet':
            self.skip = layer(tmp_channels, out_channels, 1, bias=False, down=2)

    def forward(
        self,
        x: Optional[torch.Tensor],
        img: Optional[torch.Tensor],
        force_fp32: bool = False,
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """One resolution down.

        Args:
            x: `[N, in_channels, resolution, resolution]`; None in the first block.
            img: float32 `[N, img_channels, resolution, resolution]`, or None where it has been used
                up.

        Returns:
            `x` and `img` at half the resolution; `img` is None but in the `skip` architecture.
        """
        size = self.resolution
        source = x if x is not None else img
        assert source is not None
        half = self.use_fp16 and not force_fp32 and source.is_cuda
        dtype = torch.float16 if half else torch.float32
        memory_format = _memory_format(self.channels_last, half, source)
        if x is not None:
            _assert_shape(x, None, self.in_channels, size, size)
            x = x.to(dtype=dtype, memory_format=memory_format)
        if self.in_channels == 0 or self.architecture == 'skip':
            assert img is not None
            _assert_shape(img, None, self.img_channels, size, size)
            y = self.fromrgb(img.to(dtype=dtype, memory_format=memory_format))
            x = x + y if x is not None else y
            skip = self.architecture == 'skip'
            img = upfirdn2d.downsample2d(img, self.resample_filter) if skip else None
        if self.architecture == 'resnet':
            y = self.skip(x, gain=math.sqrt(0.5))
            x = self.conv0(x)
            x = self.conv1(x, gain=math.sqrt(0.5))
            x = y + x
        else:
            x = self.conv1(self.conv0(x))
        return x, img

    def extra_repr(self) -> str:
        return _describe(self, 'resolution', 'architecture')


@persistence.persistent_class
class MinibatchStdLayer(torch.nn.Module):
    """Appends the standard deviation over groups of the batch as feature maps (Karras et al. 2018,
    section 3).

    Args:
        group_size: samples a group; None for the whole batch.
        num_channels: statistics, each over its share of the input channels.
    """

    def __init__(self, group_size: Optional[int], num_channels: int = 1) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: torch.Tensor, batches: int = 1) -> torch.Tensor:
        """`[N, C, H, W]` to `[N, C + num_channels, H, W]`. A batch that no group fits is split into
        the largest equal groups that do.

        Args:
            batches: so many of equal size follow one another in `x`, and no group has members of
                two.
        """
        n, c, h, w = x.shape
        assert n % batches == 0
        n //= batches
        g = n if self.group_size is None else min(self.group_size, n)
        while n % g != 0:
            g -= 1
        f = self.num_channels
        # Members of a group are M = n / g apart.
        y = x.reshape(batches, g, n // g, f, c // f, h, w)  # [B, G, M, F, C / F, H, W]
        y = y - y.mean(dim=1, keepdim=True)
        y = (y.square().mean(dim=1) + 1e-8).sqrt()  # [B, M, F, C / F, H, W]
        y = y.mean(dim=[3, 4, 5]).reshape(batches, 1, n // g, f, 1, 1)  # [B, 1, M, F, 1, 1]
        y = y.repeat(1, g, 1, 1, h, w).reshape(-1, f, h, w)  # [N, F, H, W]
        return torch.cat([x, y], dim=1)

    def extra_repr(self) -> str:
        return _describe(self, 'group_size', 'num_channels')


@persistence.persistent_class
class DiscriminatorEpilogue(torch.nn.Module):
    """The last resolution of the discriminator, down to one logit.

    Args:
        cmap_dim: width of the label projection (Miyato and Koyama 2018); 0 for none.
    """

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        resolution: int,
        img_channels: int,
        architecture: str = 'resnet',
        mbstd_group_size: Optional[int] = 4,
        mbstd_num_channels: int = 1,
        activation: str = 'lrelu',
        conv_clamp: Optional[float] = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.cmap_dim = cmap_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.architecture = architecture
        if architecture == 'skip':
            self.fromrgb = Conv2dLayer(
                img_channels, in_channels, kernel_size=1, activation=activation
            )
        self.mbstd = (
            MinibatchStdLayer(group_size=mbstd_group_size, num_channels=mbstd_num_channels)
            if mbstd_num_channels > 0
            else None
        )
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels,
            in_channels,
            kernel_size=3,
            activation=activation,
            conv_clamp=conv_clamp,
        )
        self.fc = FullyConnectedLayer(
            in_channels * resolution**2, in_channels, activation=activation
        )
        self.out = FullyConnectedLayer(in_channels, 1 if cmap_dim == 0 else cmap_dim)

    def forward(
        self,
        x: torch.Tensor,
        img: Optional[torch.Tensor],
        cmap: Optional[torch.Tensor],
        force_fp32: bool = False,
        batches: int = 1,
    ) -> torch.Tensor:
        """`[N, in_channels, resolution, resolution]` and cmap `[N, cmap_dim]` to logits float32
        `[N, 1]`. Always in float32.
        """
        _assert_shape(x, None, self.in_channels, self.resolution, self.resolution)
        x = x.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        if self.architecture == 'skip':
            assert img is not None
            _assert_shape(img, None, self.img_channels, self.resolution, self.resolution)
            x = x + self.fromrgb(img.to(torch.float32))
        if self.mbstd is not None:
            x = self.mbstd(x, batches)  # [N, in_channels + mbstd_num_channels, 4, 4]
        x = self.conv(x)
        x = self.fc(x.flatten(1))  # [N, in_channels]
        x = self.out(x)  # [N, cmap_dim or 1]
        if self.cmap_dim > 0:
            assert cmap is not None
            _assert_shape(cmap, None, self.cmap_dim)
            x = (x * cmap).sum(dim=1, keepdim=True) * (1 / math.sqrt(self.cmap_dim))
        return x

    def extra_repr(self) -> str:
        return _describe(self, 'resolution', 'architecture', 'cmap_dim')


@persistence.persistent_class
class Discriminator(torch.nn.Module):
    """Pictures and labels to logits.

    Args:
        cmap_dim: None for the number of feature maps at 4×4.
        block_kwargs, mapping_kwargs, epilogue_kwargs: arguments of `DiscriminatorBlock`,
            `MappingNetwork`, `DiscriminatorEpilogue`.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = 'resnet',
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: Optional[float] = None,
        cmap_dim: Optional[int] = None,
        block_kwargs: Optional[dict] = None,
        mapping_kwargs: Optional[dict] = None,
        epilogue_kwargs: Optional[dict] = None,
    ) -> None:
        if img_resolution < 8 or img_resolution & (img_resolution - 1) != 0:
            raise ValueError(
                'img_resolution is a power of two, at least 8, not {}'.format(img_resolution)
            )
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = int(math.log2(img_resolution))
        self.img_channels = img_channels
        self.block_resolutions: List[int] = [2**i for i in range(self.img_resolution_log2, 2, -1)]
        fp16_resolution = _fp16_from(self.img_resolution_log2, num_fp16_res)
        if cmap_dim is None:
            cmap_dim = _channels(4, channel_base, channel_max)
        if c_dim == 0:
            cmap_dim = 0
        common: Dict[str, Any] = dict(
            img_channels=img_channels, architecture=architecture, conv_clamp=conv_clamp
        )
        layers = 0
        for res in self.block_resolutions:
            in_channels = _channels(res, channel_base, channel_max) if res < img_resolution else 0
            block = DiscriminatorBlock(
                in_channels,
                _channels(res, channel_base, channel_max),
                _channels(res // 2, channel_base, channel_max),
                resolution=res,
                first_layer_idx=layers,
                use_fp16=(res >= fp16_resolution),
                **dict(common, **(block_kwargs or {})),
            )
            setattr(self, 'b{}'.format(res), block)
            layers += block.num_layers
        if c_dim > 0:
            mapping_kwargs = dict({'w_avg_beta': None}, **(mapping_kwargs or {}))
            self.mapping = MappingNetwork(
                z_dim=0, c_dim=c_dim, w_dim=cmap_dim, num_ws=None, **mapping_kwargs
            )
        epilogue_kwargs = dict(common, **(epilogue_kwargs or {}))
        self.b4 = DiscriminatorEpilogue(
            _channels(4, channel_base, channel_max),
            cmap_dim=cmap_dim,
            resolution=4,
            **epilogue_kwargs,
        )

    def forward(
        self,
        img: torch.Tensor,
        c: Optional[torch.Tensor],
        force_fp32: bool = False,
        update_emas: bool = False,
        batches: int = 1,
    ) -> torch.Tensor:
        """Judge pictures.

        Args:
            img: float32 `[N, img_channels, img_resolution, img_resolution]`, −1…1.
            c: float32 `[N, c_dim]`, one-hot; unused where c_dim is 0.
            force_fp32: compute every block in float32.
            update_emas: accepted for callers of StyleGAN3's interface; these networks have nothing
                to update here.
            batches: so many of equal size follow one another in `img`, judged as if each came
                alone: their statistics stay apart.

        Returns:
            Logits, float32 `[N, 1]`; positive means real.
        """
        _assert_shape(img, None, self.img_channels, self.img_resolution, self.img_resolution)
        x = None
        for res in self.block_resolutions:
            x, img = getattr(self, 'b{}'.format(res))(x, img, force_fp32=force_fp32)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        return self.b4(x, img, cmap, force_fp32=force_fp32, batches=batches)

    def extra_repr(self) -> str:
        return _describe(self, 'c_dim', 'img_resolution', 'img_channels')
