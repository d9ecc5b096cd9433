"""MLflow's own pages on what a store was mirrored into: `fima-ablate ui`. The child imports mlflow, not this."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ablations import tracking

if TYPE_CHECKING:
    from ablations.store import Store

# Otherwise the server takes 17 s to start, and 2.3 GB.
LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
PATIENCE = 10.0  # seconds that the server has to end by itself


def serve(store: Store, host: str, port: int, say: Callable[[str], None]) -> int:
    """Run MLflow's server until Ctrl-C, and end it with all that it started.

    Returns:
        its exit code; 0 after Ctrl-C, and where MLFLOW_TRACKING_URI is a server, which has its pages already.

    Raises:
        ValueError: there is no database yet, or the port is taken.
    """
    uri = tracking.default_uri(store)
    shown = tracking.without_password(uri)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        if uri.startswith(("http:", "https:")):
            say(f"MLFLOW_TRACKING_URI is {shown}, a server with pages of its own: open it")
            return 0
        say(f"MLFLOW_TRACKING_URI is {shown}: showing that, not the database beside {store.root}")
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not path.is_file():
        raise ValueError(f"{path}: no MLflow database yet; fima-ablate run makes it, unless told --no-mlflow")
    if not _free(host, port):
        raise ValueError(f"--port {port}: something listens there already; name another one")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    say(f"MLflow shows {shown} at http://{host}:{port} in a few seconds; Ctrl-C ends it")
    before = signal.signal(signal.SIGTERM, _interrupt)
    # In a group of its own, so that Ctrl-C reaches this process only, which then ends all of the server's.
    server = subprocess.Popen(
        [*command, "--host", host, "--port", str(port)], env={**LIGHT, **os.environ}, start_new_session=True
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)
        signal.signal(signal.SIGTERM, before)


def _free(host: str, port: int) -> bool:
    """Whether a server could listen there; a port that was left a moment ago is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask the server's processes to end, and end what does not."""
    for sign, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, None)):
        try:
            os.killpg(server.pid, sign)
        except ProcessLookupError:  # all are gone
            return
        try:
            server.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def _interrupt(sign: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
