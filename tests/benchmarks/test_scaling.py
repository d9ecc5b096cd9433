"""How a step grows with resolution, frames, batch and queue, beside its FLOPs, and what a second process gains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_step import DEMO, chosen, stepper

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
