"""A study (what is compared) and a profile (how large), read from YAML; and both resolved into settings.

Layers, later ones win: defaults of `fima.config` < profile < study's base < row < overrides of the command line.
Values that a study states on the paper's scale are multiplied by the profile's rule; overrides are taken literally.
Importing this module imports neither torch nor any model.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from fima.datasets import Data
from pydantic import BaseModel

from ablations.located import (
    Layer,
    Node,
    SpecError,
    fields,
    flatten,
    guess,
    parse,
    problems,
    read,
    validated,
)
from fima.config import Finetune, Linear, Retrieval, Settings

STUDIES = Path(__file__).resolve().parents[1] / "studies"
PROFILES = STUDIES / "profiles"

ROLES = ("pretrain", "ucf101", "hmdb51")  # who pre-trains; what plays the paper's UCF101 and HMDB51
TESTED = ROLES[1:]
COSTS = ("parameters", "gpu_days")  # measured whatever the profile measures: they come with pre-training
METRICS = tuple(f"{what}/{role}" for what in ("lin", "ft", "R1", "R5", "R10", "R20") for role in TESTED) + COSTS

_EVALUATIONS: dict[str, type[BaseModel]] = {"linear": Linear, "finetune": Finetune, "retrieval": Retrieval}


# --- Studies ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of a table: what it sets over the study's base, and what the paper printed."""

    label: str
    layer: Layer
    paper: Mapping[str, float]  # metric -> the printed value
    default: bool
    where: str

    @property
    def set(self) -> dict[str, Any]:
        """The settings by dotted name, on the paper's scale."""
        return {name: node.plain() for name, node in self.layer.items()}


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


def study_files() -> list[Path]:
    """The studies of the repository, in the order of the paper's tables."""

    def order(path: Path) -> tuple[int, str]:
        number = re.match(r"table(\d+)", path.stem)
        return (int(number[1]) if number else 10**6, path.stem)

    return sorted(STUDIES.glob("*.yaml"), key=order)


def profile_files() -> list[Path]:
    """The profiles of the repository, the small ones first."""
    small = ["debug", "demo", "mini"]
    return sorted(PROFILES.glob("*.yaml"), key=lambda p: (small.index(p.stem) if p.stem in small else 9, p.stem))


