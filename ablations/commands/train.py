"""Commands that train: `run` a study, `sweep` beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.options import (
    FAILED,
    DataRoot,
    Metrics,
    ProfileName,
    Reports,
    Seeds,
    StoreRoot,
    Track,
    Words,
    Workers,
    command_line,
    planned_by,
)


def run(
    words: Words = None,
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    seeds: Seeds = None,
    metrics: Metrics = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Stages side by side; the cores are shared out evenly. Default: as many as --devices are enough for, "
            "else 1 on cards or with --devices-per-run, 2 without; "
            "on Slurm all that are ready, on Ray as many as its cards are enough for.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="0,1",
            help="CUDA cards, one for each stage side by side; more --jobs share them in turns. Default: all cards.",
            show_default=False,
        ),
    ] = None,
    devices_per_run: Annotated[
        int,
        typer.Option(
            "--devices-per-run",
            min=1,
            metavar="K",
            help="Train each pre-training on K cards of its own (torchrun, DDP), or by K processes on the CPU. The "
            "batch is shared out; BatchNorm's statistics are each device's own, and the table says how many.",
        ),
    ] = 1,
    engine: Annotated[
        str, typer.Option("--engine", metavar="local|ray|slurm", help="Where stages run: here, or on a cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT|auto",
            help="Of the Ray cluster, whose machines must see the store's folder. Default: RAY_ADDRESS, else a Ray of "
            "this machine.",
            show_default=False,
        ),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            "--slurm",
            metavar="KEY=VALUE",
            help="For submitit: partition, time (minutes), gpus_per_node, cpus_per_task, mem, account, ... "
            "cluster=local tries it on this machine. Repeatable.",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        int,
        typer.Option(
            "--retry-failed",
            min=0,
            metavar="N",
            help="Try a failed stage up to N times more before it counts as failed. Another run always tries it again.",
        ),
    ] = 0,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", help="Start no other stage after the first failure; what runs goes on to its end."),
    ] = False,
    workers: Workers = 2,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
    track: Track = True,
) -> None:
    """Train and evaluate what is missing, then write the tables.

    Stages that rows or studies share run once. Stop it at any time; the same command goes on.

    \b
    One study, one setting changed, three seeds:
      fima-ablate run table3d_beta optim.steps=500 --seeds 0,1,2

    \b
    Your own videos (a csv with path,label,split, or train/ and test/ folders):
      fima-ablate run table3d_beta data.name=folder data.root=DIR

    \b
    Every table, four stages side by side:
      fima-ablate run all --profile mini --jobs 4

    \b
    Every table on four cards; what a full card or disk broke off is tried again:
      fima-ablate run all --profile ucf101-i3d --data-root DIR \\
        --devices 0,1,2,3 --retry-failed 1

    \b
    The same on a Slurm cluster, each pre-training on three cards; stages go on
    where a time limit cut them:
      fima-ablate run all --profile ucf101-i3d --data-root DIR \\
        --engine slurm --devices-per-run 3 \\
        --slurm partition=gpu --slurm time=1440 --slurm cpus_per_task=16

    \b
    Exit code: 0 all done; 1 some stage failed, the others ran (not with
    --fail-fast) and the table shows what there is; 2 bad input.
    """
    from ablations import spec

    if not spec.told_apart(words or [])[0]:
        raise ValueError("name a study, such as studies/table3d_beta.yaml, or `all`; `fima-ablate list` shows them")
    from rich.console import Console

    from ablations import running

    planned = planned_by(words, profile, data_root, seeds, metrics)
    asked = running.Asked(
        jobs, devices, devices_per_run, engine, address, tuple(slurm or ()), retry_failed, fail_fast, workers, store,
        reports, track, command=command_line(),
    )  # fmt: skip
    if not running.conduct(asked, planned, Console(stderr=True)):
        raise typer.Exit(FAILED)


def sweep(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP [KEY=VALUE]",
            help="A sweep file or name (beta_threshold, decoder, optimisation, losses), and settings that override "
            "profile and base.",
            show_default=False,
        ),
    ],
    profile: ProfileName = "demo",
    data_root: DataRoot = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Trials side by side, each a process of its own.")
    ] = 1,
    trials: Annotated[
        int | None, typer.Option("--trials", min=0, metavar="N", help="In all, instead of the sweep's.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="After these no trial is begun; instead of the sweep's.")
    ] = None,
    sampler_seed: Annotated[
        int | None, typer.Option("--sampler-seed", min=0, metavar="N", help="Instead of the sweep's.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Where trials are kept: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, another database, or "
            "journal:FILE on a shared folder. Default: sweeps.db beside the store.",
            show_default=False,
        ),
    ] = None,
    enqueue: Annotated[
        list[str] | None,
        typer.Option("--enqueue", metavar="STUDY", help="Try a study's rows first. Repeatable.", show_default=False),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed trials again, as new ones.")] = False,
    final: Annotated[
        bool, typer.Option("--final/--no-final", help="Compare the best trial with the default on test, in the end.")
    ] = True,
    promote: Annotated[
        Path | None,
        typer.Option("--promote", metavar="STUDY.yaml", help="Append the best trial to a study's rows, in the end."),
    ] = None,
    workers: Workers = 2,
    store: StoreRoot = Path("runs"),
    reports: Reports = Path("reports"),
    track: Track = True,
) -> None:
    """Search settings beyond the paper's grid, judged on part of train.

    By Optuna. Test is read once, in the end: best trial and default are compared on it.

    Stop it at any time: the same command goes on; no trial is lost or repeated.
    The same command elsewhere, with the same --storage, joins.

    \b
      fima-ablate sweep beta_threshold --enqueue table3d_beta --jobs 2

    \b
    On a lab's machines, each with its own GPU, sharing a database:
      fima-ablate sweep optimisation --profile ucf101-i3d --data-root DIR \\
        --storage postgresql://...

    \b
    The report alone, of what there is:
      fima-ablate sweep beta_threshold --trials 0 --no-final

    Exit code: 0 all done; 1 a trial or stage failed; 2 bad input.
    """
    from rich.console import Console

    from ablations import conducting, spec

    names, overrides = spec.told_apart(words)
    if len(names) != 1:
        raise ValueError(f"name one sweep, such as beta_threshold; got {', '.join(names) or 'none'}")
    asked = conducting.Asked(
        names[0], profile, tuple(data_root or ()), tuple(overrides), jobs, trials, minutes, sampler_seed, storage,
        tuple(enqueue or ()), retry_failed, final, promote, workers, store, reports, track,
        command=command_line(),
    )  # fmt: skip
    if not conducting.conduct(asked, Console(stderr=True), typer.echo):
        raise typer.Exit(FAILED)
