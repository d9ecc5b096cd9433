"""The store mirrored into MLflow by one writer.

Each study of an invocation (study, profile, overrides, seeds) is a parent run, each of its stages a child. The store is
the truth: a server that is down delays nothing, and the next `run`, or `fima-ablate sync`, brings it up to date. What
was logged is known from the ledger; where that knows nothing, MLflow is asked: nothing is logged twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ablations.ledger import Entry, Ledger
from ablations.mirror import Mirror, git
from ablations.provenance import environment
from ablations.store import Store
from ablations.uids import with_needs

if TYPE_CHECKING:
    from ablations.plan import Plan
    from ablations.uids import Stage

PAUSE = 30.0  # seconds without another attempt after one failed
PATIENCE = 30.0  # seconds that the end of a command waits for a slow server
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else the first call to a dead server hangs for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


def default_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI, or a database beside the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root.parent / 'mlflow.db'}"


class Tracker:
    """Mirrors the store from a thread of its own, from now until `close`. Never fails a run, and hardly delays one.

    Args:
        store: the truth.
        plan: what this command runs; None: `more` says it.
        uri: of MLflow; None: MLFLOW_TRACKING_URI, else <store>/../mlflow.db.
        command: as one would type it, for the parent run.
        more: gives what there is to mirror instead, anew at each look: a sweep, its trials and its last table.
        say: takes the one line that is said when MLflow cannot be reached; None: stderr.
        interval: seconds between looks at stages that run.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan | None,
        uri: str | None = None,
        *,
        command: str | None = None,
        more: Callable[[], Mapping[str, Entry]] | None = None,
        say: Callable[[str], None] | None = None,
        interval: float = 15.0,
    ) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        self.store, self.uri, self.interval = store, uri or default_uri(store), interval
        self.say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self.behind: str | None = None  # why MLflow lacks something that the store has
        self._own, self._more = invocations(plan, command) if plan else {}, more
        self._mirror: Mirror | None = None
        self._failed = -math.inf  # when the last attempt did
        self._open, self._wake = True, threading.Event()
        self._thread = self._begin(self._watch)

    def stage_finished(self, stage: Stage, state: str) -> None:
        """Told by the engine; returns at once."""
        self._wake.set()

    def close(self, patience: float = PATIENCE) -> bool:
        """Bring MLflow up to date and say how the invocation ended; returns whether MLflow has everything."""
        self._open = False
        self._wake.set()
        return self._wait(patience)

    def attach(self, files: Mapping[str, Sequence[Path]], patience: float = PATIENCE) -> bool:
        """Keep the files of each study's report as artifacts of its parent run. After `close`.

        Returns:
            whether MLflow has everything.
        """
        for entry in self._own.values():
            if entry["study"] in files and not entry.get("above"):
                entry["files"] = {path.name: str(path.absolute()) for path in files[entry["study"]]}
        if not self._thread.is_alive():
            self._thread = self._begin(self._attempt)
        return self._wait(patience)

    def _begin(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name="mlflow", daemon=True)
        thread.start()
        return thread

    def _wait(self, patience: float) -> bool:
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn(f"does not answer within {patience:.0f} s")
        return self.behind is None

    def _watch(self) -> None:
        while True:
            last = not self._open
            self._wake.clear()
            self._attempt()
            if last:
                return
            self._wake.wait(self.interval)

    def _attempt(self) -> None:
        """Note locally what there is to mirror; then mirror it, unless that failed a moment ago."""
        try:
            self.store.root.mkdir(parents=True, exist_ok=True)
            self._look()
            with only_writer(self.store):
                ledger = Ledger(self.store.root / "mlflow.json")
                ledger.note(self._own, running=self._open)
                if time.monotonic() - self._failed < PAUSE:
                    return
                self._mirror = self._mirror or Mirror(self.store, self.uri)
                self._mirror.sync(ledger, self._own)
            self.behind = None
        except Exception as error:  # whatever MLflow, its database or its server raise, the run goes on
            self._failed, self._mirror = time.monotonic(), None
            with (self.store.root / "mlflow.log").open("a") as log:
                log.write(time.strftime("%Y-%m-%d %H:%M:%S ") + "".join(traceback.format_exception(error, chain=False)))
            self._warn(reason(error))

    def _look(self) -> None:
        """Take in what a sweep has to say by now."""
        if self._more is None:
            return
        found = self._more()
        self._own = {key: {**entry, "files": self._own.get(key, entry)["files"]} for key, entry in found.items()}

    def _warn(self, reason: str) -> None:
        if self.behind is None:
            self.say(
                f"warning: MLflow at {without_password(self.uri)}: {reason}. Nothing is lost: the results are in "
                f"{self.store.root}, and the next run or `fima-ablate sync` copies them"
            )
        self.behind = reason


def invocations(plan: Plan, command: str | None = None) -> dict[str, Entry]:
    """What parent runs say: one per study, by a key that the same invocation has again."""
    found: dict[str, Entry] = {}
    for study in dict.fromkeys(row.study.study for row in plan.rows):
        rows = [row for row in plan.rows if row.study.study == study]
        beside = [reference for reference in plan.references if reference.study.study == study]
        seeds = sorted({seed for row in rows for seed in row.pretrain})
        identity = [study, plan.profile.profile, list(plan.overrides), seeds]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        labels: dict[str, list[str]] = {}
        for row in rows:
            for uids in row.stages.values():
                for uid in uids:
                    labels.setdefault(uid, []).append(row.row.label)
        for reference in beside:
            for uid in with_needs(plan.stages, reference.uids):
                labels.setdefault(uid, []).append(reference.label)
        found[f"{study}-{plan.profile.profile}-{digest}"] = {
            "study": study,
            "title": rows[0].study.title,
            "profile": plan.profile.profile,
            "scale": plan.profile.scale,
            "overrides": list(plan.overrides),
            "seeds": seeds,
            "git": git(environment()),
            "command": command,
            "stages": {uid: ", ".join(dict.fromkeys(rows_of)) for uid, rows_of in labels.items()},
            "files": {},
        }
    return found


def begun(plan: Plan, store: Store) -> Plan:
    """The part of a plan whose studies have a stage in the store."""
    there = set(store.uids())
    studies = {row.study.study for row in plan.rows if there & {uid for uids in row.stages.values() for uid in uids}}
    rows = tuple(row for row in plan.rows if row.study.study in studies)
    beside = tuple(reference for reference in plan.references if reference.study.study in studies)
    return replace(plan, rows=rows, references=beside)


def unmirrored(store: Store) -> int:
    """How many finished stages no invocation has that there is to mirror."""
    known = {uid for entry in Ledger(store.root / "mlflow.json").invocations.values() for uid in entry["stages"]}
    return sum(store.status(uid).state == "done" for uid in store.uids() if uid not in known)


def reason(error: Exception) -> str:
    """An exception in one short line."""
    text = " ".join(str(error).split()).partition(" [SQL")[0].partition(" (Background on this error")[0]
    for known in ("Connection refused", "Name or service not known", "timed out", "No route to host"):
        if known in text:
            return known
    return f"{type(error).__name__}: {text[:200]}"


def without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return uri.replace(f"{parts.username}:{parts.password}@", f"{parts.username}:***@") if parts.password else uri


@contextmanager
def only_writer(store: Store) -> Iterator[None]:
    """One process at a time writes the ledger and mirrors a store."""
    with (store.root / "mlflow.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
