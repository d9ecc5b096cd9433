"""A sweep: where to search beyond the paper's grid, by which measure, how long. Read from YAML; imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from ablations import plan as planning
from ablations.diagnoses import DIAGNOSES
from ablations.dotted import defaults_of, fields, flatten, problems
from ablations.located import (
    Node,
    SpecError,
    find_file,
    items_of,
    keys_of,
    name_of,
    number_of,
    one_of,
    read,
    text_of,
)
from ablations.plan import Plan
from ablations.profile import Profile
from ablations.resolve import Resolved, resolve
from ablations.space import Point, Space, space_of
from ablations.study import COSTS, METRICS, OPTIONAL, STUDIES, TESTED, Row, Study, seeds_of
from fima.config import Settings
from fima.datasets import Data

SWEEPS = STUDIES / "sweeps"
KEYS = ("sweep", "title", "base", "space", "constraints", "objective", "sampler", "pruner", "seeds", "trials",
        "minutes", "validation", "final")  # fmt: skip
SAMPLERS = ("tpe", "random", "grid", "cmaes", "nsga2")
DIRECTIONS = ("maximize", "minimize")
PRUNERS = ("none", "median", "percentile", "halving", "hyperband")
STEP_COSTS = ("gflop_per_step", "seconds_per_step")  # of a pre-training's result, beside those of tables
MEASURES = (*(metric for metric in METRICS if metric not in DIAGNOSES), *STEP_COSTS)
LOOKS = 60  # draws by which a space is tried before anything runs


@dataclass(frozen=True)
class Objective:
    """What trials are judged by."""

    metric: str
    direction: Literal["maximize", "minimize"]

    @property
    def judges(self) -> bool:
        """Whether it is measured on the held-out part of train, and not a cost."""
        return self.metric not in (*COSTS, *STEP_COSTS)


@dataclass(frozen=True)
class Sampler:
    """How the next trial is chosen."""

    name: str = "tpe"
    seed: int = 0
    startup: int = 8  # trials at random before TPE or CMA-ES think
    population: int = 16  # of NSGA-II


@dataclass(frozen=True)
class Pruner:
    """Which trials are ended early, by the kNN accuracy of the encoder while it is pre-trained."""

    name: str = "none"
    every: int = 50  # steps from one look at the encoder to the next
    videos: int = 500  # at most, of each side
    startup: int = 5  # trials that run to their end before any is pruned
    warmup: int = 0  # steps of a trial before it may be pruned
    percentile: float = 25.0  # of trials that go on


@dataclass(frozen=True)
class Sweep:
    """One search."""

    sweep: str
    title: str
    space: Space
    objectives: tuple[Objective, ...]
    sampler: Sampler
    pruner: Pruner
    seeds: tuple[int, ...]  # of each trial; its value is their mean
    trials: int | None  # None: every cell of the grid
    minutes: float | None  # after which no trial is begun
    held_out: int  # one n-th of train's groups judges
    final_seeds: tuple[int, ...] | None  # of the test of the best trial and the default; None: the profile's
    final_metrics: tuple[str, ...]
    path: Path

    @property
    def metrics(self) -> tuple[str, ...]:
        """What a trial measures, as a table would name it."""
        own = tuple(o.metric for o in self.objectives if o.metric not in STEP_COSTS)
        return own or ("parameters",)  # comes with every pre-training

    def study(self, points: Mapping[str, Point], metrics: Sequence[str]) -> Study:
        """A table with a row for each point, and the row "default" that sets nothing."""
        rows = [Row("default", {}, {}, True, str(self.path))]
        rows += [Row(label, self.space.layer(point, label), {}, False, label) for label, point in points.items()]
        return Study(self.sweep, self.title, {}, self.space.base, tuple(rows), None, tuple(metrics), (), self.path)

    def resolved(self, point: Point, profile: Profile, overrides: Sequence[str]) -> Resolved:
        """All that a trial runs with."""
        return resolve(self.study({"trial": point}, self.metrics), self._row(point), profile, overrides)

    def _row(self, point: Point, label: str = "trial") -> Row:
        return Row(label, self.space.layer(point, label), {}, False, label)

    def trial(self, number: int, point: Point, profile: Profile, overrides: Sequence[str]) -> Plan:
        """The stages of a trial: pre-trained and judged within train."""
        label = f"trial {number}"
        study = replace(self.study({}, self.metrics), rows=(self._row(point, label),))
        profile = replace(profile, references=())
        held = [f"data.{role}.held_out={self.held_out}" for role in _held_roles(self, profile, overrides)]
        plan = planning.build([study], profile, [*overrides, *held], self.seeds, self.metrics)
        return plan if self.pruner.name == "none" else self._probed(plan)

    def _probed(self, plan: Plan) -> Plan:
        """The same stages, pre-training being looked at now and then on the videos that judge; uids stay."""
        role = next(o.metric for o in self.objectives if o.judges).partition("/")[2]
        probe = {
            "data": plan.rows[0].resolved.data[role].model_dump(mode="json"),
            "every": self.pruner.every,
            "videos": self.pruner.videos,
        }
        stages = {
            uid: replace(stage, config={**stage.config, "where": {**stage.config["where"], "probe": probe}})
            if stage.kind == "pretrain"
            else stage
            for uid, stage in plan.stages.items()
        }
        return replace(plan, stages=stages)

    def final(self, points: Mapping[str, Point], profile: Profile, overrides: Sequence[str]) -> Plan:
        """The stages that compare points with the default on the whole of train and on test."""
        study = self.study(points, self.final_metrics)
        return planning.build([study], profile, overrides, self.final_seeds or profile.seeds, self.final_metrics)

    def digest(self, profile: Profile, overrides: Sequence[str]) -> str:
        """8 hexadecimal digits over what makes trials comparable: not over how many, nor over who chooses them."""
        point = next(self.space.draws(1))
        stages = self.trial(0, point, profile, overrides).stages
        identity = [
            self.sweep, self.space.describe(), [rule.text for rule in self.space.constraints],
            [o.metric if o.direction == usual(o.metric) else [o.metric, o.direction] for o in self.objectives],
            list(self.seeds), list(stages),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]


def _held_roles(sweep: Sweep, profile: Profile, overrides: Sequence[str]) -> list[str]:
    """Tested roles, and pre-training where it sees the same data set as one of them."""
    data = sweep.resolved({}, profile, overrides).data
    measured = {objective.metric.rpartition("/")[2] for objective in sweep.objectives}
    tested = [role for role in TESTED if role not in OPTIONAL or role in measured]
    same = any(data["pretrain"].name == data[role].name for role in tested)
    return [*(["pretrain"] if same else []), *tested]


def sweep_files() -> list[Path]:
    """The sweeps of the repository."""
    return sorted(SWEEPS.glob("*.yaml"))


def find_sweep(name: str) -> Path:
    """A sweep by path, or by name in the repository.

    Raises:
        SpecError: no such file; the sweeps that exist.
    """
    return find_file(name, "sweep", sweep_files())


def load_sweep(path: Path | str) -> Sweep:
    """Read a sweep and check all that can be checked without a profile.

    Raises:
        SpecError: `file:line: law, value, names that exist`.
    """
    path = find_sweep(str(path))
    root = read(path)
    part = keys_of(root, "a sweep", KEYS, ["sweep", "title", "space", "objective"])
    name = name_of(part["sweep"], "sweep")
    base = flatten(part["base"], Settings) if "base" in part else {}
    for problem in problems(Settings, defaults_of(Settings), base):
        if not problem.joint:
            raise SpecError(problem.line)
    space = space_of(part["space"], part.get("constraints"), base)
    objectives = _objectives(part["objective"])
    sampler = _sampler(part.get("sampler"), space, objectives)
    pruner = _pruner(part.get("pruner"), objectives)
    trials = _whole(part["trials"], "trials", 1) if "trials" in part else None
    if trials is None and sampler.name != "grid":
        raise SpecError(f"{root.where}: a sweep needs trials, their number (only a grid has one of its own)")
    judges = tuple(objective.metric for objective in objectives if objective.judges)
    final = keys_of(part["final"], "final", ["seeds", "metrics"]) if "final" in part else {}
    return Sweep(
        sweep=name,
        title=text_of(part["title"], "title"),
        space=space,
        objectives=objectives,
        sampler=sampler,
        pruner=pruner,
        seeds=seeds_of(part["seeds"]) if "seeds" in part else (0,),
        trials=trials,
        minutes=_positive(part["minutes"], "minutes") if "minutes" in part else None,
        held_out=_validation(part["validation"]) if "validation" in part else 4,
        final_seeds=seeds_of(final["seeds"]) if "seeds" in final else None,
        final_metrics=tuple(one_of(item, "metric", METRICS) for item in items_of(final["metrics"], "final.metrics"))
        if "metrics" in final
        else tuple(dict.fromkeys((*judges, *COSTS))),
        path=path,
    )


def check(sweep: Sweep, profile: Profile, overrides: Sequence[str]) -> None:
    """Try the space under a profile before anything runs.

    Raises:
        SpecError: a combination that no constraint excludes is refused by the settings, an override sets what is
            searched, or a parameter changes nothing.
    """
    from ablations.resolve import parse_overrides

    for name in parse_overrides(overrides).settings:
        if any(parameter.name == name for parameter in sweep.space.parameters):
            raise SpecError(f"override {name}: the sweep searches it; remove one")
    acts: set[str] = set()
    _check_held_out(sweep.resolved({}, profile, overrides).data)
    for point in sweep.space.draws(LOOKS):
        active = _active(sweep, point, profile, overrides)
        for parameter in sweep.space.parameters:
            if parameter.name in point and parameter.name not in acts:
                acts |= {parameter.name} if parameter.name in _leaves(active) else set()
    for parameter in sweep.space.parameters:
        if parameter.name not in acts:
            raise SpecError(f"{parameter.where}: {parameter.name} changes nothing under these losses and settings; "
                            "remove it from space, or switch on in base what uses it")  # fmt: skip


def _check_held_out(data: Mapping[str, Data]) -> None:
    """That what is held out of a tested role is held out of pre-training too.

    Raises:
        SpecError: both take the same videos by different lists, whose parts do not agree.
    """
    seen = data["pretrain"]
    for role in TESTED:
        differs, tested = "", data[role]
        if seen.name == tested.name == "embedded":
            alike = [other.embedded.model_dump(exclude={"train", "test"}) for other in (seen, tested)]
            differs = "embedded.train" * (alike[0] == alike[1] and seen.embedded.train != tested.embedded.train)
        elif seen.name == tested.name:
            differs = "fold" * (seen.fold != tested.fold)
        elif "folder" in (seen.name, tested.name) and seen.root is not None:  # which lists whatever is there
            differs = "name" * (seen.root == tested.root)
        if differs:
            raise SpecError(
                f"data.pretrain and data.{role} hold the same videos and differ in {differs}: pre-training would see "
                f"what the sweep holds out to judge on; give both the same {differs}"
            )


def _active(sweep: Sweep, point: Point, profile: Profile, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of a point that act."""
    try:
        return sweep.resolved(point, profile, overrides).settings.active()
    except SpecError as error:
        shown = ", ".join(f"{name} {value}" for name, value in point.items())
        where = sweep.space.parameters[0].where.rpartition(":")[0]
        reason = str(error).removeprefix("trial: ")
        raise SpecError(f"{where}: the space holds {shown}, which cannot run: {reason}; exclude it by a constraint, or "
                        "narrow the space") from None  # fmt: skip


