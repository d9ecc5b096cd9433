"""What `fima-ablate doctor` finds in stores, machines and MLflows that are damaged on purpose, and what it mends."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import sqlite3
import time
import zipfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import warm
from typer.testing import CliRunner

from ablations import doctor, health, machine, mirrored, tracking
from ablations.cli import app
from ablations.finding import GIB, Finding, named, size
from ablations.store import Store
from ablations.uids import Stage
from fima import indices

# MLflow and its libraries warn while they are imported
pytestmark = pytest.mark.filterwarnings("ignore")
DEAD = 2**22 + 1  # no such process


def done(store: Store, uid: str, *needs: str, result: bool = True) -> Path:
    store.prepare(Stage("linear", uid, {"seed": 0}, 0, needs, f"stage {uid}"))
    with store.lock(uid):
        store.start(uid)
        if result:
            store.finish(uid, {"top1": 50.0, "seconds": 1.5})
    kept = health.KEPT.get(uid.partition("-")[0])
    if kept:
        with zipfile.ZipFile(store.folder(uid) / kept, "w") as file:
            file.writestr("data", b"weights")
    return store.folder(uid)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Sound: a pre-training and its evaluation."""
    store = Store(tmp_path / "runs")
    done(store, "pretrain-a")
    done(store, "linear-a", "pretrain-a")
    return store


Check = Callable[[Store], Iterable[Finding]]


def bad(check: Check, store: Store) -> list[tuple[str, str]]:
    return [(finding.level, finding.line()) for finding in check(store) if finding.level != "ok"]


def content(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


# --- the store


@pytest.mark.parametrize("check", [health.stages, health.files, health.drafts, health.checkpoints])
def test_a_sound_store_has_nothing_to_say(store: Store, check: Check) -> None:
    before = content(store)
    assert bad(check, store) == []
    assert [finding.level for finding in check(store)] == ["ok"]
    assert content(store) == before


@pytest.mark.parametrize("name", health.OBJECTS)
@pytest.mark.parametrize("half", ["", '{"top1": 1', "\x00\x00\x00", "[1]"])
def test_a_damaged_file_is_told_and_set_aside(store: Store, name: str, half: str) -> None:
    path = store.folder("linear-a") / name
    path.write_text(half)
    ((level, line),) = bad(health.files, store)
    assert level == "problem"
    assert f"{path}: holds no whole JSON object" in line
    assert "--fix" in line
    assert [f.what for f in health.fix(store) if f.about == "files"] == [f"{path} is now {name}.damaged"]
    assert (path.parent / f"{name}.damaged").read_text() == half
    assert bad(health.files, store) == []


def test_a_file_of_a_stage_that_runs_is_left_to_it(store: Store) -> None:
    path = store.folder("linear-a") / "progress.json"
    path.write_text("{")
    with store.lock("linear-a"):
        assert list(health.fix(store)) == []
    assert path.exists()


def test_a_line_of_metrics_is_told_by_its_number_but_a_cut_end_is_not(store: Store) -> None:
    path = store.folder("pretrain-a") / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert bad(health.files, store) == []
    path.write_text('{"step": 1}\n{"ste\x00\x00}\n{"step": 3}\n')
    assert bad(health.files, store) == [("problem", f"problem: {path}:2: is no JSON object; delete that line")]


def test_stages_of_a_killed_process_and_failed_ones_are_told(store: Store) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ablations.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "with store.lock('linear-b'):\n"
        "    store.start('linear-b'); print('held', flush=True); time.sleep(60)\n"
    )
    store.prepare(Stage("linear", "linear-b", {}, 0, (), "stage b"))
    process = warm.run(code, str(store.root), cwd=store.root.parent)
    process.says("held")
    assert bad(health.stages, store) == []
    process.kill()
    process.wait()
    for number in range(7):
        store.prepare(Stage("linear", f"linear-f{number}", {}, 0, (), f"stage f{number}"))
        store.start(f"linear-f{number}")
        store.fail(f"linear-f{number}", "the loss is nan")
    found = bad(health.stages, store)
    assert {level for level, _ in found} == {"warning"}
    assert "1 stages lost their process: linear-b" in found[0][1]
    assert "stage f0 (linear-f0) failed: the loss is nan" in found[1][1]
    assert "2 more stages failed" in found[-1][1]
    fixed = [finding.what for finding in health.fix(store)]
    assert fixed == [f"linear-b is marked as interrupted: pid {process.pid} is dead"]
    assert json.loads((store.folder("linear-b") / "status.json").read_text())["state"] == "interrupted"
    assert store.status("linear-b").attempts == 1
    assert list(health.fix(store)) == []


