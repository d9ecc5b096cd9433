"""How a step grows with resolution, frames, batch and queue, beside its FLOPs; what a second process or job gains."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
import torch
import yaml
from test_step import DEMO, VIDEOS, chosen, stepper, taker

from ablations.engines.local import SPINS
from fima import compute, datasets, views
from fima.datasets import Data

BASE = {"size": 112, "frames": 16, "videos": 2, "queue": 2048}
GROWN = [
    {},
    {"size": 80}, {"size": 160}, {"size": 224},
    {"frames": 8}, {"frames": 32},
    {"videos": 1}, {"videos": 4}, {"videos": 8},
    {"queue": 16384}, {"queue": 65536},
]  # fmt: skip


@pytest.mark.parametrize("grown", GROWN, ids=lambda g: ",".join(f"{k} {v}" for k, v in g.items()) or "base")
def test_growth(benchmark: Any, grown: dict[str, int], flops: Any) -> None:
    """I3D, all losses, float32, from 2 videos of 16 x 112 x 112 and queues of 2,048."""
    size, frames, videos, queue = ({**BASE, **grown}[name] for name in BASE)
    settings = chosen(
        "i3d", "full", clip={"frames": frames}, augment={"size": size},
        contrast={"queue": queue}, frame={"queue": queue},
    )  # fmt: skip
    step = stepper(settings, videos)
    benchmark.extra_info["gflop"] = flops(step)
    benchmark.pedantic(step, rounds=2, warmup_rounds=1)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes(benchmark: Any, processes: int, tmp_path: Path) -> None:
    """The demo's steps by torchrun over gloo, one thread a process: `seconds_per_step` without the start."""
    settings = {
        **DEMO,
        "losses": ["vv", "pix"],
        "backbone": {"name": "small"},
        "optim": {"name": "adamw", "lr": 0.002, "batch": 32, "steps": 40},
        "data": {"name": "embedded", "decoded": "memory", "embedded": {"train": 64, "test": 6}},
    }
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    turn = iter(range(100))
    benchmark.extra_info["peak_gb"] = None  # held by others

    def run() -> None:
        out = tmp_path / str(next(turn))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        module = ["-m", "fima.pretrain", str(path), "--out", str(out), "--workers", "0"]
        done = subprocess.run([*launcher, *module], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    benchmark.pedantic(run, rounds=1, warmup_rounds=1)  # the first renders the videos
    result = json.loads((tmp_path / "1/result.json").read_text())
    assert result["devices"] == processes
    benchmark.extra_info["seconds_per_step"] = result["seconds_per_step"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_data_of_the_demo(benchmark: Any, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of the demo's default row on embedded videos, the cores shared out to jobs as the suite does.

    `waits`: share of the time in which a step waits for its views. `views_cost`: how much longer steps take than on
    views that are there, for views are prepared on the same cores.
    """
    datasets.load(EMBEDDED)  # renders them
    benchmark.extra_info["peak_gb"] = None  # held by others
    monkeypatch.setenv("GOMP_SPINCOUNT", SPINS)  # as stages have it
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work = [max(1, datasets.cores() // jobs)] * jobs
        found = benchmark.pedantic(lambda: pool.map(fed, work, chunksize=1), rounds=1)
    for name, values in zip(("seconds_per_step", "waits", "views_cost"), zip(*found, strict=True), strict=True):
        benchmark.extra_info[name] = mean(values)


EMBEDDED = Data.model_validate({"name": "embedded", "decoded": "memory", "embedded": {"train": 64, "test": 6}})
STEPS = 24


def fed(threads: int) -> tuple[float, float, float]:
    """What `test_data_of_the_demo` prints, of one job."""
    compute.keep_memory()
    torch.set_num_threads(threads)
    settings, device = chosen("small", "DC+FS+MD"), torch.device("cpu")
    _, records, _ = datasets.usable(EMBEDDED, "train", settings.clip, labelled=False)
    footage = views.Footage(EMBEDDED)
    dataset = views.Pretraining(records, footage, settings, 2, 0)

    def prepare(samples: list[views.Sample]) -> dict[str, torch.Tensor]:
        return compute.cast_views(views.pretraining_views(samples, settings, footage, device), settings.compute)

    step = taker(settings)
    keys = views.training_keys(len(records), VIDEOS["small"], STEPS, 0)
    coming = views.ahead(views.batches(dataset, keys, footage, 0), prepare, device)
    waited, alive, given = [], [], None
    for _ in range(STEPS):
        asked = time.perf_counter()
        batch = next(coming)
        began = time.perf_counter()
        step(batch)
        waited.append(began - asked)
        alive.append(time.perf_counter() - asked)
        given = batch
    assert given is not None and next(coming, None) is None
    still = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step(given)
        still.append(time.perf_counter() - began)
    warm = STEPS // 3  # decodes, and the other job's start
    return median(alive[warm:]), sum(waited[warm:]) / sum(alive[warm:]), median(alive[warm:]) / median(still) - 1
