"""Where encoders look: class-agnostic activation maps of several models over the same frames (Figs. 3, 4).

A bin of the map is drawn, and compared with the truth, at its place in the frame as `fima.geometry` has it.
Convolutions of stride 2 with equal padding see up to half a bin further up and left: maps of `small` are drawn that
much too low and too far right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fima import foreground
from fima.figures import picture, scenes
from fima.figures.picture import Numbers, Picture
from fima.figures.scenes import Array, Scenes
from fima.figures.stage import Stage

ROWS = 5  # clips shown


def maps(features: Tensor) -> NDArray[np.float32]:
    """Feature maps [N, C, T', H', W'] to the activation map of each of their frames [N, T', H', W'] (Eq. 6)."""
    frames = [foreground.activation(features[:, :, i : i + 1]) for i in range(features.shape[2])]
    found: NDArray[np.float32] = torch.stack(frames, 1).unflatten(-1, features.shape[-2:]).numpy()
    return found


def scaled(activity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps [N, T', H', W'] moved and scaled to [0, 1] over each clip; constant ones become 0."""
    low, high = activity.min((1, 2, 3), keepdims=True), activity.max((1, 2, 3), keepdims=True)
    found: NDArray[np.float32] = (activity - low) / np.where(high > low, high - low, 1)
    return found


def share(activity: NDArray[np.floating], cover: Array) -> Array:
    """How much of the activation lies on the figure: sum of activation x coverage / sum of activation.

    Args:
        activity: [..., H', W'], >= 0.
        cover: [..., H', W'] share of each bin that the figure covers.

    Returns:
        [...] in [0, 1]; of a constant map it is the figure's share of the area. A map of zeros counts as constant.
    """
    level = activity.astype(np.float64)
    level = np.where(level.sum((-2, -1), keepdims=True) > 0, level, 1.0)
    found: Array = (level * cover).sum((-2, -1)) / level.sum((-2, -1))
    return found


def draw(stages: Sequence[Stage], videos: int = 50, seed: int = 0, rows: int = ROWS) -> Picture:
    """Activation maps of each stage's query encoder on the middle clips of random test videos.

    Numbers: share of the activation on the moving figure, mean over frames and clips of all those videos; the same of
    the maps as they are drawn, scaled to their range in the clip, for a level that is the same everywhere hides where
    they differ; the figure's share of the area, which a constant map would reach. None for real video.

    Args:
        stages: of equal view and feature size.
        videos: over which the number is averaged.
        seed: of their choice; the first `rows` are shown.
        rows: clips shown.
    """
    from matplotlib.figure import Figure

    first = stages[0]
    chosen = scenes.uniform(first.data, first.settings, first.grid, videos, 1, seed)
    found = {stage.label: maps(stage.features(chosen)[:, 0]) for stage in stages}
    numbers = _numbers(found, chosen)
    time, rows = first.grid[0], min(rows, len(chosen))
    width = 1 + len(stages)
    with picture.style():
        figure = Figure(figsize=(0.95 * width * time + 0.15 * (time - 1), 0.95 * rows + 0.35), layout="constrained")
        groups = figure.subfigures(1, time, squeeze=False, wspace=0.03)[0]
        for part, group in enumerate(groups):
            panels = group.subplots(rows, width, squeeze=False)
            for row in range(rows):
                frame = chosen.frames(row, 0, time)[part]
                picture.image(panels[row, 0], frame)
                for column, activity in enumerate(found.values(), 1):
                    picture.image(panels[row, column], frame, scaled(activity)[row, part])
            for panel, label in zip(panels[0], [f"moment {part + 1}", *found], strict=True):
                panel.set_title(label, fontsize=7)
    arrays: dict[str, NDArray[np.floating]] = {f"activation {label}": activity for label, activity in found.items()}
    if chosen.cover is not None:
        arrays["cover"] = chosen.cover[:, 0]
    said = (
        "No number, since real video does not say where it moves"
        if chosen.cover is None
        else "Share of the activation on the moving figure, mean over all clips: "
        + ", ".join(f"{label} {n['on figure']:.3f} (as drawn {n['as drawn']:.3f})" for label, n in numbers.items())
        + f", against its share of the area {numbers[first.label]['area']:.3f}"
    )
    caption = (
        f"Class-agnostic activation maps (mean over channels of the query encoder's RGB map) over {time} moments of "
        f"one clip a row, each model's scaled to its range in the clip. Shown: {chosen.named(range(rows))}, the first "
        f"of a random choice. {said}. {picture.sources(stages, chosen.words, seed)}"
    )
    return Picture("activation", figure, arrays, numbers, caption)


def _numbers(found: dict[str, NDArray[np.float32]], chosen: Scenes) -> Numbers:
    if chosen.cover is None:
        return {label: dict.fromkeys(("on figure", "as drawn", "area")) for label in found}
    cover = chosen.cover[:, 0]
    area = float(cover.mean())

    def on(activity: NDArray[np.float32]) -> float:
        return float(share(activity, cover).mean())

    return {
        label: {"on figure": on(activity), "as drawn": on(scaled(activity)), "area": area}
        for label, activity in found.items()
    }
