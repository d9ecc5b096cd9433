"""What there is to mirror into MLflow, and what of it was: <store>/mlflow.json."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.store import birth, read_json, still_runs, write_json

Entry = dict[str, Any]


class Ledger:
    """<store>/mlflow.json: what there is to mirror, and what of it was, for each tracking server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read_json(path) or {}
        self.invocations: dict[str, Entry] = found.get("invocations", {})
        self.logged: dict[str, dict[str, Entry]] = found.get("logged", {})  # uri -> key -> run, status, files, stages

    def note(self, own: Mapping[str, Entry], running: bool) -> None:
        """Put down what this process is about; `owner` says that it is still at it."""
        for key, entry in own.items():
            before = self.invocations.get(key, {})
            pid = os.getpid()
            owner = {"pid": pid, "born": birth(pid), "host": socket.gethostname()} if running else None
            files = entry["files"] or before.get("files", {})
            command = entry["command"] or before.get("command")
            self.invocations[key] = {**entry, "files": files, "command": command, "owner": owner}
        self.save()

    def save(self) -> None:
        write_json(self.path, {"invocations": self.invocations, "logged": self.logged})


def owned(owner: Mapping[str, Any] | None) -> bool:
    """Whether the process that an invocation belongs to still runs. One of another machine is taken not to."""
    if owner is None or owner["host"] != socket.gethostname():
        return False
    return still_runs(owner["pid"], owner.get("born"))
