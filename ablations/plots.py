"""A table as a picture: per metric the measured means, intervals and every seed, the paper's numbers beside them."""

from __future__ import annotations

import hashlib
import io
import json
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ablations import phrases
from ablations.phrases import number
from ablations.table import NO_PAPER, Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours keep apart under every common colour blindness; shapes differ as well
OURS, PAPER, CHANCE, DEFAULT = "#0072B2", "#D55E00", "#777777", "#EFEFEF"
MARGIN = 0.12  # of the data's span, left free at either side
FAR = 0.75  # of the rows' span: farther off, a reference is named at the edge
LABEL_WIDTH, TITLE_WIDTH = 26, 40  # characters before a line breaks
SCALE_WIDTH = 200  # characters of the scale that a picture has room for
# Seeds from which on an interval is drawn: of two it is 12.7 standard errors to either side (t) and squeezes all else.
INTERVAL_FROM = 3
# Columns left out of the picture: another says nearly the same.
LEFT_OUT = ("parameters/all", "gpu_days/flops", "gpu_days/step", "gpu_days/step/relative")
DRAWN = 1  # counts up when the same table is drawn otherwise
# Keys of table.json that no picture shows.
UNSEEN = (
    "format", "legend", "command", "notes", "verdicts", "agreements", "failures", "environments", "literature",
    "departures", "departures_of_some", "scaled", "omitted", "protocols", "uids", "pretrain",
)  # fmt: skip
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "fima-ablate",
    "text.usetex": False,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
}


def draw(table: Table) -> dict[str, bytes]:
    """{"plot.png": ..., "plot.pdf": ...}, and where they say something effect and curve; the same bytes every time.

    Raises:
        ValueError: the table has no column to draw.
    """
    import matplotlib as mpl

    from ablations import effects

    pictures: dict[str, bytes] = {}
    with mpl.rc_context(STYLE):
        figures = {"plot": compose(table), "effect": effects.compose_effect(table)}
        figures["curve"] = effects.compose_curve(table)
        for name, figure in figures.items():
            if figure is not None:
                pictures |= saved(figure, name, mark(table, name))
    return pictures


def mark(table: Table, name: str) -> str:
    """What a picture of a table bears unseen: its name, and a digest of all numbers and words that it may show."""
    from ablations import render

    def seen(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: seen(part) for key, part in data.items() if key not in UNSEEN}
        return [seen(part) for part in data] if isinstance(data, list) else data

    shown = json.dumps([DRAWN, seen(json.loads(render.as_json(table)))], sort_keys=True)
    return f"fima-ablate {name} {hashlib.sha256(shown.encode()).hexdigest()[:16]}"


def saved(figure: Figure, name: str, marked: str | None = None, **options: Any) -> dict[str, bytes]:
    """{"NAME.png": ..., "NAME.pdf": ...}, without a date and the program's version, with an unseen mark."""
    pictures = {}
    kinds = (("png", {"Software": None, "Description": marked}), ("pdf", {"CreationDate": None, "Keywords": marked}))
    for suffix, metadata in kinds:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata, **options)
        pictures[f"{name}.{suffix}"] = buffer.getvalue()
        figure.set_layout_engine(None)  # what is laid out stays so: it takes as long as drawing
    return pictures


