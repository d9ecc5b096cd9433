"""The paper's figures: numbers against loops or closed forms, each picture the same twice, nothing loaded in part."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from torch import Tensor
from torch.nn import functional as F

from fima import augment, clips, datasets, foreground, geometry, views
from fima.augment import Crop
from fima.config import Settings
from fima.decoder import Block, MotionDecoder
from fima.figures import activation, affinity, attention, masks, picture, scenes, similarity, tsne
from fima.figures.picture import Picture
from fima.figures.scenes import Scenes, overlap, seen
from fima.figures.stage import Stage, load, load_all
from fima.model import FIMA

SMALL: dict[str, Any] = {
    "losses": ["vv", "pix", "fra"],
    "clip": {"frames": 8, "stride": 2, "gap": 40},
    "augment": {"size": 32, "difference": "raw"},
    "backbone": {"name": "small"},
    "projector": {"hidden": 32, "width": 16},
    "decoder": {"width": 32, "heads": 4, "memory_norm": True},
    "frame": {"queue": 10},
    "contrast": {"queue": 10},
    "optim": {"steps": 3},
}
DATA = {"name": "embedded", "decoded": "memory", "embedded": {"train": 2, "test": 6, "size": 48}}
GRID = (2, 4, 4)


def put(folder: Path, settings: dict[str, Any] = SMALL, data: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A folder as a finished stage leaves it, with random weights."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    model = FIMA(Settings.model_validate(settings))
    inner = {"settings": settings, "where": {"data": data or DATA}}
    (folder / "config.json").write_text(json.dumps({"kind": "pretrain", "config": inner}))
    (folder / "result.json").write_text("{}")
    torch.save({"step": 3, "model": model.state_dict()}, folder / "checkpoint.pt")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("runs") / "pretrain-vv+pix+fra-s0-aaaa")


@pytest.fixture(scope="module")
def stages(folder: Path) -> list[Stage]:
    other = put(folder.with_name("pretrain-vv+vd-s0-bbbb"), {**SMALL, "losses": ["vv", "vd"]}, seed=1)
    return load_all([folder, other])


@pytest.fixture(scope="module")
def shown(stages: list[Stage]) -> Scenes:
    return scenes.uniform(stages[0].data, stages[0].settings, GRID, 4, 1, 0)


# --- stages


def test_the_whole_model_is_loaded_and_only_the_whole_model(folder: Path, tmp_path: Path) -> None:
    stage = load(folder)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    own = stage.model.state_dict()
    assert set(own) == set(saved) and all(torch.equal(own[name], saved[name]) for name in saved)
    assert not any(module.training for module in stage.model.modules())
    assert (stage.label, stage.steps, stage.grid) == ("VV + Pix + Fra", 3, GRID)
    for change in ("less", "more", "shape"):
        state = dict(saved)
        if change == "less":
            del state["decoders.shared.cls"]
        elif change == "more":
            state["decoders.other.cls"] = torch.zeros(3)
        else:
            state["decoders.shared.cls"] = torch.zeros(3)
        broken = put(tmp_path / change)
        torch.save({"step": 3, "model": state}, broken / "checkpoint.pt")
        with pytest.raises(ValueError, match=r"^\S*checkpoint\.pt: does not fit its config\.json \([^\n]*cls[^\n]*\)$"):
            load(broken)


def test_what_is_no_finished_stage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^\S*config\.json: is not there; a figure takes the folder of a finished"):
        load(tmp_path)
    running = put(tmp_path / "running")
    (running / "result.json").unlink()
    with pytest.raises(ValueError, match=r"^\S*result\.json: is not there"):
        load(running)
    other = put(tmp_path / "other")
    (other / "config.json").write_text('{"kind": "features"}')
    with pytest.raises(ValueError, match=r"is a stage of kind features; a figure takes pretrain, untrained, given$"):
        load(other)
    (other / "config.json").write_text('{"kind": "pretrain", "config": {"settings": {"betta": 1}, "where": {}}}')
    with pytest.raises(ValueError, match=r"config\.json: settings or data cannot be read \([^\n]*betta[^\n]*\)$"):
        load(other)


def test_models_side_by_side_have_names_of_their_own_and_one_size(folder: Path, tmp_path: Path) -> None:
    twin = put(tmp_path / "pretrain-vv+pix+fra-s1-cccc", seed=2)
    assert [s.label for s in load_all([folder, twin])] == ["VV + Pix + Fra (s0-aaaa)", "VV + Pix + Fra (s1-cccc)"]
    chance = put(tmp_path / "untrained-random-s0-dddd", {"losses": ["vv"], "backbone": {"name": "small"}})
    (chance / "config.json").write_text((chance / "config.json").read_text().replace("pretrain", "untrained"))
    drawn = load_all([chance, folder])
    assert [(s.label, s.grid) for s in drawn] == [("random encoder", GRID), ("VV + Pix + Fra", GRID)]
    larger = put(tmp_path / "larger", {**SMALL, "augment": {"size": 48}})
    namesake = put(tmp_path / "elsewhere" / folder.name, seed=2)
    with pytest.raises(ValueError, match=r"^\S*: is called 'VV \+ Pix \+ Fra \(s0-aaaa\)' in figures, as \S* is; "):
        load_all([folder, namesake])
    with pytest.raises(ValueError, match=r"larger: views of 48 pixels, 8 frames and feature maps \(2, 6, 6\) cannot"):
        load_all([folder, larger])


def test_motion_is_normalised_by_its_own_statistics(stages: list[Stage], shown: Scenes) -> None:
    """As in pre-training, where every batch is of one modality; RGB of the query encoder is as evaluation sees it."""
    stage = stages[0]
    before = {name: tensor.clone() for name, tensor in stage.model.state_dict().items()}
    pixels = shown.pixels(range(len(shown)))[:, 0]
    moved = augment.normalise(augment.difference(pixels, "raw"))
    backbone = stage.model.query.backbone
    with torch.no_grad():
        running = backbone(moved)
        backbone.train()
        batch = backbone(moved)
        backbone.eval()
        stage.model.load_state_dict(before)
        torch.testing.assert_close(stage.features(shown)[:, 0], backbone(augment.normalise(pixels)))
    own = stage.features(shown, "motion")[:, 0]
    torch.testing.assert_close(own, batch, rtol=0.02, atol=0.02)  # running variance is the unbiased one
    assert not torch.allclose(own, running, atol=0.1)
    torch.testing.assert_close(replace(stage, statistics="running").features(shown, "motion")[:, 0], running)
    assert all(torch.equal(before[name], tensor) for name, tensor in stage.model.state_dict().items())


# --- scenes


def test_overlap_against_fine_sampling() -> None:
    for start, stop in ((0, 16), (3.2, 11.7), (11.7, 3.2), (16, 0)):
        share = overlap(start, stop, 16, 5)
        fine = start + (np.arange(50_000) + 0.5) / 50_000 * (stop - start)
        for number, part in enumerate(np.split(np.floor(fine).astype(int), 5)):
            expected = np.bincount(part, minlength=16) / len(part)
            assert share[number] == pytest.approx(expected, abs=1e-3)
        assert share.sum(1) == pytest.approx(1)


def test_a_crop_sees_its_part_of_the_mask_and_a_flip_its_mirror() -> None:
    mask = np.random.default_rng(0).random((8, 16, 16))
    whole = seen(mask, Crop(0, 0, 48, 48, False), 48, 48, GRID)
    assert whole == pytest.approx(mask.reshape(2, 4, 4, 4, 4, 4).mean((1, 3, 5)))
    assert seen(mask, Crop(0, 0, 48, 48, True), 48, 48, GRID) == pytest.approx(whole[:, :, ::-1])
    quarter = seen(mask, Crop(24, 0, 48, 24, False), 48, 48, GRID)
    assert quarter == pytest.approx(mask[:, :8, 8:].reshape(2, 4, 4, 2, 4, 2).mean((1, 3, 5)))
    assert seen(np.ones((8, 16, 16)), Crop(5, 7, 30, 21, True), 48, 48, GRID) == pytest.approx(1)


def test_clips_and_their_truth_are_of_the_same_frames(stages: list[Stage]) -> None:
    stage, seed = stages[0], 3
    data, settings = stage.data, stage.settings
    records = datasets.usable(data, "test", settings.clip, labelled=False)[1]
    order = np.random.default_rng(seed).permutation(len(records))[:4]
    footage = views.Footage(data)
    both = {
        "uniform": scenes.uniform(data, settings, GRID, 4, 3, seed),
        "paired": scenes.paired(data, settings, GRID, 4, seed),
    }
    for kind, found in both.items():
        assert found.cover is not None and found.cover.shape == (4, found.clips, *GRID)
        assert [record.path for record in found.records] == [records[n].path for n in order]
        for place, (record, sample) in enumerate(zip(found.records, found.samples, strict=True)):
            length = footage.frames(record)
            if kind == "uniform":
                numbers = list(clips.uniform_clips(length, settings.clip, 3))
            else:
                random = np.random.default_rng([seed, 0, place, views.Draw.WINDOWS])
                numbers = [
                    clips.clip_frames(s, length, settings.clip) for s in clips.windows(length, settings.clip, random)
                ]
            truth = np.load(record.path.with_suffix(".npz"))["mask"] / 255
            for clip, frames in enumerate(numbers):
                read = footage.read(record, [frames], sample.crops[clip : clip + 1], 32)[0]
                assert torch.equal(sample.clips[clip], read)
                for part in range(2):
                    still = truth[frames[4 * part : 4 * part + 4]].mean(0)
                    expected = seen(still[None], sample.crops[clip], 48, 48, (1, 4, 4))[0]
                    assert found.cover[place, clip, part] == pytest.approx(expected)


def test_the_seed_chooses_the_videos(stages: list[Stage]) -> None:
    def names(seed: int) -> str:
        return scenes.uniform(stages[0].data, stages[0].settings, GRID, 3, 1, seed).named(range(3))

    assert names(0) == names(0)
    assert len({names(seed) for seed in range(5)}) > 1
    assert scenes.uniform(stages[0].data, stages[0].settings, GRID, 99, 1, 0).words.startswith("all 6 test videos of")


# --- numbers


def test_activation_maps_are_those_of_the_foreground() -> None:
    features = torch.rand(3, 5, 2, 4, 4)
    found = activation.maps(features)
    assert found.mean(1).reshape(3, 16) == pytest.approx(foreground.activation(features).numpy(), abs=1e-6)
    scaled = activation.scaled(found)
    assert scaled.min((1, 2, 3)) == pytest.approx(0) and scaled.max((1, 2, 3)) == pytest.approx(1)
    assert (activation.scaled(np.ones((1, 2, 4, 4), np.float32)) == 0).all()


def test_share_of_activation_against_loops() -> None:
    rng = np.random.default_rng(0)
    activity, cover = rng.random((3, 4, 4)), rng.random((3, 4, 4))
    for number, found in enumerate(activation.share(activity, cover)):
        on = whole = 0.0
        for i in range(4):
            for j in range(4):
                on += activity[number, i, j] * cover[number, i, j]
                whole += activity[number, i, j]
        assert found == pytest.approx(on / whole)
    assert activation.share(np.full((4, 4), 7.0), cover[0]) == pytest.approx(cover[0].mean())
    assert activation.share(np.zeros((4, 4)), cover[0]) == pytest.approx(cover[0].mean())
    assert activation.share(cover[0] > 0.5, np.asarray(cover[0] > 0.5, float)) == pytest.approx(1)


def test_affinity_against_loops() -> None:
    rgb, motion = torch.rand(3, 5, 2, 2, 2), torch.rand(3, 5, 2, 2, 2)
    found = affinity.matrix(rgb, motion)
    for i, j in itertools.product(range(4), range(4)):
        cosines = []
        for n in range(3):
            one, other = (maps[n].mean(1).flatten(1)[:, k] for maps, k in ((rgb, i), (motion, j)))
            cosines.append(float(one @ other / one.norm() / other.norm()))
        assert found[i, j] == pytest.approx(np.mean(cosines), abs=1e-6)


def test_affinity_of_identical_maps_lies_on_the_diagonal() -> None:
    maps = torch.eye(16).view(1, 16, 1, 4, 4).expand(2, -1, 2, -1, -1) * 3  # pixels orthogonal to each other
    found = affinity.matrix(maps, maps)
    assert found == pytest.approx(np.eye(16))
    assert affinity.diagonal_mass(found) == pytest.approx(1) and affinity.contrast(found) == pytest.approx(1)
    constant = affinity.matrix(torch.ones(2, 3, 2, 4, 4), torch.ones(2, 3, 2, 4, 4))
    assert affinity.diagonal_mass(constant) == pytest.approx(1 / 16)
    assert affinity.contrast(constant) == pytest.approx(0, abs=1e-6)
    half = np.full((16, 16), 0.5) + 0.5 * np.eye(16)  # 1 on the diagonal, a half off it
    assert affinity.diagonal_mass(half) == pytest.approx(1 / (1 + 15 / 2))
    assert affinity.contrast(half) == pytest.approx(0.5)
    assert affinity.diagonal_mass(np.zeros((16, 16))) == pytest.approx(1 / 16)


def test_similarity_against_loops() -> None:
    rgb, motion = torch.rand(3, 4, 5), torch.rand(3, 4, 5)
    found = similarity.pairs(rgb, motion)
    for n, i, j in itertools.product(range(3), range(4), range(4)):
        assert found[n, i, j] == pytest.approx(float(F.cosine_similarity(rgb[n, i], motion[n, j], dim=0)), abs=1e-6)
    # Two videos at 0.2 and 0.6, each pair 0.1 above or below its video: variance 0.2^2 between and 0.1^2 within.
    cosines = np.stack([np.array([[0.1, 0.3], [0.3, 0.1]]), np.array([[0.5, 0.7], [0.7, 0.5]])])
    spread = similarity.spread(cosines)
    assert spread["mean"] == pytest.approx(0.4) and spread["std within"] == pytest.approx(0.1)
    assert spread["std"] == pytest.approx(np.sqrt(0.05))


@pytest.mark.parametrize("depth", [1, 3])
def test_attention_is_the_last_layers_own(depth: int) -> None:
    """The weights that nn.MultiheadAttention gives for the very inputs it gets in the decoder's forward pass."""
    settings = Settings.model_validate({**SMALL, "decoder": {"width": 32, "heads": 4, "depth": depth}}).decoder
    decoder = MotionDecoder(24, settings).eval()
    source, target = torch.randn(3, 6, 24), torch.randn(3, 6, 24)
    inputs: list[tuple[Tensor, ...]] = []
    last = decoder.blocks[-1]
    assert isinstance(last, Block)
    handle = last.attention.register_forward_pre_hook(lambda _, given: inputs.append(given))
    with torch.no_grad():
        decoder(source, target, False)
        handle.remove()
        weights = decoder.attention(source, target)
        expected = last.attention(*inputs[0], need_weights=True, average_attn_weights=False)[1].mean(1)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 6))


