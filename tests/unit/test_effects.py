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
    figure: Any = effects.compose_effect(table)
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


def test_the_head_counts_the_seeds_that_are_shown() -> None:
    drawn = swept(5)
    cells = drawn.rows[0].cells
    fewer = replace(drawn.rows[0], cells={name: cell.on({0, 1, 2}) for name, cell in cells.items()})
    rows = (fewer, *drawn.rows[1:])
    compared = stats.compare("lin/ucf101", "0.5", {row.label: row.cells["lin/ucf101"].values for row in rows})
    uneven = replace(drawn, rows=rows, comparisons=compared)
    for compose, said in (
        (plots.compose, "3 to 5 seeds"),
        (effects.compose_effect, "3 to 5 seeds"),
        (effects.compose_curve, "3 seeds"),
    ):
        figure = compose(uneven)
        assert figure is not None and f"profile mini, {said}" in figure.get_suptitle()
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any("each seed that all rows have" in text for text in legend) == (compose is effects.compose_curve)


@pytest.mark.parametrize("compose", [effects.compose_effect, effects.compose_curve])
def test_one_seed_has_no_interval_and_says_so(compose: Any) -> None:
    figure: Any = compose(swept(seeds=1))
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "measured: one seed, no interval" in said and not any("95 %" in text for text in said)
    own = [line for line in figure.axes[0].lines if line.get_color() == plots.OURS]
    assert own and not any(line.get_marker() in "|_" for line in own)


def test_the_bootstrap_interval_is_thinner_and_just_below() -> None:
    table = swept()
    table = replace(table, comparisons=tuple(replace(c, boot_low=-9.0, boot_high=9.0) for c in table.comparisons))
    figure: Any = effects.compose_effect(table)
    assert figure is not None
    wide = [line for line in figure.axes[0].lines if line.get_color() == effects.VIDEOS]
    t = [line for line in figure.axes[0].lines if line.get_color() == plots.OURS and line.get_marker() == "|"]
    assert len(wide) == len(t) == 2
    for below, line in zip(wide, t, strict=True):
        assert list(below.get_xdata()) == [-9.0, 9.0]
        assert below.get_linewidth() < line.get_linewidth()
        assert 0 < below.get_ydata()[0] - line.get_ydata()[0] < 0.2  # rows go down


def test_an_effect_needs_an_accuracy_and_a_seed_on_both_sides() -> None:
    table = swept()
    days = replace(COLUMN, unit="GPU-days")
    assert effects.compose_effect(replace(table, columns=(days,))) is None
    empty = tuple(replace(c, seeds=(), gap=None) for c in table.comparisons)
    assert effects.compose_effect(replace(table, comparisons=empty)) is None
    one: Any = effects.compose_effect(replace(table, comparisons=(table.comparisons[0], empty[1])))
    assert one is not None and [text.get_text() for text in one.axes[0].texts] == ["not measured"]


def test_the_axis_names_both_sides_data_and_the_default_row() -> None:
    figure: Any = effects.compose_effect(swept())
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "points against “0.5”\nmeasured: embedded\npaper: UCF101"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0.3", "0.5\n(default)", "0.7"]


def test_without_a_default_row_there_is_no_effect() -> None:
    assert effects.compose_effect(swept(default=False)) is None
    assert {name for name in plots.draw(swept(default=False)) if name.startswith("effect")} == set()


def test_a_sweep_takes_the_default_rows_value_from_its_label() -> None:
    found = effects.sweep(swept())
    assert found is not None and found.name == "Ratio (foreground.beta)"
    ((label, line),) = found.lines.items()
    assert label == "" and [x for x, _ in line] == [0.3, 0.5, 0.7]
    figure: Any = effects.compose_curve(swept())
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.3", "0.5", "0.7"]


def test_a_curve_shows_means_intervals_seeds_and_the_papers_values() -> None:
    table = swept()
    figure: Any = effects.compose_curve(table)
    assert figure is not None
    ours, theirs = figure.axes
    cells = [row.cells["lin/ucf101"] for row in table.rows]
    line = next(line for line in ours.lines if line.get_marker() == "o")
    assert list(line.get_xdata()) == [0.3, 0.5, 0.7] and list(line.get_ydata()) == [cell.mean for cell in cells]
    seen = drawn(ours)
    for cell in cells:
        assert cell.mean is not None and cell.half is not None
        assert {round(v, 6) for v in (cell.mean - cell.half, cell.mean + cell.half, *cell.ordered)} <= seen
    (paper,) = theirs.lines
    assert list(paper.get_ydata()) == [cell.paper for cell in cells] and paper.get_color() == plots.PAPER
    (low, high), (paper_low, paper_high) = ours.get_ylim(), theirs.get_ylim()
    assert high - low == pytest.approx(paper_high - paper_low)


