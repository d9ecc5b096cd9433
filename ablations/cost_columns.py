"""What pre-training costs, as columns: GPU-days, and FLOPs, time and memory of a step, each beside the first row's.

A ratio of times or of memory is one of a seed whose two trainings ran on machines of one kind; others say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ablations.table import Cell, Column, Row
from ablations.uids import DAY

if TYPE_CHECKING:
    from ablations.plan import PlannedRow
    from ablations.results import Results

BRIEF = 0.01 * DAY  # longest pre-training whose time is given in seconds
RELATIVE = "gpu_days/relative"
ONE_MACHINE = (
    "Seeds of which both pre-trainings ran on machines of one kind, threads included; here the arithmetic mean of "
    "their ratios, in the claims the geometric one."
)


@dataclass(frozen=True)
class Cost:
    """A column about one step of pre-training that comes with GPU-days."""

    key: str  # of the result
    title: str
    unit: str
    decimals: int


STEP_COSTS = {
    "gpu_days/flops": Cost("gflop_per_step", "GFLOP per step", "GFLOP", 1),
    "gpu_days/step": Cost("seconds_per_step", "time per step", "s", 3),
    "gpu_days/memory": Cost("peak_memory_gib", "peak memory", "GiB", 2),
}


def of_pretraining(row: PlannedRow, key: str, results: Results) -> Cell:
    """A number that comes with the row's pre-trainings, whatever else was asked for."""
    found = {seed: results.get(uid) for seed, uid in row.pretrain.items()}
    values = {seed: float(result[key]) for seed, result in found.items() if result and key in result}
    return Cell(None, values, uids=dict(row.pretrain))


def add(rows: Sequence[PlannedRow], cells: Sequence[dict[str, Cell]], results: Results) -> None:
    """Give each row's cells, GPU-days among them, its other costs and all ratios to the first row that has any."""
    start = rows.index(first_trained(rows))
    for name, cost in STEP_COSTS.items():
        for row, own in zip(rows, cells, strict=True):
            own[name] = of_pretraining(row, cost.key, results)
    for name in ("gpu_days", *STEP_COSTS):
        costs = [own[name] for own in cells]
        first = comparable(name, rows, [rows[start].row.label], results)
        for row, own in zip(rows, cells, strict=True):
            own[f"{name}/relative"] = _relative(own[name], costs[start], first[row.row.label])
    if _brief(rows, results):
        for own in cells:
            seconds = {seed: round(DAY * days, 6) for seed, days in own["gpu_days"].values.items()}
            own["gpu_days"] = replace(own["gpu_days"], values=seconds)


def first_trained(rows: Sequence[PlannedRow]) -> PlannedRow:
    """The row whose cost is 1; what an encoder cost that was trained elsewhere is not known."""
    return next((row for row in rows if row.row.encoder is None), rows[0])


def comparable(
    metric: str, rows: Sequence[PlannedRow], others: Sequence[str], results: Results
) -> dict[str, frozenset[int]]:
    """By row, the seeds of which it and all `others` were pre-trained on machines of one kind, where that matters."""
    ran = {row.row.label: {seed: _machine(results.get(uid)) for seed, uid in row.pretrain.items()} for row in rows}
    timed = metric.startswith("gpu_days") and "flops" not in metric
    return {
        label: frozenset(
            seed for seed, machine in own.items() if not timed or all(ran[o].get(seed) == machine for o in others)
        )
        for label, own in ran.items()
    }


def flops_ratio(labels: tuple[str, str], rows: Sequence[Row]) -> str:
    """What to say beside a ratio of times, which other work on the machine alters, of the FLOPs, which it does not."""
    first, second = (row.cells["gpu_days/flops"].mean for label in labels for row in rows if row.label == label)
    if not first or not second:
        return ""
    said = "; the ratio of times includes other load on the machine; that of FLOPs, which does not, is"
    return f"{said} {first / second:.3f}"


