"""What a training step costs: Table 11's rows and the full method, by encoder and precision. Compare within a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from fima import backbones, compute, loop, losses
from fima.config import Settings
from fima.model import FIMA

VIDEOS = {"i3d": 4, "r2plus1d": 2, "small": 32}
ROUNDS = {"i3d": 3, "r2plus1d": 2}
DEMO: dict[str, Any] = {
    "clip": {"frames": 8, "stride": 2, "gap": 40},
    "augment": {"size": 48, "scale_min": 0.4, "jitter": 0.8, "blur": 0},
    "projector": {"hidden": 256, "width": 64},
    "decoder": {"width": 128, "dropout": 0, "init": "identity", "position": 0.1, "memory_norm": True},
    "contrast": {"queue": 256},
    "frame": {"queue": 256},
    "optim": {"name": "adamw", "lr": 0.002},
}
PAPER: dict[str, Any] = {"augment": {"size": 112}}
ROWS: dict[str, dict[str, Any]] = {
    "VV": {"losses": ["vv"]},
    "VV+VD": {"losses": ["vv", "vd"]},
    "DC": {"losses": ["vv", "pix"], "pixel": {"decoder": False}, "foreground": {"position": "none"}},
    "DC+FS": {"losses": ["vv", "pix"], "pixel": {"decoder": False}},
    "DC+FS+MD": {"losses": ["vv", "pix"]},
    "full": {"losses": ["vv", "pix", "fra"]},
}
TABLE_11 = ("VV+VD", "DC", "DC+FS", "DC+FS+MD")


def chosen(backbone: str, row: str, precision: str = "float32", **more: Any) -> Settings:
    scale = DEMO if backbone == "small" else PAPER
    return Settings.model_validate(
        {**scale, **ROWS[row], "backbone": {"name": backbone}, "compute": {"precision": precision}, **more}
    )


def drawn(settings: Settings, videos: int) -> dict[str, Tensor]:
    """Views of noise: what a step costs does not depend on what it sees."""
    frames, size = settings.clip.frames, settings.augment.size
    parts = backbones.feature_grid(settings.backbone, frames, size)[0]
    box = torch.tensor([[0.0, 0.0, 0.9, 0.9]]).repeat(videos, 1)
    views = {}
    for side in ("source", "target"):
        views[f"{side}_box"] = box + 0.1 * torch.rand(videos, 1)
        views[side] = torch.rand(videos, 3, frames, size, size)
        if settings.uses("vd", "pix"):
            views[f"{side}_difference"] = torch.rand(videos, 3, frames, size, size)
        if settings.uses("fra"):
            views[f"{side}_parts"] = torch.rand(videos, parts, 3, frames, size, size)
    return views


def taker(settings: Settings) -> Callable[[dict[str, Tensor]], float]:
    """A step of `fima.pretrain.run` on views that it is given."""
    model = FIMA(settings).train()
    compute.placed(model, settings.compute, torch.device("cpu"))
    optimizer = loop.build_optimizer(settings.optim, list(model.trained()))
    weights = dict.fromkeys(settings.losses, 1.0)

    def take(views: dict[str, Tensor]) -> float:
        optimizer.zero_grad(set_to_none=True)
        model.update_key_encoder()
        terms, keys = model(views)
        loss = losses.total(terms, weights)  # type: ignore[arg-type]
        loss.backward()
        optimizer.step()
        model.enqueue(keys)
        return loss.item()

    return take


def stepper(settings: Settings, videos: int) -> Callable[[], float]:
    """The same step on the same views, which are there."""
    return partial(taker(settings), compute.cast_views(drawn(settings, videos), settings.compute))


@pytest.mark.parametrize("row", ROWS)
def test_step_of_the_demo(benchmark: Any, row: str, flops: Any) -> None:
    settings = chosen("small", row)
    step = stepper(settings, VIDEOS["small"])
    benchmark.extra_info["gflop"] = flops(step)
    assert benchmark.pedantic(step, rounds=7, warmup_rounds=1) > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", ["VV+VD", "full"])
@pytest.mark.parametrize("backbone", ["i3d", "r2plus1d"])
def test_step_at_112(
    benchmark: Any, backbone: str, row: str, precision: str, flops: Any, published: Path | None
) -> None:
    """Beside it, in turns, the authors' step on the same inputs."""
    settings = chosen(backbone, row, precision)
    step = stepper(settings, VIDEOS[backbone])
    benchmark.extra_info |= {"gflop": flops(step), "precision": precision}
    others = []
    if published is not None and row == "full":
        from published import step as published_step

        theirs = published_step(published, backbone, drawn(settings, VIDEOS[backbone]))

        def between() -> None:
            began = time.perf_counter()
            theirs()
            others.append(time.perf_counter() - began)
    else:

        def between() -> None:
            """Nobody to compare with."""

    assert benchmark.pedantic(step, setup=between, rounds=ROUNDS[backbone], warmup_rounds=1) > 0
    if others:
        benchmark.extra_info["published_over_ours"] = median(others[1:]) / benchmark.stats["median"]


