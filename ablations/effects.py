"""Two more pictures of a table: each row's effect against the default row, and a metric against the swept value."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations import phrases, plots
from ablations.render import number
from ablations.table import Column, Row, Table, shared_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = "os^vPX"
VIDEOS = "#7FB8DA"  # the interval over seeds and videos
LOGARITHMIC = 8  # ratio of the largest to the least value beyond which an axis is logarithmic
STRIP = 0.28  # of a panel's width, at the right, for the names of references
LINE = 0.034  # of a panel's height, for a line of such a name
TICK, SIDES = 0.075, 1.3  # inches of a character of a tick's number, and beside a panel for its axes
ROOM = ["x" * 10] * 6  # what a curve needs besides its panel, as labels of rows


def effect_columns(table: Table) -> list[Column]:
    """Accuracies in which a row can be compared with the default row."""
    compared = {comparison.metric for comparison in table.comparisons if comparison.gap is not None}
    return [column for column in table.visible if column.unit == "%" and column.metric in compared]


def compose_effect(table: Table) -> Figure | None:
    """Row minus default row, a panel per accuracy: t interval, bootstrap interval, every seed, the paper's difference.

    None where no row can be compared: there is no default row, or nothing measured on both sides.
    """
    columns = effect_columns(table)
    usual = next((row for row in table.rows if row.default), None)
    if not columns or usual is None:
        return None
    labels = [
        textwrap.fill(row.label, plots.LABEL_WIDTH) + ("\n(default)" if row.default else "") for row in table.rows
    ]
    shown = {column.metric for column in columns}
    counts = {found.n for found in table.comparisons if found.metric in shown and found.n}
    figure, panels = plots.panelled(table, len(columns), [labels] * plots.down(len(columns)), counts)
    handles: dict[str, Any] = {}
    for i, (panel, column) in enumerate(zip(panels, columns, strict=False)):
        handles |= _effects(panel, table, column, usual)
        panel.set_yticks(range(len(labels)), labels if i % plots.across(len(columns)) == 0 else [""] * len(labels))
    # the paper's last, whichever row came first
    plots.finish(figure, dict(sorted(handles.items(), key=lambda item: item[0].startswith("the paper"))))
    return figure


def _effects(panel: Axes, table: Table, column: Column, usual: Row) -> dict[str, Any]:
    """One metric, rows from top to bottom. Returns the legend's entries."""
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    base = usual.cells[column.metric]
    known = {comparison.label: comparison for comparison in table.comparisons if comparison.metric == column.metric}
    printed = False
    panel.axvline(0, color=plots.CHANCE, lw=1, zorder=1)
    for y, row in enumerate(table.rows):
        if row.default:
            panel.axhspan(y - 0.46, y + 0.46, color=plots.DEFAULT, lw=0, zorder=0)
            continue
        cell = row.cells[column.metric]
        if cell.paper is not None and base.paper is not None:
            style: Any = {"color": plots.PAPER, "marker": "D", "mfc": "none", "mew": 1.4, "ms": 6, "lw": 0}
            panel.plot([cell.paper - base.paper], [y + 0.27], zorder=3, **style)
            handles["the paper's difference, on the same axis"] = Line2D([], [], **style)
            printed = True
        found = known.get(row.label)
        if found is None or found.gap is None:
            where = (0.02, y - 0.12)
            panel.annotate(
                "not measured", where, xycoords=("axes fraction", "data"), va="center", color=plots.OURS, fontsize=8
            )
            continue
        name, several = "measured: one seed, no interval", found.n >= plots.INTERVAL_FROM
        if several and found.low is not None and found.high is not None:
            name = "measured: mean difference, 95 % interval over seeds (paired t), each seed"
            panel.plot([found.low, found.high], [y - 0.12] * 2, color=plots.OURS, lw=1.6, marker="|", ms=7, zorder=2)
        elif found.n > 1:
            name = "measured: mean difference, each seed"
        if found.n > 1:
            seeds = [cell.values[seed] - base.values[seed] for seed in found.seeds]
            panel.plot(seeds, [y - 0.3] * len(seeds), ".", color=plots.OURS, ms=4, alpha=0.7, zorder=3)
        panel.plot([found.gap], [y - 0.12], "o", color=plots.OURS, ms=6, zorder=4)
        handles[name] = Line2D([], [], color=plots.OURS, marker="o", ms=6, lw=1.6 if several else 0)
        if several and found.boot_low is not None and found.boot_high is not None:
            panel.plot([found.boot_low, found.boot_high], [y + 0.04] * 2, color=VIDEOS, lw=1.1, marker="|", ms=4)
            handles["95 % interval over seeds and test videos (bootstrap)"] = Line2D([], [], color=VIDEOS, lw=1.1)
    said = [f"points against “{usual.label}”", f"measured: {column.data}" if column.data else ""]
    said.append(f"paper: {column.paper_data}" if printed and column.paper_data else "")
    panel.set_title(plots.wrapped(column.title), fontsize=9)
    panel.set_xlabel("\n".join(plots.wrapped(part) for part in said if part), fontsize=8)
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

    name: str  # of what is swept, for the axis
    lines: Mapping[str, tuple[tuple[float, Row], ...]]  # what else differs -> (x, row), x rising
    others: tuple[Row, ...] = ()  # rows without such a number

    @property
    def rows(self) -> list[Row]:
        """Those on a line."""
        return [row for line in self.lines.values() for _, row in line]

    @property
    def values(self) -> list[float]:
        """Every x, rising."""
        return sorted({x for line in self.lines.values() for x, _ in line})


