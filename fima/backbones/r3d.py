"""R3D-18 of torchvision, without pooling and classifier: 16 x 112 x 112 to 512 x 2 x 7 x 7."""

from __future__ import annotations

from torch import Tensor, nn

from fima.backbones.conv import trusted


class Trunk(nn.Module):
    """Stem and four stages of a torchvision video ResNet, under its own names, so that its weights load."""

    channels = 512

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, name, getattr(network, name))

    def forward(self, clips: Tensor) -> Tensor:
        """[B, 3, T, H, W] to [B, 512, T / 8, H / 16, W / 16]."""
        for stage in self.children():
            clips = stage(clips)
        return clips


def build() -> nn.Module:
    """R3D-18, randomly initialised."""
    from torchvision.models.video import r3d_18

    return Trunk(trusted(r3d_18(weights=None)))
