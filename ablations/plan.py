"""Studies x rows x seeds -> stages, those that rows share once. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablations.diagnoses import DIAGNOSES
from ablations.located import SpecError, guess
from ablations.profile import REFERENCES, folder_of
from ablations.spec import COSTS, METRICS, Profile, Resolved, Row, Study, resolve
from ablations.uids import Cell, Stage, Stages


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
    stages = Stages()
    absent: list[str] = []
    rows: list[PlannedRow] = []
    references: list[PlannedReference] = []
    for study in studies:
        chosen, columns = tuple(seeds or study.seeds or profile.seeds), _columns(study, profile, metrics)
        own = [
            _row(stages, study, row, resolve(study, row, profile, overrides), chosen, columns, absent)
            for row in study.rows
        ]
        trained = [row for row in own if row.row.encoder is None] or own
        usual = next((row for row in own if row.row.default), trained[-1])
        rows += own
        references += [
            reference for name in profile.references if (reference := _reference(stages, name, usual, chosen, columns))
        ]
    _refuse_idle_roots(profile, rows, overrides)
    every_seed = tuple(sorted({seed for study in studies for seed in seeds or study.seeds or profile.seeds}))
    return Plan(tuple(rows), tuple(references), stages.by_uid, every_seed, profile, tuple(overrides), tuple(absent))


def _row(
    stages: Stages,
    study: Study,
    row: Row,
    resolved: Resolved,
    seeds: Sequence[int],
    columns: Sequence[str],
    absent: list[str],
) -> PlannedRow:
    """A row and its stages; files of encoders that are not there go to `absent`, in a line each."""
    cells: dict[str, dict[int, Cell]] = {metric: {} for metric in columns}
    pretrain: dict[int, str] = {}
    needed: dict[int, tuple[str, ...]] = {}
    for seed in seeds:
        name = f"{row.label}, seed {seed}, {study.study}"
        if row.encoder is None:
            pretrain[seed] = stages.pretrain(resolved, seed, name)
        elif (path := row.encoder.path(seed)).is_file():
            pretrain[seed] = stages.given(path, resolved, 0 if row.encoder.single else seed, name)
        else:
            absent.append(
                f"{row.where}: encoder {path}: no such file; give one that torch.save wrote of the state_dict of a "
                f"{resolved.settings.backbone.name}, or name seeds that there are files of in --seeds"
            )
            continue
        used = {pretrain[seed]: None}
        for metric in columns:
            if row.encoder is not None and metric in COSTS:  # somebody else's
                continue
            cell = stages.cell(metric, resolved, seed, name, pretrain[seed])
            used |= dict.fromkeys((*stages.by_uid[cell.uid].needs, cell.uid))  # at most three deep
            cells[metric][seed] = cell
        needed[seed] = tuple(used)
    return PlannedRow(study, row, resolved, cells, pretrain, needed)


def _reference(
    stages: Stages, name: str, usual: PlannedRow, seeds: Sequence[int], columns: Sequence[str]
) -> PlannedReference | None:
    """A reference row beside a study's rows; None if it has none of the columns, or is one of the rows.

    Args:
        stages: where its own are added.
        name: one of REFERENCES.
        usual: the study's default row (or its last): its encoder, data and protocols are the reference's.
        seeds: of the study.
        columns: metrics of the study.
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
            pretrain[seed] = upstream = stages.pretrain(resolved, seed, title)
        elif name == "energy":
            upstream = ""
        else:
            upstream = stages.untrained(resolved, seed, title)
        for metric in columns:
            what, _, role = metric.partition("/")
            trains = what == "ft" or (what == "lin" and resolved.linear[role].protocol == "sgd")
            if metric in COSTS or (name == "energy" and (trains or metric in DIAGNOSES)):  # there is no encoder
                continue
            if name == "supervised":
                if what not in ("lin", "ft"):
                    continue
                cell = Cell(stages.supervised(resolved, role, seed, title, upstream), "top1")
            else:
                cell = stages.cell(metric, resolved, seed, title, upstream)
            cells.setdefault(metric, {})[seed] = cell
    return PlannedReference(usual.study, REFERENCES[name], cells, pretrain) if cells else None


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
