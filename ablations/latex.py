"""A table as LaTeX, laid out as the paper lays out its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations import phrases
from ablations.markup import Raw, templates
from ablations.stats import Comparison
from ablations.table import Column, Row, Table

CHECK = Raw(r"$\checkmark$")
GREY = r"\rowcolor[gray]{0.9} "
DAGGER = r"$^{\dagger}$"
LOSSES = {name: Raw(rf"$\mathcal{{L}}_{{\mathrm{{{name}}}}}$") for name in ("VV", "VD", "Pix", "Fra")}
NAMED_LOSS = re.compile(rf"(?<![\w/.])L\\_({'|'.join(LOSSES)})(?![\w/.]*\w)")  # and no part of a path
PART = re.compile(r"[A-Za-z]\w{0,7}")  # name of a component
AGAINST = ("n", "gap", "{level} (paired t)", "p", "Holm", "sign-flip", "{level} (bootstrap)", "detectable")
ROOM = 165  # characters that fit side by side on a landscape page
DIGITS = 12  # of a uid that a footnote gives

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "·": r"$\cdot$",
    "†": r"$\dagger$",
    "…": r"\ldots{}",
    "ⁿ": "$^n$",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "\u00a0": "~",
}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi "
    "psi omega"
)
_GREEK_LETTERS = "αβγδεζηθικλμνξοπρστυφχψω"
_TEX |= {
    letter: f"${chr(92)}{name}$" if name != "omicron" else "$o$"
    for letter, name in zip(_GREEK_LETTERS, _GREEK.split(), strict=True)
}
_TEX |= {"Δ": r"$\Delta$", "Σ": r"$\Sigma$", "Ω": r"$\Omega$", "µ": r"$\mu$"}


def tex_escape(text: str) -> Raw:
    """Text that pdflatex typesets as it stands, on one line.

    Latin-1 letters pass; other Latin letters lose their accent, because not every font encoding has it; a sign
    that pdflatex has no glyph for is written as its code point. "L_Pix" and the other losses become symbols.
    """
    out = []
    for sign in re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)):
        if sign in _TEX:
            out.append(_TEX[sign])
        elif ord(sign) < 0x7F or (0xC0 <= ord(sign) <= 0xFF and sign not in "ÐÞðþ÷"):
            out.append(sign)
        else:
            base = unicodedata.normalize("NFKD", sign)[0]
            out.append(base if base.isascii() and base.isalnum() else f"[U+{ord(sign):04X}]")
    # ligatures would turn a command-line option's two hyphens into a dash
    written = re.sub(r"(?<!-)--(?!-)", "-{}-", "".join(out)) if "--" in text else "".join(out)
    return Raw(NAMED_LOSS.sub(lambda found: LOSSES[found[1]], written))


# --- the columns that name a row


@dataclass(frozen=True)
class RowColumns:
    """The leading columns: their heads, and for each label its cells; a single cell runs over all of them."""

    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    checks: bool = False  # cells are marks: "x" or ""

    @property
    def width(self) -> int:
        return len(self.heads)


def row_columns(labels: Sequence[str], settings: Sequence[Mapping[str, Any]] = ()) -> RowColumns:
    """How labels become columns: marks of components, the fields of a grid, else one column.

    Args:
        labels: of all rows.
        settings: what each row sets; a setting that a field repeats in every row names that field's column.
    """
    return _components(labels) or _fields(labels, settings) or RowColumns(("",), tuple((label,) for label in labels))


def _components(labels: Sequence[str]) -> RowColumns | None:
    """ "DC", "DC + FS", "DC + MD": a column per component. A label that shares none with another stays text."""
    split = [label.split(" + ") for label in labels]
    parts = [tuple(own) if all(PART.fullmatch(part) for part in own) else () for own in split]
    shared = [any(set(own) & set(other) for j, other in enumerate(parts) if j != i) for i, own in enumerate(parts)]
    made = [own if shares else () for own, shares in zip(parts, shared, strict=True)]
    names = tuple(dict.fromkeys(part for own in made for part in own))
    sets = [frozenset(own) for own in made if own]
    if len(names) < 2 or len(set(sets)) < max(len(sets), 2):
        return None
    cells = (
        tuple("x" * (name in own) for name in names) if own else (label,)
        for own, label in zip(made, labels, strict=True)
    )
    return RowColumns(names, tuple(cells), checks=True)


def _fields(labels: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> RowColumns | None:
    """ "256, 4 heads", "512, 8 heads": a column per field; a word that all rows have is its head."""
    split = [label.split(", ") for label in labels]
    width = len(split[0]) if split else 0
    if width < 2 or any(len(own) != width or not all(own) for own in split):
        return None
    columns = [_field([own[i] for own in split], settings) for i in range(width)]
    rows = zip(*(cells for _, cells in columns), strict=True)
    return RowColumns(tuple(head for head, _ in columns), tuple(rows))


def _field(cells: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> tuple[str, Sequence[str]]:
    """Head and cells of one field."""
    pairs = [cell.partition(" ") for cell in cells]
    words = {word for _, _, word in pairs}
    if len(words) == 1 and words != {""}:
        return words.pop(), [first for first, _, _ in pairs]
    for name in settings[0] if settings else ():
        if [phrases.joined(own.get(name)) for own in settings] == list(cells):
            return name.rpartition(".")[2], cells
    return "", cells


# --- the table


def name(text: str) -> Raw:
    """A loss in the paper's letters, other text as it is."""
    return LOSSES.get(text) or tex_escape(text)


