"""A store is valid after a kill at any instant."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.store import Busy, Store
from ablations.uids import Stage


def stage(uid: str = "linear-x-s0-0123456789ab") -> Stage:
    return Stage("linear", uid, {"seed": 0, "where": {"role": "ucf101"}}, 0, (), "a probe")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_a_stage_goes_from_new_to_done(store: Store) -> None:
    uid = stage().uid
    assert store.status(uid).state == "new"
    assert store.result(uid) is None
    assert store.uids() == []
    with store.lock(uid):
        store.prepare(stage())
        store.start(uid)
        status = store.status(uid)
        assert (status.state, status.pid, status.attempts) == ("running", os.getpid(), 1)
        store.report(uid, 3, 10, {"loss": 0.5})
        assert store.describe(uid)["progress"] == "3/10"
        store.finish(uid, {"top1": 50.0, "seconds": 2.0})
    assert store.result(uid) == {"top1": 50.0, "seconds": 2.0}
    assert store.uids() == [uid]
    told = store.describe(uid)
    assert (told["state"], told["seconds"], told["title"], told["pid"]) == ("done", 2.0, "a probe", None)


def test_files_are_the_same_to_the_byte(store: Store) -> None:
    uid = stage().uid
    store.prepare(stage())
    store.finish(uid, {"b": 1.0, "a": [1, 2], "β": "é"})
    assert (store.folder(uid) / "result.json").read_text() == (
        '{\n  "a": [\n    1,\n    2\n  ],\n  "b": 1.0,\n  "β": "é"\n}\n'
    )
    config = (store.folder(uid) / "config.json").read_bytes()
    store.prepare(stage())
    assert (store.folder(uid) / "config.json").read_bytes() == config
    assert json.loads(config)["config"]["where"] == {"role": "ucf101"}


def test_a_result_counts_though_the_status_was_not_written(store: Store) -> None:
    uid = stage().uid
    store.prepare(stage())
    store.start(uid)
    (store.folder(uid) / "result.json").write_text('{"top1": 1.0}')
    assert store.status(uid).state == "done"


@pytest.mark.parametrize("half", ["", '{"top1": 1', "[1, 2]", "\x00\x00"])
def test_half_a_result_is_none(store: Store, half: str) -> None:
    uid = stage().uid
    store.prepare(stage())
    store.start(uid)
    (store.folder(uid) / "result.json").write_text(half)
    assert store.result(uid) is None
    assert store.status(uid).state == "interrupted"


@pytest.mark.parametrize("half", ["", "{", '{"state": "great"}'])
def test_a_damaged_status_is_new(store: Store, half: str) -> None:
    uid = stage().uid
    store.prepare(stage())
    (store.folder(uid) / "status.json").write_text(half)
    assert store.status(uid).state == "new"


def test_running_without_a_process_is_interrupted(store: Store) -> None:
    uid = stage().uid
    store.prepare(stage())
    store.start(uid)
    assert store.status(uid).state == "interrupted"
    with store.lock(uid):
        assert store.status(uid).state == "running"
        store.start(uid)
    assert store.status(uid).attempts == 2


def test_a_failure_keeps_one_line_and_a_result_ends_it(store: Store) -> None:
    uid = stage().uid
    store.prepare(stage())
    store.start(uid)
    store.fail(uid, "the loss\n is nan")
    assert (store.status(uid).state, store.status(uid).error) == ("failed", "the loss is nan")
    store.start(uid)
    assert store.status(uid).error is None
    store.finish(uid, {"top1": 1.0})
    assert store.status(uid).state == "done"


def test_what_is_no_json_is_refused_and_leaves_nothing(store: Store) -> None:
    uid = stage().uid
    store.prepare(stage())
    for value in (float("nan"), float("inf"), object()):
        with pytest.raises(ValueError, match=f"{uid}: the result is no JSON data"):
            store.finish(uid, {"top1": value})
    assert store.result(uid) is None


def test_only_one_process_holds_a_stage(store: Store) -> None:
    uid = stage().uid
    assert not store.locked(uid)
    with store.lock(uid):
        assert store.locked(uid)
        with pytest.raises(Busy, match="another process runs this stage"), store.lock(uid):
            pytest.fail("two hold it")
    assert not store.locked(uid)
    with (store.folder(uid) / "lock").open() as looker:  # two that look do not take each other for a worker
        fcntl.flock(looker, fcntl.LOCK_SH)
        assert not store.locked(uid)


def test_metrics_leave_out_a_line_cut_short(store: Store) -> None:
    uid = stage().uid
    assert store.metrics(uid) == []
    store.prepare(stage())
    (store.folder(uid) / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert store.metrics(uid) == [{"step": 1, "loss": 2.0}]


def test_drafts_of_the_dead_are_removed(store: Store) -> None:
    uid = stage().uid
    store.folder(uid).mkdir(parents=True)
    for name in (".result.json.123.tmp", ".checkpoint.pt.77"):
        (store.folder(uid) / name).write_text("half")
    store.prepare(stage())
    assert sorted(path.name for path in store.folder(uid).iterdir()) == ["config.json"]


WRITER = """
import sys, pathlib
from ablations.store import Store
store, i = Store(pathlib.Path(sys.argv[1])), 0
store.folder("x").mkdir(parents=True)
while True:
    i += 1
    store.finish("x", {"number": i, "again": [i] * 2000})
    if i == 1:
        print("go", flush=True)
"""


def test_killed_while_it_writes_a_result_is_whole(tmp_path: Path) -> None:
    for number in range(4):
        root = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(0.03 + 0.021 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        result = Store(root).result("x")
        assert result is not None
        assert set(result["again"]) == {result["number"]}
