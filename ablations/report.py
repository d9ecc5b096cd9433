"""From a plan and a store to tables, and from a table to its folder of files."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ablations import code, cost_columns, literature, stats, verdicts
from ablations import notes as below
from ablations.diagnoses import DIAGNOSES, LOST, ROLE, Diagnosis
from ablations.results import NAMES, Results
from ablations.study import COSTS, OPTIONAL
from ablations.table import NO_PAPER, Cell, Column, Row, Table, mark_best

if TYPE_CHECKING:
    from ablations.plan import Plan, PlannedReference, PlannedRow
    from ablations.records import Records
    from ablations.spec import Claim, Study
    from ablations.store import Store
    from ablations.uids import Cell as Source
    from fima.datasets import Data

KINDS = {"lin": "linear probe, top-1 %", "ft": "fine-tuning, top-1 %"}
ROLES = {"ucf101": "UCF101", "hmdb51": "HMDB51", "diving48": "Diving48"}
ALL_PARAMETERS = "parameters/all"  # a derived column


def build(plan: Plan, store: Store, command: str | None = None, records: Records | None = None) -> list[Table]:
    """One table per study of the plan, from what the store holds now and records say of the rest.

    Args:
        plan: rows, and the stages their cells come from.
        store: results; what is missing there is a dash in the table.
        command: what makes these results, as one would type it; None: worked out from the plan, the same for `run`
            and for `report`.
        records: of results whose folders are not here.
    """
    studies: dict[str, list[PlannedRow]] = {}
    for row in plan.rows:
        studies.setdefault(row.study.study, []).append(row)
    return [
        _table(rows, plan, Results(plan, store, records), command_of(plan, rows) if command is None else command)
        for rows in studies.values()
    ]


def command_of(plan: Plan, rows: Sequence[PlannedRow]) -> str:
    """The command that makes this table, in its shortest form."""
    study, profile = rows[0].study, plan.profile
    path, home = study.path.resolve(), code.ROOT.resolve()
    inside = path.is_relative_to(home / "studies")
    words = ["fima-ablate", "run", path.relative_to(home).as_posix() if inside else str(study.path)]
    words += ["--profile", profile.word]
    for root in profile.roots:
        words += ["--data-root", root]
    seeds = tuple(sorted({seed for row in rows for seed in row.pretrain}))
    if seeds != tuple(sorted(study.seeds or profile.seeds)):
        words += ["--seeds", ",".join(map(str, seeds))]
    metrics, costs = tuple(rows[0].cells), ("parameters", "gpu_days")
    if metrics != tuple(metric for metric in study.metrics if metric in (*profile.metrics, *costs, *DIAGNOSES)):
        words += ["--metrics", ",".join(metrics)]
    return shlex.join([*words, *plan.overrides])


# --- from results to a table


def _table(rows: Sequence[PlannedRow], plan: Plan, results: Results, command: str) -> Table:
    study, profile = rows[0].study, plan.profile
    metrics = list(rows[0].cells)
    seeds = sorted({seed for row in rows for cells in row.cells.values() for seed in cells})
    data = {role: data_title(chosen) for role, chosen in rows[0].resolved.data.items() if _shown(role, metrics)}
    prints = [literature.values(row, profile) for row in rows]
    cells = [
        {metric: _cell(row.cells[metric], results, paper.get(metric)) for metric in metrics}
        for row, paper in zip(rows, prints, strict=True)
    ]
    if "parameters" in metrics:
        for row, own in zip(rows, cells, strict=True):
            own[ALL_PARAMETERS] = cost_columns.of_pretraining(row, "parameters_millions", results)
    if "gpu_days" in metrics:
        cost_columns.add(rows, cells, results)
    order = [name for metric in metrics for name in cells[0] if name == metric or name.startswith(f"{metric}/")]
    notes: list[str] = []
    columns = []
    for metric in order:
        column, remarks = _column(metric, rows, cells, data, results)
        notes += [remark for remark in remarks if remark not in notes]
        columns.append(replace(column, notes=tuple(notes.index(remark) + 1 for remark in remarks)))
    columns = _told_apart(columns)
    shown = mark_best(
        [
            Row(
                row.row.label,
                {name: own[name] for name in order},
                row.row.default,
                dict(row.row.set),
                dict(row.pretrain),
            )
            for row, own in zip(rows, cells, strict=True)
        ],
        columns,
    )
    hits = {metric: {row.row.label: _hits(row.cells[metric], results) for row in rows} for metric in metrics}
    beside = [planned for planned in plan.references if planned.study.study == study.study]
    references = tuple(_reference(planned, order, results) for planned in beside)
    omitted = tuple(metric for metric in study.metrics if metric not in metrics)
    cited = literature.of(rows, profile, {metric: _printed_title(metric) for metric in study.metrics})
    if cited is not None:
        notes.append(literature.note(cited))
    changes, alike = below.changes(plan, results), below.alike(rows)
    every, some = below.departures(rows)
    return Table(
        study=study.study,
        title=study.title,
        paper=_paper(study),
        profile=profile.profile,
        profile_title="" if changes else profile.title,
        reduced=profile.reduced,
        scale=profile.scale,
        changes=changes,
        command=command,
        seeds=tuple(seeds),
        columns=tuple(columns),
        rows=shown,
        data=data,
        notes=(
            *notes,
            *below.general_notes(columns, shown, seeds, rows, omitted),
            *below.given_notes(rows),
            *below.reference_notes(beside),
            *below.device_notes(results, rows),
            *below.machine_notes(results, rows),
            *below.video_notes(results, rows),
        ),
        scaled=below.scaled(rows, profile.rule),
        departures=every,
        departures_of_some=some,
        references=references,
        comparisons=_comparisons(shown, columns, hits),
        agreements=_agreements(shown, columns),
        verdicts=tuple(_judge(claim, rows, shown, columns, alike, hits, results) for claim in study.claims),
        failures=tuple(results.failures),
        omitted=omitted,
        environments=tuple(results.environments),
        literature=cited,
    )


def _shown(role: str, metrics: Sequence[str]) -> bool:
    """Whether a table says what plays a role: one that few studies ask for only where it is measured."""
    return role not in OPTIONAL or any(metric.endswith(f"/{role}") for metric in metrics)


def _printed_title(metric: str) -> str:
    """What a printed number is: "linear probe, top-1 %, UCF101"."""
    kind, _, role = metric.partition("/")
    if metric in DIAGNOSES:
        return DIAGNOSES[metric].title
    return f"{_kind_title(kind)}, {ROLES[role]}" if role else metric


def _kind_title(kind: str) -> str:
    return KINDS.get(kind) or f"retrieval R@{kind.removeprefix('R')}, %"


def _paper(study: Study) -> str:
    where = [f"Table {study.paper['table']}"] if "table" in study.paper else []
    return " of ".join(where + ([study.paper["source"]] if "source" in study.paper else [])) or NO_PAPER


def data_title(data: Data) -> str:
    """A data set in words, without the path to it."""
    if data.name == "embedded":
        title = f"embedded {data.embedded.set} ({data.embedded.domain})"
    elif data.name == "folder":
        title = f"folder {data.root.name}" if data.root else "folder"
    else:
        title = NAMES.get(data.name, data.name) + (f" split {data.fold}" if data.name in ("ucf101", "hmdb51") else "")
    return title + (f", at most {data.limit} videos a split" if data.limit is not None else "")


# --- cells


def _cell(sources: Mapping[int, Source], results: Results, paper: float | None) -> Cell:
    values, missing = {}, {}
    for seed, source in sources.items():
        result = results.get(source.uid)
        if result is None:
            missing[seed] = results.why(source.uid)
            continue
        found = result.get(source.key)
        if found is None and source.key in result:
            missing[seed] = "not defined"  # a decoder's attention where there is no decoder
            continue
        if not isinstance(found, int | float):
            missing[seed] = f"damaged: {source.uid}/result.json has no number {source.key}, delete that folder"
            continue
        values[seed] = source.value(result)
    return Cell(paper, values, missing, uids={seed: source.uid for seed, source in sources.items()})


def _hits(sources: Mapping[int, Source], results: Results) -> dict[int, stats.PerVideo]:
    """Seed -> what each test video came to, of the stages that kept it."""
    found = {}
    for seed, source in sources.items():
        per_video = (results.get(source.uid) or {}).get("per_video", {})
        if source.key in per_video:
            found[seed] = stats.PerVideo(tuple(per_video[source.key]), tuple(per_video["of"]))
        elif LOST.get(source.key) in per_video:
            lost = zip(per_video["normal"], per_video[LOST[source.key]], strict=True)
            found[seed] = stats.PerVideo(tuple(whole - rest for whole, rest in lost), tuple(per_video["of"]))
    return found


def _reference(planned: PlannedReference, order: Sequence[str], results: Results) -> Row:
    own = {metric: _cell(sources, results, None) for metric, sources in planned.cells.items()}
    return Row(planned.label, {name: own.get(name, Cell()) for name in order}, pretrain=dict(planned.pretrain))


def _comparisons(
    rows: Sequence[Row], columns: Sequence[Column], hits: Mapping[str, Mapping[str, stats.Hits]]
) -> tuple[stats.Comparison, ...]:
    """Every row against the default row, on every accuracy that is printed."""
    usual = next((row.label for row in rows if row.default), None)
    if usual is None:
        return ()
    found: list[stats.Comparison] = []
    for column in columns:
        if column.unit == "%" and column.same_as is None:
            values = {row.label: row.cells[column.metric].values for row in rows}
            found += stats.compare(column.metric, usual, values, hits.get(column.metric, {}))
    return stats.corrected(found)


def _agreements(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[stats.Agreement, ...]:
    """Of the order of rows with the paper's, on every accuracy that the paper prints."""
    found = []
    for column in columns:
        paper = {row.label: cell.paper for row in rows if (cell := row.cells[column.metric]).paper is not None}
        if column.unit == "%" and column.same_as is None and len(paper) > 1:
            values = {row.label: row.cells[column.metric].values for row in rows}
            found.append(stats.agreement(column.metric, paper, values))
    return tuple(found)