def find_study(name: str) -> Path:
    """A study by path, or by name in the repository.

    Raises:
        SpecError: no such file; the studies that exist.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = [file.stem for file in study_files()]
    if path.stem in known and len(path.parts) <= 2:
        return STUDIES / f"{path.stem}.yaml"
    beside = [file.name for file in path.parent.glob("*.yaml")] if len(path.parts) > 1 else []
    hint = guess(path.name, beside) or guess(path.stem, known)
    raise SpecError(f"{name}: no such study; there are {', '.join(known)}.{hint}")


def load_study(path: Path | str) -> Study:
    """Read a study and check all that can be checked without a profile.

    Raises:
        SpecError: `file:line: law, value, names that exist`.
    """
    path = find_study(str(path))
    root = read(path)
    part = _only(root, "a study", ["study", "title", "paper", "base", "rows", "grid", "zip", "label", "seeds", "metrics",
                                   "claims"], ["study", "title", "metrics"])  # fmt: skip
    name = _text(part["study"], "study")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SpecError(
            f"{part['study'].where}: study must be letters, digits, _ . and - (it names a folder), got {name}"
        )
    paper = _only(part["paper"], "paper", ["table", "source"]) if "paper" in part else {}
    base = flatten(part["base"], Settings) if "base" in part else {}
    metrics = _metrics(part["metrics"])
    rows = _rows(part, base, metrics, root.where)
    study = Study(
        study=name,
        title=_text(part["title"], "title"),
        paper={key: _text(node, f"paper.{key}") for key, node in paper.items()},
        base=base,
        rows=rows,
        seeds=_seeds(part["seeds"]) if "seeds" in part else None,
        metrics=metrics,
        claims=tuple(_claim(node, rows, metrics) for node in _list(part["claims"], "claims"))
        if "claims" in part
        else (),
        path=path,
    )
    for row in rows:  # laws between several settings wait for the profile
        for problem in problems(Settings, _plain(Settings()), {**base, **row.layer}):
            if not problem.joint:
                raise SpecError(problem.line)
    return study


def _rows(part: Mapping[str, Node], base: Layer, metrics: Sequence[str], where: str) -> tuple[Row, ...]:
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
    for node in _list(part["rows"], "rows") if "rows" in part else []:
        entry = _only(node, "a row", ["label", "set", "paper", "default"], ["label"])
        row = Row(
            label=_text(entry["label"], "label"),
            layer=flatten(entry["set"], Settings) if "set" in entry else {},
            paper=_numbers(entry["paper"], metrics) if "paper" in entry else {},
            default=_flag(entry["default"], "default") if "default" in entry else False,
            where=node.where,
        )
        if row.label in written:
            first = written[row.label].where.rpartition(":")[2]
            raise SpecError(
                f"{row.where}: the label {row.label} is taken by the row in line {first}; labels must differ"
            )
        written[row.label] = row
        if row.label in rows:
            under = rows[row.label]
            rows[row.label] = replace(row, layer={**under.layer, **row.layer})
        elif generated and not row.layer:
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


def _generated(part: Mapping[str, Node]) -> list[Row]:
    """The product of the axes of `grid`, and of all lists of `zip` taken in parallel as one more axis."""
    axes: list[list[dict[str, Node]]] = []
    for key in ("grid", "zip"):
        if key not in part:
            continue
        lists = {name: _list(node, f"{key}: {name}") for name, node in flatten(part[key], Settings).items()}
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

    return re.sub(r"\{([^{}]*)\}", fill, _text(template, "label"))


def _claim(node: Node, rows: Sequence[Row], metrics: Sequence[str]) -> Claim:
    entry = _only(node, "a claim", ["says", "metric", "best", "worst", "better", "worse", "equal", "ratio", "value"],
                  ["says", "metric"])  # fmt: skip
    forms = [name for name in ("best", "worst", "better", "equal", "ratio") if name in entry]
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
        text = _text(value, form)
        if text not in labels:
            raise SpecError(f"{value.where}: no row is labelled {text}; rows are {', '.join(labels)}."
                            f"{guess(text, labels)}")  # fmt: skip
        return text

    def several(value: Node) -> tuple[str, ...]:
        return tuple(known(item) for item in value.value) if isinstance(value.value, list) else (known(value),)

    metric = _one_of(entry["metric"], "metric", metrics, "the study's metrics are")
    claim = Claim(
        says=_text(entry["says"], "says"),
        metric=metric,
        where=node.where,
        best=known(entry["best"]) if form == "best" else None,
        worst=known(entry["worst"]) if form == "worst" else None,
        better=known(entry["better"]) if form == "better" else None,
        worse=several(entry["worse"]) if form == "better" else (),
        equal=several(entry["equal"]) if form == "equal" else (),
        ratio=_pair(several(entry["ratio"]), entry["ratio"].where) if form == "ratio" else None,
        value=_number(entry["value"], "value") if form == "ratio" else None,
    )
    if form == "equal" and len(claim.equal) < 2:
        raise SpecError(f"{node.where}: equal takes two labels or more, got {entry['equal'].shown()}")
    if len(set(claim.labels)) < len(claim.labels) or (form == "better" and not claim.worse):
        raise SpecError(f"{node.where}: a claim compares different rows, got {', '.join(claim.labels)}")
    return claim


def _pair(labels: tuple[str, ...], where: str) -> tuple[str, str]:
    if len(labels) != 2:
        raise SpecError(f"{where}: ratio takes two labels, got {', '.join(labels)}")
    return labels[0], labels[1]


# --- Profiles -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """How large: settings under every study, the data of each role, evaluation protocols, and the rule of scale."""

    profile: str
    title: str
    scale: str  # one line: what differs from the paper; printed in every report
    reduced: bool
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    settings: Layer
    data: Mapping[str, Layer]
    linear: Layer
    finetune: Layer
    retrieval: Layer
    roles: Mapping[str, Mapping[str, Layer]]  # role -> linear | finetune -> changes
    rule: Mapping[str, Fraction]  # setting -> factor on a study's value
    path: Path
    roots: tuple[str, ...] = ()


def load_profile(name: str) -> Profile:
    """A profile by name in studies/profiles, or by path.

    `extends: NAME` starts from another profile: its settings, data, protocols and rule are changed, not replaced.

    Raises:
        SpecError: `file:line: law, value, names that exist`.
    """
    return _load_profile(name, "", ())


def _load_profile(name: str, asked: str, above: tuple[Path, ...]) -> Profile:
    path = Path(name)
    if not (path.suffix in (".yaml", ".yml") and path.is_file()):
        path = PROFILES / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in profile_files()]
        place = f"{asked}: " if asked else ""
        raise SpecError(f"{place}no profile {name}; there are {', '.join(known)}.{guess(Path(name).stem, known)}")
    if path.resolve() in above:
        raise SpecError(f"{asked}: a profile cannot extend itself")
    root = read(path)
    part = _only(root, "a profile", ["profile", "extends", "title", "scale", "reduced", "seeds", "metrics", "settings",
                                     "data", "linear", "finetune", "retrieval", "roles", "rule"], ["profile", "title", "scale"])  # fmt: skip
    under = None
    if "extends" in part:
        node = part["extends"]
        under = _load_profile(_text(node, "extends"), node.where, (*above, path.resolve()))
    else:
        _only(root, "a profile", list(part), ["reduced", "seeds", "metrics", "data"])
    data = _only(part["data"], "data", list(ROLES)) if "data" in part else {}
    roles: dict[str, Mapping[str, Layer]] = {
        role: dict(kinds) for role, kinds in (under.roles if under else {}).items()
    }
    for role, node in (_only(part["roles"], "roles", list(TESTED)) if "roles" in part else {}).items():
        kinds = _only(node, f"roles.{role}", ["linear", "finetune"])
        roles[role] = {
            kind: {
                **roles.get(role, {}).get(kind, {}),
                **(flatten(kinds[kind], _EVALUATIONS[kind], f"roles.{role}.{kind}.") if kind in kinds else {}),
            }
            for kind in ("linear", "finetune")
        }

    def layer(key: str, model: type[BaseModel]) -> Layer:
        inherited: Layer = getattr(under, key) if under else {}
        prefix = "" if key == "settings" else f"{key}."
        return {**inherited, **(flatten(part[key], model, prefix) if key in part else {})}

    profile = Profile(
        profile=_text(part["profile"], "profile"),
        title=_text(part["title"], "title"),
        scale=_text(part["scale"], "scale"),
        reduced=_flag(part["reduced"], "reduced") if "reduced" in part else _from(under).reduced,
        seeds=_seeds(part["seeds"]) if "seeds" in part else _from(under).seeds,
        metrics=_metrics(part["metrics"]) if "metrics" in part else _from(under).metrics,
        settings=layer("settings", Settings),
        data={
            role: {
                **(under.data[role] if under else {}),
                **(flatten(data[role], Data, f"data.{role}.", "field") if role in data else {}),
            }
            for role in ROLES
        },
        linear=layer("linear", Linear),
        finetune=layer("finetune", Finetune),
        retrieval=layer("retrieval", Retrieval),
        roles=roles,
        rule={**(under.rule if under else {}), **(_rule(part["rule"]) if "rule" in part else {})},
        path=path,
    )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", profile.profile):
        raise SpecError(f"{part['profile'].where}: profile must be letters, digits, _ . and - (it names a folder), "
                        f"got {profile.profile}")  # fmt: skip
    for role, chosen in profile.data.items():
        if not chosen:
            raise SpecError(f"{part['data'].where if 'data' in part else root.where}: data needs the role {role}")
    validated(Settings, _plain(Settings()), profile.settings)
    _evaluation(profile, {})
    return profile


def _from(under: Profile | None) -> Profile:
    assert under is not None  # without `extends` the keys are required
    return under


def _rule(node: Node) -> dict[str, Fraction]:
    rule = {}
    for name, value in flatten(node, Settings).items():
        if fields(Settings)[name].annotation not in (int, float):
            raise SpecError(f"{value.where}: rule: {name} is no number, so it cannot be scaled")
        try:
            rule[name] = Fraction(value.text)
        except (ValueError, ZeroDivisionError):
            rule[name] = Fraction(0)
        if rule[name] <= 0:
            raise SpecError(f"{value.where}: rule: {name} must be a fraction above 0, such as 1/4, got {value.shown()}")
    return rule


def apply_roots(profile: Profile, roots: Sequence[str]) -> Profile:
    """The profile with folders of real videos.

    Args:
        profile: to be changed.
        roots: `DIR` for every role that is not embedded, or `NAME=DIR` for a role or a data set of that name. Where
            DIR holds a folder named as the data set (UCF101, ucf101), that one is taken.

    Raises:
        SpecError: no such folder, or no role and no data set of that name.
    """
    for text in roots:
        name, folder = _root(text)
        if not folder.is_dir():
            raise SpecError(f"{folder}: no such folder; give the folder of the videos")
        names = {node.plain() for layer in profile.data.values() for key, node in layer.items() if key == "name"}
        if name is not None and name not in {*ROLES, *names, *_data_names()}:
            raise SpecError(f"{text}: no role and no data set is named {name}; roles are {', '.join(ROLES)}."
                            f"{guess(name, ROLES)}")  # fmt: skip
    return replace(profile, roots=tuple(roots))


def _data_names() -> tuple[str, ...]:
    names: tuple[str, ...] = fields(Data)["name"].annotation.__args__  # type: ignore[union-attr]
    return names


def _root(text: str) -> tuple[str | None, Path]:
    name, equals, folder = text.partition("=")
    if not equals or Path(text).expanduser().is_dir():
        return None, Path(text).expanduser().resolve()
    return name, Path(folder).expanduser().resolve()


# --- Resolving ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled:
    """A setting that the study states on the paper's scale and the profile's rule changed."""

    name: str
    paper: float
    value: float


@dataclass(frozen=True)
class Resolved:
    """All that a row runs with."""

    settings: Settings
    data: Mapping[str, Data]  # by role
    linear: Mapping[str, Linear]  # by tested role
    finetune: Mapping[str, Finetune]
    retrieval: Retrieval
    scaled: tuple[Scaled, ...] = field(default=())


def resolve(study: Study, row: Row, profile: Profile, overrides: Sequence[str] = ()) -> Resolved:
    """Settings, data and protocols of a row under a profile.

    Args:
        overrides: `KEY=VALUE` with the value as YAML; KEY is a setting (`foreground.beta`), `data.FIELD`,
            `data.ROLE.FIELD`, `linear.X`, `finetune.X`, `retrieval.X`, `ROLE.linear.X` or `ROLE.finetune.X`.

    Raises:
        SpecError: `file:line: ...` or `override KEY=VALUE: ...`.
    """
    over = parse_overrides(overrides)
    stated = {**study.base, **row.layer}
    layer: dict[str, Node] = dict(profile.settings)
    scaled = []
    for name, node in stated.items():
        factor = profile.rule.get(name, Fraction(1))
        value = node.plain()
        if factor == 1 or isinstance(value, bool) or not isinstance(value, int | float):
            layer[name] = node
            continue
        product = Fraction(str(value)) * factor
        if fields(Settings)[name].annotation is int and product.denominator != 1:
            raise SpecError(
                f"{node.where}: {name} {value} times the rule {factor} of profile {profile.profile} is "
                f"{float(product):g}, no whole number; take a multiple of {factor.denominator}"
            )
        changed: float = int(product) if product.denominator == 1 else float(product)
        layer[name] = replace(node, value=changed, text=str(changed))
        if name not in over.settings:
            scaled.append(Scaled(name, value, changed))
    settings = validated(Settings, _plain(Settings()), {**layer, **over.settings})
    linear, finetune, retrieval = _evaluation(profile, over.evaluation)
    return Resolved(settings, _data(profile, over.data), linear, finetune, retrieval, tuple(scaled))


@dataclass(frozen=True)
class Overrides:
    """The command line's `KEY=VALUE`, sorted by what they change."""

    settings: Layer
    data: Mapping[str, Layer]  # by role
    evaluation: Mapping[tuple[str, str], Layer]  # by (role or "", linear | finetune | retrieval)


