"""Tables as folders of files, all tables as one document, and the records they come from: reports/<profile>/.

Every file is whole at any instant.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import typer

from ablations import notes, records, render, report, spec
from ablations import plan as planning
from ablations.plan import Plan
from ablations.store import Store, left_drafts, replace_file
from ablations.table import Table


def build(planned: Plan, store: Store, reports: Path) -> list[Table]:
    """Tables of what the store has, and of what the records beside the reports keep of other stores."""
    return report.build(planned, store, records=_records(planned, store, reports))


def write_studies(planned: Plan, store: Store, reports: Path, only_measured: bool = False) -> dict[str, list[Path]]:
    """Keep the store's results as records, write and print the tables; report.tex and claims.md where all are there.

    Args:
        planned: studies and overrides.
        store: what was measured here.
        reports: the folder of all reports; a profile has its own within.
        only_measured: leave out tables of which half of the rows or more have no result.

    Returns:
        The files of each study.

    Raises:
        OSError: a file cannot be written, or a picture cannot be drawn.
    """
    folder = reports / planned.profile.profile
    with _alone(folder) if store.uids() else nullcontext():  # an empty store leaves no folder of reports
        kept = _records(planned, store, reports)
        kept.write()
    written: dict[str, list[Path]] = {}
    tables = report.build(planned, store, records=kept)
    for table in tables:
        place = folder / table.study
        if only_measured and not table.mostly_measured:
            continue
        if not table.measured and (place / "table.json").is_file():
            typer.echo(f"nothing of {table.study} is measured here; {place}/ keeps what it holds", err=True)
            continue
        written[table.study] = write(table, place)
        typer.echo(render.text(table))
        names = " ".join(sorted(path.name for path in written[table.study]))
        typer.echo(f"{place}/ holds {names}\n")
    measured = [table for table in tables if table.mostly_measured]
    every = planning.measured([spec.load_study(path) for path in spec.study_files()], planned.profile)
    if (
        measured
        and not notes.altering(planned.overrides)
        and {study.study for study in every} <= {table.study for table in tables}
    ):
        typer.echo(f"all of them in one: {' and '.join(map(str, write_all(measured, folder)))}")
    return written


def files(planned: Plan, reports: Path) -> dict[str, list[Path]]:
    """Tables and plots that an earlier report wrote of each study of a plan."""
    folders = {row.study.study: reports / planned.profile.profile / row.study.study for row in planned.rows}
    return {
        study: sorted(path for path in folder.glob("*.*") if not path.name.startswith("."))
        for study, folder in folders.items()
        if folder.is_dir()
    }


def _records(planned: Plan, store: Store, reports: Path) -> records.Records:
    kept = records.Records(reports / planned.profile.profile / records.FILE)
    gone = kept.take(planned, store)
    if gone:
        typer.echo(
            f"{kept.path}: {store.root} trained some of these stages again; {gone} results of the other training are "
            "left out until they are measured from the new one",
            err=True,
        )
    return kept


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
    written = [replace_file(folder / name, text) for name, text in texts.items()]
    from ablations import plots

    try:
        pictures = plots.draw(table)
    except Exception as error:
        drop_pictures(folder, ())
        raise OSError(f"{folder}: the tables are written, the plot failed: {type(error).__name__}: {error}") from error
    drop_pictures(folder, pictures)
    return written + [replace_file(folder / name, content) for name, content in pictures.items()]


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
    return [replace_file(folder / name, text) for name, text in texts.items()]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time, of those that share the folder; without a word where its file system locks no folders."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove drafts of processes that were killed while they wrote."""
    for draft in left_drafts(folder.glob(".*.tmp")):
        draft.unlink(missing_ok=True)
