"""MLflow holds what the store holds, once; a server that is down costs seconds and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import warm

from ablations import mirror as mirroring
from ablations import plan as planning
from ablations import spec, tracking
from ablations.commands import show
from ablations.ledger import Ledger
from ablations.store import Store
from ablations.tracking import Tracker
from ablations.uids import Stage

# MLflow and its libraries warn while they are imported, on whatever thread that happens
pytestmark = pytest.mark.filterwarnings("ignore")


def stage(uid: str, kind: Any = "pretrain", lr: float = 0.1) -> Stage:
    config = {"kind": kind, "version": 1, "settings": {"optim": {"lr": lr}, "losses": ["vv"]}, "seed": 0,
              "where": {"role": "ucf101", "data": {"root": "/videos"}}}  # fmt: skip
    return Stage(kind, uid, config, 0, (), f"stage {uid}")


def row(study: str, label: str, stages: Sequence[str]) -> Any:
    return SimpleNamespace(
        study=SimpleNamespace(study=study, title=f"About {study}"),
        row=SimpleNamespace(label=label),
        pretrain={0: stages[0]},
        stages={0: tuple(stages)},
    )


def planned(*rows: Any, overrides: Sequence[str] = ()) -> Any:
    return SimpleNamespace(
        rows=rows, references=(), stages={}, profile=SimpleNamespace(profile="debug", scale="tiny"),
        overrides=tuple(overrides), seeds=(0,),
    )  # fmt: skip


ONE = planned(row("beta", "0.3", ["pre-a", "lin-a"]), row("beta", "0.5", ["pre-b"]))


def train(store: Store, uid: str, first: int, last: int, lr: float = 0.1) -> None:
    """Steps of a stage that is begun and not ended."""
    if store.status(uid).state == "new":
        store.prepare(stage(uid, lr=lr))
    store.start(uid)
    with (store.folder(uid) / "metrics.jsonl").open("a") as file:
        for step in range(first, last + 1):
            file.write(json.dumps({"step": step, "loss": 1.0 / step, "R@1": float(step)}) + "\n")


def finish(store: Store, uid: str, steps: int = 5) -> None:
    if steps:
        train(store, uid, 1, steps)
    else:
        store.prepare(stage(uid, "linear"))
        store.start(uid)
    made = {"commit": "abc", "dirty": True, "threads": 2, "device": "cpu"}
    store.finish(uid, {"top1": 50.0, "seconds": 1.5, "final": {"loss": 0.2}, "names": ["x"], "environment": made})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them; to make one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in tracking.QUIET:
        monkeypatch.setenv(name, tracking.QUIET[name])
    shutil.copy(empty, tmp_path / "mlflow.db")
    return Store(tmp_path / "runs")


def mirror(
    store: Store, plan: Any = ONE, files: dict[str, list[Path]] | None = None, uri: str | None = None
) -> list[str]:
    """What one command does; returns the lines it said."""
    said: list[str] = []
    tracker = Tracker(store, plan, command="fima-ablate run beta", say=said.append)
    whole = tracker.close()
    whole = tracker.attach(files or {}) and whole
    assert whole == (not said)
    return said


class Held:
    """What MLflow holds."""

    def __init__(self, store: Store) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=tracking.default_uri(store))
        experiment = self.client.get_experiment_by_name("fima-ablate")
        assert experiment is not None
        self.place = experiment.artifact_location
        self.runs = self.client.search_runs([experiment.experiment_id], max_results=500)

    def parent(self, study: str = "beta") -> Any:
        (found,) = [run for run in self.runs if run.data.tags["study"] == study and "uid" not in run.data.tags]
        return found

    def child(self, uid: str, study: str = "beta") -> Any:
        (found,) = [
            run for run in self.runs if run.data.tags.get("uid") == uid and run.data.tags["study"] == study
        ]  # fmt: skip
        return found

    def curve(self, uid: str, name: str = "loss", study: str = "beta") -> list[tuple[int, float]]:
        run = self.child(uid, study)
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name)]

    def summary(self) -> list[Any]:
        """Everything that must not change when it is mirrored again; a parent ends when its last command does."""
        return sorted(
            (run.info.run_id, run.info.status, run.info.end_time if "uid" in run.data.tags else None,
             sorted(run.data.params.items()), sorted(run.data.tags.items()),
             [(name, self.points(run, name)) for name in sorted(run.data.metrics)])
            for run in self.runs
        )  # fmt: skip

    def points(self, run: Any, name: str) -> int:
        return len(self.client.get_metric_history(run.info.run_id, name))


def test_a_study_is_a_parent_with_a_child_per_stage(store: Store, tmp_path: Path, capfd: Any) -> None:
    for uid in ("pre-a", "pre-b"):
        finish(store, uid)
    finish(store, "lin-a", 0)
    table = tmp_path / "table.md"
    table.write_text("| a |")
    assert mirror(store, files={"beta": [table]}) == []
    held = Held(store)
    assert held.place == (store.root / "mlflow-artifacts").as_uri()
    parent, child = held.parent(), held.child("pre-a")
    assert len(held.runs) == 4
    assert {run.info.status for run in held.runs} == {"FINISHED"}
    assert parent.data.tags["scale"] == "tiny"
    assert parent.data.tags["command"] == "fima-ablate run beta"
    assert [file.path for file in held.client.list_artifacts(parent.info.run_id)] == ["table.md"]
    tags = child.data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    told = {"study": "beta", "row": "0.3", "seed": "0", "uid": "pre-a", "git": "abc+dirty", "profile": "debug"}
    assert told.items() <= tags.items()
    assert child.data.params == {"version": "1", "settings.optim.lr": "0.1", "settings.losses": '["vv"]', "seed": "0"}
    assert held.curve("pre-a") == [(step, 1.0 / step) for step in range(1, 6)]
    assert held.curve("pre-a", "R_1")[-1] == (5, 5.0)
    results = {name: value for name, value in child.data.metrics.items() if name.startswith("result/")}
    assert results == {"result/top1": 50.0, "result/seconds": 1.5, "result/final/loss": 0.2}
    assert "INFO" not in capfd.readouterr().err
    # again, with a changed table
    table.write_text("| b |")
    before = held.summary()
    assert mirror(store, files={"beta": [table]}) == []
    assert Held(store).summary() == before
    assert Path(held.client.download_artifacts(parent.info.run_id, "table.md")).read_text() == "| b |"


@pytest.mark.parametrize("how", ["lost", "half", "before the children", "never saved"])
def test_nothing_is_logged_twice_though_the_cursor_is_gone(
    store: Store, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 between logging and writing the cursor."""
    finish(store, "pre-a")
    if how == "never saved":
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "save", lambda self: None)
            mirror(store)
    else:
        mirror(store)
    before = Held(store).summary()
    path = store.root / "mlflow.json"
    if how == "lost":
        path.unlink()
    elif how == "half":
        path.write_text(path.read_text()[:200])
    elif how == "before the children":
        ledger = json.loads(path.read_text())
        for entries in ledger["logged"].values():
            for entry in entries.values():
                entry["stages"] = {}
        path.write_text(json.dumps(ledger))
    assert mirror(store) == []
    again = Held(store).summary()
    assert [entry[:2] + entry[3:] for entry in again] == [entry[:2] + entry[3:] for entry in before]


