"""The truth about what is done: a folder per stage, valid after a kill at any instant. Imports no torch.

Several machines may share a store, in a folder on which flock holds between machines: NFS 4, NFS 3 with its lock
daemon, Lustre mounted with `flock`; not NFS mounted with `nolock` or `local_lock`, nor Lustre with `localflock`. A
process that dies lets go of its lock at once. A machine that dies does when the file server notices: NFS 4 after its
lease (90 s by default), NFS 3 when the machine is up again, or when someone deletes the stage's `lock`.

runs/<uid>/config.json    the stage: kind, title, seed, needs, everything in its uid
           status.json    running or failed since when, of which process, how often tried
           metrics.jsonl  one object a line: step and values
           progress.json  the last step, for `fima-ablate status`
           checkpoint.pt  how a killed stage goes on
           result.json    what it found; there is never a half one, and a stage that has it is done
           log.txt        what the stage printed, warnings and tracebacks
           lock           held by the process that runs the stage
runs/commands.lock        shared by the commands that run stages, also between two of them
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from ablations.uids import Stage

DRAFT = re.compile(r"\..+?\.(\d+)(\.tmp)?(-journal|-wal|-shm)?")  # what a process writes before it puts it in place
FRESH = 60.0  # seconds in which a draft outside of stages may be one of another machine's

State = Literal["new", "running", "interrupted", "done", "failed"]


@dataclass(frozen=True)
class Status:
    """Where a stage stands. Times are seconds since 1970."""

    state: State = "new"
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    host: str | None = None
    attempts: int = 0
    device: str | None = None  # where it computes: cpu, or cuda:1 and the card's name
    threads: int | None = None


class Busy(OSError):
    """Another process runs the stage."""


class Store:
    """A folder of runs."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def folder(self, uid: str) -> Path:
        """Where a stage keeps its files; it need not exist yet."""
        return self.root / uid

    def uids(self) -> list[str]:
        """Every stage that was ever begun, in alphabetical order."""
        return sorted(path.parent.name for path in self.root.glob("*/config.json"))

    def prepare(self, stage: Stage) -> None:
        """Write config.json, and remove drafts of killed processes. To be called with the lock held."""
        folder = self.folder(stage.uid)
        folder.mkdir(parents=True, exist_ok=True)
        self.tidy(stage.uid)
        write_json(folder / "config.json", asdict(stage))

    def tidy(self, uid: str) -> None:
        """Remove drafts that killed processes left of a stage that no other process runs."""
        for draft in self.folder(uid).glob(".*"):
            if re.fullmatch(r"\..+\.\d+(\.tmp)?", draft.name):
                draft.unlink(missing_ok=True)

    def config(self, uid: str) -> dict[str, Any]:
        """The stage as it was begun; empty if it never was."""
        return read_json(self.folder(uid) / "config.json") or {}

    def status(self, uid: str) -> Status:
        """Where a stage stands; what says that it runs while nobody holds its lock was interrupted."""
        found = read_json(self.folder(uid) / "status.json") or {}
        status = Status(**{name: found[name] for name in Status.__dataclass_fields__ if name in found})
        if status.state not in get_args(State):
            status = Status()
        if self.result(uid) is not None:
            ended = status.ended if status.state == "done" else None
            return replace(status, state="done", error=None, ended=ended)
        if status.state == "done" or (status.state == "running" and not self.locked(uid)):
            return replace(status, state="interrupted", error=None, ended=None)
        return status

    def result(self, uid: str) -> dict[str, Any] | None:
        """What a stage found; None unless it is done."""
        return read_json(self.folder(uid) / "result.json")

    def start(self, uid: str) -> None:
        """Note that this process runs the stage. To be called with the lock held."""
        attempts = self.status(uid).attempts + 1
        self._write(uid, Status("running", None, time.time(), None, os.getpid(), socket.gethostname(), attempts))

    def place(self, uid: str, device: str, threads: int) -> None:
        """Note where the stage that this process runs computes."""
        self._write(uid, replace(self.status(uid), device=device, threads=threads))

    def finish(self, uid: str, result: Mapping[str, Any]) -> None:
        """Keep a result, then say so.

        Raises:
            ValueError: it holds what JSON has no form for, such as NaN.
        """
        status = self.status(uid)
        try:
            write_json(self.folder(uid) / "result.json", result)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{uid}: the result is no JSON data: {error}") from error
        self._write(uid, replace(status, state="done", error=None, ended=time.time()))

    def fail(self, uid: str, error: str) -> None:
        """Note why a stage failed, in one line."""
        status, line = self.status(uid), " ".join(error.split())
        self._write(uid, replace(status, state="failed", error=line, ended=time.time()))

    def interrupt(self, uid: str) -> None:
        """Note that the process which ran the stage is dead. To be called with the lock held."""
        self._write(uid, replace(self.status(uid), state="interrupted", error=None, ended=None))

    def report(
        self,
        uid: str,
        step: int,
        steps: int,
        values: Mapping[str, float],
        since: tuple[int, float] | None = None,
    ) -> None:
        """Note progress, for whoever looks from outside.

        Args:
            since: (step, Unix seconds) of this attempt's first message: start-up is no part of the pace.
        """
        entry = {"step": step, "steps": steps, "values": dict(values), "time": time.time(), "since": since}
        replace_file(self.folder(uid) / "progress.json", _text(entry), durable=False)

    def progress(self, uid: str) -> dict[str, Any] | None:
        """The last step noted: {step, steps, values, time, since}."""
        return read_json(self.folder(uid) / "progress.json")

    def metrics(self, uid: str) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: {step, name: value}; a line that a kill cut short is left out."""
        try:
            text = (self.folder(uid) / "metrics.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]

    def describe(self, uid: str) -> dict[str, Any]:
        """A stage in one flat record, for `fima-ablate status`."""
        config, status, result = self.config(uid), self.status(uid), self.result(uid)
        progress = self.progress(uid) if status.state in ("running", "interrupted", "failed") else None
        progress = progress if progress and {"step", "steps"} <= progress.keys() else None
        running = status.state == "running"
        seconds = result.get("seconds") if result else None
        if running and status.started:
            seconds = time.time() - status.started
        pace = _pace(progress, status) if running and progress else None
        return {
            "uid": uid,
            "title": config.get("title", ""),
            "kind": config.get("kind", ""),
            "state": status.state,
            "progress": f"{progress['step']}/{progress['steps']}" if progress else None,
            "seconds": seconds,
            "error": status.error,
            "attempts": status.attempts,
            "pid": status.pid if running else None,
            "host": status.host,
            "device": status.device,
            "threads": status.threads,
            "started": status.started,
            "ended": status.ended,
            "step": progress["step"] if progress else None,
            "steps": progress["steps"] if progress else None,
            "values": progress.get("values", {}) if progress else {},
            "noted": progress.get("time") if progress else None,
            "seconds_per_step": pace,
            "left": _left(progress, pace) if progress and pace is not None else None,
        }

    @contextmanager
    def lock(self, uid: str) -> Iterator[None]:
        """Be the one process that runs the stage. The lock goes with the process, however it ends.

        Raises:
            Busy: another process holds it.
        """
        folder = self.folder(uid)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"{folder}: another process runs this stage") from None
            yield

    def locked(self, uid: str) -> bool:
        """Whether some process runs the stage."""
        try:
            with (self.folder(uid) / "lock").open() as file:
                # a shared lock: two that only look do not disturb each other
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def command(self) -> Iterator[None]:
        """Be one of the commands that run stages here: between two stages none is locked, and yet it goes on."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "commands.lock").open("a+") as file:  # NFS shares only what is open for reading,
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def commanded(self) -> bool:
        """Whether some command runs stages here, or is about to."""
        try:
            with (self.root / "commands.lock").open("r+") as file:  # and gives alone only what is open for writing
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, PermissionError):  # another user's store can be looked at
            return False
        except BlockingIOError:
            return True
        return False

    def _write(self, uid: str, status: Status) -> None:
        write_json(self.folder(uid) / "status.json", asdict(status))


