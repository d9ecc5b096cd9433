"""Trials in every storage: each once, the same list for the same seed, none lost with its process."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from ablations import search, sweep, sweeping

BASE = """\
sweep: mine
title: My sweep
base: {losses: [vv, pix]}
space:
  foreground.beta: {float: [0.1, 0.9]}
  decoder.width: {choices: [256, 512]}
  decoder.heads: {int: [1, 6]}
constraints: [decoder.width % decoder.heads == 0]
objective: lin/ucf101
trials: 12
"""
NUMBERS = BASE.replace("decoder.width: {choices: [256, 512]}", "pixel.threshold: {float: [0.1, 2], log: true}").replace(
    "constraints: [decoder.width % decoder.heads == 0]\n", ""
)


def load(folder: Path, text: str = BASE) -> sweep.Sweep:
    path = folder / "x.yaml"
    path.write_text(text)
    return sweep.load_sweep(path)


@pytest.fixture(params=["sqlite", "journal", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return {"sqlite": f"sqlite:///{tmp_path}/a.db", "journal": f"journal:{tmp_path}/a.log"}[request.param]


OPEN: list[optuna.Study] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        search.close(OPEN.pop())


def open_study(url: str, found: sweep.Sweep, name: str | None = None) -> optuna.Study:
    OPEN.append(search.open_study(search.open_storage(url), name or f"study {time.monotonic_ns()}", found))
    return OPEN[-1]


def quality(point: Any) -> list[float]:
    return [50 - 40 * (point["foreground.beta"] - 0.4) ** 2 + point["decoder.heads"]]


def serial(study: optuna.Study, found: sweep.Sweep, folder: Path, count: int,
           value: Callable[[Any], list[float]] = quality) -> list[dict[str, Any]]:  # fmt: skip
    """Run trials up to `count` one after the other; their points."""
    claims = search.Claims(study, folder)
    while (trial := claims.take(count)) is not None:
        study.tell(trial, value(search.suggest(trial, found)))
    return [trial.params for trial in study.get_trials()]


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "nsga2"])
def test_the_same_seed_gives_the_same_serial_list_however_often_it_is_stopped(name: str, tmp_path: Path) -> None:
    found = load(tmp_path, NUMBERS + f"sampler: {{name: {name}, seed: 5}}\n")
    once = serial(open_study(f"journal:{tmp_path}/a", found), found, tmp_path, 16)
    for stop in (3, 11, 16):  # each time by a new process, as far as Optuna can tell
        again = serial(open_study(f"journal:{tmp_path}/b", found, "b"), found, tmp_path, stop)
        assert again == once[:stop]
    other = replace(found, sampler=replace(found.sampler, seed=6))
    assert serial(open_study(f"journal:{tmp_path}/c", other), other, tmp_path, 16) != once
    assert len({tuple(point.items()) for point in once}) == 16


@pytest.mark.parametrize("name", ["tpe", "random", "nsga2"])
def test_no_trial_breaks_a_constraint(name: str, tmp_path: Path) -> None:
    found = load(tmp_path, BASE + f"sampler: {{name: {name}}}\n")
    points = serial(open_study(f"journal:{tmp_path}/a", found), found, tmp_path, 25)
    assert len(points) == 25
    assert all(point["decoder.width"] % point["decoder.heads"] == 0 for point in points)
    assert {point["decoder.width"] for point in points} == {256, 512}


def test_tpe_searches_better_than_chance(tmp_path: Path) -> None:
    def distance(point: Any) -> list[float]:
        return [-abs(point["foreground.beta"] - 0.37) - abs(point["pixel.threshold"] - 0.6)]

    def best(name: str) -> float:
        scores = []
        for seed in range(2):
            found = load(tmp_path, NUMBERS + f"sampler: {{name: {name}, seed: {seed}}}\n")
            study = open_study(f"journal:{tmp_path}/{name}{seed}", found)
            serial(study, found, tmp_path, 30, distance)
            scores.append(study.best_value)
        return sum(scores)

    assert best("tpe") > best("random")


def test_conditions_and_two_objectives(tmp_path: Path) -> None:
    found = replace(sweep.load_sweep("losses"), trials=30)
    study = open_study(f"journal:{tmp_path}/a", found)
    for point in serial(study, found, tmp_path, 30, lambda point: [len(point)]):
        on = str(point["losses"]).split("+")
        assert {name for name in point if name != "losses"} == {f"weights.{name}" for name in on if name != "vv"}
    pair = sweep.load_sweep("decoder")
    study = open_study(f"journal:{tmp_path}/b", pair)
    serial(study, pair, tmp_path, 30, lambda point: [point["decoder.depth"] % 3, point["decoder.width"]])
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    values = {tuple(trial.values) for trial in study.get_trials()}
    front = {(a, b) for a, b in values if not any(c >= a and d <= b and (c, d) != (a, b) for c, d in values)}
    assert {tuple(trial.values) for trial in study.best_trials} == front


def test_a_grid_tries_each_cell_once_and_no_more(tmp_path: Path, url: str) -> None:
    text = BASE.replace("{float: [0.1, 0.9]}", "{choices: [0.2, 0.4]}").replace("trials: 12", "sampler: {name: grid}")
    found = load(tmp_path, text)
    cells = found.space.cells()
    study = open_study(url, found)
    assert search.begin(study, {}, found) == search.begin(study, {}, found) == len(cells) == 12
    assert serial(study, found, tmp_path, len(cells)) == [dict(cell) for cell in cells]


def test_a_grid_is_whole_whatever_was_tried_before(tmp_path: Path) -> None:
    """Points between its cells, and cells that another sampler drew twice, take no cell's place."""
    text = BASE.replace("{float: [0.1, 0.9]}", "{choices: [0.2, 0.4]}").replace("trials: 12", "sampler: {name: grid}")
    found = load(tmp_path, text)
    study = open_study(f"journal:{tmp_path}/a", found)
    cell = dict(found.space.cells()[3])
    for _ in range(2):
        study.enqueue_trial(cell)
    study.enqueue_trial({**cell, "decoder.heads": 5, "decoder.width": 512})  # no cell: 512 % 5
    for _ in range(3):
        trial = study.ask()
        study.tell(trial, quality(search.known_parameters(trial.storage.get_trial(trial._trial_id))))
    number = search.begin(study, {}, found)
    assert number == 12 + 2 == search.begin(study, {}, found)
    serial(study, found, tmp_path, search.target(study, number))
    tried = [search.known_parameters(trial) for trial in study.get_trials()]
    assert len(tried) == 14
    assert all(dict(one) in tried for one in found.space.cells())


