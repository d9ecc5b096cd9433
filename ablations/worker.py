"""One stage in a process of its own. Imports no torch at the top: the fork server has it loaded already."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.provenance import machine
from ablations.store import Busy, Store
from fima.datasets import cores

if TYPE_CHECKING:
    from ablations.uids import Stage

BUSY = 75  # exit code: another process runs the stage, or did
EXPECTED = (ValueError, OSError, FloatingPointError)  # their message is for the user; anything else is our fault
MESSAGE_SECONDS, NOTE_SECONDS = 0.1, 1.5  # least time between messages to the parent, and between notes in the store
GRACE_SECONDS = 2.0  # between the ends of processes that one command ends, such as `pkill` or a scheduler's

Execute = Callable[["Stage", Store, int, Callable[[int, int, dict[str, float]], None]], dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """What a worker process is told."""

    stage: Stage
    root: Path  # of the store
    execute: str  # "module:function"
    workers: int  # processes that read videos ahead
    threads: int  # all its devices share them; 0: as many as the machine that it comes to gives it
    slot: int  # 0 ... jobs - 1
    environment: Mapping[str, Any]  # of the result, where the command was given
    variables: Mapping[str, str]  # environment variables; the fork server's are older
    cards: tuple[int, ...] = ()  # numbers of its CUDA cards; none: the slots go through all of them
    devices: int = 1  # cards, or processes on the CPU, that train together
    ignores: tuple[int, ...] = ()  # signals that are for whoever waits for the worker


def run(job: Job, pipe: connection.Connection | None = None) -> None:
    """Run a stage and keep its result, or why there is none. Exits with BUSY if another process is at it, or was.

    Args:
        job: what to do.
        pipe: takes the steps to the parent; None: it reads them in the store.
    """
    os.setsid()  # one signal then ends the stage with its readers, and Ctrl-C reaches the parent only
    for sign in (signal.SIGINT, *job.ignores):
        signal.signal(sign, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.update(job.variables)
    for name in ("RANK", "WORLD_SIZE"):  # of whoever started the command: a stage is one process
        os.environ.pop(name, None)
    store, uid = Store(job.root), job.stage.uid
    try:
        with store.lock(uid):
            if store.result(uid) is not None:  # done by another process since the parent looked
                sys.exit(BUSY)
            _run(job, store, pipe)
    except Busy:
        sys.exit(BUSY)


def _run(job: Job, store: Store, pipe: connection.Connection | None) -> None:
    stage, uid = job.stage, job.stage.uid
    store.prepare(stage)
    store.start(uid)
    redirect(store.folder(uid) / "log.txt")
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} attempt {store.status(uid).attempts}: {stage.title}", flush=True)
    began = time.monotonic()
    try:
        threads = threads_of(job)
        device = prepare(job, threads)
        store.place(uid, _place(device, job), threads)
        if job.devices > 1:
            from ablations import ranks

            result = ranks.launch(job, pipe)
        else:
            result = function(job.execute)(stage, store, job.workers, Reporter(store, uid, pipe))
        result.setdefault("seconds", time.monotonic() - began)
        result["environment"] = {**job.environment, **machine(), "threads": threads, "device": device}
        if job.devices > 1:  # threads are those of each
            result["environment"]["devices"] = job.devices
        store.finish(uid, result)
    except EXPECTED as error:
        traceback.print_exc()
        store.fail(uid, str(error) or type(error).__name__)
    except Exception as error:
        traceback.print_exc()
        where = f"{store.root.name}/{uid}/log.txt"
        store.fail(uid, f"{type(error).__name__}: {error}; the traceback is in {where}")


def threads_of(job: Job) -> int:
    """Threads of each of its devices, at least 1."""
    given = job.threads or int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or cores()
    return max(1, given // job.devices)


def prepare(job: Job, threads: int, rank: int = 0) -> str:
    """Give the stage, or one rank of it, its threads and its device; returns what the device is."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries loaded from here on
    import torch

    from fima import compute

    torch.set_num_threads(threads)
    compute.keep_memory(job.stage.config.get("settings", {}).get("compute", {}).get("precision", "float32"))
    if not torch.cuda.is_available():
        return "cpu"
    first = job.slot * job.devices
    cards = job.cards or tuple((first + i) % torch.cuda.device_count() for i in range(job.devices))
    os.environ["LOCAL_RANK"] = str(cards[rank])  # stages side by side spread over the cards
    return f"cuda: {torch.cuda.get_device_name(cards[rank])}"


def _place(device: str, job: Job) -> str:
    """The device with the number of its card: "cuda: NAME" does not say which of several it is."""
    kind, _, name = device.partition(": ")
    if not name:
        return kind if job.devices == 1 else f"{job.devices} processes on the {kind}"
    cards = ",".join(map(str, job.cards)) if job.devices > 1 and job.cards else os.environ["LOCAL_RANK"]
    return f"cuda:{cards} {name}"


def function(path: str) -> Execute:
    """The function that "module:function" names."""
    module, _, name = path.partition(":")
    found: Execute = getattr(importlib.import_module(module), name)
    return found


def redirect(path: Path) -> None:
    """Everything printed from here on, by libraries in C too, goes to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


class Reporter:
    """Takes a stage's steps to the parent at once and to the store now and then."""

    def __init__(self, store: Store, uid: str, pipe: connection.Connection | None) -> None:
        self.store, self.uid, self.pipe = store, uid, pipe
        self._sent = self._noted = float("-inf")
        self._since: tuple[int, float] | None = None  # step and Unix seconds of the first message

    def __call__(self, step: int, steps: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if self._since is None or step < self._since[0]:
            self._since = (step, time.time())
        if now - self._sent >= MESSAGE_SECONDS or step == steps or "knn" in values:  # a sweep wants every one of those
            self._sent = now
            try:
                if self.pipe:
                    self.pipe.send((step, steps, values))
            except BrokenPipeError:  # the parent is gone: that is no failure of the stage
                _die()
        if now - self._noted >= NOTE_SECONDS or step == steps:
            self._noted = now
            self.store.report(self.uid, step, steps, values, self._since)


def die_with_parent() -> None:
    """End with the parent, however it ends."""
    parent = parent_process()
    assert parent is not None  # this is a child
    connection.wait([parent.sentinel])
    _die()


def end_if_orphaned() -> None:
    """End if the parent ends now: whoever kills it may reach what we started first, and that is no failure of ours."""
    parent = parent_process()
    if parent is not None and connection.wait([parent.sentinel], GRACE_SECONDS):
        _die()


def _die() -> None:
    """End this process and all that it started; the store stands that at any instant."""
    os.killpg(0, signal.SIGKILL)
