"""What every format of a table says, in words without markup."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ablations.stats import DRAWS, MOST, SIGNED, Comparison
from ablations.table import Cell, Column, Row, Table
from ablations.verdicts import REPEAT_RULE, Verdict

MISSING = "–"
REFERENCES = "In italics: reference rows, which are not in the paper."
ASTRAY = 0.5  # points by which a difference of printed means may miss the one of shared seeds without a word
LEGEND = (
    "measured: mean ± sample standard deviation (number of seeds); bold: best measured mean "
    "over the seeds that all rows have, ties as printed included, none where all rows tie; "
    "paper: the number printed there"
)


# --- numbers


def number(value: float | None, decimals: int, signed: bool = False) -> str:
    """Fixed decimals with a real minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−")


def interval(low: float | None, high: float | None, decimals: int, signed: bool = True) -> str:
    """ "−3.9 to +8.9", a dash where a side is missing."""
    sides = number(low, decimals, signed), number(high, decimals, signed)
    return MISSING if MISSING in sides else " to ".join(sides)


def probability(p: float | None) -> str:
    """Three decimals, four below 0.1; "< 0.001" below that."""
    if p is None or p >= 0.1:
        return number(p, 3)
    return "< 0.001" if p < 0.001 else number(p, 4)


def measured(cell: Cell, column: Column) -> str:
    """ "61.2 ± 1.3 (5)", "61.2 (1)" for one seed, a dash for none; sizes do not depend on the seed."""
    if cell.mean is None:
        return MISSING
    if column.unit == "M" and not cell.std:
        return number(cell.mean, column.decimals)
    spread = "" if cell.std is None else f" ± {number(cell.std, column.decimals)}"
    return f"{number(cell.mean, column.decimals)}{spread} ({cell.n})"


def paper(cell: Cell, column: Column) -> str:
    """The paper's number, never rounded away."""
    if cell.paper is None:
        return MISSING
    written = f"{cell.paper:g}"
    places = len(written.partition(".")[2]) if "e" not in written else column.decimals
    return number(cell.paper, max(places, column.decimals if column.unit == "×" else 1 if column.decimals else 0))


def value(setting: Any) -> str:
    """A setting as one would write it in YAML on one line."""
    if isinstance(setting, bool):
        return "true" if setting else "false"
    if isinstance(setting, (list, tuple)):
        return "[" + ", ".join(value(part) for part in setting) + "]"
    if setting is None:
        return "none"
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def joined(setting: Any) -> str:
    """As labels of generated rows have it: a list's parts with plus signs."""
    return "+".join(map(str, setting)) if isinstance(setting, list | tuple) else value(setting)


# --- before and after the numbers


def heading(table: Table) -> list[tuple[str, str]]:
    """What a reader must know before the first number: (name, text) pairs, the same in every format."""
    lines = [("study", table.study), ("compared with", table.paper), ("profile", profile(table))]
    if table.scale_line:
        lines.append(("scale", table.scale_line))
    lines += [
        ("data", "; ".join(f"{role}: {title}" for role, title in table.data.items()) or MISSING),
        ("seeds", _seeds(table)),
        ("command", table.command),
    ]
    return lines + ([("results from", _made(table))] if table.environments else [])


def _seeds(table: Table) -> str:
    """The seeds asked for; that some numbers are of fewer is said beside them."""
    counts = {cell_of(row, column).n for row in table.rows for column in table.visible}
    fewer = "; how many a number is of stands behind it" if min(counts, default=0) < len(table.seeds) else ""
    return ", ".join(map(str, table.seeds)) + fewer


def _made(table: Table) -> str:
    """The commits, library and devices of the results themselves, which may be older than the report."""

    def several(name: str, of: Callable[[Mapping[str, Any]], str | None]) -> list[str]:
        found = list(dict.fromkeys(text for environment in table.environments if (text := of(environment))))
        return [f"{name} {' or '.join(found)}"] if found else []

    def commit(environment: Mapping[str, Any]) -> str | None:
        head = environment.get("commit")
        return f"{head}{'+dirty' if environment.get('dirty') else ''}" if head else None

    def device(environment: Mapping[str, Any]) -> str | None:
        kind, _, name = str(environment.get("device", "")).partition(":")
        threads, devices = environment.get("threads"), environment.get("devices", 1)
        on = name.strip() or environment.get("cpu") or kind
        if kind != "cpu" or not threads:
            return f"{devices} x {on}" if on and devices > 1 else on or None
        share = f"{threads} thread{'s' if threads != 1 else ''}"
        return f"{on} ({f'{devices} processes of ' * (devices > 1)}{share})"

    def torch(environment: Mapping[str, Any]) -> str | None:
        return str(environment["torch"]) if "torch" in environment else None

    return ", ".join([*several("commit", commit), *several("PyTorch", torch), *several("on", device)])


