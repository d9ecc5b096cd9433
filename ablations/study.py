"""A study: what one table compares, what the paper printed, and what it claims. Read from YAML."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations.diagnoses import DIAGNOSES
from ablations.dotted import Layer, defaults_of, flatten, problems
from ablations.located import (
    Node,
    SpecError,
    find_file,
    flag_of,
    guess,
    items_of,
    keys_of,
    name_of,
    number_of,
    one_of,
    read,
    text_of,
)
from fima.config import Settings

STUDIES = Path(__file__).resolve().parents[1] / "studies"

ROLES = ("pretrain", "ucf101", "hmdb51", "diving48")  # who pre-trains; what plays the paper's data sets
TESTED = ROLES[1:]
OPTIONAL = ("diving48",)  # a profile may do without: only Table 5 asks for it
LARGEST_SEED = 2**32 - 1  # that numpy and scikit-learn take
COSTS = ("parameters", "gpu_days")  # measured whatever the profile measures: they come with pre-training
METRICS = tuple(f"{what}/{role}" for what in ("lin", "ft", "R1", "R5", "R10", "R20") for role in TESTED) + COSTS
METRICS += tuple(DIAGNOSES)  # measured whatever the profile measures: a study asks for them
ROW = ("label", "set", "encoder", "paper", "default")
ARCHITECTURE = "backbone.name"  # all that a row whose encoder is given may set
KEYS = ("study", "title", "paper", "base", "rows", "grid", "zip", "label", "seeds", "metrics", "cited", "claims")
CITED = ("label", "backbone", "frames", "resolution", "pretrain", "paper", "note")
FORMS = ("best", "worst", "better", "equal", "ratio")  # a claim is exactly one of these
CLAIM = ("says", "metric", *FORMS, "worse", "value")


@dataclass(frozen=True)
class Given:
    """An encoder that was trained elsewhere and is evaluated: a file for each seed, or one."""

    text: str  # as the study has it; {seed} is the seed
    folder: Path  # of the study

    def path(self, seed: int) -> Path:
        """The file of a seed."""
        return (self.folder / Path(self.text.replace("{seed}", str(seed))).expanduser()).absolute()

    @property
    def single(self) -> bool:
        """Whether it is one encoder, whose spread over pre-trainings nobody knows."""
        return "{seed}" not in self.text


@dataclass(frozen=True)
class Row:
    """A row of a table: what it sets over the study's base, and what the paper printed."""

    label: str
    layer: Layer
    paper: Mapping[str, float]  # metric -> the printed value
    default: bool
    where: str
    encoder: Given | None = None  # instead of a pre-training

    @property
    def set(self) -> dict[str, Any]:
        """The settings by dotted name, on the paper's scale."""
        return {name: node.plain() for name, node in self.layer.items()}


@dataclass(frozen=True)
class Cited:
    """A line of the paper's table that the literature reports, or the paper under one recipe; nothing is run for it.

    A row of the study that bears its label takes the printed numbers from it, where the row's recipe is this one.
    """

    label: str
    backbone: str  # as the paper writes it: R(2+1)D
    frames: int | None
    resolution: int | None  # pixels
    pretrain: str  # data set, as the paper writes it
    paper: Mapping[str, float]
    note: str
    where: str


@dataclass(frozen=True)
class Claim:
    """What the paper says of a table. Exactly one of best, worst, better (with worse), equal, ratio is given."""

    says: str
    metric: str
    where: str
    best: str | None = None
    worst: str | None = None
    better: str | None = None
    worse: tuple[str, ...] = ()  # each of these is below `better`
    equal: tuple[str, ...] = ()
    ratio: tuple[str, str] | None = None  # first / second = value
    value: float | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every row that the claim names."""
        single = [label for label in (self.best, self.worst, self.better) if label is not None]
        return (*single, *self.worse, *self.equal, *(self.ratio or ()))


@dataclass(frozen=True)
class Study:
    """One table."""

    study: str
    title: str
    paper: Mapping[str, str]  # table, source; empty for a study of one's own
    base: Layer
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] | None
    metrics: tuple[str, ...]
    claims: tuple[Claim, ...]
    path: Path
    cited: tuple[Cited, ...] = ()


def study_files() -> list[Path]:
    """The studies of the repository, in the order of the paper's tables."""

    def order(path: Path) -> tuple[int, str]:
        number = re.match(r"table(\d+)", path.stem)
        return (int(number[1]) if number else 10**6, path.stem)

    return sorted(STUDIES.glob("*.yaml"), key=order)