def _pace(progress: Mapping[str, Any], status: Status) -> float | None:
    """Seconds per step of this attempt; None before its second message."""
    since = progress.get("since")
    if since is None and status.attempts == 1:
        since = (0, status.started)
    if since is None or since[1] is None or (status.started or 0.0) > progress["time"] or progress["step"] <= since[0]:
        return None
    return float(max(0.0, progress["time"] - since[1]) / (progress["step"] - since[0]))


def _left(progress: Mapping[str, Any], pace: float) -> float:
    """Seconds to the last step, as of now."""
    return max(0.0, (progress["steps"] - progress["step"]) * pace - (time.time() - progress["time"]))


def alive(pid: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives and is another user's
        return True
    return True


def birth(pid: int) -> str | None:
    """What tells a process from others that had its number before, or will after a restart; None: not known here."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # field 22, in ticks since boot
    except OSError:
        return None
    return f"{boot}-{started}"


def still_runs(pid: int, born: str | None) -> bool:
    """Whether a process of this machine still runs, and is the one of whom `birth` told `born`."""
    return alive(pid) and (born is None or birth(pid) == born)


def left_drafts(paths: Iterable[Path]) -> list[Path]:
    """Those that are old drafts of dead processes; a young one may be another machine's."""
    return [
        path
        for path in paths
        if (found := DRAFT.fullmatch(path.name))
        and not alive(int(found[1]))
        and path.is_file()
        and time.time() - path.stat().st_mtime > FRESH
    ]


def read_json(path: Path) -> dict[str, Any] | None:
    """The object that a file holds; None if there is no such file, or no whole object in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Put an object in place whole and for good; equal objects give equal bytes.

    Raises:
        TypeError, ValueError: JSON has no form for it.
    """
    replace_file(path, _text(content))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def replace_file(path: Path, content: str | bytes, durable: bool = True) -> Path:
    """Put a file in place whole: a kill leaves the old one or the new one; if durable, so does a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path