def compose(table: Table) -> Figure:
    """A panel per metric that any row has, rows from top to bottom; the head names metrics that none has.

    Measured and paper values share an axis at full scale where that keeps both readable; otherwise the paper's have
    an axis of their own on top, in their colour, with the same length per point (per cent of the mean where units
    differ), so that a difference never looks larger than the other side's.

    Raises:
        ValueError: the table has no column to draw.
    """
    columns = [column for column in table.visible if column.metric not in LEFT_OUT and "/memory" not in column.metric]
    if not columns or not table.rows:
        raise ValueError(f"{table.study}: a plot needs rows and metrics, got {len(table.rows)} and {len(columns)}")
    begun = [column for column in columns if any(row.cells[column.metric].n for row in table.rows)]
    columns = begun or columns  # with no number yet, the picture of the paper's
    shared = _shared(table, columns)
    labels = [textwrap.fill(row.label, LABEL_WIDTH) + ("\n(default)" if row.default else "") for row in table.rows]
    wide = across(len(columns))
    lines = [columns[i : i + wide] for i in range(0, len(columns), wide)]
    # A reference row takes room only in a line of panels where it has a number.
    parts = [replace(table, references=table.held_against(line)) for line in lines]
    named = [[*labels, *(textwrap.fill(row.label, LABEL_WIDTH) for row in part.references)] for part in parts]
    counts = {n for row in table.rows for column in columns if (n := row.cells[column.metric].n)}
    figure, panels = panelled(table, len(columns), named, counts)
    handles: dict[str, Any] = {}
    for i, (panel, column) in enumerate(zip(panels, columns, strict=False)):
        names = named[i // wide]
        handles |= _panel(panel, parts[i // wide], column, names if i % wide == 0 else [""] * len(names), shared[i])
    finish(figure, handles)
    return figure


def across(count: int) -> int:
    """Panels in a line."""
    return count if count <= 3 else 2 if count == 4 else 3


def down(count: int) -> int:
    """Lines of panels."""
    return math.ceil(count / across(count))


def panelled(
    table: Table, count: int, labels: Sequence[Sequence[str]], seeds: Collection[int], inches: float = 3.3
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with what a reader must know at its head, and `count` panels with room for the labels of rows.

    Args:
        labels: of each line of panels, from top to bottom.
        seeds: how many each shown number is of.
        inches: width of a panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = across(count)
    heights = [0.24 * sum(max(label.count("\n") + 1, 2) for label in line) + 1.45 for line in labels]
    margin = 0.075 * max(len(part) for line in labels for label in line for part in label.split("\n"))
    width = max(margin + inches * columns + 0.3, 7.0)
    head = _head(table, seeds, int(width * 13))
    height = sum(heights) + 0.2 * (head.count("\n") + 1) + 0.9
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, hspace=0.05))
    FigureCanvasAgg(figure)
    panels: Sequence[Axes] = list(
        figure.subplots(len(labels), columns, squeeze=False, gridspec_kw={"height_ratios": heights}).flat
    )
    for panel in panels[count:]:
        panel.set_axis_off()
    figure.suptitle(head, x=0.01, ha="left", fontsize=9)
    return figure, panels


def finish(figure: Figure, handles: Mapping[str, Any]) -> None:
    """The legend, in one line where it fits."""
    sizes, room = [len(name) + 10 for name in handles], 12.5 * figure.get_figwidth()
    ncols = len(sizes) if sum(sizes) < room else max(int(room / max(sizes)), 1)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols, frameon=False)


def _head(table: Table, counts: Collection[int], width: int) -> str:
    most = max(counts, default=0) or len(table.seeds)
    seeds = f"{most} seed{'s' if most != 1 else ''}"
    if counts and 0 < min(counts) < most:
        seeds = f"{min(counts)} to {seeds}"
    paper = [table.paper] if table.paper != NO_PAPER else []
    parts = ["  ·  ".join([table.title, *paper]), f"profile {table.profile}, {seeds}"]
    absent = [column for column in table.visible if not any(row.cells[column.metric].n for row in table.rows)]
    if table.measured and absent:
        parts.append("Not measured: " + "; ".join(phrases.subject(table, column.metric) for column in absent))
    if table.scale_line:
        first, *clauses = table.scale_line.split("; ")
        line = first[0].upper() + first[1:]
        while clauses and len(line) + len(clauses[0]) < SCALE_WIDTH:
            line += f"; {clauses.pop(0)}"
        parts.append(line + ("; … (in full in table.md)" if clauses else ""))
    return "\n".join(textwrap.fill(part, width) for part in parts)


def _shared(table: Table, columns: Sequence[Column]) -> list[bool]:
    """Which columns show both sides on one axis: ratios always; accuracies all or none, and none at reduced scale."""
    fits = []
    for column in columns:
        cells = [row.cells[column.metric] for row in table.rows]
        ours = [edge for cell in cells if cell.mean is not None for edge in edges(cell)]
        theirs = [cell.paper for cell in cells if cell.paper is not None]
        fits.append(not ours or not theirs or _fits((min(ours), max(ours)), theirs))
    points = not table.departs and all(fit for fit, column in zip(fits, columns, strict=True) if column.unit == "%")
    return [
        True if column.unit == "×" else points if column.unit == "%" else fit and not table.departs
        for fit, column in zip(fits, columns, strict=True)
    ]


def _panel(panel: Axes, table: Table, column: Column, labels: list[str], shared: bool) -> dict[str, Any]:
    """One metric: rows from top to bottom. Returns the legend's entries."""
    from matplotlib.lines import Line2D

    rows = [*table.rows, *table.references]
    ours = [row.cells[column.metric] for row in rows]
    theirs = [cell.paper for cell in ours]
    apart = any(value is not None for value in theirs)
    panel.margins(x=MARGIN)
    up, down = (0.13, 0.22) if apart else (0.0, 0.0)  # measured above, the paper below the row's middle
    handles: dict[str, Any] = {}
    for y, row in enumerate(table.rows):
        if row.default:
            panel.axhspan(y - 0.46, y + 0.46, color=DEFAULT, lw=0, zorder=0)
    if table.references:
        panel.axhline(len(table.rows) - 0.5, color=CHANCE, lw=0.8, zorder=1)
    low, high = _span([edge for cell in ours[: len(table.rows)] if cell.mean is not None for edge in edges(cell)])
    far = 0.0 if low is None or high is None else FAR * max(high - low, 2.0)
    shown = []  # what the axis must hold
    for y, cell in enumerate(ours):
        reference = y >= len(table.rows)
        colour, middle = (CHANCE, y + 0.0) if reference else (OURS, y - up)
        if cell.mean is None and reference:
            continue  # it has no such number
        if cell.mean is None:
            missing = set(cell.missing.values())
            panel.annotate(
                "not defined" if missing == {"not defined"} else "not measured",
                (0.02, y - up),
                xycoords=("axes fraction", "data"),
                va="center",
                color=OURS,
                fontsize=8,
            )
            continue
        if reference and low is not None and high is not None and not low - far < cell.mean < high + far:
            above = cell.mean > high  # its place would squeeze the rows: it is named at the edge
            text = f"{number(cell.mean, column.decimals)} →" if above else f"← {number(cell.mean, column.decimals)}"
            panel.annotate(
                text, (0.98 if above else 0.02, y), xycoords=("axes fraction", "data"), va="center",
                ha="right" if above else "left", color=CHANCE, fontsize=8,
            )  # fmt: skip
            continue
        shown += edges(cell)
        if half := bar(cell):
            panel.errorbar(cell.mean, middle, xerr=half, color=colour, lw=1.6, capsize=3, zorder=2)
        if cell.n > 1:
            panel.plot(cell.ordered, [middle - 0.18] * cell.n, ".", color=colour, ms=4, mew=0, alpha=0.7, zorder=3)
        panel.plot([cell.mean], [middle], "o", color=colour, ms=6, zorder=4)
    for name, cells, colour in (
        (f"measured: {said(ours[: len(table.rows)])}", ours[: len(table.rows)], OURS),
        ("for reference, measured likewise", ours[len(table.rows) :], CHANCE),
    ):
        if any(cell.n for cell in cells):
            handles[name] = Line2D([], [], color=colour, marker="o", ms=6, lw=1.6 if any(map(bar, cells)) else 0)
    low, high = _span(shown)
    if apart:
        known = [value for value in theirs if value is not None]
        target = panel if shared else panel.twiny()
        target.plot(
            known,
            [y + down for y, value in enumerate(theirs) if value is not None],
            "D",
            color=PAPER,
            mfc="none",
            mew=1.4,
            ms=6,
            zorder=3,
        )
        handles["the paper, on the axis above if there is one"] = Line2D(
            [], [], color=PAPER, marker="D", mfc="none", mew=1.4, ms=6, lw=0
        )
        title = wrapped("paper" + (f": {column.paper_data}" if column.paper_data else ""))
        if shared:
            panel.set_title(wrapped(column.title) + (f"\n{title}" if column.paper_data else ""), fontsize=9)
        else:
            ticks(target.xaxis, column)
            if low is not None and high is not None:
                ours_limits, paper_limits = limits((low, high), (min(known), max(known)), column)
                panel.set_xlim(*ours_limits)
                target.set_xlim(*paper_limits)
            target.tick_params(axis="x", colors=PAPER, labelsize=8)
            target.spines["top"].set_color(PAPER)
            target.set_xlabel(title, color=PAPER, fontsize=8)
            panel.set_title(wrapped(column.title), fontsize=9)
    else:
        panel.set_title(wrapped(column.title), fontsize=9)
    if column.chance is not None:
        left, right = panel.get_xlim()
        if left < column.chance < right:  # a level far outside would squeeze the differences
            panel.axvline(column.chance, color=CHANCE, lw=1, ls=":", zorder=1)
            panel.set_xlim(left, right)
            handles["chance, on the axis below"] = Line2D([], [], color=CHANCE, lw=1, ls=":")
    ticks(panel.xaxis, column)
    panel.spines["top"].set_visible(False)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_yticks(range(len(rows)), labels)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", colors=OURS, labelsize=8)
    panel.grid(axis="x", color="#DDDDDD", lw=0.6, zorder=0)
    panel.set_axisbelow(True)
    if low is None and (not apart or not shared):
        panel.set_xticks([])
    panel.set_xlabel(wrapped("measured" + (f": {column.data}" if column.data else "")), color=OURS, fontsize=8)
    return handles


def bar(cell: Cell) -> float:
    """Half the interval that is drawn; 0 where seeds are too few for one."""
    return cell.half or 0.0 if cell.n >= INTERVAL_FROM else 0.0


def said(cells: Sequence[Cell]) -> str:
    """What the marks of these cells are, for a legend."""
    most = max((cell.n for cell in cells), default=0)
    if most <= 1:
        return "one seed, no interval"
    return "mean, 95 % interval, each seed" if most >= INTERVAL_FROM else "mean, each seed"


def edges(cell: Any) -> list[float]:
    half = bar(cell)
    return [cell.mean - half, cell.mean + half, *cell.ordered]


def _span(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (min(values), max(values)) if values else (None, None)


def _fits(ours: tuple[float, float], paper: Sequence[float]) -> bool:
    """Whether one axis holds both without squeezing either range under a third of it."""
    low, high = min(ours[0], *paper), max(ours[1], *paper)
    if high == low:
        return True
    return min(ours[1] - ours[0], max(paper) - min(paper)) >= (high - low) / 3


def limits(
    ours: tuple[float, float], paper: tuple[float, float], column: Column
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes such that equal lengths mean equal differences: in points, or in per cent of the middle."""
    (low, high), (paper_low, paper_high) = ours, paper
    middle, paper_middle = (low + high) / 2, (paper_low + paper_high) / 2
    unit, paper_unit = (1.0, 1.0) if column.unit == "%" or not middle or not paper_middle else (middle, paper_middle)
    span = max((high - low) / abs(unit), (paper_high - paper_low) / abs(paper_unit))
    half = (0.5 + MARGIN) * max(span, 2.0 if column.unit == "%" else 0.02)
    return (
        (middle - half * abs(unit), middle + half * abs(unit)),
        (paper_middle - half * abs(paper_unit), paper_middle + half * abs(paper_unit)),
    )


def ticks(axis: Axis, column: Column, steps: int = 4) -> None:
    """At most so many steps, so that neighbours do not touch; one tick where all values are the same; none of 120 %."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    class Locator(MaxNLocator):
        def tick_values(self, vmin: float, vmax: float) -> Any:
            most = vmax if column.unit != "%" else min(vmax, 100)
            return [at for at in super().tick_values(vmin, max(most, vmin)) if column.unit != "%" or at <= 100]

    axis.set_major_locator(Locator(steps))

    def label(position: float, _: int | None = None) -> str:
        written = number(position, max(column.decimals, 1) + 1)
        return written.rstrip("0").rstrip(".")

    axis.set_major_formatter(FuncFormatter(label))


def wrapped(text: str) -> str:
    return textwrap.fill(text, TITLE_WIDTH)
