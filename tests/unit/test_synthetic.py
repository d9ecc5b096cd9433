"""Embedded videos: the same bytes every time, the truth beside them, and one frame that does not tell the class."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from fima import clips, drawing, synthetic, video
from fima.config import Clip
from fima.drawing import CLASSES, Look, Motion
from fima.synthetic import Embedded

TINY = Embedded(train=6, test=3, size=32)
PROFILE = Path(__file__).parents[2] / "studies/profiles/demo.yaml"
DOMAINS = ("source", "transfer")


@dataclass(frozen=True)
class Film:
    """A rendered video: pixels [T, S, S, 3], what is stored beside it, its rows of the list."""

    pixels: np.ndarray[Any, Any]
    truth: dict[str, np.ndarray[Any, Any]]
    rows: list[dict[str, str]]


def films(folder: Path, split: str) -> list[Film]:
    with (folder / "records.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    out = []
    for name in dict.fromkeys(row["path"] for row in rows):
        with np.load((folder / name).with_suffix(".npz")) as stored:
            truth = dict(stored)
        out.append(Film(video.read_all(folder / name).numpy(), truth, [row for row in rows if row["path"] == name]))
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.render(TINY, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def two_stage(tiny: Path) -> list[Film]:
    return films(tiny, "train")


@pytest.fixture(scope="module")
def stationary(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    chosen = Embedded(set="stationary", train=6, test=1, jitter=0.3)
    return films(synthetic.render(chosen, tmp_path_factory.mktemp("stationary")), "train")


def pose_of(label: int, seed: int, domain: str = "source", frames: int = 80) -> tuple[drawing.Poses, Motion, Look]:
    rng = np.random.default_rng([seed, label])
    motion, look = Motion.draw(domain, rng), Look.draw(domain, 1.0, 64, rng)
    return drawing.poses(look, [label], [motion], np.zeros(frames), frames), motion, look


def drawn(domain: str = "source", seed: int = 0, distractors: int = 0, **changed: float) -> tuple[Any, Any, Any]:
    """What `drawing.draw` makes of 12 frames of a spinning figure; `changed` moves it."""
    pose, _, look = pose_of(3, seed, domain, 12)
    pose = replace(pose, **{name: getattr(pose, name) + value for name, value in changed.items()})
    return drawing.draw(look, pose, np.zeros((12, 2)), None, distractors, domain, np.random.default_rng(seed))


# --- rendering


@pytest.mark.parametrize("jobs", [1, 2])
def test_files_are_the_same_to_the_byte(tiny: Path, tmp_path: Path, jobs: int, no_fork_server: None) -> None:
    seen: list[tuple[int, int]] = []
    again = synthetic.render(TINY, tmp_path, lambda done, count: seen.append((done, count)), jobs)
    assert files(again) == files(tiny)
    assert seen == [(done, 9) for done in range(1, 10)]
    assert len(files(tiny)) == 2 * 9 + 2
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [tiny.name]


def test_what_is_there_is_not_rendered_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_video", lambda job: pytest.fail("rendered again"))
    assert synthetic.render(TINY, tiny.parent) == tiny


def test_a_kill_leaves_nothing_half(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Stands for kill -9 in the middle of the third video."""

    def write(path: Path, *rest: Any, **more: Any) -> None:
        if path.stem == "train_00002":
            path.write_bytes(b"half")
            path.with_name("stray").write_bytes(b"of another version")
            raise Killed
        whole(path, *rest, **more)

    whole = video.write
    monkeypatch.setattr(video, "write", write)
    with pytest.raises(Killed):
        synthetic.render(TINY, tmp_path)
    assert not synthetic.folder(TINY, tmp_path).exists()
    monkeypatch.undo()
    assert files(synthetic.render(TINY, tmp_path)) == files(tiny)


