"""Commands that examine what a run depends on: machine and store, a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.options import FAILED, AsJson, StoreRoot


def doctor(
    store: StoreRoot = Path("runs"),
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Put right first what loses nothing: set damaged files aside, remove drafts of dead processes, "
            "end their runs in MLflow, copy what it lacks. Deletes no result.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Examine all that a run depends on, and say the way out.

    Versions, devices, codecs, cache, disk, the store, MLflow: one line each with
    ok, warning or problem, what it is, where, and the way out.

    Exit code: 0 no problem (warnings are none), 1 problems.
    """
    from ablations import doctor as examination
    from ablations.store import Store

    found = []
    for finding in examination.examine(Store(store.resolve()), fix):
        found.append(finding)
        if not as_json:
            typer.echo(finding.line())
    if as_json:
        print(json.dumps([finding.as_json() for finding in found], indent=2, ensure_ascii=False))
    if any(finding.level == "problem" for finding in found):
        raise typer.Exit(FAILED)


def check(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="ucf101, hmdb51, kinetics400, diving48 or folder. Default: seen from the files.",
            show_default=False,
        ),
    ] = None,
    fold: Annotated[int, typer.Option("--fold", min=1, max=3, help="Official split of UCF101 and HMDB51.")] = 1,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default: one a core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decode every video once, report what is wrong, write the index.

    Broken, short, missing, unlisted and mislabelled files are told. Runs on the
    same data later start at once. Stop it at any time; what is indexed stays indexed.

    Exit code: 0 all is well, 1 something was found, 2 bad input.
    """
    from rich.console import Console

    from ablations import prepare
    from fima import check as checking
    from fima.datasets import cores

    with prepare.progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("reading videos", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = checking.run(root, name, jobs or cores(), show, fold)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in found.lines():
            typer.echo(line)
    if not found.clean:
        raise typer.Exit(FAILED)