# --- columns


def _column(
    metric: str,
    rows: Sequence[PlannedRow],
    cells: Sequence[Mapping[str, Cell]],
    data: Mapping[str, str],
    results: Results,
) -> tuple[Column, list[str]]:
    """A column and its footnotes."""
    if metric == "parameters":
        note = (
            "Parameters as the paper counts them: encoder, and of the decoder the outer linear and the feed-forward "
            "layers, without attention projections, norms and class token. The projection head is in no count, and "
            "the seed alters none."
        )
        column = Column(
            metric, "parameters by the paper's count, millions", "", "", unit="M", decimals=3, better="lower"
        )
        return column, [note]
    if metric == ALL_PARAMETERS:
        note = "Encoder and the whole decoder, with attention, norms and class token; the paper prints no such number."
        return Column(metric, "parameters, decoder in full, millions", "", "", unit="M", decimals=3), [note]
    if metric in DIAGNOSES:
        return _diagnosis_column(metric, rows, data, results)
    if metric.startswith("gpu_days"):
        return cost_columns.column(metric, rows, cells, results)
    kind, _, role = metric.partition("/")
    title = _kind_title(kind)
    found = [result for uid in _uids(rows, metric) if (result := results.get(uid))]
    protocols = tuple(dict.fromkeys(str(result["protocol"]) for result in found if "protocol" in result))
    counts = {int(result["classes"]) for result in found if result.get("classes")}
    galleries = {int(result["gallery"]) for result in found if result.get("gallery")}
    chance = _chance(kind, counts.pop(), galleries) if len(counts) == 1 else None
    column = Column(metric, title, data[role], ROLES[role], better="higher", chance=chance, protocols=protocols)
    twin = next((other for other in rows[0].cells if _repeats(metric, other, rows)), None)
    return replace(column, same_as=twin), [_protocol_note(protocols, found, chance)] if found else []


