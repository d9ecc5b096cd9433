"""The picture of a table: same bytes, nothing outside the page, nothing on top of something else."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest

from ablations import plots
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
    import matplotlib as mpl
    from matplotlib.text import Text

    label = "VV + Pix, dense contrast with foreground sampling and a motion decoder"
    with mpl.rc_context(plots.STYLE):
        figure = plots.compose(table(seeds, metrics, label, reduced, apart=25 if reduced else 0))
        figure.canvas.draw()
        hidden = _outside(figure)
        shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown if text not in hidden]
    page = figure.bbox
    for said, box in boxes:
        assert page.x0 - 2 <= box.x0 and box.x1 <= page.x1 + 2, said
        assert page.y0 - 2 <= box.y0 and box.y1 <= page.y1 + 2, said
    for i, (said, box) in enumerate(boxes):
        for other, there in boxes[i + 1 :]:
            across = min(box.x1, there.x1) - max(box.x0, there.x0)
            down = min(box.y1, there.y1) - max(box.y0, there.y0)
            assert not (across > 1 and down > 1), f"{said!r} covers {other!r}"


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
