"""The best trial of a sweep as a row of a study's YAML, with a comment that says where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ablations.located import SpecError, display
from ablations.resolve import parse_overrides
from ablations.store import replace_file
from ablations.study import load_study

if TYPE_CHECKING:
    from ablations.dotted import Layer
    from ablations.findings import Findings, Found
    from ablations.study import Study


def promote(found: Findings, path: Path, commit: str) -> list[str]:
    """Append what was taken to test to the rows of a study; its text is otherwise left as it is.

    Returns:
        The labels of the new rows; none where they are there already.

    Raises:
        SpecError: the study has settings under its rows that the sweep has not, rows that text cannot be added to, or
            the sweep ran with an override that a row cannot say.
    """
    study, over = load_study(path), parse_overrides(found.overrides).settings
    for name, node in over.items():
        if name in found.profile.rule:  # rows are multiplied by it, overrides are not
            raise SpecError(
                f"{node.where}: profile {found.profile.profile} scales {name} of rows by {found.profile.rule[name]}, "
                "and an override it leaves alone: a row would not be what was found; put it into the sweep's base"
            )
    for name in study.base:
        known = name in found.sweep.space.base or name in over
        if not known and any(name not in trial.point for trial in found.best):
            raise SpecError(
                f"{study.base[name].where}: the study's base sets {name}, which sweep {found.sweep.sweep} left as it "
                "is: a row would not be what was found; promote into a study without it"
            )
    there = {row.label for row in study.rows}
    new = [trial for trial in found.best if label(found, trial) not in there]
    if not new:
        return []
    text = appended(
        path.read_text(encoding="utf-8"), [_lines(found, trial, study, over, commit) for trial in new], path
    )
    draft = path.with_name(f".{path.stem}.promoted.yaml")
    try:
        draft.write_text(text, encoding="utf-8")
        load_study(draft)
    finally:
        draft.unlink(missing_ok=True)
    replace_file(path, text)
    return [label(found, trial) for trial in new]


def label(found: Findings, trial: Found) -> str:
    return f"sweep {found.sweep.sweep} on {found.profile.profile}, trial {trial.number}"


def _lines(found: Findings, trial: Found, study: Study, over: Layer, commit: str) -> tuple[str, str]:
    """(comment, row) without indentation."""
    layer = {**found.sweep.space.base, **found.sweep.space.layer(trial.point, ""), **over}
    values: Mapping[str, Any] = {name: node.plain() for name, node in layer.items()}
    changed = {n: v for n, v in values.items() if n not in study.base or study.base[n].plain() != v}
    told = " and ".join(f"{o.metric} {v:.4g}" for o, v in zip(found.sweep.objectives, trial.values, strict=True))
    comment = (
        f"# best of {found.count('complete')} complete trials of sweep {found.sweep.sweep}, profile "
        f"{found.profile.profile}: {told} on 1/{found.sweep.held_out} of train; commit {commit or 'unknown'}"
    )
    if found.overrides:
        comment += f"; overrides {' '.join(found.overrides)}"
    row = json.dumps({"label": label(found, trial), "set": changed}, ensure_ascii=False)
    return comment, f"- {row}"


def appended(text: str, entries: Sequence[tuple[str, str]], path: Path) -> str:
    """YAML text with entries at the end of its `rows`, which are made if there are none.

    Raises:
        SpecError: `rows` is written in brackets.
    """
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)  # load_study has read it
    rows = next((node for key, node in root.value if key.value == "rows"), None)
    lines = text.splitlines()
    if rows is None:
        return "\n".join([*lines, "rows:", *(f"  {line}" for entry in entries for line in entry)]) + "\n"
    if rows.flow_style or not rows.value:
        raise SpecError(
            f"{display(path)}:{rows.start_mark.line + 1}: rows is written in brackets; put each row on a line of its "
            "own, begun with -, so that another can be added"
        )
    indent = " " * rows.start_mark.column
    at = rows.value[-1].end_mark.line + (1 if rows.value[-1].end_mark.column else 0)
    while at > 0 and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    return "\n".join([*lines[:at], *(indent + line for entry in entries for line in entry), *lines[at:]]) + "\n"
