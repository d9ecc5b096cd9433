"""Rows whose encoder was trained elsewhere: evaluated as all others are, and pre-trained by nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations import bench, costing, picturing, report, running, spec, stages, sweep
from ablations import plan as planning
from ablations.commands import look
from ablations.store import Store
from ablations.study import Given
from fima import backbones, pretrain
from fima.config import Backbone, Settings
from fima.figures import stage as drawn

STUDY = """\
study: mine
title: t
base: {losses: [vv]}
metrics: [lin/ucf101, ft/ucf101, parameters, gpu_days]
seeds: [0, 1, 2]
rows:
  - {label: mine, encoder: "mine_{seed}.pt", paper: {lin/ucf101: 70.0}}
  - {label: VV, default: true, paper: {lin/ucf101: 60.0}}
  - {label: VV + VD, set: {losses: [vv, vd]}, paper: {lin/ucf101: 65.0}}
  - {label: one, encoder: mine_0.pt}
claims:
  - {says: mine is better, metric: lin/ucf101, better: mine, worse: VV}
  - {says: one is better, metric: lin/ucf101, better: one, worse: VV}
  - {says: VD is best, metric: lin/ucf101, best: VV + VD}
  - {says: VV is cheapest, metric: gpu_days, best: VV}
"""


def weights(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Write some, as `backbones.load` takes them."""
    torch.manual_seed(seed)
    state = backbones.build(Backbone(name="small")).state_dict()
    torch.save(state, folder / name)
    return state


def planned(folder: Path, text: str = STUDY, seeds: tuple[int, ...] | None = None) -> planning.Plan:
    path = folder / "mine.yaml"
    path.write_text(text)
    return planning.build([spec.load_study(path)], spec.load_profile("debug"), seeds=seeds)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], planning.Plan, Store]:
    """The folder of the study, its encoders, its plan, and the store with all of it done."""
    folder = tmp_path_factory.mktemp("given")
    states = [weights(folder, f"mine_{seed}.pt", 5 + seed) for seed in range(3)]
    plan, store = planned(folder), Store(folder / "runs")
    for stage in plan.stages.values():
        store.prepare(stage)
        store.finish(stage.uid, stages.execute(stage, store, 0, lambda *_: None))
    return folder, states, plan, store


def test_given_encoders_are_what_is_evaluated(ran: tuple[Path, list[dict[str, Any]], planning.Plan, Store]) -> None:
    _, states, plan, store = ran
    mine, _, _, one = plan.rows
    assert plan.summary() | {"rows": 4, "pretrainings": 2, "pretrainings_total": 6} == plan.summary()
    assert set(one.pretrain.values()) == {mine.pretrain[0]}
    for seed, state in enumerate(states):
        settings = Settings.model_validate(plan.stages[mine.pretrain[seed]].config["settings"])
        found = pretrain.load_backbone(settings, store.folder(mine.pretrain[seed]) / "checkpoint.pt").state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
    features = [uid for uid in one.stages[2] if uid.startswith("features-")]
    assert features == [uid for uid in mine.stages[0] if uid.startswith("features-")]  # extracted once


def test_a_table_with_given_encoders(ran: tuple[Path, list[dict[str, Any]], planning.Plan, Store]) -> None:
    _, _, plan, store = ran
    (table,) = report.build(plan, store)
    rows = {row.label: row.cells for row in table.rows}
    assert {cells["lin/ucf101"].n for cells in rows.values()} == {3}
    assert rows["one"]["lin/ucf101"].std == 0 and rows["one"]["lin/ucf101"].mean == rows["mine"]["lin/ucf101"].values[0]
    for metric in ("parameters", "gpu_days", "gpu_days/step"):
        assert {label: cells[metric].n for label, cells in rows.items()} == {
            "mine": 0, "VV": 3, "VV + VD": 3, "one": 0,
        }, metric  # fmt: skip
    assert rows["VV"]["gpu_days/flops/relative"].mean == 1 < (rows["VV + VD"]["gpu_days/flops/relative"].mean or 0)
    titles = {column.metric: column.title for column in table.columns}
    assert titles["gpu_days/relative"] == "cost relative to “VV”"
    judged = {verdict.says: verdict for verdict in table.verdicts}
    assert (judged["mine is better"].n, judged["VV is cheapest"].n) == (3, 3)
    assert "common seed" not in judged["VV is cheapest"].words
    for says in ("one is better", "VD is best"):
        assert judged[says].words.startswith(
            "undecided: “one” is one encoder, and what its training gives with another"
        )
    notes = [note for note in table.notes if "elsewhere" in note]
    assert notes == [
        "“mine” was trained elsewhere and is only evaluated here (mine_{seed}.pt).",
        "“one” was trained elsewhere and is only evaluated here (mine_0.pt): one encoder, so that its seeds differ in "
        "the evaluation at most.",
    ]
    assert not any("are missing" in note or "one experiment" in note for note in table.notes)
    (agreement,) = (found for found in table.agreements if found.metric == "lin/ucf101")
    assert (agreement.rows, agreement.n) == (3, 3)


def test_given_encoders_are_drawn(ran: tuple[Path, list[dict[str, Any]], planning.Plan, Store]) -> None:
    folder, _, _, store = ran
    found = picturing.find(f"{folder / 'mine.yaml'}:mine", store, spec.load_profile("debug"), [], 1)
    loaded = drawn.load(found.folder)
    assert (found.label, loaded.label) == ("mine", "given encoder")
    assert (loaded.settings.augment.size, loaded.settings.clip.frames) == (32, 8)  # the profile's


