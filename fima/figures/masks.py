"""Which pixels the foreground sampling keeps: RGB, motion and fused masks, successes and failures (Figs. 8, 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fima import foreground
from fima.figures import picture, scenes
from fima.figures.picture import Picture
from fima.figures.scenes import COVERED, Array, Scenes
from fima.figures.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCES = ("RGB", "motion", "fused")
NUMBERS = (*(f"IoU {n}" for n in (*SOURCES, "random", "attainable")), *(f"inside {n}" for n in SOURCES))
ROWS = 3  # successes shown, and failures

Mask = NDArray[np.bool_]


def intersection_over_union(one: Mask, other: Mask) -> Array:
    """IoU [...] of masks [..., H', W'], in [0, 1]; of two empty ones it is 1."""
    both = (one & other).sum((-2, -1))
    either = (one | other).sum((-2, -1))
    found: Array = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return found


def held(masks: Mask, cover: Array) -> Array:
    """Share of the figure's area inside masks: [...] in [0, 1] of masks and coverage [..., H', W']; no figure: 1."""
    area, inside = np.broadcast_arrays(cover.sum((-2, -1)), (masks * cover).sum((-2, -1)))
    found: Array = np.where(area > 0, inside / np.where(area > 0, area, 1), 1.0)
    return found


def attainable(kept: int, true: int) -> float:
    """The highest IoU of a mask of so many pixels with a true foreground of so many."""
    return min(kept, true) / max(kept, true, 1)


def expected(kept: int, true: int, pixels: int) -> float:
    """The mean IoU of a random mask of `kept` of all pixels with a true foreground of `true` pixels."""
    ways = math.comb(pixels, kept)
    return sum(
        math.comb(true, common) * math.comb(pixels - true, kept - common) / ways * common / max(kept + true - common, 1)
        for common in range(min(kept, true) + 1)
    )


@dataclass(frozen=True)
class Scores:
    """Masks against the truth; [N, 3] are in the order of SOURCES.

    Attributes:
        truth: [N, H', W'] bins that the figure covers by a tenth or more, mean over the clip.
        iou: [N, 3] with the truth.
        inside: [N, 3] share of the figure's area inside the mask.
        random, attainable: [N] expected and highest IoU of a mask as large as the fused one.
    """

    truth: Mask
    iou: Array
    inside: Array
    random: Array
    attainable: Array

    @staticmethod
    def of(masks: Mask, cover: Array) -> Scores:
        """Scores of masks [N, 3, H', W'] where the figure covers [N, H', W'] of each bin."""
        truth = np.asarray(cover >= COVERED)
        sizes = [(int(mask.sum()), int(true.sum())) for mask, true in zip(masks[:, 2], truth, strict=True)]
        pixels = truth[0].size
        return Scores(
            truth,
            intersection_over_union(masks, truth[:, None]),
            held(masks, cover[:, None]),
            np.array([expected(kept, true, pixels) for kept, true in sizes]),
            np.array([attainable(kept, true) for kept, true in sizes]),
        )

    def numbers(self) -> dict[str, float | None]:
        """Means over clips."""
        iou = [*self.iou.mean(0), self.random.mean(), self.attainable.mean()]
        return {name: float(value) for name, value in zip(NUMBERS, [*iou, *self.inside.mean(0)], strict=True)}


