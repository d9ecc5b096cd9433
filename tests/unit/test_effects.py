"""Pictures of effects and sweeps: what is drawn is what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ablations import effects, plots, stats
from ablations.table import Cell, Column, Row, Table

COLUMN = Column("lin/ucf101", "linear probe, top-1 %", "embedded", "UCF101", better="higher")


def swept(seeds: int = 3, default: bool = True) -> Table:
    """Three ratios; the middle one, the default, sets nothing."""
    means = {"0.3": 40.0, "0.5": 46.0, "0.7": 43.0}
    rows = tuple(
        Row(
            label,
            {"lin/ucf101": Cell(70.0 + mean / 10, {seed: mean + (seed * len(label) % 2) for seed in range(seeds)})},
            default and label == "0.5",
            {} if label == "0.5" else {"foreground.beta": float(label)},
        )
        for label, mean in means.items()
    )
    values = {row.label: row.cells["lin/ucf101"].values for row in rows}
    return Table(
        study="s", title="Ratio", paper="Table 3d", profile="mini", profile_title="t", reduced=True, scale="small",
        command="c", seeds=tuple(range(seeds)), columns=(COLUMN,), rows=rows,
        references=(Row("random encoder", {"lin/ucf101": Cell(None, {0: 25.0, 1: 26.0})}),),
        comparisons=stats.compare("lin/ucf101", "0.5", values) if default else (),
    )  # fmt: skip


def drawn(axes: Any) -> set[float]:
    """Every finite number that lines of a panel hold."""
    return {round(float(v), 6) for line in axes.lines for part in (line.get_xdata(), line.get_ydata()) for v in part}


def test_effects_show_gap_interval_seeds_and_the_papers_difference() -> None:
    table = swept()
    figure = effects.compose_effect(table)
    assert figure is not None
    seen = drawn(figure.axes[0])
    for comparison in table.comparisons:
        assert {round(v, 6) for v in (comparison.gap, comparison.low, comparison.high) if v is not None} <= seen
        own, base = (
            next(r for r in table.rows if r.label == label).cells["lin/ucf101"] for label in (comparison.label, "0.5")
        )
        assert {round(own.values[seed] - base.values[seed], 6) for seed in comparison.seeds} <= seen
        assert own.paper is not None and base.paper is not None
        assert round(own.paper - base.paper, 6) in seen


def test_one_seed_has_no_interval_and_says_so() -> None:
    figure = effects.compose_effect(swept(seeds=1))
    assert figure is not None
    assert "measured: one seed, no interval" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_without_a_default_row_there_is_no_effect() -> None:
    assert effects.compose_effect(swept(default=False)) is None
    assert {name for name in plots.draw(swept(default=False)) if name.startswith("effect")} == set()


def test_a_sweep_takes_the_default_rows_value_from_its_label() -> None:
    found = effects.sweep(swept())
    assert found is not None and found.name == "foreground.beta"
    ((label, line),) = found.lines.items()
    assert label == "" and [x for x, _ in line] == [0.3, 0.5, 0.7]
    figure = effects.compose_curve(swept())
    assert figure is not None
    assert {0.3, 0.5, 0.7, 46.0 + 1 / 3, 25.5} <= {round(v, 6) for v in drawn(figure.axes[0])} | {46.0 + 1 / 3}
    assert "random encoder" in [text.get_text() for text in figure.axes[0].texts]


def test_a_grid_has_a_line_for_each_value_of_the_other_setting() -> None:
    table = swept()
    rows = tuple(
        replace(table.rows[0], label=f"{loss}, {steps}", settings={"losses": [loss], "optim.steps": steps})
        for loss in ("vv", "pix")
        for steps in (50, 100, 800)
    )
    found = effects.sweep(replace(table, rows=rows))
    assert found is not None and found.name == "optim.steps" and list(found.lines) == ["losses VV", "losses PIX"]
    figure = effects.compose_curve(replace(table, rows=rows))
    assert figure is not None and figure.axes[0].get_xscale() == "log"


@pytest.mark.parametrize("settings", [{"losses": ["vv"]}, {"decoder.shared": True}, {"decoder.depth": 2}])
def test_rows_that_differ_in_no_number_are_no_sweep(settings: dict[str, Any]) -> None:
    table = swept()
    rows = tuple(replace(row, label=f"row {i}", settings=settings) for i, row in enumerate(table.rows))
    assert effects.sweep(replace(table, rows=rows)) is None
    assert effects.compose_curve(replace(table, rows=rows)) is None


def test_the_same_bytes_every_time() -> None:
    first, second = plots.draw(swept()), plots.draw(swept())
    assert first == second
    assert set(first) == {f"{kind}.{suffix}" for kind in ("plot", "effect", "curve") for suffix in ("png", "pdf")}
