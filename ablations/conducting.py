"""`fima-ablate sweep` from the command line to the report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import code, engine, findings, prepare, promote, render, search, spec, sweeping
from ablations import report as reporting
from ablations import sweep as sweeps
from ablations.plan import Plan
from ablations.searcher import Search
from ablations.store import Store
from ablations.table import Table
from ablations.tracking import Tracker

if TYPE_CHECKING:
    from optuna.study import Study
    from rich.console import Console

    from ablations.ledger import Entry
    from ablations.profile import Profile
    from ablations.space import Point
    from ablations.sweep import Sweep


@dataclass(frozen=True)
class Asked:
    """The command line."""

    name: str
    profile: str
    roots: tuple[str, ...]
    overrides: tuple[str, ...]
    jobs: int
    trials: int | None
    minutes: float | None
    sampler_seed: int | None
    storage: str | None
    enqueue: tuple[str, ...]
    retry_failed: bool
    final: bool
    promote: Path | None
    workers: int
    store: Path
    reports: Path
    track: bool
    command: str
    execute: str = engine.EXECUTE


def conduct(asked: Asked, console: Console, echo: Callable[[str], None]) -> bool:
    """Search, test what was found, write the report; returns whether nothing failed.

    Raises:
        ValueError: bad input, in one line.
    """
    sweep, profile = _sweep(asked), spec.apply_roots(spec.load_profile(asked.profile), asked.roots)
    sweeps.check(sweep, profile, asked.overrides)
    points = _paper_rows(sweep, asked, console)
    if asked.promote is not None:
        spec.load_study(asked.promote)
    for option, folder in (("--store", asked.store), ("--reports", asked.reports)):
        prepare.writable(option, folder)
    store = Store(asked.store.resolve())
    if sweep.trials != 0 or asked.final:
        _prepare(sweep, profile, asked, console)
    url = asked.storage or f"sqlite:///{store.root.parent / 'sweeps.db'}"
    name = f"{sweep.sweep} {profile.profile} {sweep.digest(profile, asked.overrides)}"
    study = search.open_study(search.open_storage(url), name, sweep)
    try:
        return _conduct(asked, sweep, profile, store, study, url, points, console, echo)
    finally:
        search.close(study)


def _conduct(
    asked: Asked, sweep: Sweep, profile: Profile, store: Store, study: Study, url: str, points: dict[str, Point],
    console: Console, echo: Callable[[str], None],
) -> bool:  # fmt: skip
    with search.Claims(study, store.root / "sweeps").alone():
        trials = search.begin(study, points, sweep)
        if asked.retry_failed:
            sweeping.retry_failed(study)
        target = search.target(study, trials)
    name = study.study_name
    told = f"sampler {sweep.sampler.name}, judged on 1/{sweep.held_out} of train"
    console.print(f"{name}: {target} trials in {search.hidden(url)}; {told}", highlight=False, soft_wrap=True)
    minutes = asked.minutes if asked.minutes is not None else sweep.minutes
    plan = Search(
        sweep, profile, asked.overrides, name, url, store.root, target,
        None if minutes is None else time.time() + 60 * minutes, asked.workers, 0, asked.jobs, asked.execute,
    )  # fmt: skip
    return _Conduct(asked, sweep, profile, store, study, plan, console, echo).run()


class _Conduct:
    """What is left when the study is open."""

    def __init__(
        self, asked: Asked, sweep: Sweep, profile: Profile, store: Store, study: Study, plan: Search,
        console: Console, echo: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.asked, self.sweep, self.profile, self.store, self.study = asked, sweep, profile, store, study
        self.search, self.console, self.echo = plan, console, echo
        self.over = False
        self.tested: Plan | None = None  # the plan of the last table, once it is run
        self.folder = asked.reports / profile.profile / "sweeps" / sweep.sweep

    def run(self) -> bool:
        tracker = self._tracker() if self.asked.track else None
        failed = False
        try:
            outcome = self._search()
            failed = bool(outcome.failed)
            table: Table | None = None
            chosen = self._final_plan()
            if chosen is not None:
                if self.asked.final and outcome.left and self.sweep.trials != 0:
                    self.console.print(f"test waits for the {outcome.left} trials that are left", highlight=False)
                elif self.asked.final:
                    failed |= self._test(chosen)
                table = reporting.build(chosen, self.store, self._command())[0]
            found = findings.gather(
                self.sweep, self.profile, self.asked.overrides, self.study, self.store, self._command(), table
            )
            paths = findings.write(found, self.study, self.folder)
            self.over = not outcome.left
        finally:
            if tracker:
                tracker.close()
        if tracker:
            tracker.attach({self.sweep.sweep: [path for path in paths if path.parent == self.folder]})
        self.echo(findings.text(found))
        if table is not None and table.measured:
            self.echo("\n" + render.text(table))
        self.echo(f"{self.folder}/ holds {' '.join(sorted(path.name for path in paths if path.parent == self.folder))}")
        self._promote(found)
        return not failed

    def _search(self) -> sweeping.Outcome:
        """Run what trials there are to be; with `--trials 0` none, not even one that was begun."""
        if self.sweep.trials == 0:
            return sweeping.state(self.study, self.search.trials)
        outcome = sweeping.run(self.search, self.study, self.asked.jobs, self.console)
        for line in outcome.lines():
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        return outcome

    def _command(self) -> str:
        """What makes this report, in its shortest form."""
        words = ["fima-ablate", "sweep", self.asked.name, "--profile", self.profile.word]
        for root in self.profile.roots:
            words += ["--data-root", root]
        for study in self.asked.enqueue:
            words += ["--enqueue", study]
        for option, given in (("--trials", self.asked.trials), ("--sampler-seed", self.asked.sampler_seed)):
            words += [option, str(given)] * (given is not None)
        return shlex.join([*words, *self.asked.overrides])

    def _final_plan(self) -> Plan | None:
        chosen = findings.choose(self.study)
        points = {f"best, trial {t.number}" if len(chosen) == 1 else f"trial {t.number}": t.params for t in chosen}
        return self.sweep.final(points, self.profile, self.asked.overrides) if points else None

    def _test(self, plan: Plan) -> bool:
        """Train what was found and the default on the whole of train, and test them; returns whether a stage failed."""
        self.tested = plan
        self.console.print("the best beside the default, on test", highlight=False)
        outcome = engine.run(
            plan, self.store, jobs=self.asked.jobs, workers=self.asked.workers, console=self.console,
            execute=self.asked.execute,
        )  # fmt: skip
        for line in outcome.lines():
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        return bool(outcome.failed)

    def _tracker(self) -> Tracker:
        def more() -> dict[str, Entry]:
            return sweeping.entries(self.study, self.search, self.asked.command, self.tested, self.over)

        return Tracker(self.store, None, command=self.asked.command, more=more)

    def _promote(self, found: findings.Findings) -> None:
        if self.asked.promote is None:
            return
        if not found.best:
            self.echo("no trial is complete, so there is none to promote")
            return
        commit, dirty = code.commit()
        labels = promote.promote(found, self.asked.promote, f"{commit}{'+dirty' if dirty else ''}")
        for label in labels:
            self.echo(f"{self.asked.promote}: added the row “{label}”")
        if not labels:
            self.echo(f"{self.asked.promote}: has what was found already")


def _sweep(asked: Asked) -> Sweep:
    """The sweep with what the command line changes of it."""
    sweep = sweeps.load_sweep(asked.name)
    if asked.trials is not None:
        sweep = replace(sweep, trials=asked.trials)
    if asked.sampler_seed is not None:
        sweep = replace(sweep, sampler=replace(sweep.sampler, seed=asked.sampler_seed))
    return sweep


def _paper_rows(sweep: Sweep, asked: Asked, console: Console) -> dict[str, Point]:
    """Rows of studies as points to begin with.

    Raises:
        ValueError: no row of a study lies in the space.
    """
    points: dict[str, Point] = {}
    for name in asked.enqueue:
        inside, outside = sweeps.paper_points(sweep, spec.load_study(spec.find_study(name)))
        for label, reason in outside.items():
            console.print(f"{name}: row {label} is left out: {reason}", highlight=False, markup=False, soft_wrap=True)
        if not inside:
            raise ValueError(f"--enqueue {name}: none of its rows lies in the space of {sweep.path}")
        points |= {f"{Path(name).stem}: {label}": point for label, point in inside.items()}
    return points


def _prepare(sweep: Sweep, profile: Profile, asked: Asked, console: Console) -> None:
    """Render or index the videos of trials and of the last table, before processes ask for them one by one."""
    point = next(sweep.space.draws(1))
    for plan in (sweep.trial(0, point, profile, asked.overrides), sweep.final({}, profile, asked.overrides)):
        prepare.render(plan, console)
        prepare.index(plan, console)
