"""JSON Schemas of the YAML formats, for editors. `python -m ablations.schema` writes them beside the studies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ablations.dotted import fields, group
from ablations.profile import KEYS as PROFILE_KEYS
from ablations.profile import REFERENCES
from ablations.space import FORMS as PARAMETER_FORMS
from ablations.study import FORMS, METRICS, ROLES, STUDIES, TESTED
from ablations.study import KEYS as STUDY_KEYS
from ablations.sweep import KEYS as SWEEP_KEYS
from ablations.sweep import MEASURES, PRUNERS, SAMPLERS
from fima.config import Finetune, Linear, Retrieval, Settings
from fima.datasets import Data

Schema = dict[str, Any]

_LABEL: Schema = {"type": ["string", "number", "boolean"]}  # a bare number counts as it is written
_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"}
_SEEDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True}
_METRICS: Schema = {"type": "array", "items": {"enum": list(METRICS)}, "minItems": 1, "uniqueItems": True}


def study() -> Schema:
    """The format of studies/*.yaml."""
    several = {"anyOf": [_LABEL, {"type": "array", "items": _LABEL, "minItems": 1}]}
    row = _closed(
        {
            "label": {**_LABEL, "description": "name of the row; unique in the study"},
            "set": {"$ref": "#/$defs/settings", "description": "settings over the study's base, on the paper's scale"},
            "encoder": {
                "type": "string",
                "description": "weights trained elsewhere, to be evaluated; {seed} is the seed",
            },
            "paper": _closed({name: {"type": "number"} for name in METRICS}, "printed values by metric"),
            "default": {"type": "boolean", "description": "the paper's default setting; one row at most"},
        },
        "a row of the table",
        ["label"],
    )
    cited = _closed(
        {
            "label": {**_LABEL, "description": "method; a row of this label takes its printed numbers from here"},
            "backbone": {**_LABEL, "description": "as the paper writes it"},
            "frames": {"type": "integer", "minimum": 1, "description": "of a clip"},
            "resolution": {"type": "integer", "minimum": 1, "description": "side of a view in pixels"},
            "pretrain": {**_LABEL, "description": "data set of the pre-training, as the paper writes it"},
            "paper": _closed({name: {"type": "number"} for name in METRICS}, "printed values by metric"),
            "note": {"type": "string", "description": "who measured it, if not its authors"},
        },
        "a printed line of the table",
        ["label", "backbone", "pretrain", "paper"],
    )
    claim = _closed(
        {
            "says": {**_LABEL, "description": "the paper's words"},
            "metric": {"enum": list(METRICS)},
            "best": {**_LABEL, "description": "label of the row above all others"},
            "worst": {**_LABEL, "description": "label of the row below all others"},
            "better": {**_LABEL, "description": "label of the row above each of `worse`"},
            "worse": {**several, "description": "label or labels below `better`"},
            "equal": {"type": "array", "items": _LABEL, "minItems": 2, "description": "labels that do not differ"},
            "ratio": {"type": "array", "items": _LABEL, "minItems": 2, "maxItems": 2, "description": "first : second"},
            "value": {"type": "number", "description": "what the ratio is"},
        },
        "what the paper says of the table",
        ["says", "metric"],
    )
    claim |= {
        "oneOf": [{"required": [form]} for form in FORMS],
        "dependentRequired": {"better": ["worse"], "worse": ["better"], "ratio": ["value"], "value": ["ratio"]},
    }
    properties: dict[str, Schema] = {
        "study": {**_NAME, "description": "name, and folder of its reports"},
        "title": {"type": "string"},
        "paper": _closed({"table": _LABEL, "source": {"type": "string"}}, "where the printed values stand"),
        "base": {"$ref": "#/$defs/settings", "description": "settings of all rows, over the profile's"},
        "rows": {"type": "array", "items": row, "minItems": 1},
        "grid": {"$ref": "#/$defs/axes", "description": "makes a row of each combination of the values"},
        "zip": {"$ref": "#/$defs/axes", "description": "makes a row of the first values, of the second ones, ..."},
        "label": {"type": "string", "description": "label of rows made by grid or zip: {decoder.width} is the value"},
        "seeds": {**_SEEDS, "description": "instead of the profile's"},
        "metrics": {**_METRICS, "description": "columns, as far as the profile measures them"},
        "cited": {
            "type": "array",
            "items": cited,
            "minItems": 1,
            "description": "printed lines; nothing is run for them",
        },
        "claims": {"type": "array", "items": claim},
    }
    assert tuple(properties) == STUDY_KEYS
    schema = _document(properties, "A study of fima-ablate: one table", ["study", "title", "metrics"])
    schema["anyOf"] = [{"required": [key]} for key in ("rows", "grid", "zip")]
    schema["$defs"] = {
        "settings": _settings(Settings),
        "axes": _closed({name: {"type": "array", "minItems": 1} for name in fields(Settings)}, "lists of values"),
    }
    return schema


def profile() -> Schema:
    """The format of studies/profiles/*.yaml."""
    fraction = {"type": ["string", "number"], "pattern": r"^\s*\d+(\.\d+)?(/\d+)?\s*$"}
    numbers = [name for name, field in fields(Settings).items() if field.annotation in (int, float)]
    protocols = {"linear": {"$ref": "#/$defs/linear"}, "finetune": {"$ref": "#/$defs/finetune"}}
    properties: dict[str, Schema] = {
        "profile": {**_NAME, "description": "name, and folder of its reports"},
        "extends": {"type": "string", "description": "profile that this one changes: a name or a path"},
        "title": {"type": "string"},
        "scale": {"type": "string", "description": "what differs from the paper; printed in every report"},
        "reduced": {"type": "boolean", "description": "smaller than the paper's recipe"},
        "seeds": _SEEDS,
        "metrics": {**_METRICS, "description": "what is measured of what a study names"},
        "settings": {**_settings(Settings), "description": "settings under every study"},
        "data": _closed({role: {"$ref": "#/$defs/data"} for role in ROLES}, "which data play each role"),
        **protocols,
        "retrieval": _settings(Retrieval),
        "roles": _closed({role: _closed(protocols, "changes") for role in TESTED}, "changes of protocols for one role"),
        "rule": _closed(
            {name: {**fraction, "description": "factor on a study's value, such as 1/4"} for name in numbers},
            "how values that studies state on the paper's scale are scaled",
        ),
    }
    properties["references"] = {
        "type": "array",
        "items": {"enum": list(REFERENCES)},
        "uniqueItems": True,
        "description": "rows added below every table: a random encoder, frame differences without an encoder, the "
        "default row with other videos' motion keys, supervised training from scratch",
    }
    assert tuple(properties) == PROFILE_KEYS
    schema = _document(properties, "A profile of fima-ablate: how large", ["profile", "title", "scale"])
    schema["anyOf"] = [{"required": ["extends"]}, {"required": ["reduced", "seeds", "metrics", "data"]}]
    schema["$defs"] = {"data": _settings(Data), "linear": _settings(Linear), "finetune": _settings(Finetune)}
    return schema


def sweep() -> Schema:
    """The format of studies/sweeps/*.yaml."""
    ends: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    condition = {"type": "string", "description": "settings by name, such as decoder.width % decoder.heads == 0"}
    parameter = _closed(
        {
            "float": {**ends, "description": "least and largest value"},
            "int": {**ends, "description": "least and largest value"},
            "choices": {"type": "array", "minItems": 2, "uniqueItems": True},
            "log": {"type": "boolean", "description": "search by orders of magnitude"},
            "step": {"type": "number", "exclusiveMinimum": 0, "description": "distance of neighbouring values"},
            "when": {**condition, "description": "searched only where this holds of the settings above it"},
        },
        "values that a setting may take, on the paper's scale",
    )
    parameter["oneOf"] = [{"required": [form]} for form in PARAMETER_FORMS]
    objective: Schema = {
        "anyOf": [
            {"enum": list(MEASURES)},
            _closed(
                {"metric": {"enum": list(MEASURES)}, "direction": {"enum": ["maximize", "minimize"]}}, None, ["metric"]
            ),
        ]
    }
    whole: Schema = {"type": "integer", "minimum": 0}
    properties: dict[str, Schema] = {
        "sweep": {**_NAME, "description": "name, and folder of its reports"},
        "title": {"type": "string"},
        "base": {"$ref": "#/$defs/settings", "description": "settings of all trials, over the profile's"},
        "space": _closed_space({"$ref": "#/$defs/parameter"}),
        "constraints": {"type": "array", "items": condition, "description": "what must hold of every trial"},
        "objective": {
            "anyOf": [objective, {"type": "array", "items": objective, "minItems": 1, "maxItems": 2}],
            "description": "what trials are judged by, accuracies on the held-out part of train",
        },
        "sampler": _closed(
            {
                "name": {"enum": list(SAMPLERS)},
                "seed": whole,
                "startup": {**whole, "description": "trials at random before tpe or cmaes think"},
                "population": {"type": "integer", "minimum": 2, "description": "of nsga2"},
            },
            "how the next trial is chosen",
        ),
        "pruner": _closed(
            {
                "name": {"enum": list(PRUNERS)},
                "every": {"type": "integer", "minimum": 1, "description": "steps between looks at the encoder"},
                "videos": {"type": "integer", "minimum": 2, "description": "at most, of each side of the kNN"},
                "startup": {**whole, "description": "trials that run to their end before any is pruned"},
                "warmup": {**whole, "description": "steps of a trial before it may be pruned"},
                "percentile": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100},
            },
            "which trials are ended early, by kNN accuracy during pre-training",
            ["name"],
        ),
        "seeds": {**_SEEDS, "description": "of each trial, whose value is their mean; default [0]"},
        "trials": {"type": "integer", "minimum": 1, "description": "in all; a grid may leave it out"},
        "minutes": {"type": "number", "exclusiveMinimum": 0, "description": "after which no trial is begun"},
        "validation": {
            "type": "string",
            "pattern": r"^1/\d+$",
            "description": "share of train that judges; default 1/4",
        },
        "final": _closed({"seeds": _SEEDS, "metrics": _METRICS}, "the test of the best trial beside the default"),
    }
    assert tuple(properties) == SWEEP_KEYS
    schema = _document(properties, "A sweep of fima-ablate: a search", ["sweep", "title", "space", "objective"])
    schema["$defs"] = {"settings": _settings(Settings), "parameter": parameter}
    return schema


def _closed_space(parameter: Schema) -> Schema:
    """Parameters by nested or dotted names of settings."""
    names = list(fields(Settings))
    groups = {name.partition(".")[0] for name in names if "." in name}
    properties: dict[str, Schema] = dict.fromkeys(names, parameter)
    for above in sorted(groups):
        properties[above] = _closed({n.partition(".")[2]: parameter for n in names if n.startswith(f"{above}.")}, None)
    return _closed(properties, "what is searched")


def _document(properties: dict[str, Schema], title: str, required: list[str]) -> Schema:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title} | _closed(
        properties, None, required
    )


def _closed(properties: dict[str, Any], description: str | None, required: list[str] | None = None) -> Schema:
    """An object without other names."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if description:
        schema["description"] = description
    if required:
        schema["required"] = required
    return schema


def _settings(model: type[BaseModel]) -> Schema:
    """A model's settings by nested or dotted name, none of them required."""
    whole = model.model_json_schema()
    defs = whole.get("$defs", {})

    def inner(kind: type[BaseModel]) -> dict[str, Schema]:
        own = whole if kind is model else defs[kind.__name__]
        found: dict[str, Schema] = {}
        for name, field in kind.model_fields.items():
            below = group(field)
            if below is None:
                found[name] = {key: value for key, value in own["properties"][name].items() if key != "title"}
            else:
                leaves = inner(below)
                found[name] = _closed(leaves, (below.__doc__ or "").strip().partition("\n")[0])
                found |= {f"{name}.{leaf}": schema for leaf, schema in leaves.items()}
        return found

    return _closed(inner(model), None)


def files() -> dict[Path, str]:
    """The schema files and what they must hold."""
    return {
        STUDIES / f"{name}.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
        for name, schema in (("study", study()), ("profile", profile()), ("sweep", sweep()))
    }


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
