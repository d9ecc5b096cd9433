"""Stages as jobs of Slurm (submitit): those that are started together are one array.

A job that nears its time limit is put back into the queue and goes on from its checkpoint. Jobs outlive a command that
is killed; the same command then waits for those that run. Ctrl-C cancels them.
"""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ablations import worker
from ablations.engines import remote
from ablations.engines.protocol import End, Handle, Message
from ablations.located import guess
from fima.datasets import cores

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.core.utils import DelayedSubmission

    from ablations.store import Store

GENERIC = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name", "stderr_to_stdout")
# What submitit calls otherwise, or what would start a stage several times.
ALIASES = {"time": "timeout_min", "job_name": "name"}
REFUSED = ("nodes", "tasks_per_node", "ntasks_per_node", "num_gpus", "setup", "teardown", "map_count")
GPUS = ("gpus_per_node", "gpus_per_task", "gres")
TIMEOUTS = 100  # times that a job is queued again after a time-out; max_num_timeout=N
MINUTES = 24 * 60
CLUSTERS = ("slurm", "local")


@dataclass(frozen=True)
class Options:
    """What `--slurm KEY=VALUE` said."""

    cluster: str = "slurm"
    timeouts: int = TIMEOUTS
    parameters: dict[str, Any] = field(default_factory=dict)  # of AutoExecutor.update_parameters

    @classmethod
    def read(cls, words: Iterable[str], per_run: int) -> Options:
        """Options from KEY=VALUE.

        Raises:
            ValueError: one is no such pair, is unknown or does not fit; or this machine has no Slurm.
        """
        given: dict[str, Any] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not name or not value:
                raise ValueError(f"--slurm takes KEY=VALUE, such as partition=gpu; got {word}")
            name = ALIASES.get(name, name)
            given[name] = _parsed(value)
            if not isinstance(given[name], _kind(name)):
                what = "minutes as a whole number" if name == "timeout_min" else "a whole number"
                raise ValueError(f"--slurm {word}: {name} takes {what}")
        cluster = given.pop("cluster", "slurm")
        if cluster not in CLUSTERS:
            raise ValueError(f"--slurm cluster={cluster}: it is one of {', '.join(CLUSTERS)}")
        if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ValueError(
                "--engine slurm: there is no sbatch on this machine; run it on a login node of the cluster, or with "
                "--slurm cluster=local to try it here"
            )
        timeouts = given.pop("max_num_timeout", TIMEOUTS)
        given.setdefault("timeout_min", MINUTES)
        if per_run > 1 and cluster == "slurm" and not any(name in given for name in GPUS):
            given["gpus_per_node"] = per_run
        if 0 < given.get("gpus_per_node", 0) < per_run:
            told = f"gpus_per_node={given['gpus_per_node']}"
            raise ValueError(f"--slurm {told}: --devices-per-run {per_run} needs as many; leave it out")
        return cls(cluster, timeouts, _prefixed(given))