def embedded_studies() -> list[Path]:
    """Studies about the embedded videos and the regime, which the paper has none of; `all` leaves them out."""
    return sorted((STUDIES / "embedded").glob("*.yaml"))


def find_study(name: str) -> Path:
    """A study by path, or by name in the repository.

    Raises:
        SpecError: no such file; the studies that exist.
    """
    return find_file(name, "study", [*study_files(), *embedded_studies()])


def find_studies(names: Sequence[str]) -> list[Path]:
    """Studies by path or name; none, or `all`: those of the paper's tables.

    Raises:
        SpecError: no such file; the studies that exist.
    """
    return [find_study(name) for name in names] if list(names) not in ([], ["all"]) else study_files()


def load_study(path: Path | str) -> Study:
    """Read a study and check all that can be checked without a profile.

    Raises:
        SpecError: `file:line: law, value, names that exist`.
    """
    path = find_study(str(path))
    root = read(path)
    part = keys_of(root, "a study", KEYS, ["study", "title", "metrics"])
    name = name_of(part["study"], "study")
    paper = keys_of(part["paper"], "paper", ["table", "source"]) if "paper" in part else {}
    base = flatten(part["base"], Settings) if "base" in part else {}
    metrics = metrics_of(part["metrics"])
    rows = _rows(part, base, metrics, root.where, path.parent)
    study = Study(
        study=name,
        title=text_of(part["title"], "title"),
        paper={key: text_of(node, f"paper.{key}") for key, node in paper.items()},
        base=base,
        rows=rows,
        seeds=seeds_of(part["seeds"]) if "seeds" in part else None,
        metrics=metrics,
        claims=tuple(_claim(node, rows, metrics) for node in items_of(part["claims"], "claims"))
        if "claims" in part
        else (),
        path=path,
        cited=_cited(part["cited"], rows, metrics) if "cited" in part else (),
    )
    for row in rows:  # laws between several settings wait for the profile
        for problem in problems(Settings, defaults_of(Settings), {**base, **row.layer}):
            if not problem.joint:
                raise SpecError(problem.line)
    return study


def _rows(part: Mapping[str, Node], base: Layer, metrics: Sequence[str], where: str, folder: Path) -> tuple[Row, ...]:
    """Rows that are generated by `grid` and `zip`, then those that are written out.

    Beside a grid or zip, an entry of `rows` that bears a generated label adds its paper values, default flag and
    settings to that row; one with a new label must `set` something, and is a row of its own.
    """
    generated = _generated(part)
    rows = {row.label: row for row in generated}
    if len(rows) < len(generated):
        labels = [row.label for row in generated]
        twice = next(label for label in labels if labels.count(label) > 1)
        axes = part.get("grid") or part["zip"]
        raise SpecError(f"{part.get('label', axes).where}: two generated rows have the label {twice}; name all that "
                        "changes, such as label: \"{decoder.width}, {decoder.heads} heads\"")  # fmt: skip
    written: dict[str, Row] = {}
    for node in items_of(part["rows"], "rows") if "rows" in part else []:
        entry = keys_of(node, "a row", ROW, ["label"])
        row = Row(
            label=text_of(entry["label"], "label"),
            layer=flatten(entry["set"], Settings) if "set" in entry else {},
            paper=_numbers(entry["paper"], metrics) if "paper" in entry else {},
            default=flag_of(entry["default"], "default") if "default" in entry else False,
            where=node.where,
            encoder=Given(text_of(entry["encoder"], "encoder"), folder) if "encoder" in entry else None,
        )
        _check_given(row)
        if row.label in written:
            first = written[row.label].where.rpartition(":")[2]
            raise SpecError(
                f"{row.where}: the label {row.label} is taken by the row in line {first}; labels must differ"
            )
        written[row.label] = row
        if row.label in rows and row.encoder is not None:
            raise SpecError(
                f"{row.where}: the row {row.label} is generated, and is pre-trained; give the encoder a label"
            )
        if row.label in rows:
            under = rows[row.label]
            rows[row.label] = replace(row, layer={**under.layer, **row.layer})
        elif generated and not row.layer and row.encoder is None:
            raise SpecError(
                f"{row.where}: no generated row is labelled {row.label} and it sets nothing; generated are "
                f"{', '.join(under.label for under in generated)}.{guess(row.label, rows)}"
            )
        else:
            rows[row.label] = row
    if not rows:
        raise SpecError(f"{part['rows'].where if 'rows' in part else where}: a study needs rows, a grid or a zip")
    defaults = [row for row in rows.values() if row.default]
    if len(defaults) > 1:
        raise SpecError(
            f"{defaults[1].where}: the default row is {defaults[0].label} already "
            f"(line {defaults[0].where.rpartition(':')[2]}); one row at most is the default"
        )
    return tuple(rows.values())