def _machine(result: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """What a time depends on beside the work: the card and how many, or the processor and its threads."""
    made = (result or {}).get("environment", {})
    device = str(made.get("device", "cpu"))
    return tuple(made.get(name) for name in ("device", "devices", *(("cpu", "threads") if device == "cpu" else ())))


def _relative(cost: Cell, first: Cell, seeds: Collection[int]) -> Cell:
    """Cost over the first row's, seed by seed; the paper's likewise."""
    paper = round(cost.paper / first.paper, 3) if cost.paper is not None and first.paper else None
    ratios = {seed: value / first.values[seed] for seed, value in cost.values.items() if first.values.get(seed)}
    return Cell(paper, {seed: ratio for seed, ratio in ratios.items() if seed in seeds})


def _brief(rows: Sequence[PlannedRow], results: Results) -> bool:
    """Whether pre-trainings are so short that days say nothing."""
    found = [result for uid in _uids(rows) if (result := results.get(uid))]
    took = [result["seconds_per_step"] * result["steps"] for result in found if "seconds_per_step" in result]
    return bool(took) and max(took) < BRIEF


def column(
    metric: str, rows: Sequence[PlannedRow], cells: Sequence[Mapping[str, Cell]], results: Results
) -> tuple[Column, list[str]]:
    """GPU-days, what comes with them or a ratio of these: the column and its footnotes."""
    found = [result for uid in _uids(rows) if (result := results.get(uid))]
    kinds = {_device(result) for result in found}
    if metric not in ("gpu_days", RELATIVE):
        return _step_column(metric, rows, kinds)
    what = "GPU" if kinds == {"cuda"} else "device"
    brief = _brief(rows, results)
    time = "seconds" if brief else "days"
    unit = f"{what}-{time}"
    where = {"cuda": "GPU", "cpu": "CPU"}
    devices = " and ".join(sorted(where.get(kind, kind) for kind in kinds)) or "no run yet"
    note = (
        f"Median time of a step × steps × devices, in {time} ({devices}), beside whatever else the machine did; a "
        "pre-training that rows or studies share was timed once. The paper timed 3 RTX 2080 Ti: compare ratios only."
    )
    if metric == RELATIVE:
        title = f"cost relative to “{first_trained(rows).row.label}”"
        return Column(metric, title, "", "", unit="×", decimals=3), [note, ONE_MACHINE]
    means = [mean for own in cells if (mean := own["gpu_days"].mean)]
    decimals = 1 if brief else max(2, 2 - math.floor(math.log10(min(means)))) if means else 2
    return Column(
        metric, "pre-training cost", f"{unit} ({devices})", "GPU-days", unit=unit, decimals=decimals, better="lower"
    ), [note]


def _step_column(metric: str, rows: Sequence[PlannedRow], kinds: Collection[str]) -> tuple[Column, list[str]]:
    """FLOPs, time or memory of a step, or its ratio to the first row's."""
    name = metric.removesuffix("/relative")
    cost = STEP_COSTS[name]
    batch = rows[0].resolved.settings.optim.batch
    notes = {
        "gpu_days/flops": f"Forward, backward and key passes of a batch of {batch}, counted and not timed; a "
        "multiplication and an addition are two FLOPs.",
        "gpu_days/step": f"Median over a pre-training, batch of {batch}, the wait for data included.",
        "gpu_days/memory": "The most that tensors took on the GPU."
        if kinds == {"cuda"}
        else "The most that the process held, PyTorch itself and the videos included.",
    }
    if metric != name:
        title = f"{cost.title} relative to “{first_trained(rows).row.label}”"
        remarks = [notes[name], *([] if name == "gpu_days/flops" else [ONE_MACHINE])]
        return Column(metric, title, "", "", unit="×", decimals=3), remarks
    return Column(metric, cost.title, cost.unit, "", unit=cost.unit, decimals=cost.decimals), [notes[name]]


def _device(result: Mapping[str, Any]) -> str:
    """The kind of device that a stage ran on: "cpu", "cuda"."""
    return str(result.get("environment", {}).get("device", "cpu")).partition(":")[0]


def _uids(rows: Sequence[PlannedRow]) -> list[str]:
    return [source.uid for row in rows for source in row.cells["gpu_days"].values()]
