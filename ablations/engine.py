"""Runs the stages of a plan side by side, each after those that it needs: order, caching, retries, failures.

Where a stage executes is the business of `ablations.engines`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablations import provenance, worker
from ablations.display import Display, span
from ablations.engines.local import Local
from ablations.engines.protocol import End, Engine, Handle
from ablations.store import Busy, Store

if TYPE_CHECKING:
    from rich.console import Console

    from ablations.plan import Plan
    from ablations.uids import Stage

EXECUTE = "ablations.stages:execute"
TICK = 0.2  # seconds between looks at what runs
OTHERS = 0.5  # seconds between looks at what another fima-ablate runs


@dataclass
class Outcome:
    """What became of the stages of a plan."""

    done: int = 0  # run to their end by this call
    cached: int = 0  # done before, or by another process
    failed: dict[str, str] = field(default_factory=dict)  # uid -> why, one line
    skipped: dict[str, str] = field(default_factory=dict)  # uid -> uid of the failed stage that it needs
    unstarted: int = 0  # left alone after a failure, as asked
    seconds: float = 0.0
    titles: dict[str, str] = field(default_factory=dict)  # of the failed and skipped

    def lines(self) -> list[str]:
        """The outcome for people: counts, then a line per failure and one for what it took along."""
        parts = [f"{self.done} stages run in {span(self.seconds)}", f"{self.cached} done before"]
        parts += [f"{len(self.failed)} failed"] * bool(self.failed)
        parts += [f"{len(self.skipped)} skipped, for they need a failed one"] * bool(self.skipped)
        parts += [f"{self.unstarted} not started after the first failure (--fail-fast)"] * bool(self.unstarted)
        lines = [", ".join(parts)]
        lines += [f"failed: {self.titles[uid]} ({uid}): {error}" for uid, error in self.failed.items()]
        if self.failed:
            lines.append("the same command tries the failed stages again and keeps the others")
        return lines


def run(
    plan: Plan,
    store: Store,
    *,
    jobs: int = 1,
    workers: int = 2,
    console: Console | None = None,
    on_finished: Callable[[Stage, str], None] | None = None,
    on_steps: Callable[[Stage, int, Mapping[str, float]], None] | None = None,
    beside: tuple[int, int] = (0, 1),
    execute: str = EXECUTE,
    retries: int = 0,
    fail_fast: bool = False,
    cards: Sequence[int] = (),
    devices: int = 1,
    engine: Engine | None = None,
) -> Outcome:
    """Run what of a plan is not done.

    A failed stage stops only those that need it. Two calls on one store, in one process or two, never run a stage
    twice: the second waits for the first and takes its result.

    Args:
        plan: stages, each after those it needs.
        store: where results are, and go.
        jobs: stages side by side, >= 1. Each gets cores // jobs threads, at least 1. The number of threads alters the
            last bits of sums and so, after enough steps, results; it is recorded in each result.
        workers: processes per stage that read videos ahead; alters no result.
        console: for progress; None: stderr.
        on_finished: called with (stage, "done" | "cached" | "failed" | "skipped"), from this thread.
        on_steps: called with (stage, step, metrics), from this thread; what it raises ends the call and all its stages.
        beside: (number of this call, calls side by side on this machine), which share the cores and the cards.
        execute: "module:function" that runs a stage.
        retries: times that this call tries a failed stage again, from its checkpoint, before it counts as failed.
        fail_fast: after the first failure start no other stage; what runs goes on to its end.
        cards: numbers of CUDA cards, `devices` for each stage side by side, in turns where there are more; none: all.
        devices: on which each pre-training is trained, >= 1: cards of its own, or processes on the CPU that share its
            threads. BatchNorm's statistics are each device's own; the number is recorded in each result.
        engine: where stages execute; None: processes of this machine.

    Raises:
        KeyboardInterrupt: after Ctrl-C; all stages are ended, and what they had is kept.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    display = Display(plan, store, jobs, console)
    return _Run(
        plan, store, jobs, workers, display, on_finished, on_steps, beside, execute, retries, fail_fast, cards,
        devices, engine or Local(),
    ).run()  # fmt: skip


