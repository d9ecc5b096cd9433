"""The space that a sweep searches: parameters by setting, conditions, constraints. Imports neither torch nor Optuna."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ablations.dotted import Layer, defaults_of, fields, flatten, problems
from ablations.expression import Expression
from ablations.located import Node, SpecError, flag_of, guess, items_of, keys_of, number_of
from fima.config import Settings

Value = float | int | str | bool | None  # as Optuna keeps it
Point = Mapping[str, Value]  # parameter -> value; a parameter whose condition does not hold is not there
FORMS = ("float", "int", "choices")
KEYS = (*FORMS, "log", "step", "when")
MOST_CELLS = 10_000  # of a grid


@dataclass(frozen=True)
class Parameter:
    """One setting and the values it may take, on the paper's scale as in a study."""

    name: str
    form: Literal["float", "int", "choices"]
    where: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple[tuple[Value, Node], ...] = ()  # what Optuna keeps, what the settings get
    when: Expression | None = None

    def node(self, value: Value, place: str) -> Node:
        """A value as a study would state it.

        Args:
            place: stands before errors about it.
        """
        if self.form == "choices":
            node = next(node for kept, node in self.choices if _same(kept, value))
            return Node(node.value, place, node.text)
        return Node(value, place, str(value))

    def value(self, plain: Any) -> Value:
        """What stands for a setting's plain value.

        Raises:
            ValueError: it is outside of the space.
        """
        if self.form == "choices":
            for kept, node in self.choices:
                if _same(node.plain(), plain):
                    return kept
            raise ValueError(
                f"{self.name} {_shown(plain)} is none of {', '.join(str(kept) for kept, _ in self.choices)}"
            )
        if isinstance(plain, bool) or not isinstance(plain, int | float) or not self.low <= plain <= self.high:
            raise ValueError(f"{self.name} {_shown(plain)} is not between {self.low:g} and {self.high:g}")
        if self.step and not math.isclose(steps := (plain - self.low) / self.step, round(steps), abs_tol=1e-9):
            raise ValueError(
                f"{self.name} {_shown(plain)} is no whole number of steps of {self.step:g} from {self.low:g}"
            )
        return int(plain) if self.form == "int" else float(plain)

    def values(self) -> list[Value] | None:
        """Every value; None for a continuum."""
        if self.form == "choices":
            return [kept for kept, _ in self.choices]
        if self.form == "int" and not self.log:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        if self.form == "float" and self.step:
            return [round(self.low + i * self.step, 12) for i in range(math.floor(self.span + 1e-9) + 1)]
        return None

    @property
    def span(self) -> float:
        return (self.high - self.low) / (self.step or 1)

    def draw(self, chance: random.Random) -> Value:
        """A value, for a look at the space before anything is run; the sampler draws those of trials."""
        every = self.values()
        if every is not None:
            return chance.choice(every)
        if self.log:
            value = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
            value = min(max(value, self.low), self.high)
        else:
            value = chance.uniform(self.low, self.high)
        return round(value) if self.form == "int" else value