def _chance(kind: str, classes: int, galleries: Collection[int]) -> float | None:
    """Percent right of guesses, of as many videos of each class: one class, or for R@k k of the gallery's videos.

    Args:
        kind: lin, ft, or R and k.
        classes: of how many.
        galleries: sizes; where there is not one, the chance of R@k is not known.
    """
    if kind in KINDS:
        return 100 / classes
    if len(galleries) != 1:
        return None
    (size,) = galleries
    wrong = size - size / classes
    return 100 * (1 - math.prod(max(0.0, wrong - i) / (size - i) for i in range(min(size, int(kind[1:])))))


def _diagnosis_column(
    metric: str, rows: Sequence[PlannedRow], data: Mapping[str, str], results: Results
) -> tuple[Column, list[str]]:
    found = [result for uid in _uids(rows, metric) if (result := results.get(uid))]
    one, protocols = DIAGNOSES[metric], tuple(dict.fromkeys(str(result["protocol"]) for result in found))
    chances = {float(result["chance"]) for result in found if "chance" in result}
    chance = chances.pop() if one.accuracy and len(chances) == 1 else None
    column = Column(
        metric,
        one.title,
        data[ROLE],
        "",
        unit=one.unit,
        decimals=one.decimals,
        better=one.better,
        chance=chance,
        protocols=protocols,
    )
    return column, [_protocol_note(protocols, found, chance), *_beside_note(one, found)] if found else []


