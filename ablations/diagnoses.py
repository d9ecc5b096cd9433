"""Columns that say what an encoder attends to: background-bias diagnostics, and the number of each of the figures.

They are measured on what plays UCF101 and are asked for by a study, whatever its profile measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Points that an accuracy loses against that of clips as they are, by the key of the result -> of the accuracy.
LOST = {"order": "shuffled", "motion": "frozen"}
ROLE = "ucf101"  # whose videos are looked at


@dataclass(frozen=True)
class Diagnosis:
    """One such column.

    Attributes:
        kind: of the stage that measures it.
        key: of that stage's result.
        title: in words.
        better: which side says that the encoder attends to motion, as the paper reads it.
        unit: "%" or "" (a cosine, a silhouette).
        factor: on the result.
        accuracy: of a probe, so that there is a level of guessing.
        beside: what the number is to be compared with: words, picture, name among the picture's numbers.
    """

    kind: Literal["motion", "background", "figures"]
    key: str
    title: str
    better: Literal["higher", "lower"] | None = "higher"
    unit: str = "%"
    factor: float = 1.0
    accuracy: bool = False
    beside: tuple[tuple[str, str, str], ...] = ()

    @property
    def decimals(self) -> int:
        return 1 if self.unit else 3


def _share(key: str, title: str, *beside: tuple[str, str, str]) -> Diagnosis:
    return Diagnosis("figures", key, title, factor=100.0, beside=beside)


_CONSTANT = ("a constant map", "activation", "area")


DIAGNOSES: dict[str, Diagnosis] = {
    "bias/normal": Diagnosis("motion", "normal", "probe, top-1 %, clips as they are", accuracy=True),
    "bias/shuffled": Diagnosis("motion", "shuffled", "probe, top-1 %, frames shuffled", None, accuracy=True),
    "bias/frozen": Diagnosis("motion", "frozen", "probe, top-1 %, one frame frozen", None, accuracy=True),
    "bias/order": Diagnosis("motion", "order", "points lost where frames are shuffled"),
    "bias/motion": Diagnosis("motion", "motion", "points lost where one frame is frozen"),
    "bias/plain": Diagnosis("background", "plain", "probe, top-1 %, backgrounds tell nothing", accuracy=True),
    "bias/unrelated": Diagnosis("background", "unrelated", "biased probe, top-1 %, plain backgrounds", accuracy=True),
    "bias/swapped": Diagnosis("background", "swapped", "biased probe, top-1 %, backgrounds swapped", accuracy=True),
    "bias/lured": Diagnosis("background", "lured", "biased probe, given the swapped background's class, %", "lower"),
    "fig/activation": _share("activation", "activation on the moving figure, %", _CONSTANT),
    "fig/activation_drawn": _share(
        "activation_drawn", "activation on the moving figure, scaled as drawn, %", _CONSTANT
    ),
    "fig/diagonal": _share(
        "diagonal", "diagonal mass of RGB and motion affinity, %", ("a constant matrix", "affinity", "chance")
    ),
    "fig/similarity": Diagnosis("figures", "similarity", "cosine of RGB and motion, mean", "lower", ""),
    "fig/deviation": Diagnosis("figures", "deviation", "cosine of RGB and motion, deviation", "higher", ""),
    "fig/attention": _share(
        "attention", "decoder attention from figure to figure, %",
        ("uniform attention", "attention", "figure to figure, uniform"),
    ),
    "fig/correspondence": _share(
        "correspondence", "decoder attention on the same place, %", ("uniform attention", "attention", "uniform")
    ),
    "fig/mask": _share(
        "mask", "IoU of the foreground mask with the figure, %",
        ("a random mask", "masks", "IoU random"), ("the best of its size", "masks", "IoU attainable"),
    ),
    "fig/silhouette": Diagnosis("figures", "silhouette", "silhouette of the classes", "higher", ""),
}  # fmt: skip