@dataclass(frozen=True)
class Space:
    """Parameters in the order they are chosen, what excludes a combination, and what else is fixed."""

    parameters: tuple[Parameter, ...]
    constraints: tuple[Expression, ...]
    base: Layer

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        return {**defaults_of(Settings), **{name: node.plain() for name, node in self.base.items()}}

    def named(self, point: Point) -> dict[str, Any]:
        """Plain settings by name: those of a point over the sweep's base over the paper's."""
        nodes = self.layer(point, "")
        return {**self._fixed, **{name: node.plain() for name, node in nodes.items()}}

    def layer(self, point: Point, place: str) -> dict[str, Node]:
        """A point as a row of a study would set it."""
        return {p.name: p.node(point[p.name], place) for p in self.parameters if p.name in point}

    def active(self, parameter: Parameter, point: Point) -> bool:
        """Whether a parameter's condition holds, given those before it."""
        return parameter.when is None or parameter.when.holds(self.named(point))

    def broken(self, point: Point) -> str | None:
        """The first constraint that a point breaks."""
        values = self.named(point)
        return next((rule.text for rule in self.constraints if not rule.holds(values)), None)

    def draws(self, count: int, seed: int = 0) -> Iterator[Point]:
        """Allowed points at random, at most so many; they are drawn for checks only."""
        chance = random.Random(seed)
        tries, found = 0, 0
        while found < count and tries < 100 * count:
            tries += 1
            point: dict[str, Value] = {}
            for parameter in self.parameters:
                if self.active(parameter, point):
                    point[parameter.name] = parameter.draw(chance)
            if self.broken(point) is None:
                found += 1
                yield point

    def cells(self) -> list[Point]:
        """Every allowed point of a grid, the last parameter running fastest.

        Raises:
            SpecError: a parameter is a continuum, or there are more than 10,000 cells.
        """
        axes: list[list[Value]] = []
        for parameter in self.parameters:
            every = parameter.values()
            if every is None:
                raise SpecError(f"{parameter.where}: sampler grid needs separate values of {parameter.name}; "
                                "give choices or a step, or take another sampler")  # fmt: skip
            axes.append(every)
        if math.prod(map(len, axes)) > MOST_CELLS:
            raise SpecError(f"{self.parameters[0].where}: a grid of {math.prod(map(len, axes)):,} cells; at most "
                            f"{MOST_CELLS:,}, or take another sampler")  # fmt: skip
        found: dict[tuple[tuple[str, Value], ...], Point] = {}
        for values in itertools.product(*axes):
            point: dict[str, Value] = {}
            for parameter, value in zip(self.parameters, values, strict=True):
                if self.active(parameter, point):
                    point[parameter.name] = value
            if self.broken(point) is None:
                found[tuple(point.items())] = point
        return list(found.values())

    def locate(self, values: Mapping[str, Any]) -> Point:
        """The point of plain settings by name, on the paper's scale.

        Raises:
            ValueError: it is outside of the space, or breaks a constraint.
        """
        point: dict[str, Value] = {}
        for parameter in self.parameters:
            if self.active(parameter, point):
                point[parameter.name] = parameter.value(values[parameter.name])
        if (rule := self.broken(point)) is not None:
            raise ValueError(f"it breaks the constraint {rule}")
        return point

    def describe(self) -> list[dict[str, Any]]:
        """The space as JSON data."""
        found = []
        for p in self.parameters:
            range_ = {"choices": [kept for kept, _ in p.choices]} if p.choices else {"low": p.low, "high": p.high}
            extra = {"step": p.step, "log": p.log or None, "when": p.when.text if p.when else None}
            found.append({"name": p.name, "form": p.form, **range_, **{k: v for k, v in extra.items() if v}})
        return found


# --- from YAML


def space_of(node: Node, constraints: Node | None, base: Layer) -> Space:
    """The space of a sweep.

    Raises:
        SpecError: `file:line: law, value, names that exist`.
    """
    parameters: list[Parameter] = []
    for name, child in _flat(node).items():
        parameters.append(_parameter(name, child, base))
    if not parameters:
        raise SpecError(f"{node.where}: space must hold at least one setting")
    names = [parameter.name for parameter in parameters]
    for name in names:
        if name in base:
            raise SpecError(f"{base[name].where}: {name} is in base and in space; remove one")
    for number, parameter in enumerate(parameters):
        for name in parameter.when.names if parameter.when else ():
            if name in names[number:]:
                raise SpecError(f"{parameter.where}: when of {parameter.name} needs {name}, which must stand above it")
    rules = (
        tuple(Expression(item, "constraint") for item in items_of(constraints, "constraints")) if constraints else ()
    )
    for rule in rules:
        if not set(rule.names) & set(names):
            raise SpecError(f"{rule.where}: constraint {rule.text} names no setting of space, which has "
                            f"{', '.join(names)}.{guess(rule.names[0], names)}")  # fmt: skip
    space = Space(tuple(parameters), rules, base)
    if next(space.draws(1), None) is None:
        raise SpecError(f"{rules[0].where}: the constraints leave nothing of the space; loosen them")
    return space


def _flat(node: Node) -> dict[str, Node]:
    """Parameters by dotted name; a mapping that has a form is a parameter, others are groups."""

    def folded(part: Node) -> Node:
        if not isinstance(part.value, dict):
            return part
        if set(part.value) & set(KEYS) or not part.value:
            return Node([part], part.where)  # opaque to flatten
        return Node({name: folded(child) for name, child in part.value.items()}, part.where)

    if not isinstance(node.value, dict):
        raise SpecError(f"{node.where}: space must be a mapping of settings to values, got {node.shown()}")
    inner = Node({name: folded(child) for name, child in node.value.items()}, node.where)
    found = flatten(inner, Settings)
    return {name: child.value[0] if isinstance(child.value, list) and len(child.value) == 1 else child
            for name, child in found.items()}  # fmt: skip


