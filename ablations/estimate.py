"""How long what a plan lacks will take, from what equal work took. Nothing is guessed. Imports no torch.

Two stages are equal work if they differ in nothing but the seed, the weights that they start from, and settings that
their kind does not use. A pre-training that nobody ran yet is its steps times the time of one, from another with the
same model, losses and batch or from `fima-ablate bench`; anything else is unknown until one like it was run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ablations.display import span
from ablations.store import Store, read_json
from ablations.uids import UNLABELLED, with_needs
from fima.datasets import Data, cores, training_videos

if TYPE_CHECKING:
    from ablations.plan import Plan
    from ablations.uids import Stage

BENCH = "bench.json"  # of a store
HOUR = 3_600.0  # seconds
USED = ("clip", "augment", "backbone", "compute")  # settings that an evaluation's time depends on


@dataclass(frozen=True)
class Measured:
    """A time that was taken."""

    seconds: float  # of a stage, or of a step
    place: str  # device, with the processor where that is one
    threads: int
    when: float  # Unix seconds


class Times:
    """What stages took in a store, and steps there and in its bench.json."""

    def __init__(self, store: Store) -> None:
        self.works: dict[str, list[Measured]] = defaultdict(list)
        self.steps: dict[str, list[Measured]] = defaultdict(list)
        self.videos: dict[str, int] = {}  # fingerprint of training videos -> how many there are
        known = {uid: store.config(uid) for uid in store.uids()}
        for uid, config in known.items():
            result = store.result(uid)
            made = (result or {}).get("environment", {})
            if result is None or not {"device", "threads"} <= made.keys() or not _whole(config, known):
                continue
            if made.get("devices", 1) > 1:  # what is estimated is a stage on one device
                continue
            status = store.status(uid)
            when = status.ended or 0.0
            where = place(made["device"], made.get("cpu", ""))
            if isinstance(result.get("seconds"), (int, float)):
                # of a stage that was never cut short also what came before its clock started
                once = when - status.started if when and status.started and status.attempts == 1 else 0.0
                measured = Measured(max(once, result["seconds"]), where, made["threads"], when)
                self.works[work(config, known)].append(measured)
            if config["kind"] == "pretrain" and isinstance(result.get("seconds_per_step"), (int, float)):
                measured = Measured(result["seconds_per_step"], where, made["threads"], when)
                self.steps[step(config["config"])].append(measured)
                self.videos[config["config"]["data"]["fingerprint"]] = result["videos"]
        for entry in (read_json(store.root / BENCH) or {}).get("measured", []):
            measured = Measured(entry["seconds_per_step"], entry["place"], entry["threads"], entry["time"])
            self.steps[entry["step"]].append(measured)

    @property
    def place(self) -> str | None:
        """Where the last time was taken: times of other devices say nothing about this one."""
        every = [one for group in (*self.works.values(), *self.steps.values()) for one in group]
        return max(every, key=lambda one: one.when).place if every else None


def place(device: str, cpu: str) -> str:
    """A device in words: the card, or the processor."""
    return f"cpu ({cpu})" if device == "cpu" and cpu else device


def work(config: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> str:
    """Digest of all that the time of a stage depends on, but for the machine.

    Args:
        config: of the stage: kind, config, needs, as config.json has them.
        known: the same of the stages that it needs.
    """
    kind, inner = config["kind"], config["config"]
    kept = {
        name: part for name, part in inner.items() if name not in ("seed", "version", "upstream", "where", "weights")
    }
    if kind != "pretrain" and "settings" in kept:
        kept["settings"] = {name: part for name, part in kept["settings"].items() if name in USED}
        augment = kept["settings"].get("augment", {})
        kept["settings"]["augment"] = {name: part for name, part in augment.items() if name not in UNLABELLED}
    read = [work(known[need], known) for need in config["needs"] if known[need]["kind"] in ("features", "energy")]
    return _digest([kind, kept, inner.get("where", {}).get("recompute", False), read])


def step(config: Mapping[str, Any]) -> str:
    """Digest of all that the time of a pre-training's step depends on, but for the machine."""
    settings = dict(config["settings"])
    settings["optim"] = {"batch": settings["optim"]["batch"]}
    return _digest([settings, config.get("where", {}).get("recompute", False)])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _whole(config: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a stage's config and those of what it needs are there: a file may be damaged, a folder deleted."""
    return {"kind", "config", "needs"} <= config.keys() and all(
        need in known and _whole(known[need], known) for need in config["needs"]
    )


@dataclass(frozen=True)
class Part:
    """What a study, or all of them, still needs."""

    study: str
    stages: int
    missing: int
    begun: int  # of the missing: they have a checkpoint or run
    seconds: float  # of those that are known, one after the other
    unknown: Mapping[str, int]  # kind -> stages of which nothing is known

    def as_json(self, estimate: Estimate) -> dict[str, Any]:
        """For programs; `hours` is what one waits, `gpu_hours` what is paid for."""
        hours = self.seconds / HOUR
        return {
            "study": self.study,
            "stages": self.stages,
            "missing": self.missing,
            "begun": self.begun,
            "seconds": self.seconds,
            "hours": hours / estimate.jobs,
            "gpu_hours": hours if estimate.gpu else None,
            "unknown": dict(self.unknown),
        }

    def line(self, estimate: Estimate, width: int) -> str:
        """For people."""
        if not self.missing:
            return f"  {self.study:{width}}  nothing is missing"
        unknown = ", ".join(f"{count} {kind}" for kind, count in self.unknown.items())
        if sum(self.unknown.values()) == self.missing:
            times = "unknown"
        else:
            times = ("at least " if unknown else "") + span(self.seconds / estimate.jobs)
            times += f", {self.seconds / HOUR:.3g} GPU-hours" if estimate.gpu else ""
        line = f"  {self.study:{width}}  {times} for {self.missing} of {self.stages} stages"
        line += f", {self.begun} of them begun" if self.begun else ""
        return f"{line}; never measured: {unknown}" if unknown and times != "unknown" else line


@dataclass(frozen=True)
class Estimate:
    """What a plan still needs."""

    place: str | None  # where the times are from; None: there are none
    threads: tuple[int, ...]  # that they were taken with
    wanted: int  # threads that `jobs` leaves a stage here
    jobs: int
    parts: tuple[Part, ...]  # a study each
    every: Part  # each shared stage once

    @property
    def gpu(self) -> bool:
        return self.place is not None and self.place.startswith("cuda")

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "place": self.place,
            "threads": list(self.threads),
            "jobs": self.jobs,
            "studies": [part.as_json(self) for part in self.parts],
            "all": self.every.as_json(self),
        }

    def lines(self) -> list[str]:
        """For people."""
        if not self.every.missing:
            return ["time: nothing is missing"]
        if self.place is None:
            return ["time: unknown, for nothing like it was run here; fima-ablate bench measures steps of pre-training"]
        head = f"time for what is missing, as on {self.place}"
        if not self.gpu and self.threads:
            head += f" with {' or '.join(map(str, self.threads))} thread{'s' * (self.threads != (1,))} a stage"
        head += f", {self.jobs} side by side" if self.jobs > 1 else ""
        parts = [*self.parts, self.every] if len(self.parts) > 1 else [self.every]
        width = max(len(part.study) for part in parts)
        lines = [head, *(part.line(self, width) for part in parts)]
        if not self.gpu and self.threads and self.threads != (self.wanted,):
            lines.append(f"  --jobs {self.jobs} would leave a stage {self.wanted} threads here: other times than these")
        if self.every.unknown.get("pretrain"):
            lines.append("  fima-ablate bench measures a step of pre-trainings; evaluations are known once one has run")
        return lines


