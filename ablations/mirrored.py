"""Whether MLflow is there, holds what the store holds, and takes nothing dead for running."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ablations import mirror, tracking
from ablations.finding import Finding, named
from ablations.ledger import Ledger, owned
from ablations.store import Store


def check(store: Store) -> Iterator[Finding]:
    """MLflow as MLFLOW_TRACKING_URI has it, else the database beside the store. Makes and alters nothing."""
    uri, shown = _quiet(store)
    path = _database(uri)
    ledger = Ledger(store.root / "mlflow.json")
    if path is not None and not path.exists():
        lost = any(entry.get("stages") for entry in ledger.logged.get(uri, {}).values())
        if lost:
            what = f"MLflow at {shown}: the database is gone"
            yield Finding("warning", "mlflow", what, "doctor --fix makes it again from the store")
        else:
            yield Finding("ok", "mlflow", f"MLflow at {shown}: no database yet; the first run makes it")
        return
    try:
        runs = mirror.running(uri)
    except Exception as error:  # whatever MLflow, its database or its server raise
        what = f"MLflow at {shown}: {tracking.reason(error)}"
        if path is None:
            way_out = "start the server, or unset MLFLOW_TRACKING_URI; the results are in the store all the same"
        else:
            way_out = "move the file away; doctor --fix then makes another from the store"
        yield Finding("problem", "mlflow", what, way_out)
        return
    yield Finding("ok", "mlflow", f"MLflow at {shown} answers")
    behind = mirror.behind(store, ledger, uri)
    late = {key: uids for key, uids in behind.items() if not owned(ledger.invocations[key].get("owner"))}
    if late:
        what = f"MLflow lacks news of {sum(map(len, late.values()))} stages of {named(sorted(late))}"
        yield Finding("warning", "mlflow", what, "doctor --fix, the next run or fima-ablate sync copies it")
    elif ledger.invocations:
        yield Finding("ok", "mlflow", "MLflow has what the store has of every run that was to be mirrored")
    dead = _dead(store, ledger, uri, runs or [])
    if dead:
        what = f"{len(dead)} runs are RUNNING in MLflow though their process is dead: {named([n for _, n, _ in dead])}"
        yield Finding("warning", "mlflow", what, "doctor --fix ends them")


def fix(store: Store) -> Iterator[Finding]:
    """Bring MLflow up to the store, and end the runs of dead processes."""
    uri, shown = _quiet(store)
    path = _database(uri)
    there = path is None or path.exists()
    if not (there or (store.root / "mlflow.json").exists()):
        return
    try:
        with tracking.only_writer(store):
            ledger = Ledger(store.root / "mlflow.json")
            lacked = sum(map(len, mirror.behind(store, ledger, uri).values()))
            dead = _dead(store, ledger, uri, mirror.running(uri) or []) if there else []
            if there and not lacked and not dead:
                return
            writer = mirror.Mirror(store, uri)
            writer.sync(ledger, ledger.invocations)
            for run, _, state in _dead(store, ledger, uri, mirror.running(uri) or []):  # which the ledger did not know
                writer.end(run, state)
    except Exception as error:  # whatever MLflow, its database or its server raise
        what = f"MLflow at {shown} cannot be put right: {tracking.reason(error)}"
        yield Finding("problem", "mlflow", what, "the results are in the store all the same")
        return
    yield from (Finding("fixed", "mlflow", f"{name} is {state} in MLflow now") for _, name, state in dead)
    if lacked:
        yield Finding("fixed", "mlflow", f"MLflow has the news of {lacked} stages that it lacked")
    if not there:
        yield Finding("fixed", "mlflow", f"{path} is made again from the store")


def _dead(store: Store, ledger: Ledger, uri: str, runs: Sequence[Any]) -> list[tuple[str, str, str]]:
    """Of runs that MLflow takes to be running those that are not: run id, name, and what they are, in MLflow's words.

    Runs of other stores on the same server are left alone, and so are those of a command that is still at it.
    """
    logged = ledger.logged.get(uri, {})
    ours = {entry["run"] for entry in logged.values()}
    ours |= {stage["run"] for entry in logged.values() for stage in entry["stages"].values()}
    begun = set(store.uids())
    found = []
    for run in runs:
        run_id, tags = str(run.info.run_id), run.data.tags
        uid, key = tags.get("uid"), tags.get("key")
        if run_id not in ours if ours else uid not in begun:
            continue
        if uid is not None:
            entries = [entry for entry in ledger.invocations.values() if uid in entry["stages"]]
            if any(owned(entry.get("owner")) for entry in entries):
                continue
            state = mirror.STATES[store.status(uid).state]
        elif key in ledger.invocations:
            entry = ledger.invocations[key]
            state = mirror.state_of(entry, {uid: store.status(uid) for uid in entry["stages"]})
        else:
            continue
        if state != "RUNNING":
            found.append((run_id, str(run.info.run_name), state))
    return found


def _quiet(store: Store) -> tuple[str, str]:
    """MLflow's address, as it is and as it is shown; a server that is down then costs seconds."""
    for name, value in tracking.QUIET.items():
        os.environ.setdefault(name, value)
    uri = tracking.default_uri(store)
    return uri, tracking.without_password(uri)


def _database(uri: str) -> Path | None:
    """The file of a local database; None: a server, or a database elsewhere."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None
