"""The loop: what a killed run leaves is gone on from bit for bit; two processes train one model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fima import datasets, pretrain
from fima.config import Clip, Settings
from fima.datasets import Data

SMALL = {
    "losses": ["vv", "vd", "pix", "fra"],
    "clip": {"frames": 8, "stride": 2, "gap": 20},
    "augment": {"size": 32, "jitter": 0.8},
    "backbone": {"name": "small"},
    "projector": {"hidden": 32, "width": 16},
    "decoder": {"width": 32, "heads": 2, "dropout": 0.1},
    "pixel": {"group": 2, "negatives": "queue", "queue": 50},
    "frame": {"queue": 10},
    "contrast": {"queue": 10, "momentum": 0.9},
    "optim": {"batch": 4, "steps": 6, "lr": 0.01},
}
DATA = {"name": "embedded", "decoded": "memory", "embedded": {"train": 12, "test": 6}}


class Killed(Exception):
    """Stands for kill -9: nothing of the run survives but its folder."""


def run(folder: Path, settings: dict[str, Any] = SMALL, kill_at: int | None = None, **more: Any) -> dict[str, Any]:
    def watch(step: int, steps: int, values: dict[str, float]) -> None:
        if step == kill_at:
            raise Killed

    data = Data.model_validate({**DATA, **more})
    return pretrain.run(
        Settings.model_validate(settings), data, 0, folder, every=1, checkpoint_seconds=0, on_progress=watch
    )


def state(folder: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return saved


def equal(one: Any, other: Any) -> bool:
    """Bitwise equality of nested states."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, precision: str) -> None:
    settings = {**SMALL, "compute": {"precision": precision}}
    whole = run(tmp_path / "whole", settings)
    for kill_at in (2, 5):
        with pytest.raises(Killed):
            run(tmp_path / "cut", settings, kill_at)
    resumed = run(tmp_path / "cut", settings)
    assert {k: v for k, v in resumed.items() if "second" not in k} == {
        k: v for k, v in whole.items() if "second" not in k
    }
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()
    one, other = state(tmp_path / "whole"), state(tmp_path / "cut")
    for name in ("step", "model", "optimizer", "random"):
        assert equal(one[name], other[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert run(tmp_path)["final"] == first["final"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_training_lowers_the_losses(tmp_path: Path) -> None:
    """Against the same run without learning: queues fill with real keys, so a loss may rise from its first step."""
    means = []
    for name, lr in (("trained", 2e-3), ("untrained", 1e-9)):
        optim = {"batch": 4, "steps": 30, "name": "adamw", "lr": lr, "warmup": 3}
        run(tmp_path / name, {**SMALL, "losses": ["vv", "pix", "fra"], "optim": optim})
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        means.append(sum(json.loads(line)["loss"] for line in lines[-10:]) / 10)
    assert means[0] < means[1] - 0.5


def test_streamed_data_read_by_workers_equal_those_read_here(tmp_path: Path) -> None:
    data = Data.model_validate({**DATA, "decoded": "stream"})
    settings = Settings.model_validate({**SMALL, "optim": {"batch": 4, "steps": 2, "lr": 0.01}})
    here = pretrain.run(settings, data, 0, tmp_path / "here", workers=0)
    ahead = pretrain.run(settings, data, 0, tmp_path / "ahead", workers=2)
    assert here["final"] == ahead["final"]


def test_pre_training_sees_each_video_whole_once() -> None:
    data = Data.model_validate(DATA)
    _, records, _ = pretrain.usable(data, "train", Clip(), labelled=False)
    _, stages, _ = pretrain.usable(data, "train", Clip(), labelled=True)
    assert len(records) == 12
    assert len(stages) == 24
    assert all(record.label is None and record.start == 0 and record.stop is None for record in records)


def test_a_batch_above_the_number_of_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"optim\.batch must not exceed the 12 training videos, got 64; set"):
        run(tmp_path, {**SMALL, "optim": {"batch": 64, "steps": 1}})


def test_a_checkpoint_of_another_architecture_is_named(tmp_path: Path) -> None:
    run(tmp_path, {**SMALL, "losses": ["vv"], "optim": {"batch": 4, "steps": 1}})
    settings = Settings.model_validate({**SMALL, "backbone": {"name": "r3d"}})
    with pytest.raises(ValueError, match=r"checkpoint\.pt: holds no r3d backbone"):
        pretrain.load_backbone(settings, tmp_path / "checkpoint.pt")


def test_the_encoder_is_what_evaluation_loads(tmp_path: Path) -> None:
    run(tmp_path, {**SMALL, "losses": ["vv"], "optim": {"batch": 4, "steps": 1}})
    backbone = pretrain.load_backbone(Settings.model_validate(SMALL), tmp_path / "checkpoint.pt")
    saved = state(tmp_path)["model"]
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, saved[f"query.backbone.{name}"]), name


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """DDP over gloo: shuffled keys, gathered queues; every rank keeps the same weights, and the run ends."""
    import yaml

    datasets.load(Data.model_validate(DATA))  # rendered once, before two processes ask for it
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "data": DATA, "optim": {"batch": 4, "steps": 2, "lr": 0.01}}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "fima.pretrain", str(file), "--out", str(tmp_path / "out"), "--workers", "0"]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["devices"] == 2
    assert result["steps"] == 2
    assert all(value > 0 for value in result["final"].values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {name: embedded}\nforeground: {betta: 1}\n", "foreground.betta"),
        ("data: {name: embedded}\noptim: {lr: fast}\n", "optim.lr"),
        ("losses: [vv]\n", "needs `data:`"),
        ("data: {name: ucf101}\n", "--data-root"),
        ("data: [\n", "expected"),
    ],
)
def test_bad_settings_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "fima.pretrain", str(file), "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]  # below the bar, where there was one already
    assert line.startswith(f"{file}: ")
    assert said in line
