"""Shared fixtures: the real clips beside the repository, a PostgreSQL, a seed, one thread."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this session share (pytest-xdist)."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "together"
    folder.mkdir(exist_ok=True)
    return folder


def pytest_collection_finish() -> None:
    """What is loaded by now is no garbage; looking for some in it takes time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache(together: Path) -> Iterator[None]:
    """Video indices and rendered videos of the tests live and die with the session."""
    before = os.environ.get("FIMA_CACHE")
    os.environ["FIMA_CACHE"] = str(together / "cache")
    yield
    if before is None:
        del os.environ["FIMA_CACHE"]
    else:
        os.environ["FIMA_CACHE"] = before


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real video clips, which are other people's footage and never part of the repository."""
    root = SHARED / "data"
    if not root.is_dir():
        pytest.skip(f"real clips are not at {root}")
    return root


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a database on a server that lives as long as these tests."""
    if shutil.which("initdb") is None:
        pytest.skip("no PostgreSQL here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fima-postgres-") as place:  # pytest's own folders are closed to others
        folder, as_user = Path(place), {}
        if os.geteuid() == 0:  # the server refuses to be root
            try:
                shutil.chown(folder, "postgres")
            except LookupError:
                pytest.skip("PostgreSQL will not run as root, and there is no user postgres")
            as_user = {"user": "postgres"}

        def run(*command: str) -> None:
            with (folder.with_suffix(".log")).open("a") as log:
                subprocess.run(command, check=True, cwd="/", stdout=log, stderr=log, **as_user)  # type: ignore[call-overload]

        data = str(folder / "data")
        run("initdb", "-D", data, "-U", "fima", "-A", "trust", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql://fima@127.0.0.1:{port}/postgres"
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        folder.with_suffix(".log").unlink()


@pytest.fixture
def no_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where one is asked for a process: it is the engine's, which must be the first to say what it holds."""

    def ask(*_: object) -> None:
        pytest.fail("a fork server was asked for a process")

    monkeypatch.setattr("multiprocessing.forkserver.connect_to_new_process", ask)
