"""Where the motion decoder looks for a source pixel: attention of its last layer over the target view (Fig. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fima import compute, geometry
from fima.decoder import MotionDecoder
from fima.figures import picture, scenes
from fima.figures.picture import Picture
from fima.figures.scenes import COVERED, Array, Scenes
from fima.figures.stage import Stage
from fima.model import tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 5  # pairs of views shown

ON_FIGURE = tuple(f"{who} to figure{of}" for who in ("figure", "background") for of in ("", ", uniform"))

Mask = NDArray[np.bool_]


def decoder(stage: Stage) -> MotionDecoder:
    """The decoder that pixels ask.

    Raises:
        ValueError: the stage was trained without one.
    """
    if not (stage.settings.uses("pix") and stage.settings.pixel.decoder):
        raise ValueError(
            f"{stage.folder}: was trained without a motion decoder for pixels; take a stage with the loss pix and "
            "pixel.decoder on"
        )
    decoders = stage.model.decoders
    return cast(MotionDecoder, decoders["shared" if "shared" in decoders else "pix"])


@torch.no_grad()
def weights(stage: Stage, features: Tensor) -> NDArray[np.float32]:
    """Attention [N, T', S, S], source pixels by target pixels, rows sum to 1.

    Args:
        stage: with a motion decoder.
        features: [N, 2, C, T', H', W'] maps of source and target views.
    """
    source, target = tokens(features[:, 0]), tokens(features[:, 1])  # [N, T', S, C]
    with compute.autocast(stage.settings.compute, features.device):
        found = decoder(stage).attention(source.flatten(0, 1), target.flatten(0, 1))
    array: NDArray[np.float32] = found.float().unflatten(0, source.shape[:2]).numpy()
    return array


def mass(attention: NDArray[np.floating], target: Mask) -> tuple[Array, Array]:
    """Attention that falls on target pixels, and what uniform attention would put there.

    Args:
        attention: [..., S, S], rows sum to 1.
        target: [..., S, S] the target pixels of each source pixel; broadcast.

    Returns:
        Two arrays [..., S] in [0, 1].
    """
    wanted = np.broadcast_to(target, attention.shape)
    on: Array = (attention * wanted).sum(-1, dtype=np.float64)
    return on, wanted.mean(-1)


def draw(stage: Stage, videos: int = 50, seed: int = 0, rows: int = ROWS) -> Picture:
    """Attention of two source pixels per pair of views of random test videos, one on the figure, one beside it.

    Numbers, means over all source pixels (not only the ones shown) beside what uniform attention gives: the mass on
    the corresponding place, that is the target pixels which the pixel loss takes as positive, over source pixels that
    have any; and, where the truth is known, the mass on the figure from pixels of the figure, and from other pixels.

    Args:
        stage: with a motion decoder.
        videos: over which the numbers are averaged.
        seed: of videos, views and points.
        rows: pairs shown.

    Raises:
        ValueError: the stage has no motion decoder.
    """
    decoder(stage)
    chosen = scenes.paired(stage.data, stage.settings, stage.grid, videos, seed)
    features = stage.features(chosen)
    attention = weights(stage, features)
    _, height, width = stage.grid
    boxes = chosen.boxes
    near: Mask = geometry.near(boxes[:, 0], boxes[:, 1], height, width, stage.settings.pixel.threshold).numpy()
    values = _numbers(attention, near, chosen.cover)
    moment, rows = stage.grid[0] // 2, min(rows, len(chosen))
    points = _points(_level(features, chosen.cover)[:, moment], near, np.random.default_rng(seed))
    with picture.style():
        figure = _composed(chosen, attention, near, points[:rows], stage.grid, moment)
    said = f"{values['corresponding']:.3f} lies on the corresponding place (uniform {values['uniform']:.3f})"
    level = "of the highest activation"
    if chosen.cover is not None:
        level = "most covered by the figure"
        said += (
            f"; on the figure lies {values['figure to figure']:.3f} of its own pixels' attention (uniform "
            f"{values['figure to figure, uniform']:.3f}) and {values['background to figure']:.3f} of the others' "
            f"(uniform {values['background to figure, uniform']:.3f})"
        )
    caption = (
        f"Attention of the motion decoder's last layer, mean over heads, from the circled source pixel over the target "
        f"view, scaled to its range; white: the target pixels closer than {stage.settings.pixel.threshold:g} bin "
        f"diagonals to the same place of the video. Shown: {chosen.named(range(rows))}, the first of a random choice; "
        f"points: the one {level}, and a random one of the half that is less so. Of the attention of all source pixels "
        f"{said}. {picture.sources([stage], chosen.words, seed)}"
    )
    arrays = {"attention": attention, "near": near, "points": points, "boxes": boxes.numpy()}
    return Picture("attention", figure, arrays, {stage.label: values}, caption)


def _composed(
    chosen: Scenes,
    attention: NDArray[np.float32],
    near: Mask,
    points: NDArray[np.int64],
    grid: tuple[int, int, int],
    moment: int,
) -> Figure:
    """A row per pair of views: twice the source with a circled point, and the target under its attention."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    time, height, width = grid
    figure = Figure(figsize=(4 * 1.1, 1.1 * len(points) + 0.35), layout="constrained")
    panels = figure.subplots(len(points), 4, squeeze=False)
    for row, pair in enumerate(points):
        source, target = (chosen.frames(row, view, time)[moment] for view in (0, 1))
        down, across = source.shape[0] / height, source.shape[1] / width  # pixels of a bin
        for left, right, point in zip(panels[row, ::2], panels[row, 1::2], pair, strict=True):
            y, x = divmod(int(point), width)
            picture.image(left, source)
            place = ((x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5)
            for colour, line in (("white", 3.0), ("red", 1.5)):
                left.plot(*place, "o", markersize=9, color="none", markeredgecolor=colour, markeredgewidth=line)
            picture.image(right, target, picture.stretched(attention[row, moment, point].reshape(height, width)))
            for number in np.flatnonzero(near[row, point]):
                y, x = divmod(int(number), width)
                corner = (x * across - 0.5, y * down - 0.5)
                right.add_patch(Rectangle(corner, across, down, fill=False, edgecolor="white", lw=0.8, clip_on=False))
    names = ("active", "less active") if chosen.cover is None else ("on the figure", "beside it")
    titles = [words for name in names for words in (f"source: {name}", "target: attention")]
    for panel, words in zip(panels[0], titles, strict=True):
        panel.set_title(words, fontsize=7)
    return figure


def _numbers(attention: NDArray[np.float32], near: Mask, cover: Array | None) -> dict[str, float | None]:
    on, uniform = mass(attention, near[:, None])
    asked = np.broadcast_to(uniform > 0, on.shape)  # some target pixel corresponds
    found: dict[str, float | None] = {"corresponding": _mean(on[asked]), "uniform": _mean(uniform[asked])}
    if cover is None:
        return found | dict.fromkeys(ON_FIGURE)
    both: Mask = np.asarray(cover >= COVERED).reshape(len(cover), 2, *on.shape[1:])  # [N, 2, T', S]
    source, target = both[:, 0], both[:, 1]
    on, uniform = mass(attention, target[..., None, :])
    able = np.broadcast_to(target.any(-1, keepdims=True), on.shape)
    for name, asked in (("figure to figure", source & able), ("background to figure", ~source & able)):
        found |= {name: _mean(on[asked]), f"{name}, uniform": _mean(uniform[asked])}
    return found


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _level(features: Tensor, cover: Array | None) -> NDArray[np.floating]:
    """[N, T', S] how much a source pixel is of the figure: coverage, or activation where the truth is not known."""
    if cover is not None:
        return cover[:, 0].reshape(*cover.shape[:1], cover.shape[2], -1)
    found: NDArray[np.floating] = features[:, 0].mean(1).flatten(2).numpy()
    return found


def _points(level: NDArray[np.floating], near: Mask, random: np.random.Generator) -> NDArray[np.int64]:
    """[N, 2] source pixels: the one of the highest level, and a random one of the lower half.

    Both have a corresponding target pixel, where any has.
    """
    points = []
    for values, pairs in zip(level, near, strict=True):
        able = pairs.any(-1) if pairs.any() else np.ones(len(values), bool)
        first = int(np.where(able, values, -np.inf).argmax())
        low = able & (values <= np.median(values[able]))
        low[first] &= low.sum() == 1
        points.append([first, int(random.choice(np.flatnonzero(low)))])
    return np.array(points)
