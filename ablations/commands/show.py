"""Commands that show what came out: tables, verdicts, pictures, MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.options import (
    FAILED,
    AsJson,
    DataRoot,
    Metrics,
    ProfileName,
    Reports,
    Seeds,
    StoreRoot,
    Words,
    command_line,
    planned_by,
)


def report(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Write tables and plots again from what is there. Runs nothing; missing cells stay empty.

    What is there: results of the store, and those that reports/<profile>/results.jsonl keeps of
    stores that are not here. Without a STUDY: all of which more than half of the rows have
    a result, and report.tex and claims.md.

    \b
    The committed tables of this repository, from their records:
      fima-ablate report --profile mini
    """
    planned = planned_by(words, profile, data_root, seeds, metrics, embedded=True)
    from ablations import prepare, publish
    from ablations.store import Store

    prepare.writable("--reports", reports)
    publish.write_studies(planned, Store(store.resolve()), reports, only_measured=not words)


def claims(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
    as_json: AsJson = False,
) -> None:
    """Show what the measurements say of each claim of the paper.

    Supported, contradicted or undecided, and why. Measurements are those of the store and
    of reports/<profile>/results.jsonl. Without a STUDY: all of which more than half of the
    rows are measured, as in claims.md (where there is none yet, all of them).

    \b
    The committed evidence, without running anything:
      fima-ablate claims --profile mini
    """
    planned = planned_by(words, profile, data_root, seeds, None, embedded=True)
    from ablations import document, publish
    from ablations.store import Store

    tables = publish.build(planned, Store(store.resolve()), reports)
    if not words:
        shown = [table for table in tables if table.mostly_measured] or tables
        if absent := [table.study for table in tables if table not in shown]:
            typer.echo(f"left out, since at most half of their rows are measured: {', '.join(absent)}", err=True)
        tables = shown
    if as_json:
        print(json.dumps(document.claims_rows(tables), indent=2, ensure_ascii=False))
    else:
        typer.echo(document.claims_text(tables))


def figures(
    words: Annotated[
        list[str],
        typer.Argument(metavar="RUN|KEY=VALUE", help="STUDY:ROW, a stage of the store, or its folder; side by side."),
    ],
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of a row's pre-training, and of what is chosen.")] = 0,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="NAME,NAME",
            help="activation, affinity, similarity, attention, masks, tsne. Default: every figure.",
            show_default=False,
        ),
    ] = None,
    videos: Annotated[
        str | None, typer.Option("--videos", metavar="[NAME=]DIR", help="Real videos; NAME: a data set's layout.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Videos that a number is averaged over.")] = 50,
    store: StoreRoot = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the pictures.")] = Path("figures"),
) -> None:
    """Draw the paper's figures (3-5, 7-11) of trained rows. Each as PNG, PDF, arrays, with a
    caption and the number that it shows.

    \b
    Two rows side by side, after `fima-ablate run table1_losses`:
      fima-ablate figures "table1_losses:VV" "table1_losses:VV + Pix + Fra"

    \b
    One figure, on real videos:
      fima-ablate figures "table1_losses:VV + Pix" --only affinity \\
        --videos ucf101=DIR

    Exit code: 0 drawn; 2 bad input, such as a row that is not trained.
    """
    from ablations import picturing

    for path, picture in picturing.command(words, profile, data_root or [], seed, only, videos, count, store, out):
        typer.echo(f"{path}\n    {picture.caption}\n")


def sync(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Copy into MLflow what a dead server missed. The store is the truth; nothing is logged twice.

    What was run with --no-mlflow is copied where its STUDY and --profile are named.
    """
    from ablations import publish, spec, tracking
    from ablations.store import Store

    truth = Store(store.resolve())
    if not truth.uids():
        typer.echo(f"{store}: no stages yet, so there is nothing to copy")
        return
    planned = None
    if spec.told_apart(words or [])[0]:
        planned = tracking.begun(planned_by(words, profile, data_root, seeds, metrics), truth)
        if not planned.rows:
            raise ValueError(f"{store} has no stage of these in profile {profile}; name the one that they ran with")
    elif words:
        raise ValueError(f"name the study that {words[0]} belongs to")
    tracker = tracking.Tracker(truth, planned, command=command_line())
    whole = tracker.close() and (planned is None or tracker.attach(publish.files(planned, reports)))
    if not whole:
        raise typer.Exit(FAILED)
    left = tracking.unmirrored(truth)
    several = "s" * (left != 1)
    typer.echo(
        f"MLflow has what {store} holds"
        + (f", but not {left} stage{several} of runs with --no-mlflow: name their STUDY and --profile" if left else "")
    )


def ui(
    store: StoreRoot = Path("runs"),
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen at. 0.0.0.0: reachable under the names in MLFLOW_SERVER_ALLOWED_HOSTS; there is no "
            "password.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen.")] = 5000,
) -> None:
    """Show curves, parameters and tables in MLflow's own pages.

    Until Ctrl-C. Of the database that MLFLOW_TRACKING_URI names, else of mlflow.db beside the store.
    """
    from ablations import ui as pages
    from ablations.store import Store

    code = pages.serve(Store(store.resolve()), host, port, lambda line: typer.echo(line, err=True))
    if code:
        raise typer.Exit(FAILED)
