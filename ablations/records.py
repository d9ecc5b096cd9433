"""Result records that travel with the tables: reports/<profile>/results.jsonl. Imports no torch.

A line is a stage: its uid, seed, needs, settings and numbers, the machine that ran it; no checkpoint. From these lines
`fima-ablate report` writes every table and picture again in a fresh clone, without training. Settings and machines
that stages share are lines of their own, named by a digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.store import replace_file
from ablations.uids import RESULTS

if TYPE_CHECKING:
    from ablations.plan import Plan
    from ablations.store import Store
    from ablations.uids import Stage

FILE = "results.jsonl"
LEFT = ("predictions", "final")  # of a result: long, or not needed for any report
SHARED = ("settings", "environment")


class Records:
    """What results.jsonl holds, by uid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found = _read(path)

    def __len__(self) -> int:
        return len(self._found)

    def result(self, uid: str) -> dict[str, Any] | None:
        """The numbers of a stage, as the store would give them but for what is left out."""
        record = self._found.get(uid)
        return None if record is None else {**record["result"], "environment": record["environment"]}

    def take(self, plan: Plan, store: Store) -> int:
        """Take over what the store has of a plan; records that older code made go.

        Where the store pre-trained a kept encoder again, its result is the one: what was measured from the other
        training goes too, unless the store has it, so that the numbers of a row are of one encoder. A random encoder is
        the same wherever it was drawn. What was only measured again and came out the same stays as it is, machine and
        time included: the demo shares a few stages with larger profiles.

        Returns:
            How many records of other trainings went.
        """
        kept = {uid: record for uid, record in self._found.items() if RESULTS.get(record["kind"]) == record["version"]}
        new = {uid: _record(stage, found) for uid, stage in plan.stages.items() if (found := store.result(uid))}
        lost = {
            uid
            for uid, record in new.items()
            if uid in kept and record["kind"] == "pretrain" and _line(kept[uid]) != _line(record)
        }
        waiting = set(lost)
        while waiting:  # what needs one of these, and what needs that
            waiting = {uid for uid, record in kept.items() if waiting & set(record["needs"])} - lost
            lost |= waiting
        old = {uid: record for uid, record in kept.items() if uid not in lost}
        self._found = old | {uid: record for uid, record in new.items() if not _measured_the_same(record, old.get(uid))}
        return len(lost - new.keys())

    def write(self) -> None:
        """Put the file in place whole, where it would differ."""
        text = _written(self._found)
        if self._found and (not self.path.is_file() or self.path.read_text(encoding="utf-8") != text):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, text)


def _measured_the_same(record: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether they differ in nothing but when and where; of a pre-training that does not tell the encoders apart."""
    if other is None or record["kind"] == "pretrain":
        return False
    one, two = ({**entry, "environment": {}, "result": {**entry["result"], "seconds": 0}} for entry in (record, other))
    return _line(one) == _line(two)


def _record(stage: Stage, result: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: part for name, part in stage.config.items() if name not in ("where", "kind", "seed")}
    return {
        "uid": stage.uid,
        "kind": stage.kind,
        "seed": stage.seed,
        "needs": list(stage.needs),
        "version": config.pop("version"),
        "settings": config.pop("settings", {}),
        "config": config,
        "result": {name: part for name, part in result.items() if name not in (*LEFT, "environment")},
        "environment": result.get("environment", {}),
    }


def _written(records: Mapping[str, Mapping[str, Any]]) -> str:
    shared: dict[str, Any] = {}
    lines = []
    for uid in sorted(records):
        record = dict(records[uid])
        for name in SHARED:
            digest = hashlib.sha256(_line(record[name]).encode()).hexdigest()[:8]
            shared[digest] = record[name]
            record[name] = digest
        result = record["result"]
        if "per_video" in result:
            record["result"] = {**result, "per_video": {k: _packed(v) for k, v in result["per_video"].items()}}
        lines.append(_line(record))
    heads = [_line({"shared": digest, "value": shared[digest]}) for digest in sorted(shared)]
    return "".join(f"{line}\n" for line in heads + lines)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Records of a file; none where there is no file.

    Raises:
        ValueError: a line is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    shared: dict[str, Any] = {}
    records: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):  # a name may hold other ends of line
        try:
            entry = json.loads(line)
            if "shared" in entry:
                shared[entry["shared"]] = entry["value"]
                continue
            for name in SHARED:
                entry[name] = shared[entry[name]]
            per_video = entry["result"].get("per_video")
            if per_video is not None:
                entry["result"]["per_video"] = {name: _unpacked(counts) for name, counts in per_video.items()}
            records[entry["uid"]] = entry
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path}:{number}: no record of a result; restore the file, or delete it") from None
    return records


def _packed(counts: list[int]) -> str | list[int]:
    """A digit a video where digits do: a quarter of the bytes, and still to be read."""
    return "".join(map(str, counts)) if all(0 <= count <= 9 for count in counts) else counts


def _unpacked(counts: str | list[int]) -> list[int]:
    return [int(digit) for digit in counts] if isinstance(counts, str) else counts


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