def test_attention_of_a_stage_is_frame_by_frame(stages: list[Stage]) -> None:
    features = torch.rand(3, 2, 128, *GRID)
    found = attention.weights(stages[0], features)
    assert found.shape == (3, 2, 16, 16)
    assert found.sum(-1) == pytest.approx(1, abs=1e-5)
    decoder = attention.decoder(stages[0])
    for n, i in itertools.product(range(3), range(2)):
        source, target = (features[n, view, :, i].flatten(1).T[None] for view in (0, 1))
        with torch.no_grad():
            assert found[n, i] == pytest.approx(decoder.attention(source, target)[0].numpy(), abs=1e-6)
    with pytest.raises(ValueError, match=r"bbbb: was trained without a motion decoder for pixels; take a stage with"):
        attention.draw(stages[1])


def test_attention_mass_against_loops() -> None:
    rng = np.random.default_rng(0)
    weights = rng.random((2, 3, 4, 4))
    weights /= weights.sum(-1, keepdims=True)
    target = rng.random((2, 1, 4, 4)) > 0.5
    on, uniform = attention.mass(weights, target)
    for n, i, s in itertools.product(range(2), range(3), range(4)):
        wanted = [j for j in range(4) if target[n, 0, s, j]]
        assert on[n, i, s] == pytest.approx(sum(weights[n, i, s, j] for j in wanted))
        assert uniform[n, i, s] == pytest.approx(len(wanted) / 4)
    everywhere = np.full((2, 3, 4, 4), 0.25)
    on, uniform = attention.mass(everywhere, target)
    assert on == pytest.approx(uniform)


