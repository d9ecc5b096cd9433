"""Records: what a fresh clone rebuilds the tables from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations import plan as planning
from ablations import report, spec
from ablations.plan import Plan
from ablations.records import FILE, Records
from ablations.store import Store
from ablations.uids import RESULTS


def planned(seeds: tuple[int, ...] = (0, 1), study: str = "table3d_beta") -> Plan:
    return planning.build([spec.load_study(study)], spec.load_profile("mini"), seeds=seeds)


def filled(root: Path, plan: Plan) -> Store:
    """A store in which every stage of the plan is done."""
    store = Store(root)
    for number, stage in enumerate(plan.stages.values()):
        result: dict[str, Any] = {"environment": {"commit": "abc", "device": "cpu", "threads": 1}, "broken": []}
        if stage.kind == "pretrain":
            result |= {"parameters_paper_millions": 0.39, "seconds_per_step": 0.25, "steps": 200, "final": {"vv": 4.0}}
        elif stage.kind in ("linear", "finetune", "retrieval"):
            right = [(number + video) % 3 for video in range(12)]
            hits = dict.fromkeys(("top1", "R1", "R5"), right)
            share = 100 * sum(right) / 24
            result |= {"top1": share, "R1": share, "R5": share, "classes": 6, "videos": 24, "protocol": "p"}
            result |= {"per_video": {"of": [2] * 12, **hits}, "predictions": [1] * 24}
        store.prepare(stage)
        store.finish(stage.uid, result)
    return store


def kept(path: Path, plan: Plan, store: Store) -> int:
    """Take over what a store has, as every report does; how many records of other trainings went."""
    records = Records(path)
    gone = records.take(plan, store)
    records.write()
    return gone


def test_tables_from_records_are_those_from_the_store(tmp_path: Path) -> None:
    plan = planned()
    store = filled(tmp_path / "runs", plan)
    path = tmp_path / "reports" / FILE
    assert kept(path, plan, store) == 0
    assert len(Records(path)) == len(plan.stages)
    (first,) = report.build(plan, store)
    (second,) = report.build(plan, Store(tmp_path / "nothing"), records=Records(path))
    assert first.measured and first.comparisons[0].boot_low is not None
    assert second == first


def test_what_is_long_stays_behind_and_counts_are_packed(tmp_path: Path) -> None:
    plan = planned(seeds=(0,))
    kept(tmp_path / FILE, plan, filled(tmp_path / "runs", plan))
    text = (tmp_path / FILE).read_text()
    assert "predictions" not in text and '"final"' not in text and '"of":"222222222222"' in text
    uid = next(uid for uid, stage in plan.stages.items() if stage.kind == "linear")
    found = Records(tmp_path / FILE).result(uid)
    assert found is not None and found["per_video"]["of"] == [2] * 12 and found["environment"]["commit"] == "abc"
    assert max(map(len, text.splitlines())) < 4_000


def test_records_of_several_runs_come_together_and_none_is_written_twice(tmp_path: Path) -> None:
    path = tmp_path / FILE
    for seed in (0, 1):  # each from a store of its own
        plan = planned(seeds=(seed,))
        kept(path, plan, filled(tmp_path / f"runs{seed}", plan))
    before = path.read_bytes()
    both = planned()
    assert len(Records(path)) == len(both.stages)
    assert kept(path, both, Store(tmp_path / "runs0")) == 0
    assert path.read_bytes() == before


def test_records_of_older_code_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plan = tmp_path / FILE, planned(seeds=(0,))
    kept(path, plan, filled(tmp_path / "runs", plan))
    monkeypatch.setitem(RESULTS, "linear", 99)
    kept(path, planned(seeds=(0,)), Store(tmp_path / "nothing"))
    kinds = {stage.kind for uid, stage in plan.stages.items() if Records(path).result(uid)}
    assert "linear" not in kinds and "pretrain" in kinds


def trained_again(root: Path, plan: Plan, *kinds: str) -> Store:
    """A store in which stages of these kinds are done, by another machine."""
    store = Store(root)
    for stage in plan.stages.values():
        if stage.kind in kinds:
            store.prepare(stage)
            store.finish(stage.uid, {"environment": {"commit": "abc", "device": "another"}, "top1": 50.0, "broken": []})
    return store


def pretrained(plan: Plan, uid: str) -> bool:
    """Whether a stage is or needs a pre-training: an untrained encoder and raw frames do not."""
    return uid.startswith("pretrain") or any(pretrained(plan, need) for need in plan.stages[uid].needs)


def downstream(plan: Plan, *kinds: str) -> set[str]:
    return {uid for uid, stage in plan.stages.items() if stage.kind in kinds and pretrained(plan, uid)}


def test_results_of_another_training_go_with_it(tmp_path: Path) -> None:
    path, plan = tmp_path / FILE, planned(seeds=(0,))
    kept(path, plan, filled(tmp_path / "runs", plan))
    store = trained_again(tmp_path / "again", plan, "pretrain")
    dependents = downstream(plan, "features", "linear", "finetune")
    assert kept(path, plan, store) == len(dependents) > 4
    records = Records(path)
    assert not any(records.result(uid) for uid in dependents)
    assert all(records.result(uid) for uid in plan.stages.keys() - dependents)
    pretrainings = [uid for uid, stage in plan.stages.items() if stage.kind == "pretrain"]
    assert all(records.result(uid)["environment"]["device"] == "another" for uid in pretrainings)  # type: ignore[index]
    assert kept(path, plan, store) == 0


def test_what_was_measured_of_the_new_training_stays(tmp_path: Path) -> None:
    path, plan = tmp_path / FILE, planned(seeds=(0,))
    kept(path, plan, filled(tmp_path / "runs", plan))
    store = trained_again(tmp_path / "again", plan, "pretrain", "features", "linear")
    ft = downstream(plan, "finetune")
    linear = [uid for uid, stage in plan.stages.items() if stage.kind == "linear"]
    assert kept(path, plan, store) == len(ft)
    records = Records(path)
    assert not any(records.result(uid) for uid in ft)
    assert all(records.result(uid)["top1"] == 50.0 for uid in linear)  # type: ignore[index]


def test_a_random_encoder_drawn_again_is_the_same(tmp_path: Path) -> None:
    path, plan = tmp_path / FILE, planned(seeds=(0,))
    kept(path, plan, filled(tmp_path / "runs", plan))
    assert kept(path, plan, trained_again(tmp_path / "again", plan, "untrained", "energy")) == 0
    assert all(Records(path).result(uid) for uid in plan.stages)


@pytest.mark.parametrize("change", [{}, {"top1": 51.0}])
def test_what_came_out_the_same_elsewhere_changes_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    """As after `make demo`, whose store has the random encoder's probes of a larger profile."""
    path, plan = tmp_path / FILE, planned(seeds=(0,))
    store = filled(tmp_path / "runs", plan)
    kept(path, plan, store)
    before = path.read_bytes()
    probe = next(
        stage for uid, stage in plan.stages.items() if stage.kind == "linear" and uid not in downstream(plan, "linear")
    )
    other = Store(tmp_path / "demo")
    other.prepare(probe)
    found = store.result(probe.uid)
    assert found is not None
    other.finish(probe.uid, {**found, **change, "seconds": 9.0, "environment": {"commit": "def", "device": "another"}})
    records = Records(path)
    assert records.take(plan, other) == 0
    (table,) = report.build(plan, other, records=records)
    records.write()
    assert (path.read_bytes() == before) is (not change)
    (from_file,) = report.build(plan, Store(tmp_path / "nothing"), records=Records(path))
    assert table == from_file


