"""Whether a store is sound, and what can be put right without losing a result. Imports no torch."""

from __future__ import annotations

import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from ablations.finding import SHOWN, Finding, named, size
from ablations.store import DRAFT, Busy, Store, left_drafts, read_json

OBJECTS = ("config.json", "status.json", "progress.json", "result.json")
WEIGHTS, FEATURES = "checkpoint.pt", "features.npz"
KEPT = {
    "pretrain": WEIGHTS,
    "untrained": WEIGHTS,
    "given": WEIGHTS,
    "features": FEATURES,
    "energy": FEATURES,
}  # what later stages read


def stages(store: Store) -> Iterator[Finding]:
    """How many stages are done, run, were interrupted or failed."""
    statuses = {uid: store.status(uid) for uid in store.uids()}
    if not statuses:
        yield Finding("ok", "stages", f"{store.root}: no stages yet")
        return
    counts = Counter(status.state for status in statuses.values())
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    yield Finding("ok", "stages", f"{store.root}: {len(statuses)} stages: {told}")
    interrupted = [uid for uid, status in statuses.items() if status.state == "interrupted"]
    if interrupted:
        what = f"{len(interrupted)} stages lost their process: {named(interrupted)}"
        yield Finding("warning", "stages", what, "the same run command goes on with them")
    failed = [(uid, status.error) for uid, status in statuses.items() if status.state == "failed"]
    for uid, error in failed[:SHOWN]:
        what = f"{store.config(uid).get('title') or 'a stage'} ({uid}) failed: {error}"
        yield Finding("warning", "stages", what, "the same run command tries it again")
    if len(failed) > SHOWN:
        what = f"{len(failed) - SHOWN} more stages failed"
        yield Finding("warning", "stages", what, "fima-ablate status names them")


def files(store: Store) -> Iterator[Finding]:
    """Files that no kill can leave as they are: the disk did, or a hand."""
    found = damaged(store)
    for path in found:
        if path.name == "result.json":
            way_out = "doctor --fix sets the file aside, and the same run command runs the stage again"
        else:
            way_out = "doctor --fix sets the file aside; no result is lost"
        yield Finding("problem", "files", f"{path}: holds no whole JSON object", way_out)
    for uid in _folders(store):
        path = store.folder(uid) / "metrics.jsonl"
        number = _bad_line(path)
        if number is not None:
            found.append(path)
            yield Finding("problem", "files", f"{path}:{number}: is no JSON object", "delete that line")
    if not found:
        yield Finding("ok", "files", "every JSON file of the store is whole")


def damaged(store: Store) -> list[Path]:
    """JSON files of stages that hold no object."""
    paths = (store.folder(uid) / name for uid in _folders(store) for name in OBJECTS)
    return [path for path in paths if path.exists() and read_json(path) is None]


def _bad_line(path: Path) -> int | None:
    """The first line of metrics that is no object; the last may be cut short, as a kill leaves it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            if not isinstance(json.loads(line), dict):
                return number
        except json.JSONDecodeError:
            return number
    return None


def drafts(store: Store) -> Iterator[Finding]:
    """What killed processes left half written."""
    found = drafts_of(store)
    if found:
        held = sum(path.stat().st_size for path in found if path.exists())
        what = f"{len(found)} drafts of dead processes hold {size(held)}: {named([str(path) for path in found])}"
        yield Finding("warning", "drafts", what, "doctor --fix removes them, as does the next run of their stages")
    else:
        yield Finding("ok", "drafts", "no drafts of dead processes")


def drafts_of(store: Store) -> list[Path]:
    """Drafts in folders of stages that nobody runs, and old ones of dead processes beside them."""
    found = []
    for uid in _folders(store):
        paths = [path for path in store.folder(uid).glob(".*") if DRAFT.fullmatch(path.name)]
        if paths and not store.locked(uid):
            found += paths
    return sorted(found + left_drafts([*store.root.glob(".*"), *store.root.parent.glob(".mlflow.db.*")]))


def checkpoints(store: Store) -> Iterator[Finding]:
    """Whether stages that are done have kept what later ones read."""
    known = store.uids()
    users = defaultdict(list)
    for uid in known:
        for need in store.config(uid).get("needs", []):
            users[need].append(uid)
    broken: list[Path] = []
    missing: list[Path] = []  # what nothing waits for
    needed: list[Path] = []
    for uid in known:
        name = KEPT.get(uid.partition("-")[0])
        path, done = store.folder(uid) / (name or WEIGHTS), store.result(uid) is not None
        if path.exists() and not zipfile.is_zipfile(path):
            broken.append(path)
        elif name and done and not path.exists():
            waits = any(store.result(user) is None for user in users[uid])
            (needed if waits else missing).append(path)
    for path in broken:
        done = store.result(path.parent.name) is not None
        way_out = f"delete {path.parent if done else 'the file'}; the stage then runs again"
        yield Finding("problem", "checkpoints", f"{path}: is damaged", way_out)
    way_out = "put the files back, or delete their folders, and the same run command makes what it needs again"
    for paths, waits in ((needed, True), (missing, False)):
        if paths:
            what = f"{len(paths)} stages are done, and what later ones read of them is missing"
            what += f"{', which some wait for' if waits else ''}: {named([str(path) for path in paths])}"
            yield Finding("problem" if waits else "warning", "checkpoints", what, way_out)
    gone = sorted(need for need in users if need not in known)
    if gone:
        what = f"{len(gone)} stages are gone whose results others were made from: {named(gone)}"
        yield Finding("warning", "checkpoints", what, "the same run command runs them again")
    if known and not (broken or missing or needed or gone):
        yield Finding("ok", "checkpoints", "every stage that is done has kept what later ones read")


def fix(store: Store) -> Iterator[Finding]:
    """Put right what loses nothing: files set aside, drafts removed, dead stages marked. Deletes no result."""
    for path in damaged(store):
        uid = path.parent.name
        try:
            with store.lock(uid):
                if read_json(path) is None:  # still
                    aside = path.replace(path.with_name(f"{path.name}.damaged"))
                    yield Finding("fixed", "files", f"{path} is now {aside.name}")
        except Busy:  # it is being run, and writes its files anew
            continue
    for path in drafts_of(store):
        if path.parent.parent == store.root:
            try:
                with store.lock(path.parent.name):
                    path.unlink(missing_ok=True)
            except Busy:
                continue
        else:
            path.unlink(missing_ok=True)
        yield Finding("fixed", "drafts", f"{path} is removed")
    for uid in store.uids():
        said = read_json(store.folder(uid) / "status.json") or {}
        if said.get("state") == "running" and store.status(uid).state == "interrupted":
            try:
                with store.lock(uid):
                    store.interrupt(uid)
            except Busy:  # it goes on
                continue
            yield Finding("fixed", "stages", f"{uid} is marked as interrupted: pid {said.get('pid')} is dead")


def _folders(store: Store) -> list[str]:
    """Folders of stages, also those whose config.json is gone."""
    return sorted({path.parent.name for name in (*OBJECTS, "lock") for path in store.root.glob(f"*/{name}")})