def of(plan: Plan, store: Store, jobs: int = 1) -> Estimate:
    """What a plan still needs.

    Args:
        plan: the stages.
        store: what is done, how far the rest is, and what equal work took.
        jobs: stages side by side, which then share the cores.
    """
    times, wanted = Times(store), max(1, cores() // jobs)
    known = {
        uid: {"kind": stage.kind, "config": stage.config, "needs": stage.needs} for uid, stage in plan.stages.items()
    }
    used: set[int] = set()
    left: dict[str, float | None] = {}
    begun: set[str] = set()
    for uid, stage in plan.stages.items():
        status = store.status(uid)
        if status.state == "done":
            continue
        whole = _whole_time(stage, times, work(known[uid], known), wanted, used)
        rest = _rest(store, uid, status.state)
        if rest < 1 or status.state == "running":
            begun.add(uid)
        left[uid] = None if whole is None else whole * rest
    studies = _studies(plan)
    parts = tuple(_part(study, uids, left, begun, plan.stages) for study, uids in studies.items())
    every = _part(parts[0].study if len(parts) == 1 else "all", plan.stages, left, begun, plan.stages)
    return Estimate(times.place, tuple(sorted(used)), wanted, jobs, parts, every)


def _whole_time(stage: Stage, times: Times, digest: str, wanted: int, used: set[int]) -> float | None:
    """Seconds of a stage from its beginning; None if nothing like it was measured. Notes in `used` the threads."""
    found = _usual(times.works.get(digest, ()), times.place, wanted, used)
    if found is not None or stage.kind != "pretrain":
        return found
    pace = _usual(times.steps.get(step(stage.config), ()), times.place, wanted, used)
    return None if pace is None else _steps(stage, times) * pace


def _usual(measured: Iterable[Measured], where: str | None, wanted: int, used: set[int]) -> float | None:
    """Median of the times of one device, with the threads that are wanted if there are such."""
    here = [one for one in measured if one.place == where]
    here = [one for one in here if one.threads == wanted] or here
    used |= {one.threads for one in here}
    return median(one.seconds for one in here) if here else None


def _steps(stage: Stage, times: Times) -> int:
    """Steps of a pre-training, by the videos that one on the same data had or else by the data set's lists."""
    optim = stage.config["settings"]["optim"]
    if optim.get("steps"):
        return int(optim["steps"])
    fingerprint = stage.config["data"]["fingerprint"]
    if fingerprint not in times.videos:
        times.videos[fingerprint] = training_videos(Data.model_validate(stage.config["where"]["data"]))
    return int(optim["epochs"] * max(1, times.videos[fingerprint] // optim["batch"]))


def _rest(store: Store, uid: str, state: str) -> float:
    """Portion of a stage that is still to do: what runs goes on, and what has a checkpoint goes on from there."""
    progress = store.progress(uid)
    goes_on = state == "running" or (store.folder(uid) / "checkpoint.pt").is_file()
    if state == "new" or not goes_on or progress is None or not progress.get("steps"):
        return 1.0
    return max(0.0, 1.0 - float(progress["step"]) / float(progress["steps"]))


def _studies(plan: Plan) -> dict[str, set[str]]:
    """Study -> uids of the stages of its rows and of what they are held against."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in plan.rows:
        found[row.study.study] |= {uid for uids in row.stages.values() for uid in uids}
    for reference in plan.references:
        found[reference.study.study] |= set(with_needs(plan.stages, reference.uids))
    return found


def _part(
    study: str, uids: Iterable[str], left: Mapping[str, float | None], begun: set[str], stages: Mapping[str, Stage]
) -> Part:
    own = list(uids)
    missing = [uid for uid in own if uid in left]
    unknown = Counter(stages[uid].kind for uid in missing if left[uid] is None)
    seconds = sum(left[uid] or 0.0 for uid in missing)
    return Part(study, len(own), len(missing), len(begun.intersection(missing)), seconds, dict(sorted(unknown.items())))
