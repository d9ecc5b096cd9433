"""What a sweep found: its trials, the best of them, how they fare on test; as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import phrases, stats
from ablations.latex import tex_escape
from ablations.markdown import code, grid, md_escape
from ablations.markup import Raw, templates
from ablations.phrases import MISSING, number, value
from ablations.report import KINDS, data_title
from ablations.store import Store, replace_file
from ablations.sweep import STEP_COSTS
from ablations.table import Table

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from ablations.profile import Profile
    from ablations.sweep import Objective, Sweep

SHOWN = 10  # trials of the table of the best
FRONT = 3  # trials of a Pareto front that are tested
COST_TITLES = {
    "parameters": ("parameters", "M", 3),
    "gpu_days": ("pre-training", "GPU-days", 5),
    "gflop_per_step": ("GFLOP per step", "GFLOP", 1),
    "seconds_per_step": ("time per step", "s", 3),
}


@dataclass(frozen=True)
class Found:
    """A trial as a report shows it."""

    number: int
    state: str  # complete, pruned, failed, running, waiting
    point: dict[str, Any]
    values: tuple[float, ...] = ()  # of the objectives, means over seeds
    spread: tuple[float | None, ...] = ()  # sample standard deviations over seeds
    intervals: tuple[tuple[float, float] | None, ...] = ()  # 95 % bootstrap over videos, and seeds if several
    per_seed: dict[str, dict[str, float]] = field(default_factory=dict)
    steps: int | None = None  # of pre-training until it was pruned
    curve: dict[str, float] = field(default_factory=dict)  # step -> kNN accuracy
    seconds: float | None = None
    row: str | None = None  # of a study that it was taken from
    error: str | None = None
    best: bool = False
    pretrain: tuple[str, ...] = ()  # uids


@dataclass(frozen=True)
class Findings:
    """A sweep and what came of it."""

    sweep: Sweep
    profile: Profile
    overrides: tuple[str, ...]
    study: str
    command: str
    trials: tuple[Found, ...]
    importance: dict[str, dict[str, float]]  # objective -> parameter -> share
    data: str  # that judges
    final: Table | None

    @property
    def complete(self) -> list[Found]:
        """Finished trials, the best first by the first objective."""
        sign = -1 if self.sweep.objectives[0].direction == "maximize" else 1
        done = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(done, key=lambda trial: (sign * trial.values[0], trial.number))

    @property
    def best(self) -> list[Found]:
        """The best trial; of two objectives those of the front that are tested, the most accurate first."""
        return [trial for trial in self.complete if trial.best]

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)


def gather(
    sweep: Sweep, profile: Profile, overrides: Sequence[str], study: Study, store: Store, command: str,
    final: Table | None,
) -> Findings:  # fmt: skip
    """Read a study's trials, and of the store what each video came to."""
    chosen = {trial.number for trial in choose(study)}
    trials = tuple(
        _found(trial, sweep, profile, overrides, store, chosen) for trial in study.get_trials(deepcopy=False)
    )
    role = next(o.metric for o in sweep.objectives if o.judges).partition("/")[2]
    data = data_title(sweep.resolved({}, profile, overrides).data[role])
    return Findings(
        sweep, profile, tuple(overrides), study.study_name, command, trials, importances(study, sweep), data, final
    )


