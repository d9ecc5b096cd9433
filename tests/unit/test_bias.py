"""Diagnostics of background bias, on encoders of which it is known what they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fima import backbones, synthetic
from fima.config import Settings
from fima.datasets import Data
from fima.evaluate import bias, features
from fima.evaluate.energy import Energy

SETTINGS = Settings.model_validate(
    {"clip": {"frames": 8, "stride": 2}, "augment": {"size": 32}, "backbone": {"name": "small"}}
)
COUNT = 2


def videos(**embedded: Any) -> Data:
    chosen = {"set": "stationary", "train": 24, "test": 12, "size": 32, **embedded}
    return Data.model_validate({"name": "embedded", "decoded": "memory", "embedded": chosen})


class Tint(nn.Module):
    """In an encoder's place: the mean colour of the corners, which tells the background and nothing else."""

    def forward(self, clips: Tensor) -> Tensor:
        """[N, 3, T, H, W] to [N, 3, 1, 1, 1]."""
        return clips[..., :4, :4].mean((2, 3, 4), keepdim=True)


class Still(nn.Module):
    """In an encoder's place: what the images of a clip show on average, in whatever order they come."""

    def forward(self, clips: Tensor) -> Tensor:
        """[N, 3, T, H, W] to [N, 192, 1, 1, 1]."""
        return nn.functional.adaptive_avg_pool3d(clips, (1, 8, 8)).flatten(1)[:, :, None, None, None]


def test_changes_of_a_clip() -> None:
    clip = torch.arange(8).view(1, 8, 1, 1).expand(3, -1, 2, 2)
    moved = bias.shuffled(clip, np.random.default_rng(0))
    assert sorted(moved[0, :, 0, 0].tolist()) == list(range(8)) and not torch.equal(moved, clip)
    assert torch.equal(moved, bias.shuffled(clip, np.random.default_rng(0)))
    assert not torch.equal(moved, bias.shuffled(clip, np.random.default_rng(1)))
    still = bias.frozen(clip, np.random.default_rng(0))
    assert still.shape == clip.shape and (still == 4).all()


def test_features_of_unchanged_clips_are_those_of_evaluation(tmp_path: Path) -> None:
    backbone = backbones.build(SETTINGS.backbone).eval()
    features.extract(backbone, SETTINGS, videos(), COUNT, tmp_path)
    expected = features.read(tmp_path)
    for split in ("train", "test"):
        found = bias.encode(backbone, SETTINGS, videos(), split, COUNT)
        np.testing.assert_allclose(found.features, getattr(expected, split), rtol=1e-5, atol=1e-6)
        assert (found.labels == getattr(expected, f"{split}_labels")).all()
        assert (found.groups == getattr(expected, f"{split}_groups")).all()


def test_one_probe_predicts_for_every_set_what_it_predicts_for_it_alone() -> None:
    train, test = (bias.encode(Still(), SETTINGS, videos(), split, COUNT) for split in ("train", "test"))
    other = bias.encode(Still(), SETTINGS, videos(), "test", COUNT, bias.frozen)
    both = bias.probe(train, {"one": test, "other": other}, 0)
    for name, alone in (("one", test), ("other", other)):
        assert (both[name] == bias.probe(train, {name: alone}, 0)[name]).all()


def test_images_without_order_are_worth_the_same_shuffled() -> None:
    found = bias.motion(Still(), SETTINGS, videos(), COUNT)
    assert found["shuffled"] == found["normal"]
    assert (found["videos"], found["chance"]) == (12, pytest.approx(100 / 6))


def test_frame_differences_of_a_frozen_clip_tell_nothing() -> None:
    data = videos(train=48, test=24)
    energy = Energy(SETTINGS)
    frozen = bias.encode(energy, SETTINGS, data, "test", COUNT, bias.frozen)
    assert np.abs(frozen.features).max() < 1e-6
    found = bias.motion(energy, SETTINGS, data, COUNT)
    assert found["normal"] > found["frozen"]
    assert found["frozen"] == pytest.approx(found["chance"])  # one class for all: each has as many videos


def test_the_order_of_frames_is_of_the_seed_and_the_clip_alone() -> None:
    one, same, other = (
        bias.encode(Energy(SETTINGS), SETTINGS, videos(), "test", COUNT, bias.shuffled, seed).features
        for seed in (0, 0, 1)
    )
    assert (one == same).all() and not np.allclose(one, other)
    fewer = bias.encode(Energy(SETTINGS), SETTINGS, videos(test=5), "test", COUNT, bias.shuffled, 0).features
    np.testing.assert_allclose(fewer, one[:5], rtol=1e-6)


def test_an_encoder_of_backgrounds_is_lured_by_swapped_ones() -> None:
    data = videos(train=48, test=24)
    found = bias.background(Tint(), SETTINGS, data, COUNT, correlation=1.0)
    assert found["lured"] > 80 and found["swapped"] < 10
    assert found["unrelated"] < 40 and found["plain"] < 40
    energy = bias.background(Energy(SETTINGS), SETTINGS, data, COUNT, correlation=1.0)
    assert energy["lured"] < 40 and energy["swapped"] > energy["chance"]


def test_a_probe_of_backgrounds_that_tell_nothing_is_the_plain_one() -> None:
    found = bias.background(Still(), SETTINGS, videos(), COUNT, correlation=0.0)
    assert found["unrelated"] == found["plain"]


def test_the_class_that_a_background_tells() -> None:
    """Against the generator's own rule, in both sets."""
    for name in ("stationary", "two-stage"):
        data = videos(set=name, test=9)
        found = bias.encode(Tint(), SETTINGS, data, "test", 1)
        told = bias.told_class(found, found.records)
        second = replace(found, records=found.records[1::2], features=found.features[1::2])  # as a limit may leave them
        assert bias.told_class(second, found.records).tolist() == told[1::2].tolist()
        first: dict[Path, int] = {}
        for record in found.records:
            first.setdefault(record.path, int(record.label or 0))
        themes = [
            synthetic._theme(
                data.embedded.model_copy(update={"background_class_correlation": 1.0}),
                "test", first[record.path], np.random.default_rng(0),
            )
            for record in found.records
        ]  # fmt: skip
        assert told.tolist() == themes
        assert len(found.records) == (9 if name == "stationary" else 18)


def test_swapped_videos_differ_in_their_background_alone() -> None:
    """And a split is the same whatever the size of the other."""
    plain = synthetic.render(videos().embedded)
    for split, changes in (("test", {"train": 1}), ("train", {"test": 1})):
        other = synthetic.render(videos(background_class_correlation=1.0, **changes).embedded)
        paths = sorted((plain / "videos").glob(f"{split}_*.npz"))
        assert len(paths) == (12 if split == "test" else 24)
        for path in paths:
            with np.load(path) as a, np.load(other / "videos" / path.name) as b:
                assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize(
    "data",
    [
        Data.model_validate({"name": "folder", "root": "/nowhere"}),
        Data.model_validate({"name": "embedded", "embedded": {"background_class_correlation": 0.5}}),
    ],
)
def test_backgrounds_that_cannot_be_swapped_are_one_line(data: Data) -> None:
    with pytest.raises(ValueError, match=r"^backgrounds are swapped in embedded videos [^\n]*$"):
        bias.background(Tint(), SETTINGS, data, COUNT)
