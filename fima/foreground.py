"""Activation maps to foreground masks (section 3.2, Eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor


def activation(features: Tensor) -> Tensor:
    """Class-agnostic activation map: mean over channels and time.

    Args:
        features: [B, C, T', H', W'] of the key encoder.

    Returns:
        [B, H'W'] float32, without gradient.
    """
    return features.detach().float().mean(dim=(1, 2)).flatten(1)


def top_portion(activity: Tensor, beta: float) -> Tensor:
    """The `beta` portion of pixels with the highest activity.

    Foreground is what exceeds the (1 - beta) quantile: Eq. (6) prints "beta-th quantile", but section 4.2, appendix
    D.2 and the published code keep the portion beta. The comparison is strict, so 24 of 49 pixels at beta = 0.5.

    Args:
        activity: [B, H'W'].
        beta: portion kept, in (0, 1]; 1 keeps all.

    Returns:
        [B, H'W'] bool; a row in which nothing exceeds its quantile (a constant map) keeps all that reach it.
    """
    if beta == 1:
        return torch.ones_like(activity, dtype=torch.bool)
    quantile = torch.quantile(activity, 1 - beta, dim=-1, keepdim=True)
    above = activity > quantile
    return torch.where(above.any(-1, keepdim=True), above, activity >= quantile)
