"""R(2+1)D-18 of torchvision, without pooling and classifier: 16 x 112 x 112 to 512 x 2 x 7 x 7."""

from __future__ import annotations

from torch import nn

from fima.backbones.conv import trusted
from fima.backbones.r3d import Trunk


def build() -> nn.Module:
    """R(2+1)D-18, randomly initialised."""
    from torchvision.models.video import r2plus1d_18

    return Trunk(trusted(r2plus1d_18(weights=None)))
