"""One MLflow brought up to the store: runs, parameters, metrics by step, results, artifacts.

The only file that imports mlflow, inside functions: that takes over a second.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import sqlite
from ablations.ledger import Entry, Ledger, owned
from ablations.store import Status, Store
from fima.config import flat

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "fima-ablate"
BATCH = 1000  # metrics, and 100 parameters, are the most that MLflow takes at once
LONGEST = 6000  # characters of a parameter
STATES = {"new": "KILLED", "running": "RUNNING", "done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Mirror:
    """Brings one MLflow up to the store, from what the ledger says. Raises whatever MLflow raises."""

    def __init__(self, store: Store, uri: str) -> None:
        from mlflow import MlflowClient

        self.store, self.uri = store, uri
        with _database(uri):
            self.client: MlflowClient = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment()
        self._sure: set[str] = set()  # keys whose parent run was seen to exist
        self._children: dict[str, dict[str, str]] = {}  # key -> uid -> run id, as MLflow says
        self._steps: dict[str, dict[str, int]] = {}  # run id -> metric -> last step logged
        self._final: dict[str, dict[str, float]] = {}  # run id -> result -> value logged
        self._curves: dict[str, str] = {}  # run id -> run id of another study that has this stage's metrics

    def sync(self, ledger: Ledger, own: Mapping[str, Entry]) -> None:
        """Bring up to date whatever is not: this process's invocations, and what others left behind."""
        logged = ledger.logged.setdefault(self.uri, {})
        # what is above others comes first: they hang below its run
        for key, entry in sorted(ledger.invocations.items(), key=lambda item: bool(item[1].get("above"))):
            if key in own and key not in self._sure:
                self._confirm(key, logged)
            statuses = {uid: self.store.status(uid) for uid in entry["stages"]}
            signs = signs_of(self.store, statuses)
            digests = _digests(entry["files"])
            state = state_of(entry, statuses)
            content = _content(entry)
            done = logged.get(key, {})
            stale = [uid for uid, sign in signs.items() if done.get("stages", {}).get(uid, {}).get("sign") != sign]
            same = done.get("files") == digests and done.get("content", "") == content
            if not stale and same and done.get("status") == state:
                continue
            if key not in self._sure:
                self._confirm(key, logged)
                stale = list(signs) if key not in logged else stale
            mine = logged.setdefault(key, {"run": None, "status": None, "files": {}, "stages": {}, "content": ""})
            if mine["run"] is None:
                mine["run"] = self._parent(key, entry, logged.get(entry.get("above") or "", {}).get("run"))
                ledger.save()
            if mine.get("content", "") != content:
                self._log_content(mine["run"], entry)
                mine["content"] = content
                ledger.save()
            for uid in stale:
                self._child(key, entry, uid, statuses[uid], logged)
                mine["stages"][uid]["sign"] = signs[uid]
                ledger.save()
            for name in sorted(digests):
                if mine["files"].get(name) != digests[name]:
                    self.client.log_artifact(mine["run"], entry["files"][name])
                    mine["files"][name] = digests[name]
            if mine["status"] != state:
                self._set_state(mine["run"], state, None)
                mine["status"] = state
            ledger.save()

    def _experiment(self) -> str:
        """The experiment's id; made if there is none."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            # with a server, artifacts go where it says; with a database, to an absolute path
            place = (self.store.root / "mlflow-artifacts").as_uri() if _is_database(self.uri) else None
            try:
                return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))
            except MlflowException as error:
                found = self.client.get_experiment_by_name(EXPERIMENT)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                    raise  # else another command made it in this moment
        if found.lifecycle_stage == "deleted":  # its name is taken until then
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _confirm(self, key: str, logged: dict[str, Entry]) -> None:
        """Forget what the ledger says of a parent run that is no longer there."""
        self._sure.add(key)
        run = logged.get(key, {}).get("run")
        if run is not None and self._run(run) is None:
            del logged[key]

    def _run(self, run_id: str) -> Any | None:
        """A run of MLflow; None if it is gone."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return None if run.info.lifecycle_stage == "deleted" or run.info.experiment_id != self.experiment else run

    def _search(self, filter_: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], filter_, max_results=BATCH, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _parent(self, key: str, entry: Entry, above: str | None) -> str:
        """The run of a study, a sweep or a trial; made if there is none.

        Args:
            above: run that it is a part of.
        """
        found = self._search(f"tags.`key` = '{key}'")
        if found:
            return str(found[0].info.run_id)
        seeds, overrides = " ".join(map(str, entry["seeds"])), " ".join(entry["overrides"])
        tags = {
            **_common(entry),
            "key": key,
            "title": entry["title"],
            "seeds": seeds,
            "overrides": overrides,
            "command": entry["command"] or "",
            **entry.get("tags", {}),
        }
        if above is not None:
            tags["mlflow.parentRunId"] = above
        name = entry.get("name") or " ".join(part for part in (entry["study"], entry["profile"], overrides) if part)
        return str(self.client.create_run(self.experiment, tags=_tags(tags), run_name=name[:200]).info.run_id)

    def _log_content(self, run: str, entry: Entry) -> None:
        """What a sweep or a trial says of itself: parameters, values, curves, tags."""
        from mlflow.entities import Metric, Param, RunTag

        if run not in self._steps:
            self._take(self.client.get_run(run))
        has, now = self._final[run], round(1000 * time.time())
        values = {f"result/{metric_name(name)}": float(value) for name, value in entry.get("values", {}).items()}
        values = {name: value for name, value in values.items() if has.get(name) != value}
        params = [Param(name[:250], _cut(_plain(value))) for name, value in entry.get("params", {}).items()]
        tags = [RunTag(*item) for item in _tags(entry.get("tags", {})).items()]
        points = [
            {"step": int(step), name: value}
            for name, curve in entry.get("curve", {}).items()
            for step, value in curve.items()
        ]
        self.client.log_batch(run, [Metric(name, value, now, 0) for name, value in values.items()], params, tags)
        has |= values
        self._log_points(run, points)

    def _child(self, key: str, entry: Entry, uid: str, status: Status, logged: dict[str, Entry]) -> None:
        """A stage, from the parameters to the result, as far as it got."""
        from mlflow.entities import Param

        mine = logged[key]
        known = mine["stages"].setdefault(uid, {"run": None})
        config, result = self.store.config(uid), self.store.result(uid) or {}
        run = known["run"] or self._children_of(key, mine["run"]).get(uid)
        params: set[str] = set()
        if run is not None and run not in self._steps:  # new to this process: see what it has
            found = self._run(run)
            run = None if found is None else run
            if found is not None:
                params = set(found.data.params)
                self._take(found)
        if run is None:
            shared = next((part["stages"][uid]["run"] for other, part in logged.items()
                           if other != key and part["stages"].get(uid, {}).get("run")), None)  # fmt: skip
            tags = _common(entry) | _about(config, entry["stages"][uid]) | {"uid": uid}
            tags |= {"mlflow.parentRunId": mine["run"]} | ({"curves": shared} if shared else {})
            role = f" {tags['role']}" if tags["role"] != config.get("kind") else ""
            name = f"{entry['stages'][uid]}: {config.get('kind', '')}{role} seed {tags['seed']}"
            start = round(1000 * (status.started or time.time()))
            created = self.client.create_run(self.experiment, start, _tags(tags), name[:200])
            run = str(created.info.run_id)
            self._take(created)
        known["run"] = run
        wanted = {name: value for name, value in parameters(config).items() if name not in params}
        if wanted and len(params) < len(parameters(config)):
            items = list(wanted.items())
            for start in range(0, len(items), 100):
                self.client.log_batch(run, params=[Param(*item) for item in items[start : start + 100]])
        if run not in self._curves:
            self._log_curves(run, uid)
        self._log_result(run, result, status)
        ended = status.ended if status.state in ("done", "failed") else None
        self._set_state(run, STATES[status.state], ended)

    def _children_of(self, key: str, parent: str) -> dict[str, str]:
        if key not in self._children:
            found = self._search(f"tags.`mlflow.parentRunId` = '{parent}'")
            self._children[key] = {run.data.tags.get("uid", ""): str(run.info.run_id) for run in found}
        return self._children[key]

    def _take(self, run: Any) -> None:
        """Learn what MLflow has of a run."""
        run_id, names = str(run.info.run_id), list(run.data.metrics)
        self._final[run_id] = {name: run.data.metrics[name] for name in names if name.startswith("result/")}
        self._steps[run_id] = {
            name: max(point.step for point in self.client.get_metric_history(run_id, name))
            for name in names
            if not name.startswith("result/")
        }
        if "curves" in run.data.tags:
            self._curves[run_id] = run.data.tags["curves"]

    def _log_curves(self, run: str, uid: str) -> None:
        """Metrics of steps that MLflow does not have. A killed stage repeats steps; they are the same to the bit."""
        self._log_points(run, self.store.metrics(uid))

    def _log_points(self, run: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Metrics of the steps in `lines` that are beyond the last one logged."""
        from mlflow.entities import Metric

        last, now = self._steps[run], round(1000 * time.time())
        points = [
            Metric(metric_name(name), float(value), now, int(line["step"]))
            for line in lines
            for name, value in line.items()
            if name != "step" and _finite(value) and int(line["step"]) > last.get(metric_name(name), -1)
        ]
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            self.client.log_batch(run, metrics=batch)
            last |= {point.key: point.step for point in batch}

    def _log_result(self, run: str, result: Entry, status: Status) -> None:
        """The numbers of a result, and what made them."""
        from mlflow.entities import Metric, RunTag

        made = result.get("environment", {})
        tags = {
            name: str(made[name]) for name in ("device", "devices", "threads", "torch", "python", "cpu") if name in made
        }
        if "commit" in made:
            tags["git"] = git(made)
        if status.error:
            tags["error"] = status.error
        has = self._final[run]
        values = {name: value for name, value in results(result).items() if has.get(name) != value}
        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, 0) for name, value in values.items()]
        if metrics or tags:
            self.client.log_batch(run, metrics=metrics, tags=[RunTag(*item) for item in _tags(tags).items()])
        has |= values

    def _set_state(self, run: str, state: str, ended: float | None) -> None:
        if state == "RUNNING":
            self.client.update_run(run, status=state)
        else:
            self.client.set_terminated(run, state, round(1000 * (ended or time.time())))

    def end(self, run: str, state: str) -> None:
        """Mark a run that its process left RUNNING as what it is by now."""
        self._set_state(run, state, None)


def running(uri: str) -> list[Any] | None:
    """The runs that MLflow takes to be running, for whoever looks; makes nothing.

    Returns:
        None if it has no experiment of ours. A run has the tags `uid` (a stage) or `key` (an invocation).
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    return list(client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'", max_results=BATCH))


def behind(store: Store, ledger: Ledger, uri: str) -> dict[str, list[str]]:
    """What the store has and an MLflow lacks, as far as the ledger knows: invocation -> uids of stages."""
    found = {}
    for key, entry in ledger.invocations.items():
        done = ledger.logged.get(uri, {}).get(key, {}).get("stages", {})
        signs = signs_of(store, {uid: store.status(uid) for uid in entry["stages"]})
        stale = [uid for uid, sign in signs.items() if done.get(uid, {}).get("sign") != sign]
        if stale:
            found[key] = stale
    return found


def signs_of(store: Store, statuses: Mapping[str, Status]) -> dict[str, str]:
    """uid -> what changes whenever there is something new to log of a stage; nothing of those never begun."""
    return {uid: _sign(store, uid, status) for uid, status in statuses.items() if status.state != "new"}


def _sign(store: Store, uid: str, status: Status) -> str:
    if status.state == "done":
        content = (store.folder(uid) / "result.json").read_bytes()
        return f"done {hashlib.sha256(content).hexdigest()[:16]}"
    metrics = store.folder(uid) / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    return f"{status.state} {status.attempts} {size}"


def state_of(entry: Entry, statuses: Mapping[str, Status]) -> str:
    """How an invocation stands, in MLflow's words."""
    if entry.get("state"):
        return str(entry["state"])
    states = {status.state for status in statuses.values()}
    if "running" in states or owned(entry.get("owner")):
        return "RUNNING"
    if states == {"done"}:
        return "FINISHED"
    return "FAILED" if "failed" in states else "KILLED"


# --- from the store's words to MLflow's


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """A stage's config as flat parameters, without what does not alter its result. Long values are cut, with a note."""
    inner = {name: value for name, value in config.get("config", {}).items() if name not in ("where", "kind")}
    return {name[:250]: _cut(_plain(value)) for name, value in flat(inner).items()}


def results(result: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a result by metric name: result/top1, result/final/loss."""
    found = flat({name: value for name, value in result.items() if name != "environment"}).items()
    return {f"result/{metric_name(name.replace('.', '/'))}": float(value) for name, value in found if _finite(value)}


def metric_name(name: str) -> str:
    """A name that MLflow takes as a metric's: it has no sign for @, + or =."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _content(entry: Entry) -> str:
    """Changes with what a sweep or a trial says of itself; empty for a study."""
    told = {name: entry[name] for name in ("params", "values", "curve", "tags") if entry.get(name)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] if told else ""


def _cut(text: str) -> str:
    note = f"... (cut; {len(text)} characters)"
    return text if len(text) <= LONGEST else text[: LONGEST - len(note)] + note


def _common(entry: Entry) -> dict[str, str]:
    return {name: entry[name] for name in ("study", "profile", "scale", "git")} | {"mlflow.source.name": EXPERIMENT}


def _about(config: Mapping[str, Any], rows: str) -> dict[str, str]:
    role = config.get("config", {}).get("where", {}).get("role", "")
    return {"row": rows, "seed": str(config.get("seed", "")), "kind": config.get("kind", ""), "role": role}


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: _cut(value) for name, value in tags.items()}


def git(made: Mapping[str, Any]) -> str:
    return f"{made['commit']}{'+dirty' if made['dirty'] else ''}" if made["commit"] else "unknown"


def _digests(files: Mapping[str, str]) -> dict[str, str]:
    return {
        name: hashlib.sha256(Path(path).read_bytes()).hexdigest()
        for name, path in files.items()
        if Path(path).is_file()
    }


@contextmanager
def _database(uri: str) -> Iterator[None]:
    """Hold a database while it is opened; MLflow makes its tables then, if there are none."""
    if not uri.startswith("sqlite:///"):
        with _alone(uri) if _is_database(uri) else nullcontext():
            yield
        return

    def make(path: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()

    with sqlite.held(Path(uri.removeprefix("sqlite:///").partition("?")[0]), make):
        yield


def _is_database(uri: str) -> bool:
    """Whether a tracking URI names a database, and not a server."""
    return uri.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Be the only one of these commands, on any machine, that opens a database of a server.

    Two that make the tables of a new one at the same time break each other. What is wrong with the address is raised
    here at once; MLflow would try for minutes.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # the lock goes with the connection
            connection.execute(sqlalchemy.text("select pg_advisory_lock(hashtext('fima-ablate mlflow'))"))
        yield
