"""Studies x rows x seeds -> stages, each with a uid from all that alters its result and from nothing else.

Rows of any study that need the same stage share it. Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ablations.diagnoses import DIAGNOSES, ROLE
from ablations.located import SpecError, guess
from ablations.profile import REFERENCES, folder_of
from ablations.spec import COSTS, METRICS, Profile, Resolved, Row, Study, resolve
from fima import datasets
from fima.config import Linear
from fima.datasets import Data

Kind = Literal["pretrain", "untrained", "given", "energy", "features", "linear", "finetune", "retrieval", "motion",
               "background", "figures"]  # fmt: skip

# Raised by hand when a change of the code changes what stages of that kind produce: then they run again.
# tests/unit/test_golden.py fails where that was forgotten.
RESULTS: dict[Kind, int] = dict.fromkeys(get_args(Kind), 3)

DAY = 86_400.0  # seconds
UNLABELLED = ("difference", "static", "kept")  # of augment: pre-training's alone


@dataclass(frozen=True)
class Stage:
    """A piece of work with one result.

    `config` is JSON data. All of it but the key `where` is in the uid: `where` says where the data lie, how they are
    read and which role they play, none of which alters the result.
    """

    kind: Kind
    uid: str
    config: dict[str, Any]
    seed: int
    needs: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Cell:
    """Where a number of the table comes from: `factor` x result[key] of a stage."""

    uid: str
    key: str
    factor: float = 1.0
    per_step: bool = False  # the result is of one step on each device, the number of all

    def value(self, result: Mapping[str, Any]) -> float:
        found = float(result[self.key])
        if self.per_step:
            found = found * result["steps"] * result.get("devices", 1)
        return self.factor * found


@dataclass(frozen=True)
class PlannedRow:
    """A row of a study with the stages of its numbers."""

    study: Study
    row: Row
    resolved: Resolved
    cells: Mapping[str, Mapping[int, Cell]]  # metric -> seed -> cell, in the order of the table's columns
    pretrain: Mapping[int, str]  # seed -> uid of its encoder: pre-trained, or given
    stages: Mapping[int, tuple[str, ...]]  # seed -> every stage the row needs, in the order they can run


@dataclass(frozen=True)
class PlannedReference:
    """What the rows of a study are held against: not one of the paper's, nor among the rows that are counted."""

    study: Study
    label: str
    cells: Mapping[str, Mapping[int, Cell]]  # metric -> seed -> cell, only the metrics that it has
    pretrain: Mapping[int, str]  # seed -> uid; empty: nothing is pre-trained

    @property
    def uids(self) -> list[str]:
        """Of the stages that its numbers come from."""
        return [cell.uid for cells in self.cells.values() for cell in cells.values()]