def choose(study: Study) -> list[FrozenTrial]:
    """The trials that go to test: the best one; of two objectives up to three of the front, spread from the most
    accurate on. Equals: the earlier trial."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if not complete:
        return []
    if len(study.directions) == 1:
        sign = -1 if study.direction.name == "MAXIMIZE" else 1
        return [min(complete, key=lambda trial: (sign * trial.values[0], trial.number))]
    first = -1 if study.directions[0].name == "MAXIMIZE" else 1
    front = sorted(study.best_trials, key=lambda trial: (first * trial.values[0], trial.number))
    if len(front) <= FRONT:
        return front
    return [front[round(i * (len(front) - 1) / (FRONT - 1))] for i in range(FRONT)]


def importances(study: Study, sweep: Sweep) -> dict[str, dict[str, float]]:
    """Share of the variance between trials that each parameter explains (fANOVA), by objective; empty where there are
    too few trials, or they all came to the same."""
    import optuna

    found: dict[str, dict[str, float]] = {}
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(sweep.space.parameters) < 2 or len(complete) < 4:
        return found
    for number_, objective in enumerate(sweep.objectives):
        if len({trial.values[number_] for trial in complete}) < 2:
            continue
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)

        def target(trial: FrozenTrial, at: int = number_) -> float:
            return float(trial.values[at])

        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
        except (ValueError, RuntimeError):  # no parameter is in all trials
            continue
        found[objective.metric] = {name: round(share, 4) for name, share in shares.items()}
    return found


def _found(
    trial: FrozenTrial, sweep: Sweep, profile: Profile, overrides: Sequence[str], store: Store, chosen: set[int]
) -> Found:
    from ablations.search import known_parameters

    attributes = trial.user_attrs
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    common: dict[str, Any] = {
        "number": trial.number,
        "state": names.get(trial.state.name, trial.state.name.lower()),
        "point": known_parameters(trial),
        "curve": {str(step): round(seen, 4) for step, seen in sorted(trial.intermediate_values.items())},
        "seconds": attributes.get("seconds"),
        "row": attributes.get("row"),
        "error": attributes.get("error"),
        "per_seed": attributes.get("per_seed", {}),
        "pretrain": tuple(uid for uid in attributes.get("stages", []) if uid.startswith("pretrain-")),
    }
    if trial.state.name == "PRUNED":
        common["steps"] = trial.last_step
    if trial.state.name != "COMPLETE":
        return Found(**common)
    plan = sweep.trial(trial.number, common["point"], profile, overrides)
    own = [list(common["per_seed"][objective.metric].values()) for objective in sweep.objectives]
    intervals: list[tuple[float, float] | None] = []
    for objective in sweep.objectives:
        hits = {}
        for seed, cell in plan.rows[0].cells.get(objective.metric, {}).items():
            kept = (store.result(cell.uid) or {}).get("per_video", {})
            if cell.key in kept:
                hits[seed] = stats.PerVideo(tuple(kept[cell.key]), tuple(kept["of"]))
        intervals.append(stats.mean_interval(hits) if hits else None)
    return Found(
        **common,
        values=tuple(trial.values),
        spread=tuple(stats.summarise(values).std for values in own),
        intervals=tuple(intervals),
        best=trial.number in chosen,
    )


# --- in words


def title(objective: Objective, data: str) -> str:
    """An objective as a column."""
    if objective.metric in COST_TITLES:
        name, unit, _ = COST_TITLES[objective.metric]
        return f"{name}, {unit}" if unit not in name.split() else name
    what = objective.metric.partition("/")[0]
    return f"{KINDS.get(what, f'retrieval {what}, %')}, {data}, held-out part of train"


def digits(objective: Objective) -> int:
    return COST_TITLES[objective.metric][2] if objective.metric in COST_TITLES else 1


def shown(found: Findings, trial: Found, at: int) -> str:
    """ "52.1 ± 1.3 [45.0, 58.9]"."""
    places, spread, interval = digits(found.sweep.objectives[at]), trial.spread[at], trial.intervals[at]
    text = number(trial.values[at], places)
    text += "" if spread is None else f" ± {number(spread, places)}"
    return text + ("" if interval is None else f" [{number(interval[0], places)}, {number(interval[1], places)}]")


def facts(found: Findings) -> list[tuple[str, str]]:
    """What a reader must know before the first number."""
    sweep, profile = found.sweep, found.profile
    scale = "reduced scale: not a reproduction of the paper's numbers; " if profile.reduced else ""
    counts = [
        f"{found.count('complete')} complete",
        f"{found.count('pruned')} pruned",
        f"{found.count('failed')} failed",
    ]
    counts += [f"{n} not run yet" for n in [found.count("running") + found.count("waiting")] if n]
    lines = [
        ("sweep", sweep.sweep),
        ("profile", f"{profile.profile} ({profile.title})"),
        ("scale", scale + profile.scale.removeprefix("reduced: ")),
        ("objective", " and ".join(f"{o.direction} {o.metric}" for o in sweep.objectives)),
        ("judged on", f"{found.data}: 1/{sweep.held_out} of the groups of train, on which no trial is trained; test is "
                      "read when no trial is left, for the last table"),
        ("seeds of a trial", ", ".join(map(str, sweep.seeds))),
        ("trials", ", ".join(counts)),
        ("sampler", f"{sweep.sampler.name}, seed {sweep.sampler.seed}"),
        ("pruner", _pruner(sweep)),
    ]  # fmt: skip
    if found.overrides:
        lines.append(("overrides", " ".join(found.overrides)))
    return [*lines, ("command", found.command)]


def _pruner(sweep: Sweep) -> str:
    pruner = sweep.pruner
    if pruner.name == "none":
        return "none"
    return f"{pruner.name}, on kNN accuracy of the encoder every {pruner.every} steps of pre-training, same videos"


def remarks(found: Findings) -> list[str]:
    """What keeps a reader from reading too much into the numbers."""
    several = len(found.sweep.seeds) > 1
    of = "videos and seeds" if several else "videos; one seed, whose own spread they do not hold"
    lines = [f"In brackets: 95 % bootstrap interval over the held-out {of}."]
    complete = found.complete
    if len(complete) > 1:
        lines.append(
            f"The best of {len(complete)} noisy values looks better than it is; the table on test is what counts."
        )
    if complete and complete[0].intervals[0] is not None:
        low = complete[0].intervals[0][0]
        high = complete[0].intervals[0][1]
        inside = sum(low <= trial.values[0] <= high for trial in complete[1:])
        lines.append(f"{inside} of the other {len(complete) - 1} complete trials lie within the best one's interval.")
    return lines


def header(found: Findings) -> list[str]:
    names = [parameter.name for parameter in found.sweep.space.parameters]
    return ["trial", *names, *(title(o, found.data) for o in found.sweep.objectives)]


def lines(found: Findings, trials: Sequence[Found]) -> list[list[str]]:
    names = [parameter.name for parameter in found.sweep.space.parameters]
    return [
        [
            f"{trial.number}" + (f" (row {trial.row})" if trial.row else ""),
            *(_point(trial.point.get(name)) for name in names),
            *(shown(found, trial, at) for at in range(len(found.sweep.objectives))),
        ]
        for trial in trials
    ]


def _point(setting: Any) -> str:
    if setting is None:
        return MISSING
    return f"{setting:.4g}" if isinstance(setting, float) else value(setting)


# --- files


def markdown(found: Findings, pictures: Sequence[str]) -> str:
    """sweep.md."""
    top = found.complete[:SHOWN]
    rows = lines(found, top)
    for trial, row in zip(top, rows, strict=True):
        if trial.best:
            row[:] = [Raw(f"**{md_escape(cell)}**") for cell in row]
    shares = sorted({name for own in found.importance.values() for name in own})
    return (
        templates(md_escape)
        .get_template("sweep.md.jinja")
        .render(
            found=found,
            facts=facts(found),
            warning="Reduced scale: not a reproduction of the paper's numbers" if found.profile.reduced else "",
            best=grid(header(found), rows, "r") if rows else "",
            shown=len(top),
            remarks=remarks(found),
            importance=grid(
                ["parameter", *found.importance],
                [[name, *(number(own.get(name), 2) for own in found.importance.values())] for name in shares],
                "r",
            )
            if shares
            else "",
            pictures=[(name, Raw(f"![{name}]({name}.png)")) for name in pictures],
            failures=[(trial.number, trial.error or "") for trial in found.trials if trial.state == "failed"],
            final=_final(found),
            uids=[(trial.number, [code(uid) for uid in trial.pretrain]) for trial in found.best],
        )
    )


def _final(found: Findings) -> list[tuple[str, Raw]]:
    """The test of the best beside the default, per metric."""
    table = found.final
    if table is None or not table.measured:
        return []
    parts = []
    for column in table.visible:
        rows = []
        for row in table.rows:
            cell = row.cells[column.metric]
            gap = next((c for c in table.comparisons if (c.metric, c.label) == (column.metric, row.label)), None)
            text = MISSING
            if gap is not None and gap.gap is not None:
                text = number(gap.gap, column.decimals, True)
                if gap.low is not None and gap.high is not None:
                    text += f" [{number(gap.low, column.decimals, True)}, {number(gap.high, column.decimals, True)}]"
            rows.append([row.label, phrases.measured(cell, column), "default" if row.default else text])
        head = ["row", "test, mean ± std (seeds)", "minus default, 95 % paired t interval"]
        parts.append((column.measured_title, grid(head, rows, "r")))
    return parts


def latex(found: Findings) -> str:
    """sweep.tex: the best trials, to be \\input."""
    top = found.complete[:SHOWN]
    names, cells = header(found), lines(found, top)
    return (
        templates(tex_escape, tex=True)
        .get_template("sweep.tex.jinja")
        .render(
            found=found,
            facts=facts(found),
            warning="reduced scale: not a reproduction of the paper's numbers" if found.profile.reduced else "",
            columns=Raw("l" + "r" * (len(names) - 1)),
            header=_cells(names),
            rows=[
                Raw((r"\rowcolor[gray]{0.9} " if trial.best else "") + _cells(row))
                for trial, row in zip(top, cells, strict=True)
            ],
            remarks=remarks(found),
        )
    )


def _cells(texts: Sequence[str]) -> Raw:
    return Raw(" & ".join(tex_escape(text) for text in texts))


def as_csv(found: Findings) -> str:
    """trials.csv: every trial, in the order they were begun."""
    names = [parameter.name for parameter in found.sweep.space.parameters]
    metrics = [objective.metric for objective in found.sweep.objectives]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{metric} {side}" for metric in metrics for side in ("low", "high")]
    seeds = [f"{metric} seed {seed}" for metric in metrics for seed in found.sweep.seeds]
    writer.writerow(["trial", "state", "best", "row", *names, *metrics, *ends, *seeds, "pruned at step", "seconds",
                     "pretrain", "error"])  # fmt: skip
    for trial in found.trials:
        intervals = trial.intervals or (None,) * len(metrics)
        writer.writerow([
            trial.number, trial.state, int(trial.best), trial.row or "",
            *(trial.point.get(name, "") for name in names),
            *(trial.values or ("",) * len(metrics)),
            *(end for pair in intervals for end in (pair or ("", ""))),
            *(trial.per_seed.get(metric, {}).get(str(seed), "") for metric in metrics for seed in found.sweep.seeds),
            "" if trial.steps is None else trial.steps,
            "" if trial.seconds is None else round(trial.seconds, 1),
            " ".join(trial.pretrain), trial.error or "",
        ])  # fmt: skip
    return out.getvalue()


def as_json(found: Findings) -> str:
    """sweep.json: everything, for programs."""
    sweep = found.sweep
    content = {
        "sweep": sweep.sweep,
        "title": sweep.title,
        "profile": found.profile.profile,
        "scale": found.profile.scale,
        "reduced_scale": found.profile.reduced,
        "study": found.study,
        "command": found.command,
        "overrides": list(found.overrides),
        "base": {name: node.plain() for name, node in sweep.space.base.items()},
        "space": sweep.space.describe(),
        "constraints": [rule.text for rule in sweep.space.constraints],
        "objectives": [asdict(objective) for objective in sweep.objectives],
        "sampler": asdict(sweep.sampler),
        "pruner": asdict(sweep.pruner),
        "validation": f"1/{sweep.held_out}",
        "seeds": list(sweep.seeds),
        "importance": found.importance,
        "trials": [asdict(trial) for trial in found.trials],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def text(found: Findings) -> str:
    """The best trials, for a terminal."""
    top = found.complete[:5]
    if not top:
        return f"{found.sweep.title}: no trial is complete"
    rows = [header(found), *lines(found, top)]
    rows[0] = [re.sub(r", held-out part of train$", "", name) for name in rows[0]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    out = [found.sweep.title, "  ".join(cell.rjust(width) for cell, width in zip(rows[0], widths, strict=True))]
    out.append("-" * len(out[1]))
    for trial, row in zip(top, rows[1:], strict=True):
        mark = "  *" if trial.best else ""
        out.append("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + mark)
    return "\n".join([*out, *remarks(found)])


def write(found: Findings, study: Study, folder: Path) -> list[Path]:
    """All files of a sweep's report; the final table has a folder of its own inside.

    Raises:
        OSError: a file cannot be written.
    """
    from ablations import landscape, publish

    folder.mkdir(parents=True, exist_ok=True)
    pictures = landscape.draw(study, found)
    names = sorted({name.partition(".")[0] for name in pictures}, key=landscape.ORDER.index)
    texts: Mapping[str, bytes] = {
        "sweep.md": markdown(found, names).encode(),
        "sweep.tex": latex(found).encode(),
        "trials.csv": as_csv(found).encode(),
        "sweep.json": as_json(found).encode(),
    }
    publish.drop_pictures(folder, pictures, landscape.ORDER)
    written = [replace_file(folder / name, content) for name, content in {**texts, **pictures}.items()]
    if found.final is not None and found.final.measured:
        written += publish.write(found.final, folder / "final")
    return written


assert set(STEP_COSTS) <= set(COST_TITLES)
