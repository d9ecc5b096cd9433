"""What the paper's table prints beside the rows that are run: other methods, and the same ones under other recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.results import NAMES

if TYPE_CHECKING:
    from ablations.plan import PlannedRow
    from ablations.profile import Profile
    from ablations.spec import Cited

BACKBONES = {"i3d": "I3D", "r2plus1d": "R(2+1)D", "r3d": "R3D-18"}  # as the paper writes them
USUAL = ("I3D", "UCF101")  # the paper's recipe of its ablations, which a reduced profile is held against


@dataclass(frozen=True)
class Line:
    """One printed line. `row`: the row of the study that stands for it, with its numbers; "": it is only cited."""

    label: str
    backbone: str
    frames: int | None
    resolution: int | None  # pixels
    pretrain: str
    paper: Mapping[str, float]  # metric -> printed value
    note: str = ""
    row: str = ""

    @property
    def recipe(self) -> str:
        """ "I3D, 16 frames of 224 pixels, pre-trained on UCF101" """
        clip = f"{self.frames} frames" if self.frames else ""
        side = f"{self.resolution} pixels" if self.resolution else ""
        size = " of ".join(part for part in (clip, side) if part)
        return ", ".join(part for part in (self.backbone, size, f"pre-trained on {self.pretrain}") if part)


@dataclass(frozen=True)
class Literature:
    """All printed lines, in the paper's order, and its columns: (metric, title)."""

    columns: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]


def printed(row: PlannedRow, profile: Profile) -> Cited | None:
    """The printed line that a row stands for: of its label, backbone and pre-training data.

    A reduced profile has no recipe of the paper's: its rows stand for I3D on UCF101, as those of the ablations do, or
    where that is not printed for the first line of their label.
    """
    own = [cited for cited in row.study.cited if cited.label == row.row.label]
    backbone = BACKBONES.get(row.resolved.settings.backbone.name, "")
    recipe = (backbone, NAMES.get(row.resolved.data["pretrain"].name, ""))
    wanted = (recipe, USUAL) if profile.reduced else (recipe,)
    for pair in wanted:
        for cited in own:
            if (cited.backbone, cited.pretrain) == pair:
                return cited
    return next(iter(own), None) if profile.reduced else None


def values(row: PlannedRow, profile: Profile) -> Mapping[str, float]:
    """What the paper prints for a row: as the row says, or else the line that it stands for."""
    if row.row.paper or not getattr(row.study, "cited", ()):
        return row.row.paper
    cited = printed(row, profile)
    return {} if cited is None else cited.paper


def of(rows: Sequence[PlannedRow], profile: Profile, titles: Mapping[str, str]) -> Literature | None:
    """The printed lines of the rows' study; None where it cites none.

    Args:
        rows: of one study.
        profile: that they run under.
        titles: of every metric that is printed.
    """
    study = rows[0].study
    if not getattr(study, "cited", ()):
        return None
    stands = {id(cited): row.row.label for row in rows if (cited := printed(row, profile)) is not None}
    lines = tuple(
        Line(
            cited.label,
            cited.backbone,
            cited.frames,
            cited.resolution,
            cited.pretrain,
            dict(cited.paper),
            cited.note,
            stands.get(id(cited), ""),
        )
        for cited in study.cited
    )
    columns = tuple((metric, titles[metric]) for metric in study.metrics if any(metric in line.paper for line in lines))
    return Literature(columns, lines)


def note(literature: Literature) -> str:
    """Which printed numbers stand beside the rows that were run."""
    recipes: dict[str, list[str]] = {}
    for line in literature.lines:
        if line.row:
            recipes.setdefault(line.recipe, []).append(f"“{line.row}”")
    if not recipes:
        return "No line of the paper has the recipe of these rows, so that no printed number stands beside them."
    each = "; ".join(f"beside {', '.join(labels)}: {recipe}" for recipe, labels in recipes.items())
    return f"What the paper's numbers are of, {each}."