def _parameter(name: str, node: Node, base: Layer) -> Parameter:
    if not isinstance(node.value, dict):
        raise SpecError(f"{node.where}: {name} needs a range, such as {{float: [0.1, 0.9]}}, {{int: [1, 4]}} or "
                        f"{{choices: [1, 2]}}, got {node.shown()}")  # fmt: skip
    part = keys_of(node, name, KEYS)
    forms = [form for form in FORMS if form in part]
    if len(forms) != 1:
        raise SpecError(f"{node.where}: {name} has exactly one of {', '.join(FORMS)}, got {', '.join(forms) or 'none'}")
    form: Any = forms[0]
    when = Expression(part["when"], f"when of {name}") if "when" in part else None
    if form == "choices":
        for key in ("log", "step"):
            if key in part:
                raise SpecError(f"{part[key].where}: {name}: {key} belongs to float and int, not to choices")
        found = Parameter(name, form, node.where, choices=_choices(name, part["choices"]), when=when)
        for _, choice in found.choices:
            _allowed(name, choice, base)
        return found
    kind = fields(Settings)[name].annotation
    if kind not in (int, float) and not _numeric(kind):
        raise SpecError(f"{node.where}: {name} is no number; give choices")
    if form == "float" and kind is int:
        raise SpecError(f"{node.where}: {name} is a whole number; write int instead of float")
    low, high = _range(name, form, part[form])
    log = flag_of(part["log"], "log") if "log" in part else False
    step = number_of(part["step"], f"{name}: step") if "step" in part else None
    if step is not None and (step <= 0 or (form == "int" and step != int(step))):
        raise SpecError(f"{part['step'].where}: {name}: step must be above 0{' and whole' if form == 'int' else ''}, "
                        f"got {part['step'].shown()}")  # fmt: skip
    if log and step is not None:
        raise SpecError(f"{part['step'].where}: {name}: log and step exclude each other; remove one")
    if log and low <= 0:
        raise SpecError(f"{node.where}: {name}: a logarithmic range must be above 0, got {low:g}")
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        raise SpecError(f"{part['step'].where}: {name}: {high:g} is no whole number of steps of {step:g} from {low:g}")
    for bound in (low, high):
        _allowed(name, Node(int(bound) if form == "int" else bound, part[form].where, f"{bound:g}"), base)
    return Parameter(name, form, node.where, low, high, step, log, when=when)


def _numeric(kind: Any) -> bool:
    """`float | None` and the like."""
    return any(part in (int, float) for part in getattr(kind, "__args__", ()))


def _range(name: str, form: str, node: Node) -> tuple[float, float]:
    ends = items_of(node, f"{name}: {form}")
    if len(ends) != 2:
        raise SpecError(f"{node.where}: {name}: {form} takes the least and the largest value, got {node.shown()}")
    low, high = (number_of(end, f"{name}: {form}") for end in ends)
    if low >= high:
        raise SpecError(f"{node.where}: {name}: the least value must be below the largest, got {low:g} and {high:g}")
    if form == "int":
        if low != int(low) or high != int(high):
            raise SpecError(f"{node.where}: {name}: int takes whole numbers, got {node.shown()}")
        return int(low), int(high)
    return low, high


def _choices(name: str, node: Node) -> tuple[tuple[Value, Node], ...]:
    found: list[tuple[Value, Node]] = []
    for item in items_of(node, f"{name}: choices"):
        plain = item.plain()
        kept: Value = "+".join(map(str, plain)) if isinstance(plain, list) else plain
        if isinstance(kept, dict):
            raise SpecError(f"{item.where}: {name}: a choice must be a value or a list, got {item.shown()}")
        if any(_same(kept, other) for other, _ in found):
            raise SpecError(f"{item.where}: {name}: {kept} is there twice; remove one")
        found.append((kept, item))
    if len(found) < 2:
        raise SpecError(f"{node.where}: {name}: choices must hold at least two, got {node.shown()}")
    return tuple(found)


def _allowed(name: str, node: Node, base: Layer) -> None:
    for problem in problems(Settings, defaults_of(Settings), {**base, name: node}):
        if not problem.joint:
            raise SpecError(problem.line)


def _same(first: Any, second: Any) -> bool:
    """Equal and of one kind: true is not 1."""
    return isinstance(first, bool) == isinstance(second, bool) and first == second


def _shown(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
