"""What an encoder attends to, as columns of a study and as pictures of its rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from ablations import cli, picturing, report, spec, stages
from ablations import plan as planning
from ablations.diagnoses import DIAGNOSES
from ablations.located import SpecError
from ablations.plan import Plan
from ablations.store import Store
from fima import datasets
from fima.figures import activation, gallery, picture
from fima.figures.stage import load_all

SMALL = ("data.embedded.train=12", "data.embedded.test=12", "data.embedded.size=32", "data.embedded.set=stationary")
RUN = ("VV", "VV + Pix")  # rows
PROFILE = spec.load_profile("debug")


def planned(*names: str, overrides: tuple[str, ...] = SMALL, profile: str = "debug", **more: Any) -> Plan:
    return planning.build([spec.load_study(name) for name in names], spec.load_profile(profile), overrides, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """Rows VV and VV + Pix of both studies, every stage run in this process."""
    plan, store = planned("bias", "figures", metrics=list(DIAGNOSES)), Store(tmp_path_factory.mktemp("made") / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "DPI", 30)
        for uid in dict.fromkeys(uid for row in plan.rows if row.row.label in RUN for uid in row.stages[0]):
            store.prepare(plan.stages[uid])
            store.finish(uid, stages.execute(plan.stages[uid], store, 0, lambda *a: None))
    return plan, store


def test_both_studies_share_their_models_and_each_asks_for_its_numbers() -> None:
    plan = planned("bias", "figures")
    assert plan.summary()["pretrainings"] == 6
    first, last = plan.rows[0], plan.rows[-1]
    assert {plan.stages[cells[0].uid].kind for cells in first.cells.values()} == {"motion", "background"}
    assert {plan.stages[cells[0].uid].kind for cells in last.cells.values()} == {"figures"}
    asked_for = {"bias/shuffled", "bias/frozen", "bias/plain", "bias/unrelated"}
    assert set(first.cells) | set(last.cells) | asked_for == set(DIAGNOSES)
    assert not {row.study.path for row in plan.rows} & set(spec.study_files())  # `all` leaves them out


def test_every_column_is_measured_or_not_defined(made: tuple[Plan, Store]) -> None:
    plan, store = made
    bias = report.build(plan, store)[0]
    rows = {row.label: row for row in bias.rows}
    assert {column.metric for column in bias.columns} == set(DIAGNOSES)
    decoder = {"fig/attention", "fig/correspondence"}
    for metric, cell in rows["VV + Pix"].cells.items():
        assert cell.n == 1, metric
    for metric, cell in rows["VV"].cells.items():
        assert (cell.n == 0) == (metric in decoder), metric
        assert cell.missing.get(0) == ("not defined" if metric in decoder else None)
    for metric in ("fig/activation", "fig/diagonal", "fig/mask", "bias/lured", "bias/normal"):
        assert 0 <= (rows["VV"].cells[metric].mean or 0) <= 100
    columns = {column.metric: column for column in bias.columns}
    assert columns["bias/normal"].chance == pytest.approx(100 / 6) and columns["fig/mask"].chance is None
    assert (columns["bias/lured"].better, columns["bias/swapped"].better) == ("lower", "higher")
    assert columns["bias/plain"].data == "embedded stationary (source)" and not bias.has_paper(columns["bias/plain"])


def test_points_lost_are_differences(made: tuple[Plan, Store]) -> None:
    plan, store = made
    result = store.result(plan.rows[0].cells["bias/order"][0].uid) or {}
    assert result["order"] == result["normal"] - result["shuffled"]
    assert result["motion"] == result["normal"] - result["frozen"]
    hits = result["per_video"]
    assert 100 * sum(hits["normal"]) / sum(hits["of"]) == pytest.approx(result["normal"])


def test_numbers_of_the_table_follow_from_the_arrays_beside_the_pictures(made: tuple[Plan, Store]) -> None:
    plan, store = made
    row = next(row for row in plan.rows if row.row.label == "VV + Pix")
    cell = row.cells["fig/activation"][0]
    result, folder = store.result(cell.uid) or {}, store.folder(cell.uid) / "pictures"
    assert {path.stem for path in folder.glob("*.png")} == set(gallery.FIGURES)
    with np.load(folder / "activation.npz") as arrays:
        share = activation.share(arrays["activation VV + Pix"], arrays["cover"]).mean()
    assert result["activation"] == pytest.approx(share) and cell.factor == 100
    with np.load(folder / "masks.npz") as arrays:
        assert result["mask"] == pytest.approx(arrays["iou"][:, 2].mean())
    said = json.loads((folder / "similarity.json").read_text())["numbers"]["VV + Pix"]
    assert (result["similarity"], result["deviation"]) == (said["mean"], said["std"])
    assert result["numbers"]["similarity"] == said


def test_every_number_of_a_table_is_in_some_result() -> None:
    keys = {"motion": {"normal", "shuffled", "frozen", "order", "motion"},
            "background": {"plain", "unrelated", "swapped", "lured"}, "figures": set(gallery.NUMBERS)}  # fmt: skip
    for kind, known in keys.items():
        assert {one.key for one in DIAGNOSES.values() if one.kind == kind} == known


def test_a_mean_over_nothing_is_not_known() -> None:
    assert gallery.known({"a": float("nan"), "b": None, "c": 0.5}) == {"a": None, "b": None, "c": 0.5}


def test_a_random_encoder_is_looked_at_too_and_frame_differences_are_not() -> None:
    plan = planned("bias", profile="mini", seeds=[0])
    kinds = {reference.label: set(reference.cells) for reference in plan.references}
    assert set(kinds["random encoder"]) == set(plan.rows[0].cells)
    assert not any("frame differences" in label or "supervised" in label for label in kinds)


def test_backgrounds_of_real_video_are_not_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "fingerprint", lambda data, pretraining=False: data.name)
    real = ("data.name=folder", f"data.root={tmp_path}")
    with pytest.raises(SpecError, match=r"^VV, seed 0, bias: bias/plain, unrelated, swapped and lured swap[^\n]*$"):
        planned("bias", overrides=real, metrics=["bias/lured"])


def test_where_and_how_often_are_looked_at_is_in_the_uid() -> None:
    def uids(*overrides: str) -> set[str]:
        return {uid for uid in planned("figures", overrides=(*SMALL, *overrides)).stages if uid.startswith("figures")}

    assert not uids() & uids("retrieval.clips=3") and not uids() & uids("augment.scale_min=0.5")
    assert uids() == uids("linear.clips=5")


# --- pictures of rows


def test_runs_are_named_by_row_by_stage_or_by_folder(made: tuple[Plan, Store]) -> None:
    plan, store = made
    uid = plan.rows[0].pretrain[0]
    for word in ("figures:VV", uid, uid[-12:], str(store.folder(uid))):
        found = picturing.find(word, store, PROFILE, SMALL, 0)
        assert found.folder == store.folder(uid)
        assert found.label == ("VV" if ":" in word else "")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("figures:VV + Pux", r"^figures:VV \+ Pux: figures has no row VV \+ Pux; rows are .* mean VV \+ Pix\?$"),
        ("figure:VV", r"^figure: no such study; there are [^\n]*$"),
        ("figures:BE", r"^figures:BE: is not trained with seed 0 in \S* \(pretrain-\S*\); .* trains it$"),
        ("nothing", r"^nothing: no stage of that name in [^\n]*; a figure takes STUDY:ROW, [^\n]*$"),
        ("pretrain-", r"^pretrain-: 2 stages of that name in [^\n]* Such as pretrain-vv\S*\.$"),
    ],
)  # fmt: skip
def test_what_is_no_run_is_one_line(made: tuple[Plan, Store], word: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        picturing.find(word, made[1], PROFILE, SMALL, 0)


def test_rows_are_drawn_side_by_side_under_their_labels(made: tuple[Plan, Store], tmp_path: Path) -> None:
    words = ["figures:VV", "bias:VV + Pix", *SMALL]
    ((path, drawn),) = picturing.command(words, "debug", [], 0, "activation", None, 3, made[1].root, tmp_path)
    assert path == tmp_path / "activation.png" and path.is_file()
    assert list(drawn.numbers) == ["VV", "VV + Pix"]
    with pytest.raises(SpecError, match=r"^--only affinty: there is no such figure; .* Did you mean affinity\?$"):
        list(picturing.command(["figures:not trained"], "debug", [], 0, "affinty", None, 3, made[1].root, tmp_path))
    with pytest.raises(SpecError, match=r"^a figure takes STUDY:ROW, [^\n]* none is named$"):
        list(picturing.command(["a=b"], "debug", [], 0, None, None, 3, made[1].root, tmp_path))


def test_real_videos_are_drawn_instead(made: tuple[Plan, Store], clips: Path, tmp_path: Path) -> None:
    real = str(clips / "ut_interaction")
    words = ["figures:VV + Pix", *SMALL]
    ((_, drawn),) = picturing.command(words, "debug", [], 0, "masks", real, 2, made[1].root, tmp_path)
    assert "2 of the" in drawn.caption and "ut_interaction" in drawn.caption
    assert set(drawn.numbers["VV + Pix"].values()) == {None}
    with pytest.raises(SpecError, match=r"^--videos /nowhere: no such folder; give one of videos, or NAME=DIR [^\n]*$"):
        picturing.videos("/nowhere")


def test_a_model_that_saw_no_motion_takes_the_scaling_of_one_that_did(made: tuple[Plan, Store]) -> None:
    plan, store = made
    folders = [store.folder(row.pretrain[0]) for row in plan.rows if row.row.label in ("VV", "VV + Pix")][:2]
    alone = load_all(folders[:1])[0]
    assert alone.settings.augment.difference == "half"  # nothing says so: the default
    assert [stage.settings.augment.difference for stage in load_all(folders)] == ["raw", "raw"]
    assert replace(alone, label="x").scaled("raw").settings.augment.difference == "raw"


def test_help_names_every_figure() -> None:
    command: Any = typer.main.get_command(cli.app)
    (only,) = (option for option in command.commands["figures"].params if option.name == "only")
    assert only.help.split(".")[0].split(", ") == list(gallery.FIGURES)
