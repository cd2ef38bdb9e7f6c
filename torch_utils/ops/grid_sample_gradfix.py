"""Bilinear sampling that is twice differentiable in the picture, which PyTorch's is not."""

from typing import Any

import torch


def grid_sample(input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """`torch.nn.functional.grid_sample`: bilinear, zeros outside, `align_corners=False`.

    The result is linear in `input`, so its gradients of any order exist. `grid` gets a gradient of
    the first order only.

    Args:
        input: float `[N, C, H, W]`.
        grid: float `[N, H_out, W_out, 2]`, x and y in −1…1.

    Returns:
        `[N, C, H_out, W_out]`.
    """
    return _GridSample.apply(input, grid)


class _GridSample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x if grid.requires_grad else None, grid)
        ctx.x_shape = x.shape
        return torch.ops.aten.grid_sampler_2d(x, grid, 0, 0, False)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x, grid = ctx.saved_tensors
        dx = dgrid = None
        if ctx.needs_input_grad[0]:
            dx = _GridSampleTransposed.apply(dy, grid, ctx.x_shape)
        if ctx.needs_input_grad[1]:
            dgrid = torch.ops.aten.grid_sampler_2d_backward(
                dy, x, grid, 0, 0, False, [False, True]
            )[1]
        return dx, dgrid


class _GridSampleTransposed(torch.autograd.Function):
    """The transpose of the sampling matrix: from gradients of the samples to gradients of the
    picture.
    """

    @staticmethod
    def forward(
        ctx: Any, dy: torch.Tensor, grid: torch.Tensor, x_shape: torch.Size
    ) -> torch.Tensor:
        ctx.save_for_backward(grid)
        like_x = dy.new_empty(1).expand(x_shape)  # only its shape is looked at
        return torch.ops.aten.grid_sampler_2d_backward(
            dy, like_x, grid, 0, 0, False, [True, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, ddx: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        (grid,) = ctx.saved_tensors
        return (_GridSample.apply(ddx, grid) if ctx.needs_input_grad[0] else None), None, None
