"""Every file of a report, from one model of a table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations import plots, publish, render, verdicts
from ablations.literature import Line, Literature
from ablations.table import REDUCED, Cell, Column, Row, Table, mark_best

FILES = ["table.md", "table.tex", "table.csv", "table.json", "plot.png", "plot.pdf"]


def small(seeds: Sequence[int] = (0, 1), **changes: Any) -> Table:
    """Three rows, one metric, one cell without a result."""
    column = Column(
        "lin/ucf101", "linear probe, top-1 %", "embedded two-stage (source)", "UCF101", better="higher", notes=(1,)
    )
    rows = (
        Row("0.3", {"lin/ucf101": Cell(71.6, {seed: 50.0 + seed for seed in seeds})}),
        Row("0.5", {"lin/ucf101": Cell(73.1, {seed: 52.0 + 2 * seed for seed in seeds})}, default=True),
        Row("50 % & β_|x|", {"lin/ucf101": Cell(71.5, {}, dict.fromkeys(seeds, "not run"))}),
    )
    values = {row.label: row.cells["lin/ucf101"].values for row in rows}
    table = Table(
        study="table3d_beta",
        title="Foreground ratio β",
        paper="Table 3d of Zhu et al.",
        profile="demo",
        profile_title="",
        reduced=True,
        scale="small videos",
        command="fima-ablate run studies/table3d_beta.yaml",
        seeds=tuple(seeds),
        columns=(column,),
        rows=mark_best(rows, [column]),
        data={"ucf101": "embedded two-stage (source)"},
        notes=("Protocol: probe_a.",),
        verdicts=(verdicts.ordered("0.5 beats 0.3", "lin/ucf101", "better", [("0.5", "0.3")], values),),
    )
    return replace(table, **changes)


# --- Markdown


def test_markdown_table_as_it_stands() -> None:
    assert render.markdown(small()) == (
        "# Foreground ratio β\n"
        "\n"
        "> **Reduced scale: not a reproduction of the paper's numbers**\n"
        "\n"
        "- study: table3d_beta\n"
        "- compared with: Table 3d of Zhu et al.\n"
        "- profile: demo\n"
        "- scale: reduced scale: not a reproduction of the paper's numbers; small videos\n"
        "- data: ucf101: embedded two-stage (source)\n"
        "- seeds: 0, 1; how many a number is of stands behind it\n"
        "- command: fima-ablate run studies/table3d_beta.yaml\n"
        "\n"
        "| Foreground ratio β | linear probe, top-1 %, UCF101, paper | "
        "linear probe, top-1 %, embedded two-stage (source), measured [1] |\n"
        "|:---|---:|---:|\n"
        "| 0.3 | 71.6 | 50.5 ± 0.7 (2) |\n"
        "| 0.5 *(default)* | 73.1 | **53.0 ± 1.4 (2)** |\n"
        "| 50 % & β\\_\\|x\\| | 71.5 | – |\n"
        "\n"
        "Measured: mean ± sample standard deviation (number of seeds); bold: best measured mean over the seeds "
        "that all rows have, ties as printed included, none where all rows tie; paper: the number printed there.\n"
        "\n"
        "Notes\n"
        "\n"
        "1. Protocol: probe_a.\n"
        "\n"
        "## Claims of the paper, on these measurements\n"
        "\n"
        "| claim | on | verdict | evidence | sign-flip p | bootstrap interval | seeds still needed |\n"
        "|:---|:---|:---|:---|---:|---:|---:|\n"
        "| 0.5 beats 0.3 | linear probe, top-1 %, embedded two-stage (source) | "
        "**undecided** | “0.5” against “0.3”: gap +2.5, 95 % interval −3.9 to +8.9, n = 2; the interval includes 0; "
        "about 1 more seed would decide it if gap and spread stay | 0.500 | – | 1 |\n"
        "\n"
        "A verdict speaks of this reduced scale only.\n"
        "\n"
        f"Rule for better: {verdicts.ORDER_RULE}.\n"
        "\n"
        f"{verdicts.REPEAT_RULE}.\n"
        "\n"
    )


def test_markdown_rows_have_as_many_cells_as_the_header() -> None:
    lines = [line for line in render.markdown(small()).splitlines() if line.startswith("|")]
    table = lines[:5]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}


@pytest.mark.parametrize(("seeds", "printed"), [((0,), "52.0 (1)"), ((0, 1, 2, 3, 4), "56.0 ± 3.2 (5)"), ((), "–")])
def test_measured_says_how_many_seeds(seeds: tuple[int, ...], printed: str) -> None:
    table = small(seeds)
    assert render.measured(table.rows[1].cells["lin/ucf101"], table.columns[0]) == printed


def test_one_seed_is_undecided_in_words() -> None:
    assert "one seed: direction agrees, undecided; “0.5” against “0.3”: gap +2.0, n = 1" in render.markdown(small((0,)))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("table_x", "table_x"),
        ("_x_", r"\_x\_"),
        ("2 * 3 < [4]", r"2 \* 3 \< [4]"),
        ("a\nb", "a b"),
        ("[a](b)", r"[a]\(b)"),
    ],
)
def test_markdown_escape(text: str, escaped: str) -> None:
    assert render.md_escape(text) == escaped


def test_heading_says_what_the_results_were_made_with() -> None:
    machine = {"torch": "2.14.1", "cpu": "Xeon", "threads": 1, "device": "cpu", "commit": "aaa", "dirty": True}
    table = small(environments=(machine, machine | {"commit": "bbb", "dirty": False, "device": "cuda: NVIDIA H200"}))
    line = dict(render.heading(table))["results from"]
    assert line == "commit aaa+dirty or bbb, PyTorch 2.14.1, on Xeon (1 thread) or NVIDIA H200"
    assert "results from" not in dict(render.heading(small()))


# --- best


def cells(*means: float | None) -> list[Row]:
    return [Row(str(i), {"m": Cell(None, {} if mean is None else {0: mean})}) for i, mean in enumerate(means)]


def marked(better: Any, *means: float | None) -> list[bool]:
    return [row.cells["m"].best for row in mark_best(cells(*means), [Column("m", "m", better=better)])]


def test_best_in_bold_with_ties_as_printed() -> None:
    assert marked("higher", 50.0, 50.04, 49.0) == [True, True, False]
    assert marked("lower", 2.0, 1.0, None) == [False, True, False]
    assert marked(None, 2.0, 1.0) == [False, False]
    assert marked("lower", 12.3, 12.3) == [False, False]
    assert marked("higher", None, 50.0) == [False, False]  # nothing to be better than


# --- LaTeX


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50 % & more_x #1", r"50 \% \& more\_x \#1"),
        ("β – ± × −1 → π", r"$\beta$ -- $\pm$ $\times$ $-$1 $\rightarrow$ $\pi$"),
        (r"a\b {c} $d ~ ^", r"a\textbackslash{}b \{c\} \$d \textasciitilde{} \textasciicircum{}"),
        ("“q” <a|b>", r"``q'' \textless{}a\textbar{}b\textgreater{}"),
        ("--seeds 0", "-{}-seeds 0"),
        ("café ě 漢", "café e [U+6F22]"),
        ("two\nlines", "two lines"),
    ],
)
def test_tex_escape(text: str, escaped: str) -> None:
    assert render.tex_escape(text) == escaped


def hard() -> Table:
    """Every special character in every place that takes text."""
    nasty = "100 % & _x_ #1 $2 {3} ~4^5 \\6 β – ± “q” <|> 漢\n--end"
    table = small()
    column = replace(table.columns[0], title=nasty, data=nasty, paper_data=nasty)
    rows = tuple(replace(row, label=f"{row.label} {nasty}") for row in table.rows)
    return replace(
        table, title=nasty, paper=nasty, scale=nasty, command=nasty, notes=(nasty,), columns=(column,),
        rows=rows, failures=(nasty,), departures={"x_y": nasty}, data={"ucf101": nasty},
    )  # fmt: skip


def body(tex: str) -> list[str]:
    """The lines of the tabular that hold cells."""
    inside = tex.partition(r"\begin{tabular}")[2].partition(r"\end{tabular}")[0]
    return [line.strip() for line in inside.splitlines() if line.rstrip().endswith(r"\\")]


@pytest.mark.parametrize("table", [small(), small((0,)), hard()], ids=["two seeds", "one seed", "specials"])
def test_tex_is_well_formed(table: Table) -> None:
    tex = render.latex(table)
    live = re.sub(r"(?<!\\)%.*", "", tex)
    begun = re.findall(r"\\begin\{(\w+)\}", live)
    assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", live))
    assert re.sub(r"\\.", "", live).count("{") == re.sub(r"\\.", "", live).count("}")
    widths = set()
    for line in body(tex):
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d)\}", line)]
        widths.add(len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans))
    assert widths == {3}
    assert r"\begin{tabular}{lrr}" in tex


def test_tex_rows_as_they_stand() -> None:
    assert body(render.latex(small()))[3:] == [
        r"0.3 & 71.6 & 50.5 $\pm$ 0.7 (2) \\",
        r"\rowcolor[gray]{0.9} 0.5 & 73.1 & \textbf{53.0 $\pm$ 1.4 (2)} \\",
        r"50 \% \& $\beta$\_\textbar{}x\textbar{} & 71.5 & -- \\",
    ]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("alone", [True, False], ids=["by itself", "through input"])
def test_tex_compiles(tmp_path: Path, alone: bool) -> None:
    (tmp_path / "table.tex").write_text(render.latex(hard()))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{booktabs,graphicx}\n"
        "\\begin{document}\nBefore.\n\\input{table}\nAfter.\n\\end{document}\n"
    )
    name = "table.tex" if alone else "paper.tex"
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


# --- the terminal


def test_terminal_text_names_scale_and_verdicts() -> None:
    text = render.text(small())
    assert REDUCED in text and "claim “0.5 beats 0.3”: undecided" in text and "*53.0 ± 1.4 (2)" in text


# --- CSV and JSON


def test_csv_is_tidy() -> None:
    import pandas as pd

    text = render.as_csv(hard())
    assert REDUCED in text.splitlines()[3] and text.startswith("# study: table3d_beta\n")
    assert "#1" in pd.read_csv(io.StringIO(text), comment="#")["row"][0]  # a quoted sign begins no comment
    frame = pd.read_csv(io.StringIO(render.as_csv(small())), comment="#", keep_default_na=False)
    assert len(frame) == 3
    assert [str(label) for label in frame["row"]] == ["0.3", "0.5", "50 % & β_|x|"]
    assert list(frame["paper"]) == [71.6, 73.1, 71.5]
    assert [str(value) for value in frame["mean"]] == ["50.5", "53.0", ""]
    assert list(frame["n"]) == [2, 2, 0]
    assert list(frame["best"]) == [0, 1, 0]
    assert list(frame["values"]) == ["50.0 51.0", "52.0 54.0", ""]
    assert frame["missing"][2] == "seed 0: not run; seed 1: not run"
    assert set(frame["reduced_scale"]) == {1}


def test_json_holds_everything_unrounded() -> None:
    table = small((0, 1, 2))
    plain = json.loads(render.as_json(table))
    cell = plain["rows"][1]["cells"]["lin/ucf101"]
    assert cell["values"] == {"0": 52.0, "1": 54.0, "2": 56.0}
    assert (cell["mean"], cell["std"], cell["n"], cell["best"], cell["paper"]) == (54.0, 2.0, 3, True, 73.1)
    assert cell["half"] == pytest.approx(4.302652729911275 * 2 / 3**0.5)
    (verdict,) = plain["verdicts"]  # 2, 3, 4: 3 +- 2.48, which four seeds would find again and three would not
    assert (verdict["state"], verdict["low"] > 0, verdict["needed"]) == ("undecided", True, 1)
    assert REDUCED in plain["scale_line"]
    assert plain["rows"][2]["cells"]["lin/ucf101"]["missing"] == {"0": "not run", "1": "not run", "2": "not run"}


# --- files


def test_report_folder_and_rebuild_to_the_byte(tmp_path: Path) -> None:
    first = publish.write(small(), tmp_path / "a")
    assert [path.name for path in first] == FILES
    before = {path.name: path.read_bytes() for path in first}
    publish.write(small(), tmp_path / "a")
    publish.write(small(), tmp_path / "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == before
    for name in FILES[:4]:
        assert REDUCED in (tmp_path / "a" / name).read_text(), name


def test_no_warning_of_scale_at_full_scale(tmp_path: Path) -> None:
    publish.write(small(reduced=False, scale=""), tmp_path)
    assert all("reproduction" not in (tmp_path / name).read_text() for name in FILES[:4])


def test_a_failing_plot_leaves_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish.write(small(), tmp_path)

    def fail(table: Table) -> dict[str, bytes]:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(plots, "draw", fail)
    with pytest.raises(OSError, match=r"the tables are written, the plot failed: RuntimeError: no fonts"):
        publish.write(small((0, 1, 2)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES[:4])
    assert "(3)" in (tmp_path / "table.md").read_text()


def test_drafts_of_killed_writers_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    old, young = tmp_path / f".table.md.{gone.pid}.tmp", tmp_path / f".table.tex.{gone.pid}.tmp"
    for draft in (old, young):
        draft.write_text("half a ta")
    os.utime(old, (0, 0))
    publish.write(small(), tmp_path)
    assert not old.exists()
    young.unlink()  # may be another machine's, whose processes are not known here
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


# --- the literature


def cited() -> Table:
    """A row that stands for a printed line, and two lines more, one of them with a hostile name."""
    lines = (
        Line("0.5", "I3D", 16, 224, "UCF101", {"lin/ucf101": 73.1, "ft/ucf101": 83}, "reproduced", "0.5"),
        Line("0.5", "R(2+1)D", 16, 112, "Kinetics-400", {"lin/ucf101": 72.25}),
        Line("A_b & |c|", "R3D-18", None, None, "UCF101", {"ft/ucf101": 66.3}),
    )
    columns = (("lin/ucf101", "linear probe, top-1 %, UCF101"), ("ft/ucf101", "fine-tuning, top-1 %, UCF101"))
    return small(literature=Literature(columns, lines))


def test_printed_lines_stand_below_the_rows_and_say_that_they_are_cited() -> None:
    shown = render.markdown(cited())
    head, *lines = [line for line in shown.splitlines() if line.startswith("| ") and line.count("|") > 8][:4]
    assert head.startswith(
        "| method | backbone | frames | resolution | pre-trained on | linear probe, top-1 %, UCF101 |"
    )
    assert lines == [
        "| 0.5 | I3D | 16 | 224 | UCF101 | 73.1 | 83.0 | row “0.5” above; reproduced |",
        "| 0.5 | R(2+1)D | 16 | 112 | Kinetics-400 | 72.25 | – | cited |",
        r"| A_b & \|c\| | R3D-18 | – | – | UCF101 | – | 66.3 | cited |",
    ]
    assert "Cited, not run: what the paper prints:" in shown
    tex = render.latex(cited())
    assert tex.count(r"\begin{tabular}") == 2 and r"\textit{72.25} & \textit{--} & \textit{cited} \\" in tex
    assert r"A\_b \& \textbar{}c\textbar{}" in tex and "0.5 & I3D & 16 & 224 & UCF101 & 73.1 & 83.0 &" in tex
    terminal = render.text(cited())
    assert "0.5        R(2+1)D   16      112         Kinetics-400    72.25       –          cited" in terminal


def test_printed_lines_in_csv_and_json_bear_their_recipe_and_no_measurement() -> None:
    rows = list(csv.DictReader(line for line in render.as_csv(cited()).splitlines() if not line.startswith("#")))
    assert {row["cited"] for row in rows[:3]} == {"0"}
    assert [(row["row"], row["metric"], row["paper"], row["pretrain"], row["here"]) for row in rows[3:]] == [
        ("0.5", "lin/ucf101", "73.1", "UCF101", "0.5"), ("0.5", "ft/ucf101", "83", "UCF101", "0.5"),
        ("0.5", "lin/ucf101", "72.25", "Kinetics-400", ""), ("A_b & |c|", "ft/ucf101", "66.3", "UCF101", ""),
    ]  # fmt: skip
    assert all((row["cited"], row["n"], row["mean"], row["values"]) == ("1", "0", "", "") for row in rows[3:])
    found = json.loads(render.as_json(cited()))["literature"]
    assert found["lines"][1]["paper"] == {"lin/ucf101": 72.25} and found["lines"][2]["frames"] is None
    assert "literature" not in json.loads(render.as_json(small()))
    assert render.as_csv(small()).count("cited") == 0
