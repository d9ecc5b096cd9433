"""A profile: how large. Settings under every study, data of each role, protocols, and the rule of scale. From YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from ablations.dotted import Layer, defaults_of, fields, flatten, validated
from ablations.located import Node, SpecError, flag_of, guess, items_of, keys_of, one_of, read, text_of
from ablations.study import OPTIONAL, ROLES, STUDIES, TESTED, metrics_of, seeds_of
from fima.config import Finetune, Linear, Retrieval, Settings
from fima.datasets import Data

PROFILES = STUDIES / "profiles"
EVALUATIONS: dict[str, type[BaseModel]] = {"linear": Linear, "finetune": Finetune, "retrieval": Retrieval}
KEYS = ("profile", "extends", "title", "scale", "reduced", "seeds", "metrics", "settings", "data", "linear", "finetune",
        "retrieval", "roles", "rule", "references")  # fmt: skip
# Rows that a profile adds below every table, for the numbers to be held against.
REFERENCES = {
    "random": "random encoder",
    "energy": "frame differences, no encoder",
    "shuffled": "default row, motion keys of other videos",
    "supervised": "supervised from scratch, twice the steps",
}


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
    references: tuple[str, ...] = ()  # rows added below every table

    @property
    def word(self) -> str:
        """What --profile takes: the name, or the file where it is none of the repository's."""
        return self.profile if self.path.resolve().parent == PROFILES.resolve() else str(self.path)


_NOTHING = Profile("", "", "", False, (), (), {}, {role: {} for role in ROLES}, {}, {}, {}, {}, {}, Path())


def profile_files() -> list[Path]:
    """The profiles of the repository, the small ones first."""
    small = ["debug", "demo", "mini"]
    return sorted(PROFILES.glob("*.yaml"), key=lambda p: (small.index(p.stem) if p.stem in small else 9, p.stem))


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
    part = keys_of(root, "a profile", KEYS, ["profile", "title", "scale"])
    under = _NOTHING
    if "extends" in part:
        node = part["extends"]
        under = _load_profile(text_of(node, "extends"), node.where, (*above, path.resolve()))
    else:
        keys_of(root, "a profile without extends", KEYS, ["reduced", "seeds", "metrics", "data"])
    name = text_of(part["profile"], "profile")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SpecError(
            f"{part['profile'].where}: profile must be letters, digits, _ . and - (it names a folder), got {name}"
        )

    def layer(key: str, model: type[BaseModel]) -> Layer:
        inherited: Layer = getattr(under, key)
        prefix = "" if key == "settings" else f"{key}."
        return {**inherited, **(flatten(part[key], model, prefix) if key in part else {})}

    profile = Profile(
        profile=name,
        title=text_of(part["title"], "title"),
        scale=text_of(part["scale"], "scale"),
        reduced=flag_of(part["reduced"], "reduced") if "reduced" in part else under.reduced,
        seeds=seeds_of(part["seeds"]) if "seeds" in part else under.seeds,
        metrics=metrics_of(part["metrics"]) if "metrics" in part else under.metrics,
        settings=layer("settings", Settings),
        data=_data(part.get("data"), under),
        linear=layer("linear", Linear),
        finetune=layer("finetune", Finetune),
        retrieval=layer("retrieval", Retrieval),
        roles=_roles(part.get("roles"), under),
        rule={**under.rule, **(_rule(part["rule"]) if "rule" in part else {})},
        path=path,
        references=_references(part["references"]) if "references" in part else under.references,
    )
    for role, chosen in profile.data.items():
        if role in OPTIONAL and not chosen:
            continue
        if "name" not in chosen:
            raise SpecError(f"{part['data'].where if 'data' in part else root.where}: data.{role} needs a name")
        validated(Data, {}, chosen, f"data.{role}.")
    validated(Settings, defaults_of(Settings), profile.settings)
    protocols(profile, {})
    return profile


def _data(node: Node | None, under: Profile) -> dict[str, Layer]:
    given = keys_of(node, "data", ROLES) if node else {}
    return {
        role: {
            **under.data[role],
            **(flatten(given[role], Data, f"data.{role}.", "field") if role in given else {}),
        }
        for role in ROLES
    }


def _roles(node: Node | None, under: Profile) -> dict[str, dict[str, Layer]]:
    roles = {role: dict(kinds) for role, kinds in under.roles.items()}
    for role, changes in (keys_of(node, "roles", TESTED) if node else {}).items():
        for kind, layer in keys_of(changes, f"roles.{role}", ["linear", "finetune"]).items():
            own = roles.setdefault(role, {})
            own[kind] = {**own.get(kind, {}), **flatten(layer, EVALUATIONS[kind], f"roles.{role}.{kind}.")}
    return roles


def _references(node: Node) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one_of(item, "reference", list(REFERENCES)) for item in items_of(node, "references")))


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
        name, folder = folder_of(text)
        if not folder.is_dir():
            raise SpecError(f"{folder}: no such folder; give the folder of the videos")
        names = {node.plain() for layer in profile.data.values() for key, node in layer.items() if key == "name"}
        if name is not None and name not in {*ROLES, *names, *_data_names()}:
            raise SpecError(f"{text}: no role and no data set is named {name}; roles are {', '.join(ROLES)}."
                            f"{guess(name, ROLES)}")  # fmt: skip
    return replace(profile, roots=tuple(roots))


def _data_names() -> tuple[str, ...]:
    return get_args(fields(Data)["name"].annotation)


def folder_of(text: str) -> tuple[str | None, Path]:
    """`NAME=DIR` or `DIR` as (name or none, absolute folder); links stay, for videos are indexed by the path given."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).expanduser().is_dir():
        return None, Path(text).expanduser().absolute()
    return name, Path(folder).expanduser().absolute()


def protocols(
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

    linear = {role: validated(Linear, defaults_of(Linear), layer(role, "linear"), "linear.") for role in TESTED}
    finetune = {
        role: validated(Finetune, defaults_of(Finetune), layer(role, "finetune"), "finetune.") for role in TESTED
    }
    given = {**profile.retrieval, **over.get(("", "retrieval"), {})}
    return linear, finetune, validated(Retrieval, defaults_of(Retrieval), given, "retrieval.")