def test_one_seed_trained_again_leaves_the_others(tmp_path: Path) -> None:
    path, plan = tmp_path / FILE, planned()
    kept(path, plan, filled(tmp_path / "runs", plan))
    kept(path, plan, trained_again(tmp_path / "again", planned(seeds=(0,)), "pretrain"))
    records = Records(path)
    assert {plan.stages[uid].seed for uid in downstream(plan, "linear") if records.result(uid)} == {1}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path, plan = tmp_path / FILE, planned(seeds=(0,))
    kept(path, plan, filled(tmp_path / "runs", plan))
    lines = path.read_text().splitlines()
    lines[5] = lines[5][:40]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"{FILE}:6: no record of a result; restore the file, or delete it"):
        Records(path)


def test_a_name_with_another_end_of_line_is_read_again(tmp_path: Path) -> None:
    plan = planned(seeds=(0,))
    store = filled(tmp_path / "runs", plan)
    uid = next(iter(plan.stages))
    store.finish(uid, {**(store.result(uid) or {}), "broken": ["v_\u2028a\x85.avi: cannot be decoded"]})
    kept(tmp_path / FILE, plan, store)
    assert len(Records(tmp_path / FILE)) == len(plan.stages)


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert len(Records(tmp_path / "none" / FILE)) == 0
