"""nn.Conv3d whose gradient can be trusted on every CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Conv3d(nn.Conv3d):
    """A 3-D convolution that pads time itself where the input has two frames.

    oneDNN 3.12 (PyTorch 2.14) leaves the bfloat16 gradient of the weights uninitialised for kernel 3, padding 1 and an
    input of depth 2 (seen on a CPU with AVX512-BF16 but without AMX): the last stage of every encoder here. With the
    zeros put there beforehand it takes another kernel, which is right.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, C', T', H', W']."""
        if input.shape[2] == 2 and self.padding[0] == 1 and not input.is_cuda:
            pad = int(self.padding[1]), int(self.padding[2])
            input = F.pad(input, (0, 0, 0, 0, 1, 1))
            return F.conv3d(input, self.weight, self.bias, self.stride, (0, *pad), self.dilation, self.groups)
        return super().forward(input)


def trusted(network: nn.Module) -> nn.Module:
    """The same network, each nn.Conv3d made a `Conv3d`; names and weights stay."""
    for child in network.modules():
        if isinstance(child, nn.Conv3d):
            child.__class__ = Conv3d  # the same state, another forward
    return network
