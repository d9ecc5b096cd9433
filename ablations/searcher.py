"""One process of a sweep: takes a trial, runs its stages, tells what came out, and again. Several make it faster."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ablations import worker
from ablations.store import Store

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

    from ablations.plan import Plan
    from ablations.profile import Profile
    from ablations.space import Point
    from ablations.sweep import Sweep
    from ablations.uids import Stage

FAILED = 3  # exit code: the log says why


@dataclass(frozen=True)
class Search:
    """What a process of a sweep is told."""

    sweep: Sweep
    profile: Profile
    overrides: tuple[str, ...]
    study: str  # its name in the storage
    storage: str  # URL
    root: Path  # of the store
    trials: int  # in all, those of other processes among them
    until: float | None  # time.time() from which on no trial is begun
    workers: int  # processes per stage that read videos ahead
    number: int  # of this process, 0 ... beside - 1
    beside: int
    execute: str

    @property
    def folder(self) -> Path:
        """Locks and logs."""
        return self.root / "sweeps"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.study.replace(' ', '-')}.{self.number}.log"


def process(search: Search) -> None:
    """Entry point of a process of its own; it ends with its parent."""
    os.setsid()  # Ctrl-C reaches the parent only, which ends us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=worker.die_with_parent, daemon=True).start()
    search.folder.mkdir(parents=True, exist_ok=True)
    worker.redirect(search.log)
    try:
        work(search)
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)


def work(search: Search) -> int:
    """Take and run trials until there are as many as there are to be, or time is up; returns how many."""
    from ablations import search as optimiser

    study = optimiser.open_study(optimiser.open_storage(search.storage), search.study, search.sweep)
    claims = optimiser.Claims(study, search.folder)
    done = 0
    try:
        while search.until is None or time.time() < search.until:
            trial = claims.take(search.trials)
            if trial is None:
                break
            with claims.beating(trial):
                _run(search, study, trial)
            done += 1
    finally:
        optimiser.close(study)
    return done


def _run(search: Search, study: Study, trial: Trial) -> None:
    """Run a trial to its end and tell the study how it went."""
    import optuna
    from optuna.trial import TrialState

    from ablations import search as optimiser

    point = optimiser.suggest(trial, search.sweep)
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} trial {trial.number}: {point}", flush=True)
    began = time.monotonic()
    values: list[float] | None = None
    state = TrialState.FAIL
    try:
        values = _measure(search, study, trial, point)
        state = TrialState.COMPLETE
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (ValueError, OSError) as error:
        traceback.print_exc()
        worker.end_if_orphaned()
        trial.set_user_attr("error", " ".join(str(error).split()))
    trial.set_user_attr("seconds", time.monotonic() - began)
    try:
        study.tell(trial, values, state=state, skip_if_finished=True)
    except ValueError as error:
        now = study.get_trials(deepcopy=False)[trial.number]
        if now.state == TrialState.RUNNING and now.user_attrs.get("worker", {}).get("pid") == os.getpid():
            raise  # nobody took it: the values are what Optuna refuses
        # it gave no sign of life for too long, and waits for, or is, another's
        print(f"trial {trial.number}: {state.name} {values}, not told: {error}", flush=True)
        return
    print(f"trial {trial.number}: {state.name} {values}", flush=True)


def _measure(search: Search, study: Study, trial: Trial, point: Point) -> list[float]:
    """The objectives of a point, each the mean over the sweep's seeds.

    Raises:
        optuna.TrialPruned: the pruner ends it.
        ValueError: a stage failed.
    """
    from rich.console import Console

    from ablations import engine

    sweep, store = search.sweep, Store(search.root)
    plan = sweep.trial(trial.number, point, search.profile, search.overrides)
    trial.set_user_attr("stages", list(plan.stages))
    curve = Curve(study, trial, plan)
    for line in store.metrics(curve.uid):  # of a stage that is done already, or was begun before a kill
        curve.add(plan.stages[curve.uid], int(line["step"]), line, prunes=store.result(curve.uid) is None)
    outcome = engine.run(
        plan,
        store,
        workers=search.workers,
        console=Console(file=sys.stdout, force_terminal=False),
        on_steps=curve.add,
        beside=(search.number, search.beside),
        execute=search.execute,
    )
    for uid, error in outcome.failed.items():
        raise ValueError(f"{outcome.titles[uid]} ({uid}): {error}")
    found = measured(sweep, plan, store)
    trial.set_user_attr("per_seed", {metric: {str(s): v for s, v in own.items()} for metric, own in found.items()})
    return [fmean(found[objective.metric].values()) for objective in sweep.objectives]


def measured(sweep: Sweep, plan: Plan, store: Store) -> dict[str, dict[int, float]]:
    """Objective -> seed -> value, from the stages of a trial."""
    from ablations.sweep import STEP_COSTS
    from ablations.uids import Cell

    row, found = plan.rows[0], {}
    for metric in (objective.metric for objective in sweep.objectives):
        own: dict[int, float] = {}
        for seed, pretrain in row.pretrain.items():
            cell = Cell(pretrain, metric) if metric in STEP_COSTS else row.cells[metric][seed]
            result = store.result(cell.uid)
            assert result is not None  # the engine says that it is done
            own[seed] = cell.value(result)
        found[metric] = own
    return found


class Curve:
    """The kNN accuracy of a trial's encoder by step, told to the study; of several seeds the first one's."""

    def __init__(self, study: Study, trial: Trial, plan: Plan) -> None:
        self.trial, self.uid = trial, next(iter(plan.rows[0].pretrain.values()))
        self.told = set(study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def add(self, stage: Stage, step: int, values: Mapping[str, float], prunes: bool = True) -> None:
        """Take a line of metrics.

        Raises:
            optuna.TrialPruned: the pruner ends the trial.
        """
        import optuna

        if "knn" not in values or stage.uid != self.uid:
            return
        if step not in self.told:
            self.told.add(step)
            self.trial.report(float(values["knn"]), step)
        if prunes and self.trial.should_prune():
            raise optuna.TrialPruned
