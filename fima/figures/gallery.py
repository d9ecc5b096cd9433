"""All figures by name, and the one number of each that a table shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fima.figures import activation, affinity, attention, masks, similarity, tsne
from fima.figures.picture import Picture
from fima.figures.stage import Stage


@dataclass(frozen=True)
class Choice:
    """How much is drawn.

    Attributes:
        videos: test videos that numbers are averaged over.
        clips: of each video, for similarity and tsne.
        classes: of tsne.
        seed: of every choice.
    """

    videos: int = 50
    clips: int = 10
    classes: int = 20
    seed: int = 0


Draw = Callable[[Sequence[Stage], Choice], Iterator[Picture]]


def _activation(stages: Sequence[Stage], choice: Choice) -> Iterator[Picture]:
    yield activation.draw(stages, choice.videos, choice.seed)


def _affinity(stages: Sequence[Stage], choice: Choice) -> Iterator[Picture]:
    yield affinity.draw(stages, choice.videos, choice.seed)


def _similarity(stages: Sequence[Stage], choice: Choice) -> Iterator[Picture]:
    yield similarity.draw(stages, choice.videos, choice.clips, choice.seed)


def _attention(stages: Sequence[Stage], choice: Choice) -> Iterator[Picture]:
    able = [stage for stage in stages if stage.settings.uses("pix") and stage.settings.pixel.decoder]
    for stage in able:
        yield _named(attention.draw(stage, choice.videos, choice.seed), stage, able)


def _masks(stages: Sequence[Stage], choice: Choice) -> Iterator[Picture]:
    for stage in stages:
        yield _named(masks.draw(stage, choice.videos, choice.seed), stage, stages)


def _tsne(stages: Sequence[Stage], choice: Choice) -> Iterator[Picture]:
    yield tsne.draw(stages, choice.classes, choice.clips, choice.seed)


FIGURES: dict[str, Draw] = {
    "activation": _activation,  # Figs. 3, 4
    "affinity": _affinity,  # Fig. 5a
    "similarity": _similarity,  # Fig. 5b
    "attention": _attention,  # Fig. 7; of stages with a decoder for pixels
    "masks": _masks,  # Figs. 8, 9
    "tsne": _tsne,  # Figs. 10, 11
}
# Number of a table: the picture that it is of, and its name there.
NUMBERS = {
    "activation": ("activation", "on figure"),
    "activation_drawn": ("activation", "as drawn"),
    "diagonal": ("affinity", "diagonal mass"),
    "similarity": ("similarity", "mean"),
    "deviation": ("similarity", "std"),
    "attention": ("attention", "figure to figure"),
    "correspondence": ("attention", "corresponding"),
    "mask": ("masks", "IoU fused"),
    "silhouette": ("tsne", "silhouette of features"),
}


def draw(
    stages: Sequence[Stage], names: Sequence[str] = tuple(FIGURES), choice: Choice | None = None
) -> Iterator[Picture]:
    """The figures of one or several stages, one after the other.

    Args:
        stages: side by side, of equal view and feature size.
        names: of FIGURES.
        choice: of videos, clips, classes and seed; none: the paper's 50, 10 and 20, and seed 0.
    """
    for name in names:
        yield from FIGURES[name](stages, choice or Choice())


def numbers(pictures: Sequence[Picture], label: str) -> dict[str, float | None]:
    """The numbers of a table, of one stage's pictures: NUMBERS; None for what is not drawn or not known."""
    found = {picture.name: known(picture.numbers.get(label, {})) for picture in pictures}
    return {key: found.get(name, {}).get(number) for key, (name, number) in NUMBERS.items()}


def known(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """The same numbers, None for what is not finite: JSON has no NaN."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}


def _named(picture: Picture, stage: Stage, among: Sequence[Stage]) -> Picture:
    """A picture of one stage of several has the stage's label in its name."""
    if len(among) == 1:
        return picture
    words = "".join(letter if letter.isalnum() else "-" for letter in stage.label.lower().replace(" + ", "-"))
    return replace(picture, name=f"{picture.name}-{words.strip('-')}")
