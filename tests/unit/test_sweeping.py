"""A sweep as a whole: processes, kills, several commands at once, pruning, reports. Stages are tiny functions."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import warm
import yaml
from rich.console import Console

from ablations import conducting, findings, landscape, plots, search, searcher, spec, sweep, sweeping
from ablations.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's, and Optuna's about its own plots

SWEEP = """\
sweep: mine
title: My sweep
base: {losses: [vv, pix]}
space:
  foreground.beta: {float: [0.1, 0.9]}
  pixel.threshold: {float: [0.2, 2.0], log: true}
objective: lin/ucf101
sampler: {name: tpe, seed: 1, startup: 4}
trials: 8
final: {seeds: [0, 1], metrics: [lin/ucf101, parameters]}
"""
PRUNED = "pruner: {name: median, every: 5, startup: 4}\n"


# --- helpers


def asked(folder: Path, text: str = SWEEP, **changes: Any) -> conducting.Asked:
    path = folder / "mine.yaml"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    (folder / "runs").mkdir(exist_ok=True)
    changes |= {"promote": Path(changes["promote"])} if changes.get("promote") else {}
    given: dict[str, Any] = {
        "name": str(path), "profile": "debug", "roots": (), "overrides": (), "jobs": 2, "trials": None, "minutes": None,
        "sampler_seed": None, "storage": None, "enqueue": (), "retry_failed": False, "final": True, "promote": None,
        "workers": 0, "store": folder / "runs", "reports": folder / "reports", "track": False,
        "command": "fima-ablate sweep mine.yaml", "execute": "stages_of_sweeps:fake",
    }  # fmt: skip
    return conducting.Asked(**{**given, **changes})


def conduct(folder: Path, text: str = SWEEP, **changes: Any) -> tuple[bool, str]:
    """Whether all went well, and what was said."""
    out = io.StringIO()
    well = conducting.conduct(
        asked(folder, text, **changes), Console(file=out, width=200), lambda line: print(line, file=out)
    )
    return well, out.getvalue()


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = search.open_storage(f"sqlite:///{folder / 'sweeps.db'}")
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    found = study.get_trials()
    search.close(study)
    return found


def report(folder: Path) -> Path:
    return folder / "reports" / "debug" / "sweeps" / "mine"


def draw_nothing(put: Callable[[Any, str, Any], None]) -> None:
    """Pictures take longer than all the rest of a report, and other tests look at them."""
    put(landscape, "draw", lambda *_: {})
    put(plots, "draw", lambda _: {})


def main() -> None:
    """What `command` runs."""
    folder, changes, pictures = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "pictures"
    if not pictures:
        draw_nothing(setattr)
    given = asked(folder, (folder / "mine.yaml").read_text(), **changes)
    sys.exit(0 if conducting.conduct(given, Console(stderr=True, width=200), print) else 1)


def command(folder: Path, pictures: bool = False, **changes: Any) -> warm.Command:
    """The command of the sweep that is in the folder, in a group of its own."""
    return warm.start(
        "test_sweeping:main", str(folder), json.dumps(changes), "pictures" if pictures else "-",
        cwd=folder, said=folder / "said.txt",
    )  # fmt: skip


def commanded(folder: Path, **how: Any) -> tuple[bool, str]:
    """Whether all went well with `command`, and what it said."""
    (folder / "said.txt").unlink(missing_ok=True)
    code = command(folder, **how).wait()
    said = (folder / "said.txt").read_text()
    assert code in (0, 1) and "Traceback" not in said, said
    return code == 0, said


def wait_for(what: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def ran(folder: Path) -> Counter[str]:
    path = folder / "runs" / "ran.txt"
    return Counter(path.read_text().split()) if path.exists() else Counter()


# --- tests


def test_a_sweep_from_paper_rows_to_a_promoted_row(tmp_path: Path) -> None:
    mine = tmp_path / "study.yaml"
    mine.write_text(
        "study: own\ntitle: Mine\nmetrics: [lin/ucf101]\nbase: {losses: [vv, pix]}\nrows:\n"
        "  - {label: a, default: true}  # kept\n\nclaims: []  # kept too\n"
    )
    asked(tmp_path, SWEEP + PRUNED)
    options: dict[str, Any] = {"enqueue": ["table3d_beta"], "promote": str(mine), "jobs": 1, "pictures": True}
    well, said = commanded(tmp_path, **options)
    assert well
    found = trials(tmp_path)
    assert len(found) == 8
    assert [trial.params["foreground.beta"] for trial in found[:3]] == [0.3, 0.5, 0.7]
    assert {trial.state.name for trial in found} == {"COMPLETE", "PRUNED"}
    assert set(ran(tmp_path).values()) == {1}

    folder = report(tmp_path)
    names = {path.name for path in folder.iterdir()}
    pictures = ("history", "importance", "slice", "contour", "curves")
    assert names >= {f"{name}.{end}" for name in pictures for end in ("png", "pdf")}
    assert names >= {"sweep.md", "sweep.tex", "sweep.json", "trials.csv", "final"}
    content = json.loads((folder / "sweep.json").read_text())
    best = max((t for t in content["trials"] if t["state"] == "complete"), key=lambda t: t["values"][0])
    assert best["best"]
    assert sum(t["best"] for t in content["trials"]) == 1
    assert best["intervals"][0][0] < best["intervals"][0][1]
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == [trial.state.name.lower() for trial in found]
    for row in rows:
        if row["state"] == "complete":
            assert float(row["lin/ucf101"]) == pytest.approx(float(row["lin/ucf101 seed 0"]))
    final = json.loads((folder / "final" / "table.json").read_text())
    assert [row["label"] for row in final["rows"]] == ["default", f"best, trial {best['number']}"]
    assert "reduced scale" in (folder / "sweep.md").read_text().lower()
    assert f"best, trial {best['number']}" in said

    study = spec.load_study(mine)
    row = study.rows[-1]
    assert row.label == f"sweep mine on debug, trial {best['number']}"
    assert row.set == best["point"]
    text = mine.read_text()
    assert "# kept\n" in text
    assert "# kept too" in text
    assert f"complete trials of sweep mine, profile debug: lin/ucf101 {best['values'][0]:.4g} on 1/4 of train" in text

    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    well, said = commanded(tmp_path, **options)
    assert well
    assert set(ran(tmp_path).values()) == {1}
    assert {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()} == before
    assert mine.read_text() == text
    assert "has what was found already" in said


def test_killed_and_resumed_no_trial_is_lost_stuck_or_repeated(tmp_path: Path) -> None:
    asked(tmp_path, SWEEP.replace("trials: 8", "trials: 5").replace("seeds: [0, 1]", "seeds: [0]"))
    (tmp_path / "runs" / "pause").write_text("0.05")
    process = command(tmp_path, track=True)
    wait_for(lambda: any("linear-" in uid for uid in ran(tmp_path)) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)  # the command; what it started must end by itself
    process.wait()
    (tmp_path / "runs" / "pause").write_text("0")
    process = command(tmp_path, track=True)
    assert process.wait(600) == 0, (tmp_path / "said.txt").read_text()
    found = trials(tmp_path)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 5
    assert len({tuple(trial.params.items()) for trial in found}) == 5
    done = {uid for uid in ran(tmp_path) if Store(tmp_path / "runs").result(uid) is None}
    assert not done

    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "fima-ablate")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    by_kind: dict[str, list[Any]] = {}
    for run in runs:
        by_kind.setdefault(run.data.tags.get("kind", "study"), []).append(run)
    (parent,) = by_kind["sweep"]
    assert len(by_kind["trial"]) == 5
    assert {run.data.tags["mlflow.parentRunId"] for run in by_kind["trial"]} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    trial_ids = {run.info.run_id: run for run in by_kind["trial"]}
    stages = [run for run in by_kind["linear"] if run.data.tags["mlflow.parentRunId"] in trial_ids]
    assert len(stages) == 5
    for run in stages:
        above = trial_ids[run.data.tags["mlflow.parentRunId"]]
        assert run.data.metrics["result/top1"] == pytest.approx(above.data.metrics["result/lin/ucf101"])
        assert set(above.data.params) == {"foreground.beta", "pixel.threshold"}
    (last,) = by_kind["study"]
    assert last.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_two_commands_share_a_sweep(tmp_path: Path) -> None:
    asked(tmp_path, SWEEP.replace("trials: 8", "trials: 5").replace("seeds: [0, 1]", "seeds: [0]"))
    (tmp_path / "runs" / "pause").write_text("0.03")
    both = [command(tmp_path, jobs=1), command(tmp_path, jobs=1)]
    assert [process.wait(600) for process in both] == [0, 0], (tmp_path / "said.txt").read_text()
    found = trials(tmp_path)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 5
    assert len({trial.user_attrs["worker"]["pid"] for trial in found}) > 1
    assert set(ran(tmp_path).values()) == {1}


def test_a_killed_process_is_started_again_and_its_trial_goes_on(tmp_path: Path) -> None:
    asked(tmp_path, SWEEP.replace("trials: 8", "trials: 2").replace("seeds: [0, 1]", "seeds: [0]"))
    (tmp_path / "runs" / "pause").write_text("0.3")
    process = command(tmp_path, jobs=1)
    wait_for(lambda: bool(ran(tmp_path)))
    (running,) = (trial for trial in trials(tmp_path) if trial.state.name == "RUNNING")
    (tmp_path / "runs" / "pause").write_text("0")
    os.kill(running.user_attrs["worker"]["pid"], signal.SIGKILL)
    assert process.wait(600) == 0, (tmp_path / "said.txt").read_text()
    found = trials(tmp_path)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 2
    assert found[0].params == running.params


def test_a_stage_that_is_killed_just_before_its_command_fails_no_trial(tmp_path: Path) -> None:
    asked(tmp_path, SWEEP.replace("trials: 8", "trials: 2").replace("seeds: [0, 1]", "seeds: [0]"))
    (tmp_path / "runs" / "pause").write_text("0.3")
    process = command(tmp_path, jobs=1)
    wait_for(lambda: bool(ran(tmp_path)))
    stage = Store(tmp_path / "runs").status(next(iter(ran(tmp_path)))).pid
    assert stage is not None
    os.killpg(stage, signal.SIGKILL)  # as `pkill` does, one after another
    (log,) = (tmp_path / "runs" / "sweeps").glob("*.0.log")
    wait_for(lambda: "killed by SIGKILL" in log.read_text())
    process.kill()
    process.wait()
    (tmp_path / "runs" / "pause").write_text("0")
    assert command(tmp_path, jobs=1).wait() == 0, (tmp_path / "said.txt").read_text()
    assert [trial.state.name for trial in trials(tmp_path)] == ["COMPLETE"] * 2


def test_failed_trials_say_why_and_are_tried_again_when_asked(tmp_path: Path) -> None:
    text = SWEEP.replace("{float: [0.1, 0.9]}", "{choices: [0.4, 0.85]}").replace(
        "pixel.threshold: {float: [0.2, 2.0], log: true}", "pixel.threshold: {choices: [0.7, 0.9]}"
    )
    text = text.replace("name: tpe, seed: 1, startup: 4", "name: grid").replace("trials: 8\n", "")
    asked(tmp_path, text)
    trouble = tmp_path / "runs" / "trouble"
    trouble.touch()
    once: dict[str, Any] = {"jobs": 1, "final": False}
    well, said = commanded(tmp_path, **once)
    assert not well
    assert "failed: trial 2: pre-training of trial 2" in said
    assert "beta is too large for this machine" in said
    assert Counter(trial.state.name for trial in trials(tmp_path)) == {"COMPLETE": 2, "FAIL": 2}
    assert "beta is too large" in (report(tmp_path) / "sweep.md").read_text()
    trouble.unlink()
    well, said = commanded(tmp_path, **once, retry_failed=True)
    assert well and "failed:" not in said
    assert Counter(trial.state.name for trial in trials(tmp_path)) == {"COMPLETE": 4, "FAIL": 2}
    commanded(tmp_path, **once, retry_failed=True)
    assert len(trials(tmp_path)) == 6


def test_the_end_of_a_trial_that_was_given_away_ends_nothing_but_values_that_are_none_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sweep.load_sweep("beta_threshold")
    study = search.open_study(search.open_storage(f"journal:{tmp_path}/log"), "study", found)
    asked_for: Any = SimpleNamespace(sweep=found)
    for values, given_away in (([40.0], True), ([float("nan")], False)):
        trial = search.Claims(study, tmp_path).take(9)
        assert trial is not None
        monkeypatch.setattr(searcher, "_measure", lambda *_, values=values: values)
        if given_away:
            study._storage.set_trial_state_values(trial._trial_id, state=optuna.trial.TrialState.WAITING)
            searcher._run(asked_for, study, trial)
            assert study.trials[trial.number].state.name == "WAITING"
        else:
            with pytest.raises(ValueError, match="nan"):
                searcher._run(asked_for, study, trial)


def test_no_trial_is_begun_when_time_is_up_and_the_report_says_so(tmp_path: Path) -> None:
    well, said = conduct(tmp_path, minutes=0.0, enqueue=("table3d_beta",))
    assert well
    assert "0 trials complete" in said
    assert "8 left" in said
    assert "test waits" not in said
    assert "None is complete yet" in (report(tmp_path) / "sweep.md").read_text()
    assert not ran(tmp_path)


def test_the_report_alone_runs_nothing_and_test_waits_for_all_trials(tmp_path: Path) -> None:
    found = sweep.load_sweep(str(asked(tmp_path).name))
    profile = spec.load_profile("debug")
    name = f"mine debug {found.digest(profile, ())}"
    study = search.open_study(search.open_storage(f"sqlite:///{tmp_path}/sweeps.db"), name, found)
    claims = search.Claims(study, tmp_path / "runs/sweeps")
    for state in ("COMPLETE", "RUNNING"):  # the second one's process is dead
        trial = claims.take(8)
        assert trial is not None
        search.suggest(trial, found)
        trial.set_user_attr("per_seed", {"lin/ucf101": {"0": 40.0}})
        if state == "COMPLETE":
            study.tell(trial, 40.0)
    trial.set_user_attr("worker", {**trial.user_attrs["worker"], "born": "another boot-1"})
    search.close(study)
    for once in ({"trials": 0, "final": False}, {"minutes": 0.0}):
        well, said = conduct(tmp_path, **once)
        assert well
        assert not ran(tmp_path)
        assert (report(tmp_path) / "sweep.md").is_file()
        assert ("test waits for the 7 trials that are left" in said) == ("minutes" in once)
    assert Counter(trial.state.name for trial in trials(tmp_path)) == {"COMPLETE": 1, "WAITING": 1}


def test_a_failure_that_is_tried_again_counts_by_what_came_of_it(tmp_path: Path) -> None:
    found = sweep.load_sweep("beta_threshold")
    study = search.open_study(search.open_storage(f"journal:{tmp_path}/log"), "study", found)
    claims = search.Claims(study, tmp_path)

    def end(failed: bool) -> None:
        trial = claims.take(9)
        assert trial is not None
        search.suggest(trial, found)
        if failed:
            trial.set_user_attr("error", "no room")
        study.tell(trial, None if failed else 40.0, state=optuna.trial.TrialState(3 if failed else 1))

    end(failed=True)
    assert sweeping.state(study, 1) == sweeping.Outcome(failed={0: "no room"})
    sweeping.retry_failed(study)
    assert sweeping.state(study, 2) == sweeping.Outcome(left=1)
    end(failed=False)
    assert sweeping.state(study, 2) == sweeping.Outcome(complete=1)


def test_wrong_words_are_one_line(tmp_path: Path) -> None:
    for changes, says in (
        ({"enqueue": ("table9_frame_loss",)}, "none of its rows lies in the space"),
        ({"overrides": ("foreground.beta=0.3",)}, "the sweep searches it"),
        ({"overrides": ("foreground.betta=0.3",)}, "is not a setting"),
        ({"name": "beta_treshold"}, "no such sweep; there are"),
        ({"storage": "nonsense"}, "--storage nonsense"),
        ({"promote": tmp_path / "nowhere.yaml"}, "no such study"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            conduct(tmp_path, **changes)
        assert "\n" not in str(caught.value)


def fabricated(folder: Path, name: str, values: Callable[[Any], list[float]]) -> findings.Findings:
    found = sweep.load_sweep(name)
    study = search.open_study(search.open_storage(f"journal:{folder}/log"), "study", found)
    claims = search.Claims(study, folder)
    while (trial := claims.take(14)) is not None:
        point = search.suggest(trial, found)
        own = values(point)
        metrics = [objective.metric for objective in found.objectives]
        trial.set_user_attr("per_seed", {m: {"0": v} for m, v in zip(metrics, own, strict=True)})
        study.tell(trial, own)
    gathered = findings.gather(found, spec.load_profile("debug"), [], study, Store(folder), "fima-ablate sweep x", None)
    findings.write(gathered, study, folder / "out")
    return gathered


def test_two_objectives_have_a_front_and_up_to_three_tested(tmp_path: Path) -> None:
    found = fabricated(tmp_path, "decoder", lambda p: [40 + p["decoder.depth"] + p["decoder.width"] / 100,
                                                       float(p["decoder.width"] * p["decoder.depth"])])  # fmt: skip
    pairs = {trial.number: trial.values for trial in found.complete}
    front = {
        n for n, (a, b) in pairs.items() if not any(c >= a and d <= b and (c, d) != (a, b) for c, d in pairs.values())
    }
    best = [trial.number for trial in found.best]
    assert 1 <= len(best) <= 3
    assert set(best) <= front
    assert pairs[best[0]][0] == max(pair[0] for pair in pairs.values())
    assert {"front.png", "importance.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert len(found.importance) == 2


def test_conditional_parameters_are_reported_where_they_are(tmp_path: Path) -> None:
    found = fabricated(tmp_path, "losses", lambda p: [10.0 * len(p)])
    text = (tmp_path / "out" / "trials.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    for row, trial in zip(rows, found.trials, strict=True):
        assert (row["weights.fra"] == "") == ("fra" not in trial.point["losses"])


def test_the_latex_of_a_sweep_compiles(tmp_path: Path) -> None:
    import shutil

    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX here")
    fabricated(tmp_path, "losses", lambda p: [10.0 * len(p)])
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "sweep.tex"],
                          cwd=tmp_path / "out", capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_promoted_row_has_the_overrides_that_it_was_found_with(tmp_path: Path) -> None:
    from ablations.promote import promote

    mine = tmp_path / "study.yaml"
    text = (
        "study: own\ntitle: Mine\nmetrics: [lin/ucf101]\nbase: {losses: [vv, pix], decoder.depth: 3}\n"
        "rows:\n  - {label: a, default: true}\n"
    )
    mine.write_text(text)
    plain = fabricated(tmp_path, "beta_threshold", lambda p: [40 + p["foreground.beta"]])
    with pytest.raises(ValueError, match=r"study\.yaml:4: the study's base sets decoder\.depth"):
        promote(plain, mine, "")
    with pytest.raises(ValueError, match=r"^override pixel\.queue=64: profile debug scales pixel\.queue of rows by"):
        promote(replace(plain, overrides=("pixel.queue=64",)), mine, "")
    assert mine.read_text() == text
    promote(replace(plain, overrides=("decoder.depth=4", "linear.clips=3")), mine, "")
    assert spec.load_study(mine).rows[-1].set["decoder.depth"] == 4
    assert "; overrides decoder.depth=4 linear.clips=3\n" in mine.read_text()


def test_rows_are_appended_where_text_allows(tmp_path: Path) -> None:
    from ablations.located import SpecError
    from ablations.promote import appended

    entry = [("# why", '- {"label": "x", "set": {"foreground.beta": 0.3}}')]
    block = "rows:\n  - label: a\n    set: {foreground.beta: 0.1}  # one\n\n# about claims\nclaims: []\n"
    text = appended(block, entry, tmp_path)
    assert text.index("# one") < text.index("# why") < text.index("# about claims")
    assert [row["label"] for row in yaml.safe_load(text)["rows"]] == ["a", "x"]
    flush = "rows:\n- label: a\n"
    assert [row["label"] for row in yaml.safe_load(appended(flush, entry, tmp_path))["rows"]] == ["a", "x"]
    assert [row["label"] for row in yaml.safe_load(appended("grid: {}\n", entry, tmp_path))["rows"]] == ["x"]
    with pytest.raises(SpecError, match="written in brackets"):
        appended("rows: [{label: a}]\n", entry, tmp_path)
