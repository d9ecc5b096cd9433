"""A table as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ablations import phrases
from ablations.markup import Raw, templates
from ablations.phrases import MISSING
from ablations.table import Row, Table

AGAINST = (
    "row", "n", "gap", "{level} interval (paired t)", "p (paired t)", "p after Holm", "sign-flip p",
    "{level} bootstrap over seeds and videos", "smallest effect to be seen (80 % power)",
)  # fmt: skip
CLAIMS = ("claim", "on", "verdict", "evidence", "sign-flip p", "bootstrap interval", "seeds still needed")


def markdown(table: Table) -> str:
    """The table, its comparisons, claims and origins."""
    return (
        templates(md_escape)
        .get_template("table.md.jinja")
        .render(
            table=table,
            heading=phrases.heading(table),
            grid=grid(
                [md_escape(table.title), *_header(table)],
                [*(_row(table, row) for row in table.rows), *(_row(table, row, True) for row in table.held_against())],
                "r",
            ),
            cited=_cited(table),
            cited_title=phrases.CITED,
            remarks=phrases.remarks(table),
            references=phrases.REFERENCES,
            against=_against(table),
            methods=phrases.methods(table),
            agreements=phrases.agreements(table),
            claims=grid(CLAIMS, [claim_cells(claim) for claim in phrases.claimed(table)], "lllrrr")
            if table.verdicts
            else "",
            rules=phrases.rules(table),
            origins=_origins(table),
            again=code(phrases.again(table)),
        )
    )


def md_escape(text: str) -> Raw:
    """Markdown's special characters as themselves; one line."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"([\\|*`<>])", r"\\\1", text).replace("](", r"]\(")
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return Raw(re.sub(r"^(\d+)\.", r"\1\\.", text) if re.fullmatch(r"\d+\.\s.*", text) else text)


def code(text: str) -> Raw:
    """In the font of code, where that needs no escape."""
    return md_escape(text) if re.search(r"[`|\n]", text) else Raw(f"`{text}`")


def grid(header: Sequence[str], lines: Sequence[Sequence[str]], aligned: str) -> Raw:
    """A table of cells. The first column is to the left, the others as `aligned` says, whose last letter repeats."""
    sides = [aligned[min(i, len(aligned) - 1)] for i in range(len(header) - 1)]
    rule = "|:---|" + "".join("---:|" if side == "r" else ":---|" for side in sides)
    texts = [[cell if isinstance(cell, Raw) else md_escape(cell) for cell in line] for line in (header, *lines)]
    head, *body = ["| " + " | ".join(line) + " |" for line in texts]
    return Raw("\n".join([head, rule, *body]) + "\n")


def claim_cells(claim: phrases.Claimed) -> list[str]:
    return [
        claim.says, claim.on, Raw(f"**{claim.state}**"), claim.evidence, claim.sign_flip, claim.bootstrap, claim.needed,
    ]  # fmt: skip


def _header(table: Table) -> list[Raw]:
    cells = []
    for column in table.visible:
        if table.has_paper(column):
            cells.append(md_escape(column.paper_title))
        marks = "".join(f" [{n}]" for n in column.notes)
        cells.append(Raw(md_escape(column.measured_title) + marks))
    return cells


def _row(table: Table, row: Row, reference: bool = False) -> list[Raw]:
    def shown(text: str) -> Raw:
        return Raw(f"*{text}*" if reference and text != MISSING else text)

    cells = [Raw(shown(md_escape(row.label)) + (" *(default)*" if row.default and not reference else ""))]
    for column in table.visible:
        cell = phrases.cell_of(row, column)
        if table.has_paper(column):
            cells.append(shown(phrases.paper(cell, column)))
        text = phrases.measured(cell, column)
        cells.append(Raw(f"**{text}**") if cell.best and not reference else shown(text))
    return cells


def _cited(table: Table) -> Raw:
    """The printed lines; empty where there are none."""
    head, lines = phrases.cited(table)
    return grid(head, lines, "lrrl" + "r" * (len(head) - 6) + "l") if head else Raw("")


def _against(table: Table) -> list[tuple[str, str, Raw]]:
    """(metric in words, default row, table) per accuracy."""
    found = []
    level = f"{100 * table.level:g} %"
    for column, comparisons in phrases.compared(table):
        places = phrases.digits(table, column.metric)
        lines = [phrases.comparison(one, places) for one in comparisons]
        header = [name.format(level=level) for name in AGAINST]
        title = phrases.subject(table, column.metric)
        found.append((phrases.sentence(title).removesuffix("."), comparisons[0].against, grid(header, lines, "r")))
    return found


def _origins(table: Table) -> Raw:
    """Which stages each number comes from; empty where no uid is known."""
    found = phrases.origins(table)
    if not found:
        return Raw("")
    header = ["row", "seed", "pre-training", *(column.metric for column in table.visible)]
    lines = [
        [one.label, str(one.seed), *(code(uid) if uid else MISSING for uid in (one.pretrain, *one.stages))]
        for one in found
    ]
    return grid(header, lines, "rl")