RENDER = """
import sys, pathlib
from fima import synthetic
print("go", flush=True)
seen = []
synthetic.render(synthetic.Embedded(train=2, test=1, size=32), pathlib.Path(sys.argv[1]), lambda *now: seen.append(now))
print(len(seen))
"""


def test_two_processes_at_once_render_once(tmp_path: Path) -> None:
    from filelock import FileLock

    target = synthetic.folder(Embedded(train=2, test=1, size=32), tmp_path)
    with FileLock(target.with_suffix(".lock")):  # both come to the lock before either may go on
        both = [
            subprocess.Popen([sys.executable, "-c", RENDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
    rendered = [process.communicate(timeout=60)[0].strip() for process in both]
    assert sorted(rendered) == ["0", "3"]
    assert len(files(target)) == 2 * 3 + 2


def test_the_list_and_the_description(tiny: Path) -> None:
    meta = json.loads((tiny / "meta.json").read_text())
    assert meta == {"version": synthetic.VERSION, "settings": TINY.model_dump(mode="json"), "classes": list(CLASSES)}
    assert (tiny / "records.csv").read_text().splitlines()[0] == "path,label,split,group,start,stop"
    assert all((tiny / row["path"]).is_file() for film in films(tiny, "test") for row in film.rows)


def test_looking_at_settings_imports_no_torch() -> None:
    code = "import sys, fima.synthetic as s; s.folder(s.Embedded()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("set", "stationary"), ("domain", "transfer"), ("train", 7), ("test", 4), ("seed", 1), ("size", 48),
        ("frames", 90), ("figure", 0.8), ("jitter", 1.0), ("distractors", 1), ("redraw", False),
        ("background_class_correlation", 0.5),
    ],
)  # fmt: skip
def test_every_setting_is_another_set_of_videos(name: str, value: Any) -> None:
    assert name in Embedded.model_fields
    other = TINY.model_copy(update={name: value})
    assert synthetic.fingerprint(other) != synthetic.fingerprint(TINY)
    assert synthetic.folder(other, Path()) != synthetic.folder(TINY, Path())


def test_other_videos_need_another_version(two_stage: list[Film], tmp_path: Path) -> None:
    """Where this fails because videos changed, raise VERSION and write the new numbers here."""
    found: list[Any] = [synthetic.VERSION]
    for film in (two_stage[0], one(tmp_path, domain="transfer", distractors=1)):
        truth = film.truth
        masks = truth["mask"].mean(), truth["distractor_mask"].mean()
        found += [film.pixels.mean(), film.pixels.std(), *masks, truth["switch"], truth["period"].sum()]
    old = [3, 110.216, 30.352, 15.3537, 0, 37, 34.790, 119.909, 33.028, 9.2824, 1.84805, 41, 35.623]
    assert found == pytest.approx(old, rel=1e-3)


# --- the truth beside each video


def test_everything_that_the_design_asks_for_is_stored(two_stage: list[Film]) -> None:
    for number, film in enumerate(two_stage):
        shapes = {name: array.shape for name, array in film.truth.items()}
        assert shapes == {
            "mask": (80, 16, 16), "distractor_mask": (80, 16, 16), "camera": (80, 2), "motion": (80,), "switch": (),
            "amplitude": (2,), "period": (2,), "phase": (2,), "direction": (2,), "seed": (5,),
        }  # fmt: skip
        assert film.pixels.shape == (80, 32, 32, 3)
        assert film.truth["seed"].tolist() == [synthetic.VERSION, 0, 0, 0, number]


def test_the_stored_mask_is_the_figure(stationary: list[Film]) -> None:
    """Only the figure is near black or near white; its edge is neither."""
    for film in stationary:
        gray = film.pixels @ np.array([0.299, 0.587, 0.114])
        figure = (np.abs(gray / 255 - 0.5) > 0.36).astype(float)
        seen, told = drawing.shrink(figure, 16) / 255, film.truth["mask"] / 255
        assert np.abs(seen - told).mean() < 0.015
        assert np.corrcoef(seen.ravel(), told.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("domain", DOMAINS)
def test_pixels_differ_from_the_background_where_the_figure_covers_them(domain: str) -> None:
    pixels, cover, _ = drawn(domain)
    empty, none, _ = drawn(domain, x=500)  # the same draws, the figure far outside
    assert none.max() == 0
    assert np.array_equal(pixels[cover == 0], empty[cover == 0])
    assert (np.abs(pixels.astype(int) - empty)[cover > 0.3].max(-1) > 5).all()
    assert 0.01 < cover.mean() < 0.4
    _, cover, blobs = drawn(domain, distractors=8)
    assert blobs.max() == 1
    assert (cover + blobs).max() <= 1 + 1e-9  # a distractor behind the figure is not seen


def test_labels_follow_the_motion_frame_by_frame(two_stage: list[Film], stationary: list[Film]) -> None:
    for film in two_stage:
        switch, motion = int(film.truth["switch"]), film.truth["motion"]
        assert 36 <= switch <= 44
        assert len(set(motion[:switch])) == len(set(motion[switch:])) == 1
        assert motion[0] != motion[-1]
        first, second = film.rows
        assert (int(first["start"]), int(second["stop"])) == (0, 80)
        assert int(second["start"]) - int(first["stop"]) == synthetic.FADE  # the fade belongs to neither
        for row in film.rows:
            assert {CLASSES[label] for label in motion[int(row["start"]) : int(row["stop"])]} == {row["label"]}
            assert row["group"] == Path(row["path"]).stem
    for number, film in enumerate(stationary):
        (row,) = film.rows
        assert (row["label"], row["start"], row["stop"], film.truth["switch"]) == (CLASSES[number], "0", "80", -1)
        assert set(film.truth["motion"]) == {number}


def test_the_mask_moves_as_the_label_says(stationary: list[Film]) -> None:
    """Centroid and area of the stored mask, camera taken off: who moves, and by the stored amplitude."""
    grid = (np.arange(16) + 0.5) * 4
    moved = {}
    for film in stationary:
        mask = film.truth["mask"].astype(float)
        area = mask.sum((1, 2))
        x = (mask.sum(1) @ grid) / area - film.truth["camera"][:, 0]
        y = (mask.sum(2) @ grid) / area - film.truth["camera"][:, 1]
        reach = float(film.truth["amplitude"][0])
        moved[film.rows[0]["label"]] = (np.ptp(x) / reach, np.ptp(y) / reach, np.ptp(np.log(area)) / reach)
    for place, name in enumerate(("horizontal", "vertical")):
        assert moved[name][place] == pytest.approx(2, rel=0.15)
        assert moved[name][1 - place] < 0.3
    assert moved["pulse"][2] == pytest.approx(2 * 2 / (2 * drawing.HALF), rel=0.2)  # area is scale squared
    assert max(value[2] for name, value in moved.items() if name != "pulse") < moved["pulse"][2]


@pytest.mark.parametrize(
    ("name", "part", "unit"),
    [
        ("horizontal", "x", 1.0), ("vertical", "y", 1.0), ("rocking", "angle", 1 / drawing.HALF),
        ("pulse", "scale", 1 / (2 * drawing.HALF)), ("arms", "left", 1.2 / drawing.ARM),
    ],
)  # fmt: skip
def test_each_sub_motion_moves_one_thing(name: str, part: str, unit: float) -> None:
    for seed in range(5):
        pose, motion, _ = pose_of(CLASSES.index(name), seed, frames=200)
        for other in ("x", "y", "angle", "scale", "left", "right"):
            values = getattr(pose, other)
            if other == part:
                values = np.log(values) if other == "scale" else values
                assert np.ptp(values) == pytest.approx(2 * motion.amplitude * unit, rel=0.02)
                turns = np.abs(np.diff(np.sign(np.diff(values)))).sum() / 2  # two a period
                assert turns == pytest.approx(2 * 200 / motion.period, abs=2)
            elif {other, part} == {"left", "right"}:
                assert np.allclose(pose.left + pose.right, pose.left[0] + pose.right[0])  # arms mirror each other
            else:
                assert np.ptp(values) < 1e-9


def test_a_spin_turns_half_round_a_period() -> None:
    turned = set()
    for seed in range(8):
        pose, motion, _ = pose_of(CLASSES.index("spin"), seed)
        assert np.allclose(np.diff(pose.angle), motion.direction * np.pi / motion.period)
        assert max(np.ptp(pose.x), np.ptp(pose.y), np.ptp(pose.scale), np.ptp(pose.left)) < 1e-9
        turned.add(motion.direction)
    assert turned == {-1, 1}


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_one_motion_fades_into_the_next_without_a_whirl(first: int, second: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    motions = [Motion.draw("source", rng), Motion.draw("source", rng)]
    look, weight = Look.draw("source", 1.0, 64, rng), np.clip((np.arange(80) - 37.5) / 4, 0, 1)
    pose, alone = (drawing.poses(look, [first, second], motions, w, 80) for w in (weight, np.ones(80)))
    # At most half a turn in four frames, and what both motions do meanwhile.
    assert np.abs(np.diff(pose.angle)).max() < np.pi / 4 + 8 / 10 * 2 * np.pi / 14 + 2 * np.pi / 14
    for name in ("x", "y", "scale", "left", "right"):
        assert np.allclose(getattr(pose, name)[42:], getattr(alone, name)[42:])
    assert np.allclose(np.exp(1j * pose.angle[42:]), np.exp(1j * alone.angle[42:]))


# --- what a learner can use


def test_sub_motions_are_balanced(two_stage: list[Film]) -> None:
    assert Counter(row["label"] for film in two_stage for row in film.rows) == dict.fromkeys(CLASSES, 2)
    pairs = synthetic.pairs()
    orders = {tuple(film.truth["motion"][[0, -1]]) == pairs[number] for number, film in enumerate(two_stage)}
    assert orders == {True, False}  # a pair comes in both orders
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == 15
    for at in range(0, 15, 3):
        assert sorted(label for pair in pairs[at : at + 3] for label in pair) == list(range(6))


@pytest.mark.parametrize("domain", drawing.DOMAINS)
def test_one_frame_does_not_give_the_class_away_and_motion_does(domain: str) -> None:
    """But for spin: a figure upside down spins, whatever else it does."""
    names = synthetic.classes(Embedded(domain=domain))
    still = [label for label, name in enumerate(names) if name != "spin"]

    def features(seeds: range) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        frame, motion, labels = [], [], []
        for seed in seeds:
            for label in still:
                pose, _, _ = pose_of(label, seed, domain, 20)
                at = 5
                angles = (pose.angle[at], pose.left[at], pose.right[at])
                frame.append([pose.x[at] / 6, pose.y[at] / 6, 6 * np.log(pose.scale[at]), *np.sin(angles)])
                parts = (pose.x, pose.y, 20 * np.log(pose.scale), 10 * pose.angle, 5 * pose.left)
                motion.append([np.std(part) for part in parts])
                labels.append(label)
        return np.array(frame), np.array(motion), np.array(labels)

    frame, motion, labels = features(range(300))
    test_frame, test_motion, test_labels = features(range(300, 500))
    by_frame = KNeighborsClassifier(15).fit(frame, labels).score(test_frame, test_labels)
    by_motion = KNeighborsClassifier(15).fit(motion, labels).score(test_motion, test_labels)
    assert by_frame == pytest.approx(1 / len(still), abs=0.05)  # four deviations of 1000 guesses
    assert by_motion > 0.95


def test_a_compound_is_two_sub_motions_at_once() -> None:
    parts = {"horizontal": "x", "vertical": "y", "rocking": "angle", "arms": "left"}
    assert len(drawing.COMPOUNDS) == len(CLASSES) == len(set(drawing.COMPOUNDS)) == 6
    for label, pair in enumerate(drawing.COMPOUNDS):
        pose, motion, _ = pose_of(label, label, "compound", frames=200)
        assert motion.second is not None
        periods = dict(zip(pair, (motion.period, motion.second[0]), strict=True))
        for name, part in parts.items():
            values = getattr(pose, part)
            if name in periods:
                turns = np.abs(np.diff(np.sign(np.diff(values)))).sum() / 2
                assert turns == pytest.approx(2 * 200 / periods[name], abs=2)
            else:
                assert np.ptp(values) < 1e-9
        assert np.ptp(pose.scale) < 1e-9


def test_the_figure_ends_within_its_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is drawn around the figure alone: to the bit as if on the whole frame, over whose edges it may go."""
    rng, count, side = np.random.default_rng(0), 3000, 32
    pose = drawing.Poses(
        x=rng.uniform(0, side, count), y=rng.uniform(0, side, count), angle=rng.uniform(-4, 4, count),
        scale=rng.uniform(0.4, 1.3, count), left=rng.uniform(-4, 4, count), right=rng.uniform(-4, 4, count),
    )  # fmt: skip
    grid = np.arange(side) + 0.5 + rng.uniform(-3, 3, (count, 1))
    x, y = grid[:, None, :], grid[:, :, None]
    whole = {}
    for reach in (drawing.REACH, 1e6, 0.95 * drawing.REACH):
        monkeypatch.setattr(drawing, "REACH", reach)
        whole[reach] = drawing.coverage(pose, x, y)
    near, far, less = whole.values()
    assert np.array_equal(near, far)
    assert not np.array_equal(less, far)  # these poses come as far as that
    assert 0 < near.mean() < 1


def test_compounds_share_four_backgrounds_and_others_share_none() -> None:
    for domain, count in (("source", 40), ("transfer", 40), ("compound", drawing.POOLS)):
        rng = np.random.default_rng(0)
        assert len({drawing.background(32, None, domain, rng).tobytes() for _ in range(40)}) == count


def test_a_rendered_compound_has_its_names_and_both_motions_beside_it(tmp_path: Path) -> None:
    chosen = Embedded(set="stationary", domain="compound", train=6, test=1, size=32)
    folder = synthetic.render(chosen, tmp_path)
    found = films(folder, "train")
    assert [film.rows[0]["label"] for film in found] == list(synthetic.classes(chosen))
    assert json.loads((folder / "meta.json").read_text())["classes"] == list(synthetic.classes(chosen))
    assert {film.truth["second"].shape for film in found} == {(1, 2)}
    assert {int(film.truth["seed"][2]) for film in found} == {2}


def tint(film: Film) -> np.ndarray[Any, Any]:
    """Mean colour where no figure is."""
    free = np.kron(film.truth["mask"] == 0, np.ones((2, 2), bool))
    colour: np.ndarray[Any, Any] = film.pixels[free].mean(0)
    return colour


def test_at_correlation_1_the_background_tells_the_class_and_another_one_in_test(tmp_path: Path) -> None:
    chosen = Embedded(set="stationary", train=6, test=6, size=32, background_class_correlation=1, jitter=0)
    folder = synthetic.render(chosen, tmp_path)
    train, test = films(folder, "train"), films(folder, "test")
    distance = np.array([[np.abs(tint(a) - tint(b)).max() for b in train] for a in test])
    assert distance.argmin(1).tolist() == [(label + 1) % 6 for label in range(6)]
    assert distance.min(1).max() < 10 < 20 < np.sort(distance, axis=1)[:, 1].min()


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_the_share_of_telling_backgrounds(correlation: float) -> None:
    chosen, rng = Embedded(background_class_correlation=correlation), np.random.default_rng(0)
    for split, told in (("train", 5), ("test", 0)):
        themes = [synthetic._theme(chosen, split, 5, rng) for _ in range(400)]
        assert set(themes) <= {None, told}
        assert sum(theme is not None for theme in themes) / 400 == pytest.approx(correlation, abs=0.07)


def test_backgrounds_are_unique_and_muted(two_stage: list[Film]) -> None:
    tints = np.array([tint(film) for film in two_stage])
    assert min(np.abs(tints[a] - tints[b]).max() for a in range(6) for b in range(a)) > 1
    for domain in DOMAINS:
        texture = drawing.background(64, None, domain, np.random.default_rng(0))
        assert 0.2 <= texture.min() < texture.max() <= 0.8
        assert texture.std((0, 1)).min() > 0.02


def test_transfer_has_other_textures_motions_and_sizes() -> None:
    source, transfer = (
        [(Motion.draw(domain, rng), Look.draw(domain, 1.0, 64, rng)) for _ in range(1000)]
        for domain, rng in ((domain, np.random.default_rng(0)) for domain in DOMAINS)
    )
    for drawn_here, periods, amplitudes, scales in (
        (source, (14, 20), (5, 8), (1, 1.3)),
        (transfer, (14, 22), (4.5, 7.5), (0.85, 1.2)),
    ):
        for values, (low, high) in (
            ([motion.period for motion, _ in drawn_here], periods),
            ([motion.amplitude for motion, _ in drawn_here], amplitudes),
            ([look.scale for _, look in drawn_here], scales),
        ):
            assert low <= min(values) < low + 0.05 * (high - low)
            assert high - 0.05 * (high - low) < max(values) <= high
    # Tiles have hard edges, waves none.
    edge = [
        np.abs(np.diff(drawing.background(64, None, domain, np.random.default_rng(0)), axis=1)).max()
        for domain in DOMAINS
    ]
    assert edge[0] < 0.15 < edge[1]


# --- knobs


def one(tmp_path: Path, **changed: Any) -> Film:
    """The first training video of a set that differs from the default in one knob."""
    return films(synthetic.render(Embedded(train=1, test=1, **{"size": 32, **changed}), tmp_path), "train")[0]


def test_knobs_act_and_leave_the_rest_of_the_video(tmp_path: Path) -> None:
    plain = one(tmp_path)
    assert plain.truth["distractor_mask"].max() == 0

    busy = one(tmp_path, distractors=3)
    covered = busy.truth["distractor_mask"].max(0)
    assert covered.max() > 200
    assert np.array_equal(busy.truth["mask"], plain.truth["mask"])
    free = np.kron(busy.truth["distractor_mask"] == 0, np.ones((2, 2), bool))
    gap = np.abs(busy.pixels.astype(int) - plain.pixels).max(-1)
    assert gap[free].mean() < 5 < 20 < gap[~free].mean()  # below: what the coding lost

    assert not one(tmp_path, jitter=0).truth["camera"].any()
    assert np.allclose(one(tmp_path, jitter=1.4).truth["camera"], 2 * plain.truth["camera"])

    small = one(tmp_path, figure=0.5)
    share = small.truth["mask"].sum(dtype=float) / plain.truth["mask"].sum(dtype=float)
    assert share == pytest.approx(0.25, abs=0.08)

    assert one(tmp_path, frames=96).pixels.shape == (96, 32, 32, 3)
    assert one(tmp_path, size=48).truth["mask"].shape == (80, 16, 16)


def test_redraw_off_keeps_period_amplitude_and_direction_and_the_first_stage(tmp_path: Path) -> None:
    anew, kept = one(tmp_path), one(tmp_path, redraw=False)
    for name in ("period", "amplitude", "phase"):
        assert len(set(anew.truth[name])) == 2
        assert kept.truth[name].tolist() == [anew.truth[name][0]] * 2
    assert len(set(kept.truth["direction"])) == 1
    before = int(anew.truth["switch"]) - synthetic.FADE
    assert kept.truth["switch"] == anew.truth["switch"]
    assert np.array_equal(kept.truth["mask"][:before], anew.truth["mask"][:before])


def test_distractors_drift_and_leave_the_frame_before_they_come_back() -> None:
    for seed in range(6):
        _, _, blobs = drawn(seed=seed, distractors=1, x=500)
        area = blobs.sum((1, 2))
        assert np.abs(np.diff(area)).max() < 0.35 * np.pi * 4**2  # no blob is there in one frame and gone in the next


@given(st.floats(0, 30), st.integers(0, 1000))
def test_the_camera_stays_within_the_background(jitter: float, seed: int) -> None:
    path = drawing.camera_path(80, jitter, np.random.default_rng(seed))
    assert path[0].tolist() == [0, 0]
    assert np.abs(path).max() < drawing.MARGIN


def test_the_camera_walks_as_declared() -> None:
    path = drawing.camera_path(20000, 0.7, np.random.default_rng(0))
    assert np.corrcoef(path[1:, 0], path[:-1, 0])[0, 1] == pytest.approx(0.8, abs=0.02)
    assert (path[1:] - 0.8 * path[:-1]).std() == pytest.approx(0.7, rel=0.02)


def test_figure_and_background_move_with_the_camera() -> None:
    pose, _, look = pose_of(0, 0, frames=2)
    pose = replace(pose, x=pose.x[[0, 0]], y=pose.y[[0, 0]])
    camera = np.array([[0, 0], [3, -2]], float)
    pixels, cover, _ = drawing.draw(look, pose, camera, None, 0, "source", np.random.default_rng(0))
    assert np.array_equal(pixels[1, :-2, 3:], pixels[0, 2:, :-3])
    assert np.array_equal(cover[1, :-2, 3:], cover[0, 2:, :-3])


# --- what the small scale asks for


def test_windows_of_the_demo_lie_apart() -> None:
    clip = Clip.model_validate(yaml.safe_load(PROFILE.read_text())["settings"]["clip"])
    for seed in range(200):
        first, second = sorted(clips.windows(80, clip, np.random.default_rng(seed)))
        assert second - first >= 40
        assert not set(clips.part_frames(first, 80, clip, 1).flat) & set(clips.part_frames(second, 80, clip, 1).flat)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", CLASSES)
def test_the_figure_moves_under_three_pixels_per_sampled_frame(name: str, domain: str) -> None:
    """Mean over the figure at stride 2, in pixels of a 48 x 48 view, in the median video; and it stays in the frame."""
    speeds = []
    for seed in range(30):
        points = points_of(pose_of(CLASSES.index(name), seed, domain)[0])
        speeds.append(48 / 64 * np.linalg.norm(points[2:] - points[:-2], axis=-1).mean())
        assert 0 < points.min() < points.max() < 64
    assert 0.5 < np.median(speeds) < 3


def points_of(pose: drawing.Poses) -> np.ndarray[Any, Any]:
    """[T, 7, 2] head, shoulders, hips, hands and feet in pixels."""
    still = np.zeros(len(pose.x))
    hands = [(side + drawing.ARM * np.cos(arm), -3.2 + drawing.ARM * np.sin(arm))
             for side, arm in ((-1.2, pose.left), (1.2, pose.right))]  # fmt: skip
    own = [(still, still - 7.4), (still, still - 3.2), (still, still + 3.5), *hands,
           (still - 2.6, still + 9.5), (still + 2.6, still + 9.5)]  # fmt: skip
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    x = [pose.x + pose.scale * (cos * u - sin * v) for u, v in own]
    y = [pose.y + pose.scale * (sin * u + cos * v) for u, v in own]
    return np.array([x, y]).transpose(2, 1, 0)
