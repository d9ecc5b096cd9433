"""YAML whose every value knows its line, and pydantic's complaints as one line of law and value."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Model = TypeVar("Model", bound=BaseModel)


class SpecError(ValueError):
    """One line: where, the law, the value, and the names that exist."""


def guess(name: str, known: Iterable[str]) -> str:
    """` Did you mean x?`, or nothing when no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


# --- YAML with line numbers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A value of a YAML file: a scalar, a list of nodes or a mapping of nodes.

    `where` is `file:line` (for a value of a mapping: its key's line), or `override key=value`.
    `text` is a scalar as it was written, so that a label 0.30 stays "0.30".
    """

    value: Any
    where: str
    text: str = ""

    def plain(self) -> Any:
        """The value as JSON data."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def shown(self) -> str:
        """The value as an error shows it, cut to one line."""
        text = self.text or json.dumps(self.plain(), ensure_ascii=False)
        return text if len(text) <= 60 else text[:57] + "..."


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: 1e-4 is a number; yes, on and dates are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)  # type: ignore[no-untyped-call]


def parse(text: str, name: str, numbered: bool = True) -> Node:
    """A YAML document with the line of each value.

    Args:
        text: the document.
        name: what stands before the line number in errors.
        numbered: off: every value's place is just `name` (an override on the command line).

    Raises:
        SpecError: not YAML, tabs, duplicate keys, or values that JSON has not.
    """
    loader = _Loader(text)

    def where(mark: yaml.Mark | None) -> str:
        return f"{name}:{mark.line + 1}" if numbered and mark is not None else name

    def scalar(node: yaml.ScalarNode) -> Node:
        place = where(node.start_mark)
        kind = node.tag.rpartition(":")[2]
        if kind == "int":
            return Node(int(node.value), place, node.value)
        if kind == "float":
            value = float(re.sub(r"\.(?=[in])", "", node.value.lower()))
            if not math.isfinite(value):
                raise SpecError(f"{place}: numbers must be finite, got {node.value}")
            return Node(value, place, node.value)
        if kind == "bool":
            return Node(node.value.lower() == "true", place, node.value)
        if kind == "null":
            return Node(None, place, node.value)
        if kind == "str":
            return Node(node.value, place, node.value)
        raise SpecError(f"{place}: {node.tag} is no plain value; use text, a number, true, false or null")

    def mapping(node: yaml.MappingNode, above: tuple[yaml.Node, ...]) -> Node:
        merged: dict[str, Node] = {}
        own: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise SpecError(f"{where(key.start_mark)}: a key must be plain text")
            child = walk(value, above)
            if key.tag.endswith(":merge"):
                parts = child.value if isinstance(child.value, list) else [child]
                for part in parts:
                    if not isinstance(part.value, dict):
                        raise SpecError(f"{where(key.start_mark)}: << takes a mapping, got {part.shown()}")
                    merged = part.value | merged
            elif key.value in own:
                raise SpecError(
                    f"{where(key.start_mark)}: {key.value} is given twice, first in line {_line(own[key.value])}; "
                    "remove one"
                    if numbered
                    else f"{name}: {key.value} is given twice; remove one"
                )
            else:
                own[key.value] = replace(child, where=where(key.start_mark))
        return Node(merged | own, where(node.start_mark))

    def walk(node: yaml.Node, above: tuple[yaml.Node, ...]) -> Node:
        if any(node is outer for outer in above):
            raise SpecError(f"{where(node.start_mark)}: an alias refers to what contains it")
        if isinstance(node, yaml.MappingNode):
            return mapping(node, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return Node([walk(item, (*above, node)) for item in node.value], where(node.start_mark))
        assert isinstance(node, yaml.ScalarNode)
        return scalar(node)

    try:
        root = loader.get_single_node()  # type: ignore[no-untyped-call]
        return Node(None, name) if root is None else walk(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not YAML"
        if "'\\t'" in problem:
            problem = "a tab; YAML is indented with spaces"
        raise SpecError(f"{where(mark)}: {problem}") from None
    except yaml.reader.ReaderError as error:
        raise SpecError(f"{name}: a character that YAML does not allow, #x{error.character:04x}") from None
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


def _line(node: Node) -> str:
    return node.where.rpartition(":")[2]


def read(path: Path) -> Node:
    """The mapping in a YAML file.

    Raises:
        SpecError: no such file, unreadable, not YAML, or not a mapping.
    """
    name = display(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SpecError(f"{name}: {error.strerror or error}") from None
    node = parse(text, name)
    if not isinstance(node.value, dict):
        got = "nothing" if node.value is None else node.shown()
        raise SpecError(f"{name}:1: must be a mapping of names to values, got {got}")
    return node


def display(path: Path) -> str:
    """A path as the user would type it: relative where it lies under the current folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# --- pydantic models by dotted names ------------------------------------------------------------------------------

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
            yield Problem(f"{place}{prefix}{name}{' ' if name or prefix else ''}{law(dict(found))}", joint)


def law(error: Mapping[str, Any]) -> str:
    """A pydantic error as the law that is broken and the value that breaks it."""
    kind, bounds, got = error["type"], error.get("ctx", {}), error["input"]
    shown = got if isinstance(got, str) else json.dumps(got, ensure_ascii=False, default=str)
    names = {
        "greater_than": "must be greater than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be at most {le}",
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
    return f": {message}" if kind in ("value_error", "assertion_error") else f"{message.lower()}, got {shown}"