def _parsed(value: str) -> Any:
    """Whole numbers and true or false are what they look like; all else is text: 12:30 is no number, nor is 00123."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return int(value) if re.fullmatch(r"-?(0|[1-9]\d*)", value) else value


def _kind(name: str) -> type:
    numbers = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "max_num_timeout", "signal_delay_s")
    return int if name in numbers else object


def _prefixed(given: dict[str, Any]) -> dict[str, Any]:
    """Parameters under the names that submitit wants: its own as they are, Slurm's with slurm_ in front.

    Raises:
        ValueError: there is no such parameter.
    """
    from submitit import SlurmExecutor

    valid = sorted(({*SlurmExecutor._valid_parameters(), *GENERIC, "time"}) - set(REFUSED))
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in valid:
            why = f"there is no such key.{guess(name, valid)}"
            if name in REFUSED:
                why = "a stage is one task of one machine."
            raise ValueError(f"--slurm {name}={value}: {why} Keys are {', '.join(valid)}, cluster, max_num_timeout")
        if name in GENERIC:
            found[name] = value
        else:
            found[f"slurm_{name}"] = value
    return found


class Work:
    """What a job runs. Pickled by submitit, which calls `checkpoint` when the time limit is near."""

    def __init__(self, job: worker.Job) -> None:
        self.job = job

    def __call__(self) -> str | None:
        """Run the stage; see `remote.Child.run`."""
        self.child = remote.Child(remote.placed(self.job))
        return self.child.run()

    def checkpoint(self) -> DelayedSubmission:
        """End the stage, whose last checkpoint is at most a minute old, and go on with it in the next job."""
        from submitit.helpers import DelayedSubmission

        self.child.end()
        return DelayedSubmission(Work(self.job))


class Submitted:
    """A stage in the queue, or on a machine of the cluster."""

    def __init__(self, job: worker.Job, submitted: Job[str | None], progress: remote.Progress) -> None:
        self.stage, self.submitted, self.progress = job.stage, submitted, progress
        self.over = False
        self._looked = 0.0

    def news(self) -> list[Message]:
        """The last step that the store has."""
        return self.progress.news()

    def ended(self) -> End | None:
        """How the job ended, if it did; asked of Slurm now and then."""
        if time.monotonic() - self._looked < remote.LOOK / 4:
            return None
        self._looked = time.monotonic()
        if not self.submitted.done():
            return None
        end = self._end()
        self.over = end is not None
        return end

    def _end(self) -> End | None:
        where = f"its job {self.submitted.job_id}"
        if not self.submitted.paths.result_pickle.exists():
            if self.progress.settled():
                return End("over", f"{where} left no word")
            state = str(self.submitted.state)
            return None if state in ("FINISHED", "COMPLETED") else End("died", f"{where} ended as {state}")
        error = self.submitted.exception()
        if error is not None:
            reason = str(error).strip().splitlines()[-1]
            return End("died", f"{where} broke off: {reason}; {self.submitted.paths.stderr} says more")
        return self.progress.end(self.submitted.result())


class Slurm:
    """The engine of a Slurm cluster, or of this machine in its place."""

    def __init__(self, options: Options, store: Store, jobs: int | None) -> None:
        self.options, self.store, self.jobs = options, store, jobs
        self.running: list[Submitted] = []
        self._executors: dict[bool, AutoExecutor] = {}

    def threads(self, side_by_side: int) -> int:
        """On a cluster what a job is given; else this machine's cores, shared out."""
        return 0 if self.options.cluster == "slurm" else max(1, cores() // (self.jobs or side_by_side))

    def start(self, jobs: Sequence[worker.Job]) -> list[Handle]:
        """Submit stages: pre-trainings as one array, the others, which need one card at most, as another.

        Raises:
            OSError: Slurm did not take them.
        """
        found: dict[str, Handle] = {}
        for pretraining in (True, False):
            group = [job for job in jobs if (job.stage.kind == "pretrain") == pretraining]
            if group:
                found |= {handle.stage.uid: handle for handle in self._submit(group, pretraining)}
        return [found[job.stage.uid] for job in jobs]

    def _submit(self, jobs: list[worker.Job], pretraining: bool) -> list[Submitted]:
        # Slurm tells every process of a job; the one above the stage acts.
        ignored = (int(signal.SIGTERM), int(signal.SIGUSR2))
        works = [Work(replace(remote.portable(job), ignores=ignored)) for job in jobs]
        try:
            submitted = self._executor(pretraining).submit_array(works)
        except (RuntimeError, OSError, ValueError) as error:  # submitit's own are RuntimeErrors
            raise OSError(f"--engine slurm: not taken: {' '.join(str(error).split())[-500:]}") from error
        patience = remote.PATIENCE if self.options.cluster == "slurm" else 0.0
        handles = [
            Submitted(job, one, remote.Progress(job.stage, self.store, patience))
            for job, one in zip(jobs, submitted, strict=True)
        ]
        self.running += handles
        return handles

    def _executor(self, pretraining: bool) -> AutoExecutor:
        if pretraining not in self._executors:
            from submitit import AutoExecutor

            folder, cluster = self.store.root / "slurm", self.options.cluster
            timeouts = {f"{cluster}_max_num_timeout": self.options.timeouts}
            executor = AutoExecutor(folder, cluster=cluster, **timeouts)
            asked = {"name": "fima-ablate", **self.options.parameters}
            if not pretraining and "gpus_per_node" in asked:
                asked["gpus_per_node"] = min(1, asked["gpus_per_node"])
            executor.update_parameters(**asked)
            self._executors[pretraining] = executor
        return self._executors[pretraining]

    def wait(self, seconds: float) -> None:
        """Slurm does not call: look again a moment later."""
        self.running = [one for one in self.running if not one.over]
        time.sleep(seconds)

    def close(self) -> None:
        """Cancel what is in the queue or runs."""
        left = [one for one in self.running if not one.over]
        for one in left:
            one.submitted.cancel(check=False)
        for one in left if self.options.cluster == "local" else []:
            process = getattr(one.submitted, "_process", None)
            if process is not None:
                process.wait()  # a cancelled controller ends its job first
        self.running.clear()