def sweep(table: Table) -> Sweep | None:
    """The numeric setting with most values among the rows, if there are three, or two on each of several lines.

    The default row may leave it unset if its label is that number. Else three rows or more whose labels are numbers
    and which all set the same (Table 10: where negatives come from), with the other rows beside them.
    """
    names = dict.fromkeys(name for row in table.rows for name in row.settings)
    varied = [name for name in names if len({str(row.settings.get(name)) for row in table.rows}) > 1]
    short = [name.rpartition(".")[2] for name in varied]
    called = {name: name if short.count(last) > 1 else last for name, last in zip(varied, short, strict=True)}
    best: Sweep | None = None
    for name in names:
        lines: dict[str, list[tuple[float, Row]]] = {}
        for row in table.rows:
            x = _place(row, name)
            if x is None:
                break
            others = [key for key in varied if key != name and key in row.settings]
            line = ", ".join(f"{called[key]} {phrases.joined(row.settings[key])}" for key in others)
            lines.setdefault(line, []).append((x, row))
        else:
            if any(len({x for x, _ in line}) < (3 if len(lines) == 1 else 2) for line in lines.values()):
                continue
            says = f"{table.title} ({name})" if len(lines) == 1 else name
            found = Sweep(says, {key: tuple(sorted(line, key=lambda p: p[0])) for key, line in lines.items()})
            if best is None or len(found.values) > len(best.values):
                best = found
    return best or _labelled(table)


def _labelled(table: Table) -> Sweep | None:
    numbers = [(x, row) for row in table.rows if (x := _number(row.label)) is not None]
    set_by_all = set.intersection(*(set(row.settings) for _, row in numbers)) if numbers else set()
    if len({x for x, _ in numbers}) < 3 or not set_by_all:
        return None
    others = tuple(row for row in table.rows if _number(row.label) is None)
    line = tuple(sorted(numbers, key=lambda p: p[0]))
    return Sweep(f"{table.title}, as rows are named", {"": line}, others)


def _number(label: str) -> float | None:
    try:
        return x if math.isfinite(x := float(label)) else None
    except ValueError:
        return None


def _place(row: Row, name: str) -> float | None:
    value = row.settings.get(name)
    if row.default and name not in row.settings:
        value = _number(row.label)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def curve_columns(table: Table) -> list[Column]:
    """What a curve is drawn of: accuracies that a row on a line has; none where rows are no sweep."""
    found = sweep(table)
    rows = found.rows if found else []
    return [
        column for column in table.visible if column.unit == "%" and any(row.cells[column.metric].n for row in rows)
    ]


