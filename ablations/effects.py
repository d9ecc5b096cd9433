"""Two more pictures of a table: each row's effect against the default row, and a metric against the swept value."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations import plots
from ablations.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
VIDEOS = "#7FB8DA"  # the interval over seeds and videos
LOGARITHMIC = 8  # ratio of the largest to the least value from which an axis is logarithmic


def compose_effect(table: Table) -> Figure | None:
    """Row minus default row, a panel per accuracy: t interval, bootstrap interval, every seed, the paper's difference.

    None where no row can be compared: there is no default row, or nothing measured on both sides.
    """
    columns = [
        column
        for column in table.visible
        if any(c.metric == column.metric and c.gap is not None for c in table.comparisons)
    ]
    usual = next((row for row in table.rows if row.default), None)
    if not columns or usual is None:
        return None
    labels = [
        textwrap.fill(row.label, plots.LABEL_WIDTH) + ("\n(default)" if row.default else "") for row in table.rows
    ]
    figure, panels = plots.panelled(table, len(columns), labels)
    handles: dict[str, Any] = {}
    for i, (panel, column) in enumerate(zip(panels, columns, strict=False)):
        handles |= _effects(panel, table, column, usual)
        panel.set_yticks(range(len(labels)), labels if i % plots.across(len(columns)) == 0 else [""] * len(labels))
    plots.finish(figure, handles)
    return figure


def _effects(panel: Axes, table: Table, column: Column, usual: Row) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    base = usual.cells[column.metric]
    known = {comparison.label: comparison for comparison in table.comparisons if comparison.metric == column.metric}
    panel.axvline(0, color=plots.CHANCE, lw=1, zorder=1)
    for y, row in enumerate(table.rows):
        if row.default:
            panel.axhspan(y - 0.46, y + 0.46, color=plots.DEFAULT, lw=0, zorder=0)
            continue
        cell = row.cells[column.metric]
        if cell.paper is not None and base.paper is not None:
            panel.plot(
                [cell.paper - base.paper], [y + 0.3], "D", color=plots.PAPER, mfc="none", mew=1.4, ms=6, zorder=3
            )
            handles["the paper"] = Line2D([], [], color=plots.PAPER, marker="D", mfc="none", mew=1.4, ms=6, lw=0)
        found = known.get(row.label)
        if found is None or found.gap is None:
            panel.annotate(
                "not measured", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=plots.OURS, fontsize=8
            )
            continue
        if found.boot_low is not None and found.boot_high is not None:
            panel.plot([found.boot_low, found.boot_high], [y + 0.08] * 2, color=VIDEOS, lw=3, solid_capstyle="butt")
            handles["95 % over seeds and videos (bootstrap)"] = Line2D([], [], color=VIDEOS, lw=3)
        name = "measured: one seed, no interval"
        if found.low is not None and found.high is not None:
            panel.plot([found.low, found.high], [y - 0.13] * 2, color=plots.OURS, lw=1.6, marker="|", ms=6, zorder=2)
            seeds = [cell.values[seed] - base.values[seed] for seed in found.seeds]
            panel.plot(seeds, [y - 0.3] * len(seeds), ".", color=plots.OURS, ms=4, alpha=0.7, zorder=3)
            name = "measured: mean and 95 % over seeds (paired t), each seed"
        panel.plot([found.gap], [y - 0.13], "o", color=plots.OURS, ms=6, zorder=4)
        handles[name] = Line2D([], [], color=plots.OURS, marker="o", ms=6, lw=0 if found.low is None else 1.6)
    panel.set_title(plots.wrapped(column.title), fontsize=9)
    panel.set_xlabel(plots.wrapped(f"points against “{usual.label}”, {column.data}"), fontsize=8)
    panel.set_ylim(len(table.rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="x", color="#DDDDDD", lw=0.6, zorder=0)
    panel.set_axisbelow(True)
    panel.margins(x=plots.MARGIN)
    plots.ticks(panel.xaxis, column)
    panel.spines["top"].set_visible(False)
    return handles


@dataclass(frozen=True)
class Sweep:
    """Rows that differ in a number: x of each row, and the rows of each line."""

    name: str  # the swept setting
    lines: Mapping[str, tuple[tuple[float, Row], ...]]  # what else differs -> (x, row), x rising


def sweep(table: Table) -> Sweep | None:
    """The numeric setting with most values among the rows, if there are three, or two on each of several lines.

    A row that leaves it at the default counts if its label is that number.
    """
    names = dict.fromkeys(name for row in table.rows for name in row.settings)
    best: Sweep | None = None
    for name in names:
        placed = [(x, row) for row in table.rows if (x := _place(row, name)) is not None]
        if len(placed) < len(table.rows):
            continue
        lines: dict[str, list[tuple[float, Row]]] = {}
        for x, row in placed:
            other = ", ".join(f"{key.rpartition('.')[2]} {_text(v)}" for key, v in row.settings.items() if key != name)
            lines.setdefault(other, []).append((x, row))
        least = min(len({x for x, _ in line}) for line in lines.values())
        if least < (3 if len(lines) == 1 else 2):
            continue
        found = Sweep(name, {key: tuple(sorted(line, key=lambda p: p[0])) for key, line in lines.items()})
        if best is None or _values(found) > _values(best):
            best = found
    return best


def _values(found: Sweep) -> int:
    return len({x for line in found.lines.values() for x, _ in line})


def _place(row: Row, name: str) -> float | None:
    value = row.settings.get(name)
    if value is None and name not in row.settings and re.fullmatch(r"[0-9.]+", row.label):
        value = float(row.label)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    return " + ".join(str(part).upper() for part in value) if isinstance(value, list | tuple) else str(value)


def compose_curve(table: Table) -> Figure | None:
    """Accuracy against the swept value, a panel per metric, the paper's curve on an axis of its own beside.

    None where the rows are no sweep, or nothing is measured.
    """
    found = sweep(table)
    columns = [
        column
        for column in table.visible
        if column.unit == "%" and any(row.cells[column.metric].n for row in table.rows)
    ]
    if found is None or not columns:
        return None
    figure, panels = plots.panelled(table, len(columns), [""] * 6)
    handles: dict[str, Any] = {}
    for panel, column in zip(panels, columns, strict=False):
        handles |= _curve(panel, table, column, found)
    plots.finish(figure, handles)
    return figure


def _curve(panel: Axes, table: Table, column: Column, found: Sweep) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    xs = sorted({x for line in found.lines.values() for x, _ in line})
    if xs[0] > 0 and xs[-1] / xs[0] > LOGARITHMIC:
        panel.set_xscale("log")
    ours: list[float] = []
    theirs: list[tuple[str, list[tuple[float, float]]]] = []
    for i, (label, line) in enumerate(found.lines.items()):
        colour = SERIES[i % len(SERIES)]
        cells = [(x, row.cells[column.metric]) for x, row in line]
        shown = [(x, cell) for x, cell in cells if cell.mean is not None]
        means = [cell.mean for _, cell in shown if cell.mean is not None]
        panel.plot([x for x, _ in shown], means, "o-", color=colour, ms=5, lw=1.4, zorder=4)
        for x, cell in shown:
            ours += plots.edges(cell)
            if cell.half:
                panel.plot([x, x], _bar(cell), color=colour, lw=1.4, marker="_", ms=6, zorder=3)
                panel.plot([x] * cell.n, cell.ordered, ".", color=colour, ms=3, alpha=0.6, zorder=3)
        handles[label or "measured: mean, 95 % interval, each seed"] = Line2D([], [], color=colour, marker="o", ms=5)
        printed = [(x, cell.paper) for x, cell in cells if cell.paper is not None]
        if printed:
            theirs.append((colour, printed))
    held = [(mean, row.label) for row in table.references if (mean := row.cells[column.metric].mean) is not None]
    for i, (mean, label) in enumerate(sorted(held)):
        panel.axhline(mean, color=plots.CHANCE, lw=1, ls=":", zorder=1)
        place, side = ((0.99, "right"), (0.01, "left"))[i % 2]  # neighbours may be close
        where = (place, mean)
        panel.annotate(
            label, where, xycoords=("axes fraction", "data"), va="bottom", ha=side, color=plots.CHANCE, fontsize=6
        )
        ours.append(mean)
    if theirs:
        target = panel.twinx()
        for colour, printed in theirs:
            one = len(theirs) == 1
            target.plot(
                *zip(*printed, strict=True), "D--", color=plots.PAPER if one else colour, mfc="none", ms=5, lw=1
            )
        values = [y for _, printed in theirs for _, y in printed]
        limits, paper_limits = plots.limits((min(ours), max(ours)), (min(values), max(values)), column)
        panel.set_ylim(*limits)
        target.set_ylim(*paper_limits)
        target.set_ylabel(f"paper: {column.paper_data}", color=plots.PAPER, fontsize=8)
        target.tick_params(axis="y", colors=plots.PAPER, labelsize=8)
        target.spines["right"].set_visible(True)
        target.spines["right"].set_color(plots.PAPER)
        target.spines["top"].set_visible(False)
        handles["the paper, on the axis at the right"] = Line2D(
            [], [], color=plots.PAPER, marker="D", mfc="none", ls="--"
        )
    panel.set_title(plots.wrapped(column.title), fontsize=9)
    panel.set_ylabel(plots.wrapped(column.data), fontsize=8)
    panel.set_xlabel(found.name, fontsize=8)
    panel.set_xticks(xs, [f"{x:g}" for x in xs])
    panel.set_xticks([], minor=True)
    panel.tick_params(labelsize=8)
    panel.grid(axis="y", color="#DDDDDD", lw=0.6, zorder=0)
    panel.set_axisbelow(True)
    panel.spines["top"].set_visible(False)
    panel.margins(x=plots.MARGIN)
    return handles


def _bar(cell: Cell) -> Sequence[float]:
    mean, half = cell.mean, cell.half
    assert mean is not None
    assert half is not None
    return [mean - half, mean + half]
