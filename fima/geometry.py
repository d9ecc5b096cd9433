"""Crop boxes to positive pairs: which pixels of two feature maps see the same place of the video (section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def bin_centres(box: Tensor, height: int, width: int) -> Tensor:
    """Centres of a feature map's bins in the coordinates of the original frame.

    Args:
        box: [B, 4] x0, y0, x1, y1 of the crop, normalised to the frame; x0 > x1 means the crop was flipped.
        height: H' of the feature map.
        width: W' of the feature map.

    Returns:
        [B, H'W', 2] x, y in row-major order of the bins.
    """
    x0, y0, x1, y1 = (side[:, None] for side in box.unbind(-1))
    x = x0 + (torch.arange(width, device=box.device, dtype=box.dtype) + 0.5) / width * (x1 - x0)  # [B, W']
    y = y0 + (torch.arange(height, device=box.device, dtype=box.dtype) + 0.5) / height * (y1 - y0)  # [B, H']
    return torch.stack(
        [x[:, None, :].expand(-1, height, -1).flatten(1), y[:, :, None].expand(-1, -1, width).flatten(1)], dim=-1
    )


def bin_diagonal(box: Tensor, height: int, width: int) -> Tensor:
    """Length [B] of a bin's diagonal for boxes [B, 4], in the coordinates of the original frame."""
    return torch.hypot((box[:, 2] - box[:, 0]) / width, (box[:, 3] - box[:, 1]) / height)


def near(source: Tensor, target: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """Pairs of bins whose centres lie closer than `threshold` bin diagonals (the paper's T, Table 3a).

    The larger of the two views' diagonals normalises. Distances are two-dimensional: time does not enter.

    Args:
        source: [B, 4] boxes of the source views, normalised to the frame.
        target: [B, 4] boxes of the target views of the same videos.
        height: H' of the feature map.
        width: W' of the feature map.
        threshold: in bin diagonals, > 0.

    Returns:
        [B, H'W', H'W'] bool, source bins by target bins.
    """
    distance = torch.cdist(
        bin_centres(source, height, width),
        bin_centres(target, height, width),
        compute_mode="donot_use_mm_for_euclid_dist",  # the matrix-product form loses digits near the threshold
    )
    diagonal = torch.maximum(bin_diagonal(source, height, width), bin_diagonal(target, height, width))
    return distance < threshold * diagonal[:, None, None]