@dataclass(frozen=True)
class Plan:
    """What a command will run."""

    rows: tuple[PlannedRow, ...]
    references: tuple[PlannedReference, ...]
    stages: Mapping[str, Stage]  # by uid; each after those it needs
    seeds: tuple[int, ...]
    profile: Profile
    overrides: tuple[str, ...]
    absent: tuple[str, ...] = ()  # given encoders whose file is not there, in a line each: their rows are incomplete

    def summary(self) -> dict[str, int]:
        """Counts. `pretrainings` are the distinct ones of one seed, `stages` and the totals those of all seeds."""
        of_rows = {uid for row in self.rows for uids in row.stages.values() for uid in uids}
        trained = [row for row in self.rows if row.row.encoder is None]
        per_seed = {seed: {row.pretrain[seed] for row in trained if seed in row.pretrain} for seed in self.seeds}
        return {
            "rows": len(self.rows),
            "seeds": len(self.seeds),
            "pretrainings": max(map(len, per_seed.values())),
            "pretrainings_total": len({uid for row in trained for uid in row.pretrain.values()}),
            "pretrainings_without_sharing": sum(len(row.pretrain) for row in trained),
            "stages": len(self.stages),
            "reference_stages": len(self.stages.keys() - of_rows),
            "stages_without_sharing": sum(len(uids) for row in self.rows for uids in row.stages.values()),
        }

    def lines(self, done: Collection[str] | None = None, every_stage: bool = False) -> list[str]:
        """The plan for people to read.

        Args:
            done: uids that the store holds; None leaves that out.
            every_stage: list rows and stages too, not only what they come to.
        """
        counts = self.summary()
        studies = list(dict.fromkeys(row.study.study for row in self.rows))
        what = studies[0] if len(studies) == 1 else f"{len(studies)} studies"
        out = [
            f"{what}, profile {self.profile.profile}, "
            f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}",
            f"{counts['rows']} rows need {counts['pretrainings']} distinct pre-trainings per seed",
        ]
        own = counts["stages"] - counts["reference_stages"]
        if own < counts["stages_without_sharing"]:
            out.append(
                f"{counts['pretrainings_total']} pre-trainings instead of {counts['pretrainings_without_sharing']}, "
                f"{own} stages instead of {counts['stages_without_sharing']}: the others are shared"
            )
        else:
            out.append(f"{own} stages, none of them shared")
        if counts["reference_stages"]:
            labels = ", ".join(dict.fromkeys(reference.label for reference in self.references))
            out.append(f"{counts['reference_stages']} stages more for the reference rows: {labels}")
        out += self.absent
        if done is not None:
            out.append(f"{sum(uid in done for uid in self.stages)} of {counts['stages']} stages are done")
        if every_stage:
            out += self._rows(done or ()) + self._stages(done or ())
        return out

    def _rows(self, done: Collection[str]) -> list[str]:
        first: dict[str, str] = {}
        out = []
        width = max(len(row.row.label) for row in self.rows)
        for number, row in enumerate(self.rows):
            if number == 0 or self.rows[number - 1].study.study != row.study.study:
                out += ["", f"{row.study.study}: {row.study.title}"]
            ready = sum(uid in done for uids in row.stages.values() for uid in uids)
            total = sum(len(uids) for uids in row.stages.values())
            uid = next(iter(row.pretrain.values()), "its encoder is not there")
            here = f"{row.study.study}: {row.row.label}"
            shared = f"   = {first[uid]}" if uid in first else ""
            first.setdefault(uid, here)
            mark = "*" if row.row.default else " "
            out.append(f"  {mark} {row.row.label:{width}}  {ready}/{total} stages done  {uid}{shared}")
        return out

    def _stages(self, done: Collection[str]) -> list[str]:
        return ["", "stages"] + [
            f"  {'done' if uid in done else '    '}  {uid:48}  {stage.title}" for uid, stage in self.stages.items()
        ]

    def as_json(self, done: Collection[str] = ()) -> dict[str, Any]:
        """The plan as JSON data: the counts of `summary`, then rows and stages."""
        return {
            **self.summary(),
            "stages_done": sum(uid in done for uid in self.stages),
            "profile": self.profile.profile,
            "overrides": list(self.overrides),
            "planned_rows": [
                {
                    "study": row.study.study,
                    "label": row.row.label,
                    "default": row.row.default,
                    "pretrain": {str(seed): uid for seed, uid in row.pretrain.items()},
                    "stages": {str(seed): list(uids) for seed, uids in row.stages.items()},
                }
                for row in self.rows
            ],
            "planned_stages": [
                {
                    "uid": stage.uid,
                    "kind": stage.kind,
                    "seed": stage.seed,
                    "needs": list(stage.needs),
                    "title": stage.title,
                    "done": stage.uid in done,
                }
                for stage in self.stages.values()
            ],
        }


def build(
    studies: Sequence[Study],
    profile: Profile,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    metrics: Sequence[str] | None = None,
) -> Plan:
    """Plan studies under a profile.

    Args:
        studies: with different names.
        profile: how large.
        overrides: `KEY=VALUE` over profile and study.
        seeds: instead of the study's, or else the profile's.
        metrics: instead of those that the study and the profile both name.

    Raises:
        SpecError: what cannot be planned, in one line.
        fima.datasets.DataError: the data are not there.
    """
    names = [study.study for study in studies]
    for study in studies:
        if names.count(study.study) > 1:
            paths = [str(other.path) for other in studies if other.study == study.study]
            raise SpecError(f"{' and '.join(paths)}: two studies named {study.study}; their reports share a folder")
    if not studies:
        raise SpecError("no study is named; `fima-ablate list` shows them")
    planner = _Planner()
    rows: list[PlannedRow] = []
    references: list[PlannedReference] = []
    for study in studies:
        chosen, columns = tuple(seeds or study.seeds or profile.seeds), _columns(study, profile, metrics)
        own = [planner.row(study, row, resolve(study, row, profile, overrides), chosen, columns) for row in study.rows]
        trained = [row for row in own if row.row.encoder is None] or own
        usual = next((row for row in own if row.row.default), trained[-1])
        rows += own
        references += [
            reference for name in profile.references if (reference := planner.reference(name, usual, chosen, columns))
        ]
    _refuse_idle_roots(profile, rows, overrides)
    every_seed = tuple(sorted({seed for study in studies for seed in seeds or study.seeds or profile.seeds}))
    absent = tuple(planner.absent)
    return Plan(tuple(rows), tuple(references), planner.stages, every_seed, profile, tuple(overrides), absent)


