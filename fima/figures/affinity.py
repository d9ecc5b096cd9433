"""Which motion pixel an RGB pixel resembles: the spatial affinity matrix (Fig. 5a)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fima.figures import picture, scenes
from fima.figures.picture import Picture
from fima.figures.stage import Stage


def matrix(appearance: Tensor, motion: Tensor) -> NDArray[np.float32]:
    """Cosines of all pairs of pixels, mean over clips.

    Args:
        appearance, motion: [N, C, T', H', W'] maps of the same clips; they are averaged over time first.

    Returns:
        [H'W', H'W'] in [-1, 1], RGB pixels by motion pixels.
    """
    rgb, moved = (F.normalize(maps.mean(2).flatten(2), dim=1) for maps in (appearance, motion))
    found: NDArray[np.float32] = (rgb.mT @ moved).mean(0).numpy()
    return found


def diagonal_mass(affinity: NDArray[np.floating]) -> float:
    """How much of an RGB pixel's similarity goes to its own place: mean over rows of A_ii / sum_j A_ij.

    Negative cosines count as 0. It is 1 for a diagonal matrix and 1 / H'W' (chance) for a constant one; a row without
    any similarity counts as constant.
    """
    level = np.clip(affinity.astype(np.float64), 0, None)
    level = np.where(level.sum(1, keepdims=True) > 0, level, 1.0)
    return float((level.diagonal() / level.sum(1)).mean())


def contrast(affinity: NDArray[np.floating]) -> float:
    """Mean cosine on the diagonal minus mean cosine off it, in [-2, 2]; 0 for a constant matrix."""
    values = affinity.astype(np.float64)
    count = len(values)
    diagonal = values.trace()
    return float(diagonal / count - (values.sum() - diagonal) / (count * (count - 1)))


def draw(stages: Sequence[Stage], videos: int = 50, seed: int = 0) -> Picture:
    """Affinity of RGB and motion maps of each stage's query encoder on the middle clips of random test videos.

    Numbers: diagonal mass (chance 1 / H'W') and contrast of the mean matrix.

    Args:
        stages: of equal view and feature size.
        videos: whose matrices are averaged.
        seed: of their choice.
    """
    from matplotlib.figure import Figure

    first = stages[0]
    chosen = scenes.uniform(first.data, first.settings, first.grid, videos, 1, seed)
    found = {s.label: matrix(s.features(chosen)[:, 0], s.features(chosen, "motion")[:, 0]) for s in stages}
    pixels = len(found[first.label])
    numbers: picture.Numbers = {
        label: {"diagonal mass": diagonal_mass(values), "chance": 1 / pixels, "contrast": contrast(values)}
        for label, values in found.items()
    }
    low, high = min(v.min() for v in found.values()), max(v.max() for v in found.values())
    with picture.style():
        figure = Figure(figsize=(2.1 * len(stages) + 0.9, 2.75), layout="constrained")
        panels = figure.subplots(1, len(stages), squeeze=False, sharey=True)[0]
        for panel, (label, values) in zip(panels, found.items(), strict=True):
            shown = panel.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
            panel.set_title(f"{label}\ndiagonal mass {numbers[label]['diagonal mass']:.3f}")
            panel.set_xlabel("motion pixel")
            panel.set_xticks(range(0, pixels, first.grid[2]))  # the first pixel of each line of the map
            panel.set_yticks(range(0, pixels, first.grid[2]))
            for spine in panel.spines.values():
                spine.set_visible(False)
        panels[0].set_ylabel("RGB pixel")
        bar = figure.colorbar(shown, ax=list(panels), shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("cosine")
    said = ", ".join(
        f"{label} {values['diagonal mass']:.4f} (cosine on the diagonal less off it {values['contrast']:.3f})"
        for label, values in numbers.items()
    )
    caption = (
        f"Affinity of RGB and motion pixels: cosines of time-averaged maps, row-major pixels, mean over clips. "
        f"Diagonal mass (mean over RGB pixels of the share of similarity at the same place; chance {1 / pixels:.4f}): "
        f"{said}. {picture.STATISTICS[first.statistics]} {picture.sources(stages, chosen.words, seed)}"
    )
    return Picture("affinity", figure, {f"affinity {k}": v for k, v in found.items()}, numbers, caption)