def parse_overrides(overrides: Sequence[str]) -> Overrides:
    """Sort and check the names of overrides; later ones win.

    Raises:
        SpecError: no `=`, no YAML, or no such name.
    """
    settings: dict[str, Node] = {}
    data: dict[str, dict[str, Node]] = {role: {} for role in ROLES}
    evaluation: dict[tuple[str, str], dict[str, Node]] = {}
    for text in overrides:
        name = f"override {text}"
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SpecError(f"{name}: must be KEY=VALUE, such as foreground.beta=0.4")
        node = replace(parse(value, name, numbered=False), where=name)
        first, *rest = key.split(".")
        if first == "data":
            roles = ROLES if not rest or rest[0] not in ROLES else (rest.pop(0),)
            prefix = f"data.{roles[0]}." if len(roles) == 1 else "data."
            given = flatten(_under(rest, node), Data, prefix, "field")
            for role in roles:
                data[role].update(given)
        elif first in _EVALUATIONS:
            given = flatten(_under(rest, node), _EVALUATIONS[first], f"{first}.")
            evaluation.setdefault(("", first), {}).update(given)
        elif first in TESTED and rest and rest[0] in ("linear", "finetune"):
            given = flatten(_under(rest[1:], node), _EVALUATIONS[rest[0]], f"{first}.{rest[0]}.")
            evaluation.setdefault((first, rest[0]), {}).update(given)
        elif first in ROLES:
            have = f"{first}.linear and {first}.finetune" if first in TESTED else f"data.{first}"
            raise SpecError(f"{name}: {key} is not a setting; the role {first} has {have}")
        else:
            settings.update(flatten(_under(key.split("."), node), Settings))
    return Overrides(settings, data, evaluation)