def _refuse_idle_roots(profile: Profile, rows: Sequence[PlannedRow], overrides: Sequence[str]) -> None:
    """A folder of videos that nobody reads is a mistake: the run would be about other videos."""
    for row in rows:
        for role, data in row.resolved.data.items():
            if data.name == "embedded" and data.root is not None:
                given = next((text for text in overrides if ".root=" in text.replace(" ", "")), f"data.{role}.root")
                raise SpecError(
                    f"override {given}: nothing reads it, for the videos of role {role} are embedded; add "
                    "data.name=folder (or ucf101, hmdb51, kinetics400, diving48)"
                )
    for text in profile.roots:
        only, _ = folder_of(text)
        if not any(
            data.name != "embedded" and only in (None, role, data.name)
            for row in rows
            for role, data in row.resolved.data.items()
        ):
            raise SpecError(
                f"--data-root {text}: nothing reads it, for the videos of profile {profile.profile} are embedded; add "
                "data.name=folder (or ucf101, hmdb51, kinetics400, diving48), or take a profile such as ucf101-i3d"
            )


def measured(studies: Sequence[Study], profile: Profile) -> list[Study]:
    """Those of which a profile measures something: Table 5 is none of UCF101's profiles, which need no Diving48."""
    return [study for study in studies if {*study.metrics} & {*profile.metrics, *COSTS, *DIAGNOSES}]


def _columns(study: Study, profile: Profile, metrics: Sequence[str] | None) -> tuple[str, ...]:
    """What to measure, in the order of the columns."""
    if metrics is not None:
        for name in metrics:
            if name not in METRICS:
                raise SpecError(f"{name} is not a metric; there are {', '.join(METRICS)}.{guess(name, METRICS)}")
        return tuple(dict.fromkeys(metrics))
    both = tuple(name for name in study.metrics if name in (*profile.metrics, *COSTS, *DIAGNOSES))
    if not both:
        raise SpecError(
            f"{study.path}: profile {profile.profile} measures {', '.join(profile.metrics)}, none of which the study "
            f"names; ask for the study's with --metrics {','.join(study.metrics)}"
        )
    return both


def with_needs(stages: Mapping[str, Stage], uids: Iterable[str]) -> list[str]:
    """Stages and all that they need, each once and in the order of `stages`."""
    found: set[str] = set()
    waiting = list(uids)
    while waiting:
        uid = waiting.pop()
        found.add(uid)
        waiting += [need for need in stages[uid].needs if need not in found]
    return [uid for uid in stages if uid in found]


