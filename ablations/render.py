"""A table as text: Markdown, LaTeX, CSV, JSON, terminal. Pure functions of the table, the same bytes every time."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    import jinja2

MISSING = "–"
FORMAT = 1  # of table.json; counts up when a key changes its meaning
LEGEND = (
    "measured: mean ± sample standard deviation (number of seeds); bold: best measured mean, ties included; "
    "paper: the number printed there"
)


class Raw(str):
    """Text that is markup already and must not be escaped."""


def number(value: float | None, decimals: int) -> str:
    """Fixed decimals with a real minus sign; a dash where there is none."""
    return MISSING if value is None else f"{value:.{decimals}f}".replace("-", "−")


def measured(cell: Cell, column: Column) -> str:
    """ "61.2 ± 1.3 (5)", "61.2 (1)" for one seed, a dash for none; sizes do not depend on the seed."""
    if cell.mean is None:
        return MISSING
    if column.unit == "M" and not cell.std:
        return number(cell.mean, column.decimals)
    spread = "" if cell.std is None else f" ± {number(cell.std, column.decimals)}"
    return f"{number(cell.mean, column.decimals)}{spread} ({cell.n})"


def paper(cell: Cell, column: Column) -> str:
    """The paper's number, never rounded away."""
    if cell.paper is None:
        return MISSING
    written = f"{cell.paper:g}"
    places = len(written.partition(".")[2]) if "e" not in written else column.decimals
    return number(cell.paper, max(places, column.decimals if column.unit == "×" else 1 if column.decimals else 0))


def value(setting: Any) -> str:
    """A setting as one would write it in YAML on one line."""
    if isinstance(setting, bool):
        return "true" if setting else "false"
    if isinstance(setting, (list, tuple)):
        return "[" + ", ".join(value(part) for part in setting) + "]"
    if setting is None:
        return "none"
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def heading(table: Table) -> list[tuple[str, str]]:
    """What a reader must know before the first number: (name, text) pairs, the same in every format."""
    lines = [("study", table.study), ("compared with", table.paper), ("profile", _profile(table))]
    if table.scale_line:
        lines.append(("scale", table.scale_line))
    lines += [
        ("data", "; ".join(f"{role}: {title}" for role, title in table.data.items()) or MISSING),
        ("seeds", ", ".join(str(seed) for seed in table.seeds)),
        ("commit", table.commit),
        ("command", table.command),
    ]
    return lines + ([("results from", _made(table))] if table.environments else [])


def _made(table: Table) -> str:
    """The commits, library and devices of the results themselves, which may be older than the report."""

    def several(name: str, of: Callable[[Mapping[str, Any]], str | None]) -> list[str]:
        found = list(dict.fromkeys(text for environment in table.environments if (text := of(environment))))
        return [f"{name} {' or '.join(found)}"] if found else []

    def commit(environment: Mapping[str, Any]) -> str | None:
        head = environment.get("commit")
        return f"{head}{'+dirty' if environment.get('dirty') else ''}" if head else None

    def device(environment: Mapping[str, Any]) -> str | None:
        kind, _, name = str(environment.get("device", "")).partition(":")
        threads = environment.get("threads")
        on = name.strip() or environment.get("cpu") or kind
        return f"{on} ({threads} thread{'s' if threads != 1 else ''})" if kind == "cpu" and threads else on or None

    def torch(environment: Mapping[str, Any]) -> str | None:
        return str(environment["torch"]) if "torch" in environment else None

    return ", ".join([*several("commit", commit), *several("PyTorch", torch), *several("on", device)])


def _profile(table: Table) -> str:
    return f"{table.profile} ({table.profile_title})" if table.profile_title else table.profile


def remarks(table: Table) -> list[str]:
    """Everything that follows the table except the numbered notes and the claims."""
    lines = [LEGEND[0].upper() + LEGEND[1:] + "."]
    if table.scaled:
        lines.append(
            "Settings that the paper states in absolute numbers and this profile scales: " + _scaled(table) + "."
        )
    if table.departures:
        pairs = ", ".join(f"{name} = {value(setting)}" for name, setting in table.departures.items())
        lines.append(f"Settings of every row that differ from the paper's recipe for I3D on UCF101: {pairs}.")
    return lines


def _scaled(table: Table) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for change in table.scaled:
        pair = f"{value(change.paper)} → {value(change.used)}"
        pairs = groups.setdefault((change.name, change.rule), [])
        if pair not in pairs:
            pairs.append(pair)
    return "; ".join(
        f"{name}{f' × {rule}' if rule else ''}: {', '.join(pairs)}" for (name, rule), pairs in groups.items()
    )