@dataclass
class _Running:
    """A stage that was started."""

    stage: Stage
    handle: Handle
    slot: int


class _Run:
    """One call of `run`."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        jobs: int,
        workers: int,
        display: Display,
        on_finished: Callable[[Stage, str], None] | None,
        on_steps: Callable[[Stage, int, Mapping[str, float]], None] | None,
        beside: tuple[int, int],
        execute: str,
        retries: int,
        fail_fast: bool,
        cards: Sequence[int],
        devices: int,
        engine: Engine,
    ) -> None:
        self.stages, self.store, self.jobs, self.workers = plan.stages, store, jobs, workers
        self.display, self.on_finished, self.on_steps, self.execute = display, on_finished, on_steps, execute
        self.retries, self.fail_fast, self.cards = retries, fail_fast, cards
        self.devices, self.engine = devices, engine
        self.threads = engine.threads(jobs * beside[1])
        self.first_slot = jobs * beside[0]
        self.pending = dict(plan.stages)  # in an order in which they can run
        self.chosen: list[Stage] = []  # to be started, all at once
        self.running: dict[str, _Running] = {}
        self.others: dict[str, float] = {}  # uid -> since when (Unix seconds) we know that another process runs it
        self.looked = 0.0  # when last at those
        self.ready: set[str] = set()
        self.tried: dict[str, int] = {}  # uid -> times that it failed in this call
        self.outcome = Outcome()

    def run(self) -> Outcome:
        began = time.monotonic()
        with self.store.command(), self.display:
            for stage in list(self.pending.values()):
                if self.store.result(stage.uid) is not None:
                    self._take_or_choose(stage)
            try:
                while self.pending or self.running:
                    self._begin()
                    self._start()
                    self._listen()
                    self.display.tick()
            except KeyboardInterrupt:
                left = len(self.pending) + len(self.running)
                self.engine.close()
                self.display.say(f"stopped with {left} stages to go; the same command goes on from here")
                raise
            finally:
                self.engine.close()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _begin(self) -> None:
        """Settle what needs no process, and choose what can be started."""
        look = time.monotonic() - self.looked >= OTHERS
        if look:
            self.looked = time.monotonic()
        for uid, stage in self._in_order():
            failed = [self.outcome.skipped.get(need, need) for need in stage.needs if need in self.outcome.titles]
            if failed:
                self.outcome.skipped[uid] = failed[0]
                self._settle(stage, "skipped")
            elif self.fail_fast and self.outcome.failed:
                del self.pending[uid]
                self.outcome.unstarted += 1
            elif (
                len(self.running) + len(self.chosen) >= self.jobs
                or not self.ready.issuperset(stage.needs)
                or (uid in self.others and not look)
                or self._others_run(stage)
            ):
                continue
            else:
                self._take_or_choose(stage)

    def _in_order(self) -> list[tuple[str, Stage]]:
        """Stages to come: row by row, so that first numbers are there soon. But the last pre-trainings come first once
        there is a slot for each: other stages wait for them, and at the end they would run alone.
        """
        stages = list(self.pending.items())
        left = [*self.pending.values(), *(one.stage for one in self.running.values())]
        if 1 < self.jobs >= sum(stage.kind == "pretrain" for stage in left):
            stages.sort(key=lambda item: item[1].kind != "pretrain")
        return stages

    def _others_run(self, stage: Stage) -> bool:
        """Whether another process runs a stage; then it is waited for."""
        if not self.store.locked(stage.uid):
            return False
        self.others.setdefault(stage.uid, time.time())
        self.display.waits(stage, self.store.status(stage.uid).pid)
        return True

    def _take_or_choose(self, stage: Stage) -> None:
        """A stage that nobody runs: its result if there is one, else a process."""
        since = self.others.pop(stage.uid, None)
        status = self.store.status(stage.uid)
        if status.state == "done":
            self.store.tidy(stage.uid)  # a kill after its result was written
            self.outcome.cached += 1
            self._settle(stage, "cached")
        elif status.state == "failed" and since is not None and status.ended is not None and status.ended >= since:
            self._fail(stage, status.error or "failed in another process")
        else:
            del self.pending[stage.uid]
            self.chosen.append(stage)

    def _start(self) -> None:
        """Hand over what was chosen; together, for a cluster takes many as one array."""
        if not self.chosen:
            return
        slots = iter(sorted(set(range(self.jobs)) - {one.slot - self.first_slot for one in self.running.values()}))
        given = [(stage, self.first_slot + next(slots)) for stage in self.chosen]
        self.chosen = []
        handles = self.engine.start([self._job(stage, slot) for stage, slot in given])
        for (stage, slot), handle in zip(given, handles, strict=True):
            self.running[stage.uid] = _Running(stage, handle, slot)
            self.display.starts(stage)

    def _job(self, stage: Stage, slot: int) -> worker.Job:
        devices = self.devices if stage.kind == "pretrain" else 1
        first = slot * self.devices
        cards = tuple(self.cards[(first + i) % len(self.cards)] for i in range(devices)) if self.cards else ()
        return worker.Job(
            stage, self.store.root, self.execute, self.workers, self.threads, slot, provenance.environment(),
            dict(os.environ), cards, devices,
        )  # fmt: skip

    def _listen(self) -> None:
        """Wait a moment for news of what runs, and take in what came."""
        if not self.running:
            if self.pending:
                time.sleep(TICK)
            return
        self.engine.wait(TICK)
        for running in list(self.running.values()):
            end = running.handle.ended()  # asked first: then all its messages are there
            for step, steps, values in running.handle.news():
                self.display.steps(running.stage, step, steps, values)
                if self.on_steps:
                    self.on_steps(running.stage, step, values)
            if end:
                self._end(running.stage, end)

    def _end(self, stage: Stage, end: End) -> None:
        """A process is over: see what it left in the store."""
        uid = stage.uid
        del self.running[uid]
        if end.how == "busy":
            self.others[uid] = time.time()
            self._again(stage)
            return
        status = self.store.status(uid)
        if status.state == "done":
            self.outcome.done += 1
            self._settle(stage, "done")
        elif end.how == "over" and status.state == "failed":
            self._fail(stage, status.error or "failed")
        else:
            error = f"{end.error}; what it printed is in {self.store.root.name}/{uid}/log.txt"
            try:
                with self.store.lock(uid):
                    self.store.fail(uid, error)
            except Busy:  # another process is at it by now, and will say how that went
                pass
            self._fail(stage, error)

    def _fail(self, stage: Stage, error: str) -> None:
        tried = self.tried[stage.uid] = self.tried.get(stage.uid, 0) + 1
        if tried <= self.retries and not (self.fail_fast and self.outcome.failed):
            self.display.fails(stage, f"{error}; tried again, {tried} of {self.retries}")
            self._again(stage)
            return
        self.outcome.failed[stage.uid] = error
        self._settle(stage, "failed", error)

    def _again(self, stage: Stage) -> None:
        """Put a stage back to where it was among those to come."""
        self.pending = {uid: self.stages[uid] for uid in self.stages if uid in self.pending or uid == stage.uid}

    def _settle(self, stage: Stage, state: str, error: str | None = None) -> None:
        self.pending.pop(stage.uid, None)
        if state in ("done", "cached"):
            self.ready.add(stage.uid)
        else:
            self.outcome.titles[stage.uid] = stage.title
        self.display.ends(stage, state, error)
        if self.on_finished:
            self.on_finished(stage, state)
