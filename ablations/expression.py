"""Conditions on settings, as a sweep's YAML states them; worked out by simpleeval, which calls and imports nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ablations.dotted import fields, nested, unknown
from ablations.located import Node, SpecError, text_of
from fima.config import Settings


class Expression:
    """A condition on settings by dotted names: `decoder.width % decoder.heads == 0`, `'pix' in losses`."""

    def __init__(self, node: Node, what: str) -> None:
        self.text, self.where, self.what = text_of(node, what), node.where, what
        try:
            tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            raise SpecError(
                f"{self.where}: {what} must be a condition such as decoder.width % decoder.heads == 0, got {self.text} "
                f"({error.msg})"
            ) from None
        self.names = tuple(dict.fromkeys(_names(tree.body)))
        for name in self.names:
            if name not in fields(Settings):
                raise SpecError(f"{self.where}: {what}: {unknown(name, Settings)}")
        if not self.names:
            raise SpecError(f"{self.where}: {what} must name a setting, got {self.text}")

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of settings by dotted name.

        Raises:
            SpecError: it cannot be worked out, or is neither true nor false.
        """
        import simpleeval

        known = nested({name: values[name] for name in self.names})
        try:
            found = simpleeval.SimpleEval(names=known, functions={}).eval(self.text)
        except (simpleeval.InvalidExpression, TypeError, ValueError, ArithmeticError, SyntaxError) as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"{self.where}: {self.what}: {self.text} cannot be worked out: {reason}") from None
        if not isinstance(found, bool):
            got = json.dumps(found, default=str)
            raise SpecError(f"{self.where}: {self.what} must be true or false, got {got} from {self.text}")
        return found


def _names(tree: ast.AST) -> Iterator[str]:
    """Dotted names in the order they stand in."""
    parts: list[str] = []
    while isinstance(tree, ast.Attribute):
        parts.append(tree.attr)
        tree = tree.value
    if isinstance(tree, ast.Name):
        yield ".".join([tree.id, *reversed(parts)])
        return
    for child in ast.iter_child_nodes(tree):
        yield from _names(child)