def latex(table: Table) -> str:
    """The table for \\input in a document, or compiled by itself."""
    return (
        templates(tex_escape, tex=True)
        .get_template("table.tex.jinja")
        .render(
            table=table,
            heading=phrases.heading(table),
            profile=phrases.profile(table),
            tabulars=tabulars(table),
            remarks=[*filter(None, [phrases.sentence(table.scale_line)]), *phrases.remarks(table), *signs(table)],
            evidence=evidence(table),
        )
    )


def signs(table: Table) -> list[str]:
    """What grey, italics and daggers mean, as far as the table has them."""
    against = next((row.label for row in table.rows if row.default), None)
    marked = any(phrases.differs(table, row.label, column.metric) for row in table.rows for column in table.visible)
    said = [f"Grey: the default row, “{against}”."] if against is not None else []
    if table.held_against():
        said.append(phrases.REFERENCES)
    if marked:
        said.append(dagger(table.level))
    return said


def dagger(level: float) -> str:
    return (
        f"†: differs from the default row, p < {1 - level:.2g} (paired t test over three seeds or more, after Holm's "
        "correction over all comparisons of the table)."
    )


def tabulars(table: Table) -> list[Raw]:
    """Tabular environments, of booktabs and colortbl: one, or several below each other where one would be too wide.

    Of several the first holds what the paper prints.
    """
    left = row_columns([row.label for row in table.rows], [row.settings for row in table.rows])
    room = ROOM - max([0, *(sum(len(cell) + 3 for cell in cells) for cells in (left.heads, *left.cells))])
    groups: list[list[Column]] = [[]]
    used = 0.0
    whole = sum(_width(table, column) for column in table.visible) <= room
    for column in sorted(table.visible, key=lambda column: not whole and not table.has_paper(column)):
        width = _width(table, column)
        if groups[-1] and used + width > room:
            groups.append([])
            used = 0.0
        groups[-1].append(column)
        used += width
    return [*(_tabular(table, left, columns) for columns in groups), *_cited(table)]


def _cited(table: Table) -> list[Raw]:
    """The printed lines as a tabular of their own, what is only cited in italics; none where there are none."""
    head, lines = phrases.cited(table)
    found = table.literature
    if found is None:
        return []
    spec = "ll" + "rr" + "l" + "r" * len(found.columns) + "l"
    rows = [
        _across(len(head), Raw(rf"\textbf{{{tex_escape(phrases.CITED)}}}")) + r" \\",
        _line([name(h) for h in head]),
    ]
    rows.append(r"\midrule")
    for line, cells in zip(found.lines, lines, strict=True):
        shown = [tex_escape(cell) for cell in cells]
        rows.append(_line(shown if line.row else [Raw(rf"\textit{{{cell}}}") for cell in shown]))
    inner = "\n".join(f"    {row}" for row in [r"\toprule", *rows, r"\bottomrule"])
    return [Raw(f"\\begin{{tabular}}{{{spec}}}\n{inner}\n  \\end{{tabular}}")]


def _width(table: Table, column: Column) -> float:
    """Characters that a metric takes, roughly."""
    theirs = max(6, 0.8 * len(column.paper_data)) + 2 if table.has_paper(column) else 0
    return max(len(column.title), theirs + max(14, 0.8 * len(column.data))) + 2


