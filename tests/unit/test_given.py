"""Rows whose encoder was trained elsewhere: evaluated as all others are, and pre-trained by nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ablations import bench, costing, report, spec, stages
from ablations import plan as planning
from ablations.store import Store
from fima import backbones, pretrain
from fima.config import Backbone, Settings

STUDY = """\
study: mine
title: t
base: {losses: [vv]}
metrics: [lin/ucf101, parameters]
seeds: [0, 1]
rows:
  - {label: VV, default: true}
  - {label: mine, encoder: "mine_{seed}.pt"}
  - {label: one, encoder: mine_0.pt}
claims:
  - {says: mine is better, metric: lin/ucf101, better: mine, worse: VV}
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


def test_a_given_encoder_is_evaluated_beside_a_trained_one(tmp_path: Path) -> None:
    states = [weights(tmp_path, f"mine_{seed}.pt", 5 + seed) for seed in (0, 1)]
    plan, store = planned(tmp_path), Store(tmp_path / "runs")
    _, mine, one = plan.rows
    assert plan.summary() | {"pretrainings": 1, "pretrainings_total": 2} == plan.summary()
    assert one.pretrain == {0: mine.pretrain[0]}  # one encoder: a second seed of it would be no second measurement
    for stage in plan.stages.values():
        store.prepare(stage)
        store.finish(stage.uid, stages.execute(stage, store, 0, lambda *_: None))
    for seed, state in enumerate(states):
        settings = Settings.model_validate(plan.stages[mine.pretrain[seed]].config["settings"])
        found = pretrain.load_backbone(settings, store.folder(mine.pretrain[seed]) / "checkpoint.pt").state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
    (table,) = report.build(plan, store)
    rows = {row.label: row.cells for row in table.rows}
    assert {label: sorted(cells["lin/ucf101"].values) for label, cells in rows.items()} == {
        "VV": [0, 1], "mine": [0, 1], "one": [0],
    }  # fmt: skip
    assert rows["mine"]["lin/ucf101"].values[0] == rows["one"]["lin/ucf101"].values[0]
    assert {label: cells["parameters"].n for label, cells in rows.items()} == {"VV": 2, "mine": 0, "one": 0}
    assert [verdict.n for verdict in table.verdicts] == [2]
    assert "“mine” was trained elsewhere and is only evaluated here: mine_{seed}.pt." in table.notes
    assert any(note.startswith("“one” was trained") and "no spread of seeds" in note for note in table.notes)
    assert not any("are missing" in note for note in table.notes)


def test_the_content_of_a_given_file_is_the_experiment(tmp_path: Path) -> None:
    for seed in (0, 1):
        weights(tmp_path, f"mine_{seed}.pt", 5)
    before = planned(tmp_path).rows[1].pretrain
    (tmp_path / "moved").mkdir()
    for seed in (0, 1):
        weights(tmp_path / "moved", f"mine_{seed}.pt", 5)
    assert planned(tmp_path / "moved").rows[1].pretrain == before
    weights(tmp_path, "mine_1.pt", 6)
    after = planned(tmp_path).rows[1].pretrain
    assert (after[0], after[1] != before[1]) == (before[0], True)


def test_what_nobody_trains_here_costs_nothing_here(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY)
    assert [entry["label"] for entry in costing.rows([str(path)], "debug", [])] == ["VV"]
    assert [labels for _, labels in bench.distinct([str(path)], "debug", []).values()] == [["mine: VV"]]


def test_a_table_of_given_encoders_alone(tmp_path: Path) -> None:
    weights(tmp_path, "mine_0.pt", 5)
    only = STUDY.replace("  - {label: VV, default: true}\n", "").partition("claims:")[0]
    plan = planned(tmp_path, only, (0,))
    assert plan.summary()["pretrainings"] == plan.summary()["pretrainings_total"] == 0
    assert "2 rows need 0 distinct pre-trainings per seed" in plan.lines()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mine_0.pt}", "mine_0.pt, set: {losses: [vd]}}", "9: losses would alter nothing, .* one has an encoder"),
        ("default: true}", 'default: true, encoder: mine_0.pt}', "7: the default row is pre-trained here"),
        ("{seed}", "{sede}", "8: encoder .*mine_{sede}.pt: no such file; .* state_dict of a small"),
    ],
)  # fmt: skip
def test_what_a_given_row_cannot_be(tmp_path: Path, old: str, new: str, said: str) -> None:
    weights(tmp_path, "mine_0.pt", 5)
    with pytest.raises(spec.SpecError, match=f"mine.yaml:{said}"):
        planned(tmp_path, STUDY.replace(old, new, 1))


def test_a_given_row_may_say_how_its_encoder_sees(tmp_path: Path) -> None:
    weights(tmp_path, "mine_0.pt", 5)
    text = STUDY.replace("mine_0.pt}", "mine_0.pt, set: {clip.frames: 16}}")
    plan = planned(tmp_path, text.replace("mine_{seed}", "mine_0"))
    frames = {row.row.label: plan.stages[row.stages[0][1]].config["settings"]["clip"]["frames"] for row in plan.rows}
    assert frames == {"VV": 8, "mine": 8, "one": 16}
