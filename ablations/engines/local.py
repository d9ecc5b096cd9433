"""Stages as processes of this machine, from a fork server that has torch loaded. They end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import TYPE_CHECKING

from ablations import worker
from ablations.engines.protocol import End, Handle, Message
from fima.datasets import cores

if TYPE_CHECKING:
    from ablations.uids import Stage

# Loaded once by the fork server, from which each stage starts in milliseconds: what `ablations.stages` takes.
PRELOAD = [
    "torch",
    "torch._dynamo",
    "torch.utils.flop_counter",
    "fima.pretrain",
    "fima.evaluate.features",
    "fima.evaluate.classifier",
    "sklearn.linear_model",
    "ablations.stages",
]
JOB = ["ablations.worker", "ablations.uids"]  # of the Job that every stage's process unpickles
FROZEN = "ablations.engines.frozen"
# Rounds that an idle OpenMP thread waits awake. The default of 300,000 made a step on two cores 4 times slower beside
# one other busy process; this many made it 2 times slower, and cost 10 % on a quiet machine.
SPINS = os.environ.get("GOMP_SPINCOUNT", "1000")


def preload(execute: str) -> list[str]:
    """Modules for the fork server, of which those that cannot be imported are left out, by "module:function"."""
    module = execute.partition(":")[0]
    return [*(PRELOAD if module == "ablations.stages" else ["torch", module]), *JOB, FROZEN]


class Process:
    """A stage in its process, with the pipe through which it tells its steps."""

    def __init__(self, stage: Stage, process: BaseProcess, pipe: connection.Connection) -> None:
        self.stage, self.process, self.pipe = stage, process, pipe
        self.over = False  # and it was told

    def news(self) -> list[Message]:
        """Steps since the last call."""
        found: list[Message] = []
        try:
            while not self.pipe.closed and self.pipe.poll():
                found.append(self.pipe.recv())
        except (EOFError, ConnectionResetError):  # it closed its end
            pass
        return found

    def ended(self) -> End | None:
        """How the process ended, if it did."""
        if not connection.wait([self.process.sentinel], 0):
            return None
        self.over = True
        self.process.join()
        code = self.process.exitcode
        if code == worker.BUSY:
            return End("busy")
        if code != 0:
            end_group(self.process)
        return End("over" if code == 0 else "died", death(code))


class Local:
    """The engine of this machine."""

    def __init__(self) -> None:
        self.running: list[Process] = []

    def threads(self, side_by_side: int) -> int:
        """This machine's cores, shared out."""
        return max(1, cores() // side_by_side)

    def start(self, jobs: Sequence[worker.Job]) -> list[Handle]:
        """Start a process for each."""
        return [self._start(job) for job in jobs]

    def _start(self, job: worker.Job) -> Process:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(preload(job.execute))
        with variable("OMP_NUM_THREADS", str(job.threads)), variable("GOMP_SPINCOUNT", SPINS), no_interrupt():
            forkserver.ensure_running()
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=worker.run, args=(job, theirs), name=job.stage.uid)
        with no_main():
            process.start()
        theirs.close()
        self.running.append(Process(job.stage, process, ours))
        return self.running[-1]

    def wait(self, seconds: float) -> None:
        """Until a process speaks or ends."""
        self.running = [one for one in self.running if not one.over]
        if self.running:
            watched = [one.process.sentinel for one in self.running], [one.pipe for one in self.running]
            connection.wait([*watched[0], *watched[1]], seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """Kill what runs, with its readers."""
        for one in self.running:
            end_group(one.process)
        for one in self.running:
            one.process.join()
        self.running.clear()


def end_group(process: BaseProcess) -> None:
    """Kill a process and all that it started, the dead one's too."""
    assert process.pid is not None  # it was started
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # no group of its own yet, or all gone
        process.kill()


def death(code: int | None) -> str:
    """How a process without a word ended."""
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and no result"
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        return f"killed by {name}, as the system does when memory runs out: lower --jobs, --workers or the batch"
    return f"killed by {name}"


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for what is started in the block."""
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
def no_interrupt() -> Iterator[None]:
    """Ctrl-C is not for what starts in the block: a fork server ignores it by itself only once it has loaded all."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def no_main() -> Iterator[None]:
    """Hide the main module: a child would import it, which runs a script that has no `if __name__` guard again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