def _under(names: Sequence[str], node: Node) -> Node:
    return replace(node, value={".".join(names): node}) if names else node


def _data(profile: Profile, over: Mapping[str, Layer]) -> dict[str, Data]:
    out = {}
    for role in ROLES:
        layer = dict(profile.data[role])
        given = over.get(role, {})
        if "name" in given and ("name" not in layer or given["name"].plain() != layer["name"].plain()):
            layer.pop("root", None)  # the folder of another data set
        layer.update(given)
        name = layer["name"].plain() if "name" in layer else None
        if "root" not in given and name != "embedded":
            for text in profile.roots:
                only, folder = _root(text)
                if only in (None, role, name):
                    inside = [path for path in folder.iterdir() if path.is_dir() and path.name.lower() == name]
                    layer["root"] = Node(str(min(inside, default=folder)), f"--data-root {text}")
        root = layer.get("root")
        if root is not None and isinstance(root.value, str):
            layer["root"] = replace(root, value=str(Path(root.value).expanduser().absolute()))
        out[role] = validated(Data, {}, layer, f"data.{role}.")
    return out


def _evaluation(
    profile: Profile, over: Mapping[tuple[str, str], Layer]
) -> tuple[dict[str, Linear], dict[str, Finetune], Retrieval]:
    """Protocols by role. An override for all roles beats what the profile says of one."""

    def layer(role: str, kind: str) -> Layer:
        own: Layer = profile.linear if kind == "linear" else profile.finetune
        return {
            **own,
            **profile.roles.get(role, {}).get(kind, {}),
            **over.get(("", kind), {}),
            **over.get((role, kind), {}),
        }

    linear = {role: validated(Linear, _plain(Linear()), layer(role, "linear"), "linear.") for role in TESTED}
    finetune = {role: validated(Finetune, _plain(Finetune()), layer(role, "finetune"), "finetune.") for role in TESTED}
    given = {**profile.retrieval, **over.get(("", "retrieval"), {})}
    return linear, finetune, validated(Retrieval, _plain(Retrieval()), given, "retrieval.")


