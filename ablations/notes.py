"""What stands below a table: what is missing, scaled, changed or left out, and which rows are one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations.results import Results
from ablations.table import Column, Row, Scaled, missing_note

if TYPE_CHECKING:
    from ablations.plan import Plan, PlannedReference, PlannedRow

NAMED = 5  # videos that a note names

# Overrides that alter no result, so no departure from a recipe: where videos lie, how they are read, what is kept.
PLACES = ("root", "broken", "memory_gib", "cache_gib")
FREE = ("compute.recompute",)


def altering(overrides: Sequence[str]) -> list[str]:
    """The overrides that make another experiment."""
    named = [(text, text.partition("=")[0].strip()) for text in overrides]
    return [
        text
        for text, name in named
        if name not in FREE and not (name.startswith("data.") and name.rpartition(".")[2] in PLACES)
    ]


def changes(plan: Plan, results: Results) -> tuple[str, ...]:
    """What departs from the profile: settings that the command changes, and videos that are not there."""
    changed = altering(plan.overrides)
    return (*([f"the command sets {' '.join(changed)}"] if changed else []), *results.partial)


def general_notes(
    columns: Sequence[Column],
    shown: Sequence[Row],
    seeds: Sequence[int],
    rows: Sequence[PlannedRow],
    omitted: Sequence[str],
) -> list[str]:
    """What is missing, shown once, not measured, and how the motion decoder starts."""
    notes = [f"{quoted(labels)} are one experiment here: nothing tells them apart." for labels in alike(rows)]
    absent = missing_note(columns, shown, seeds)
    if absent:
        notes.append(absent)
    twins = [f"{column.metric} (as {column.same_as})" for column in columns if column.same_as]
    if twins:
        notes.append(
            f"One data set plays both UCF101 and HMDB51 here, so that these are the same measurements and are shown "
            f"once: {', '.join(twins)}. The paper's values for them are in table.csv and table.json."
        )
    if omitted:
        notes.append(f"Not measured here: {', '.join(omitted)} (--metrics asks for them).")
    decoders: dict[str, None] = {}
    for row in rows:
        if row.row.encoder is None and row.resolved.settings.decodes:
            decoder = row.resolved.settings.decoder
            start = {"paper": "usual start", "identity": "starts as the identity"}[decoder.init]
            text = f"{start}, positions × {decoder.position:g}, dropout {decoder.dropout:g}"
            decoders[text + (", layer norm on the memory" if decoder.memory_norm else "")] = None
    if decoders:
        notes.append(
            f"Motion decoder: {'; or '.join(decoders)} (the paper's: usual start, positions × 1, dropout 0.1)."
        )
    return notes


def video_notes(results: Results, rows: Sequence[PlannedRow]) -> list[str]:
    """Videos that are broken or short, counted and named."""
    skipped = all(data.short == "skip" for data in rows[0].resolved.data.values())
    notes = []
    for kind, what in (
        ("broken", "left out, for nothing can be read of them"),
        (
            "short",
            "left out, for a clip spans more frames" if skipped else "shorter than a clip, so that frames repeat",
        ),
    ):
        lines = results.videos(kind)
        if lines:
            more = f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
            notes.append(f"{len(lines)} video{'s' * (len(lines) > 1)} {what}: {'; '.join(lines[:NAMED])}{more}.")
    return notes


def given_notes(rows: Sequence[PlannedRow]) -> list[str]:
    """Which encoders were trained elsewhere."""
    notes = []
    for planned in rows:
        label, given = planned.row.label, planned.row.encoder
        if given is None:
            continue
        spread = ": one encoder, so that its seeds differ in the evaluation at most" if given.single else ""
        gone = "" if planned.pretrain else " Its file is not there, and nothing of it can be told."
        notes.append(f"“{label}” was trained elsewhere and is only evaluated here ({given.text}){spread}.{gone}")
    return notes


def device_notes(results: Results, rows: Sequence[PlannedRow]) -> list[str]:
    """That rows were pre-trained on different numbers of devices, if they were: it is a part of what they compare."""
    labels: dict[int, dict[str, None]] = {}
    found = results.devices
    for row in rows:
        for uid in row.pretrain.values():
            if uid in found and row.row.encoder is None:
                labels.setdefault(found[uid], {})[row.row.label] = None
    if len(labels) < 2:
        return []
    told = "; ".join(f"{count}: {quoted(list(labels[count]))}" for count in sorted(labels))
    return [
        f"Pre-trained on different numbers of devices ({told}). Each device has BatchNorm statistics of its own part "
        "of the batch, so that these rows differ in more than what the table compares."
    ]


def machine_notes(results: Results, rows: Sequence[PlannedRow]) -> list[str]:
    """The seeds whose rows were pre-trained on processors or cards of different kinds, if there are any."""
    kinds: dict[int, dict[str, None]] = {}
    for row in rows:
        for seed, uid in row.pretrain.items() if row.row.encoder is None else ():
            made = (results.get(uid) or {}).get("environment", {})
            if name := (made.get("cpu") if made.get("device") == "cpu" else made.get("device")):
                kinds.setdefault(seed, {})[str(name)] = None
    mixed = {seed: names for seed, names in kinds.items() if len(names) > 1}
    if not mixed:
        return []
    told = quoted(sorted({name for names in mixed.values() for name in names}))
    seeds = ", ".join(str(seed) for seed in sorted(mixed))
    return [
        f"Of seed{'s' if len(mixed) > 1 else ''} {seeds} the rows were pre-trained on different machines ({told}). "
        "Rounding alone leads a training elsewhere there, so that differences within these seeds hold that as well."
    ]


def reference_notes(references: Sequence[PlannedReference]) -> list[str]:
    """That training with labels has no probe of its own, where it stands in a column of probes."""
    return [
        f"“{reference.label}” trains all weights with labels: under the linear probe it is the same number as under "
        "fine-tuning, no probe of a frozen encoder."
        for reference in references
        if any(
            metric.startswith("lin/") and source.uid.startswith("finetune-")
            for metric, sources in reference.cells.items()
            for source in sources.values()
        )
    ]


def quoted(labels: Sequence[str]) -> str:
    """ "“a”, “b” and “c”" """
    *first, last = [f"“{label}”" for label in labels]
    return f"{', '.join(first)} and {last}" if first else last


def scaled(rows: Sequence[PlannedRow], rule: Mapping[str, Any]) -> tuple[Scaled, ...]:
    """Numbers that the paper states absolutely and that the profile's rule changed, each once."""
    changes = {
        (change.name, change.paper, change.value): Scaled(
            change.name, change.paper, change.value, str(rule.get(change.name, ""))
        )
        for row in rows
        for change in row.resolved.scaled
    }
    return tuple(sorted(changes.values(), key=lambda change: (change.name, change.paper)))