def _tabular(table: Table, left: RowColumns, columns: Sequence[Column]) -> Raw:
    wide = left.width > 1
    held = table.held_against(columns)
    texts = held or any(len(cells) < left.width for cells in left.cells)
    filler = [Raw("")] if left.checks and texts else []  # a column that takes the width of labels that are text
    lead = left.width + len(filler)
    start = lead + 1
    rules = [rf"\cmidrule(lr){{1-{lead}}}"] if wide else []
    top = [Raw(rf"\multicolumn{{{lead}}}{{c}}{{{tex_escape(table.title)}}}") if wide else Raw("")]
    kinds = [*(name(head) for head in left.heads), *filler] if wide else [tex_escape(table.title)]
    data = [Raw("")] * lead
    for column in columns:
        span = 2 if table.has_paper(column) else 1
        rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
        top.append(Raw(rf"\multicolumn{{{span}}}{{c}}{{{tex_escape(column.title)}}}"))
        if span == 2:
            kinds.append(Raw("paper"))
            data.append(Raw(rf"\footnotesize {tex_escape(column.paper_data)}"))
        marks = ",".join(str(n) for n in column.notes)
        kinds.append(Raw("measured" + (rf"\textsuperscript{{{marks}}}" if marks else "")))
        data.append(Raw(rf"\footnotesize {tex_escape(column.data)}"))
    spec = ("c" if left.checks else "l") * left.width + "l" * len(filler) + "r" * (start - lead - 1)
    lines = [_line(top), "".join(rules), _line(kinds), _line(data), r"\midrule"]
    for row, cells in zip(table.rows, left.cells, strict=True):
        shown = [*(CHECK if cell else Raw("") for cell in cells), *filler] if left.checks else [*map(name, cells)]
        if len(cells) < left.width:
            shown = [_across(lead, name(cells[0]))]
        lines.append((GREY if row.default else "") + _line([*shown, *_cells(table, row, columns)]))
    if held:
        lines.append(r"\midrule")
    for row in held:
        label = Raw(rf"\textit{{{tex_escape(row.label)}}}")
        lines.append(_line([_across(lead, label) if wide else label, *_cells(table, row, columns, reference=True)]))
    inner = "\n".join(f"    {line}" for line in [r"\toprule", *lines, r"\bottomrule"])
    return Raw(f"\\begin{{tabular}}{{{spec}}}\n{inner}\n  \\end{{tabular}}")


def _across(width: int, text: Raw) -> Raw:
    return Raw(rf"\multicolumn{{{width}}}{{l}}{{{text}}}")


def _line(cells: Sequence[Raw]) -> str:
    return " & ".join(cells) + r" \\"


def _cells(table: Table, row: Row, columns: Sequence[Column], reference: bool = False) -> list[Raw]:
    cells = []
    for column in columns:
        cell = phrases.cell_of(row, column)
        if table.has_paper(column):
            cells.append(tex_escape(phrases.paper(cell, column)))
        text = tex_escape(phrases.measured(cell, column))
        mark = DAGGER if not reference and phrases.differs(table, row.label, column.metric) else ""
        cells.append(Raw((rf"\textbf{{{text}}}" if cell.best and not reference else text) + mark))
    return cells


# --- below the table


def evidence(table: Table, claims: bool = True) -> list[Raw]:
    """Paragraphs: comparisons, order, claims and their rules where asked for, failures, origins."""
    against = [_against(table, column, comparisons) for column, comparisons in phrases.compared(table)]
    found = []
    if against:
        said = (
            "Gap: row minus default row in points, paired by seed; p: paired t test; Holm: the same after Holm's "
            "correction; detectable: the smallest true difference that p finds with 80 % power."
        )
        found.append(" ".join([said, *phrases.methods(table)]))
    found += [phrases.sentence(line) for line in phrases.agreements(table)]
    if claims:
        for one in phrases.claimed(table):
            found.append(f"Claim: {one.says} ({one.on}): {one.state}: {one.evidence}{one.more}.")
        found += phrases.rules(table)
    found += table.failures
    return [*against, *(tex_escape(line) for line in found), *_origins(table)]


def _against(table: Table, column: Column, comparisons: Sequence[Comparison]) -> Raw:
    """Rows against the default row, on one metric; no wider than the text."""
    places, level = phrases.digits(table, column.metric), f"{100 * table.level:g} %"
    head = [Raw(""), *(tex_escape(name.format(level=level)) for name in AGAINST)]
    lines = [[tex_escape(cell) for cell in phrases.comparison(one, places)] for one in comparisons]
    title = f"Against “{comparisons[0].against}”: {phrases.subject(table, column.metric)}"
    inner = "\n".join(
        f"  {line}" for line in [r"\toprule", _line(head), r"\midrule", *map(_line, lines), r"\bottomrule"]
    )
    rows = f"\\begin{{tabular}}{{lrrrrrrrr}}\n{inner}\n\\end{{tabular}}"
    fitted = rf"\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{{rows}}}"
    return Raw(f"{tex_escape(title)}\\par\\nopagebreak\n{fitted}\\smallskip")


def _origins(table: Table) -> list[Raw]:
    """The pre-training of each row and seed, in small print."""
    rows: dict[str, list[str]] = {}
    for one in phrases.origins(table):
        if one.pretrain:
            digits = tex_escape(one.pretrain[-DIGITS:])
            rows.setdefault(one.label, []).append(rf"{one.seed}: \texttt{{{digits}}}")
    if not rows:
        return []
    each = "; ".join(f"{tex_escape(f'“{label}”')} {', '.join(seeds)}" for label, seeds in rows.items())
    return [Raw(rf"{{\scriptsize Pre-trainings by seed, the last {DIGITS} digits of each uid: {each}.\par}}")]