# --- Markdown


def markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown."""
    environment = _jinja("md")
    return environment.get_template("table.md.jinja").render(
        table=table,
        heading=heading(table),
        header=[md_escape(table.title), *_md_header(table)],
        lines=[_md_row(table, row) for row in table.rows],
        remarks=remarks(table),
        verdicts=_verdict_rows(table),
        rules=_rules(table),
    )


def md_escape(text: str) -> Raw:
    """Markdown's special characters as themselves; one line."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"([\\|*`<>])", r"\\\1", text).replace("](", r"]\(")
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return Raw(re.sub(r"^(\d+)\.", r"\1\\.", text) if re.fullmatch(r"\d+\.\s.*", text) else text)


def _md_header(table: Table) -> list[Raw]:
    cells = []
    for column in table.visible:
        if table.has_paper(column):
            cells.append(md_escape(column.paper_title))
        marks = "".join(f" [{n}]" for n in column.notes)
        cells.append(Raw(md_escape(column.measured_title) + marks))
    return cells


def _md_row(table: Table, row: Row) -> list[Raw]:
    cells = [Raw(md_escape(row.label) + (" *(default)*" if row.default else ""))]
    for column in table.visible:
        cell = row.cells[column.metric]
        if table.has_paper(column):
            cells.append(Raw(paper(cell, column)))
        text = measured(cell, column)
        cells.append(Raw(f"**{text}**" if cell.best else text))
    return cells


def _verdict_rows(table: Table) -> list[tuple[str, str, str]]:
    titles = {column.metric: column.measured_title.removesuffix(", measured") for column in table.columns}
    return [(verdict.says, titles.get(verdict.metric, verdict.metric), verdict.words) for verdict in table.verdicts]


def _rules(table: Table) -> list[str]:
    """How each kind of claim is judged, once per rule."""
    kinds: dict[str, list[str]] = {}
    for verdict in table.verdicts:
        if verdict.rule and verdict.kind not in kinds.setdefault(verdict.rule, []):
            kinds[verdict.rule].append(verdict.kind)
    what = "this reduced scale" if table.reduced else "these settings and videos"
    limit = [f"A verdict speaks of {what} only."] if table.verdicts and table.departs else []
    return limit + [f"Rule for {', '.join(names)}: {rule}." for rule, names in kinds.items()]


# --- LaTeX

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
    "…": r"\ldots{}",
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
    that pdflatex has no glyph for is written as its code point.
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
    return Raw(re.sub(r"(?<!-)--(?!-)", "-{}-", "".join(out)) if "--" in text else "".join(out))


def latex(table: Table) -> str:
    """The table as LaTeX: for \\input in a document with booktabs and graphicx, or compiled by itself."""
    columns = table.visible
    spans = [2 if table.has_paper(column) else 1 for column in columns]
    rules, start = [], 2
    for span in spans:
        rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    top, kinds, data = [Raw("")], [tex_escape(table.title)], [Raw("")]
    for column, span in zip(columns, spans, strict=True):
        top.append(Raw(rf"\multicolumn{{{span}}}{{c}}{{{tex_escape(column.title)}}}"))
        if span == 2:
            kinds.append(Raw("paper"))
            data.append(Raw(rf"\footnotesize {tex_escape(column.paper_data)}"))
        marks = ",".join(str(n) for n in column.notes)
        kinds.append(Raw("measured" + (rf"\textsuperscript{{{marks}}}" if marks else "")))
        data.append(Raw(rf"\footnotesize {tex_escape(column.data)}"))
    return (
        _jinja("tex")
        .get_template("table.tex.jinja")
        .render(
            table=table,
            heading=heading(table),
            spec=Raw("l" + "r" * sum(spans)),
            head=[_tex_line(top), Raw("".join(rules)), _tex_line(kinds), _tex_line(data)],
            lines=[_tex_line(_tex_row(table, row)) for row in table.rows],
            remarks=remarks(table),
            verdicts=_verdict_rows(table),
            rules=_rules(table),
        )
    )


def _tex_line(cells: list[Raw]) -> Raw:
    return Raw(" & ".join(cells) + r" \\")


def _tex_row(table: Table, row: Row) -> list[Raw]:
    cells = [Raw(tex_escape(row.label) + (r" \textit{(default)}" if row.default else ""))]
    for column in table.visible:
        cell = row.cells[column.metric]
        if table.has_paper(column):
            cells.append(tex_escape(paper(cell, column)))
        text = tex_escape(measured(cell, column))
        cells.append(Raw(rf"\textbf{{{text}}}") if cell.best else text)
    return cells


