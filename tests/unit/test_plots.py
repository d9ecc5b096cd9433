"""The picture of a table: same bytes, nothing outside the page, nothing on top of something else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ablations import effects, plots, stats
from ablations.table import Cell, Column, Row, Table


def table(seeds: Sequence[int], metrics: int = 4, label: str = "row", reduced: bool = True, apart: float = 25) -> Table:
    columns = tuple(
        Column(f"m{j}", f"linear probe {j}, top-1 %", "embedded two-stage (source)", "UCF101", chance=16.7)
        for j in range(metrics)
    )
    rows = tuple(
        Row(
            f"{label} {i}",
            {
                column.metric: Cell(45 + apart + i, {seed: 45 + 2 * i + j + 0.7 * (-1) ** seed for seed in seeds})
                for j, column in enumerate(columns)
            },
            default=i == 1,
        )
        for i in range(5)
    )
    return Table(
        "s", "Title β $x$ _y", "Table 1", "demo", "", reduced, "small " * 30, "run", tuple(seeds), columns, rows
    )  # fmt: skip


def full(seeds: Sequence[int], metrics: int = 4, lines: int = 1, far: float = 10) -> Table:
    """Swept rows with long names, compared with the default row, and references with long names."""
    plain = table(seeds, metrics, "VV + Pix, dense contrast with foreground sampling")
    steps = (100, 200, 400, 800, 1600)
    rows = tuple(
        replace(row, label=f"{row.label}, {j}", default=row.default and j == 0, settings=settings)
        for j in range(lines)
        for row, step in zip(plain.rows, steps, strict=True)
        for settings in [{"optim.steps": step, "losses": ["vv", "pix", "fra"][: j + 1]}]
    )
    names = ("random encoder", "motion energy of the clip, no encoder", "shuffled frames", "supervised")
    references = tuple(
        Row(
            name,
            {c.metric: Cell(None, {seed: 48 + far * (i - 2) + 0.2 * seed for seed in seeds}) for c in plain.columns},
        )
        for i, name in enumerate(names)
    )
    comparisons = []
    for column in plain.columns:
        values = {row.label: row.cells[column.metric].values for row in rows}
        found = stats.compare(column.metric, rows[1].label, values)
        comparisons += [replace(c, boot_low=c.low, boot_high=c.high) for c in found]
    return replace(plain, rows=rows, references=references, comparisons=tuple(comparisons))


@pytest.mark.parametrize(
    ("seeds", "metrics", "label", "apart"),
    [((0,), 4, "row", 25), (range(5), 4, "a label that is long enough to need several lines, as in Table 2", 0)],
)
def test_png_and_pdf_are_the_same_every_time(seeds: Sequence[int], metrics: int, label: str, apart: float) -> None:
    first = plots.draw(table(seeds, metrics, label, apart=apart))
    assert first == plots.draw(table(seeds, metrics, label, apart=apart))
    assert set(first) == {"plot.png", "plot.pdf"}
    assert first["plot.png"].startswith(b"\x89PNG") and first["plot.pdf"].startswith(b"%PDF")
    assert b"CreationDate" not in first["plot.pdf"]
    width, height = struct.unpack(">II", first["plot.png"][16:24])
    assert 800 < width < 2400 and 600 < height < 2400


def test_missing_cells_and_no_result_at_all_are_drawn() -> None:
    assert plots.draw(table((), 1))["plot.png"].startswith(b"\x89PNG")


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.draw(table((0,), 1))
    assert dict(mpl.rcParams) == before


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="a plot needs rows and metrics, got 5 and 0"):
        plots.draw(table((0,), 0))


def test_references_stand_below_the_rows_in_grey_without_a_value_of_the_papers() -> None:
    drawn = full(range(3), 1, far=2)
    figure: Any = plots.compose(drawn)
    grey = [line for line in figure.axes[0].lines if line.get_color() == plots.CHANCE and line.get_marker() == "o"]
    where = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in grey]
    means = [row.cells["m0"].mean for row in drawn.references]
    assert where == [(pytest.approx(mean), len(drawn.rows) + i) for i, mean in enumerate(means)]
    labels = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert labels[len(drawn.rows) :] == [row.label for row in drawn.references]
    diamonds = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "D"]
    assert max(y for line in diamonds for y in line.get_ydata()) < len(drawn.rows) - 0.5
    assert "for reference, measured likewise" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_reference_far_off_is_named_at_the_edge() -> None:
    figure: Any = plots.compose(full(range(3), 1, far=20))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["← 8.2", "← 28.2", "68.2 →"]
    low, high = figure.axes[0].get_xlim()
    assert 28.2 < low < 45 and 54 < high < 68


def test_no_accuracy_is_above_100() -> None:
    figure: Any = plots.compose(table(range(3), 1, apart=54))  # the paper's run up to 103 on an axis as long as ours
    figure.canvas.draw()
    numbers = [text.get_text() for panel in figure.axes for text in panel.get_xticklabels()]
    assert "" not in numbers and 95 <= max(map(float, numbers)) <= 100


def test_references_take_room_only_in_a_line_of_panels_where_they_have_numbers() -> None:
    drawn = full(range(3), 4)  # two lines of two panels
    absent = tuple(
        replace(row, cells={name: cell if name == "m3" else Cell() for name, cell in row.cells.items()})
        for row in drawn.references
    )
    figure: Any = plots.compose(replace(drawn, references=absent))
    above, below = len(drawn.rows) - 0.5, len(drawn.rows) + len(absent) - 0.5
    assert [axes.get_ylim() for axes in figure.axes[:4]] == [(above, -0.5), (above, -0.5), (below, -0.5), (below, -0.5)]
    assert [len(axes.get_yticklabels()) for axes in figure.axes[:3:2]] == [len(drawn.rows), len(drawn.rows) + 4]
    empty = figure.axes[2]  # of the line with numbers in its second panel only
    assert "not measured" not in [text.get_text() for text in empty.texts]
    assert not [line for line in empty.lines if line.get_color() == plots.CHANCE and line.get_marker() == "o"]
    heights = figure.axes[0].get_subplotspec().get_gridspec().get_height_ratios()
    assert heights[0] < heights[1]


def test_a_metric_that_no_row_has_takes_no_panel_and_is_named_at_the_head() -> None:
    drawn = full(range(3), 4)
    rows = tuple(
        replace(row, cells={name: Cell(70) if name in ("m2", "m3") else cell for name, cell in row.cells.items()})
        for row in drawn.rows
    )
    figure: Any = plots.compose(replace(drawn, rows=rows))
    assert [axes.get_title() for axes in figure.axes[:2]] == [column.title for column in drawn.columns[:2]]
    assert not {column.title for column in drawn.columns[2:]} & {axes.get_title() for axes in figure.axes}
    head = " ".join(figure.get_suptitle().split())
    assert "Not measured: linear probe 2, top-1 %, embedded two-stage (source); linear probe 3, top-1 %" in head


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_two_seeds_are_shown_without_the_interval_that_would_squeeze_the_rest(seeds: int) -> None:
    drawn = full(range(seeds), 1, far=1)
    wide = {
        "plot": plots.compose(drawn),
        "effect": effects.compose_effect(drawn),
        "curve": effects.compose_curve(drawn),
    }
    for name, figure in wide.items():
        assert figure is not None
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any("interval, each seed" in t or "(paired t), each seed" in t for t in texts) == (seeds >= 3), name
        assert any(t.endswith(("mean, each seed", "mean difference, each seed")) for t in texts) == (seeds == 2), name
        assert any("one seed, no interval" in t for t in texts) == (seeds == 1), name
    half = drawn.rows[0].cells["m0"].half or 0
    figure = wide["plot"]
    assert figure is not None
    limits = figure.axes[0].get_xlim()
    means = [cell.mean or 0 for row in drawn.rows for cell in [row.cells["m0"]]]
    assert (limits[1] - limits[0] < max(means) - min(means) + 2 * half) == (seeds == 2)


def test_equal_lengths_are_equal_differences() -> None:
    points = Column("lin/ucf101", "t", unit="%")
    (low, high), (paper_low, paper_high) = plots.limits((40.0, 44.0), (70.0, 71.0), points)
    assert high - low == pytest.approx(paper_high - paper_low)
    assert low < 40 and high > 44 and paper_low < 70 and paper_high > 71
    days = Column("gpu_days", "t", unit="device-days")
    (low, high), (paper_low, paper_high) = plots.limits((0.001, 0.0012), (3.0, 3.3), days)
    assert (high - low) / 0.0011 == pytest.approx((paper_high - paper_low) / 3.15)


@pytest.mark.parametrize(
    ("seeds", "metrics", "reduced"),
    [((0,), 4, True), (range(5), 4, False), (range(5), 1, True), ((), 3, True)],
    ids=["one seed", "full scale", "one metric", "nothing measured"],
)
def test_no_text_leaves_the_page_or_covers_another(seeds: Sequence[int], metrics: int, reduced: bool) -> None:
    label = "VV + Pix, dense contrast with foreground sampling and a motion decoder"
    assert not _unreadable(plots.compose, table(seeds, metrics, label, reduced, apart=25 if reduced else 0))


@pytest.mark.parametrize("compose", [plots.compose, effects.compose_effect, effects.compose_curve])
@pytest.mark.parametrize(
    ("seeds", "metrics", "lines", "far"),
    [(range(5), 4, 1, 10), ((0,), 1, 1, 10), (range(3), 2, 3, 0.1), (range(3), 3, 3, 40)],
    ids=["four metrics", "one seed", "references at one place", "references far away"],
)
def test_references_effects_and_curves_are_readable(
    compose: Callable[[Table], Any], seeds: Sequence[int], metrics: int, lines: int, far: float
) -> None:
    assert not _unreadable(compose, full(seeds, metrics, lines, far))


def _unreadable(compose: Callable[[Table], Any], drawn: Table) -> list[str]:
    """Texts that leave the page or cover another."""
    import matplotlib as mpl
    from matplotlib.text import Text

    with mpl.rc_context(plots.STYLE):
        figure = compose(drawn)
        figure.canvas.draw()
        hidden = _outside(figure)
        shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown if text not in hidden]
    page = figure.bbox
    assert boxes
    inside = [
        page.x0 - 2 <= box.x0 and box.x1 <= page.x1 + 2 and page.y0 - 2 <= box.y0 and box.y1 <= page.y1 + 2
        for _, box in boxes
    ]
    found = [f"{said!r} leaves the page" for (said, _), within in zip(boxes, inside, strict=True) if not within]
    for i, (said, box) in enumerate(boxes):
        for other, there in boxes[i + 1 :]:
            across = min(box.x1, there.x1) - max(box.x0, there.x0)
            down = min(box.y1, there.y1) - max(box.y0, there.y0)
            found += [f"{said!r} covers {other!r}"] if across > 1 and down > 1 else []
    return found


def _outside(figure: Any) -> list[Any]:
    """Tick labels beyond an axis's limits: they exist but are not drawn."""
    found = []
    for axes in figure.axes:
        for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = axes.bbox.min[side] - 1, axes.bbox.max[side] + 1
            for label in (label for tick in axis.majorTicks for label in (tick.label1, tick.label2)):
                box = label.get_window_extent()
                if not low <= (box.min[side] + box.max[side]) / 2 <= high:
                    found.append(label)
    return found
