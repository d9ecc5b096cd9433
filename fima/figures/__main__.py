"""Draw the paper's figures from folders of finished pre-trainings.

On its own:  python -m fima.figures runs/pretrain-... runs/pretrain-... --out pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fima.figures.gallery import FIGURES, Choice, draw
from fima.figures.stage import load_all
from fima.options import whole


def main() -> None:
    """Draw, save, and print each caption."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", type=Path, nargs="+", help="folders with config.json, result.json, checkpoint.pt")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--only", choices=FIGURES, nargs="+", default=list(FIGURES), metavar="FIGURE")
    parser.add_argument("--videos", type=whole, default=50, help="test videos that numbers are averaged over")
    parser.add_argument("--clips", type=whole, default=10, help="clips of a video for similarity and tsne")
    parser.add_argument("--classes", type=whole, default=20, help="classes of tsne")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--statistics", choices=["own", "running"], default="own", help="of BatchNorm on motion clips")
    arguments = parser.parse_args()
    try:
        stages = load_all(arguments.stages, arguments.statistics)
        choice = Choice(arguments.videos, arguments.clips, arguments.classes, arguments.seed)
        for picture in draw(stages, arguments.only, choice):
            path = picture.save(arguments.out)[0]
            print(f"{path}\n    {picture.caption}\n")
    except (OSError, ValueError) as error:
        raise SystemExit(" ".join(str(error).split())) from error


if __name__ == "__main__":
    main()