def test_masks_against_loops() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 5, 4, 4)) > 0.5
    for number, found in enumerate(masks.intersection_over_union(one, other)):
        a, b = ({*map(tuple, np.argwhere(mask[number]).tolist())} for mask in (one, other))
        assert found == pytest.approx(len(a & b) / len(a | b))
    assert (masks.intersection_over_union(one, one) == 1).all()
    assert (masks.intersection_over_union(one, ~one) == 0).all()
    assert masks.intersection_over_union(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1
    cover = rng.random((5, 4, 4))
    inside = [cover[n][one[n]].sum() / cover[n].sum() for n in range(5)]
    assert masks.held(one, cover) == pytest.approx(inside)
    assert masks.held(np.ones((4, 4), bool), cover[0]) == pytest.approx(1)
    assert masks.held(one, np.zeros((5, 4, 4))) == pytest.approx(1)


@pytest.mark.parametrize(("kept", "true"), [(3, 2), (2, 5), (4, 4), (6, 1), (3, 0)])
def test_random_and_best_masks_by_enumeration(kept: int, true: int) -> None:
    truth = set(range(true))
    scores = [len(truth & {*mask}) / len(truth | {*mask}) for mask in itertools.combinations(range(6), kept)]
    assert masks.expected(kept, true, 6) == pytest.approx(np.mean(scores))
    assert masks.attainable(kept, true) == pytest.approx(max(scores))


def test_masks_are_the_ones_that_pre_training_samples(stages: list[Stage]) -> None:
    drawn = masks.draw(stages[0], 4, 0)
    shown = scenes.uniform(stages[0].data, stages[0].settings, GRID, 4, 1, 0)
    rgb, motion = (stages[0].features(shown, kind, "key")[:, 0].mean((1, 2)).flatten(1) for kind in ("rgb", "motion"))
    for source, level in enumerate((rgb, motion, rgb + motion)):
        assert (drawn.arrays["masks"][:, source].reshape(4, 16) == foreground.top_portion(level, 0.5).numpy()).all()
    assert (drawn.arrays["masks"].sum((2, 3)) == 8).all()  # half of 16


def test_silhouette_against_loops_and_perplexity() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(12, 3)), np.repeat([0, 1, 2], 4)
    x[labels == 1] += 2
    values = []
    for i in range(12):
        distance = {c: [np.linalg.norm(x[i] - x[j]) for j in range(12) if labels[j] == c and j != i] for c in range(3)}
        within = np.mean(distance[labels[i]])
        across = min(np.mean(distance[c]) for c in range(3) if c != labels[i])
        values.append((across - within) / max(across, within))
    assert tsne.silhouette(x, labels) == pytest.approx(np.mean(values))
    assert tsne.silhouette(x, np.zeros(12, int)) is None and tsne.silhouette(x, np.arange(12)) is None
    assert (tsne.lowered(200), tsne.lowered(91), tsne.lowered(31)) == (30, 30, 10)