def _leaves(tree: Mapping[str, Any], above: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        found.add(above + name)
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{above}{name}.")
    return found


def paper_points(sweep: Sweep, study: Study) -> tuple[dict[str, Point], dict[str, str]]:
    """Rows of a study as points of the space, and why others are none: (label -> point, label -> reason)."""
    inside: dict[str, Point] = {}
    outside: dict[str, str] = {}
    names = {parameter.name for parameter in sweep.space.parameters}
    fixed = {**defaults_of(Settings), **{name: node.plain() for name, node in sweep.space.base.items()}}
    for row in study.rows:
        if row.encoder is not None:
            outside[row.label] = "its encoder is given, and nothing of it can be varied"
            continue
        stated = {name: node.plain() for name, node in {**study.base, **row.layer}.items()}
        values = {**defaults_of(Settings), **stated}
        other = [name for name in fields(Settings) if name not in names and values[name] != fixed[name]]
        if other:
            outside[row.label] = f"it sets {', '.join(other)}, which the sweep keeps as in its base"
            continue
        try:
            inside[row.label] = sweep.space.locate(values)
        except ValueError as error:
            outside[row.label] = str(error)
    return inside, outside


# --- parts of the YAML


def usual(metric: str) -> Literal["maximize", "minimize"]:
    """The direction in which a metric is better."""
    return "minimize" if metric in (*COSTS, *STEP_COSTS) else "maximize"


def _objectives(node: Node) -> tuple[Objective, ...]:
    entries = node.value if isinstance(node.value, list) else [node]
    found = []
    for entry in entries:
        if not isinstance(entry.value, dict):
            metric, direction = one_of(entry, "metric", MEASURES), None
        else:
            part = keys_of(entry, "an objective", ["metric", "direction"], ["metric"])
            metric = one_of(part["metric"], "metric", MEASURES)
            direction = one_of(part["direction"], "direction", DIRECTIONS) if "direction" in part else None
        found.append(Objective(metric, direction or usual(metric)))  # type: ignore[arg-type]
    names = [objective.metric for objective in found]
    if not found or len(found) > 2 or len(set(names)) < len(names):
        raise SpecError(f"{node.where}: objective takes one metric, or two different ones, got "
                        f"{', '.join(names) or 'none'}")  # fmt: skip
    if not any(objective.judges for objective in found):
        raise SpecError(f"{node.where}: objective needs an accuracy, such as lin/ucf101: the cheapest model is no find")
    return tuple(found)


def _sampler(node: Node | None, space: Space, objectives: Sequence[Objective]) -> Sampler:
    part = keys_of(node, "sampler", ["name", "seed", "startup", "population"]) if node else {}
    found = Sampler()
    name = one_of(part["name"], "sampler", SAMPLERS) if "name" in part else "nsga2" if len(objectives) > 1 else "tpe"
    found = replace(found, name=name)
    for key, least, owners in (("seed", 0, SAMPLERS), ("startup", 0, ("tpe", "cmaes")), ("population", 2, ("nsga2",))):
        if key in part:
            if name not in owners:
                raise SpecError(f"{part[key].where}: sampler {name} has no {key}; {' and '.join(owners)} have")
            value: Any = _whole(part[key], f"sampler.{key}", least)
            found = replace(found, **{key: value})
    place = part["name"].where if "name" in part else space.parameters[0].where
    if name == "cmaes":
        if len(objectives) > 1:
            raise SpecError(f"{place}: sampler cmaes takes one objective; take nsga2 or tpe")
        if sum(parameter.form != "choices" for parameter in space.parameters) < 2:
            raise SpecError(f"{place}: sampler cmaes needs two numbers or more in space; take tpe")
    if name == "grid":
        space.cells()
    return found


def _pruner(node: Node | None, objectives: Sequence[Objective]) -> Pruner:
    part = (
        keys_of(node, "pruner", ["name", "every", "videos", "startup", "warmup", "percentile"], ["name"])
        if node
        else {}
    )
    if not part:
        return Pruner()
    name = one_of(part["name"], "pruner", PRUNERS)
    found = Pruner(name)
    owners = {"startup": ("median", "percentile"), "warmup": ("median", "percentile"), "percentile": ("percentile",)}
    for key, least in (("every", 1), ("videos", 2), ("startup", 0), ("warmup", 0)):
        if key in part:
            if name not in owners.get(key, PRUNERS):
                raise SpecError(f"{part[key].where}: pruner {name} has no {key}; {' and '.join(owners[key])} have")
            value: Any = _whole(part[key], f"pruner.{key}", least)
            found = replace(found, **{key: value})
    if "percentile" in part:
        share = number_of(part["percentile"], "pruner.percentile")
        if name != "percentile" or not 0 < share < 100:
            got = f"{part['percentile'].shown()} of {name}"
            raise SpecError(
                f"{part['percentile'].where}: percentile is of pruner percentile and between 0 and 100, got {got}"
            )
        found = replace(found, percentile=share)
    if name != "none" and len(objectives) > 1:
        raise SpecError(f"{part['name'].where}: with two objectives no trial can be pruned; take pruner none")
    return found


def _whole(node: Node, what: str, least: int) -> int:
    value = node.plain()
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SpecError(f"{node.where}: {what} must be a whole number from {least} up, got {node.shown()}")
    return value


def _positive(node: Node, what: str) -> float:
    value = number_of(node, what)
    if value <= 0:
        raise SpecError(f"{node.where}: {what} must be above 0, got {node.shown()}")
    return value


def _validation(node: Node) -> int:
    """1/4 as 4."""
    try:
        share = Fraction(text_of(node, "validation"))
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if share.numerator != 1 or share.denominator < 2:
        raise SpecError(f"{node.where}: validation must be one n-th of train, such as 1/4, got {node.shown()}")
    return share.denominator
