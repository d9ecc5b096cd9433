"""What stands beside the numbers: comparisons, references, order, origins, and the columns that name a row."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations import latex, phrases, render, spec
from ablations.stats import Agreement, Comparison
from ablations.table import Cell, Column, Row, Table, mark_best
from ablations.verdicts import Verdict

METRIC = "lin/ucf101"
NASTY = "100 % & _x_ #1 $2 {3} ~4^5 \\6 β “q” <|> 漢 `c` *s*\n--end"


def evident(**changes: Any) -> Table:
    """Three rows of components over two seeds, a reference, and all evidence."""
    column = Column(METRIC, "linear probe, top-1 %", "embedded", "UCF101", better="higher")
    labels = ("none (VV + VD)", "DC", "DC + FS")
    rows = [
        Row(
            label,
            {METRIC: Cell(70.0 + i, {0: 50.0 + i, 1: 51.0 + i}, uids={s: f"lin-{i}-s{s}-{i}{s:011x}" for s in (0, 1)})},
            default=i == 2,
            pretrain={s: f"pretrain-{i}-s{s}-{i}{s:011x}" for s in (0, 1)},
        )
        for i, label in enumerate(labels)
    ]
    reference = Row("random start", {METRIC: Cell(None, {0: 20.0, 1: 22.0}, uids={0: "lin-r-s0-aaa"})})
    table = Table(
        study="table2_components",
        title="Components of L_Pix",
        paper="Table 2 of Zhu et al.",
        profile="mini",
        profile_title="",
        reduced=True,
        scale="small videos",
        command="fima-ablate run studies/table2_components.yaml --profile mini --seeds 0,1 optim.steps=3",
        seeds=(0, 1),
        columns=(column,),
        rows=mark_best(rows, [column]),
        data={"ucf101": "embedded"},
        references=(reference,),
        comparisons=(
            Comparison(
                METRIC, labels[0], labels[2], (0, 1), -2.0, -3.25, -0.75, 0.0004, 0.0008, 0.5, -4.0, 0.5, 1.26
            ),
            Comparison(METRIC, labels[1], labels[2], (0,), -1.0),
        ),
        agreements=(Agreement(METRIC, 3, 2, 0.6, -0.2, 1.0),),
        verdicts=(
            Verdict(
                "FS helps", METRIC, "better", "supported", "agrees", 2, 1.0, 0.5, 1.5, 0.95, "a rule",
                "supported: gap +1.0", sign_flip=0.5, boot_low=0.25, boot_high=1.75,
            ),
            Verdict(
                "DC helps", METRIC, "better", "undecided", None, 0, None, None, None, 0.95, "a rule",
                "undecided: nothing", needed=3,
            ),
        ),
    )  # fmt: skip
    return replace(table, **changes)


def nasty() -> Table:
    """Every special character in every place that takes text."""
    table = evident(failures=(NASTY,), title=NASTY, notes=(NASTY,), data={"ucf101": NASTY})
    rows = tuple(
        replace(row, label=f"{i} {NASTY}", pretrain={0: f"pretrain {NASTY}"}) for i, row in enumerate(table.rows)
    )
    return replace(
        table,
        rows=rows,
        references=(replace(table.references[0], label=NASTY),),
        comparisons=tuple(
            replace(one, label=rows[i].label, against=rows[2].label) for i, one in enumerate(table.comparisons)
        ),
        verdicts=tuple(replace(one, says=NASTY, words=f"{one.state}: {NASTY}") for one in table.verdicts),
    )


def formats(table: Table) -> list[str]:
    return [
        render.markdown(table),
        render.latex(table),
        render.as_csv(table),
        render.as_json(table),
        render.text(table),
    ]


# --- columns that name a row


def test_components_become_marks() -> None:
    left = latex.row_columns(["VV", "VV + VD", "VV + Pix", "VV + Pix + Fra"])
    assert left.heads == ("VV", "VD", "Pix", "Fra") and left.checks
    assert left.cells == (("x", "", "", ""), ("x", "x", "", ""), ("x", "", "x", ""), ("x", "", "x", "x"))


def test_a_label_without_a_shared_component_stays_text() -> None:
    left = latex.row_columns(["none (VV + VD)", "DC", "DC + FS", "DC + MD"])
    assert left.heads == ("DC", "FS", "MD")
    assert left.cells[0] == ("none (VV + VD)",) and left.cells[1] == ("x", "", "")
    assert latex.row_columns(["VD", "DC", "DC + FS"]).cells[0] == ("VD",)


def test_fields_become_columns_with_their_common_word_or_setting_as_head() -> None:
    labels = ["256, 4 heads", "512, 8 heads"]
    settings = [{"decoder.width": 256, "decoder.heads": 4}, {"decoder.width": 512, "decoder.heads": 8}]
    assert latex.row_columns(labels, settings) == latex.RowColumns(("width", "heads"), (("256", "4"), ("512", "8")))
    assert latex.row_columns(labels).heads == ("", "heads")


@pytest.mark.parametrize(
    "labels",
    [
        [],
        ["0.3", "0.5"],
        ["RGB", "both"],
        ["A + B"],
        ["A + B", "C + D"],  # nothing shared
        ["A + B", "B + A"],  # marks would not tell them apart
        ["1 + 2", "1"],
        ["256, 4", "512"],
        ["a long component + b", "a long component"],
    ],
)
def test_other_labels_are_one_column(labels: list[str]) -> None:
    assert latex.row_columns(labels) == latex.RowColumns(("",), tuple((label,) for label in labels))


def test_studies_of_the_paper_have_its_columns() -> None:
    found = {}
    for path in spec.study_files():
        study = spec.load_study(path)
        found[study.paper["table"]] = latex.row_columns(
            [row.label for row in study.rows], [row.set for row in study.rows]
        ).heads
    several = {table: heads for table, heads in found.items() if len(heads) > 1}
    assert several == {
        "1": ("VV", "VD", "Pix", "Fra"),
        "2": ("DC", "FS", "MD"),
        "3c": ("width", "heads"),
        "11": ("DC", "FS", "MD"),
    }


# --- LaTeX


def test_tex_has_marks_grey_dagger_and_references_below_a_rule() -> None:
    inside = render.latex(evident()).partition(r"\begin{tabular}")[2].partition(r"\end{tabular}")[0]
    assert [line.strip() for line in inside.splitlines()[1:]] == [
        r"\toprule",
        r"\multicolumn{3}{c}{Components of $\mathcal{L}_{\mathrm{Pix}}$} & "
        r"\multicolumn{2}{c}{linear probe, top-1 \%} \\",
        r"\cmidrule(lr){1-3}\cmidrule(lr){4-5}",
        r"DC & FS &  & paper & measured \\",
        r"&  &  & \footnotesize UCF101 & \footnotesize embedded \\",
        r"\midrule",
        r"\multicolumn{3}{l}{none (VV + VD)} & 70.0 & 50.5 $\pm$ 0.7 (2)$^{\dagger}$ \\",
        r"$\checkmark$ &  &  & 71.0 & 51.5 $\pm$ 0.7 (2) \\",
        r"\rowcolor[gray]{0.9} $\checkmark$ & $\checkmark$ &  & 72.0 & \textbf{52.5 $\pm$ 0.7 (2)} \\",
        r"\midrule",
        r"\multicolumn{3}{l}{\textit{random start}} & -- & 21.0 $\pm$ 1.4 (2) \\",
        r"\bottomrule",
        "",
    ]


def test_tex_says_what_its_signs_mean_and_where_numbers_come_from() -> None:
    tex = render.latex(evident())
    assert r"$\dagger$: differs from the default row, p \textless{} 0.05" in tex
    assert "Grey: the default row, ``DC + FS''." in tex
    assert (
        r"``none (VV + VD)'' 0: \texttt{000000000000}, 1: \texttt{000000000001}; ``DC'' 0: \texttt{100000000000}" in tex
    )
    assert "Against ``DC + FS'': linear probe, top-1 \\%, embedded" in tex
    assert (
        r" & n & gap & 95 \% (paired t) & p & Holm & sign-flip & 95 \% (bootstrap) & detectable \\"
        "\n  \\midrule\n"
        r"  none (VV + VD) & 2 & $-$2.0 & $-$3.2 to $-$0.8 & \textless{} 0.001 & \textless{} 0.001 & 0.500 & "
        r"$-$4.0 to +0.5 & 1.3 \\"
        "\n"
        r"  DC & 1 & $-$1.0 & -- & -- & -- & -- & -- & -- \\"
    ) in tex
    plain = render.latex(evident(comparisons=(), references=()))
    assert "dagger" not in plain and "italics" not in plain


def test_a_wide_table_goes_on_below_with_its_labels() -> None:
    columns = tuple(Column(f"m{i}", "a title of some forty letters, top-1 %", "embedded") for i in range(7))
    cells = {column.metric: Cell(None, {0: 1.0}) for column in columns}
    table = evident(
        columns=columns, rows=tuple(replace(row, cells=cells) for row in evident().rows), references=(), comparisons=()
    )
    parts = latex.tabulars(table)
    assert [part.count("top-1") for part in parts] == [3, 3, 1]
    assert all(part.count(r"\checkmark") == 3 and part.count(r"\rowcolor") == 1 for part in parts)
    assert len(latex.tabulars(evident())) == 1 == len(latex.tabulars(evident(columns=())))


def test_losses_are_set_as_the_paper_sets_them() -> None:
    assert latex.name("VD") == r"$\mathcal{L}_{\mathrm{VD}}$"
    assert latex.name("V_D") == r"V\_D"
    symbol = r"$\mathcal{L}_{\mathrm{Pix}}$"
    assert latex.tex_escape("L_Pix, “L_Pix” of L_Pix.") == f"{symbol}, ``{symbol}'' of {symbol}."
    for other in ("L_Pixel", "X_L_Pix", "runs/L_Pix.csv", "L_Pix/a"):
        assert "$" not in latex.tex_escape(other)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("packages", [None, "booktabs,graphicx", "booktabs,graphicx,colortbl,amssymb"])
@pytest.mark.parametrize("table", [evident(), nasty()], ids=["plain", "specials"])
def test_tex_compiles(tmp_path: Path, table: Table, packages: str | None) -> None:
    (tmp_path / "table.tex").write_text(render.latex(table))
    (tmp_path / "paper.tex").write_text(
        f"\\documentclass{{article}}\n\\usepackage[utf8]{{inputenc}}\n\\usepackage{{{packages}}}\n"
        "\\begin{document}\n\\input{table}\n\\def\\fimaevidence{}\\input{table}\n\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex" if packages else "table.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and "too large" not in done.stdout


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_long_notes_go_on_over_pages(tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(render.latex(evident(notes=("a note of some length. " * 40,) * 20)))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and "too large" not in done.stdout
    assert int(re.search(r"\((\d+) pages", done.stdout)[1]) > 1  # type: ignore[index]


# --- Markdown


def test_csv_names_the_stage_of_each_value() -> None:
    lines = [line for line in render.as_csv(evident()).splitlines() if not line.startswith("#")]
    first = next(csv.DictReader(lines))
    assert (first["seeds"], first["values"]) == ("0 1", "50.0 51.0")
    assert first["uids"] == "lin-0-s0-000000000000 lin-0-s1-000000000001"


def test_gaps_of_other_seeds_than_the_means_are_pointed_out() -> None:
    rows = list(evident().rows)
    rows[0] = replace(rows[0], cells={METRIC: replace(rows[0].cells[METRIC], values={0: 50.0, 1: 51.0, 2: 59.0})})
    said = phrases.methods(evident(rows=tuple(rows)))[-1]
    assert said.endswith(
        "not from the means above (“none (VV + VD)”, linear probe, top-1 %, embedded: +0.8 there, −2.0 here)."
    )
    rows[1] = replace(rows[1], cells={METRIC: replace(rows[1].cells[METRIC], values={0: 51.0, 2: 51.9, 3: 51.8})})
    assert phrases.methods(evident(rows=tuple(rows)))[-1] == said  # the one that is furthest off
    near = replace(
        evident().rows[0], cells={METRIC: replace(rows[0].cells[METRIC], values={0: 50.0, 1: 51.0, 2: 51.9})}
    )
    assert "different seeds" not in " ".join(phrases.methods(evident(rows=(near, *evident().rows[1:]))))
    assert not any("different seeds" in line for line in phrases.methods(evident()))


def test_an_order_that_no_draw_alters_has_no_interval() -> None:
    (line,) = phrases.agreements(evident(agreements=(Agreement(METRIC, 3, 4, 1.0),)))
    assert line.endswith("Kendall tau 1.00 (every draw of these seeds gives the same: no interval; 3 rows, n = 4)")
    (line,) = phrases.agreements(evident(agreements=(Agreement(METRIC, 3, 1, 1.0),)))
    assert line.endswith("Kendall tau 1.00 (3 rows, n = 1)")


def test_markdown_compares_with_the_default_row() -> None:
    text = render.markdown(evident())
    assert (
        "## Against the default row\n\n"
        "Linear probe, top-1 %, embedded: row minus “DC + FS”, in points, paired by seed.\n\n"
        "| row | n | gap | 95 % interval (paired t) | p (paired t) | p after Holm | sign-flip p | "
        "95 % bootstrap over seeds and videos | smallest effect to be seen (80 % power) |\n"
        "|:---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        "| none (VV + VD) | 2 | −2.0 | −3.2 to −0.8 | \\< 0.001 | \\< 0.001 | 0.500 | −4.0 to +0.5 | 1.3 |\n"
        "| DC | 1 | −1.0 | – | – | – | – | – | – |\n\n"
        "The sign-flip test is exact: with n seeds its p cannot go below 2/2ⁿ, here 0.5 (n = 2).\n\n"
        "The bootstrap draws seeds and test videos with replacement, 4,000 times, the same videos for both rows and "
        "for all seeds of a draw; its interval is that of the percentiles.\n\n"
        "## Order of rows\n\n"
        "- linear probe, top-1 %, embedded: order of rows against the paper's: Kendall tau 0.60 "
        "(95 % −0.20 to 1.00 over seeds; 3 rows, n = 2)\n\n"
    ) in text


def test_markdown_claims_with_their_tests() -> None:
    text = render.markdown(evident())
    on = "linear probe, top-1 %, embedded"
    assert f"| FS helps | {on} | **supported** | gap +1.0 | 0.500 | +0.2 to +1.8 | – |\n" in text
    assert f"| DC helps | {on} | **undecided** | nothing | – | – | 3 |\n" in text


def test_markdown_references_and_origins() -> None:
    text = render.markdown(evident())
    assert "| DC + FS *(default)* | 72.0 | **52.5 ± 0.7 (2)** |\n| *random start* | – | *21.0 ± 1.4 (2)* |\n\n" in text
    assert (
        "<details>\n<summary>stages by row and seed: folders of the store</summary>\n\n"
        "| row | seed | pre-training | lin/ucf101 |\n|:---|---:|:---|:---|\n"
        "| none (VV + VD) | 0 | `pretrain-0-s0-000000000000` | `lin-0-s0-000000000000` |\n"
    ) in text
    assert "| random start | 0 | – | `lin-r-s0-aaa` |\n\n</details>\n" in text
    assert (
        "`fima-ablate run studies/table2_components.yaml --profile mini optim.steps=3 --seeds 0 --store again/runs "
        "--reports again/reports`"
    ) in text


def test_sections_without_content_are_left_out() -> None:
    bare = tuple(Row(row.label, {METRIC: Cell()}) for row in evident().rows)
    text = render.markdown(evident(rows=bare, references=(), comparisons=(), agreements=(), verdicts=()))
    assert "##" not in text and "details" not in text and "italics" not in text


def test_every_markdown_table_is_rectangular() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", render.markdown(nasty()), re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


# --- numbers


def test_numbers_without_a_value_are_dashes() -> None:
    assert [phrases.number(part, 1) for part in (None, float("nan"), float("inf"), -1.0)] == ["–", "–", "–", "−1.0"]
    assert phrases.interval(None, 1.0, 1) == "–"
    assert [phrases.probability(p) for p in (None, 0.0001, 0.0625, 0.5, 1.0)] == [
        "–", "< 0.001", "0.0625", "0.500", "1.000",
    ]  # fmt: skip
    assert phrases.agreements(evident(agreements=(Agreement(METRIC, 1, 1, None),))) == []


@pytest.mark.parametrize("table", [evident(), nasty()], ids=["plain", "specials"])
def test_every_format_is_the_same_bytes_and_knows_no_nan(table: Table) -> None:
    for text, again in zip(formats(table), formats(table), strict=True):
        assert text == again
        assert not re.search(r"\bnan\b", text, re.I)


# --- CSV, JSON, terminal


def test_csv_has_references_and_comparisons() -> None:
    import pandas as pd

    frame = pd.read_csv(io.StringIO(render.as_csv(evident())), comment="#")
    assert list(frame["reference"]) == [0, 0, 0, 1]
    first = frame.iloc[0]
    fields = ["gap", "gap_low", "gap_high", "p", "p_holm", "sign_flip", "boot_low", "boot_high", "detectable"]
    assert list(first[fields]) == [-2.0, -3.25, -0.75, 0.0004, 0.0008, 0.5, -4.0, 0.5, 1.26]
    assert frame.iloc[1]["gap"] == -1.0 and frame.iloc[1][fields[1:]].isna().all()
    assert frame.iloc[2:][fields].isna().all(axis=None)
    assert list(frame.columns[-10:]) == ["reference", *fields]


def test_json_has_references_comparisons_and_origins() -> None:
    plain = json.loads(render.as_json(evident()))
    cell = plain["references"][0]["cells"][METRIC]
    assert (cell["mean"], cell["values"], cell["uids"]) == (21.0, {"0": 20.0, "1": 22.0}, {"0": "lin-r-s0-aaa"})
    assert plain["comparisons"][0]["p_holm"] == 0.0008 and plain["agreements"][0]["tau"] == 0.6
    assert "commit" not in plain


def test_terminal_text_stays_short() -> None:
    lines = render.text(evident()).splitlines()[-7:]
    assert lines[0].startswith("DC + FS (default)") and set(lines[1]) == {"-"}
    assert lines[2].startswith("random start") and lines[2].endswith(" 21.0 ± 1.4 (2)  [–]")
    assert lines[4:] == [
        "linear probe, top-1 %, embedded: order of rows against the paper's: Kendall tau 0.60 "
        "(95 % −0.20 to 1.00 over seeds; 3 rows, n = 2)",
        "claim “FS helps”: supported: gap +1.0",
        "claim “DC helps”: undecided: nothing",
    ]
