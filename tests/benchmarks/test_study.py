"""What a user waits for: the help, the start of a stage, a whole small study, a probe, one job against two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fima.evaluate import linear
from fima.evaluate.features import Features

ROOT = Path(__file__).parents[2]


def command(*arguments: str, folder: Path | None = None) -> None:
    tool = Path(sys.executable).with_name("fima-ablate")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "", "COLUMNS": "100"}
    done = subprocess.run([tool, *arguments], cwd=folder or ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_help(benchmark: Any) -> None:
    benchmark.extra_info["peak_gb"] = None  # held by others
    benchmark.pedantic(command, ("--help",), rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_debug_study(benchmark: Any, tmp_path: Path, jobs: int) -> None:
    """Three rows, pre-trained, probed and fine-tuned on two data sets, tables written."""
    timed_study(benchmark, tmp_path, jobs)


def test_debug_study_of_real_videos(benchmark: Any, clips: Path, tmp_path: Path) -> None:
    """Three rows, pre-trained and probed on one data set: each of six stages starts processes that read ahead."""
    data = ("data.name=folder", f"data.root={clips / 'ut_interaction'}", "data.limit=12")
    timed_study(benchmark, tmp_path, 2, *data, "--metrics", "lin/ucf101")


def timed_study(benchmark: Any, tmp_path: Path, jobs: int, *words: str) -> None:
    """Time a study; the first run also renders or indexes the videos, and is not counted.

    `first_stage`: seconds from the command to its first stage; `start_up`: what a stage takes beyond its work, the
    command's own start and end included.
    """
    study, folders, began = str(ROOT / "studies/table3d_beta.yaml"), iter(range(100)), [0.0]

    def run() -> None:
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        began.append(time.time())
        command("run", study, "--profile", "debug", *words, "--jobs", str(jobs), folder=folder)

    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    runs = max(tmp_path.iterdir(), key=lambda folder: int(folder.name)) / "runs"
    starts = [json.loads(path.read_text())["started"] for path in runs.glob("*/status.json")]
    work = sum(json.loads(path.read_text())["seconds"] for path in runs.glob("*/result.json"))
    benchmark.extra_info |= {
        "peak_gb": None,  # held by others
        "stages": len(starts),
        "first_stage": min(starts) - began[-1],
        "start_up": (benchmark.stats["median"] * jobs - work) / len(starts),
    }


def test_linear_probe(benchmark: Any) -> None:
    """Logistic regression with its penalty chosen on a quarter of train, at the demo's size."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(6, 128))
    labels = np.arange(480) % 6

    def drawn() -> Any:
        return (centres[labels][:, None] + 2 * random.normal(size=(480, 3, 128))).astype(np.float32)

    groups = np.array([f"g{i}" for i in range(480)])
    found = Features(drawn(), drawn()[:240], labels, labels[:240], groups, groups[:240])
    assert benchmark.pedantic(linear.logistic, (found, 0), rounds=3, warmup_rounds=1)["top1"] > 50
