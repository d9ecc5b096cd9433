"""pydantic models by dotted names (`foreground.beta`), and pydantic's complaints as one line of law and value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ablations.located import Node, SpecError, guess

Model = TypeVar("Model", bound=BaseModel)
Layer = Mapping[str, Node]


@cache
def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Every setting of a model by dotted name, in order of declaration."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        inner = group(field)
        if inner is None:
            found[name] = field
        else:
            found |= {f"{name}.{below}": leaf for below, leaf in fields(inner).items()}
    return found


def group(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a group of settings."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def flatten(node: Node, model: type[BaseModel], prefix: str = "", noun: str = "setting") -> dict[str, Node]:
    """A mapping, nested or dotted or both, as dotted names of a model's settings.

    Args:
        node: the mapping.
        model: whose names are allowed.
        prefix: stands before the names in errors, such as `data.pretrain.`.
        noun: what the names are, in errors.

    Raises:
        SpecError: an unknown name, a name given twice, or a group given as a scalar.
    """
    known = fields(model)
    groups = {name.rpartition(".")[0] for name in known} - {""}
    out: dict[str, Node] = {}

    def visit(part: Node, above: str) -> None:
        if not isinstance(part.value, dict):
            raise SpecError(f"{part.where}: {prefix}{above.rstrip('.') or noun + 's'} must be a mapping of names "
                            f"to values, got {part.shown()}")  # fmt: skip
        for key, child in part.value.items():
            name = above + key
            if name in known:
                if name in out:
                    raise SpecError(f"{child.where}: {prefix}{name} is given twice; remove one")
                out[name] = child
            elif name in groups:
                if not isinstance(child.value, dict):
                    inside = [full[len(name) + 1 :] for full in known if full.startswith(name + ".")]
                    raise SpecError(
                        f"{child.where}: {prefix}{name} is a group of {noun}s, got {child.shown()}; "
                        f"set one of {', '.join(f'{prefix}{name}.{leaf}' for leaf in inside)}"
                    )
                visit(child, name + ".")
            else:
                raise SpecError(f"{child.where}: {unknown(name, model, prefix, noun)}")

    visit(node, "")
    return out


def unknown(name: str, model: type[BaseModel], prefix: str = "", noun: str = "setting") -> str:
    """What to say of a name that a model has not."""
    known = list(fields(model))
    owner = name
    while "." in owner:
        owner = owner.rpartition(".")[0]
        inside = [full[len(owner) + 1 :] for full in known if full.startswith(owner + ".")]
        if inside:
            rest = name[len(owner) + 1 :]
            return (
                f"{prefix}{name} is not a {noun}; {prefix}{owner} has {', '.join(sorted(inside))}.{guess(rest, inside)}"
            )
        if owner in known:
            return f"{prefix}{name} is not a {noun}; {prefix}{owner} holds a value, not a group"
    tops = list(dict.fromkeys(full.partition(".")[0] for full in known))
    hint = guess(name, tops)
    if not hint:  # `beta` for `foreground.beta`
        owners = [full for full in known if full.rpartition(".")[2] == name.rpartition(".")[2]]
        hint = f" Did you mean {' or '.join(prefix + full for full in owners[:3])}?" if owners else guess(name, known)
    return f"{prefix}{name} is not a {noun}; there are {', '.join(tops)}.{hint}"


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested dictionaries."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *above, last = name.split(".")
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """The defaults of a model by dotted name, as JSON data."""
    tree = model.model_validate({}).model_dump(mode="json")
    flat = {}
    for name in fields(model):
        value: Any = tree
        for key in name.split("."):
            value = value[key]
        flat[name] = value
    return flat


def validated(model: type[Model], defaults: Mapping[str, Any], layer: Layer, prefix: str = "") -> Model:
    """A model from plain defaults by dotted name and a layer over them.

    Raises:
        SpecError: at the place of the value that breaks a law.
    """
    for problem in problems(model, defaults, layer, prefix):
        raise SpecError(problem.line)
    flat = dict(defaults) | {name: node.plain() for name, node in layer.items()}
    return model.model_validate_json(json.dumps(nested(flat)), strict=True)


@dataclass(frozen=True)
class Problem:
    """A complaint of pydantic: the line to print, and whether it is about several settings at once."""

    line: str
    joint: bool


def problems(model: type[BaseModel], defaults: Mapping[str, Any], layer: Layer, prefix: str = "") -> Iterator[Problem]:
    """What is wrong with a layer over defaults, each with the place of the value that is at fault."""
    flat = dict(defaults) | {name: node.plain() for name, node in layer.items()}
    try:
        # Strict JSON: lists may be tuples and text may be a path, but "4" is no number and true is not 1.
        model.model_validate_json(json.dumps(nested(flat)), strict=True)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            parts = [str(part) for part in found["loc"] if not isinstance(part, int)]
            name = ".".join(parts)
            at = [node for key, node in layer.items() if key == name]
            at = at or [node for key, node in layer.items() if not name or key.startswith(name + ".")]
            place = f"{at[-1].where}: " if at else ""
            joint = found["type"] in ("value_error", "assertion_error") and name not in fields(model)
            subject = f"{prefix}{name}".rstrip(".")
            told = found["type"] in ("value_error", "assertion_error")
            subject += "" if not subject else ": " if told else " "
            yield Problem(f"{place}{subject}{law(dict(found))}", joint)


def law(error: Mapping[str, Any]) -> str:
    """A pydantic error as the law that is broken and the value that breaks it."""
    kind, bounds, got = error["type"], error.get("ctx", {}), error["input"]
    shown = got if isinstance(got, str) else json.dumps(got, ensure_ascii=False, default=str)
    names = {
        "greater_than": "must be greater than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be at most {le}",
        "multiple_of": "must be a multiple of {multiple_of}",
        "too_short": "must hold at least {min_length}",
        "too_long": "must hold at most {max_length}",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "string_type": "must be text (quote it)",
        "path_type": "must be a path (text)",
        "tuple_type": "must be a list",
        "list_type": "must be a list",
        "model_type": "must be a mapping of names to values",
    }
    if kind == "literal_error":
        values = re.findall(r"'([^']*)'", bounds["expected"])
        hint = guess(got, values) if isinstance(got, str) else ""
        return f"must be one of {', '.join(values) or bounds['expected']}, got {shown or repr('')}.{hint}".rstrip(".")
    if kind == "missing":
        return "is missing"
    if kind in names:
        bounds = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in bounds.items()}
        return f"{names[kind].format(**bounds)}, got {shown}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message if kind in ("value_error", "assertion_error") else f"{message.lower()}, got {shown}"
