"""The picture of a table: same bytes, nothing outside the page, nothing on top of something else."""

from __future__ import annotations

import struct
from collections.abc import Sequence

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
        "s", "Title β $x$ _y", "Table 1", "demo", "", reduced, "small " * 30, "run", "abc", tuple(seeds), columns, rows
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
    (low, high), (paper_low, paper_high) = plots._limits((40.0, 44.0), (70.0, 71.0), points)
    assert high - low == pytest.approx(paper_high - paper_low)
    assert low < 40 and high > 44 and paper_low < 70 and paper_high > 71
    days = Column("gpu_days", "t", unit="device-days")
    (low, high), (paper_low, paper_high) = plots._limits((0.001, 0.0012), (3.0, 3.3), days)
    assert (high - low) / 0.0011 == pytest.approx((paper_high - paper_low) / 3.15)