def _check_given(row: Row) -> None:
    """A row whose encoder is given is not pre-trained: it says at most which architecture it is."""
    if row.encoder is None:
        return
    if row.default:
        raise SpecError(f"{row.where}: the default row is pre-trained here, so that it takes no encoder")
    for name, node in row.layer.items():
        if name != ARCHITECTURE:
            raise SpecError(
                f"{node.where}: the row {row.label} has an encoder and is not pre-trained: it sets "
                f"{ARCHITECTURE} at most, not {name}"
            )


def _generated(part: Mapping[str, Node]) -> list[Row]:
    """The product of the axes of `grid`, and of all lists of `zip` taken in parallel as one more axis."""
    axes: list[list[dict[str, Node]]] = []
    for key in ("grid", "zip"):
        if key not in part:
            continue
        lists = {name: items_of(node, f"{key}: {name}") for name, node in flatten(part[key], Settings).items()}
        for name, values in lists.items():
            if not values:
                raise SpecError(f"{part[key].where}: {key}: {name} must hold at least one value")
        if key == "grid":
            axes += [[{name: value} for value in values] for name, values in lists.items()]
        elif lists:
            if len({len(values) for values in lists.values()}) > 1:
                sizes = ", ".join(f"{name} {len(values)}" for name, values in lists.items())
                raise SpecError(f"{part[key].where}: lists of zip must be equally long, got {sizes}")
            axes.append([dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)])
    if not axes:
        if "label" in part:
            raise SpecError(
                f"{part['label'].where}: label is the template of rows made by grid or zip; there is neither"
            )
        return []
    rows = []
    for choice in itertools.product(*axes):
        layer = {name: node for chosen in choice for name, node in chosen.items()}
        if len(layer) < sum(len(chosen) for chosen in choice):
            raise SpecError(f"{part['zip'].where}: a setting is in both grid and zip; remove one")
        label = _template(part["label"], layer) if "label" in part else _label(layer)
        rows.append(Row(label, layer, {}, False, next(iter(layer.values())).where))
    return rows


def _written(node: Node) -> str:
    value = node.plain()
    if isinstance(value, list):
        return "+".join(str(item) for item in value)
    return node.text or str(value)


def _label(layer: Layer) -> str:
    """One setting: its value. Several: `width 256, heads 4`, in full where last names are equal."""
    if len(layer) == 1:
        return _written(next(iter(layer.values())))
    last = [name.rpartition(".")[2] for name in layer]
    short = len(set(last)) == len(last)
    return ", ".join(f"{brief if short else name} {_written(node)}"
                     for (name, node), brief in zip(layer.items(), last, strict=True))  # fmt: skip


def _template(template: Node, layer: Layer) -> str:
    def fill(found: re.Match[str]) -> str:
        if found[1] not in layer:
            raise SpecError(
                f"{template.where}: {{{found[1]}}} is in neither grid nor zip, which have "
                f"{', '.join(layer)}.{guess(found[1], layer)}"
            )
        return _written(layer[found[1]])

    return re.sub(r"\{([^{}]*)\}", fill, text_of(template, "label"))


def _cited(node: Node, rows: Sequence[Row], metrics: Sequence[str]) -> tuple[Cited, ...]:
    found: dict[tuple[str, str, str], Cited] = {}
    for item in items_of(node, "cited"):
        entry = keys_of(item, "a cited line", CITED, ["label", "backbone", "pretrain", "paper"])
        label, backbone, pretrain = (text_of(entry[name], name) for name in ("label", "backbone", "pretrain"))
        key = (label, backbone, pretrain)
        if key in found:
            first = found[key].where.rpartition(":")[2]
            raise SpecError(f"{item.where}: {label} with {backbone} on {pretrain} is cited in line {first} already")
        own = next((row for row in rows if row.label == label and row.paper), None)
        if own is not None:
            raise SpecError(f"{own.where}: the row {label} takes its printed numbers from `cited`; remove its paper")
        found[key] = Cited(
            label,
            backbone,
            _whole(entry["frames"], "frames") if "frames" in entry else None,
            _whole(entry["resolution"], "resolution") if "resolution" in entry else None,
            pretrain,
            _numbers(entry["paper"], metrics),
            text_of(entry["note"], "note") if "note" in entry else "",
            item.where,
        )
    return tuple(found.values())


