"""What a stage is, and its uid: a hash of all that alters its result and of nothing else.

So rows of any study that need the same stage share it. Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ablations.diagnoses import DIAGNOSES, ROLE
from ablations.located import SpecError
from ablations.spec import Resolved
from fima import datasets
from fima.config import Linear
from fima.datasets import Data

Kind = Literal["pretrain", "untrained", "given", "energy", "features", "linear", "finetune", "retrieval", "motion",
               "background", "figures"]  # fmt: skip

# Raised by hand when a change of the code changes what stages of that kind produce: then they run again.
# tests/unit/test_golden.py fails where that was forgotten.
RESULTS: dict[Kind, int] = dict.fromkeys(get_args(Kind), 3)

DAY = 86_400.0  # seconds
UNLABELLED = ("difference", "static", "kept")  # of augment: pre-training's alone


@dataclass(frozen=True)
class Stage:
    """A piece of work with one result.

    `config` is JSON data. All of it but the key `where` is in the uid: `where` says where the data lie, how they are
    read and which role they play, none of which alters the result.
    """

    kind: Kind
    uid: str
    config: dict[str, Any]
    seed: int
    needs: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Cell:
    """Where a number of the table comes from: `factor` x result[key] of a stage."""

    uid: str
    key: str
    factor: float = 1.0
    per_step: bool = False  # the result is of one step on each device, the number of all

    def value(self, result: Mapping[str, Any]) -> float:
        found = float(result[self.key])
        if self.per_step:
            found = found * result["steps"] * result.get("devices", 1)
        return self.factor * found


def with_needs(stages: Mapping[str, Stage], uids: Iterable[str]) -> list[str]:
    """Stages and all that they need, each once and in the order of `stages`."""
    found: set[str] = set()
    waiting = list(uids)
    while waiting:
        uid = waiting.pop()
        found.add(uid)
        waiting += [need for need in stages[uid].needs if need not in found]
    return [uid for uid in stages if uid in found]


class Stages:
    """Makes stages and collects them: equal ones are one. Its methods give uids, but `cell`."""

    def __init__(self) -> None:
        self.by_uid: dict[str, Stage] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._digests: dict[Path, str] = {}

    def cell(self, metric: str, resolved: Resolved, seed: int, name: str, pretrain: str) -> Cell:
        if metric == "parameters":
            return Cell(pretrain, "parameters_paper_millions")
        if metric == "gpu_days":
            return Cell(pretrain, "seconds_per_step", 1 / DAY, per_step=True)
        if metric in DIAGNOSES:
            found = DIAGNOSES[metric]
            return Cell(self._diagnosis(found.kind, resolved, seed, name, pretrain), found.key, found.factor)
        what, _, role = metric.partition("/")
        if role not in resolved.data:
            raise SpecError(f"{metric}: the profile has no data for the role {role}; name it under data, or override "
                            f"data.{role}.name")  # fmt: skip
        make: Callable[[Resolved, str, int, str, str], str]
        make = {"lin": self._linear, "ft": self._finetune}.get(what, self._retrieval)
        try:
            uid = make(resolved, role, seed, name, pretrain)
        except datasets.DataError as error:
            raise datasets.DataError(f"{error}; without {role}, name the other columns in --metrics") from None
        return Cell(uid, what if what.startswith("R") else "top1")

    def pretrain(self, resolved: Resolved, seed: int, name: str) -> str:
        settings, data = resolved.settings, resolved.data["pretrain"]
        active = settings.active()
        config = {"settings": active, "data": self._identity(data, True), "where": _where(resolved, "pretrain")}
        words = "+".join(active["losses"])
        return self._stage("pretrain", words, config, seed, (), f"pre-training of {name}")

    def untrained(self, resolved: Resolved, seed: int, name: str) -> str:
        config = {
            "settings": {"losses": ["vv"], "backbone": {**resolved.settings.active()["backbone"], "weights": None}},
            "where": _where(resolved, "pretrain"),
        }
        return self._stage("untrained", "random", config, seed, (), f"random encoder of {name}")

    def given(self, path: Path, resolved: Resolved, seed: int, name: str) -> str:
        """An encoder that was trained elsewhere, known by its content; where it lies alters nothing."""
        labelled = _labelled(resolved)
        backbone = {**labelled["backbone"], "weights": None}  # those that others start from
        config = {
            "settings": {"losses": ["vv"], **labelled, "backbone": backbone},
            "weights": self._content(path),
            "where": {**_where(resolved, "pretrain"), "weights": str(path)},
        }
        return self._stage("given", resolved.settings.backbone.name, config, seed, (), f"given encoder of {name}")

    def supervised(self, resolved: Resolved, role: str, seed: int, name: str, untrained: str) -> str:
        """Training with labels from scratch: fine-tuning of a random encoder by the optimiser of a pre-training, for
        twice its steps or epochs (a step of pre-training passes five times as many clips and more)."""
        data, optim = resolved.data[role], resolved.settings.optim
        longer = {"epochs": 2 * optim.epochs, "steps": None if optim.steps is None else 2 * optim.steps}
        finetune = resolved.finetune[role].model_copy(update={"optim": optim.model_copy(update=longer)})
        config = {
            "upstream": untrained,
            "finetune": {**finetune.model_dump(mode="json"), "optim": finetune.optim.active()},
            "settings": _labelled(resolved),
            "data": self._identity(data),
            "where": _where(resolved, role),
        }
        title = f"supervised training on {role} of {name}"
        return self._stage("finetune", data.name, config, seed, (untrained,), title)

    def _features(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str, clips: int) -> str:
        """Features of an encoder, or where there is none of the frame differences themselves."""
        data, active = resolved.data[role], resolved.settings.active()
        seen = {
            "clip": active["clip"],
            "augment": {"size": active["augment"]["size"]},
            "backbone": active["backbone"],
        }
        config = {"data": self._identity(data), "clips": clips, "settings": seen, "where": _where(resolved, role)}
        if not pretrain:
            # no weights and no chance: the same for all seeds
            return self._stage("energy", data.name, config, 0, (), f"frame differences on {role}")
        config |= {"upstream": pretrain, "settings": {**seen, "compute": active["compute"]}}
        seed = self.by_uid[pretrain].seed  # one given encoder has one for all seeds
        return self._stage("features", data.name, config, seed, (pretrain,), f"features on {role} of {name}")

    def _linear(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str) -> str:
        data, linear, title = resolved.data[role], resolved.linear[role], f"linear probe on {role} of {name}"
        config: dict[str, Any] = {"linear": _active_linear(linear), "where": _where(resolved, role)}
        if linear.protocol == "logistic":
            upstream = self._features(resolved, role, seed, name, pretrain, linear.clips)
            return self._stage("linear", data.name, {"upstream": upstream, **config}, seed, (upstream,), title)
        config |= {"upstream": pretrain, "settings": self._trained_by(resolved, pretrain), "data": self._identity(data)}
        return self._stage("linear", data.name, config, seed, (pretrain,), title)

    def _finetune(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str) -> str:
        data, finetune = resolved.data[role], resolved.finetune[role]
        config = {
            "upstream": pretrain,
            "finetune": {**finetune.model_dump(mode="json"), "optim": finetune.optim.active()},
            "settings": self._trained_by(resolved, pretrain),
            "data": self._identity(data),
            "where": _where(resolved, role),
        }
        title = f"fine-tuning on {role} of {name}"
        return self._stage("finetune", data.name, config, seed, (pretrain,), title)

    def _trained_by(self, resolved: Resolved, pretrain: str) -> dict[str, Any]:
        """Settings of a classifier on an encoder, those of its pre-training among them: a random or given one has none,
        and rows of other losses share the random one."""
        trained = self.by_uid[pretrain].kind == "pretrain"
        return resolved.settings.active() if trained else _labelled(resolved)

    def _retrieval(self, resolved: Resolved, role: str, seed: int, name: str, pretrain: str) -> str:
        data = resolved.data[role]
        upstream = self._features(resolved, role, seed, name, pretrain, resolved.retrieval.clips)
        config = {
            "upstream": upstream,
            "retrieval": resolved.retrieval.model_dump(mode="json"),
            "where": _where(resolved, role),
        }
        title = f"retrieval on {role} of {name}"
        return self._stage("retrieval", data.name, config, seed, (upstream,), title)

    def _diagnosis(
        self, kind: Literal["motion", "background", "figures"], resolved: Resolved, seed: int, name: str, pretrain: str
    ) -> str:
        """What an encoder attends to, on the videos that play UCF101 (`ablations.diagnoses`)."""
        data, settings = resolved.data[ROLE], resolved.settings
        embedded = data.name == "embedded" and not data.embedded.background_class_correlation
        if kind == "background" and not embedded:
            raise SpecError(
                f"{name}: bias/plain, unrelated, swapped and lured swap the backgrounds of embedded videos, which tell "
                f"nothing before; the role {ROLE} has {data.name}, so leave them out of --metrics"
            )
        active, augment = settings.active(), settings.augment.model_dump(mode="json")
        seen: dict[str, Any] = {
            "clip": active["clip"],
            "augment": {"size": augment["size"]},
            "backbone": active["backbone"],
            "compute": active["compute"],
        }
        config: dict[str, Any] = {"upstream": pretrain, "data": self._identity(data), "where": _where(resolved, ROLE)}
        if kind == "figures":  # two views of a video are drawn as pre-training draws them
            seen["augment"] = {name: augment[name] for name in ("size", "scale_min", "scale_max", "flip", "difference")}
            config["clips"] = resolved.retrieval.clips
        else:
            config["clips"] = resolved.linear[ROLE].clips
        title = {"motion": "clips without motion", "background": "swapped backgrounds", "figures": "figures"}[kind]
        return self._stage(kind, data.name, {**config, "settings": seen}, seed, (pretrain,), f"{title} of {name}")

    def _stage(
        self, kind: Kind, words: str, config: dict[str, Any], seed: int, needs: tuple[str, ...], title: str
    ) -> str:
        config = {"kind": kind, "version": RESULTS[kind], **config, "seed": seed}
        uid = f"{kind}-{words}-s{seed}-{self._digest(config)}"
        if uid not in self.by_uid:
            self.by_uid[uid] = Stage(kind, uid, config, seed, needs, title)
        return uid

    def _digest(self, config: Mapping[str, Any]) -> str:
        """12 hexadecimal digits over all of a config but `where`; a file of weights counts by its content."""
        hashed = {name: value for name, value in config.items() if name != "where"}
        backbone = hashed.get("settings", {}).get("backbone", {})
        if backbone.get("weights") is not None:
            content = self._content(Path(backbone["weights"]))
            hashed["settings"] = {**hashed["settings"], "backbone": {**backbone, "weights": content}}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]

    def _content(self, path: Path) -> str:
        if path not in self._digests:
            try:
                with path.open("rb") as file:
                    self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise SpecError(f"backbone.weights {path}: {error.strerror}; give a file, or null") from None
        return self._digests[path]

    def _identity(self, data: Data, pretraining: bool = False) -> dict[str, Any]:
        """What of the data alters a result: the videos, whether short ones stay out, whether clips are cropped in
        swscale or from whole frames."""
        key = f"{pretraining} {data.model_dump_json()}"
        if key not in self._identities:
            self._identities[key] = {
                "fingerprint": datasets.fingerprint(data, pretraining),
                "name": data.name,
                "decoded": data.decoded,
                "short": data.short == "skip",
            }
        return self._identities[key]


def _labelled(resolved: Resolved) -> dict[str, Any]:
    """The settings that training with labels has to do with."""
    active = resolved.settings.active()
    augment = {name: part for name, part in active["augment"].items() if name not in UNLABELLED}
    return {"clip": active["clip"], "augment": augment, "backbone": active["backbone"], "compute": active["compute"]}


def _where(resolved: Resolved, role: str) -> dict[str, Any]:
    recompute = resolved.settings.compute.recompute
    return {"role": role, "data": resolved.data[role].model_dump(mode="json"), "recompute": recompute}


def _active_linear(linear: Linear) -> dict[str, Any]:
    """The probe's settings that act: the logistic one has no optimiser to set."""
    data = {**linear.model_dump(mode="json"), "optim": linear.optim.active()}
    return {name: data[name] for name in ("protocol", "clips")} if linear.protocol == "logistic" else data