def draw(stage: Stage, videos: int = 50, seed: int = 0, rows: int = ROWS) -> Picture:
    """Masks of a stage's key encoder on the middle clips of random test videos, as its L_Pix would sample them.

    Numbers: mean IoU of each mask with the true foreground, beside it the IoU of random masks of that size and the
    highest that this size can have; share of the figure's area inside each mask. None for real video. Successes and
    failures are the clips of whose figure the fused mask keeps most and least; for real video those in which RGB and
    motion masks agree most and least. Ties go by random order.

    Args:
        stage: any; without L_Pix its maps are masked by the same rule, at the default portion.
        videos: over which the numbers are averaged.
        seed: of their choice.
        rows: successes shown, and failures.
    """
    chosen = scenes.uniform(stage.data, stage.settings, stage.grid, videos, 1, seed)
    maps = [foreground.activation(stage.features(chosen, kind, "key")[:, 0]) for kind in ("rgb", "motion")]
    beta = stage.settings.foreground.beta
    stacked = torch.stack([foreground.top_portion(activity, beta) for activity in (*maps, maps[0] + maps[1])], 1)
    masks: Mask = stacked.unflatten(-1, stage.grid[1:]).numpy()  # [N, 3, H', W']
    arrays: dict[str, NDArray[np.generic]] = {"masks": masks}
    if chosen.cover is None:
        scores, rules = None, ("RGB and motion agree", "RGB and motion differ")
        rank = intersection_over_union(masks[:, 0], masks[:, 1])
        values: dict[str, float | None] = dict.fromkeys(NUMBERS)
        said = "No number, since real video does not say where it moves."
    else:
        scores, rules = Scores.of(masks, chosen.cover[:, 0].mean(1)), ("most of figure kept", "least of figure kept")
        rank, values = scores.inside[:, 2], scores.numbers()
        arrays |= {"truth": scores.truth, "iou": scores.iou, "inside": scores.inside}
        said = (
            f"Below each mask its IoU with the true foreground (bins that the figure covers by {COVERED:.0%} or more); "
            f"means: {_listed(values, 'IoU')}. Mean share of the figure inside the mask: {_listed(values, 'inside')}."
        )
    order = np.argsort(-rank, kind="stable")
    rows = min(rows, len(order) // 2)
    groups = {rules[0]: order[:rows], rules[1]: order[::-1][:rows]} if rows else {"": order}
    with picture.style():
        figure = _composed(chosen, masks, scores, groups)
    names = "; ".join(f"{rule or 'clip'}: {chosen.named(numbered.tolist())}" for rule, numbered in groups.items())
    caption = (
        f"Foreground masks of the key encoder's activation maps, mean over channels and time: the portion {beta:g} of "
        f"pixels with the highest activation is kept, others are black. Shown: {names}. {said} "
        f"{picture.STATISTICS[stage.statistics]} {picture.sources([stage], chosen.words, seed)}"
    )
    return Picture("masks", figure, arrays, {stage.label: values}, caption)


def _composed(chosen: Scenes, masks: Mask, scores: Scores | None, groups: dict[str, NDArray[np.int64]]) -> Figure:
    """A row per clip: frame, the three masks over it, and the true foreground where it is known."""
    from matplotlib.figure import Figure

    titles = ["frame", *SOURCES] + (["true"] if scores else [])
    rows = sum(map(len, groups.values()))
    figure = Figure(figsize=(0.95 * len(titles) + 0.2, (1.08 if scores else 0.95) * rows + 0.35), layout="constrained")
    parts = figure.subfigures(len(groups), 1, squeeze=False, hspace=0.04)[:, 0]
    for part, (rule, numbers) in zip(parts, groups.items(), strict=True):
        part.supylabel(rule, fontsize=7)
        panels = part.subplots(len(numbers), len(titles), squeeze=False)
        for row, number in enumerate(numbers):
            frame = chosen.frames(int(number), 0, 1)[0]
            picture.image(panels[row, 0], frame)
            for column, mask in enumerate([*masks[number], *([scores.truth[number]] if scores else [])], 1):
                picture.image(panels[row, column], frame * _enlarged(mask, frame.shape[0])[..., None])
            for column in range(len(SOURCES) if scores else 0):
                assert scores is not None
                panels[row, 1 + column].set_xlabel(f"IoU {scores.iou[number, column]:.2f}", fontsize=6, labelpad=1)
    for panel, title in zip(parts[0].axes, titles, strict=False):
        panel.set_title(title, fontsize=7)
    return figure


def _listed(values: dict[str, float | None], kind: str) -> str:
    """The numbers of a kind, as a caption lists them."""
    return ", ".join(f"{name.removeprefix(kind + ' ')} {v:.3f}" for name, v in values.items() if name.startswith(kind))


def _enlarged(mask: Mask, side: int) -> NDArray[np.float32]:
    """A mask [H', W'] over the pixels [S, S] of a view, nearest bin."""
    rows, columns = (np.arange(side) * length // side for length in mask.shape)
    return mask[rows][:, columns].astype(np.float32)