def _plain(model: BaseModel) -> dict[str, Any]:
    """A model's values by dotted name, as JSON data."""
    tree = model.model_dump(mode="json")
    flat = {}
    for name in fields(type(model)):
        value: Any = tree
        for key in name.split("."):
            value = value[key]
        flat[name] = value
    return flat


# --- Small parts of YAML ------------------------------------------------------------------------------------------


def _only(node: Node, what: str, known: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Node]:
    """A mapping that has no other keys than those known, and all that are needed."""
    if not isinstance(node.value, dict):
        raise SpecError(f"{node.where}: {what} must be a mapping of names to values, got {node.shown()}")
    found: dict[str, Node] = node.value
    for key, child in found.items():
        if key not in known:
            raise SpecError(
                f"{child.where}: {key} is not a key of {what}; there are {', '.join(known)}.{guess(key, known)}"
            )
    for key in needed:
        if key not in found:
            raise SpecError(f"{node.where}: {what} needs {key}")
    return found


def _list(node: Node, what: str) -> list[Node]:
    if not isinstance(node.value, list):
        raise SpecError(f"{node.where}: {what} must be a list, got {node.shown()}")
    return node.value


def _text(node: Node, what: str) -> str:
    """Text; a bare number or true counts as it is written, so that labels need no quotes."""
    if isinstance(node.value, dict | list) or node.value is None or not node.text.strip():
        raise SpecError(f"{node.where}: {what} must be text, got {node.shown() or 'nothing'}")
    return node.text