def compose_curve(table: Table) -> Figure | None:
    """Accuracy against the swept value, a panel per metric, the paper's curve on an axis of its own beside.

    Means are of the seeds that all rows have, so that the curve's shape is the settings' alone. Lengths in points are
    the same on both axes. A reference that would leave the curve less than a third of the height is named at the edge.
    None where the rows are no sweep, or nothing is measured.
    """
    found, columns = sweep(table), curve_columns(table)
    if found is None or not columns:
        return None
    lines, inches = [ROOM] * plots.down(len(columns)), 4.3 if table.references or found.others else 3.7
    counts = {len(seeds) for column in columns if (seeds := shared_seeds(table.rows, column.metric))}
    figure, panels = plots.panelled(table, len(columns), lines, counts, inches)
    handles: dict[str, Any] = {}
    for panel, column in zip(panels, columns, strict=False):
        handles |= _curve(panel, table, column, found)
    plots.finish(figure, handles)
    return figure


def _curve(panel: Axes, table: Table, column: Column, found: Sweep) -> dict[str, Any]:
    """One metric. Returns the legend's entries."""
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    count = len(found.lines)
    seeds = shared_seeds(table.rows, column.metric)
    lines = [
        [(x, cell.on(seeds) if seeds else cell) for x, row in line for cell in [row.cells[column.metric]]]
        for line in found.lines.values()
    ]
    edges = [edge for line in lines for _, cell in line if cell.mean is not None for edge in plots.edges(cell)]
    papers = [cell.paper for line in lines for _, cell in line if cell.paper is not None]
    beside = panel.twinx() if papers else None
    several = any(cell.n > 1 for line in lines for _, cell in line)
    says = plots.said([cell for line in lines for _, cell in line])
    if any(set(row.cells[column.metric].values) - seeds for row in table.rows) and seeds:
        says += " that all rows have"  # how many is in the head: one entry for all panels
    diamonds: Any = {"marker": "D", "mfc": "none", "ms": 5, "lw": 1, "ls": "--"}
    for i, (label, line) in enumerate(zip(found.lines, lines, strict=True)):
        colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
        aside = (i - (count - 1) / 2) * min(6, 24 / count)  # lines side by side: neither hides the other's intervals
        near = _moved(panel, aside)
        shown = [(x, cell) for x, cell in line if cell.mean is not None]
        means: list[Any] = [cell.mean for _, cell in shown]
        panel.plot([x for x, _ in shown], means, "-", color=colour, marker=marker, ms=5, lw=1.4, transform=near)
        for x, cell in shown:
            if cell.mean is not None and (half := plots.bar(cell)):
                ends = [cell.mean - half, cell.mean + half]
                panel.plot([x, x], ends, color=colour, lw=1.4, marker="_", ms=5, transform=near)
            if cell.n > 1:
                dots: Any = {"ms": 4, "mew": 0, "alpha": 0.6, "transform": _moved(panel, aside + 4)}
                panel.plot([x] * cell.n, cell.ordered, ".", color=colour, **dots)
        handles[label or f"measured: {says}"] = Line2D([], [], color=colour, marker=marker, ms=5, lw=1.4)
        printed: list[Any] = [(x, cell.paper) for x, cell in line if cell.paper is not None]
        if printed and beside is not None:
            diamonds["color"] = plots.PAPER if count == 1 else colour
            beside.plot(*zip(*printed, strict=True), transform=_moved(beside, aside), **diamonds)
    if count > 1:
        handles[f"measured: {says}"] = Line2D([], [], color=plots.CHANCE, marker="." if several else "o", lw=1.4)
    if papers:
        diamonds["color"] = plots.PAPER if count == 1 else plots.CHANCE
        handles["the paper, on the axis at the right"] = Line2D([], [], **diamonds)
    measured = [(row.cells[column.metric].on(seeds or row.cells[column.metric].values), f"row “{row.label}”")
                for row in found.others]  # fmt: skip
    measured += [(row.cells[column.metric], row.label) for row in table.references]
    held = [(cell.mean, label) for cell, label in measured if cell.mean is not None]
    _limit(panel, beside, held, column, (edges, papers), found.values)
    if beside is not None:
        plots.ticks(beside.yaxis, column, 6)
        said = "paper" + (f": {column.paper_data}" if column.paper_data else "")
        beside.set_ylabel(plots.wrapped(said), color=plots.PAPER, fontsize=8)
        beside.tick_params(axis="y", colors=plots.PAPER, labelsize=8)
        beside.spines["right"].set_visible(True)
        beside.spines["right"].set_color(plots.PAPER)
        beside.spines["top"].set_visible(False)
    plots.ticks(panel.yaxis, column, 6)
    panel.set_title(plots.wrapped(column.title), fontsize=9)
    panel.set_ylabel(plots.wrapped("measured" + (f": {column.data}" if column.data else "")), fontsize=8)
    panel.set_xlabel(plots.wrapped(found.name), fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(axis="y", color="#DDDDDD", lw=0.6, zorder=0)
    panel.set_axisbelow(True)
    panel.spines["top"].set_visible(False)
    return handles


def _moved(panel: Axes, points: float) -> Any:
    """The panel's coordinates, so many points to the right."""
    from matplotlib.transforms import ScaledTranslation

    figure: Any = panel.figure
    return panel.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _limit(
    panel: Axes,
    beside: Axes | None,
    held: Sequence[tuple[float, str]],
    column: Column,
    values: tuple[Sequence[float], Sequence[float]],
    xs: Sequence[float],
) -> None:
    """Limits of all axes, numbers at the swept values, and what is beside the curve with its names at the right.

    Args:
        held: means and names of references, and of rows that are not on a line.
        values: measured, with the ends of intervals, and the paper's.
    """
    ours, papers = values
    low, high = min(ours), max(ours)
    span = max(high - low, max(papers) - min(papers) if papers else 0, 2.0)
    lines = [mean for mean, _ in held if low - span <= mean <= high + span]
    measured = (min(low, *lines), max(high, *lines)) if lines else (low, high)
    limits, paper_limits = plots.limits(measured, (min(papers), max(papers)) if papers else measured, column)
    panel.set_ylim(*limits)
    if beside is not None:
        beside.set_ylim(*paper_limits)

    logarithmic = xs[0] > 0 and xs[-1] / xs[0] >= LOGARITHMIC
    panel.set_xscale("log" if logarithmic else "linear")
    places = [math.log10(x) if logarithmic else x for x in xs]
    pad = plots.MARGIN * (places[-1] - places[0])
    width = (places[-1] - places[0] + 2 * pad) / (1 - STRIP if held else 1)
    left, right = places[0] - pad, places[0] - pad + width
    panel.set_xlim(*((10**left, 10**right) if logarithmic else (left, right)))
    figure: Any = panel.figure
    spec = panel.get_subplotspec()
    assert spec is not None
    inch = width / (figure.get_figwidth() / spec.get_gridspec().ncols - SIDES)
    numbers, free = [], -math.inf
    for x, place in zip(xs, places, strict=True):
        half = inch * TICK * (len(f"{x:g}") + 1) / 2
        numbers.append(f"{x:g}" if place - half >= free else "")  # a tick without its number, where they would touch
        free = place + half if numbers[-1] else free
    panel.set_xticks(xs, numbers)
    panel.set_xticks([], minor=True)

    names = []
    for mean, label in sorted(held):
        arrow = "" if mean in lines else f"{'↓' if mean < low else '↑'} {number(mean, column.decimals)} "
        names.append((mean, textwrap.fill(arrow + label, 18)))
    line = LINE * (limits[1] - limits[0])
    heights = [line * (name.count("\n") + 1.2) for _, name in names]
    for y, (mean, name) in zip(_spread([mean for mean, _ in names], heights, limits), names, strict=True):
        if mean in lines:
            ends = ([0, 1 - STRIP, 1.03 - STRIP], [mean, mean, y])  # bent towards a name that had to give way
            panel.plot(*ends, color=plots.CHANCE, lw=1, ls=":", zorder=1, transform=panel.get_yaxis_transform())
        panel.annotate(
            name, (1.04 - STRIP, y), xycoords=("axes fraction", "data"), va="center", color=plots.CHANCE, fontsize=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # the grid would strike it through
        )  # fmt: skip


def _spread(wanted: Sequence[float], heights: Sequence[float], limits: tuple[float, float]) -> list[float]:
    """Rising middles near the wanted ones such that neighbours do not touch and all lie within the limits."""
    placed, edge = [], limits[0]
    for middle, height in zip(wanted, heights, strict=True):
        placed.append(max(middle, edge + height / 2))
        edge = placed[-1] + height / 2
    edge = limits[1]
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], edge - heights[i] / 2)
        edge = placed[i] - heights[i] / 2
    return placed