def test_drafts_of_the_dead_are_removed_and_those_of_the_living_are_not(store: Store) -> None:
    old = time.time() - 3600
    left = [store.folder("pretrain-a") / f".checkpoint.pt.{DEAD}", store.root / f"linear-a/.result.json.{DEAD}.tmp",
            store.root / f".mlflow.json.{DEAD}.tmp", store.root.parent / f".mlflow.db.{DEAD}.tmp-journal"]  # fmt: skip
    alive = [store.root / f".mlflow.json.{os.getpid()}.tmp", store.folder("linear-c") / f".result.json.{DEAD}.tmp",
             store.root / f".new.json.{DEAD}.tmp", store.folder("linear-a") / ".hidden"]  # fmt: skip
    store.folder("linear-c").mkdir()
    for path in left + alive:
        path.write_text("half")
        os.utime(path, (old, old))
    os.utime(alive[2])  # another machine's, a moment ago
    with store.lock("linear-c"):
        ((level, line),) = bad(health.drafts, store)
        assert (level, "4 drafts of dead processes hold 16 bytes" in line) == ("warning", True)
        assert {finding.what for finding in health.fix(store)} == {f"{path} is removed" for path in left}
        assert all(path.exists() for path in alive)
        assert not any(path.exists() for path in left)
    assert store.result("linear-a") is not None


def test_a_checkpoint_that_is_gone_is_a_problem_where_something_waits_for_it(store: Store) -> None:
    path = store.folder("pretrain-a") / "checkpoint.pt"
    path.unlink()
    ((level, line),) = bad(health.checkpoints, store)
    assert (level, str(path) in line) == ("warning", True)
    done(store, "linear-b", "pretrain-a", result=False)
    ((level, line),) = bad(health.checkpoints, store)
    assert (level, "which some wait for: " in line and str(path) in line) == ("problem", True)
    path.write_bytes(b"\x00" * 100)
    ((level, line),) = bad(health.checkpoints, store)
    assert (level, f"{path}: is damaged" in line) == ("problem", True)
    shutil.rmtree(store.folder("pretrain-a"))
    ((level, line),) = bad(health.checkpoints, store)
    assert (level, "1 stages are gone" in line and "pretrain-a" in line) == ("warning", True)


# --- the machine


def test_this_machine_passes() -> None:
    found = [*machine.versions(), *machine.codecs(), *machine.devices()]
    assert [finding.line() for finding in found if finding.level == "problem"] == []
    assert {"h264 decodes: 8 of 8", "mpeg4 decodes: 8 of 8"} <= {
        finding.what.partition(" frames")[0] for finding in found
    }


def test_another_version_and_a_library_that_does_not_load_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.28.1" if name == "torchvision" else version(name)
    )
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torchvision==0.29.*", "nonesuch>=1"])
    monkeypatch.setattr(machine, "LOADED", ["fima.nonesuch"])
    lines = [finding.line() for finding in machine.versions()]
    assert lines[0].startswith("problem: torchvision is 0.28.1, and torchvision==0.29.* is asked for; ")
    assert lines[1].startswith("problem: nonesuch is not installed; ")
    assert lines[2].startswith("problem: fima.nonesuch does not load: ModuleNotFoundError")
    assert len(lines) == 3