def _whole(node: Node, name: str) -> int:
    value = number_of(node, name)
    if value < 1 or value != int(value):
        raise SpecError(f"{node.where}: {name} must be a whole number from 1 up, got {node.shown()}")
    return int(value)


def _claim(node: Node, rows: Sequence[Row], metrics: Sequence[str]) -> Claim:
    entry = keys_of(node, "a claim", CLAIM, ["says", "metric"])
    forms = [name for name in FORMS if name in entry]
    if len(forms) != 1:
        raise SpecError(f"{node.where}: a claim has exactly one of best, worst, better (with worse), equal, ratio "
                        f"(with value), got {', '.join(forms) or 'none'}")  # fmt: skip
    form = forms[0]
    for partner, owner in (("worse", "better"), ("value", "ratio")):
        if (partner in entry) != (form == owner):
            lack = f"{owner} needs {partner}" if form == owner else f"{partner} belongs to {owner}, not to {form}"
            raise SpecError(f"{node.where}: {lack}")
    labels = [row.label for row in rows]

    def known(value: Node) -> str:
        text = text_of(value, form)
        if text not in labels:
            raise SpecError(f"{value.where}: no row is labelled {text}; rows are {', '.join(labels)}."
                            f"{guess(text, labels)}")  # fmt: skip
        return text

    def several(value: Node) -> tuple[str, ...]:
        return tuple(known(item) for item in value.value) if isinstance(value.value, list) else (known(value),)

    metric = one_of(entry["metric"], "metric", metrics, "the study's metrics are")
    claim = Claim(
        says=text_of(entry["says"], "says"),
        metric=metric,
        where=node.where,
        best=known(entry["best"]) if form == "best" else None,
        worst=known(entry["worst"]) if form == "worst" else None,
        better=known(entry["better"]) if form == "better" else None,
        worse=several(entry["worse"]) if form == "better" else (),
        equal=several(entry["equal"]) if form == "equal" else (),
        ratio=_pair(several(entry["ratio"]), entry["ratio"].where) if form == "ratio" else None,
        value=number_of(entry["value"], "value") if form == "ratio" else None,
    )
    given = [row.label for row in rows if row.label in claim.labels and row.encoder is not None]
    if metric in COSTS and given:
        raise SpecError(f"{node.where}: what {given[0]} cost is not known here, for its encoder is given")
    if claim.value is not None and claim.value <= 0:
        raise SpecError(f"{entry['value'].where}: the value of a ratio must be above 0, got {entry['value'].shown()}")
    if form == "equal" and len(claim.equal) < 2:
        raise SpecError(f"{node.where}: equal takes two labels or more, got {entry['equal'].shown()}")
    if len(set(claim.labels)) < len(claim.labels) or (form == "better" and not claim.worse):
        raise SpecError(f"{node.where}: a claim compares different rows, got {', '.join(claim.labels)}")
    return claim


def _pair(labels: tuple[str, ...], where: str) -> tuple[str, str]:
    if len(labels) != 2:
        raise SpecError(f"{where}: ratio takes two labels, got {', '.join(labels)}")
    return labels[0], labels[1]


def _numbers(node: Node, metrics: Sequence[str]) -> dict[str, float]:
    values = keys_of(node, "paper", list(METRICS))
    for name, value in values.items():
        if name not in metrics:
            raise SpecError(
                f"{value.where}: {name} is not among the study's metrics {', '.join(metrics)}; add it there"
            )
    return {name: number_of(value, f"paper.{name}") for name, value in values.items()}


def metrics_of(node: Node) -> tuple[str, ...]:
    names = tuple(one_of(item, "metric", METRICS) for item in items_of(node, "metrics"))
    if not names or len(set(names)) < len(names):
        raise SpecError(f"{node.where}: metrics must be one or more, each once, got {json.dumps(node.plain())}")
    return names


def seeds_of(node: Node) -> tuple[int, ...]:
    seeds = node.plain()
    if (
        not isinstance(seeds, list)
        or not seeds
        or any(not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise SpecError(
            f"{node.where}: seeds must be different whole numbers from 0 to {LARGEST_SEED}, such as [0, 1], got "
            f"{node.shown()}"
        )
    return tuple(seeds)