class _Planner:
    """Collects stages; equal ones become one."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.absent: list[str] = []
        self._identities: dict[str, dict[str, Any]] = {}
        self._digests: dict[Path, str] = {}

    def row(
        self, study: Study, row: Row, resolved: Resolved, seeds: Sequence[int], columns: Sequence[str]
    ) -> PlannedRow:
        cells: dict[str, dict[int, Cell]] = {metric: {} for metric in columns}
        pretrain: dict[int, str] = {}
        needed: dict[int, tuple[str, ...]] = {}
        for seed in seeds:
            name = f"{row.label}, seed {seed}, {study.study}"
            if row.encoder is None:
                pretrain[seed] = self._pretrain(resolved, seed, name)
            elif (path := row.encoder.path(seed)).is_file():
                pretrain[seed] = self._given(path, resolved, 0 if row.encoder.single else seed, name)
            else:
                self.absent.append(
                    f"{row.where}: encoder {path}: no such file; give one that torch.save wrote of the state_dict of a "
                    f"{resolved.settings.backbone.name}, or name seeds that there are files of in --seeds"
                )
                continue
            used = {pretrain[seed]: None}
            for metric in columns:
                if row.encoder is not None and metric in COSTS:  # somebody else's
                    continue
                cell = self._cell(metric, resolved, seed, name, pretrain[seed])
                used |= dict.fromkeys((*self.stages[cell.uid].needs, cell.uid))  # at most three deep
                cells[metric][seed] = cell
            needed[seed] = tuple(used)
        return PlannedRow(study, row, resolved, cells, pretrain, needed)

    def reference(
        self, name: str, usual: PlannedRow, seeds: Sequence[int], columns: Sequence[str]
    ) -> PlannedReference | None:
        """A reference row beside a study's rows; None if it has none of the columns, or is one of the rows.

        Args:
            name: one of REFERENCES.
            usual: the study's default row (or its last): its encoder, data and protocols are the reference's.
        """
        resolved, pretrain = usual.resolved, {}
        if name == "shuffled":
            settings = resolved.settings
            if not settings.uses("vd", "pix", "fra") or usual.row.encoder:
                return None
            contrast = settings.contrast.model_copy(update={"shuffled": True})
            resolved = replace(resolved, settings=settings.model_copy(update={"contrast": contrast}))
        cells: dict[str, dict[int, Cell]] = {}
        for seed in seeds:
            title = f"{name} reference, seed {seed}"
            if name == "shuffled":
                pretrain[seed] = upstream = self._pretrain(resolved, seed, title)
            elif name == "energy":
                upstream = ""
            else:
                upstream = self._untrained(resolved, seed, title)
            for metric in columns:
                what, _, role = metric.partition("/")
                trains = what == "ft" or (what == "lin" and resolved.linear[role].protocol == "sgd")
                if metric in COSTS or (name == "energy" and (trains or metric in DIAGNOSES)):  # there is no encoder
                    continue
                if name == "supervised":
                    if what not in ("lin", "ft"):
                        continue
                    cell = Cell(self._supervised(resolved, role, seed, title, upstream), "top1")
                else:
                    cell = self._cell(metric, resolved, seed, title, upstream)
                cells.setdefault(metric, {})[seed] = cell
        return PlannedReference(usual.study, REFERENCES[name], cells, pretrain) if cells else None

    def _cell(self, metric: str, resolved: Resolved, seed: int, name: str, pretrain: str) -> Cell:
        if metric == "parameters":
            return Cell(pretrain, "parameters_paper_millions")
        if metric == "gpu_days":
            return Cell(pretrain, "seconds_per_step", 1 / DAY, per_step=True)
        if metric in DIAGNOSES:
            found = DIAGNOSES[metric]
            return Cell(self._diagnosis(found.kind, resolved, seed, name, pretrain), found.key, found.factor)
        what, _, role = metric.partition("/")
        if role not in resolved.data:
            raise SpecError(f"{metric}: the profile has no data for the role {role}; name it under data, or override "
                            f"data.{role}.name")  # fmt: skip
        make: Callable[[Resolved, str, int, str, str], str]
        make = {"lin": self._linear, "ft": self._finetune}.get(what, self._retrieval)
        try:
            uid = make(resolved, role, seed, name, pretrain)
        except datasets.DataError as error:
            raise datasets.DataError(f"{error}; without {role}, name the other columns in --metrics") from None
        return Cell(uid, what if what.startswith("R") else "top1")

    def _pretrain(self, resolved: Resolved, seed: int, name: str) -> str:
        settings, data = resolved.settings, resolved.data["pretrain"]
        active = settings.active()
        config = {"settings": active, "data": self._identity(data, True), "where": _where(resolved, "pretrain")}
        words = "+".join(active["losses"])
        return self._stage("pretrain", words, config, seed, (), f"pre-training of {name}")

    def _untrained(self, resolved: Resolved, seed: int, name: str) -> str:
        config = {
            "settings": {"losses": ["vv"], "backbone": {**resolved.settings.active()["backbone"], "weights": None}},
            "where": _where(resolved, "pretrain"),
        }
        return self._stage("untrained", "random", config, seed, (), f"random encoder of {name}")

    def _given(self, path: Path, resolved: Resolved, seed: int, name: str) -> str:
        """An encoder that was trained elsewhere, known by its content; where it lies alters nothing."""
        labelled = _labelled(resolved)
        backbone = {**labelled["backbone"], "weights": None}  # those that others start from
        config = {
            "settings": {"losses": ["vv"], **labelled, "backbone": backbone},
            "weights": self._content(path),
            "where": {**_where(resolved, "pretrain"), "weights": str(path)},
        }
        return self._stage("given", resolved.settings.backbone.name, config, seed, (), f"given encoder of {name}")

    def _supervised(self, resolved: Resolved, role: str, seed: int, name: str, untrained: str) -> str:
        """Training with labels from scratch: fine-tuning of a random encoder by the optimiser of a pre-training, for
        twice its steps or epochs (a step of pre-training passes five times as many clips and more)."""
        data, optim = resolved.data[role], resolved.settings.optim
        longer = {"epochs": 2 * optim.epochs, "steps": None if optim.steps is None else 2 * optim.steps}
        finetune = resolved.finetune[role].model_copy(update={"optim": optim.model_copy(update=longer)})
        config = {
            "upstream": untrained,
            "finetune": {**finetune.model_dump(mode="json"), "optim": finetune.optim.active()},
            "settings": _labelled(resolved),
            "data": self._identity(data),
            "where": _where(resolved, role),
        }
        title = f"supervised training on {role} of {name}"
        return self._stage("finetune", data.name, config, seed, (untrained,), title)

    def _features(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str, clips: int) -> str:
        """Features of an encoder, or where there is none of the frame differences themselves."""
        data, active = resolved.data[role], resolved.settings.active()
        seen = {
            "clip": active["clip"],
            "augment": {"size": active["augment"]["size"]},
            "backbone": active["backbone"],
        }
        config = {"data": self._identity(data), "clips": clips, "settings": seen, "where": _where(resolved, role)}
        if not pretrain:
            # no weights and no chance: the same for all seeds
            return self._stage("energy", data.name, config, 0, (), f"frame differences on {role}")
        config |= {"upstream": pretrain, "settings": {**seen, "compute": active["compute"]}}
        seed = self.stages[pretrain].seed  # one given encoder has one for all seeds
        return self._stage("features", data.name, config, seed, (pretrain,), f"features on {role} of {name}")

    def _linear(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str) -> str:
        data, linear, title = resolved.data[role], resolved.linear[role], f"linear probe on {role} of {name}"
        config: dict[str, Any] = {"linear": _active_linear(linear), "where": _where(resolved, role)}
        if linear.protocol == "logistic":
            upstream = self._features(resolved, role, seed, name, pretrain, linear.clips)
            return self._stage("linear", data.name, {"upstream": upstream, **config}, seed, (upstream,), title)
        config |= {"upstream": pretrain, "settings": self._trained_by(resolved, pretrain), "data": self._identity(data)}
        return self._stage("linear", data.name, config, seed, (pretrain,), title)

    def _finetune(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str) -> str:
        data, finetune = resolved.data[role], resolved.finetune[role]
        config = {
            "upstream": pretrain,
            "finetune": {**finetune.model_dump(mode="json"), "optim": finetune.optim.active()},
            "settings": self._trained_by(resolved, pretrain),
            "data": self._identity(data),
            "where": _where(resolved, role),
        }
        title = f"fine-tuning on {role} of {name}"
        return self._stage("finetune", data.name, config, seed, (pretrain,), title)

    def _trained_by(self, resolved: Resolved, pretrain: str) -> dict[str, Any]:
        """Settings of a classifier on an encoder, those of its pre-training among them: a random or given one has none,
        and rows of other losses share the random one."""
        trained = self.stages[pretrain].kind == "pretrain"
        return resolved.settings.active() if trained else _labelled(resolved)

    def _retrieval(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str) -> str:
        data = resolved.data[role]
        upstream = self._features(resolved, role, seed, name, pretrain, resolved.retrieval.clips)
        config = {
            "upstream": upstream,
            "retrieval": resolved.retrieval.model_dump(mode="json"),
            "where": _where(resolved, role),
        }
        title = f"retrieval on {role} of {name}"
        return self._stage("retrieval", data.name, config, seed, (upstream,), title)

    def _diagnosis(
        self, kind: Literal["motion", "background", "figures"], resolved: Resolved, seed: int, name: str, pretrain: str
    ) -> str:
        """What an encoder attends to, on the videos that play UCF101 (`ablations.diagnoses`)."""
        data, settings = resolved.data[ROLE], resolved.settings
        embedded = data.name == "embedded" and not data.embedded.background_class_correlation
        if kind == "background" and not embedded:
            raise SpecError(
                f"{name}: bias/plain, unrelated, swapped and lured swap the backgrounds of embedded videos, which tell "
                f"nothing before; the role {ROLE} has {data.name}, so leave them out of --metrics"
            )
        active, augment = settings.active(), settings.augment.model_dump(mode="json")
        seen: dict[str, Any] = {
            "clip": active["clip"],
            "augment": {"size": augment["size"]},
            "backbone": active["backbone"],
            "compute": active["compute"],
        }
        config: dict[str, Any] = {"upstream": pretrain, "data": self._identity(data), "where": _where(resolved, ROLE)}
        if kind == "figures":  # two views of a video are drawn as pre-training draws them
            seen["augment"] = {name: augment[name] for name in ("size", "scale_min", "scale_max", "flip", "difference")}
            config["clips"] = resolved.retrieval.clips
        else:
            config["clips"] = resolved.linear[ROLE].clips
        title = {"motion": "clips without motion", "background": "swapped backgrounds", "figures": "figures"}[kind]
        return self._stage(kind, data.name, {**config, "settings": seen}, seed, (pretrain,), f"{title} of {name}")

    def _stage(
        self, kind: Kind, words: str, config: dict[str, Any], seed: int, needs: tuple[str, ...], title: str
    ) -> str:
        config = {"kind": kind, "version": RESULTS[kind], **config, "seed": seed}
        uid = f"{kind}-{words}-s{seed}-{self._digest(config)}"
        if uid not in self.stages:
            self.stages[uid] = Stage(kind, uid, config, seed, needs, title)
        return uid

    def _digest(self, config: Mapping[str, Any]) -> str:
        """12 hexadecimal digits over all of a config but `where`; a file of weights counts by its content."""
        hashed = {name: value for name, value in config.items() if name != "where"}
        backbone = hashed.get("settings", {}).get("backbone", {})
        if backbone.get("weights") is not None:
            content = self._content(Path(backbone["weights"]))
            hashed["settings"] = {**hashed["settings"], "backbone": {**backbone, "weights": content}}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]

    def _content(self, path: Path) -> str:
        if path not in self._digests:
            try:
                with path.open("rb") as file:
                    self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise SpecError(f"backbone.weights {path}: {error.strerror}; give a file, or null") from None
        return self._digests[path]

    def _identity(self, data: Data, pretraining: bool = False) -> dict[str, Any]:
        """What of the data alters a result: the videos, whether short ones stay out, whether clips are cropped in
        swscale or from whole frames."""
        key = f"{pretraining} {data.model_dump_json()}"
        if key not in self._identities:
            self._identities[key] = {
                "fingerprint": datasets.fingerprint(data, pretraining),
                "name": data.name,
                "decoded": data.decoded,
                "short": data.short == "skip",
            }
        return self._identities[key]


def _labelled(resolved: Resolved) -> dict[str, Any]:
    """The settings that training with labels has to do with."""
    active = resolved.settings.active()
    augment = {name: part for name, part in active["augment"].items() if name not in UNLABELLED}
    return {"clip": active["clip"], "augment": augment, "backbone": active["backbone"], "compute": active["compute"]}


def _where(resolved: Resolved, role: str) -> dict[str, Any]:
    recompute = resolved.settings.compute.recompute
    return {"role": role, "data": resolved.data[role].model_dump(mode="json"), "recompute": recompute}


def _active_linear(linear: Linear) -> dict[str, Any]:
    """The probe's settings that act: the logistic one has no optimiser to set."""
    data = {**linear.model_dump(mode="json"), "optim": linear.optim.active()}
    return {name: data[name] for name in ("protocol", "clips")} if linear.protocol == "logistic" else data