def test_a_stage_is_followed_from_running_to_done(store: Store) -> None:
    """Killed, failed and done: one run, each step once."""
    with store.lock("pre-a"):
        train(store, "pre-a", 1, 3)
        mirror(store)
        held = Held(store)
        assert (held.child("pre-a").info.status, held.parent().info.status) == ("RUNNING", "RUNNING")
        assert [step for step, _ in held.curve("pre-a")] == [1, 2, 3]
        run_id = held.child("pre-a").info.run_id
    mirror(store)
    held = Held(store)
    assert (held.child("pre-a").info.status, held.parent().info.status) == ("KILLED", "KILLED")
    train(store, "pre-a", 2, 6)  # steps after the checkpoint run again
    store.fail("pre-a", "loss is nan")
    mirror(store)
    held = Held(store)
    assert (held.child("pre-a").info.status, held.parent().info.status) == ("FAILED", "FAILED")
    assert held.child("pre-a").data.tags["error"] == "loss is nan"
    assert [step for step, _ in held.curve("pre-a")] == [1, 2, 3, 4, 5, 6]
    for uid in ("pre-a", "pre-b"):
        finish(store, uid, 7)
    finish(store, "lin-a", 0)
    mirror(store)
    held = Held(store)
    assert (held.child("pre-a").info.status, held.parent().info.status) == ("FINISHED", "FINISHED")
    assert held.child("pre-a").info.run_id == run_id
    assert [step for step, _ in held.curve("pre-a")] == [1, 2, 3, 4, 5, 6, 7]