# --- CSV, JSON, terminal

CSV_FIELDS = (
    "study", "profile", "row", "default", "metric", "title", "measured_on", "paper_on", "paper", "mean", "std", "half",
    "n", "best", "seeds", "values", "missing", "chance", "protocol", "same_as", "reduced_scale",
)  # fmt: skip


def as_csv(table: Table) -> str:
    """One line per row and metric, below comment lines that start with `#` (pandas: comment="#").

    half: half width of the 95 % t interval; seeds and values: in the same order, separated by spaces.
    """
    out = io.StringIO()
    out.write("".join(f"# {name}: {_flat(text)}\n" for name, text in heading(table)))
    out.write(f"# {_flat(' '.join(remarks(table)))}\n")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(CSV_FIELDS)
    for row in table.rows:
        for column in table.columns:
            cell = row.cells[column.metric]
            seeds = sorted(cell.values)
            fields = [table.study, table.profile, row.label, int(row.default), column.metric, column.title]
            fields += [column.data, column.paper_data, cell.paper, cell.mean, cell.std, cell.half, cell.n]
            fields += [int(cell.best), " ".join(map(str, seeds)), " ".join(repr(cell.values[seed]) for seed in seeds)]
            fields += ["; ".join(f"seed {seed}: {why}" for seed, why in sorted(cell.missing.items())), column.chance]
            fields += ["; ".join(column.protocols), column.same_as or "", int(table.departs)]
            writer.writerow(["" if part is None else part for part in fields])
    return out.getvalue()


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def as_json(table: Table) -> str:
    """Everything, numbers unrounded."""
    plain = dataclasses.asdict(table)
    for row, source in zip(plain["rows"], table.rows, strict=True):
        for metric, cell in source.cells.items():
            entry = row["cells"][metric]
            entry |= {"mean": cell.mean, "std": cell.std, "half": cell.half, "n": cell.n}
            entry["values"] = {str(seed): cell.values[seed] for seed in sorted(cell.values)}
            entry["missing"] = {str(seed): cell.missing[seed] for seed in sorted(cell.missing)}
    plain = {"format": FORMAT, "scale_line": table.scale_line, "legend": LEGEND} | plain
    return json.dumps(_finite(plain), ensure_ascii=False, indent=1, default=str) + "\n"


def _finite(data: Any) -> Any:
    """JSON has no NaN and no infinity: written as text."""
    if isinstance(data, dict):
        return {str(key): _finite(part) for key, part in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(part) for part in data]
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def text(table: Table) -> str:
    """For a terminal: aligned columns, the scale, the claims in words."""
    header, data, theirs = [table.title], [""], [""]
    for column in table.visible:
        header.append(column.title)
        data.append(column.data)
        named = f": {column.paper_data}" if column.paper_data else ""
        theirs.append(f"[paper{named}]" if table.has_paper(column) else "")
    lines = [header, data, theirs]
    for row in table.rows:
        cells = [row.label + (" (default)" if row.default else "")]
        for column in table.visible:
            cell = row.cells[column.metric]
            ours = ("*" if cell.best else "") + measured(cell, column)
            cells.append(f"{ours}  [{paper(cell, column)}]" if table.has_paper(column) else ours)
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    out = [f"{table.study} · {table.paper} · profile {_profile(table)}"]
    if table.scale_line:
        out.append(table.scale_line)
    for i, line in enumerate(lines):
        if i == 3:
            out.append("-" * (sum(widths) + 2 * len(widths) - 2))
        first = line[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        out.append("  ".join([first, *rest]).rstrip())
    out.append("mean ± std (seeds); * best measured; [the paper's]")
    out += [f"claim “{verdict.says}”: {verdict.words}" for verdict in table.verdicts]
    out += list(table.failures)
    return "\n".join(out)


@functools.cache
def _jinja(kind: str) -> jinja2.Environment:
    """Templates that escape every value but Raw; LaTeX has delimiters that its own syntax does not use."""
    import jinja2

    escape = tex_escape if kind == "tex" else md_escape
    marks: dict[str, str] = {}
    if kind == "tex":
        marks = {"block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<"}
        marks |= {"variable_end_string": ">>", "comment_start_string": "<#", "comment_end_string": "#>"}
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda part: part if isinstance(part, Raw) else escape(str(part)),
        **marks,  # type: ignore[arg-type]
    )