def test_a_codec_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CODECS", {"h264": "mpeg4", "mpeg4": "nonesuch"})
    lines = [finding.line() for finding in machine.codecs()]
    assert "decodes no h264: it is taken for mpeg4" in lines[0]
    assert "decodes no mpeg4" in lines[1]


def test_a_damaged_index_and_little_room_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIMA_CACHE", str(tmp_path / "cache"))
    assert [finding.level for finding in machine.cache()] == ["ok"]
    path = indices.cache_folder() / "index.sqlite"
    path.parent.mkdir()
    sqlite3.connect(path).execute("create table videos (path text)").connection.close()
    assert [finding.level for finding in machine.cache()] == ["ok"]
    path.write_bytes(b"SQLite format 3\x00" + b"\x07" * 4000)
    (finding,) = machine.cache()
    assert (finding.level, f"{path}: the index of videos is damaged" in finding.what) == ("problem", True)
    for free, level in ((GIB / 2, "problem"), (5 * GIB, "warning"), (50 * GIB, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(0, 0, free))
        assert machine.room("store", tmp_path / "not" / "yet").level == level


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> Iterable[Finding]:
        raise OSError("no\nsuch thing")

    for name in ("versions", "codecs", "cache"):
        monkeypatch.setattr(machine, name, lambda: ())
    monkeypatch.setattr(machine, "devices", breaks)
    found = list(doctor.examine(store))
    assert [f.line() for f in found if f.level == "problem"] == [
        "problem: the check of devices broke off: OSError: no such thing; see the other findings"
    ]
    assert {"stages", "files", "drafts", "checkpoints", "mlflow"} <= {finding.about for finding in found}


# --- MLflow


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them; to make one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mirrored_store(store: Store, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in tracking.QUIET.items():
        monkeypatch.setenv(name, value)
    shutil.copy(empty, store.root.parent / "mlflow.db")
    return store


# A tracker in another process, killed while a stage runs.
TRACKS = """
import sys, time
from pathlib import Path
from types import SimpleNamespace as Names
from ablations.uids import Stage
from ablations.store import Store
from ablations.tracking import Tracker
store = Store(Path(sys.argv[1]))
row = Names(study=Names(study="beta", title="About"), row=Names(label="0.3"), pretrain={0: "pretrain-a"},
            stages={0: ("pretrain-a", "linear-r")})
plan = Names(rows=[row], references=(), profile=Names(profile="debug", scale="tiny"), overrides=(), seeds=(0,))
store.prepare(Stage("linear", "linear-r", {"seed": 0}, 0, (), "stage r"))
with store.lock("linear-r"):
    store.start("linear-r")
    tracker = Tracker(store, plan, interval=0.05)
    while '"sign": "running' not in (store.root / "mlflow.json").read_text():
        time.sleep(0.05)
    print("tracked", flush=True)
    time.sleep(60)
"""


def killed_tracker(store: Store) -> Any:
    """Returns a client of the MLflow that it wrote to."""
    from mlflow import MlflowClient

    (store.root / "mlflow.json").write_text("{}")
    process = warm.run(TRACKS, str(store.root), cwd=store.root.parent)
    process.says("tracked")
    assert [finding.line() for finding in mirrored.check(store) if "RUNNING" in finding.what] == []  # it lives
    process.kill()
    process.wait()
    return MlflowClient(tracking_uri=tracking.default_uri(store))


def states(client: Any) -> dict[str, str]:
    experiment = client.get_experiment_by_name("fima-ablate").experiment_id
    return {run.data.tags.get("uid", "parent"): run.info.status for run in client.search_runs([experiment])}


def test_runs_of_a_killed_tracker_are_found_and_ended(mirrored_store: Store) -> None:
    store = mirrored_store
    client = killed_tracker(store)
    assert states(client) == {"parent": "RUNNING", "pretrain-a": "FINISHED", "linear-r": "RUNNING"}
    found = bad(mirrored.check, store)
    assert [level for level, _ in found] == ["warning", "warning"]
    assert "lacks news of 1 stages of beta-debug-" in found[0][1]
    assert "2 runs are RUNNING in MLflow though their process is dead" in found[1][1]
    assert states(client)["linear-r"] == "RUNNING"  # to look alters nothing
    fixed = [finding.what for finding in mirrored.fix(store)]
    assert len(fixed) == 3
    assert sum("is KILLED in MLflow now" in line for line in fixed) == 2
    assert states(client) == {"parent": "KILLED", "pretrain-a": "FINISHED", "linear-r": "KILLED"}
    assert bad(mirrored.check, store) == []
    assert list(mirrored.fix(store)) == []
    assert store.result("pretrain-a") is not None


def test_a_dead_run_that_the_ledger_forgot_is_ended_and_others_are_left_alone(mirrored_store: Store) -> None:
    store = mirrored_store
    client = killed_tracker(store)
    experiment = client.get_experiment_by_name("fima-ablate").experiment_id
    client.create_run(experiment, tags={"uid": "linear-of-another-store"})
    (store.root / "mlflow.json").unlink()
    ((_, line),) = bad(mirrored.check, store)
    assert "1 runs are RUNNING" in line
    assert len(list(mirrored.fix(store))) == 1
    assert states(client)["linear-r"] == "KILLED"
    assert states(client)["linear-of-another-store"] == "RUNNING"


def test_a_database_that_is_gone_is_made_again(mirrored_store: Store) -> None:
    store = mirrored_store
    killed_tracker(store)
    (store.root.parent / "mlflow.db").unlink()
    ((level, line),) = bad(mirrored.check, store)
    assert (level, "the database is gone" in line) == ("warning", True)
    assert not (store.root.parent / "mlflow.db").exists()
    # in a process that does not hold the old one open
    code = "import sys, pathlib; from ablations import mirrored, store\n"
    code += "print([f.what for f in mirrored.fix(store.Store(pathlib.Path(sys.argv[1])))])"
    process = warm.run(code, str(store.root), cwd=store.root.parent)
    assert process.wait() == 0, process.communicate()
    assert "mlflow.db is made again from the store" in process.communicate()[0]
    with closing(sqlite3.connect(store.root.parent / "mlflow.db")) as database:
        found = database.execute("select status from runs order by status").fetchall()
    assert found == [("FINISHED",), ("KILLED",), ("KILLED",)]


def test_a_damaged_database_and_a_dead_server_are_problems(
    mirrored_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = mirrored_store
    path = store.root.parent / "mlflow.db"
    path.write_bytes(b"\x07" * 5000)
    ((level, line),) = bad(mirrored.check, store)
    assert level == "problem"
    assert "not a database" in line and "move the file away" in line
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    ((level, line),) = bad(mirrored.check, store)
    assert level == "problem"
    assert "refused" in line and f"me:***@127.0.0.1:{port}" in line and "unset MLFLOW_TRACKING_URI" in line
    (finding,) = mirrored.fix(store)
    assert (finding.level, "cannot be put right: Connection refused" in finding.what) == ("problem", True)


# --- the command


def test_the_command_exits_with_1_only_where_there_is_a_problem(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["doctor", "--store", str(store.root)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert all(line.split(":")[0] in ("ok", "warning") for line in result.output.splitlines())
    assert "no database yet" in result.output
    (store.folder("linear-a") / "result.json").write_text("{")
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 1
    assert [f["about"] for f in json.loads(result.output) if f["level"] == "problem"] == ["files"]
    result = CliRunner().invoke(app, [*words, "--fix"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("fixed: ")


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--fix", "--store", str(tmp_path / "runs")])
    assert result.exit_code == 0, result.output
    assert "no store yet" in result.output
    assert list(tmp_path.iterdir()) == []


def test_words_for_people() -> None:
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert [size(count) for count in (12, 2048, 3 * 2**20, 5 * GIB)] == ["12 bytes", "2 KiB", "3 MiB", "5.0 GiB"]
