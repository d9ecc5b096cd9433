"""A small encoder for small videos: four convolutions, 8 x 48 x 48 to 128 x 2 x 6 x 6."""

from __future__ import annotations

from torch import nn

from fima.backbones.conv import Conv3d

WIDTHS = (16, 32, 64, 128)
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1))


class Small(nn.Sequential):
    """Conv3d, BatchNorm, ReLU, four times."""

    channels = WIDTHS[-1]

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after, stride in zip((3, *WIDTHS), WIDTHS, STRIDES, strict=False):
            layers += [Conv3d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm3d(after), nn.ReLU()]
        super().__init__(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
