"""How alike RGB and motion features are over time: cosines within a video (Fig. 5b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fima.figures import picture, scenes
from fima.figures.picture import COLOURS, Picture
from fima.figures.stage import Stage


def pairs(appearance: Tensor, motion: Tensor) -> NDArray[np.float32]:
    """Cosine of every RGB clip and every motion clip of a video.

    Args:
        appearance, motion: [N, K, C] pooled features of the same clips.

    Returns:
        [N, K, K] in [-1, 1], RGB clips by motion clips.
    """
    found: NDArray[np.float32] = (F.normalize(appearance, dim=-1) @ F.normalize(motion, dim=-1).mT).numpy()
    return found


def spread(cosines: NDArray[np.floating]) -> dict[str, float | None]:
    """Mean and standard deviation over all pairs, and the deviation within a video (root mean variance)."""
    values = cosines.astype(np.float64)
    within = float(np.sqrt(values.var(axis=(1, 2)).mean()))
    return {"mean": float(values.mean()), "std": float(values.std()), "std within": within}


def draw(stages: Sequence[Stage], videos: int = 50, clips: int = 10, seed: int = 0) -> Picture:
    """Violins of the cosines of each stage's query encoder, `clips` evenly spaced clips of random test videos.

    Numbers: mean and standard deviation over all pairs within videos, and the deviation within a video.

    Args:
        stages: of equal view and feature size.
        videos: that are compared with themselves.
        clips: of each.
        seed: of the choice of videos.
    """
    from matplotlib.figure import Figure

    first = stages[0]
    chosen = scenes.uniform(first.data, first.settings, first.grid, videos, clips, seed)
    found = {
        stage.label: pairs(*(stage.features(chosen, modality).mean((-3, -2, -1)) for modality in ("rgb", "motion")))
        for stage in stages
    }
    numbers: picture.Numbers = {label: spread(values) for label, values in found.items()}
    with picture.style():
        figure = Figure(figsize=(1.3 * len(stages) + 0.9, 2.6), layout="constrained")
        panel = figure.subplots()
        colours = [COLOURS[number % len(COLOURS)] for number in range(len(stages))]
        drawn: dict[str, Any] = panel.violinplot(
            [values.ravel() for values in found.values()], showextrema=False, widths=0.8
        )
        for body, colour in zip(drawn["bodies"], colours, strict=True):
            body.set(facecolor=colour, edgecolor=colour, alpha=0.45)
        for place, (values, colour) in enumerate(zip(found.values(), colours, strict=True), 1):
            low, middle, high = np.percentile(values, (25, 50, 75))
            panel.vlines(place, low, high, color=colour, linewidth=4)
            panel.plot(place, middle, "o", color="white", markersize=3.5, markeredgecolor=colour)
        labels = [f"{label}\n{n['mean']:.3f} ± {n['std']:.3f}" for label, n in numbers.items()]
        panel.set_xticks(range(1, len(stages) + 1), labels)
        panel.set_ylabel("cosine of RGB and motion")
        panel.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        panel.set_axisbelow(True)
    said = ", ".join(
        f"{label} {n['mean']:.3f} ± {n['std']:.3f} (within a video {n['std within']:.3f})"
        for label, n in numbers.items()
    )
    caption = (
        f"Cosine similarity of pooled RGB and motion features, {chosen.clips} clips a video, all {chosen.clips**2} "
        f"pairs within each video; dot: median, bar: quartiles. Mean ± standard deviation: {said}. "
        f"{picture.STATISTICS[first.statistics]} {picture.sources(stages, chosen.words, seed)}"
    )
    return Picture("similarity", figure, {f"cosine {k}": v for k, v in found.items()}, numbers, caption)
