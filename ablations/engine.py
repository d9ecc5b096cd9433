"""Runs the stages of a plan in processes of their own, side by side, each after those that it needs."""

from __future__ import annotations

import functools
import importlib.metadata
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ablations import code, worker
from ablations.display import Display, span
from ablations.store import Busy, Store
from fima.datasets import cores

if TYPE_CHECKING:
    from rich.console import Console

    from ablations.plan import Plan, Stage

EXECUTE = "ablations.stages:execute"
# Loaded once by the fork server, from which each stage starts in milliseconds. What cannot be imported is left out.
PRELOAD = [
    "torch",
    "torch._dynamo",
    "torch.utils.flop_counter",
    "fima.pretrain",
    "fima.evaluate.features",
    "fima.evaluate.classifier",
    "sklearn.linear_model",
]
# Rounds that an idle OpenMP thread waits awake. The default of 300,000 made a step on two cores 4 times slower beside
# one other busy process; this many made it 2 times slower, and cost 10 % on a quiet machine.
SPINS = os.environ.get("GOMP_SPINCOUNT", "1000")
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
        cards: numbers of CUDA cards, one for each stage side by side, in turns where there are more; none: all.

    Raises:
        KeyboardInterrupt: after Ctrl-C; all stages are ended, and what they had is kept.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    display = Display(plan, store, jobs, console)
    return _Run(
        plan, store, jobs, workers, display, on_finished, on_steps, beside, execute, retries, fail_fast, cards
    ).run()


@functools.cache
def environment() -> dict[str, Any]:
    """What results are made with; threads and device are the worker's to add."""
    commit, dirty = code.commit()
    return {
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": cores(),
        "commit": commit,
        "dirty": dirty,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@dataclass
class _Running:
    """A stage in its process."""

    stage: Stage
    process: ForkServerProcess
    pipe: connection.Connection
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
    ) -> None:
        self.stages, self.store, self.jobs, self.workers = plan.stages, store, jobs, workers
        self.display, self.on_finished, self.on_steps, self.execute = display, on_finished, on_steps, execute
        self.retries, self.fail_fast, self.cards = retries, fail_fast, cards
        self.threads = max(1, cores() // (jobs * beside[1]))
        self.first_slot = jobs * beside[0]
        self.pending = dict(plan.stages)  # in an order in which they can run
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
                    self._take_or_start(stage)
            try:
                while self.pending or self.running:
                    self._begin()
                    self._listen()
                    self.display.tick()
            except KeyboardInterrupt:
                left = len(self.pending) + len(self.running)
                self._kill()
                self.display.say(f"stopped with {left} stages to go; the same command goes on from here")
                raise
            finally:
                self._kill()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _begin(self) -> None:
        """Settle what needs no process, and start what can be."""
        look = time.monotonic() - self.looked >= OTHERS
        if look:
            self.looked = time.monotonic()
        for uid, stage in list(self.pending.items()):
            failed = [self.outcome.skipped.get(need, need) for need in stage.needs if need in self.outcome.titles]
            if failed:
                self.outcome.skipped[uid] = failed[0]
                self._settle(stage, "skipped")
            elif self.fail_fast and self.outcome.failed:
                del self.pending[uid]
                self.outcome.unstarted += 1
            elif (
                len(self.running) >= self.jobs
                or not self.ready.issuperset(stage.needs)
                or (uid in self.others and not look)
                or self._others_run(stage)
            ):
                continue
            else:
                self._take_or_start(stage)

    def _others_run(self, stage: Stage) -> bool:
        """Whether another process runs a stage; then it is waited for."""
        if not self.store.locked(stage.uid):
            return False
        self.others.setdefault(stage.uid, time.time())
        self.display.waits(stage, self.store.status(stage.uid).pid)
        return True

    def _take_or_start(self, stage: Stage) -> None:
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
            self._start(stage)

    def _start(self, stage: Stage) -> None:
        slots = set(range(self.first_slot, self.first_slot + self.jobs))
        slot = min(slots - {other.slot for other in self.running.values()})
        job = worker.Job(
            stage, self.store.root, self.execute, self.workers, self.threads, slot, environment(), dict(os.environ),
            self.cards[slot % len(self.cards)] if self.cards else None,
        )  # fmt: skip
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        with _variable("OMP_NUM_THREADS", str(self.threads)), _variable("GOMP_SPINCOUNT", SPINS):
            forkserver.ensure_running()
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=worker.run, args=(job, theirs), name=stage.uid)
        with no_main():
            process.start()
        theirs.close()
        del self.pending[stage.uid]
        self.running[stage.uid] = _Running(stage, process, ours, slot)
        self.display.starts(stage)

    def _listen(self) -> None:
        """Wait a moment for news of what runs, and take in what came."""
        if not self.running:
            if self.pending:
                time.sleep(TICK)
            return
        watched: list[Any] = [running.process.sentinel for running in self.running.values()]
        watched += [running.pipe for running in self.running.values()]
        connection.wait(watched, TICK)
        for running in list(self.running.values()):
            ended = connection.wait([running.process.sentinel], 0)  # asked first: then all its messages are there
            self._read(running)
            if ended:
                self._end(running)

    def _read(self, running: _Running) -> None:
        try:
            while running.pipe.poll():
                step, steps, values = running.pipe.recv()
                self.display.steps(running.stage, step, steps, values)
                if self.on_steps:
                    self.on_steps(running.stage, step, values)
        except (EOFError, ConnectionResetError):  # it closed its end
            return

    def _end(self, running: _Running) -> None:
        """A process is over: see what it left in the store."""
        stage, uid = running.stage, running.stage.uid
        running.process.join()
        code = running.process.exitcode
        running.pipe.close()
        del self.running[uid]
        if code == worker.BUSY:
            self.others[uid] = time.time()
            self._again(stage)
            return
        status = self.store.status(uid)
        if status.state == "done":
            self.outcome.done += 1
            self._settle(stage, "done")
        elif code == 0 and status.state == "failed":
            self._fail(stage, status.error or "failed")
        else:
            _end_group(running.process)
            error = f"{_death(code)}; what it printed is in {self.store.root.name}/{uid}/log.txt"
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

    def _kill(self) -> None:
        """End all that runs, with its readers. Nothing is lost but the steps since the last checkpoint."""
        for running in self.running.values():
            _end_group(running.process)
        for running in self.running.values():
            running.process.join()
        self.running.clear()


def _end_group(process: ForkServerProcess) -> None:
    """Kill a process and all that it started, the dead one's too."""
    assert process.pid is not None  # it was started
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # no group of its own yet, or all gone
        process.kill()


def _death(code: int | None) -> str:
    """How a process without a word ended."""
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and no result"
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        return f"killed by {name}, as the system does when memory runs out: lower --jobs, --workers or the batch"
    return f"killed by {name}"


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def no_main() -> Iterator[None]:
    """Hide the main module: a child would import it, which runs a script that has no `if __name__` guard again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
