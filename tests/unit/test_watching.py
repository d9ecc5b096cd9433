"""What `fima-ablate status` says of stages that run, ended, or lost their process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ablations import watching
from ablations.cli import app
from ablations.store import Store
from ablations.uids import Stage

# A stage in another process: it takes steps 5 and 15 of 25 after a resume at 4, then waits to be killed.
RUNS = """
import sys, time
from pathlib import Path
from ablations.store import Store
store = Store(Path(sys.argv[1]))
with store.command(), store.lock("pre-a"):
    store.start("pre-a")
    store.place("pre-a", "cuda:1 Card", 3)
    now = time.time()
    store.report("pre-a", 15, 25, {"loss": 2.5, "lr": 0.1}, since=(5, now - 20.0))
    print("runs", flush=True)
    time.sleep(60)
"""


def stage(uid: str) -> Stage:
    return Stage("pretrain", uid, {"seed": 0}, 0, (), f"stage {uid}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@contextmanager
def running(store: Store) -> Iterator[subprocess.Popen[str]]:
    store.prepare(stage("pre-a"))
    command = [sys.executable, "-c", RUNS, str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "runs\n"
            yield process
        finally:
            process.kill()


def shown(store: Store, every: float = 0.05, terminal: bool = False) -> str:
    screen = io.StringIO()
    watching.watch(store, Console(file=screen, force_terminal=terminal, width=200), every)
    return screen.getvalue()


def told(store: Store, *options: str) -> str:
    result = CliRunner().invoke(app, ["status", "--store", str(store.root), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_running_stage_says_where_and_how_long(store: Store) -> None:
    with running(store) as process:
        (row,) = json.loads(told(store, "--json"))
        assert (row["state"], row["pid"], row["host"]) == ("running", process.pid, os.uname().nodename)
        assert (row["device"], row["threads"], row["step"], row["steps"]) == ("cuda:1 Card", 3, 15, 25)
        assert row["values"] == {"loss": 2.5, "lr": 0.1}
        # ten steps in 20 s since the first message, ten to go; steps before a resume are no part of the pace
        assert row["seconds_per_step"] == pytest.approx(2.0, abs=0.1)
        assert row["left"] == pytest.approx(20.0, abs=5.0)
        line = told(store).splitlines()[0]
        for part in ("running", "15/25", f"pid {process.pid} cuda:1 Card", "since ", "s left", "loss 2.5"):
            assert part in line
        assert "lr" not in line


def test_a_killed_process_leaves_an_interrupted_stage(store: Store) -> None:
    with running(store) as process:
        assert watching.Watch(store).active(watching.Watch(store).look())
        process.send_signal(signal.SIGKILL)
        process.wait()
        (row,) = watching.Watch(store).look()
        assert (row["state"], row["pid"], row["progress"], row["left"]) == ("interrupted", None, "15/25", None)
        assert not watching.Watch(store).active([row])
        assert "1 interrupted" in shown(store)  # and the watch ends at once


def test_the_pace_of_a_first_attempt_and_of_none(store: Store) -> None:
    """Without a word when messages began, a first attempt began at 0; a later one may have begun anywhere."""
    store.prepare(stage("pre-a"))
    with store.lock("pre-a"):
        store.start("pre-a")
        assert store.describe("pre-a")["left"] is None
        store.report("pre-a", 5, 10, {})
        assert store.describe("pre-a")["left"] is not None
        store.start("pre-a")  # what progress.json holds is the last attempt's
        row = store.describe("pre-a")
        assert (row["progress"], row["left"]) == ("5/10", None)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_watch_goes_on_until_nothing_runs(store: Store, terminal: bool) -> None:
    with running(store) as process:
        threading.Timer(0.6, process.kill).start()
        began = time.monotonic()
        text = shown(store, terminal=terminal)
        assert 0.5 < time.monotonic() - began < 10
    assert "15/25" in text
    assert "loss 2.5" in text
    assert "cuda:1 Card" in text
    assert text.rstrip().endswith("nothing runs")
    assert "1 interrupted" in text
    if not terminal:
        assert text.count("1 running") > 2  # a line a look
        assert "interrupted  stage pre-a" in text


def test_between_two_stages_a_command_is_still_waited_for(store: Store) -> None:
    store.prepare(stage("pre-a"))
    store.finish("pre-a", {"top1": 1.0})
    watched = watching.Watch(store)
    with store.command(), store.command():
        assert watched.active(watched.look())
    assert not watched.active(watched.look())


def test_what_fails_while_one_watches_is_told_with_its_reason(store: Store) -> None:
    store.prepare(stage("pre-b"))

    def work() -> None:
        with store.command():
            with store.lock("pre-b"):
                store.start("pre-b")
                time.sleep(0.4)
                store.fail("pre-b", "the loss is [nan]")
            time.sleep(0.2)

    thread = threading.Thread(target=work)
    with store.command():  # so that the watch does not end before the thread begins
        thread.start()
        time.sleep(0.05)
    text = shown(store)
    thread.join()
    assert "failed  stage pre-b: the loss is [nan]" in text


def test_a_result_is_read_once_and_again_when_it_is_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.prepare(stage("pre-a"))
    store.finish("pre-a", {"seconds": 1.0})
    watched, read = watching.Watch(store), []
    result = store.result
    monkeypatch.setattr(store, "result", lambda uid: read.append(uid) or result(uid))
    watched.look()
    first = len(read)
    assert watched.look()[0]["seconds"] == 1.0
    assert len(read) == first
    store.finish("pre-a", {"seconds": 2.0})
    assert watched.look()[0]["seconds"] == 2.0
    (store.folder("pre-a") / "result.json").write_text("{")
    assert watched.look()[0]["state"] == "interrupted"


def test_control_c_ends_a_watch_without_complaint(store: Store) -> None:
    with running(store):
        command = [sys.executable, "-m", "ablations.cli", "status", "--watch", "--every", "0.1", "--store"]
        watch = subprocess.Popen(
            [*command, str(store.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert watch.stdout is not None
        assert "1 running" in watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        _, err = watch.communicate(timeout=60)
    assert (watch.returncode, err) == (0, "")


def test_a_store_without_stages_says_how_to_start(store: Store) -> None:
    assert "no stages yet; start with fima-ablate run" in told(store)
    assert json.loads(told(store, "--json")) == []
    assert "no stages yet" in told(store, "--watch")
