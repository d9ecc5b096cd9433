"""The table model: what every report format shows, before any formatting."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ablations.literature import Literature
from ablations.stats import LEVEL, Agreement, Comparison, summarise
from ablations.verdicts import Verdict

REDUCED = "reduced scale: not a reproduction of the paper's numbers"
NO_PAPER = "no paper"
CHANGED = "not the paper's recipe: not a reproduction of the paper's numbers"
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Column:
    """One metric. Its paper values and its measured values may come from different data: both are named."""

    metric: str  # "lin/ucf101"; derived: "gpu_days/relative", "parameters/all"
    title: str  # what both numbers are, such as "linear probe, top-1 %"
    data: str = ""  # measured on
    paper_data: str = ""  # the paper's numbers are on
    unit: str = "%"  # "%", "M", "GPU-days", "device-days", "×"
    decimals: int = 1
    better: Better | None = None
    chance: float | None = None  # level of guessing, in the column's unit
    protocols: tuple[str, ...] = ()
    notes: tuple[int, ...] = ()  # footnotes, counted from 1
    same_as: str | None = None  # metric whose measurement this one repeats; the column is then not printed

    @property
    def paper_title(self) -> str:
        return ", ".join(part for part in (self.title, self.paper_data, "paper") if part)

    @property
    def measured_title(self) -> str:
        return ", ".join(part for part in (self.title, self.data, "measured") if part)


@dataclass(frozen=True)
class Cell:
    """One row's value of one metric: the paper's number and ours over seeds."""

    paper: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)  # seed -> value
    missing: Mapping[int, str] = field(default_factory=dict)  # seed -> why there is none
    best: bool = False
    uids: Mapping[int, str] = field(default_factory=dict)  # seed -> stage that measured, or will measure, the value

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return summarise(self.ordered).mean

    @property
    def std(self) -> float | None:
        return summarise(self.ordered).std

    @property
    def half(self) -> float | None:
        """Half width of the 95 % t interval of the mean."""
        return summarise(self.ordered).half

    @property
    def ordered(self) -> list[float]:
        return [self.values[seed] for seed in sorted(self.values)]

    def on(self, seeds: Collection[int]) -> Cell:
        """Of these seeds alone."""
        return replace(self, values={seed: value for seed, value in self.values.items() if seed in seeds})


@dataclass(frozen=True)
class Row:
    """One row of the study."""

    label: str
    cells: Mapping[str, Cell]  # metric -> cell, every column present
    default: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the study sets in this row
    pretrain: Mapping[int, str] = field(default_factory=dict)  # seed -> uid of the pre-training; empty: there is none


@dataclass(frozen=True)
class Scaled:
    """A number that the paper states absolutely and that this profile reduces."""

    name: str
    paper: Any
    used: Any
    rule: str = ""  # the factor, such as "1/4"


@dataclass(frozen=True)
class Table:
    """One study, measured."""

    study: str
    title: str
    paper: str  # "Table 3d of Zhu et al., ACM MM 2023"
    profile: str
    profile_title: str
    reduced: bool  # the profile is below the paper's scale
    scale: str  # of the profile: what is reduced, one line
    command: str
    seeds: tuple[int, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    data: Mapping[str, str] = field(default_factory=dict)  # role -> title
    notes: tuple[str, ...] = ()
    scaled: tuple[Scaled, ...] = ()
    departures: Mapping[str, Any] = field(default_factory=dict)  # settings of every row that are not the paper's
    departures_of_some: Mapping[str, Any] = field(default_factory=dict)  # of the rows in which they act
    references: tuple[Row, ...] = ()  # that the numbers are held against: not in the paper, never "best"
    comparisons: tuple[Comparison, ...] = ()  # every row but the default against the default, by column
    agreements: tuple[Agreement, ...] = ()  # of the measured order of rows with the paper's, by column
    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[str, ...] = ()  # one line per failed stage
    omitted: tuple[str, ...] = ()  # metrics of the study that this plan does not measure
    environments: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[str, ...] = ()  # what departs from the profile: settings of the command, videos that are not there
    level: float = LEVEL
    literature: Literature | None = None  # printed lines, most of which are only cited

    @property
    def departs(self) -> bool:
        """Whether this is something else than what the paper did."""
        return self.reduced or bool(self.changes)

    @property
    def visible(self) -> tuple[Column, ...]:
        """The columns to print: those that repeat another one's measurement are left to CSV and JSON."""
        return tuple(column for column in self.columns if column.same_as is None)

    def held_against(self, columns: Sequence[Column] | None = None) -> tuple[Row, ...]:
        """The references that have a number in one of these columns; default: those that are printed."""
        names = [column.metric for column in (self.visible if columns is None else columns)]
        return tuple(row for row in self.references if any(row.cells.get(name, Cell()).n for name in names))

    def refers(self, note: int) -> bool:
        """Whether a printed column bears this note's number, counted from 1."""
        return any(note in column.notes for column in self.visible)

    @property
    def measured(self) -> bool:
        """Whether anything was measured at all."""
        return any(cell.n for row in self.rows for cell in row.cells.values())

    @property
    def mostly_measured(self) -> bool:
        """Whether more than half of the rows have a result: those that other studies share alone are no table."""
        return 2 * sum(any(cell.n for cell in row.cells.values()) for row in self.rows) > len(self.rows)

    @property
    def warning(self) -> str:
        """What every file carries at reduced scale, or where the command or the videos depart from the recipe."""
        return REDUCED if self.reduced else CHANGED if self.changes else ""

    @property
    def scale_line(self) -> str:
        """The warning and what is reduced; empty at full scale with nothing to say."""
        said = self.scale.removeprefix("reduced: ") if self.reduced else self.scale
        if self.changes and said:
            said = f"otherwise {said}"
        return "; ".join(part for part in (self.warning, *self.changes, said) if part)

    def has_paper(self, column: Column) -> bool:
        return any(row.cells[column.metric].paper is not None for row in self.rows)