def _beside_note(one: Diagnosis, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a number of a figure would be of something that shows nothing, or at most."""
    parts = []
    for words, picture, name in one.beside:
        numbers = [result.get("numbers", {}).get(picture, {}).get(name) for result in found]
        known = [number for number in numbers if number is not None]
        if known:
            parts.append(f"{words} {one.factor * fmean(known):.{one.decimals}f}")
    return [f"To compare: {', '.join(parts)}."] if parts else []


def _uids(rows: Sequence[PlannedRow], metric: str) -> list[str]:
    return [source.uid for row in rows for source in row.cells[metric].values()]


def _repeats(metric: str, other: str, rows: Sequence[PlannedRow]) -> bool:
    """Whether `other` stands before `metric` and is the same measurement: one data set plays both roles."""
    order = list(rows[0].cells)
    kind = metric.partition("/")[0]
    return (
        order.index(other) < order.index(metric)
        and other.partition("/")[0] == kind
        and _uids(rows, metric) == _uids(rows, other)
    )


def _protocol_note(protocols: Sequence[str], found: Sequence[Mapping[str, Any]], chance: float | None) -> str:
    def several(key: str) -> str:
        numbers = sorted({int(result[key]) for result in found if key in result})
        return " or ".join(map(str, numbers))

    parts = ["; or ".join(protocols)] if protocols else []
    if several("videos"):
        groups = sorted({len(result["per_video"]["of"]) for result in found if "of" in result.get("per_video", {})})
        of = " or ".join(map(str, groups))
        same = not groups or of == several("videos")
        parts.append(f"{several('videos')} test videos" if same else f"{several('videos')} test clips of {of} videos")
    if several("classes"):
        parts.append(f"{several('classes')} classes")
    if chance is not None:
        parts.append(f"chance {chance:.1f} %")
    return f"Protocol: {'; '.join(parts)}."


def _told_apart(columns: Sequence[Column]) -> list[Column]:
    """Columns of one title and one data set (roles that differ in protocol) say whose place they take."""
    shown = [(column.title, column.data) for column in columns if column.same_as is None]
    return [
        replace(column, data=f"{column.data} in place of {column.paper_data}")
        if column.same_as is None and column.paper_data and shown.count((column.title, column.data)) > 1
        else column
        for column in columns
    ]


# --- claims


def _judge(
    claim: Claim,
    planned: Sequence[PlannedRow],
    rows: Sequence[Row],
    columns: Sequence[Column],
    alike: Sequence[Sequence[str]],
    hits: Mapping[str, Mapping[str, stats.Hits]],
    results: Results,
) -> verdicts.Verdict:
    column = next((column for column in columns if column.metric == claim.metric), None)
    kind = next(name for name in ("best", "worst", "better", "equal", "ratio") if getattr(claim, name))
    if column is None:
        return verdicts.unmeasured(claim.says, claim.metric, kind, f"{claim.metric} is not measured here")
    if column.same_as is not None:
        reason = f"one data set plays both UCF101 and HMDB51 here, so {claim.metric} repeats {column.same_as}"
        return verdicts.unmeasured(claim.says, claim.metric, kind, reason)
    costs = claim.metric in COSTS  # which a given encoder has none of
    every = [each.row for each in planned if each.row.encoder is None or not costs]
    compared = claim.labels if not (claim.best or claim.worst) else [row.label for row in every]
    single = [row.label for row in every if row.label in compared and row.encoder is not None and row.encoder.single]
    if single:
        reason = f"“{single[0]}” is one encoder, and what its training gives with another seed is not known"
        return verdicts.unmeasured(claim.says, claim.metric, kind, reason)
    same = next((labels for labels in alike if len(set(labels) & set(compared)) > 1), None)
    if same is not None:
        return verdicts.unmeasured(claim.says, claim.metric, kind, f"{below.quoted(same)} are one experiment here")
    fair = cost_columns.comparable(claim.metric, planned, compared, results)
    values = {
        row.label: {seed: value for seed, value in row.cells[claim.metric].values.items() if seed in fair[row.label]}
        for row in rows
    }
    both = set.intersection(*(set(row.cells[claim.metric].values) for row in rows if row.label in compared))
    if both and not both & fair[compared[-1]]:
        reason = f"{below.quoted(compared)} were pre-trained on machines of different kinds, seed by seed"
        return verdicts.unmeasured(claim.says, claim.metric, kind, reason)
    others = [row.label for row in every]
    seen = hits.get(claim.metric, {})
    if claim.equal:
        return verdicts.equal(claim.says, claim.metric, claim.equal, values, hits=seen)
    if claim.ratio:
        assert claim.value is not None  # ratio comes with value
        low = min((value for label in claim.ratio for value in values[label].values()), default=1.0)
        if low <= 0:
            return verdicts.unmeasured(
                claim.says, claim.metric, kind, f"a ratio has no meaning beside a value of {low:g}"
            )
        found = verdicts.ratio(claim.says, claim.metric, claim.ratio, claim.value, values)
        timed = claim.metric == "gpu_days" and found.n
        return replace(found, words=found.words + cost_columns.flops_ratio(claim.ratio, rows)) if timed else found
    if claim.best:
        pairs = [(claim.best, label) for label in others if label != claim.best]
    elif claim.worst:
        pairs = [(label, claim.worst) for label in others if label != claim.worst]
    else:
        assert claim.better is not None  # one form is given
        pairs = [(claim.better, label) for label in claim.worse]
    lower, digits = column.better == "lower", max(column.decimals, 1)
    return verdicts.ordered(
        claim.says, claim.metric, kind, pairs, values, lower_is_better=lower, digits=digits, hits=seen
    )