def test_tsne_parts_what_is_apart_and_gives_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 12)
    x = np.eye(3)[labels] + 0.05 * rng.normal(size=(36, 3))
    place = tsne.embed(x, 0)
    assert (place == tsne.embed(x, 0)).all()
    found = tsne.silhouette(place, labels)
    assert found is not None and found > 0.5


# --- pictures

FIGURES: dict[str, Callable[[list[Stage]], Picture]] = {
    "activation": lambda stages: activation.draw(stages, 4, 0, rows=2),
    "affinity": lambda stages: affinity.draw(stages, 4, 0),
    "similarity": lambda stages: similarity.draw(stages, 3, 3, 0),
    "attention": lambda stages: attention.draw(stages[0], 4, 0, rows=2),
    "masks": lambda stages: masks.draw(stages[0], 4, 0, rows=1),
    "tsne": lambda stages: tsne.draw(stages, 4, 2, 0),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_twice_and_says_what_it_shows(name: str, stages: list[Stage], tmp_path: Path) -> None:
    for folder in ("one", "other"):
        drawn = FIGURES[name](stages)
        written = drawn.save(tmp_path / folder)
        assert [path.name for path in written] == [f"{name}.{suffix}" for suffix in ("png", "pdf", "npz", "json")]
    for path in written:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes(), path.name
    assert written[0].read_bytes().startswith(b"\x89PNG") and written[1].read_bytes().startswith(b"%PDF")
    said = json.loads(written[3].read_text())
    assert said["numbers"] == drawn.numbers and said["caption"] == drawn.caption
    for label, values in drawn.numbers.items():
        stage = next(stage for stage in stages if stage.label == label)
        assert f"{label}: {stage.folder.name}, 3 steps" in drawn.caption
        assert all(isinstance(value, float) for value in values.values())
    assert "Seed 0." in drawn.caption and "test videos of embedded two-stage (source)" in drawn.caption
    assert "\n" not in drawn.caption and "nan" not in drawn.caption and "None" not in drawn.caption
    with np.load(written[2]) as saved:
        assert set(saved) == set(drawn.arrays)


def test_numbers_follow_from_the_saved_arrays(stages: list[Stage]) -> None:
    drawn = {name: make(stages) for name, make in FIGURES.items()}
    label = stages[0].label
    share = activation.share(drawn["activation"].arrays[f"activation {label}"], drawn["activation"].arrays["cover"])
    assert drawn["activation"].numbers[label]["on figure"] == pytest.approx(share.mean())
    assert drawn["masks"].numbers[label]["IoU fused"] == pytest.approx(drawn["masks"].arrays["iou"][:, 2].mean())
    arrays = drawn["attention"].arrays
    boxes = torch.from_numpy(arrays["boxes"])
    near = geometry.near(boxes[:, 0], boxes[:, 1], 4, 4, 0.7).numpy()
    assert (arrays["near"] == near).all()
    on, uniform = [], []
    for n, i, s in itertools.product(range(4), range(2), range(16)):
        if near[n, s].any():
            on.append(arrays["attention"][n, i, s][near[n, s]].sum())
            uniform.append(near[n, s].mean())
    assert drawn["attention"].numbers[label]["corresponding"] == pytest.approx(np.mean(on))
    assert drawn["attention"].numbers[label]["uniform"] == pytest.approx(np.mean(uniform))


@pytest.fixture(scope="module")
def real(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = clips / "ut_interaction"
    yield load(put(tmp_path_factory.mktemp("real") / "stage", data={"name": "folder", "root": str(root), "limit": 12}))


@pytest.mark.parametrize("name", FIGURES)
def test_real_video_is_drawn_without_a_truth(name: str, real: Stage, tmp_path: Path) -> None:
    drawn = FIGURES[name]([real])
    assert drawn.save(tmp_path)[0].stat().st_size > 5000
    values = drawn.numbers[real.label]
    unknown = {
        "activation": {*values},
        "masks": {*values},
        "attention": {key for key in values if "figure" in key},
    }.get(name, set())
    assert {key for key, value in values.items() if value is None} == unknown
    if unknown == {*values}:
        assert "real video does not say where it moves" in drawn.caption


def test_images_are_stretched_to_their_range() -> None:
    assert picture.stretched(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert picture.stretched(np.ones(3)).tolist() == [0, 0, 0]


def test_a_map_lies_over_its_frame() -> None:
    """Cold is the darkest colour, hot the brightest, and a quarter of the map covers a quarter of the frame."""
    frame = np.full((32, 32, 3), 0.5, np.float32)
    drawn = picture.laid_over(frame, np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert drawn.shape == (192, 192, 3) and drawn.min() >= 0 and drawn.max() <= 1
    bright = drawn.mean(-1)
    assert bright[:48, :48] == pytest.approx(0.4 * 0.5, abs=0.02)
    assert bright[144:, 144:].mean() > 0.6 and bright.argmax() // 192 >= 96
    assert picture.laid_over(np.zeros((224, 224, 3), np.float32), np.zeros((7, 7))).shape == (224, 224, 3)


# --- on its own


def test_importing_the_figures_draws_in_no_picture_library_and_no_suite() -> None:
    code = (
        "import sys, fima.figures.__main__;"
        "print({name.split('.')[0] for name in sys.modules} & {'matplotlib', 'sklearn', 'ablations', 'mlflow'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_command_draws_and_complains_in_one_line(folder: Path, stages: list[Stage], tmp_path: Path) -> None:
    def called(*words: str) -> tuple[int, str, str]:
        process = warm.start("fima.figures.__main__:main", *words, "--out", str(tmp_path), cwd=tmp_path)
        return process.wait(), *process.communicate()

    few = ["--only", "masks", "affinity", "--videos", "2"]
    code, out, err = called(*(str(stage.folder) for stage in stages), *few)
    assert (code, err) == (0, "")
    names = {path.name for path in tmp_path.iterdir() if path.suffix == ".png"}
    assert names == {"affinity.png", "masks-vv-pix-fra.png", "masks-vv-vd.png"}
    assert out.count("Checkpoints: ") == 3
    code, _, err = called(str(tmp_path))
    assert code == 1
    assert err.strip().splitlines() == [
        f"{tmp_path}/config.json: is not there; a figure takes the folder of a finished stage"
    ]
