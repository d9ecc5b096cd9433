"""A table as its folder of files, and all tables as one document. Every file is whole at any instant."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ablations import render
from ablations.store import alive
from ablations.table import Table


def write(table: Table, folder: Path) -> list[Path]:
    """Write table.md, .tex, .csv, .json and the pictures as .png and .pdf; each file is whole at any instant.

    The tables come first: where the picture cannot be drawn they are there all the same, and an older picture, which
    would show other numbers, is gone.

    Raises:
        OSError: a file cannot be written, or the picture cannot be drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    texts = {
        "table.md": render.markdown(table),
        "table.tex": render.latex(table),
        "table.csv": render.as_csv(table),
        "table.json": render.as_json(table),
    }
    written = [replace(folder / name, text.encode()) for name, text in texts.items()]
    from ablations import plots

    try:
        pictures = plots.draw(table)
    except Exception as error:
        drop_pictures(folder, ())
        raise OSError(f"{folder}: the tables are written, the plot failed: {type(error).__name__}: {error}") from error
    drop_pictures(folder, pictures)
    return written + [replace(folder / name, content) for name, content in pictures.items()]


def drop_pictures(folder: Path, kept: Collection[str], kinds: Sequence[str] = ("plot", "effect", "curve")) -> None:
    """Remove pictures of an earlier report that this one has not: they would show other numbers."""
    for kind in kinds:
        for name in (f"{kind}.png", f"{kind}.pdf"):
            if name not in kept:
                (folder / name).unlink(missing_ok=True)


def write_all(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Write report.tex, all tables in one document, and claims.md, what they say of each claim."""
    from ablations import document

    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.tex": document.report_tex(tables), "claims.md": document.claims_markdown(tables)}
    return [replace(folder / name, text.encode()) for name, text in texts.items()]


def replace(path: Path, content: bytes) -> Path:
    """Put a file in place whole: a kill leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path


def _sweep(folder: Path) -> None:
    """Remove drafts of processes that were killed while they wrote."""
    for draft in folder.glob(".*.tmp"):
        found = re.fullmatch(r"\..+\.(\d+)\.tmp", draft.name)
        if found and not alive(int(found[1])):
            draft.unlink(missing_ok=True)
