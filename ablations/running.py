"""`fima-ablate run` from the command line to the tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import engine, engines, prepare, publish
from ablations.store import Store
from ablations.tracking import Tracker

if TYPE_CHECKING:
    from rich.console import Console

    from ablations.plan import Plan


@dataclass(frozen=True)
class Asked:
    """The command line, but for what is planned."""

    jobs: int | None
    devices: str | None
    per_run: int
    engine: str
    address: str | None
    slurm: tuple[str, ...]
    retry_failed: int
    fail_fast: bool
    workers: int
    store: Path
    reports: Path
    track: bool
    command: str


def conduct(asked: Asked, planned: Plan, console: Console) -> bool:
    """Run what is missing and write the tables; returns whether nothing failed.

    Args:
        asked: the command line.
        planned: its studies and overrides.
        console: for plan, progress and outcome.

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    if planned.absent:
        raise ValueError(planned.absent[0])
    if asked.per_run > 1:
        prepare.devices(planned, asked.per_run)
    chosen = engines.choose(asked.engine, asked.jobs, asked.devices, asked.per_run, asked.address, asked.slurm)
    several = chosen.jobs is not None and chosen.jobs > 1
    for line in [*planned.lines(), *([f"{chosen.jobs} stages side by side (--jobs)"] if several else [])]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for option, folder in (("--store", asked.store), ("--reports", asked.reports)):
        prepare.writable(option, folder)
    store = Store(asked.store.resolve())
    prepare.render(planned, console)
    prepare.index(planned, console)
    tracker = Tracker(store, planned, command=asked.command) if asked.track else None
    try:
        outcome = engine.run(
            planned,
            store,
            jobs=chosen.jobs or len(planned.stages),
            workers=asked.workers,
            console=console,
            on_finished=tracker.stage_finished if tracker else None,
            retries=asked.retry_failed,
            fail_fast=asked.fail_fast,
            cards=chosen.cards,
            devices=asked.per_run,
            engine=chosen.build(store),
        )
        paths = publish.write_studies(planned, store, asked.reports)
    finally:
        if tracker:
            tracker.close()
    if tracker:
        tracker.attach(paths)
    for line in outcome.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return not outcome.failed
