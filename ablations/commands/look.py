"""Commands that look ahead, or at what runs; none trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.options import (
    AsJson,
    DataRoot,
    Metrics,
    PlannedJobs,
    ProfileName,
    Seeds,
    StoreRoot,
    Words,
    planned_by,
)


def list_(as_json: AsJson = False) -> None:
    """Show the studies, the sweeps and the profiles that exist."""
    from ablations import catalogue

    if as_json:
        print(json.dumps(catalogue.as_data(), indent=2, ensure_ascii=False))
        return
    for line in catalogue.lines():
        typer.echo(line)


def plan(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    jobs: PlannedJobs = None,
    store: StoreRoot = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Show rows and stages, what is shared or done, what time is left.

    Runs nothing. Times are those of equal work in this store, and of the bench command;
    what nobody measured is called unknown. Without a STUDY: all of them.

    \b
    What the paper's recipe would cost on this machine, before it is started:
      fima-ablate bench table3d_beta --profile ucf101-i3d
      fima-ablate plan table3d_beta --profile ucf101-i3d --data-root DIR
    """
    planned = planned_by(words, profile, data_root, seeds, metrics)
    from ablations import engines, estimate
    from ablations.store import Store

    truth = Store(store.resolve())
    done = [uid for uid in planned.stages if truth.status(uid).state == "done"]
    needed = estimate.of(planned, truth, jobs or engines.side_by_side())
    if as_json:
        found = planned.as_json(done) | {"estimate": needed.as_json()}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in [*planned.lines(done, every_stage=True), "", *needed.lines()]:
        typer.echo(line)


def bench(
    words: Words = None,
    profile: ProfileName = "demo",
    steps: Annotated[
        int, typer.Option("--steps", min=1, metavar="N", help="Steps to time for each setting, after one to warm up.")
    ] = 3,
    jobs: PlannedJobs = None,
    again: Annotated[bool, typer.Option("--again", help="Also settings that were measured before.")] = False,
    store: StoreRoot = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Time a pre-training step of each row on this machine, for `plan`.

    Trains nothing and needs no data. What is measured is kept in the store's bench.json, by setting,
    device and number of threads. Without a STUDY: all of them.
    """
    from ablations import bench as benching
    from ablations import engines, prepare, spec
    from ablations.store import Store

    prepare.writable("--store", store)
    names, overrides = spec.told_apart(words or [])
    say = (lambda line: None) if as_json else typer.echo
    jobs = jobs or engines.side_by_side()
    found = benching.measure(names, profile, overrides, Store(store.resolve()), steps, jobs, again, say)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif not found:
        typer.echo("no row is pre-trained here: their encoders are given")
    else:
        threads = found[0]["threads"]
        several = "s" * (threads != 1)
        typer.echo(f"on {found[0]['place']}, {threads} thread{several}; fima-ablate plan reckons with these")


def cost(
    words: Words = None,
    profile: ProfileName = "demo",
    measure: Annotated[
        int,
        typer.Option(
            "--measure",
            metavar="N",
            min=0,
            help="Also time N steps of each row on this machine, in turns, on views of noise.",
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show parameters and FLOPs of a pre-training step of each row.

    Trains nothing, needs no data and no GPU: FLOPs and parameters are counted on tensors
    that hold nothing. Without a STUDY: all of them.

    \b
    The paper's parameter counts and relative costs, on any laptop:
      fima-ablate cost table11_cost --profile ucf101-i3d
    """
    from ablations import costing, spec

    names, overrides = spec.told_apart(words or [])
    found = costing.rows(names, profile, overrides, measure)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo(costing.text(found))


def status(
    store: StoreRoot = Path("runs"),
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again, until nothing runs any more or Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            min=0.1,
            metavar="SECONDS",
            help="Between looks of --watch. Default: 2 on a terminal, 30 elsewhere.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which stages are done, running, interrupted or failed.

    Where one runs, at which step and how long still; why one failed. A stage whose
    process is dead is `interrupted`: the same run command goes on with it.

    \b
    From another terminal, while a run goes on:
      fima-ablate status --watch
    """
    from ablations import watching
    from ablations.store import Store

    truth = Store(store.resolve())
    if watch:
        if as_json:
            raise ValueError("--watch is for people and --json for programs, which may ask again themselves; name one")
        from rich.console import Console

        watching.watch(truth, Console(), every)
        return
    rows = watching.Watch(truth).look()
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo(f"{store}: no stages yet; start with fima-ablate run studies/table3d_beta.yaml")
    else:
        typer.echo("\n".join(watching.lines(rows)))
