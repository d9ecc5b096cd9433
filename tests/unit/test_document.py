"""All tables in one document, and the claims over all studies."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from test_render_evidence import NASTY, evident, nasty

from ablations import document
from ablations.table import REDUCED, Table


def tables() -> list[Table]:
    """In no order: two of the paper's, one that it does not have."""
    return [
        evident(study="own", paper="no paper", verdicts=()),
        evident(study="table10_negatives", paper="Table 10 of Zhu et al.", verdicts=evident().verdicts[:1]),
        evident(study="table3d_beta", paper="Table 3d of Zhu et al.", seeds=(0, 1, 2)),
        evident(),
    ]


def test_order_is_the_papers() -> None:
    ordered = [table.study for table in document.in_order(tables())]
    assert ordered == ["table2_components", "table3d_beta", "table10_negatives", "own"]
    assert [document.label(table) for table in document.in_order(tables())] == [
        "Table 2", "Table 3d", "Table 10", "own",
    ]  # fmt: skip


# --- LaTeX


def test_document_holds_every_table_once_and_what_all_share_on_top() -> None:
    tex = document.report_tex(tables())
    assert re.findall(r"\\section\{(.*)\}", tex) == [
        r"Table 2: Components of $\mathcal{L}_{\mathrm{Pix}}$",
        r"Table 3d: Components of $\mathcal{L}_{\mathrm{Pix}}$",
        r"Table 10: Components of $\mathcal{L}_{\mathrm{Pix}}$",
        r"own: Components of $\mathcal{L}_{\mathrm{Pix}}$",
        "Claims of the paper, as measured",
    ]
    assert tex.count(r"\toprule") == tex.count("Against ``DC + FS''") + 4 + 1 and r"\input{" not in tex
    front = tex.partition(r"\section")[0]
    assert r"\textbf{Reduced scale: not a reproduction of the paper's numbers; small videos.}" in front
    assert "profile: mini\\par" in front and r"$\dagger$: differs" in front
    assert "seeds: " not in front and tex.count("seeds: 0, 1, 2;") == 1  # not alike in all
    assert tex.count("profile: mini\\par") == 1
    assert "claims of the paper: 3 supported, 0 contradicted, 2 undecided" in front
    assert tex.count("Rule for better: a rule.") == 1


def test_document_without_daggers_or_reduction_does_not_speak_of_them() -> None:
    tex = document.report_tex([evident(reduced=False, scale="", comparisons=())])
    assert "eproduction" not in tex and "dagger" not in tex and "No row differs" in tex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize(
    "chosen", [tables(), [nasty(), replace(evident(), command=NASTY)], []], ids=["plain", "specials", "none"]
)
def test_document_compiles(tmp_path: Path, chosen: list[Table]) -> None:
    (tmp_path / "report.tex").write_text(document.report_tex(chosen))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout, done.stdout[-4000:]


# --- claims


def test_claims_as_rows() -> None:
    rows = document.claims_rows(tables())
    assert [(row["table"], row["state"]) for row in rows] == [
        ("2", "supported"),
        ("2", "undecided"),
        ("3d", "supported"),
        ("3d", "undecided"),
        ("10", "supported"),
    ]
    assert rows[0] == {
        "study": "table2_components",
        "table": "2",
        "claim": "FS helps",
        "metric": "lin/ucf101",
        "state": "supported",
        "n": 2,
        "gap": 1.0,
        "low": 0.5,
        "high": 1.5,
        "sign_flip": 0.5,
        "boot": [0.25, 1.75],
        "needed": None,
        "untold": None,
        "repeat": None,
        "words": "supported: gap +1.0",
    }
    assert (rows[1]["boot"], rows[1]["needed"]) == (None, 3)


def test_claims_as_markdown() -> None:
    assert document.claims_markdown([evident()]) == (
        "# Claims of the paper, as measured\n\n"
        "> **Reduced scale: not a reproduction of the paper's numbers; small videos**\n\n"
        "- profile: mini\n\n"
        f"1 supported, 0 contradicted, 1 undecided\n\n{document.LOOKS}\n\n{document.REPEAT_RULE}.\n\n"
        "| table | study | claim | on | verdict | evidence | n | sign-flip p | bootstrap interval | "
        "seeds still needed |\n"
        "|:---|:---|:---|:---|:---|:---|---:|---:|---:|---:|\n"
        "| 2 | table2_components | FS helps | linear probe, top-1 %, embedded | **supported** | gap +1.0 | 2 | 0.500 | "
        "+0.2 to +1.8 | – |\n"
        "| 2 | table2_components | DC helps | linear probe, top-1 %, embedded | **undecided** | nothing | 0 | – | – | "
        "3 |\n"
    )


def test_claims_for_a_terminal() -> None:
    assert document.claims_text([evident()]) == (
        f"{REDUCED}; small videos\n"
        "1 supported, 0 contradicted, 1 undecided\n"
        "\n"
        "supported\n"
        "  Table 2: FS helps\n"
        "    linear probe, top-1 %, embedded: gap +1.0; sign-flip p 0.500; bootstrap +0.2 to +1.8\n"
        "\n"
        "undecided\n"
        "  Table 2: DC helps\n"
        "    linear probe, top-1 %, embedded: nothing"
    )
    assert max(map(len, document.claims_text([nasty()]).splitlines())) <= document.WIDTH


def test_no_tables_no_claims() -> None:
    assert document.claims_rows([]) == []
    assert document.claims_text([]) == "0 supported, 0 contradicted, 0 undecided"
    assert "0 supported" in document.claims_markdown([])


def test_same_bytes_every_time_and_no_nan() -> None:
    for of in (document.report_tex, document.claims_markdown, document.claims_text):
        text = of([*tables(), nasty()])
        assert text == of([*tables(), nasty()])
        assert not re.search(r"\bnan\b", text, re.I)
