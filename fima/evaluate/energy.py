"""Raw motion without an encoder: what a probe finds in the frame differences themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fima import backbones
from fima.augment import STD
from fima.config import Settings


class Energy(nn.Module):
    """In an encoder's place: absolute frame differences, pooled to the size of its feature map.

    Args:
        settings: backbone, clip and size of a view are read.
    """

    scale: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.grid = backbones.feature_grid(settings.backbone, settings.clip.frames, settings.augment.size)
        self.channels = self.grid[0] * self.grid[1] * self.grid[2]
        self.register_buffer("scale", torch.tensor(STD).view(1, 3, 1, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised clips [N, 3, T, H, W] to [N, T' H' W', 1, 1, 1]: a channel is a cell's mean |d|, in [0, 1]."""
        pixels = clips.float() * self.scale  # the mean that normalisation took away cancels in a difference
        moved = (pixels[:, :, 1:] - pixels[:, :, :-1]).abs().mean(1, keepdim=True)
        return F.adaptive_avg_pool3d(moved, self.grid).flatten(1)[:, :, None, None, None]