def shared_seeds(rows: Sequence[Row], metric: str) -> frozenset[int]:
    """Seeds that every row has which has any."""
    held = [frozenset(cell.values) for row in rows if (cell := row.cells[metric]).n]
    return frozenset.intersection(*held) if held else frozenset()


def mark_best(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Mark the best measured mean of each column over the seeds that its rows share: no row is ahead by its seeds.

    All that print alike tie. Where all are alike, or no seed is shared, none is best.
    """
    marked = [dict(row.cells) for row in rows]
    for column in columns:
        seeds = shared_seeds(rows, column.metric)
        if column.better is None or not seeds:
            continue
        means = {}
        for i, row in enumerate(rows):
            mean = row.cells[column.metric].on(seeds).mean
            if mean is not None:
                means[i] = round(mean, column.decimals)
        if len(set(means.values())) < 2:
            continue
        best = max(means.values()) if column.better == "higher" else min(means.values())
        for i, mean in means.items():
            if mean == best:
                marked[i][column.metric] = replace(marked[i][column.metric], best=True)
    return tuple(replace(row, cells=cells) for row, cells in zip(rows, marked, strict=True))


def missing_note(columns: Sequence[Column], rows: Sequence[Row], seeds: Sequence[int]) -> str | None:
    """ "– or a smaller n: 3 of 12 results are missing: 1 failed, 2 not run", or None when all are there."""
    own = [column for column in columns if column.same_as is None and "/relative" not in column.metric]
    own = [column for column in own if column.metric != "parameters/all"]
    reasons: dict[str, int] = {}
    for row in rows:
        for column in own:
            for reason in row.cells[column.metric].missing.values():
                reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        return None
    total, parts = sum(reasons.values()), ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    asked = sum(len(row.cells[c.metric].missing) + row.cells[c.metric].n for row in rows for c in own)
    return f"“–” or a smaller n: {total} of {asked} results (row × metric × seed) are missing: {parts}."