def test_the_content_of_a_given_file_is_the_experiment_and_not_its_place(tmp_path: Path) -> None:
    places = [tmp_path, tmp_path / "moved {seed}"]
    places[1].mkdir()
    found = []
    for place in places:
        for seed in range(3):
            weights(place, f"mine_{seed}.pt", 5)
        found.append(planned(place))
    assert found[0].rows[0].pretrain == found[1].rows[0].pretrain
    configs = [{**plan.stages[plan.rows[0].pretrain[0]].config, "where": None} for plan in found]
    assert configs[0] == configs[1]  # nothing of this machine in what travels
    weights(tmp_path, "mine_1.pt", 6)
    after = planned(tmp_path).rows[0].pretrain
    assert [after[seed] == found[0].rows[0].pretrain[seed] for seed in range(3)] == [True, False, True]


def test_a_file_that_is_not_there_stops_a_run_and_nothing_else(tmp_path: Path) -> None:
    weights(tmp_path, "mine_0.pt", 5)
    plan, store = planned(tmp_path), Store(tmp_path / "runs")
    assert [sorted(row.pretrain) for row in plan.rows] == [[0], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    said = f"{tmp_path / 'mine.yaml'}:7: encoder {tmp_path / 'mine_1.pt'}: no such file; give one that torch.save wrote"
    assert len(plan.absent) == 2 and plan.absent[0].startswith(said) and plan.absent[0] in plan.lines()
    asked: Any = None
    with pytest.raises(ValueError, match=r"mine_1\.pt: no such file; .* state_dict of a small"):
        running.conduct(asked, plan, asked)
    (tmp_path / "mine_0.pt").unlink()
    (table,) = report.build(planned(tmp_path), store)
    assert sum(note.endswith("Its file is not there, and nothing of it can be told.") for note in table.notes) == 2
    with pytest.raises(spec.SpecError, match=r"mine\.yaml:mine: .*mine_0\.pt: no such file"):
        picturing.find(f"{tmp_path / 'mine.yaml'}:mine", store, spec.load_profile("debug"), [], 0)


def test_what_nobody_trains_here_costs_nothing_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY)
    assert [entry["label"] for entry in costing.rows([str(path)], "debug", [])] == ["VV", "VV + VD"]
    named = [labels for _, labels in bench.distinct([str(path)], "debug", []).values()]
    assert named == [["mine: VV"], ["mine: VV + VD"]]
    path = tmp_path / "by=encoder.yaml"
    path.write_text("study: only\ntitle: t\nmetrics: [lin/ucf101]\nrows: [{label: one, encoder: mine_0.pt}]\n")
    look.bench([str(path)], "debug", store=tmp_path / "runs")
    assert capsys.readouterr().out == "no row is pre-trained here: their encoders are given\n"


def test_a_table_of_given_encoders_alone(tmp_path: Path) -> None:
    weights(tmp_path, "mine_0.pt", 5)
    only = "study: only\ntitle: t\nmetrics: [lin/ucf101]\nrows: [{label: one, encoder: mine_0.pt}]\n"
    plan = planned(tmp_path, only, (0,))
    assert plan.summary()["pretrainings"] == plan.summary()["pretrainings_total"] == 0
    assert "1 rows need 0 distinct pre-trainings per seed" in plan.lines()


def test_a_sweep_takes_no_given_encoder_for_a_point() -> None:
    found = sweep.load_sweep("beta_threshold")
    study = spec.load_study("table3d_beta")
    row = replace(study.rows[0], label="mine", layer={}, encoder=Given("mine.pt", Path()))
    inside, outside = sweep.paper_points(found, replace(study, rows=(*study.rows, row)))
    assert "mine" not in inside and "given" in outside["mine"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mine_0.pt}", "mine_0.pt, set: {clip.frames: 16}}", "10: the row one has an encoder .* not clip.frames"),
        ("default: true", "default: true, encoder: mine_0.pt", "8: the default row is pre-trained here"),
        ("gpu_days, best: VV}", "gpu_days, better: VV, worse: mine}", "15: what mine cost is not known here"),
        ("{label: mine,", '{label: "16",', "7: the row 16 is generated"),
    ],
)
def test_what_a_given_row_cannot_be(tmp_path: Path, old: str, new: str, said: str) -> None:
    weights(tmp_path, "mine_0.pt", 5)
    assert old in STUDY
    text = STUDY.replace(old, new, 1)
    if "generated" in said:
        text = text.partition("  - {label: VV,")[0] + "grid: {contrast.queue: [16, 32]}\n"
    with pytest.raises(spec.SpecError, match=f"mine.yaml:{said}"):
        planned(tmp_path, text)


def test_a_given_row_may_be_of_another_architecture(tmp_path: Path) -> None:
    text = STUDY.replace("mine_0.pt}", "mine_0.pt, set: {backbone.name: r3d}}")
    weights(tmp_path, "mine_0.pt", 5)
    plan = planned(tmp_path, text.replace("mine_{seed}", "mine_0"))
    assert [row.pretrain[0].rpartition("-")[0] for row in plan.rows] == [
        "given-small-s0", "pretrain-vv-s0", "pretrain-vv+vd-s0", "given-r3d-s0",
    ]  # fmt: skip
