"""What a report writes: a study's folder; report.tex and claims.md where all studies of the profile are there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from test_records import filled, planned

from ablations import plan as planning
from ablations import plots, publish, spec
from ablations.plan import Plan
from ablations.store import Store


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda table: {})


def every_study(name: str = "mini", overrides: tuple[str, ...] = ()) -> Plan:
    profile = spec.load_profile(name)
    studies = planning.measured([spec.load_study(path) for path in spec.study_files()], profile)
    return planning.build(studies, profile, overrides, (0,))


def test_one_document_where_every_study_that_the_profile_measures_is_there(tmp_path: Path) -> None:
    plan = every_study("mini-200")
    written = publish.write_studies(plan, filled(tmp_path / "runs", plan), tmp_path / "reports")
    folder = tmp_path / "reports" / "mini-200"
    assert "table5_diving48" not in written  # the profile has no Diving48
    text = (folder / "report.tex").read_text()
    assert all((folder / study / "table.md").is_file() for study in written)
    assert text.count(r"\section{Table ") == len(written) == 15
    assert "| 3d |" in (folder / "claims.md").read_text()


@pytest.mark.parametrize("overrides", [(), ("optim.steps=3",)])
def test_no_document_of_some_studies_or_of_other_settings(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    plan = every_study(overrides=overrides) if overrides else planned(seeds=(0,))
    publish.write_studies(plan, filled(tmp_path / "runs", plan), tmp_path / "reports")
    assert (tmp_path / "reports" / "mini" / "table3d_beta" / "table.json").is_file()
    assert not list((tmp_path / "reports").rglob("report.tex"))


def test_a_table_that_is_there_is_not_emptied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, reports = planned(seeds=(0,)), tmp_path / "reports"
    publish.write_studies(plan, filled(tmp_path / "runs", plan), reports)
    folder = reports / "mini"
    before = (folder / "table3d_beta" / "table.json").read_bytes()
    (folder / "results.jsonl").unlink()
    assert publish.write_studies(plan, Store(tmp_path / "nothing"), reports) == {}
    assert (folder / "table3d_beta" / "table.json").read_bytes() == before
    assert "nothing of table3d_beta is measured here" in capsys.readouterr().err


def test_a_document_beside_settings_that_alter_no_result(tmp_path: Path) -> None:
    plan = every_study("mini-200", ("compute.recompute=true",))
    publish.write_studies(plan, filled(tmp_path / "runs", plan), tmp_path / "reports")
    text = (tmp_path / "reports/mini-200/report.tex").read_text()
    assert "not the paper's recipe" not in text


def test_records_of_two_commands_are_kept_one_after_the_other(tmp_path: Path) -> None:
    plan, folder = planned(seeds=(0,)), tmp_path / "reports" / "mini"
    store = filled(tmp_path / "runs", plan)
    with publish._alone(folder):
        other = threading.Thread(target=publish.write_studies, args=(plan, store, tmp_path / "reports"))
        other.start()
        other.join(0.3)
        assert other.is_alive() and not list(folder.iterdir())
    other.join(60)
    assert (folder / "results.jsonl").is_file()


def test_measured_tables_alone_if_asked(tmp_path: Path) -> None:
    plan = planned(seeds=(0,))
    assert publish.write_studies(plan, Store(tmp_path / "runs"), tmp_path / "reports", only_measured=True) == {}
    assert not (tmp_path / "reports").exists()


def test_another_training_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, reports = planned(seeds=(0,)), tmp_path / "reports"
    publish.write_studies(plan, filled(tmp_path / "runs", plan), reports)
    store = Store(tmp_path / "again")
    stage = next(stage for stage in plan.stages.values() if stage.kind == "pretrain")
    store.prepare(stage)
    store.finish(stage.uid, {"environment": {"device": "another"}, "broken": []})
    tables = publish.build(plan, store, reports)
    needed = [uid for uid, other in plan.stages.items() if stage.uid in other.needs]
    told = capsys.readouterr().err
    assert f"{store.root} trained some of these stages again; " in told and " results of the other training are" in told
    assert needed and len(tables) == 1
    assert (reports / "mini" / "results.jsonl").read_text().count("another") == 0  # claims alone write nothing