def test_rows_of_the_paper_come_first_and_once(tmp_path: Path, url: str) -> None:
    found = load(tmp_path)
    row = {"foreground.beta": 0.5, "decoder.width": 512, "decoder.heads": 4}
    study = open_study(url, found)
    for _ in range(2):
        assert search.begin(study, {"table: 0.5": row}, found) == 12
    points = serial(study, found, tmp_path, 3)
    assert points[0] == row
    assert points.count(row) == 1
    assert study.get_trials()[0].user_attrs["row"] == "table: 0.5"


def test_a_killed_processs_trial_goes_on_under_its_number(tmp_path: Path, url: str) -> None:
    found = load(tmp_path)
    study = open_study(url, found)
    claims = search.Claims(study, tmp_path)
    first = claims.take(12)
    assert first is not None
    point = search.suggest(first, found)
    first.report(33.0, 50)
    first.set_user_attr("worker", {"host": socket.gethostname(), "pid": dead_pid(), "beat": time.time()})
    again = claims.take(12)
    assert again is not None
    assert again.number == first.number == 0
    assert search.suggest(again, found) == point
    trial = study.get_trials()[0]
    assert trial.intermediate_values == {50: 33.0}
    study.tell(again, [1.0])
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE]


def test_a_kill_between_two_parameters_keeps_the_point(tmp_path: Path) -> None:
    found = load(tmp_path)
    whole = serial(open_study(f"journal:{tmp_path}/a", found), found, tmp_path, 3)
    study = open_study(f"journal:{tmp_path}/b", found)
    claims = search.Claims(study, tmp_path)
    trial = claims.take(3)
    assert trial is not None
    trial.suggest_float("foreground.beta", 0.1, 0.9)
    trial.set_user_attr("worker", {"host": socket.gethostname(), "pid": dead_pid(), "beat": time.time()})
    assert serial(study, found, tmp_path, 3) == whole


def trial_with(worker: dict[str, Any]) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"worker": worker})


