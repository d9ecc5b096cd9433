"""The plan: equal work is one stage; a uid changes with what alters the result and with nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations import plan as planning
from ablations import spec
from ablations.dotted import fields
from ablations.plan import Plan
from ablations.uids import RESULTS
from fima import datasets
from fima.config import Settings

EVERYTHING = (
    "losses=[vv, vd, pix, fra]",
    "pixel.negatives=queue",
    "frame.type=triplet",
    "augment.static=0.3",
    "augment.kept=0.5",
)
ALL_METRICS = [metric for metric in spec.METRICS if not metric.startswith(("R5", "R10", "bias", "fig"))]


def plan(*overrides: str, study: str = "table3d_beta", profile: str = "debug", **kwargs: Any) -> Plan:
    return planning.build([spec.load_study(study)], spec.load_profile(profile), overrides, **kwargs)


def first(planned: Plan, kind: str, role: str | None = None) -> str:
    """The uid of the first stage of a kind, on the data of a role."""
    return next(
        uid
        for uid, stage in planned.stages.items()
        if stage.kind == kind and (role is None or stage.config["where"]["role"] == role)
    )


def leaves(tree: dict[str, Any], above: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in tree.items():
        found |= leaves(value, f"{above}{name}.") if isinstance(value, dict) else {above + name}
    return found


def another(name: str, tmp_path: Path) -> str:
    """An override that gives a setting another valid value than under the profile `debug`."""
    special = {
        "losses": "[vv]", "decoder.width": "64", "decoder.heads": "8", "backbone.name": "r3d",
        "optim.milestones": "[0.5]", "compute.channels_last": "true",
        "backbone.weights": str(tmp_path / "weights.pt"), "augment.scale_max": "0.9", "contrast.momentum": "0.5",
    }  # fmt: skip
    profile = spec.load_profile("debug")
    study = spec.load_study("table3d_beta")
    settings = spec.resolve(study, study.rows[0], profile, EVERYTHING).settings
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    if name in special:
        return f"{name}={special[name]}"
    if isinstance(value, bool):
        return f"{name}={str(not value).lower()}"
    if isinstance(value, str):
        choices = fields(Settings)[name].annotation.__args__  # type: ignore[union-attr]
        return f"{name}={next(choice for choice in choices if choice != value)}"
    if isinstance(value, int):
        return f"{name}={value + 1}"
    return f"{name}={round(value * 0.8 + 0.01, 6)}"


def test_every_active_setting_is_in_the_uid(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"1")
    before = plan(*EVERYTHING).rows[0]
    active = leaves(before.resolved.settings.active())
    # debug does not blur, counts steps, has a cosine and no control; recomputing alters nothing
    idle = {"augment.blur_min", "augment.blur_max", "optim.epochs", "optim.milestones", "compute.recompute",
            "contrast.shuffled"}  # fmt: skip
    assert active == set(fields(Settings)) - idle
    for name in sorted(active):
        after = plan(*EVERYTHING, another(name, tmp_path)).rows[0]
        if name == "foreground.beta":  # the first row sets it, and an override beats the row
            assert after.resolved.settings.foreground.beta != before.resolved.settings.foreground.beta
        assert after.pretrain[0] != before.pretrain[0], name


def test_epochs_and_milestones_are_in_the_uid_where_they_act() -> None:
    for base, name in (("optim.steps=null", "optim.epochs"), ("optim.schedule=steps", "optim.milestones")):
        values = ("3", "4") if name == "optim.epochs" else ("[0.5]", "[0.7]")
        uids = {plan(base, f"{name}={value}").rows[0].pretrain[0] for value in values}
        assert len(uids) == 2, name


def test_pre_training_does_not_know_of_test_videos() -> None:
    before, after = plan(metrics=ALL_METRICS), plan("data.embedded.test=11", metrics=ALL_METRICS)
    assert before.rows[0].pretrain == after.rows[0].pretrain
    kinds = {before.stages[uid].kind for uid in before.stages.keys() & after.stages.keys()}
    assert kinds == {"pretrain"}


def test_idle_settings_are_in_no_uid(tmp_path: Path) -> None:
    before = plan("losses=[vv]")
    idle = set(fields(Settings)) - leaves(before.rows[0].resolved.settings.active())
    assert {"foreground.beta", "pixel.group", "frame.type", "decoder.width", "weights.fra"} <= idle
    for name in sorted(
        idle - {"augment.static", "augment.kept"}
    ):  # off, and thereby left out; they act when they are on
        change = another(name, tmp_path) if "blur" not in name else f"{name}=1.5"
        assert list(plan("losses=[vv]", change).stages) == list(before.stages), name


def test_a_random_encoder_has_no_weights_of_a_file(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    words = [f"backbone.weights={weights}"]
    planned = planning.build([spec.load_study("table3d_beta")], spec.load_profile("mini"), words, [0])
    drawn = [stage for stage in planned.stages.values() if stage.kind == "untrained"]
    assert drawn and all(stage.config["settings"]["backbone"]["weights"] is None for stage in drawn)


def test_words_of_a_command_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    (tmp_path / "a=b/my.yaml").touch()
    (tmp_path / "c=d.yaml").touch()
    words = ["table3d_beta", "optim.lr=0.1", "a=b/my.yaml", "c=d.yaml", "my.yaml:T = 0.7", "optim.steps = 3", "=3"]
    names, overrides = spec.told_apart(words)
    assert overrides == ["optim.lr=0.1", "optim.steps = 3", "=3"]
    assert names == ["table3d_beta", "a=b/my.yaml", "c=d.yaml", "my.yaml:T = 0.7"]


def test_where_the_data_lie_and_how_many_read_them_is_in_no_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(plan(metrics=ALL_METRICS).stages)
    assert (
        list(plan("data.memory_gib=1.5", "data.cache_gib=0", "data.broken=fatal", metrics=ALL_METRICS).stages) == before
    )
    assert list(plan("losses=[pix, vv]", metrics=ALL_METRICS).stages) == before
    monkeypatch.setattr(datasets, "fingerprint", lambda data, pretraining=False: "same")
    profile = spec.load_profile("ucf101-i3d")
    study = spec.load_study("table3d_beta")
    plans = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        plans.append(planning.build([study], spec.apply_roots(profile, [str(tmp_path / name)])))
    assert list(plans[0].stages) == list(plans[1].stages)
    assert plans[0].stages[plans[0].rows[0].pretrain[0]].config["where"]["data"]["root"] == str(tmp_path / "one")


def test_a_folder_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    study, debug = spec.load_study("table3d_beta"), spec.load_profile("debug")
    with pytest.raises(spec.SpecError, match=r"--data-root .*: nothing reads it.*profile debug.*data\.name=folder"):
        planning.build([study], spec.apply_roots(debug, [str(tmp_path)]))
    with pytest.raises(spec.SpecError, match=r"override data\.root=/videos: nothing reads it.*add data\.name=folder"):
        plan("data.root=/videos")


def test_seed_data_and_code_version_are_in_every_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(plan(metrics=ALL_METRICS).stages)
    assert not before & set(plan(seeds=[1], metrics=ALL_METRICS).stages)
    assert not before & set(plan("data.embedded.seed=5", metrics=ALL_METRICS).stages)
    assert not before & set(plan("data.decoded=stream", metrics=ALL_METRICS).stages)
    monkeypatch.setitem(RESULTS, "pretrain", RESULTS["pretrain"] + 1)
    assert not before & set(plan(metrics=ALL_METRICS).stages)  # through the upstream uid


def test_what_an_evaluation_changes_leaves_its_upstream_alone() -> None:
    before = plan(metrics=ALL_METRICS)

    def changed(*overrides: str) -> set[tuple[str, str]]:
        after = plan(*overrides, metrics=ALL_METRICS)
        return {
            (stage.kind, stage.config["where"]["role"])
            for uid, stage in after.stages.items()
            if uid not in before.stages
        }

    assert changed("hmdb51.finetune.dropout=0.2") == {("finetune", "hmdb51")}
    assert changed("finetune.optim.lr=0.5") == {("finetune", role) for role in spec.TESTED}
    assert changed("linear.clips=1") == {(k, r) for k in ("features", "linear") for r in spec.TESTED}
    assert changed("linear.optim.lr=3", "linear.normalise=false") == set()  # idle in the logistic probe
    assert changed("linear.protocol=sgd") == {("linear", role) for role in spec.TESTED}
    assert changed("data.hmdb51.embedded.seed=3") == {
        (kind, "hmdb51") for kind in ("features", "linear", "retrieval", "finetune")
    }


def test_initial_weights_count_by_their_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    uid = plan(f"backbone.weights={one}").rows[0].pretrain[0]
    assert plan(f"backbone.weights={two}").rows[0].pretrain[0] == uid
    two.write_bytes(b"others")
    assert plan(f"backbone.weights={two}").rows[0].pretrain[0] != uid
    with pytest.raises(spec.SpecError, match="No such file"):
        plan(f"backbone.weights={tmp_path / 'none.pt'}")


def test_equal_data_in_two_roles_are_one_stage() -> None:
    planned = plan("data.hmdb51.embedded.domain=source", metrics=["lin/ucf101", "lin/hmdb51"])
    for row in planned.rows:
        assert row.cells["lin/ucf101"] == row.cells["lin/hmdb51"]
    assert len(planned.stages) == 3 * 3


def test_probe_and_retrieval_share_features_of_equally_many_clips() -> None:
    kinds = [stage.kind for stage in plan(metrics=["lin/ucf101", "R1/ucf101", "R5/ucf101"]).stages.values()]
    assert [kinds.count(kind) for kind in ("pretrain", "features", "linear", "retrieval")] == [3, 3, 3, 3]
    kinds = [s.kind for s in plan("retrieval.clips=1", metrics=["lin/ucf101", "R1/ucf101"]).stages.values()]
    assert kinds.count("features") == 6


@pytest.mark.parametrize("protocol", ["logistic", "sgd"])
def test_stages_come_after_what_they_need_and_are_json(protocol: str) -> None:
    planned = plan(f"linear.protocol={protocol}", metrics=ALL_METRICS, seeds=[0, 3])
    seen: set[str] = set()
    upstream = {"pretrain": None, "features": "pretrain", "finetune": "pretrain", "retrieval": "features",
                "linear": "features" if protocol == "logistic" else "pretrain"}  # fmt: skip
    for uid, stage in planned.stages.items():
        assert uid == stage.uid and set(stage.needs) <= seen
        assert [planned.stages[need].kind for need in stage.needs] == ([upstream[stage.kind]] if stage.needs else [])
        assert stage.config["seed"] == stage.seed and stage.config.get("upstream", *stage.needs or [None]) in (
            *stage.needs, None,
        )  # fmt: skip
        assert json.loads(json.dumps(stage.config)) == stage.config
        assert stage.config["where"]["data"]["name"] == "embedded"
        seen.add(uid)
    for row in planned.rows:
        for seed in (0, 3):
            assert set(row.stages[seed]) <= seen
            assert all(cells[seed].uid in row.stages[seed] for cells in row.cells.values())
            assert all(planned.stages[uid].seed == seed for uid in row.stages[seed])


def test_active_settings_are_enough_to_rebuild_the_experiment() -> None:
    for planned in (plan(), plan(*EVERYTHING), plan("losses=[vv]")):
        for stage in planned.stages.values():
            if stage.kind == "pretrain":
                rebuilt = Settings.model_validate(stage.config["settings"])
                assert rebuilt.active() == stage.config["settings"]


def test_cells_point_at_results() -> None:
    row = plan(metrics=ALL_METRICS, study="table11_cost").rows[0]
    keys = {metric: (cell[0].uid.partition("-")[0], cell[0].key) for metric, cell in row.cells.items()}
    assert keys["lin/ucf101"] == ("linear", "top1") and keys["ft/hmdb51"] == ("finetune", "top1")
    assert keys["R20/hmdb51"] == ("retrieval", "R20")
    assert keys["parameters"] == ("pretrain", "parameters_paper_millions")
    assert keys["gpu_days"] == ("pretrain", "seconds_per_step")
    assert row.cells["gpu_days"][0].factor * 86_400 == 1


def test_metrics_are_those_of_study_and_profile_unless_asked_for() -> None:
    assert list(plan(profile="demo").rows[0].cells) == ["lin/ucf101", "lin/hmdb51"]  # ft is not in demo
    assert list(plan(profile="demo", study="table11_cost").rows[0].cells) == ["parameters", "gpu_days", "lin/ucf101"]
    assert list(plan(profile="demo", metrics=["ft/ucf101", "R1/ucf101"]).rows[0].cells) == ["ft/ucf101", "R1/ucf101"]
    with pytest.raises(spec.SpecError, match=r"lin/ucf11 is not a metric.*Did you mean lin/ucf101\?"):
        plan(metrics=["lin/ucf11"])
    study = replace(spec.load_study("table3d_beta"), metrics=("ft/ucf101",))
    with pytest.raises(
        spec.SpecError, match="none of which the study names; ask for the study's with --metrics ft/ucf101"
    ):
        planning.build([study], spec.load_profile("demo"))


def test_seeds_of_the_command_beat_the_study_which_beats_the_profile() -> None:
    study = spec.load_study("table3d_beta")
    mini = spec.load_profile("mini")
    assert planning.build([study], mini).seeds == mini.seeds == tuple(range(16))
    assert planning.build([replace(study, seeds=(7,))], mini).seeds == (7,)
    assert planning.build([replace(study, seeds=(7,))], mini, seeds=[1, 2]).seeds == (1, 2)


def test_two_studies_of_one_name_are_refused() -> None:
    study = spec.load_study("table3d_beta")
    with pytest.raises(spec.SpecError, match="two studies named table3d_beta"):
        planning.build([study, study], spec.load_profile("debug"))


def test_a_plan_is_shown_with_what_is_done() -> None:
    planned = plan()
    done = list(planned.stages)[:2]
    data = planned.as_json(done)
    assert (data["rows"], data["pretrainings"], data["stages"], data["stages_done"]) == (3, 3, len(planned.stages), 2)
    assert [row["label"] for row in data["planned_rows"]] == ["0.3", "0.5", "0.7"]
    text = "\n".join(planned.lines(done, every_stage=True))
    assert f"2 of {len(planned.stages)} stages are done" in text and all(uid in text for uid in planned.stages)


def test_a_plan_imports_nothing_heavy_and_is_the_same_in_every_process() -> None:
    code = (
        "import sys, ablations.plan as p, ablations.spec as s\n"
        "heavy = {'torch', 'pandas', 'mlflow', 'scipy', 'matplotlib', 'av', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(*p.build([s.load_study('table3d_beta')], s.load_profile('debug')).stages)\n"
        "from ablations import cards, engines\n"
        "assert engines.choose('local', None, None, 1, None, ()).jobs\n"
        "assert cards.driver() or 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(plan().stages)


def test_references_stand_beside_the_rows_and_count_as_none() -> None:
    plain = plan(metrics=ALL_METRICS, profile="mini", seeds=[0, 1])
    assert {reference.label for reference in plain.references} == set(planning.REFERENCES.values())
    assert {metric for reference in plain.references for metric in reference.cells} <= set(ALL_METRICS)
    bare = planning.build(
        [spec.load_study("table3d_beta")],
        replace(spec.load_profile("mini"), references=()),
        seeds=[0, 1],
        metrics=ALL_METRICS,
    )
    assert bare.references == ()
    counts, without = plain.summary(), bare.summary()
    extra = counts.pop("reference_stages")
    assert without.pop("reference_stages") == 0
    assert counts.pop("stages") == without.pop("stages") + extra
    assert counts == without
    assert set(bare.stages) < set(plain.stages)


def test_each_reference_is_what_it_says() -> None:
    planned = plan(metrics=ALL_METRICS, profile="mini", seeds=[3])
    found = {reference.label: reference for reference in planned.references}
    random, energy, shuffled, supervised = (found[planning.REFERENCES[name]] for name in planning.REFERENCES)

    def chain(uid: str) -> list[str]:
        stage = planned.stages[uid]
        return [stage.kind, *(chain(stage.needs[0]) if stage.needs else [])]

    assert chain(random.cells["lin/ucf101"][3].uid) == ["linear", "features", "untrained"]
    assert chain(random.cells["ft/hmdb51"][3].uid) == ["finetune", "untrained"]
    assert chain(energy.cells["R1/ucf101"][3].uid) == ["retrieval", "energy"]
    assert "ft/ucf101" not in energy.cells and not energy.pretrain
    assert chain(shuffled.cells["lin/ucf101"][3].uid) == ["linear", "features", "pretrain"]
    control = planned.stages[shuffled.pretrain[3]].config["settings"]
    usual = next(row for row in planned.rows if row.row.default)
    assert control.pop("contrast") == {**usual.resolved.settings.active()["contrast"], "shuffled": True}
    assert control == {name: part for name, part in usual.resolved.settings.active().items() if name != "contrast"}
    uid = supervised.cells["ft/ucf101"][3].uid
    assert chain(uid) == ["finetune", "untrained"]
    assert planned.stages[uid].config["finetune"]["optim"]["steps"] == 2 * usual.resolved.settings.optim.steps
    assert supervised.cells["lin/ucf101"] == supervised.cells["ft/ucf101"]


def test_references_are_shared_between_studies() -> None:
    names = ("table3d_beta", "table3a_threshold", "table1_losses")
    mini = spec.load_profile("mini")
    planned = planning.build([spec.load_study(name) for name in names], mini, seeds=[0], metrics=["lin/ucf101"])
    kinds = [stage.kind for stage in planned.stages.values()]
    assert kinds.count("untrained") == kinds.count("energy") == 1
    shuffled = {r.pretrain[0] for r in planned.references if r.label == planning.REFERENCES["shuffled"]}
    assert len(shuffled) == 2  # of VV + Pix, and of all losses


def test_a_probe_by_sgd_has_no_frame_differences_to_train_through() -> None:
    planned = plan("linear.protocol=sgd", metrics=["lin/ucf101"], profile="mini", seeds=[0])
    assert planning.REFERENCES["energy"] not in {reference.label for reference in planned.references}
