"""How long a plan still takes: from equal work, and unknown where there was none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ablations import bench, estimate, spec
from ablations import plan as planning
from ablations.cli import app
from ablations.plan import Plan
from ablations.store import Store, write_json
from ablations.uids import Stage
from fima.datasets import cores, training_videos

SECONDS = {"pretrain": 1000.0, "features": 100.0, "linear": 10.0, "finetune": 200.0, "retrieval": 1.0}
HERE = {"device": "cpu", "cpu": "AMD EPYC", "threads": 2}
CPU = "cpu (AMD EPYC)"


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "cores", lambda: 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def planned(*overrides: str, seeds: tuple[int, ...] = (0,), studies: tuple[str, ...] = ("table3d_beta",)) -> Plan:
    found = [spec.load_study(spec.find_study(name)) for name in studies]
    return planning.build(found, spec.load_profile("debug"), overrides, seeds, ["lin/ucf101", "ft/ucf101", "R1/ucf101"])


def done(store: Store, stage: Stage, seconds: float | None = None, **made: Any) -> None:
    """A result as a worker leaves it."""
    store.prepare(stage)
    with store.lock(stage.uid):
        store.start(stage.uid)
    result: dict[str, Any] = {"seconds": seconds or SECONDS[stage.kind], "environment": {**HERE, **made}}
    if stage.kind == "pretrain":
        steps = stage.config["settings"]["optim"].get("steps") or 2
        result |= {"seconds_per_step": result["seconds"] / steps, "videos": 16}
    store.finish(stage.uid, result)


def of_row(plan: Plan, label: str, seed: int = 0) -> list[Stage]:
    (row,) = (row for row in plan.rows if row.row.label == label)
    return [plan.stages[uid] for uid in row.stages[seed]]


def benched(store: Store, plan: Plan, seconds: float, where: str = CPU, threads: int = 2) -> None:
    entries = [
        {"step": estimate.step(stage.config), "place": where, "threads": threads, "seconds_per_step": seconds,
         "time": time.time()}
        for stage in plan.stages.values() if stage.kind == "pretrain"
    ]  # fmt: skip
    store.root.mkdir(parents=True, exist_ok=True)
    write_json(store.root / "bench.json", {"measured": entries})


def test_nothing_measured_is_unknown_not_zero(store: Store) -> None:
    found = estimate.of(planned(), store)
    assert (found.place, found.every.missing, found.every.seconds) == (None, 15, 0.0)
    assert found.every.unknown == {"pretrain": 3, "finetune": 3, "features": 3, "linear": 3, "retrieval": 3}
    assert "unknown" in found.lines()[0] and "fima-ablate bench" in found.lines()[0]


def test_another_seed_is_equal_work(store: Store) -> None:
    plan = planned(seeds=(0, 1))
    for stage in of_row(plan, "0.3"):
        done(store, stage)
    found = estimate.of(plan, store)
    # of 30 stages 5 are done; the same row's other seed takes as long, and so do all evaluations of the other rows:
    # what decides how clips are contrasted does not alter the time of an evaluation. Their pre-trainings are others.
    assert (found.every.stages, found.every.missing, found.every.unknown) == (30, 25, {"pretrain": 4})
    assert found.every.seconds == 1311.0 + 4 * 311.0
    (line,) = (line for line in found.lines() if line.startswith("  table3d_beta"))
    assert line == "  table3d_beta  at least 42 min 35 s for 25 of 30 stages; never measured: 4 pretrain"
    assert found.lines()[0] == f"time for what is missing, as on {CPU} with 2 threads a stage"


def test_steps_from_the_bench_make_a_pretraining_known(store: Store) -> None:
    plan = planned("optim.steps=500")
    benched(store, plan, 0.5)
    found = estimate.of(plan, store)
    assert (found.every.seconds, found.every.unknown.get("pretrain")) == (750.0, None)
    for stage in of_row(plan, "0.5"):
        done(store, stage)
    found = estimate.of(plan, store)
    assert found.every.unknown == {}
    assert found.every.seconds == 2 * (250.0 + 311.0)
    assert "at least" not in found.lines()[1]


@pytest.mark.filterwarnings("ignore::fima.datasets.PartialCopy")
def test_epochs_over_real_videos_are_known_by_their_lists(clips: Path, store: Store) -> None:
    """As README says of `bench --profile ucf101-i3d`: hours are known before they are spent."""
    profile = spec.apply_roots(spec.load_profile("ucf101-i3d"), [str(clips)])
    plan = planning.build([spec.load_study("table3d_beta")], profile, ["optim.batch=8"], [0], ["gpu_days"])
    benched(store, plan, 0.5)
    (videos,) = {training_videos(row.resolved.data["pretrain"]) for row in plan.rows}
    assert 8 < videos < 83
    found = estimate.of(plan, store)
    assert (found.every.unknown, found.every.seconds) == ({}, 3 * 0.5 * 200 * (videos // 8))


def test_a_pace_carries_over_to_other_steps_but_not_to_another_batch(store: Store) -> None:
    for stage in of_row(planned("optim.steps=100"), "0.5"):
        done(store, stage)  # 10 s a step
    longer = estimate.of(planned("optim.steps=300", "optim.lr=0.2"), store)
    assert longer.every.unknown == {"pretrain": 2}  # the other two betas
    assert longer.every.seconds == 3000.0 + 3 * 311.0
    epochs = estimate.of(planned("optim.steps=null", "optim.epochs=3"), store)  # of 16 embedded videos by 8
    assert epochs.every.seconds == 6 * 10.0 + 3 * 311.0
    assert estimate.of(planned("optim.batch=4"), store).every.unknown == {"pretrain": 3}
    assert estimate.of(planned("augment.size=48"), store).every.unknown == {"pretrain": 3} | dict.fromkeys(
        ("finetune", "features", "linear", "retrieval"), 3
    )


def test_what_was_begun_counts_for_its_rest(store: Store) -> None:
    plan = planned(seeds=(0, 1))
    for stage in of_row(plan, "0.3"):
        done(store, stage)
    stage = of_row(plan, "0.3", 1)[0]
    store.prepare(stage)
    store.start(stage.uid)
    store.report(stage.uid, 30, 40, {})
    before = estimate.of(plan, store)
    assert (before.every.begun, before.every.seconds) == (0, 1311.0 + 4 * 311.0)  # killed without a checkpoint
    (store.folder(stage.uid) / "checkpoint.pt").touch()
    after = estimate.of(plan, store)
    assert (after.every.begun, after.every.seconds) == (1, 250.0 + 311.0 + 4 * 311.0)
    assert "25 of 30 stages, 1 of them begun" in after.lines()[1]
    (store.folder(stage.uid) / "checkpoint.pt").unlink()
    with store.lock(stage.uid):  # it runs
        assert estimate.of(plan, store).every.seconds == after.every.seconds


def test_times_are_those_of_the_last_device_and_of_as_many_threads(store: Store) -> None:
    plan = planned(seeds=(0, 1, 2))
    for stage in of_row(plan, "0.3", 0):
        done(store, stage, threads=1)
    for stage in of_row(plan, "0.3", 1):
        done(store, stage, 2 * SECONDS[stage.kind], threads=2)
    one = estimate.of(plan, store, jobs=2)
    assert one.threads == (1,)
    assert one.every.seconds == 1311.0 + 6 * 311.0
    assert one.every.as_json(one)["hours"] == pytest.approx(one.every.seconds / 3600 / 2)
    two = estimate.of(plan, store)
    assert (two.threads, two.every.seconds) == ((2,), 2 * one.every.seconds)
    for stage in of_row(plan, "0.5", 0):
        done(store, stage, SECONDS[stage.kind] / 2, device="cuda: NVIDIA H100", threads=8)
    card = estimate.of(plan, store)
    assert card.place == "cuda: NVIDIA H100"
    # evaluations of two rows and of two seeds, and the pre-trainings of the row that the card has seen
    assert card.every.seconds == pytest.approx(2 * 500.0 + 6 * 155.5)
    assert card.every.unknown == {"pretrain": 4}
    assert card.every.as_json(card)["gpu_hours"] == pytest.approx(card.every.seconds / 3600)
    assert "GPU-hours" in card.lines()[1] and "threads" not in card.lines()[0]


def test_other_threads_than_asked_for_are_told(store: Store) -> None:
    plan = planned(seeds=(0, 1))
    for stage in of_row(plan, "0.3"):
        done(store, stage, threads=1)
    found = estimate.of(plan, store)
    assert "with 1 thread a stage" in found.lines()[0]
    assert any("--jobs 1 would leave a stage 2 threads here" in line for line in found.lines())


def test_shared_stages_count_once_in_all(store: Store) -> None:
    plan = planned(studies=("table3d_beta", "table3f_mask_position"))
    benched(store, plan, 3.0)
    found = estimate.of(plan, store)
    beta, masks = found.parts
    assert [part.study for part in found.parts] == ["table3d_beta", "table3f_mask_position"]
    shared = beta.stages + masks.stages - found.every.stages
    assert (shared, found.every.study) == (5, "all")
    assert found.every.seconds == beta.seconds + masks.seconds - 6.0
    assert found.every.unknown["features"] == beta.unknown["features"] + masks.unknown["features"] - 1


def test_references_are_part_of_a_study(store: Store) -> None:
    study = spec.load_study(spec.find_study("table3d_beta"))
    plan = planning.build([study], spec.load_profile("mini"), ["data.limit=8"], [0], ["lin/ucf101"])
    (part,) = estimate.of(plan, store).parts
    assert part.stages == len(plan.stages)
    # the bench measures every pre-training of the plan, that of the shuffled reference among them
    digests = set(bench.distinct(["table3d_beta"], "mini", []))
    assert digests == {estimate.step(stage.config) for stage in plan.stages.values() if stage.kind == "pretrain"}
    assert len(digests) == 4


def test_damaged_stages_say_nothing(store: Store) -> None:
    plan = planned(seeds=(0, 1))
    for stage in of_row(plan, "0.3"):
        done(store, stage)
    uid = of_row(plan, "0.3")[0].uid
    (store.folder(uid) / "config.json").write_text("{")
    assert estimate.of(plan, store).place is None  # evaluations need it
    (store.root / "bench.json").write_text('{"measured": ')
    assert estimate.of(plan, store).place is None


def test_all_done_is_nothing_missing(store: Store) -> None:
    plan = planned()
    for stage in plan.stages.values():
        done(store, stage)
    assert estimate.of(plan, store).lines() == ["time: nothing is missing"]


def test_bench_and_plan_as_commands(tmp_path: Path) -> None:
    """Real steps; the plan then knows its pre-trainings. Measured ones are not measured again unless asked."""
    runner, where = CliRunner(), ["--store", str(tmp_path / "runs")]
    words = ["bench", "table3d_beta", "--profile", "debug", "--steps", "2", *where]
    first = runner.invoke(app, [*words, "--json"])
    assert first.exit_code == 0, first.output
    entries = json.loads(first.output)
    assert [entry["rows"] for entry in entries] == [[f"table3d_beta: {label}"] for label in ("0.3", "0.5", "0.7")]
    assert all(entry["seconds_per_step"] > 0 and entry["batch"] == 8 and not entry["kept"] for entry in entries)
    kept = (tmp_path / "runs/bench.json").read_bytes()
    second = runner.invoke(app, words)
    assert second.output.count("(measured before)") == 3
    assert (tmp_path / "runs/bench.json").read_bytes() == kept
    third = runner.invoke(app, [*words, "--again"])
    assert "(measured before)" not in third.output
    assert (tmp_path / "runs/bench.json").read_bytes() != kept
    assert len(json.loads((tmp_path / "runs/bench.json").read_bytes())["measured"]) == 3
    plan = ["plan", "table3d_beta", "--profile", "debug", "optim.steps=1000", *where]
    told = json.loads(runner.invoke(app, [*plan, "--json"]).output)["estimate"]
    pace = [entry["seconds_per_step"] for entry in json.loads((tmp_path / "runs/bench.json").read_bytes())["measured"]]
    assert told["all"]["seconds"] == pytest.approx(1000 * sum(pace))
    assert told["all"]["hours"] == pytest.approx(1000 * sum(pace) / 3600 / min(2, cores()))  # side by side
    assert told["all"]["gpu_hours"] is None
    assert "pretrain" not in told["all"]["unknown"] and told["all"]["unknown"]["finetune"] == 6
    text = runner.invoke(app, plan).output
    assert ("at least " in text and "never measured: 6 features" in text) or "6 finetune" in text
