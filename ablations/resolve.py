"""A row of a study under a profile: all that it runs with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ablations.dotted import Layer, defaults_of, fields, flatten, validated
from ablations.located import Node, SpecError, parse
from ablations.profile import EVALUATIONS, Profile, folder_of, protocols
from ablations.study import OPTIONAL, ROLES, TESTED, Row, Study
from fima.config import Finetune, Linear, Retrieval, Settings
from fima.datasets import Data


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
    data: Mapping[str, Data]  # by role, as far as the profile has them
    linear: Mapping[str, Linear]  # by tested role
    finetune: Mapping[str, Finetune]
    retrieval: Retrieval
    scaled: tuple[Scaled, ...] = ()


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
    layer |= over.settings
    if (weights := layer.get("backbone.weights")) is not None and isinstance(weights.value, str):
        layer["backbone.weights"] = replace(weights, value=str(Path(weights.value).expanduser().absolute()))
    settings = validated(Settings, defaults_of(Settings), layer)
    linear, finetune, retrieval = protocols(profile, over.evaluation)
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
        if not value.strip():
            raise SpecError(f"{name}: no value is given; {key}=null unsets what may be unset")
        node = replace(parse(value, name, numbered=False), where=name)
        first, *rest = key.split(".")
        if first == "data":
            roles = ROLES if not rest or rest[0] not in ROLES else (rest.pop(0),)
            prefix = f"data.{roles[0]}." if len(roles) == 1 else "data."
            given = flatten(_under(rest, node), Data, prefix, "field")
            for role in roles:
                data[role].update(given)
        elif first in EVALUATIONS:
            given = flatten(_under(rest, node), EVALUATIONS[first], f"{first}.")
            evaluation.setdefault(("", first), {}).update(given)
        elif first in TESTED and rest and rest[0] in ("linear", "finetune"):
            given = flatten(_under(rest[1:], node), EVALUATIONS[rest[0]], f"{first}.{rest[0]}.")
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
        if role in OPTIONAL and not layer and "name" not in given:
            continue
        if "name" in given and ("name" not in layer or given["name"].plain() != layer["name"].plain()):
            for field in ("root", "decoded"):  # where another data set lies, and how it is read
                layer.pop(field, None)
        layer.update(given)
        name = layer["name"].plain() if "name" in layer else None
        if "root" not in given and name != "embedded":
            for text in profile.roots:
                only, folder = folder_of(text)
                if only in (None, role, name):
                    inside = [path for path in folder.iterdir() if path.is_dir() and path.name.lower() == name]
                    layer["root"] = Node(str(min(inside, default=folder)), f"--data-root {text}")
        root = layer.get("root")
        if root is not None and isinstance(root.value, str):
            layer["root"] = replace(root, value=str(Path(root.value).expanduser().absolute()))
        out[role] = validated(Data, {}, layer, f"data.{role}.")
    return out
