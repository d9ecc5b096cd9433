"""What Ray and Slurm have in common: a stage is the child of whatever process the cluster starts for it.

The child can be killed with all that it started, prints into its own log, and holds the stage's lock; the process above
it only waits, and hears the cluster's signals. Steps and results come through the store, which every machine of the
cluster must see under the same path, with file locks that hold between machines.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from ablations import worker
from ablations.engines.local import SPINS, death, end_group, no_main, variable
from ablations.engines.protocol import End, Message
from ablations.store import Store

if TYPE_CHECKING:
    from ablations.uids import Stage

LOOK = 1.0  # seconds between looks at a stage's progress in the store
# Seconds until a file that another machine wrote is seen here: NFS keeps for up to a minute what it knows of a folder.
PATIENCE = 75.0


def portable(job: worker.Job) -> worker.Job:
    """The job for another machine: of this one's environment variables only FIMA's own go along."""
    return replace(job, variables={name: value for name, value in job.variables.items() if name.startswith("FIMA_")})


def placed(job: worker.Job) -> worker.Job:
    """The job with the cards that the cluster leaves visible to this process, which are numbered from 0."""
    return replace(job, slot=0, cards=())


class Child:
    """A stage's process, below one that a cluster started."""

    def __init__(self, job: worker.Job) -> None:
        self.job = job
        self.process: BaseProcess | None = None

    def run(self) -> str | None:
        """Run the stage to its end, however that is.

        Returns:
            None: the store says how it went; "busy": another process has the stage; else how it died, in one line.
        """
        threads = worker.threads_of(self.job)
        with variable("OMP_NUM_THREADS", str(threads)), variable("GOMP_SPINCOUNT", SPINS), no_main():
            self.process = multiprocessing.get_context("spawn").Process(target=worker.run, args=(self.job,))
            self.process.start()
        try:
            connection.wait([self.process.sentinel])
        finally:
            self.end()
        code = self.process.exitcode
        return {0: None, worker.BUSY: "busy"}.get(code, death(code)) if code is not None else death(code)

    def end(self) -> None:
        """Kill the stage with all that it started."""
        if self.process is not None:
            end_group(self.process)
            self.process.join()


class Progress:
    """The steps of a stage as its worker notes them in the store, and whether its end is seen there yet."""

    def __init__(self, stage: Stage, store: Store, patience: float = PATIENCE) -> None:
        self.stage, self.store, self.patience = stage, store, patience
        self._looked, self._seen, self._late = time.monotonic(), time.time(), 0.0

    def news(self) -> list[Message]:
        """The last step, if there is one that was not told."""
        if time.monotonic() - self._looked < LOOK:
            return []
        self._looked = time.monotonic()
        found = self.store.progress(self.stage.uid)
        if not found or not {"step", "steps", "time"} <= found.keys() or found["time"] <= self._seen:
            return []
        self._seen = found["time"]
        return [(found["step"], found["steps"], found.get("values", {}))]

    def settled(self) -> bool:
        """Whether this machine sees how the stage ended, or has waited long enough for it."""
        list(self.store.folder(self.stage.uid).glob("*"))  # makes NFS look again
        if self.store.status(self.stage.uid).state in ("done", "failed"):
            return True
        self._late = self._late or time.monotonic()
        return time.monotonic() - self._late >= self.patience

    def end(self, told: str | None) -> End | None:
        """What `Child.run` told, as an end; None while this machine does not see what it wrote."""
        if told == "busy":
            return End("busy")
        if told is not None:
            return End("died", told)
        return End("over", "its process ended, and no result of it is seen here") if self.settled() else None
