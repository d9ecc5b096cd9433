"""Stages as tasks of Ray: on a Ray of this machine, or on a cluster whose machines share the store's folder.

A task whose worker is killed is given to another, which goes on from the checkpoint. Ctrl-C cancels all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablations import worker
from ablations.engines import remote
from ablations.engines.protocol import End, Handle, Message
from ablations.store import Store
from fima.datasets import cores

if TYPE_CHECKING:
    from ray import ObjectRef

RETRIES = 2  # times that Ray gives a stage to another worker
OBJECTS = 100 * 2**20  # bytes of shared memory for a Ray of our own: nothing goes through it
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}
GRACE = 10.0  # seconds that cancelled stages have to let go of their locks


class Died(Exception):
    """A stage's process ended without a word, by which Ray knows that it is to be tried again."""


def work(job: worker.Job) -> str | None:
    """What a task runs; see `remote.Child.run`.

    Raises:
        Died: and so Ray tries it again.
    """
    job = remote.placed(job)
    told = remote.Child(job).run()
    if told is not None and told != "busy":
        raise Died(told)
    return told


class Task:
    """A stage that Ray has."""

    def __init__(self, job: worker.Job, reference: ObjectRef[str | None], progress: remote.Progress) -> None:
        self.stage, self.reference, self.progress = job.stage, reference, progress
        self.over = False

    def news(self) -> list[Message]:
        """The last step that the store has."""
        return self.progress.news()

    def ended(self) -> End | None:
        """How the task ended, if it did."""
        import ray

        ready, _ = ray.wait([self.reference], timeout=0)
        end = self._end() if ready else None
        self.over = end is not None
        return end

    def _end(self) -> End | None:
        import ray

        try:
            return self.progress.end(ray.get(self.reference))
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            reason = str(cause or error).strip().splitlines()[-1]
            return End("died", reason if isinstance(cause, Died) else f"its Ray task broke off: {reason}")
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return End("died", f"Ray lost its worker {RETRIES + 1} times: {reason}")


class Ray:
    """The engine of a Ray cluster, or of a Ray that is started here and ends with the command."""

    def __init__(self, address: str | None, jobs: int | None, per_run: int) -> None:
        """Join the cluster, or start one.

        Raises:
            ValueError: there is none at the address, or it lacks what a stage needs.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        self.tasks: list[Task] = []
        self.own = not (address or os.environ.get("RAY_ADDRESS"))
        mine = {"num_cpus": cores(), "object_store_memory": OBJECTS, "include_dashboard": False} if self.own else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", **mine)  # type: ignore[arg-type]
        except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
            raise ValueError(f"--engine ray --address {address or ''}: {' '.join(str(error).split())[:300]}") from None
        there = ray.cluster_resources()
        self.cpus, self.gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        largest = max(int(one.get("GPU", 0)) for one in machines)
        self.jobs = jobs or max(1, self.gpus // per_run)
        smallest = min(int(one["CPU"]) for one in machines if one.get("CPU", 0) >= 1)
        self.each = max(1, min(self.cpus // self.jobs, smallest))  # threads of a stage
        if self.gpus and per_run > largest:
            self.close()
            raise ValueError(f"--devices-per-run {per_run}: the largest machine of this Ray has {largest} cards")

    def threads(self, side_by_side: int) -> int:
        """The cluster's processors, shared out, but no more than its smallest machine has."""
        return self.each

    def start(self, jobs: Sequence[worker.Job]) -> list[Handle]:
        """Give Ray a task for each."""
        import ray

        found: list[Handle] = []
        for job in jobs:
            asked: dict[str, Any] = {
                "num_cpus": job.threads, "num_gpus": job.devices if self.gpus else 0, "name": job.stage.uid,
                "max_retries": RETRIES, "retry_exceptions": [Died],
            }  # fmt: skip
            reference = ray.remote(work).options(**asked).remote(remote.portable(job))
            progress = remote.Progress(job.stage, Store(job.root), 0.0 if self.own else remote.PATIENCE)
            self.tasks.append(Task(job, reference, progress))
            found.append(self.tasks[-1])
        return found

    def wait(self, seconds: float) -> None:
        """Until a task ends."""
        import ray

        self.tasks = [task for task in self.tasks if not task.over]
        references = [task.reference for task in self.tasks]
        if not references or ray.wait(references, timeout=seconds)[0]:
            time.sleep(0.02)  # one that ended may wait for its result to be seen

    def close(self) -> None:
        """Cancel what is left, wait until it is gone, and leave the cluster."""
        import ray

        if not ray.is_initialized():
            return
        left = [task for task in self.tasks if not task.over]
        for task in left:
            ray.cancel(task.reference, force=True)
        until = time.monotonic() + GRACE
        while any(task.progress.store.locked(task.stage.uid) for task in left) and time.monotonic() < until:
            time.sleep(0.05)
        self.tasks.clear()
        ray.shutdown()