def profile(table: Table) -> str:
    return f"{table.profile} ({table.profile_title})" if table.profile_title else table.profile


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def remarks(table: Table) -> list[str]:
    """Everything that follows the table except the numbered notes, the comparisons and the claims; the legend first."""
    lines = [sentence(LEGEND)]
    if table.scaled:
        lines.append(
            "Settings that the paper states in absolute numbers and this profile scales: " + _scaled(table) + "."
        )
    if table.departures:
        lines.append(
            f"Settings of every row that differ from the paper's recipe for I3D on UCF101: {_pairs(table.departures)}."
        )
    if table.departures_of_some:
        lines.append(f"And of the rows in which they act: {_pairs(table.departures_of_some)}.")
    return lines


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value(setting)}" for name, setting in settings.items())


def _scaled(table: Table) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for change in table.scaled:
        pair = f"{value(change.paper)} → {value(change.used)}"
        pairs = groups.setdefault((change.name, change.rule), [])
        if pair not in pairs:
            pairs.append(pair)
    return "; ".join(
        f"{name}{f' × {rule}' if rule else ''}: {', '.join(pairs)}" for (name, rule), pairs in groups.items()
    )


# --- the literature

CITED = "Cited, not run: what the paper prints"


def cited(table: Table, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the printed lines; two empty lists where there are none. Brief: short names of metrics."""
    found = table.literature
    if found is None:
        return [], []
    head = [
        "method",
        "backbone",
        "frames",
        "resolution",
        "pre-trained on",
        *(column[not brief] for column in found.columns),
        "here",
    ]
    return head, [
        [
            line.label,
            line.backbone,
            *(MISSING if size is None else str(size) for size in (line.frames, line.resolution)),
            line.pretrain,
            *(MISSING if metric not in line.paper else _printed(line.paper[metric]) for metric, _ in found.columns),
            (f"row “{line.row}” above" if line.row else "cited") + (f"; {line.note}" if line.note else ""),
        ]
        for line in found.lines
    ]


def _printed(value: float) -> str:
    """With one decimal or more: a printed number is never rounded away."""
    return number(value, max(1, len(f"{value:g}".partition(".")[2])))


# --- comparisons


def subject(table: Table, metric: str) -> str:
    """A metric in words, with the data it is measured on."""
    titles = {column.metric: column.measured_title.removesuffix(", measured") for column in table.columns}
    return titles.get(metric, metric)


def digits(table: Table, metric: str) -> int:
    """Decimals of a difference."""
    return next((max(column.decimals, 1) for column in table.columns if column.metric == metric), 1)


def compared(table: Table) -> list[tuple[Column, list[Comparison]]]:
    """Rows against the default row, for each accuracy that is printed and has a seed on both sides."""
    pairs = [
        (column, [found for found in table.comparisons if found.metric == column.metric])
        for column in table.visible
        if column.unit == "%"
    ]
    return [(column, found) for column, found in pairs if any(one.n for one in found)]


def comparison(found: Comparison, places: int) -> list[str]:
    """Row, n, gap, interval, p, p after Holm, sign-flip p, bootstrap interval, smallest effect to be seen."""
    return [
        found.label,
        str(found.n),
        number(found.gap, places, True),
        interval(found.low, found.high, places),
        probability(found.p),
        probability(found.p_holm),
        probability(found.sign_flip),
        interval(found.boot_low, found.boot_high, places),
        number(found.detectable, places),
    ]


def methods(table: Table) -> list[str]:
    """How the comparisons with the default row are to be read; empty where there are none."""
    said = []
    comparisons = [found for _, some in compared(table) for found in some]
    if counts := sorted({found.n for found in comparisons if 2 <= found.n <= SIGNED}):
        floors = " or ".join(f"{Decimal(f'{2 / 2**n:.2g}'):f} (n = {n})" for n in counts)
        said.append(f"The sign-flip test is exact: with n seeds its p cannot go below 2/2ⁿ, here {floors}.")
    if any(found.boot_low is not None for found in comparisons):
        said.append(
            f"The bootstrap draws seeds and test videos with replacement, {DRAWS:,} times, the same videos for both "
            "rows and for all seeds of a draw; its interval is that of the percentiles."
        )
    return said + _other_seeds(table)


def _other_seeds(table: Table) -> list[str]:
    """Where means of the rows' own seeds suggest another difference than the seeds that they share."""
    far: list[tuple[float, str]] = []
    for column, some in compared(table):
        means = {row.label: row.cells[column.metric].mean for row in table.rows}
        for found in some:
            one, other = means.get(found.label), means.get(found.against)
            if one is None or other is None or found.gap is None:
                continue
            apart, places = one - other, digits(table, column.metric)
            if abs(apart - found.gap) >= ASTRAY:
                shown = f"{number(apart, places, True)} there, {number(found.gap, places, True)} here"
                far.append((abs(apart - found.gap), f"“{found.label}”, {subject(table, column.metric)}: {shown}"))
    if not far:
        return []
    return [
        "Rows have different seeds: differences are to be read here, where they are of shared ones, not from the means "
        f"above ({max(far)[1]})."
    ]


def differs(table: Table, label: str, metric: str) -> bool:
    """Whether a row is told apart from the default row, after Holm's correction."""
    return any(
        found.label == label and found.metric == metric and found.p_holm is not None and found.p_holm < 1 - table.level
        for found in table.comparisons
    )


def agreements(table: Table) -> list[str]:
    """One line per metric: how far the measured order of rows is the paper's."""
    visible = {column.metric for column in table.visible}
    lines = []
    for found in table.agreements:
        if found.metric not in visible or found.tau is None or found.rows == 2:  # of two rows it is only 1 or −1
            continue
        spread = interval(found.low, found.high, 2, signed=False)
        between = f"{100 * table.level:g} % {spread} over seeds; "
        if spread == MISSING:
            between = "every draw of these seeds gives the same: no interval; " if found.n > 1 else ""
        lines.append(
            f"{subject(table, found.metric)}: order of rows against the paper's: Kendall tau {number(found.tau, 2)} "
            f"({between}{found.rows} rows, n = {found.n})"
        )
    return lines


# --- claims


@dataclass(frozen=True)
class Claimed:
    """One claim as every format shows it."""

    says: str
    on: str
    state: str
    evidence: str
    sign_flip: str
    bootstrap: str
    needed: str

    @property
    def more(self) -> str:
        """ "; sign-flip p 0.250; bootstrap −1.0 to +3.0", as far as there is any; the seeds needed are in the words."""
        parts = [
            f"sign-flip p {self.sign_flip}" if self.sign_flip != MISSING else "",
            f"bootstrap {self.bootstrap}" if self.bootstrap != MISSING else "",
        ]
        return "".join(f"; {part}" for part in parts if part)


def claimed(table: Table) -> list[Claimed]:
    return [claim(table, verdict) for verdict in table.verdicts]


def claim(table: Table, verdict: Verdict) -> Claimed:
    places, signed = (3, False) if verdict.kind == "ratio" else (digits(table, verdict.metric), True)
    return Claimed(
        verdict.says,
        subject(table, verdict.metric),
        verdict.state,
        verdict.words.removeprefix(f"{verdict.state}: "),
        probability(verdict.sign_flip),
        interval(verdict.boot_low, verdict.boot_high, places, signed),
        seeds_needed(verdict),
    )


def seeds_needed(verdict: Verdict) -> str:
    """ "11", "> 1000"; "not known" or "at least 11" where the bootstrap withholds what seeds find; else a dash."""
    told = {"beyond": f"> {MOST}", "bootstrap": "not known", None: MISSING}
    if verdict.needed is None:
        return told[verdict.untold]
    return f"at least {verdict.needed}" if verdict.untold == "bootstrap" else str(verdict.needed)


def rules(*tables: Table) -> list[str]:
    """How each kind of claim is judged, once per rule."""
    kinds: dict[str, list[str]] = {}
    verdicts = [verdict for table in tables for verdict in table.verdicts]
    for verdict in verdicts:
        if verdict.rule and verdict.kind not in kinds.setdefault(verdict.rule, []):
            kinds[verdict.rule].append(verdict.kind)
    what = "this reduced scale" if any(table.reduced for table in tables) else "these settings and videos"
    limit = [f"A verdict speaks of {what} only."] if verdicts and any(table.departs for table in tables) else []
    narrow = [f"{REPEAT_RULE}."] if kinds else []
    return limit + [f"Rule for {', '.join(names)}: {rule}." for rule, names in kinds.items()] + narrow


# --- where a number comes from


@dataclass(frozen=True)
class Origin:
    """The stages behind one row's numbers of one seed."""

    label: str
    seed: int
    pretrain: str  # "" where nothing is pre-trained
    stages: tuple[str, ...]  # by visible column, "" where there is none


def origins(table: Table) -> list[Origin]:
    """Row by row, seed by seed, as far as measured; empty where no uid is known."""
    found = []
    for row in (*table.rows, *table.references):
        cells = [cell_of(row, column) for column in table.visible]
        for seed in sorted(set().union(*(cell.values for cell in cells))):
            stages = tuple(cell.uids.get(seed, "") if seed in cell.values else "" for cell in cells)
            pretrain = row.pretrain.get(seed, "")
            if pretrain or any(stages):
                found.append(Origin(row.label, seed, pretrain, stages))
    return found


def cell_of(row: Row, column: Column) -> Cell:
    """A reference need not have every column."""
    return row.cells.get(column.metric, Cell())


def again(table: Table) -> str:
    """The command that redoes one seed of a table, beside what is there."""
    words, seed = shlex.split(table.command), next(iter(table.seeds), 0)
    if "--seeds" in words:
        i = words.index("--seeds")
        del words[i : i + 2]
    return shlex.join([*words, "--seeds", str(seed), "--store", "again/runs", "--reports", "again/reports"])


def number_in_paper(table: Table) -> str:
    """ "3d" of "Table 3d of ...", "" where the paper has no such table."""
    found = re.match(r"Table (\d+[a-z]?)\b", table.paper)
    return found[1] if found else ""
