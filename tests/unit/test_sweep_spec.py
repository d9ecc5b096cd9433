"""A sweep's YAML: what it becomes, and one line at its place for each mistake."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ablations import searcher, spec, sweep
from ablations.expression import Expression
from ablations.located import Node, SpecError
from ablations.store import Store

SWEEP = """\
sweep: mine
title: My sweep
base: {losses: [vv, pix]}
space:
  foreground.beta: {float: [0.1, 0.9]}
  decoder.width: {choices: [256, 512]}
  decoder.heads: {int: [1, 6]}
constraints: [decoder.width % decoder.heads == 0]
objective: lin/ucf101
sampler: {name: tpe, seed: 3}
pruner: {name: median, every: 20}
validation: 1/5
trials: 12
"""


def load(folder: Path, text: str) -> sweep.Sweep:
    path = folder / "x.yaml"
    path.write_text(text)
    return sweep.load_sweep(path)


def test_a_sweep_is_read_whole(tmp_path: Path) -> None:
    found = load(tmp_path, SWEEP)
    assert [p.name for p in found.space.parameters] == ["foreground.beta", "decoder.width", "decoder.heads"]
    assert found.objectives == (sweep.Objective("lin/ucf101", "maximize"),)
    assert (found.sampler.seed, found.pruner.every, found.held_out, found.trials) == (3, 20, 5, 12)
    assert found.final_metrics == ("lin/ucf101", "parameters", "gpu_days")
    points = list(found.space.draws(200))
    assert len(points) == 200
    assert all(point["decoder.width"] % point["decoder.heads"] == 0 for point in points)  # type: ignore[operator]


def test_days_of_a_trial_are_those_of_all_its_steps(tmp_path: Path) -> None:
    text = SWEEP.replace("objective: lin/ucf101", "objective: [lin/ucf101, gpu_days]").replace("tpe", "nsga2")
    found = load(tmp_path, text.replace("pruner: {name: median, every: 20}\n", ""))
    plan = found.trial(0, next(found.space.draws(1)), spec.load_profile("debug"), [])
    store = Store(tmp_path / "runs")
    for stage in plan.stages.values():
        store.prepare(stage)
        store.finish(stage.uid, {"top1": 40.0, "seconds_per_step": 0.864, "steps": 200, "devices": 2})
    assert searcher.measured(found, plan, store) == {"lin/ucf101": {0: 40.0}, "gpu_days": {0: pytest.approx(0.004)}}


def test_trials_that_strive_for_the_contrary_are_another_study(tmp_path: Path) -> None:
    profile = spec.load_profile("debug")
    digests = [
        load(tmp_path, SWEEP.replace("objective: lin/ucf101", f"objective: {{metric: lin/ucf101{more}}}")).digest(
            profile, []
        )
        for more in ("", ", direction: maximize", ", direction: minimize")
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("path", sweep.sweep_files(), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["debug", "demo", "ucf101-i3d"])
def test_the_repositorys_sweeps_can_run_under_small_and_large_profiles(path: Path, profile: str) -> None:
    found = sweep.load_sweep(path)
    assert found.sweep == path.stem
    sweep.check(found, spec.load_profile(profile), [])


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("foreground.beta:", "foreground.betta:", 5, ["foreground.betta is not a setting", "Did you mean beta?"]),
        ("{float: [0.1, 0.9]}", "0.5", 5, ["foreground.beta needs a range, such as {float:"]),
        ("{float: [0.1, 0.9]}", "{float: [0.9, 0.1]}", 5, ["the least value must be below the largest"]),
        ("{float: [0.1, 0.9]}", "{float: [0.1]}", 5, ["float takes the least and the largest value, got [0.1]"]),
        ("{float: [0.1, 0.9]}", "{float: [0.1, 1.5]}", 5, ["foreground.beta must be at most 1, got 1.5"]),
        ("{float: [0.1, 0.9]}", "{float: [0, 0.9], log: true}", 5, ["a logarithmic range must be above 0"]),
        ("{float: [0.1, 0.9]}", "{float: [0.1, 0.9], log: 1}", 5, ["log must be true or false, got 1"]),
        ("{float: [0.1, 0.9]}", "{float: [0.1, 0.9], step: 0.3}", 5, ["0.9 is no whole number of steps of 0.3"]),
        ("{float: [0.1, 0.9]}", "{float: [0.1, 0.9], log: true, step: 0.1}", 5, ["log and step exclude each other"]),
        ("{float: [0.1, 0.9]}", "{flot: [0.1, 0.9], log: true}", 5, ["flot is not a key", "Did you mean float?"]),
        ("{float: [0.1, 0.9]}", "{float: [0.1, 0.9], choices: [0.1, 0.2]}", 5, ["exactly one of float, int, choices"]),
        ("{float: [0.1, 0.9]}", "{choices: [0.1, 0.1]}", 5, ["0.1 is there twice"]),
        ("{float: [0.1, 0.9]}", "{choices: [0.1]}", 5, ["choices must hold at least two"]),
        ("{float: [0.1, 0.9]}", "{choices: [0.1, high]}", 5, ["foreground.beta must be a number, got high"]),
        ("{float: [0.1, 0.9]}", "{choices: [0.1, 0.2], step: 0.1}", 5, ["step belongs to float and int"]),
        ("{int: [1, 6]}", "{float: [1, 6]}", 7, ["decoder.heads is a whole number; write int instead of float"]),
        ("{int: [1, 6]}", "{int: [1, 6.5]}", 7, ["int takes whole numbers, got [1, 6.5]"]),
        ("{int: [1, 6]}", "{int: [1, 6], when: decoder.shared}", 7, []),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width % decoder.hads == 0]", 8, ["Did you mean heads?"]),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width %]", 8, ["constraint must be a condition such as"]),
        ("[decoder.width % decoder.heads == 0]", "[optim.lr > 0.1]", 8, ["names no setting of space, which has"]),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width % decoder.heads]", 8, ["must be true or false, got"]),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width < 3]", 8, ["the constraints leave nothing"]),
        ("[decoder.width % decoder.heads == 0]", "[open('x') or decoder.width]", 8, ["open is not a setting"]),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width.bit_length() > 1]", 8, ["is not a setting"]),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width > 'a']", 8, ["cannot be worked out"]),
        ("[decoder.width % decoder.heads == 0]", "[decoder.width / (decoder.heads - decoder.heads) > 1]", 8, ["zero"]),
        ("objective: lin/ucf101", "objective: lin/ucf1O1", 9, ["is not a metric", "Did you mean lin/ucf101?"]),
        ("objective: lin/ucf101", "objective: gpu_days", 9, ["needs an accuracy"]),
        ("objective: lin/ucf101", "objective: [lin/ucf101, lin/ucf101]", 9, ["two different ones"]),
        ("objective: lin/ucf101", "objective: {metric: lin/ucf101, direction: up}", 9, ["up is not a direction"]),
        ("objective: lin/ucf101", "objective: [lin/ucf101, gpu_days]", 11, ["no trial can be pruned"]),
        ("name: tpe", "name: tpee", 10, ["tpee is not a sampler", "Did you mean tpe?"]),
        ("seed: 3", "seed: -1", 10, ["sampler.seed must be a whole number from 0 up, got -1"]),
        ("seed: 3", "seed: 3, population: 8", 10, ["sampler tpe has no population; nsga2 have"]),
        ("name: tpe", "name: grid", 5, ["sampler grid needs separate values of foreground.beta"]),
        ("name: median", "name: medain", 11, ["medain is not a pruner", "Did you mean median?"]),
        ("every: 20", "every: 0", 11, ["pruner.every must be a whole number from 1 up, got 0"]),
        ("every: 20", "every: 20, percentile: 30", 11, ["percentile is of pruner percentile"]),
        ("1/5", "0.3", 12, ["validation must be one n-th of train, such as 1/4, got 0.3"]),
        ("1/5", "2/5", 12, ["one n-th of train"]),
        ("trials: 12", "trials: many", 13, ["trials must be a whole number from 1 up, got many"]),
        ("trials: 12\n", "", 1, ["a sweep needs trials"]),
        ("trials: 12", "trials: 12\nminutes: 0", 14, ["minutes must be above 0, got 0"]),
        ("trials: 12", "trials: 12\nfinal: {metric: [lin/ucf101]}", 14, ["metric is not a key of final"]),
        ("trials: 12", "trails: 12", 13, ["trails is not a key of a sweep", "Did you mean trials?"]),
        ("sweep: mine", "sweep: ../mine", 1, ["letters, digits", "../mine"]),
        ("base: {losses: [vv, pix]}", "base: {losses: [vv], foreground.beta: 0.4}", 3, ["is in base and in space"]),
        ("title: My sweep", "title: My sweep\nseeds: [0, 0]", 3, ["seeds must be different whole numbers"]),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_at_its_place(
    tmp_path: Path, old: str, new: str, line: int, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in SWEEP
    monkeypatch.chdir(tmp_path)
    text = SWEEP.replace(old, new, 1)
    if not parts:
        load(tmp_path, text)
        return
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"x.yaml:{line}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_what_only_a_profile_shows_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo = spec.load_profile("demo")

    def complaint(old: str, new: str, overrides: tuple[str, ...] = ()) -> str:
        with pytest.raises(SpecError) as caught:
            sweep.check(load(tmp_path, SWEEP.replace(old, new, 1)), demo, overrides)
        return str(caught.value)

    assert "decoder.width" in complaint("constraints: [decoder.width % decoder.heads == 0]\n", "")
    assert "exclude it by a constraint" in complaint("constraints: [decoder.width % decoder.heads == 0]\n", "")
    assert complaint("[vv, pix]", "[vv]").startswith("x.yaml:5: foreground.beta changes nothing")
    assert "the sweep searches it" in complaint("", "", ("foreground.beta=0.3",))
    shared = "the same videos and differ in embedded.train: pre-training would see what the sweep holds out"
    assert shared in complaint("", "", ("data.pretrain.embedded.train=480",))
    ucf = ("data.name=ucf101", "data.root=/videos")
    assert "data.pretrain and data.ucf101 hold the same videos and differ in fold" in complaint(
        "", "", (*ucf, "data.pretrain.fold=2")
    )
    assert "differ in name" in complaint("", "", (*ucf, "data.pretrain.name=folder"))
    sweep.check(load(tmp_path, SWEEP), demo, ("data.pretrain.embedded.train=480", "data.pretrain.embedded.seed=9"))
    assert "no whole number; take a multiple of 4" in complaint("[256, 512]", "[256, 510]")


def test_conditions_decide_which_parameters_a_point_has(tmp_path: Path) -> None:
    found = sweep.load_sweep("losses")
    points = list(found.space.draws(100))
    for point in points:
        on = str(point["losses"]).split("+")
        assert {name for name in point if name.startswith("weights.")} == {
            f"weights.{name}" for name in on if name != "vv"
        }
    assert len({point["losses"] for point in points}) == 7


def test_a_grid_holds_each_allowed_cell_once(tmp_path: Path) -> None:
    text = SWEEP.replace("{float: [0.1, 0.9]}", "{float: [0.1, 0.9], step: 0.4}").replace("name: tpe", "name: grid")
    found = load(tmp_path, text.replace("trials: 12\n", ""))
    cells = found.space.cells()
    by_loops = [
        (b, w, h) for b in (0.1, 0.5, 0.9) for w in (256, 512) for h in range(1, 7) if w % h == 0
    ]  # fmt: skip
    assert [tuple(cell.values()) for cell in cells] == by_loops


def test_rows_of_the_paper_are_points_where_they_lie_in_the_space() -> None:
    found = sweep.load_sweep("beta_threshold")
    inside, outside = sweep.paper_points(found, spec.load_study("table3d_beta"))
    assert inside == {
        label: {"foreground.beta": float(label), "pixel.threshold": 0.7} for label in ("0.3", "0.5", "0.7")
    }
    assert not outside
    inside, outside = sweep.paper_points(found, spec.load_study("table3e_mask_source"))
    assert "foreground.source" in outside["RGB"]
    assert list(inside) == ["both"]
    inside, outside = sweep.paper_points(sweep.load_sweep("decoder"), spec.load_study("table3b_depth"))
    assert len(inside) == 3


def test_the_validation_videos_are_in_no_training_of_a_trial() -> None:
    from fima import datasets
    from fima.datasets import Data

    found, debug = sweep.load_sweep("beta_threshold"), spec.load_profile("debug")
    plan = found.trial(0, next(found.space.draws(1)), debug, [])
    data = {stage.kind: Data.model_validate(stage.config["where"]["data"]) for stage in plan.stages.values()}
    judged = {record.path for record in datasets.load(data["features"]).split("test")}
    pretrained = datasets.usable(data["pretrain"], "train", plan.rows[0].resolved.settings.clip, labelled=False)[1]
    whole = datasets.load(data["features"].model_copy(update={"held_out": None}))
    assert judged
    assert not judged & {record.path for record in pretrained}
    assert judged <= {record.path for record in whole.split("train")}
    final = found.final({"best": next(found.space.draws(1))}, debug, [])
    assert not any(stage.config["where"]["data"]["held_out"] for stage in final.stages.values())


def test_a_probe_is_not_in_the_uid() -> None:
    found, debug = sweep.load_sweep("beta_threshold"), spec.load_profile("debug")
    point = next(found.space.draws(1))
    with_probe = found.trial(0, point, debug, [])
    without = sweep.replace(found, pruner=sweep.Pruner()).trial(0, point, debug, [])
    assert list(with_probe.stages) == list(without.stages)
    probed = [stage for stage in with_probe.stages.values() if "probe" in stage.config["where"]]
    assert [stage.kind for stage in probed] == ["pretrain"]


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("decoder.width % decoder.heads == 0", {"decoder.width": 256, "decoder.heads": 4}, True),
        ("'pix' in losses and weights.pix > 1", {"losses": ["vv", "pix"], "weights.pix": 2}, True),
        ("'pix' in losses and weights.pix > 1", {"losses": ["vv"], "weights.pix": 2}, False),
        ("not decoder.shared", {"decoder.shared": False}, True),
        ("foreground.source == 'both'", {"foreground.source": "rgb"}, False),
    ],
)
def test_expressions(text: str, values: dict[str, object], holds: bool) -> None:
    assert Expression(Node(text, "x.yaml:1", text), "constraint").holds(values) is holds


def test_a_value_finds_its_place_in_the_space(tmp_path: Path) -> None:
    beta, width, heads = load(tmp_path, SWEEP).space.parameters
    assert beta.value(0.5) == 0.5
    assert width.value(512) == 512
    for parameter, wrong in ((beta, 0.95), (width, 300), (heads, 7), (heads, True)):
        with pytest.raises(ValueError, match=parameter.name):
            parameter.value(wrong)
    chance = random.Random(1)
    assert {heads.draw(chance) for _ in range(200)} == set(range(1, 7))