@pytest.mark.parametrize(("backbone", "precision"), [("i3d", "float32"), ("i3d", "bfloat16"), ("r2plus1d", "bfloat16")])
def test_rows_of_table_11(benchmark: Any, backbone: str, precision: str) -> None:
    """Cost relative to VV+VD, which the paper gives as 1.029, 1.032 and 1.102: steps in turns, medians of ratios."""
    steps = {row: stepper(chosen(backbone, row, precision), VIDEOS[backbone]) for row in TABLE_11}
    times: dict[str, list[float]] = {row: [] for row in steps}

    def turn() -> None:
        for row, step in steps.items():
            began = time.perf_counter()
            step()
            times[row].append(time.perf_counter() - began)

    benchmark.pedantic(turn, rounds=2 * ROUNDS[backbone], warmup_rounds=1)
    for row in TABLE_11[1:]:
        benchmark.extra_info[row] = median(a / b for a, b in zip(times[row][1:], times["VV+VD"][1:], strict=True))
        assert benchmark.extra_info[row] > 0


def alone(backbone: str, precision: str, recompute: bool, published: str) -> None:
    """In a process of its own: two steps of all losses; prints the process's peak in GB (Linux)."""
    torch.set_num_threads(1)
    settings = chosen(backbone, "full", compute={"precision": precision, "recompute": recompute})
    if published:
        from published import step as published_step

        step = published_step(Path(published), backbone, drawn(settings, VIDEOS[backbone]))
    else:
        compute.keep_memory(precision)  # as in stages
        step = stepper(settings, VIDEOS[backbone])
    for _ in range(2):
        step()
    # Not ru_maxrss: a child's begins with what its parent held.
    lines = Path("/proc/self/status").read_text().splitlines()
    sys.stdout.write(f"peak {next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1e6}\n")


@pytest.mark.parametrize(
    ("backbone", "how"),
    [
        *((backbone, how) for backbone in ("i3d", "r2plus1d") for how in ("published", "float32", "bfloat16")),
        ("i3d", "float32 recompute"),
        ("i3d", "bfloat16 recompute"),
        ("i3d", "bfloat16 returned"),
    ],
)
def test_peak_memory(benchmark: Any, backbone: str, how: str, published: Path | None) -> None:
    """Whole processes, PyTorch included; `returned`: glibc is told by variables to give blocks from 1 MiB back."""
    if how == "published" and published is None:
        pytest.skip("needs --published DIR")
    precision = "bfloat16" if "bfloat16" in how else "float32"
    arguments = (backbone, precision, "recompute" in how, str(published) if how == "published" else "")
    call = [sys.executable, "-c", f"import test_step; test_step.alone{arguments}"]
    lean = {"MALLOC_MMAP_THRESHOLD_": "1048576", "THP_MEM_ALLOC_ENABLE": "1"} if "returned" in how else {}

    def run() -> float:
        done = subprocess.run(call, cwd=Path(__file__).parent, env=os.environ | lean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return float(done.stdout.split("peak ")[1])

    benchmark.extra_info["peak_gb"] = benchmark.pedantic(run, rounds=1)
