"""Committed reports are what the committed records give: nothing in them is stale or written by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from ablations import code, document, effects, plots, render, report, spec, stats, sweep
from ablations import plan as planning
from ablations.records import FILE, Records
from ablations.store import Store
from ablations.table import Table

REPORTS = code.ROOT / "reports"
PROFILES = sorted(path.parent for path in REPORTS.glob(f"*/{FILE}"))


@pytest.fixture(scope="module", params=PROFILES, ids=lambda path: path.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Table]]:
    """The folder of a profile, and its tables built anew from records alone."""
    folder: Path = request.param
    studies = [spec.load_study(path) for path in (*spec.study_files(), *spec.embedded_studies())]
    profile = spec.load_profile(folder.name)
    plan = planning.build(planning.measured(studies, profile), profile)
    nothing = Store(tmp_path_factory.mktemp("empty") / "runs")
    tables = report.build(plan, nothing, records=Records(folder / FILE))
    return folder, [table for table in tables if table.mostly_measured]


def test_the_evidence_is_here() -> None:
    assert [path.name for path in PROFILES] == ["mini", "mini-200", "mini-800", "mini-stationary"]


def test_every_committed_table_is_what_the_records_give(made: tuple[Path, list[Table]]) -> None:
    folder, tables = made
    folders = {path.name for path in folder.iterdir() if path.is_dir()} - {"sweeps", "pictures"}
    assert folders == {table.study for table in tables}
    for table in tables:
        texts = {
            "table.md": render.markdown(table),
            "table.tex": render.latex(table),
            "table.csv": render.as_csv(table),
            "table.json": render.as_json(table),
        }
        for name, text in texts.items():
            stale = f"{table.study}/{name} is stale: run fima-ablate report --profile {folder.name}, and commit"
            assert (folder / table.study / name).read_text(encoding="utf-8") == text, stale


def test_the_documents_are_what_the_records_give(made: tuple[Path, list[Table]]) -> None:
    folder, tables = made
    assert (folder / "report.tex").read_text(encoding="utf-8") == document.report_tex(tables)
    assert (folder / "claims.md").read_text(encoding="utf-8") == document.claims_markdown(tables)


def test_pictures_are_as_new_as_their_table(made: tuple[Path, list[Table]]) -> None:
    """By the mark that each bears: pixels depend on the version of matplotlib."""
    folder, tables = made
    for table in tables:
        paths = {path.name: path for path in (folder / table.study).iterdir()}
        drawn = {"plot": True, "effect": effects.effect_columns(table), "curve": effects.curve_columns(table)}
        pictures = {f"{name}.{end}" for name, there in drawn.items() if there for end in ("png", "pdf")}
        assert set(paths) == {"table.md", "table.tex", "table.csv", "table.json"} | pictures
        for name in pictures:
            path = paths[name]
            stale = f"{table.study}/{name} is stale: run fima-ablate report --profile {folder.name}, and commit"
            mark = plots.mark(table, path.stem)
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    assert picture.info.get("Description") == mark, stale
            else:
                assert f"({mark})".encode() in path.read_bytes(), stale


@pytest.mark.parametrize("folder", sorted(REPORTS.glob("*/sweeps/*")), ids=lambda folder: folder.name)
def test_a_committed_sweep_is_of_the_sweep_that_is_here(folder: Path) -> None:
    content = json.loads((folder / "sweep.json").read_text())
    found = sweep.load_sweep(folder.name)
    assert content["space"] == found.space.describe()
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert len(rows) == len(content["trials"]) == found.trials
    (metric,) = (objective.metric for objective in found.objectives)
    for row, trial in zip(rows, content["trials"], strict=True):
        assert row["state"] == trial["state"]
        if trial["values"]:
            assert float(row[metric]) == trial["values"][0] == pytest.approx(trial["per_seed"][metric]["0"])
    done = [trial for trial in content["trials"] if trial["state"] == "complete"]
    assert max(done, key=lambda trial: trial["values"][0])["best"]
    best = next(trial["number"] for trial in done if trial["best"])
    final = json.loads((folder / "final" / "table.json").read_text())
    assert [row["label"] for row in final["rows"]] == ["default", f"best, trial {best}"]
    compared = final["comparisons"]
    assert [one["p_holm"] for one in compared] == pytest.approx(stats.holm([one["p"] for one in compared]))