def departures(rows: Sequence[PlannedRow]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings with one value which is not the default, that is the paper's for I3D on UCF101.

    What the study itself varies or states is no departure.

    Returns:
        Those that act in every row, and those that act in some: the width of a decoder that not every row has.
    """
    from fima.config import Settings, flat

    usual = flat(Settings.model_validate({}).model_dump(mode="json"))
    told = {"decoder.init", "decoder.position", "decoder.dropout", "decoder.memory_norm"}  # by a note of their own
    told |= {name for row in rows for name in (*row.study.base, *row.row.set)}
    told |= {change.name for row in rows for change in row.resolved.scaled}
    each = [flat(row.resolved.settings.active()) for row in rows if row.row.encoder is None]
    every: dict[str, Any] = {}
    some: dict[str, Any] = {}
    for name in dict.fromkeys(name for settings in each for name in settings):
        first, *others = [settings[name] for settings in each if name in settings]
        if name not in told and usual.get(name) != first and all(other == first for other in others):
            (every if len(others) + 1 == len(each) else some)[name] = first
    return every, some


def alike(rows: Sequence[PlannedRow]) -> list[list[str]]:
    """Labels of rows that are one experiment: the command or the profile took away what they differ in."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if not row.pretrain:  # a given encoder that is not there
            continue
        groups.setdefault(tuple(row.pretrain.values()), []).append(row.row.label)
    return [labels for labels in groups.values() if len(labels) > 1]
