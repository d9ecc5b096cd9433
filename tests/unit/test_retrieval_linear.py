"""Retrieval and the logistic probe on features whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fima.evaluate import features, linear, retrieval
from fima.evaluate.features import Features, per_video


def clusters(noise: float, classes: int = 4, per_class: int = 8, width: int = 6, seed: int = 0) -> Features:
    """Videos of three clips around one direction per class."""
    rng = np.random.default_rng(seed)
    centres = np.eye(width)[:classes]
    labels = np.repeat(np.arange(classes), per_class)

    def draw() -> np.ndarray:
        return (centres[labels][:, None] + noise * rng.normal(size=(len(labels), 3, width))).astype(np.float32)

    groups = np.array([f"g{i}" for i in range(len(labels))])
    return Features(draw(), draw(), labels, labels, groups, groups)


def test_recall_against_loops() -> None:
    data = clusters(noise=0.6)
    train, test = data.train.astype(np.float64).mean(1), data.test.astype(np.float64).mean(1)
    for k, value in ((1, "R1"), (5, "R5"), (10, "R10"), (20, "R20")):
        hits = 0
        for query, label in zip(test, data.test_labels, strict=True):
            cosine = [q @ query / np.linalg.norm(q) / np.linalg.norm(query) for q in train]
            nearest = sorted(range(len(train)), key=lambda i: -cosine[i])[:k]
            hits += any(data.train_labels[i] == label for i in nearest)
        assert retrieval.recall(data)[value] == pytest.approx(100 * hits / len(test))


def test_recall_grows_with_k_and_ignores_length() -> None:
    data = clusters(noise=0.8)
    values = list(retrieval.recall(data).values())
    assert values == sorted(values)
    assert values[0] < 100
    longer = replace(data, train=data.train * 7, test=data.test * 0.1)
    assert retrieval.recall(longer) == retrieval.recall(data)


def test_logistic_probe_separates_what_is_separable_and_says_what_it_chose() -> None:
    result = linear.logistic(clusters(noise=0.05), seed=0)
    assert result["top1"] == 100
    assert result["penalty"] in linear.PENALTIES
    assert "on 8 of 32 training videos" in result["penalty_choice"]
    assert result["protocol"] == "logistic regression on frozen features, 3 clips averaged"


def test_test_labels_choose_nothing() -> None:
    data = clusters(noise=0.5)
    shuffled = replace(data, test_labels=np.roll(data.test_labels, 5))
    one, other = linear.logistic(data, seed=0), linear.logistic(shuffled, seed=0)
    assert one["predictions"] == other["predictions"]
    assert one["penalty"] == other["penalty"]


def test_noise_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    groups = np.array([f"g{i}" for i in range(200)])
    noise = Features(
        rng.normal(size=(200, 2, 5)).astype(np.float32), rng.normal(size=(200, 2, 5)).astype(np.float32),
        labels, labels, groups, groups,
    )  # fmt: skip
    assert abs(linear.logistic(noise, seed=0)["top1"] - 25) < 12


def test_too_few_groups_take_the_default_penalty_and_say_so() -> None:
    data = clusters(noise=0.1)
    groups = np.array(["one"] * 16 + ["two"] * 16)
    few = replace(data, train_groups=groups)
    result = linear.logistic(few, seed=0)
    assert result["penalty"] == 1.0
    assert result["penalty_choice"].startswith("default: train has 2 groups")


def test_classes_of_few_videos_take_the_default_penalty_and_say_so() -> None:
    result = linear.logistic(clusters(noise=0.05, per_class=3), seed=0)
    assert result["top1"] == 100
    assert result["penalty"] == 1.0
    assert result["penalty_choice"].startswith("default: no class of train has 4 videos")


def test_one_class_is_refused() -> None:
    data = clusters(noise=0.1)
    same = replace(data, train_labels=np.zeros_like(data.train_labels))
    with pytest.raises(ValueError, match="two classes or more in train, got 1; add labelled videos"):
        linear.logistic(same, seed=0)


def test_missing_and_damaged_features_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"features\.npz: is not there"):
        features.read(tmp_path)
    np.savez(tmp_path / "features.npz", **{name: np.zeros(9) for name in features.Features.__dataclass_fields__})
    whole = (tmp_path / "features.npz").read_bytes()
    flipped = whole.replace(bytes(40), b"\1" + bytes(39), 1)
    for damaged in (b"junk", b"", whole[: len(whole) // 2], flipped):
        (tmp_path / "features.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"features\.npz: cannot be read"):
            features.read(tmp_path)


def test_per_video_counts_by_group() -> None:
    found = per_video({"top1": [True, False, True, True], "R1": [False, False, False, True]}, ["b", "a", "b", "a"])
    assert found == {"of": [2, 2], "top1": [2, 1], "R1": [0, 1]}


def test_per_video_sums_to_the_metric() -> None:
    data = clusters(noise=1.5)
    groups = np.array([f"g{i // 3}" for i in range(len(data.test_labels))])
    data = replace(data, test_groups=groups)
    probed, retrieved = linear.logistic(data, 0), retrieval.run(data)
    for result, metric in ((probed, "top1"), (retrieved, "R1"), (retrieved, "R5")):
        kept = result["per_video"]
        assert len(kept["of"]) == len(set(groups))
        assert 100 * sum(kept[metric]) / sum(kept["of"]) == pytest.approx(result[metric])