@pytest.mark.parametrize(("mean", "name"), [(36.0, "random encoder"), (20.5, "↓ 20.5 random\nencoder")])
def test_a_reference_is_a_line_or_where_that_would_squeeze_the_curve_a_name_at_the_edge(mean: float, name: str) -> None:
    held = Row("random encoder", {"lin/ucf101": Cell(None, {0: mean - 0.5, 1: mean + 0.5})})
    figure: Any = effects.compose_curve(
        replace(swept(), references=(held, replace(held, cells={"lin/ucf101": Cell()})))
    )
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == [name]
    assert (mean in drawn(figure.axes[0])) == ("↓" not in name)


def test_a_label_is_a_value_of_the_default_row_or_where_all_set_the_same() -> None:
    table = swept()
    first, usual, last = table.rows
    other = replace(first, label="all", settings={"losses": ["vv"]})
    assert effects.sweep(replace(table, rows=(other, usual, last))) is None
    mixed = replace(first, settings={"losses": ["vv"]}), replace(usual, settings={"foreground.beta": 0.5}), last
    assert effects.sweep(replace(table, rows=mixed)) is None
    for label in ("1.2.3", "nan", "both"):
        assert effects.sweep(replace(table, rows=(first, replace(usual, label=label), last))) is None


def test_three_labels_that_are_numbers_are_a_sweep_and_other_rows_lines_beside_it() -> None:
    """Table 10: the numbers of negatives come from where negatives are taken; a row of another loss has none."""
    table = swept()
    rows = tuple(
        replace(row, label=str(count), settings={"pixel.negatives": kind})
        for row, count, kind in zip(table.rows, (98, 784, 1568), ("video", "batch", "queue"), strict=True)
    )
    other = replace(table.rows[0], label="VD", settings={"losses": ["vv", "vd"]})
    found = effects.sweep(replace(table, rows=(other, *rows)))
    assert found is not None and found.name == "Ratio, as rows are named" and found.values == [98, 784, 1568]
    assert found.others == (other,)
    figure: Any = effects.compose_curve(replace(table, rows=(other, *rows)))
    assert figure.axes[0].get_xlabel() == "Ratio, as rows are named"
    assert {text.get_text().split()[-1] for text in figure.axes[0].texts} == {"“VD”", "encoder"}
    assert effects.sweep(replace(table, rows=(other, *rows[:2]))) is None
    bare = tuple(replace(row, cells={"lin/ucf101": Cell()}) for row in rows)
    assert effects.compose_curve(replace(table, rows=(other, *bare))) is None  # nothing measured on the line


def test_a_row_beside_a_curve_has_the_seeds_that_all_rows_have() -> None:
    table = swept()
    rows = [replace(row, label=label, settings={"a.b": label}) for row, label in zip(table.rows, "123", strict=True)]
    other = Row("VD", {"lin/ucf101": Cell(None, {0: 30.0, 1: 31.0, 2: 32.0, 3: 90.0})}, settings={"losses": ["vv"]})
    figure: Any = effects.compose_curve(replace(table, rows=(other, *rows)))
    assert 31.0 in drawn(figure.axes[0]) and not drawn(figure.axes[0]) & {45.75, 90.0}


def test_settings_that_all_rows_share_name_no_line() -> None:
    table = swept()
    rows = tuple(replace(row, settings={"foreground.beta": float(row.label), "losses": ["vv"]}) for row in table.rows)
    found = effects.sweep(replace(table, rows=rows))
    assert found is not None and list(found.lines) == [""]


def test_two_by_two_is_a_grid_and_two_rows_are_no_sweep() -> None:
    row = swept().rows[0]
    rows = tuple(
        replace(row, label=f"{width}, {heads} heads", settings={"decoder.width": width, "decoder.heads": heads})
        for width in (256, 512)
        for heads in (4, 8)
    )
    found = effects.sweep(replace(swept(), rows=rows))
    assert found is not None and found.name == "decoder.width" and list(found.lines) == ["heads 4", "heads 8"]
    assert effects.sweep(replace(swept(), rows=rows[::2])) is None


def test_numbers_that_would_touch_are_left_out_but_not_their_ticks() -> None:
    table = swept()
    values = (0.0, 0.01, 1.0)
    rows = tuple(replace(row, settings={"a.b": v}) for row, v in zip(table.rows, values, strict=True))
    figure: Any = effects.compose_curve(replace(table, rows=rows))
    assert figure is not None and figure.axes[0].get_xscale() == "linear"
    assert list(figure.axes[0].get_xticks()) == list(values)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "", "1"]


def test_a_grid_has_a_line_for_each_value_of_the_other_setting() -> None:
    table = swept()
    rows = tuple(
        replace(table.rows[0], label=f"{loss}, {steps}", settings={"losses": [loss], "optim.steps": steps})
        for loss in ("vv", "pix")
        for steps in (50, 100, 800)
    )
    found = effects.sweep(replace(table, rows=rows))
    assert found is not None and found.name == "optim.steps" and list(found.lines) == ["losses vv", "losses pix"]
    figure: Any = effects.compose_curve(replace(table, rows=rows))
    assert figure is not None and figure.axes[0].get_xscale() == "log"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["50", "100", "800"]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[:2] == ["losses vv", "losses pix"] and "measured: mean, 95 % interval, each seed" in said


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