def test_the_thread_logs_while_stages_run(store: Store) -> None:
    tracker = Tracker(store, ONE, say=pytest.fail, interval=0.05)
    finish(store, "pre-a")
    tracker.stage_finished(stage("pre-a"), "done")
    deadline = time.monotonic() + 15
    ledger = store.root / "mlflow.json"
    while (not ledger.exists() or '"sign": "done' not in ledger.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    held = Held(store)
    assert held.child("pre-a").info.status == "FINISHED"
    assert held.parent().info.status == "RUNNING"
    assert tracker.close()
    assert Held(store).parent().info.status == "KILLED"  # two of its stages never ran


def test_studies_that_share_a_stage_each_have_it(store: Store) -> None:
    finish(store, "pre-a")
    two = planned(row("beta", "0.3", ["pre-a"]), row("masks", "both", ["pre-a"]), row("masks", "same", ["pre-a"]))
    mirror(store, two)
    held = Held(store)
    assert held.child("pre-a", "masks").data.tags["row"] == "both, same"
    assert held.child("pre-a", "masks").data.tags["curves"] == held.child("pre-a", "beta").info.run_id
    assert held.child("pre-a", "masks").data.metrics["result/top1"] == 50.0
    assert held.child("pre-a", "masks").data.params == held.child("pre-a", "beta").data.params
    assert held.curve("pre-a", study="masks") == []
    assert len(held.curve("pre-a", study="beta")) == 5


def test_reference_rows_are_children_too() -> None:
    plan = planned(row("beta", "0.3", ["pre-a"]))
    study = SimpleNamespace(study="beta")
    plan.references = (SimpleNamespace(study=study, label="random encoder", uids=["lin-r"]),)
    needs = {"pre-a": (), "feat-r": ("pre-a",), "lin-r": ("feat-r",)}
    plan.stages = {uid: SimpleNamespace(needs=own) for uid, own in needs.items()}
    (entry,) = tracking.invocations(plan).values()
    assert entry["stages"] == {"pre-a": "0.3, random encoder", "feat-r": "random encoder", "lin-r": "random encoder"}


def test_other_settings_are_another_parent(store: Store) -> None:
    finish(store, "pre-a")
    mirror(store, planned(row("beta", "0.3", ["pre-a"])))
    mirror(store, planned(row("beta", "0.3", ["pre-a"]), overrides=["optim.steps=5"]))
    parents = [run for run in Held(store).runs if "uid" not in run.data.tags]
    assert sorted(run.data.tags["overrides"] for run in parents) == ["", "optim.steps=5"]


def test_a_killed_command_is_put_right_by_any_later_one(store: Store) -> None:
    with store.lock("pre-a"):
        train(store, "pre-a", 1, 2)
        mirror(store)
    ledger = json.loads((store.root / "mlflow.json").read_text())
    for entry in ledger["invocations"].values():
        entry["owner"] = {"pid": 2**22 + 1, "host": socket.gethostname()}  # no such process
    (store.root / "mlflow.json").write_text(json.dumps(ledger))
    finish(store, "pre-z")
    mirror(store, planned(row("masks", "both", ["pre-z"])))
    held = Held(store)
    assert held.child("pre-a").info.status == held.parent("beta").info.status == "KILLED"
    assert held.parent("masks").info.status == "FINISHED"


def test_a_deleted_database_or_run_is_filled_again(store: Store, empty: Path) -> None:
    finish(store, "pre-a")
    mirror(store)
    shutil.copy(empty, store.root.parent / "mlflow.db")
    assert mirror(store) == []
    held = Held(store)
    assert len(held.curve("pre-a")) == 5
    held.client.delete_run(held.parent().info.run_id)
    assert mirror(store) == []
    assert Held(store).parent().info.run_id != held.parent().info.run_id


MAKER = """
import sys
from pathlib import Path
from ablations import tracking
from ablations.mirror import Mirror
from ablations.store import Store
for name, value in tracking.QUIET.items():
    tracking.os.environ[name] = value
import mlflow.store.db.utils
made = mlflow.store.db.utils._upgrade_db
def half(engine):
    print("half", flush=True)
    tracking.time.sleep(60)
mlflow.store.db.utils._upgrade_db = half
Mirror(Store(Path(sys.argv[1])), sys.argv[2])
"""


def test_killed_while_the_database_is_made(store: Store) -> None:
    """MLflow cannot open one that is half made, ever."""
    (store.root.parent / "mlflow.db").unlink()
    process = warm.run(MAKER, str(store.root), tracking.default_uri(store), cwd=store.root.parent)
    process.says("half")
    process.kill()
    process.wait()
    assert not (store.root.parent / "mlflow.db").exists()
    finish(store, "pre-a")
    assert mirror(store) == []
    assert len(Held(store).curve("pre-a")) == 5
    assert not list(store.root.parent.glob(".*"))


def test_a_dead_server_costs_seconds_and_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    finish(store, "pre-a")
    table = store.root / "table.md"
    table.write_text("| a |")
    began = time.monotonic()
    said = mirror(store, files={"beta": [table]})
    assert time.monotonic() - began < 5
    assert len(said) == 1
    assert "\n" not in said[0]
    for part in ("refused", "Nothing is lost", "fima-ablate sync", f"me:***@127.0.0.1:{port}"):
        assert part in said[0]
    assert "Traceback" in (store.root / "mlflow.log").read_text()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    # any later command copies it all, even one about another study
    finish(store, "pre-z")
    assert mirror(store, planned(row("masks", "both", ["pre-z"]))) == []
    held = Held(store)
    assert len(held.curve("pre-a")) == 5
    assert [file.path for file in held.client.list_artifacts(held.parent("beta").info.run_id)] == ["table.md"]


def test_a_server_that_never_answers_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        finish(store, "pre-a")
        said: list[str] = []
        tracker = Tracker(store, ONE, f"http://127.0.0.1:{silent.getsockname()[1]}", say=said.append)
        began = time.monotonic()
        assert not tracker.close(patience=0.5)
        assert not tracker.attach({}, patience=0.2)
        assert time.monotonic() - began < 2
        assert "does not answer" in said[0]
        tracker.close(patience=10)  # the thread ends by itself
        assert len(said) == 1


def test_names_and_values_that_mlflow_does_not_take() -> None:
    config = {"config": {"a": {"b": 1}, "long": "x" * 7000, "where": {"root": "/videos"}, "none": None}}
    params = mirroring.parameters(config)
    assert set(params) == {"a.b", "long", "none"}
    assert (params["a.b"], params["none"]) == ("1", "null")
    assert len(params["long"]) == 6000
    assert params["long"].endswith("(cut; 7000 characters)")
    odd = {"R@5": 1, "nan": float("nan"), "yes": True, "infinite": float("inf"), "environment": {"threads": 2}}
    assert mirroring.results(odd) == {"result/R_5": 1.0}


def test_two_commands_may_be_the_first_to_open_a_database_of_a_server(postgres: str, tmp_path: Path) -> None:
    """Neither breaks the other's tables, and artifacts go beside a store, not to wherever the command was given."""
    import psycopg
    from mlflow import MlflowClient
    from sqlalchemy.exc import OperationalError

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("create database mlflow")
    uri = postgres.replace("/postgres", "/mlflow")
    code = (
        "import sys; from pathlib import Path; from ablations.mirror import Mirror; from ablations.store import Store;"
        "print(Mirror(Store(Path(sys.argv[1])), sys.argv[2]).experiment)"
    )
    env = {**os.environ, **tracking.QUIET}
    both = [warm.run(code, name, uri, cwd=tmp_path, env=env) for name in ("one", "other")]
    assert [process.wait() for process in both] == [0, 0], [process.communicate() for process in both]
    outs = [process.communicate() for process in both]
    assert outs[0][0] == outs[1][0]
    place = MlflowClient(tracking_uri=uri).get_experiment(outs[0][0].strip()).artifact_location
    assert place in [(tmp_path / name / "mlflow-artifacts").as_uri() for name in ("one", "other")]
    began = time.monotonic()
    with pytest.raises(OperationalError, match='database "none" does not exist') as error:  # and not after minutes
        mirroring.Mirror(Store(tmp_path), postgres.replace("/postgres", "/none"))
    assert time.monotonic() - began < 10
    assert tracking.reason(error.value).endswith('"none" does not exist')


# --- fima-ablate sync


def test_sync_copies_what_was_begun_and_says_what_is_left(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a STUDY that is what earlier commands noted: no run for a study that never ran."""
    studies = [spec.load_study(name) for name in ("table9_frame_loss", "table3d_beta")]
    both = planning.build(studies, spec.load_profile("debug"), (), (0,), ["parameters"])
    own = next(uid for row in both.rows if row.row.label == "MSE" for uid in row.pretrain.values())
    finish(store, own)
    begun = tracking.begun(both, store)
    assert {row.study.study for row in begun.rows} == {"table9_frame_loss"}
    with pytest.raises(ValueError, match="has no stage of these in profile debug; name the one that they ran with"):
        show.sync(["table3d_beta"], "debug", seeds="1", store=store.root)
    with pytest.raises(ValueError, match=r"name the study that optim\.steps=3 belongs to"):
        show.sync(["optim.steps=3"], store=store.root)
    show.sync(store=store.root)
    assert "but not 1 stage of runs with --no-mlflow" in capsys.readouterr().out
    assert mirror(store, begun) == []
    assert tracking.unmirrored(store) == 0
    assert {run.data.tags["study"] for run in Held(store).runs} == {"table9_frame_loss"}
