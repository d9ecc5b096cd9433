"""kNN accuracy of frozen features, the probe of pre-training, and the part of train that is held out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fima import datasets, pretrain
from fima.config import Settings
from fima.datasets import Data, DataError
from fima.evaluate import knn

SMALL = {
    "clip": {"frames": 4, "gap": 40},
    "augment": {"size": 32, "blur": 0},
    "backbone": {"name": "small"},
    "projector": {"hidden": 16, "width": 8},
    "losses": ["vv", "vd"],
    "contrast": {"queue": 8},
    "optim": {"batch": 4, "steps": 4, "lr": 0.01},
}
TINY = {"name": "embedded", "decoded": "memory", "embedded": {"train": 30, "test": 15}}


def by_loops(gallery: np.ndarray, labels: np.ndarray, query: np.ndarray, truth: np.ndarray) -> float:
    right = 0
    for q, wanted in zip(query, truth, strict=True):
        near = sorted(
            ((float(g @ q / np.linalg.norm(g) / np.linalg.norm(q)), int(label))
             for g, label in zip(gallery, labels, strict=True)), reverse=True,
        )[: knn.NEIGHBOURS]  # fmt: skip
        votes: dict[int, float] = {}
        for similarity, label in near:
            votes[label] = votes.get(label, 0.0) + float(np.exp(similarity / knn.TEMPERATURE))
        right += max(votes, key=lambda label: votes[label]) == wanted
    return 100 * right / len(query)


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_is_the_weighted_vote(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, truth = rng.integers(0, 4, 60), rng.integers(0, 4, 25)
    gallery = rng.normal(size=(60, 6)) + np.eye(4, 6)[labels]
    query = rng.normal(size=(25, 6)) + np.eye(4, 6)[truth]
    assert knn.accuracy(gallery, labels, query, truth) == pytest.approx(by_loops(gallery, labels, query, truth))


def test_fewer_videos_than_neighbours_and_perfect_features() -> None:
    labels = np.array([0, 0, 1, 2])
    features = np.eye(3)[labels].astype(np.float32)
    assert knn.accuracy(features, labels, 7 * features, labels) == 100


def test_held_out_parts_groups_and_leaves_test_unread() -> None:
    whole = datasets.load(Data.model_validate(TINY))
    held = datasets.load(Data.model_validate({**TINY, "held_out": 3}))
    train, part = held.split("train"), held.split("test")
    assert {r.path for r in train} | {r.path for r in part} == {r.path for r in whole.split("train")}
    assert not {r.group for r in train} & {r.group for r in part}
    assert not {r.path for r in part} & {r.path for r in whole.split("test")}
    assert len({r.group for r in part}) == 10
    assert {r.label for r in part} == {r.label for r in whole.split("train")}  # classes in proportion
    assert held == datasets.load(Data.model_validate({**TINY, "held_out": 3}))


def test_pretraining_does_not_see_what_is_held_out() -> None:
    data = Data.model_validate({**TINY, "held_out": 3})
    _, seen, _ = datasets.usable(data, "train", Settings.model_validate(SMALL).clip, labelled=False)
    assert not {r.path for r in seen} & {r.path for r in datasets.load(data).split("test")}
    assert len(seen) == 20


def test_held_out_is_in_the_fingerprint(tmp_path: Path) -> None:
    prints = {
        datasets.fingerprint(Data.model_validate({**TINY, "held_out": parts}), pretraining)
        for parts in (None, 3, 5)
        for pretraining in (False, True)
    }
    assert len(prints) == 6


def test_too_few_groups_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "x.mp4").touch()
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a" / "y.mp4").touch()
    with pytest.raises(DataError, match=r"1 groups of labelled videos, of which data.held_out=4 cannot"):
        datasets.load(Data(name="folder", root=tmp_path, held_out=4))


def test_an_unlabelled_record_of_a_held_group_is_left_out(tmp_path: Path) -> None:
    lines = ["path,label,split,group"]
    for number in range(8):
        (tmp_path / f"{number}.mp4").touch()
        lines.append(f"{number}.mp4,{'ab'[number % 2]},train,g{number}")
    (tmp_path / "more.mp4").touch()
    lines += [f"more.mp4,,train,g{number}" for number in range(8)]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    found = datasets.load(Data(name="folder", root=tmp_path, held_out=4))
    held = {record.group for record in found.split("test")}
    assert len(held) == 2
    assert {r.split for r in found.records if r.label is None and r.group in held} == {"unused"}


def test_a_probe_alters_nothing_and_writes_a_curve(tmp_path: Path) -> None:
    settings, data = Settings.model_validate(SMALL), Data.model_validate({**TINY, "held_out": 3})
    plain = pretrain.run(settings, data, 0, tmp_path / "plain", every=2)
    probe = knn.Probe(data, every=3, videos=12)
    probed = pretrain.run(settings, data, 0, tmp_path / "probed", every=2, probe=probe)
    assert plain["final"] == probed["final"]
    states = [torch.load(tmp_path / name / "checkpoint.pt")["model"] for name in ("plain", "probed")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    lines = [json.loads(line) for line in (tmp_path / "probed" / "metrics.jsonl").read_text().splitlines()]
    curve = {line["step"]: line["knn"] for line in lines if "knn" in line}
    assert list(curve) == [3, 4]
    assert all(0 <= value <= 100 for value in curve.values())


def test_a_look_keeps_train_mode_and_is_of_the_held_out_videos() -> None:
    settings, data = Settings.model_validate(SMALL), Data.model_validate({**TINY, "held_out": 3})
    from fima import backbones

    torch.manual_seed(0)
    backbone = backbones.build(settings.backbone).train()
    watch = knn.Watch(knn.Probe(data, 1, 100), settings, torch.device("cpu"))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    first, second = watch.look(backbone), watch.look(backbone)
    assert first == second
    assert backbone.training
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert [len(part) for part in watch.labels] == [40, 20]  # two stages a video
