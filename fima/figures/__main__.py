"""Draw the paper's figures from folders of finished pre-trainings.

On its own:  python -m fima.figures runs/pretrain-... runs/pretrain-... --out pictures
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fima.figures import activation, affinity, attention, masks, similarity, tsne
from fima.figures.picture import Picture
from fima.figures.stage import Stage, load_all

Draw = Callable[[list[Stage], argparse.Namespace], Iterator[Picture]]


def _activation(stages: list[Stage], a: argparse.Namespace) -> Iterator[Picture]:
    yield activation.draw(stages, a.videos, a.seed)


def _affinity(stages: list[Stage], a: argparse.Namespace) -> Iterator[Picture]:
    yield affinity.draw(stages, a.videos, a.seed)


def _similarity(stages: list[Stage], a: argparse.Namespace) -> Iterator[Picture]:
    yield similarity.draw(stages, a.videos, a.clips, a.seed)


def _attention(stages: list[Stage], a: argparse.Namespace) -> Iterator[Picture]:
    able = [stage for stage in stages if stage.settings.uses("pix") and stage.settings.pixel.decoder]
    for stage in able:
        yield _named(attention.draw(stage, a.videos, a.seed), stage, able)


def _masks(stages: list[Stage], a: argparse.Namespace) -> Iterator[Picture]:
    for stage in stages:
        yield _named(masks.draw(stage, a.videos, a.seed), stage, stages)


def _tsne(stages: list[Stage], a: argparse.Namespace) -> Iterator[Picture]:
    yield tsne.draw(stages, a.classes, a.clips, a.seed)


FIGURES: dict[str, Draw] = {
    "activation": _activation,
    "affinity": _affinity,
    "similarity": _similarity,
    "attention": _attention,
    "masks": _masks,
    "tsne": _tsne,
}


def _named(picture: Picture, stage: Stage, among: list[Stage]) -> Picture:
    """A picture of one stage of several has the stage's label in its name."""
    if len(among) == 1:
        return picture
    words = "".join(letter if letter.isalnum() else "-" for letter in stage.label.lower().replace(" + ", "-"))
    return replace(picture, name=f"{picture.name}-{words.strip('-')}")


def main() -> None:
    """Draw, save, and print each caption."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", type=Path, nargs="+", help="folders with config.json, result.json, checkpoint.pt")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--only", choices=FIGURES, nargs="+", default=list(FIGURES), metavar="FIGURE")
    parser.add_argument("--videos", type=int, default=50, help="test videos that numbers are averaged over")
    parser.add_argument("--clips", type=int, default=10, help="clips of a video for similarity and tsne")
    parser.add_argument("--classes", type=int, default=20, help="classes of tsne")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--statistics", choices=["own", "running"], default="own", help="of BatchNorm on motion clips")
    arguments = parser.parse_args()
    try:
        stages = load_all(arguments.stages, arguments.statistics)
        for name in arguments.only:
            for picture in FIGURES[name](stages, arguments):
                path = picture.save(arguments.out)[0]
                print(f"{path}\n    {picture.caption}\n")
    except (OSError, ValueError) as error:
        raise SystemExit(" ".join(str(error).split())) from error


if __name__ == "__main__":
    main()
