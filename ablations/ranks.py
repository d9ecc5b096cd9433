"""One stage in several processes, each with a device of its own: torchrun's launcher, used from the stage's worker."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
import uuid
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from ablations import worker
from ablations.engines.local import FROZEN, no_main
from ablations.store import Store

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

# As in `ablations.engines.local`: loaded once for all ranks, and not again for those that are started anew.
PRELOAD = ["torch", "torch._dynamo", "torch.utils.flop_counter", "fima.pretrain", FROZEN]
RESTARTS = 2  # times that all ranks are started again, from the checkpoint, after one was killed


def launch(job: worker.Job, pipe: connection.Connection | None) -> dict[str, Any]:
    """Run a stage in `job.devices` processes of this machine; rank 0 alone writes and speaks. They end with this one.

    A rank that dies takes the others along; all are started again from the checkpoint.

    Returns:
        What rank 0 found.

    Raises:
        ValueError: what a rank said is wrong, in one line; it is not tried again.
        torch.OutOfMemoryError: a card is too small; it is not tried again.
        RuntimeError: ranks ended more than RESTARTS times, by the exception that it names.
        ChildProcessError: ranks were killed more than RESTARTS times.
    """
    import torch
    import torch.multiprocessing
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    for attempt in range(RESTARTS + 1):
        # Kind and text of exceptions, the first one first. A new one: a killed rank may have left the last one locked.
        failures = context.SimpleQueue()
        with tempfile.TemporaryDirectory(prefix="fima-ranks-") as logs, no_main():
            config = LaunchConfig(
                min_nodes=1, max_nodes=1, nproc_per_node=job.devices, run_id=uuid.uuid4().hex,
                rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="127.0.0.1",
                start_method="forkserver",
                max_restarts=0,  # the restarts are ours: torchrun would restart after a bad setting too
                logs_specs=DefaultLogsSpecs(log_dir=logs), signals_to_handle="SIGTERM",
            )  # fmt: skip
            try:
                found: dict[str, Any] = elastic_launch(config, rank)(job, pipe, failures)[0]
                return found
            except ChildFailedError as error:
                kind, text = ("", "") if failures.empty() else failures.get()
                if kind == "expected":
                    raise ValueError(text) from error
                if kind == "memory":
                    raise torch.OutOfMemoryError(text) from error
                code = error.get_first_failure()[1].exitcode
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else text or f"with exit code {code}"
        print(f"a rank died, {attempt + 1} of at most {RESTARTS + 1} times: {how}", flush=True)
    died = f"one of its {job.devices} ranks died {RESTARTS + 1} times, the last one"
    if code < 0:
        raise ChildProcessError(f"{died} {how}")
    raise RuntimeError(f"{died}: {how}")


def rank(
    job: worker.Job, pipe: connection.Connection | None, failures: SimpleQueue[tuple[str, str]]
) -> dict[str, Any] | None:
    """Entry point of a rank, whose place torchrun's variables say; returns what rank 0 found."""
    threading.Thread(target=worker.die_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which torchrun ends it
    import torch

    from fima import distributed

    number, store = int(os.environ["LOCAL_RANK"]), Store(job.root)
    worker.prepare(job, worker.threads_of(job), number)
    readers = -(-job.workers // job.devices)
    reporter = worker.Reporter(store, job.stage.uid, pipe)
    try:
        found = worker.function(job.execute)(job.stage, store, readers, reporter)
    except worker.EXPECTED as error:
        traceback.print_exc()
        failures.put(("expected", str(error) or type(error).__name__))
        sys.exit(1)
    except torch.OutOfMemoryError as error:
        traceback.print_exc()
        failures.put(("memory", str(error)))
        sys.exit(1)
    except Exception as error:  # maybe only of a rank whose partner was killed
        traceback.print_exc()
        failures.put(("other", f"{type(error).__name__}: {error}"))
        sys.exit(1)
    distributed.stop()
    return found if number == 0 else None
