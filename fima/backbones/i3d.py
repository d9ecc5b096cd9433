"""I3D (Carreira and Zisserman, 2017): Inception-v1 inflated; 16 x 224 x 224 to 1024 x 2 x 7 x 7.

12.287 M parameters without the classifier. Padding is "same" as in TensorFlow: the larger half goes behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fima.backbones.conv import Conv3d

aten = torch.ops.aten
Triple = tuple[int, ...]
Window = tuple[Triple, Triple, Triple]  # kernel, stride and padding in front
# Input channels and widths of the Inception blocks: 1x1; 3x3 reduction, 3x3; reduction, 3x3; after the pool.
BLOCKS: dict[str, tuple[int, Sequence[int]]] = {
    "mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def same(size: Sequence[int], kernel: Triple, stride: Triple) -> list[int]:
    """Padding of the last three axes for F.pad, such that an axis of n gives ceil(n / stride)."""
    pads: list[int] = []
    for n, k, s in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max(k - (s if n % s == 0 else n % s), 0)
        pads += [total // 2, total - total // 2]
    return pads


class Unit(nn.Module):
    """Convolution with same padding, BatchNorm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        # Stride 1 pads evenly; the strided stem pads more behind, which a convolution cannot do by itself.
        self.uneven = stride > 1
        self.conv = Conv3d(before, after, kernel, stride, padding=0 if self.uneven else kernel // 2, bias=False)
        self.norm = nn.BatchNorm3d(after, eps=1e-3)

    def convolved(self, x: Tensor) -> Tensor:
        if self.uneven:
            x = F.pad(x, same(x.shape[2:], self.conv.kernel_size, self.conv.stride))
        convolved: Tensor = self.conv(x)
        return convolved

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolved(x)), inplace=True)


class _MaxPool(torch.autograd.Function):
    """Max pooling that finds its indices again in backward.

    PyTorch keeps them as int64, four times a bfloat16 map: at I3D's pools a quarter of all that a step remembers. The
    input is kept anyway, for the ReLU before.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window = kernel, stride, front = window
        return F.max_pool3d(x, kernel, stride, front, ceil_mode=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return _max_pool_backward(x, gradient, ctx.window), None


def _max_pool_backward(x: Tensor, gradient: Tensor, window: Window) -> Tensor:
    kernel, stride, front = window
    _, indices = F.max_pool3d(x, kernel, stride, front, ceil_mode=True, return_indices=True)
    found: Tensor = aten.max_pool3d_with_indices_backward(gradient, x, kernel, stride, front, (1, 1, 1), True, indices)
    return found


class Pool(nn.Module):
    """Max pooling with same padding, as the library pads it: one in front of an odd axis, the rest by `ceil_mode`."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def window(self, x: Tensor) -> Window:
        return self.kernel, self.stride, tuple(same(x.shape[2:], self.kernel, self.stride)[-2::-2])

    def forward(self, x: Tensor) -> Tensor:
        # A maximum is exact in any precision, but autocast on a CPU would take it to float32 and back.
        with torch.autocast("cpu", enabled=False):
            pooled: Tensor = _MaxPool.apply(x, self.window(x))
        return pooled


class _NormReluPool(torch.autograd.Function):
    """BatchNorm, ReLU and max pooling that keep the input alone and find the rest again in backward, to the last bit.

    Behind a convolution nobody else needs what lies between, and before I3D's first two pools it is a seventh of all
    that a bfloat16 step remembers. These are its largest maps, so backward holds no more of them at once than it must.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm3d, pool: Pool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.eps, ctx.window = norm.eps, pool.window(x)
        pooled: Tensor = pool(F.relu(norm(x), inplace=True))
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        # As F.batch_norm and its backward, without autograd's hold on `y`. Running statistics moved in forward.
        cudnn = torch.backends.cudnn.enabled
        y, mean, deviation, reserve, which = torch._batch_norm_impl_index(
            x, weight, bias, None, None, True, 0.0, ctx.eps, cudnn
        )
        y.relu_()
        gradient = _max_pool_backward(y, gradient, ctx.window)
        aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)  # of the ReLU, in place
        del y
        gradients: tuple[Tensor, ...] = aten._batch_norm_impl_index_backward(
            which, x, gradient, weight, None, None, mean, deviation, True, ctx.eps, [True] * 3, reserve
        )
        return *gradients, None, None


class PooledUnit(Unit):
    """Convolution, BatchNorm, ReLU and max pooling of the stem."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, pool: Pool) -> None:
        super().__init__(before, after, kernel, stride)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor
        if self.norm.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            pooled = _NormReluPool.apply(self.convolved(x), self.norm.weight, self.norm.bias, self.norm, self.pool)
        else:
            pooled = self.pool(super().forward(x))
        return pooled


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, before: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.one = Unit(before, one)
        self.three = nn.Sequential(Unit(before, reduce3), Unit(reduce3, three, 3))
        self.five = nn.Sequential(Unit(before, reduce5), Unit(reduce5, five, 3))
        self.pool = nn.Sequential(Pool((3, 3, 3), (1, 1, 1)), Unit(before, pool))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)


class I3D(nn.Sequential):
    """The trunk up to `mixed_5c`: time is halved three times, space five times."""

    channels = 1024

    def __init__(self) -> None:
        blocks = {name: Inception(before, widths) for name, (before, widths) in BLOCKS.items()}
        super().__init__()
        for name, module in (
            ("conv_1a", PooledUnit(3, 64, 7, 2, Pool((1, 3, 3), (1, 2, 2)))),
            ("conv_2b", Unit(64, 64)),
            ("conv_2c", PooledUnit(64, 192, 3, 1, Pool((1, 3, 3), (1, 2, 2)))),
            *((name, blocks[name]) for name in ("mixed_3b", "mixed_3c")),
            ("pool_4a", Pool((3, 3, 3), (2, 2, 2))),
            *((name, blocks[name]) for name in ("mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f")),
            ("pool_5a", Pool((2, 2, 2), (2, 2, 2))),
            *((name, blocks[name]) for name in ("mixed_5b", "mixed_5c")),
        ):
            self.add_module(name, module)
        for part in self.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
