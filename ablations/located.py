"""YAML whose every value knows its line, and readers of its small parts that complain with that line."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml


class SpecError(ValueError):
    """One line: where, the law, the value, and the names that exist."""


def guess(name: str, known: Iterable[str]) -> str:
    """` Did you mean x?`, or nothing when no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def find_file(name: str, kind: str, known: Sequence[Path]) -> Path:
    """A file by path, or one of the repository's by the end of its path, ".yaml" or not.

    Args:
        name: x, x.yaml, studies/x, ...
        kind: what it is, as an error calls it.
        known: the repository's.

    Raises:
        SpecError: no such file; those that exist.
    """
    path = Path(name)
    if path.is_file():
        return path
    parts = Path(name if path.suffix == ".yaml" else f"{name}.yaml").parts
    for file in known:
        if file.parts[-len(parts) :] == parts:
            return file
    stems = [file.stem for file in known]
    beside = [file.name for file in path.parent.glob("*.yaml")] if len(path.parts) > 1 else []
    hint = guess(path.stem, stems) or guess(path.name, beside)
    raise SpecError(f"{name}: no such {kind}; there are {', '.join(stems)}.{hint}")


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
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


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
                first = f", first in line {own[key.value].where.rpartition(':')[2]}" if numbered else ""
                raise SpecError(f"{where(key.start_mark)}: {key.value} is given twice{first}; remove one")
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
        root = loader.get_single_node()
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
        loader.dispose()


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


def keys_of(node: Node, what: str, known: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Node]:
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


def items_of(node: Node, what: str) -> list[Node]:
    if not isinstance(node.value, list):
        raise SpecError(f"{node.where}: {what} must be a list, got {node.shown()}")
    return node.value


def text_of(node: Node, what: str) -> str:
    """One line of text; a bare number or true counts as it is written, so that labels need no quotes."""
    text = node.text.strip()
    if isinstance(node.value, dict | list) or node.value is None or not text:
        raise SpecError(f"{node.where}: {what} must be text, got {node.shown()}")
    if not text.isprintable():
        raise SpecError(f"{node.where}: {what} must be one line of printable text, got {json.dumps(text)}")
    return text


def name_of(node: Node, what: str) -> str:
    """Text that names a folder of reports."""
    name = text_of(node, what)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SpecError(f"{node.where}: {what} must be letters, digits, _ . and - (it names a folder), got {name}")
    return name


def flag_of(node: Node, what: str) -> bool:
    if not isinstance(node.value, bool):
        raise SpecError(f"{node.where}: {what} must be true or false, got {node.shown()}")
    return node.value


def number_of(node: Node, what: str) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise SpecError(f"{node.where}: {what} must be a number, got {node.shown()}")
    return float(node.value)


def one_of(node: Node, what: str, known: Iterable[str], have: str = "there are") -> str:
    text, names = text_of(node, what), list(known)
    if text not in names:
        raise SpecError(f"{node.where}: {text} is not a {what}; {have} {', '.join(names)}.{guess(text, names)}")
    return text
