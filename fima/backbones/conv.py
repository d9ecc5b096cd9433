"""nn.Conv3d as a CPU wants it: gradients that can be trusted, and 1 x 1 x 1 kernels at full speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv3d(nn.Conv3d):
    """nn.Conv3d; on a CPU three of its cases take another way to the same values.

    Kernels of 1 x 1 pixel: PyTorch 2.14 gives float32 batches under 16 on one thread to a slow kernel that also drops
    the channels_last_3d layout, so that all that follows is slow too (2 to 4 times). In that layout a 1 x 1 x 1 kernel
    therefore sees time as part of the batch; in any, a k x 1 x 1 kernel sees a picture of time by place: views, both.

    A padded kernel over two frames gets its zeros beforehand. oneDNN 3.12 (PyTorch 2.14) leaves the bfloat16 gradient
    of the weights uninitialised for kernel 3, padding 1 and an input of depth 2 (seen on a CPU with AVX512-BF16 but
    without AMX): the last stage of every encoder here. Without padding in time it takes another kernel, which is right.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, C', T', H', W']."""
        if input.is_cuda:
            return super().forward(input)
        views = input.is_contiguous(memory_format=torch.channels_last_3d)
        if views and self.kernel_size == self.stride == (1, 1, 1):
            frames = input.transpose(1, 2)
            out = F.conv2d(frames.flatten(0, 1), self.weight.squeeze(2), self.bias)
            return out.unflatten(0, frames.shape[:2]).transpose(1, 2)
        padding = tuple(int(n) for n in self.padding)
        if input.shape[2] == 2 and padding[0] == 1:
            input, padding = F.pad(input, (0, 0, 0, 0, 1, 1)), (0, *padding[1:])
        places = views or input.is_contiguous()
        if places and self.kernel_size[1:] == self.stride[1:] == (1, 1) and padding[1:] == (0, 0):
            out = F.conv2d(input.flatten(3), self.weight.squeeze(4), self.bias, (self.stride[0], 1), (padding[0], 0))
            return out.unflatten(3, input.shape[3:])
        return F.conv3d(input, self.weight, self.bias, self.stride, padding)


def trusted(network: nn.Module) -> nn.Module:
    """The same network, each nn.Conv3d made a `Conv3d`; names and weights stay."""
    for child in network.modules():
        if isinstance(child, nn.Conv3d):
            child.__class__ = Conv3d  # the same state, another forward
    return network
