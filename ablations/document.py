"""All tables together: one LaTeX document, and the claims of the paper over all studies."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any, get_args

from ablations import latex, markdown, phrases
from ablations.markup import Raw, templates
from ablations.phrases import Claimed
from ablations.table import Table
from ablations.verdicts import REPEAT_RULE, State, Verdict

STATES: tuple[State, ...] = get_args(State)
WIDTH = 100  # columns of a terminal
LOOKS = (
    "Each claim is judged as if it were the only one, by one look at its seeds. Of 100 differences that are truly "
    "zero, 8 would be called supported or contradicted at some look by whoever looks after every seed from three to "
    "sixteen (simulated, without the bootstrap)."
)
HEADER = (
    "table", "study", "claim", "on", "verdict", "evidence", "n", "sign-flip p", "bootstrap interval",
    "seeds still needed",
)  # fmt: skip


def in_order(tables: Sequence[Table]) -> list[Table]:
    """As the paper numbers its tables; those it does not have come last, as given."""

    def place(table: Table) -> tuple[float, str]:
        found = re.match(r"(\d+)(.*)", phrases.number_in_paper(table))
        return (int(found[1]), found[2]) if found else (float("inf"), "")

    return sorted(tables, key=place)


# --- LaTeX


def report_tex(tables: Sequence[Table]) -> str:
    """A document that pdflatex compiles by itself: what all share, every table, the claims."""
    tables = in_order(tables)
    facts = _shared(tables)
    marked = {table.level for table in tables if any(sign.startswith("†") for sign in latex.signs(table))}
    return (
        templates(latex.tex_escape, tex=True)
        .get_template("document.tex.jinja")
        .render(
            facts=facts,
            scale=list(dict.fromkeys(table.scale_line for table in tables if table.scale_line)),
            signs=_signs(tables, min(marked, default=None)),
            counts=_counts(_verdicts(tables)) if tables else "",
            parts=[_part(table, {name for name, _ in facts}) for table in tables],
            claims=[
                (table, claim, Raw(rf"\textbf{{{claim.state}}}"))
                for table in tables
                for claim in phrases.claimed(table)
            ],
            rules=phrases.rules(*tables),
            label=label,
        )
    )


def _shared(tables: Sequence[Table]) -> list[tuple[str, str]]:
    """The lines of the heading that every table has alike, scale apart."""
    each = [phrases.heading(table) for table in tables]
    alike = [line for line in each[0] if all(line in lines for lines in each)] if each else []
    return [(name, text) for name, text in alike if name in ("profile", "data", "seeds", "results from")]


def _signs(tables: Sequence[Table], level: float | None) -> list[str]:
    """How to read any of the tables."""
    said = [phrases.sentence(phrases.LEGEND), "Grey: the default row."]
    said.append(latex.dagger(level) if level is not None else "No row differs from its default row after correction.")
    if any(table.held_against() for table in tables):
        said.append(phrases.REFERENCES)
    return said


def _part(table: Table, shared: set[str]) -> dict[str, Any]:
    """One table for the template; what page 1 says is left out."""
    said = {"scale", *shared} if table.scale_line else shared
    return {
        "table": table,
        "title": f"{label(table)}: {table.title}",
        "tabulars": latex.tabulars(table),
        "remarks": phrases.remarks(table)[1:],
        "evidence": latex.evidence(table, claims=False),
        "heading": [(name, text) for name, text in phrases.heading(table) if name not in said],
    }


def label(table: Table) -> str:
    """ "Table 3d", or the study's name."""
    number = phrases.number_in_paper(table)
    return f"Table {number}" if number else table.study


# --- claims


def _verdicts(tables: Sequence[Table]) -> list[Verdict]:
    return [verdict for table in in_order(tables) for verdict in table.verdicts]


def _counts(verdicts: Sequence[Verdict]) -> str:
    """ "7 supported, 3 contradicted, 12 undecided" """
    states = [verdict.state for verdict in verdicts]
    return ", ".join(f"{states.count(state)} {state}" for state in STATES)


def claims_rows(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Every claim of every table, in the paper's order."""
    return [
        {
            "study": table.study,
            "table": phrases.number_in_paper(table),
            "claim": verdict.says,
            "metric": verdict.metric,
            "state": verdict.state,
            "n": verdict.n,
            "gap": verdict.gap,
            "low": verdict.low,
            "high": verdict.high,
            "sign_flip": verdict.sign_flip,
            "boot": None if verdict.boot_low is None else [verdict.boot_low, verdict.boot_high],
            "needed": verdict.needed,
            "untold": verdict.untold,
            "repeat": verdict.repeat,
            "words": verdict.words,
        }
        for table in in_order(tables)
        for verdict in table.verdicts
    ]


def claims_markdown(tables: Sequence[Table]) -> str:
    """Every claim as one Markdown table, the scale above it."""
    tables = in_order(tables)
    lines = ["# Claims of the paper, as measured", ""]
    for scale in _scales(tables):
        lines += [f"> **{markdown.md_escape(phrases.sentence(scale).removesuffix('.'))}**", ""]
    profiles = list(dict.fromkeys(phrases.profile(table) for table in tables))
    if profiles:
        lines += [f"- profile: {markdown.md_escape(', '.join(profiles))}", ""]
    lines += [f"{_counts(_verdicts(tables))}", "", LOOKS, "", f"{REPEAT_RULE}.", ""]
    cells = [
        [phrases.number_in_paper(table) or phrases.MISSING, table.study, *start, str(verdict.n), *end]
        for table in tables
        for verdict in table.verdicts
        for start, end in [_halves(phrases.claim(table, verdict))]
    ]
    return "\n".join(lines) + "\n" + markdown.grid(HEADER, cells, "lllllrrrr")


def _halves(claim: Claimed) -> tuple[list[str], list[str]]:
    cells = markdown.claim_cells(claim)
    return cells[:4], cells[4:]


def claims_text(tables: Sequence[Table]) -> str:
    """Every claim for a terminal: counts, then the claims by verdict."""
    tables = in_order(tables)
    out = [line for scale in _scales(tables) for line in textwrap.wrap(scale, WIDTH)]
    out.append(_counts(_verdicts(tables)))
    for state in STATES:
        found = [(table, claim) for table in tables for claim in phrases.claimed(table) if claim.state == state]
        if not found:
            continue
        out += ["", state]
        for table, claim in found:
            out += textwrap.wrap(f"{label(table)}: {claim.says}", WIDTH, initial_indent="  ", subsequent_indent="    ")
            more = f"{claim.on}: {claim.evidence}{claim.more}"
            out += textwrap.wrap(more, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(out)


def _scales(tables: Sequence[Table]) -> list[str]:
    return list(dict.fromkeys(table.scale_line for table in tables if table.warning))
