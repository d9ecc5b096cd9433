"""A table as text: Markdown, LaTeX, CSV, JSON, terminal. Pure functions of the table, the same bytes every time."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from typing import Any

from ablations.latex import latex, tex_escape
from ablations.markdown import markdown, md_escape
from ablations.markup import Raw
from ablations.phrases import (
    CITED,
    LEGEND,
    MISSING,
    agreements,
    cell_of,
    cited,
    heading,
    measured,
    number,
    paper,
    profile,
    remarks,
    value,
)
from ablations.stats import Comparison
from ablations.table import Column, Row, Table

__all__ = [
    "CSV_FIELDS",
    "FORMAT",
    "LEGEND",
    "MISSING",
    "Raw",
    "as_csv",
    "as_json",
    "heading",
    "latex",
    "markdown",
    "md_escape",
    "measured",
    "number",
    "paper",
    "remarks",
    "tex_escape",
    "text",
    "value",
]

FORMAT = 2  # of table.json; counts up when a key changes its meaning
DIGITS = 10  # that are written of a float: what another machine's arithmetic may change comes after them

COMPARED = ("gap", "low", "high", "p", "p_holm", "sign_flip", "boot_low", "boot_high", "detectable")
CSV_FIELDS = (
    "study", "profile", "row", "default", "metric", "title", "measured_on", "paper_on", "paper", "mean", "std", "half",
    "n", "best", "seeds", "values", "uids", "missing", "chance", "protocol", "same_as", "reduced_scale", "reference",
    "gap", "gap_low", "gap_high", *COMPARED[3:],
)  # fmt: skip

CITED_FIELDS = ("cited", "backbone", "frames", "resolution", "pretrain", "note", "here")  # where the study cites


def as_csv(table: Table) -> str:
    """One line per row and metric, below comment lines that start with `#` (pandas: comment="#").

    half: half width of the 95 % t interval; seeds, values and uids of the stages that measured them: in the same
    order, separated by spaces (no uids of what is derived from another column); reference: 1 where the row is none of
    the paper's; gap and what follows: against the default row, paired by seed. Where the study cites the literature,
    printed lines follow with cited = 1 and their recipe; one that a row stands for names it in `here`.
    """
    out = io.StringIO()
    out.write("".join(f"# {name}: {_flat(text)}\n" for name, text in heading(table)))
    out.write(f"# {_flat(' '.join(remarks(table)))}\n")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    more = CITED_FIELDS if table.literature else ()
    writer.writerow((*CSV_FIELDS, *more))
    found = {(one.label, one.metric): one for one in table.comparisons}
    for reference, rows in ((0, table.rows), (1, table.references)):
        for row in rows:
            for column in table.columns:
                one = None if reference else found.get((row.label, column.metric))
                fields = [
                    *_cell(table, row, column),
                    reference,
                    *_compared(one),
                    *(0 if f == "cited" else "" for f in more),
                ]
                writer.writerow(["" if part is None or part != part else _written(part) for part in fields])
    for line in _cited(table):
        writer.writerow(["" if part is None else _written(part) for part in line])
    return out.getvalue()


def _cited(table: Table) -> list[list[Any]]:
    """CSV lines of what is printed, one per line and metric."""
    found = []
    for line in table.literature.lines if table.literature else ():
        for metric, title in table.literature.columns if table.literature else ():
            if metric in line.paper:
                entry = {
                    "study": table.study, "profile": table.profile, "row": line.label, "metric": metric, "title": title,
                    "paper": line.paper[metric], "n": 0, "cited": 1, "backbone": line.backbone, "frames": line.frames,
                    "resolution": line.resolution, "pretrain": line.pretrain, "note": line.note, "here": line.row,
                }  # fmt: skip
                found.append([entry.get(field) for field in (*CSV_FIELDS, *CITED_FIELDS)])
    return found


def _cell(table: Table, row: Row, column: Column) -> list[Any]:
    cell = cell_of(row, column)
    seeds = sorted(cell.values)
    values = " ".join(repr(_written(cell.values[seed])) for seed in seeds)
    uids = " ".join(cell.uids.get(seed, MISSING) for seed in seeds) if cell.uids else ""
    missing = "; ".join(f"seed {seed}: {why}" for seed, why in sorted(cell.missing.items()))
    return [
        table.study, table.profile, row.label, int(row.default), column.metric, column.title, column.data,
        column.paper_data, cell.paper, cell.mean, cell.std, cell.half, cell.n, int(cell.best),
        " ".join(map(str, seeds)), values, uids, missing, column.chance,
        "; ".join(column.protocols), column.same_as or "", int(table.departs),
    ]  # fmt: skip


def _compared(one: Comparison | None) -> list[float | None]:
    return [None if one is None else getattr(one, field) for field in COMPARED]


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def as_json(table: Table) -> str:
    """Everything, floats to DIGITS significant digits."""
    plain = dataclasses.asdict(table)
    for rows, sources in ((plain["rows"], table.rows), (plain["references"], table.references)):
        for row, source in zip(rows, sources, strict=True):
            for metric, cell in source.cells.items():
                entry = row["cells"][metric]
                entry |= {"mean": cell.mean, "std": cell.std, "half": cell.half, "n": cell.n}
                entry["values"] = {str(seed): cell.values[seed] for seed in sorted(cell.values)}
                entry["missing"] = {str(seed): cell.missing[seed] for seed in sorted(cell.missing)}
    if table.literature is None:
        del plain["literature"]
    plain = {"format": FORMAT, "scale_line": table.scale_line, "legend": LEGEND} | plain
    return json.dumps(_finite(plain), ensure_ascii=False, indent=1, default=str) + "\n"


def _finite(data: Any) -> Any:
    """JSON has no NaN and no infinity: written as null, and infinity as text."""
    if isinstance(data, dict):
        return {str(key): _finite(part) for key, part in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(part) for part in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None if math.isnan(data) else str(data)
    return _written(data)


def _written(value: Any) -> Any:
    """A float to DIGITS significant digits; anything else as it is."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def text(table: Table) -> str:
    """For a terminal: aligned columns, the scale, the claims in words."""
    header, data, theirs = [table.title], [""], [""]
    for column in table.visible:
        header.append(column.title)
        data.append(column.data)
        named = f": {column.paper_data}" if column.paper_data else ""
        theirs.append(f"[paper{named}]" if table.has_paper(column) else "")
    lines = [header, data, theirs]
    for row in (*table.rows, *table.references):
        cells = [row.label + (" (default)" if row.default else "")]
        for column in table.visible:
            cell = cell_of(row, column)
            ours = ("*" if cell.best else "") + measured(cell, column)
            cells.append(f"{ours}  [{paper(cell, column)}]" if table.has_paper(column) else ours)
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    out = [f"{table.study} · {table.paper} · profile {profile(table)}"]
    if table.scale_line:
        out.append(table.scale_line)
    ruled = (3, 3 + len(table.rows)) if table.references else (3,)
    for i, line in enumerate(lines):
        if i in ruled:
            out.append("-" * (sum(widths) + 2 * len(widths) - 2))
        first = line[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        out.append("  ".join([first, *rest]).rstrip())
    out += _cited_text(table)
    out.append("mean ± std (seeds); * best measured; [the paper's]")
    out += agreements(table)
    out += [f"claim “{verdict.says}”: {verdict.words}" for verdict in table.verdicts]
    out += list(table.failures)
    return "\n".join(out)


def _cited_text(table: Table) -> list[str]:
    """The printed lines for a terminal, aligned."""
    head, lines = cited(table, brief=True)
    if not head:
        return []
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *lines)]
    return ["", f"{CITED}:", *(row.rstrip() for row in rows), ""]