def _flag(node: Node, what: str) -> bool:
    if not isinstance(node.value, bool):
        raise SpecError(f"{node.where}: {what} must be true or false, got {node.shown()}")
    return node.value


def _number(node: Node, what: str) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise SpecError(f"{node.where}: {what} must be a number, got {node.shown()}")
    return float(node.value)


def _one_of(node: Node, what: str, known: Iterable[str], have: str = "there are") -> str:
    text, names = _text(node, what), list(known)
    if text not in names:
        raise SpecError(f"{node.where}: {text} is not a {what}; {have} {', '.join(names)}.{guess(text, names)}")
    return text


def _numbers(node: Node, metrics: Sequence[str]) -> dict[str, float]:
    values = _only(node, "paper", list(METRICS))
    for name, value in values.items():
        if name not in metrics:
            raise SpecError(
                f"{value.where}: {name} is not among the study's metrics {', '.join(metrics)}; add it there"
            )
    return {name: _number(value, f"paper.{name}") for name, value in values.items()}


def _metrics(node: Node) -> tuple[str, ...]:
    names = tuple(_one_of(item, "metric", METRICS) for item in _list(node, "metrics"))
    if not names or len(set(names)) < len(names):
        raise SpecError(f"{node.where}: metrics must be one or more, each once, got {json.dumps(node.plain())}")
    return names


def _seeds(node: Node) -> tuple[int, ...]:
    seeds = node.plain()
    if (
        not isinstance(seeds, list)
        or not seeds
        or any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise SpecError(
            f"{node.where}: seeds must be different whole numbers from 0 up, such as [0, 1], got {node.shown()}"
        )
    return tuple(seeds)
