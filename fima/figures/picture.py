"""A drawn figure with what it was drawn from: arrays, numbers, caption; saved as PNG, PDF, NPZ and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fima.figures.stage import Stage

# Okabe and Ito's colours keep apart under every common colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
HEAT = "inferno"
OPACITY = 0.6  # of a map over a frame
FINE = 192  # pixels of a panel with a map
DPI = 200
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "text.usetex": False,
    "text.parse_math": False,
}

STATISTICS = {
    "own": "BatchNorm of motion clips by their own statistics, as in pre-training.",
    "running": "BatchNorm by running statistics, which are not of motion clips.",
}

Numbers = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Picture:
    """A figure of the paper.

    Attributes:
        name: of the files.
        figure: matplotlib's.
        arrays: what is drawn, and what the numbers were computed from.
        numbers: {model: {number: value}}; None where the truth that it needs is not known.
        caption: what was drawn: checkpoints, videos, seed, numbers.
    """

    name: str
    figure: Figure
    arrays: dict[str, NDArray[Any]]
    numbers: Numbers
    caption: str

    def save(self, folder: Path) -> list[Path]:
        """Write name.png, .pdf, .npz and .json (caption, numbers); the same bytes every time."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.name}.{suffix}" for suffix in ("png", "pdf", "npz", "json")]
        with style():
            self.figure.savefig(paths[0], dpi=DPI, metadata={"Software": None})
            self.figure.savefig(paths[1], dpi=DPI, metadata={"CreationDate": None})
        np.savez_compressed(paths[2], allow_pickle=False, **self.arrays)
        content = {"caption": self.caption, "numbers": self.numbers}
        paths[3].write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return paths


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings for all figures."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def sources(stages: Sequence[Stage], videos: str, seed: int) -> str:
    """The sentence of a caption that says what was drawn."""
    models = "; ".join(f"{stage.label}: {stage.folder.name}, {stage.steps} steps" for stage in stages)
    return f"Checkpoints: {models}. Videos: {videos}. Seed {seed}."


def image(panel: Axes, frame: NDArray[np.float32], heat: NDArray[Any] | None = None) -> None:
    """Draw a frame [S, S, 3] in [0, 1], and over it a map [H', W'] in [0, 1], smoothed, on a panel without axes."""
    side = frame.shape[0]
    drawn = frame if heat is None else laid_over(frame, heat)
    panel.imshow(drawn, interpolation="nearest", extent=(-0.5, side - 0.5, side - 0.5, -0.5))
    bare(panel)


def laid_over(frame: NDArray[np.float32], heat: NDArray[Any]) -> NDArray[np.float32]:
    """A map [H', W'] in [0, 1] as colours over a frame [S, S, 3]: blended here, for PDF viewers blend as they like.

    Returns:
        [R, R, 3] in [0, 1]; R is a multiple of S and at least FINE / 2, so that the map looks smooth over small frames.
    """
    import torch
    from matplotlib import colormaps
    from torch.nn import functional as F

    times = max(1, FINE // frame.shape[0])
    large = frame.repeat(times, 0).repeat(times, 1)
    level = torch.from_numpy(np.ascontiguousarray(heat, np.float32))[None, None]
    smooth = F.interpolate(level, large.shape[:2], mode="bilinear")[0, 0].numpy()
    colours = colormaps[HEAT](smooth)[..., :3]
    blend: NDArray[np.float32] = ((1 - OPACITY) * large + OPACITY * colours).clip(0, 1).astype(np.float32)
    return blend


def bare(panel: Axes) -> None:
    """Take ticks and frame off a panel."""
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)


def stretched(values: NDArray[Any]) -> NDArray[Any]:
    """Values moved and scaled to [0, 1]; constant ones become 0."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)