def test_the_living_are_left_alone_and_the_silent_taken_for_dead(tmp_path: Path, url: str) -> None:
    found = load(tmp_path)
    study = open_study(url, found)
    claims = search.Claims(study, tmp_path)
    trial = claims.take(12)
    assert trial is not None
    assert claims.free() == 0  # this process lives
    worker = trial.user_attrs["worker"]
    trial.set_user_attr("worker", {**worker, "beat": time.time() - search.STALE - 1})  # as of a laptop that slept
    assert claims.free() == 0
    given_again = {**worker, "born": "another boot-1"}  # the number of a dead process, after a restart of the machine
    assert search.lives(trial_with(worker))
    assert search.lives(trial_with({name: value for name, value in worker.items() if name != "born"}))
    assert not search.lives(trial_with(given_again)) or worker["born"] is None
    for host, age, free in (("elsewhere", 10, 0), ("elsewhere", search.STALE + 1, 1)):
        trial.set_user_attr("worker", {"host": host, "pid": 1, "beat": time.time() - age})
        assert claims.free() == free
    assert study.get_trials()[0].state == TrialState.WAITING


def test_there_are_never_more_trials_than_asked_for(tmp_path: Path, url: str) -> None:
    found = load(tmp_path)
    studies = [open_study(url, found, "shared by three") for _ in range(3)]
    claims = [search.Claims(study, tmp_path) for study in studies]
    taken = [claims[i % 3].take(5) for i in range(8)]
    assert [trial is not None for trial in taken] == [True] * 5 + [False] * 3
    assert sorted(trial.number for trial in taken if trial) == [0, 1, 2, 3, 4]


def test_rows_and_retries_are_run_beside_the_trials_asked_for(tmp_path: Path) -> None:
    """Also by a command that was killed after it enqueued them, and asked for no retry when it was started again."""
    found = load(tmp_path, NUMBERS.replace("trials: 12", "trials: 1"))
    study = open_study(f"journal:{tmp_path}/a", found)
    rows = {f"row {i}": {"foreground.beta": 0.1 * i, "pixel.threshold": 1.0, "decoder.heads": 1} for i in (2, 3)}
    assert search.target(study, search.begin(study, rows, found)) == 2
    assert search.target(study, search.begin(study, {}, found)) == 2
    claims = search.Claims(study, tmp_path)
    for state in (TrialState.FAIL, TrialState.COMPLETE):
        trial = claims.take(2)
        assert trial is not None
        search.suggest(trial, found)
        study.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state=state)
    assert claims.take(search.target(study, 1)) is None
    sweeping.retry_failed(study)
    sweeping.retry_failed(study)
    assert search.target(study, 1) == 3
    assert search.target(study, 7) == 8  # more trials were asked for; the failed one is among them
    assert claims.take(search.target(study, 1)) is not None
    assert claims.take(search.target(study, 1)) is None


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BEAT", 0.02)
    found = load(tmp_path)
    study = open_study(f"sqlite:///{tmp_path}/a.db", found)
    claims = search.Claims(study, tmp_path)
    trial = claims.take(1)
    assert trial is not None
    first = study.get_trials()[0].user_attrs["worker"]["beat"]
    with claims.beating(trial):
        deadline = time.monotonic() + 10
        while study.get_trials()[0].user_attrs["worker"]["beat"] == first and time.monotonic() < deadline:
            time.sleep(0.02)
    assert study.get_trials()[0].user_attrs["worker"]["beat"] > first


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", "postgresql://me:***@127.0.0.1:1/x: "),
        ("nonsense", "give sqlite:///FILE, journal:FILE or the URL of a running database"),
        ("mysql://me@127.0.0.1/x", "install its driver"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^--storage") as caught:
        search.open_storage(url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sweep.PRUNERS)
def test_pruners_judge_a_bad_trial_after_good_ones(name: str, tmp_path: Path) -> None:
    text = BASE + (f"pruner: {{name: {name}, every: 10}}\n" if name != "none" else "")
    found = load(tmp_path, text)
    study = open_study(f"journal:{tmp_path}/a", found)
    verdicts = []
    for number in range(24):
        trial = study.ask()
        pruned = False
        for step in (10, 20, 40, 80):
            trial.report(60 - 2.0 * number, step)
            pruned = pruned or trial.should_prune()
        verdicts.append(pruned)
        study.tell(trial, [60 - 2.0 * number])
    assert any(verdicts) == (name != "none")
    assert not verdicts[0]
