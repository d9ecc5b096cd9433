"""MLflow's pages: on the right database, ended with all their processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ablations import ui
from ablations.store import Store

# Stands in for `python -m mlflow server`: it notes how it was called, and starts a child that ignores SIGTERM.
FAKE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"],
    stdout=subprocess.PIPE)
child.stdout.readline()
told = {"arguments": sys.argv[1:], "child": child.pid, "jobs": os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"]}
Path("told.tmp").write_text(json.dumps(told))
Path("told.tmp").rename("told.json")
time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(tmp_path / "runs")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ended(pid: int) -> bool:
    """Whether a process is gone, or dead and only not yet waited for by whoever has to."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_no_database_and_a_port_that_is_taken_are_one_line(store: Store) -> None:
    with pytest.raises(ValueError, match=r"mlflow\.db: no MLflow database yet; fima-ablate run makes it"):
        ui.serve(store, "127.0.0.1", free_port(), pytest.fail)
    (store.root.parent / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port}: something listens there already"):
            ui.serve(store, "127.0.0.1", port, pytest.fail)


def test_a_tracking_server_has_pages_of_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@example.org:5000")
    said: list[str] = []
    assert ui.serve(store, "127.0.0.1", free_port(), said.append) == 0
    assert said == ["MLFLOW_TRACKING_URI is http://me:***@example.org:5000, a server with pages of its own: open it"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("named", [False, True])
def test_control_c_ends_the_server_with_its_children(tmp_path: Path, sign: signal.Signals, named: bool) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/__init__.py").touch()
    (tmp_path / "mlflow/__main__.py").write_text(FAKE)
    database = tmp_path / ("other.db" if named else "mlflow.db")
    database.touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.pathsep.join(sys.path)}"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    if named:
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    port = free_port()
    command = [sys.executable, "-m", "ablations.cli", "ui", "--store", "runs", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 30
        while not (tmp_path / "told.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
    told = json.loads((tmp_path / "told.json").read_text())
    assert process.returncode == 0
    assert told["arguments"] == ["server", "--backend-store-uri", f"sqlite:///{database}", "--workers", "1",
                                 "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    assert told["jobs"] == "false"
    assert ended(told["child"])
    assert f"http://127.0.0.1:{port}" in err and "Traceback" not in err
    assert (f"showing that, not the database beside {tmp_path / 'runs'}" in err) == named


def test_mlflow_itself_answers(store: Store, tmp_path: Path) -> None:
    """The real one, on a database that it makes: an empty file."""
    (tmp_path / "mlflow.db").touch()
    port = free_port()
    command = [sys.executable, "-m", "ablations.cli", "ui", "--store", str(store.root), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline, status = time.monotonic() + 90, None
        while status is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    status = answer.status
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        process.terminate()
        assert process.wait(30) == 0
    assert status == 200
