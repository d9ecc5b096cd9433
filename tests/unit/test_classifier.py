"""Fine-tuning and the SGD probe on embedded videos: what learns, what stays, what a kill leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fima import backbones
from fima.config import Backbone, Finetune, Linear, Retrieval, Settings
from fima.datasets import Data
from fima.evaluate import features, finetune, linear, retrieval

SETTINGS = Settings.model_validate(
    {
        "losses": ["vv"],
        "clip": {"frames": 8, "stride": 2},
        "augment": {"size": 32},
        "backbone": {"name": "small"},
    }
)
DATA = Data.model_validate({"name": "embedded", "decoded": "memory", "embedded": {"train": 12, "test": 6}})


def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    return backbones.build(Backbone(name="small"))


def tuned(folder: Path, watch: Any = None, **optim: Any) -> dict[str, Any]:
    chosen = Finetune.model_validate(
        {"clips": 2, "dropout": 0.2, "optim": {"lr": 0.01, "batch": 8, "steps": 4, **optim}}
    )
    return finetune.run(encoder(), SETTINGS, chosen, DATA, 0, folder, on_progress=watch)


def probed(folder: Path, backbone: torch.nn.Module) -> dict[str, Any]:
    chosen = Linear.model_validate({"clips": 2, "optim": {"lr": 1.5, "weight_decay": 0, "batch": 8, "steps": 4}})
    return linear.sgd(backbone, SETTINGS, chosen, DATA, 0, folder)


def test_fine_tuning_reports_its_protocol_and_every_prediction(tmp_path: Path) -> None:
    result = tuned(tmp_path)
    assert result["protocol"] == "fine-tuning by SGD 4 steps, batch 8, lr 0.01, 2 clips averaged"
    assert result["videos"] == len(result["predictions"]) == 12
    assert 0 <= result["top1"] <= 100


def test_the_probe_leaves_the_encoder_as_it_is(tmp_path: Path) -> None:
    backbone = encoder()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    probed(tmp_path, backbone)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # BatchNorm statistics too


def test_fine_tuning_moves_the_encoder(tmp_path: Path) -> None:
    tuned(tmp_path)
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    for name, tensor in encoder().named_parameters():
        assert not torch.equal(trained[f"backbone.{name}"], tensor), name


def test_killed_fine_tuning_ends_with_the_same_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fima import loop

    original = loop.Journal.__init__

    def eager(self: loop.Journal, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.every, self.checkpoint_seconds = 1, 0

    monkeypatch.setattr(loop.Journal, "__init__", eager)
    whole = tuned(tmp_path / "whole")

    def kill(step: int, steps: int, values: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "cut", kill)
    resumed = tuned(tmp_path / "cut")
    one = torch.load(tmp_path / "whole/checkpoint.pt", weights_only=True)["model"]
    other = torch.load(tmp_path / "cut/checkpoint.pt", weights_only=True)["model"]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed["predictions"] == whole["predictions"]


def extracted(folder: Path, watch: Any = None) -> features.Features:
    features.extract(encoder(), SETTINGS, DATA, 2, folder, checkpoint_seconds=0, on_progress=watch)
    return features.read(folder)


def test_a_folder_of_another_encoder_is_refused(tmp_path: Path) -> None:
    def stop(done: int, videos: int, values: dict[str, float]) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    other = encoder()
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    probed(tmp_path / "probe", encoder())
    with pytest.raises(ValueError, match=r"checkpoint\.pt: is of a run with encoder "):
        probed(tmp_path / "probe", other)
    with pytest.raises(KeyboardInterrupt):
        extracted(tmp_path / "features", stop)
    for backbone, clips, what in ((other, 2, "encoder"), (encoder(), 3, "clips")):
        with pytest.raises(ValueError, match=rf"checkpoint\.pt: is of a run with {what} "):
            features.extract(backbone, SETTINGS, DATA, clips, tmp_path / "features")


def test_a_batch_larger_than_the_set_is_told_as_it_was_used(tmp_path: Path) -> None:
    told = tuned(tmp_path, batch=99, steps=1)["protocol"]
    assert told == "fine-tuning by SGD 1 steps, batch 24, lr 0.01, 2 clips averaged"


def test_features_are_those_of_each_clip_alone(tmp_path: Path) -> None:
    found = extracted(tmp_path)
    assert found.train.shape == (24, 2, 128)
    assert found.test.shape == (12, 2, 128)
    assert set(found.train_groups).isdisjoint({""})
    assert np.bincount(found.train_labels).tolist() == [4] * 6


def test_killed_extraction_ends_with_the_same_features(tmp_path: Path) -> None:
    def kill(done: int, videos: int, values: dict[str, float]) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extracted(tmp_path / "cut", kill)
    assert (tmp_path / "cut/checkpoint.pt").exists()
    cut, whole = extracted(tmp_path / "cut"), extracted(tmp_path / "whole")
    assert np.array_equal(cut.train, whole.train)
    assert np.array_equal(cut.test, whole.test)


def test_retrieval_names_its_protocol(tmp_path: Path) -> None:
    result = retrieval.run(extracted(tmp_path))
    assert result["protocol"] == "retrieval, 2 clips averaged, cosine, test queries train"
    assert result["gallery"] == 24
    assert Retrieval().clips == 10  # the paper's default
