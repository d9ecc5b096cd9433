"""Pictures of a sweep, by Optuna's own plots: history, importance, slices, contours, front; and the pruning curves."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import optuna

from ablations.plots import CHANCE, OURS, PAPER, STYLE, saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.study import Study

    from ablations.findings import Findings

ORDER = ["history", "importance", "slice", "contour", "front", "curves"]
MOST = 4  # parameters of slices and contours: the most important ones


def draw(study: Study, found: Findings) -> dict[str, bytes]:
    """{"history.png": ..., "history.pdf": ...}: those that the trials there are say something in."""
    import matplotlib as mpl

    pictures: dict[str, bytes] = {}
    makers = {
        "history": _history, "importance": _importance, "slice": _slice, "contour": _contour, "front": _front,
        "curves": _curves,
    }  # fmt: skip
    for name, make in makers.items():
        # a context each: Optuna's plots change the style of all that follow
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the matplotlib plots
            figure = make(study, found)
            if figure is not None:
                pictures |= saved(figure, name, bbox_inches="tight")
    return pictures


def _axis(found: Findings, at: int) -> str:
    from ablations.findings import title

    return title(found.sweep.objectives[at], "").replace(", , ", ",\n")


def _blank(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _caption(figure: Figure, found: Findings) -> None:
    note = "reduced scale, " if found.profile.reduced else ""
    figure.suptitle(f"{found.sweep.title}\n{note}profile {found.profile.profile}", fontsize=9)


def _history(study: Study, found: Findings) -> Figure | None:
    """The first objective of each trial in turn, the best so far, pruned trials at the bottom."""
    done = [trial for trial in found.trials if trial.state == "complete"]
    if not done:
        return None
    figure, axes = _blank(6, 3.2)
    numbers, values = [t.number for t in done], [t.values[0] for t in done]
    axes.plot(numbers, values, "o", color=OURS, markersize=4, label="complete")
    up = found.sweep.objectives[0].direction == "maximize"
    best: list[float] = []
    for reached in values:
        best.append(reached if not best else (max if up else min)(best[-1], reached))
    axes.step(numbers, best, where="post", color=PAPER, linewidth=1.2, label="best so far")
    rows = [trial for trial in done if trial.row]
    axes.plot([t.number for t in rows], [t.values[0] for t in rows], "s", markersize=8, markerfacecolor="none",
              color=OURS, label="row of the paper") if rows else None  # fmt: skip
    pruned = [trial.number for trial in found.trials if trial.state == "pruned"]
    if pruned:
        floor = min(values) if up else max(values)
        axes.plot(pruned, [floor] * len(pruned), "x", color=CHANCE, markersize=5, label="pruned (no value)")
    axes.set_xlabel("trial")
    axes.set_ylabel(_axis(found, 0))
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    _caption(figure, found)
    return figure


def _importance(study: Study, found: Findings) -> Figure | None:
    """Share of the variance between trials that each parameter explains."""
    if not found.importance:
        return None
    names = sorted({name for own in found.importance.values() for name in own},
                   key=lambda name: max(own.get(name, 0) for own in found.importance.values()))  # fmt: skip
    figure, axes = _blank(6, 0.9 + 0.35 * len(names) * len(found.importance))
    thick = 0.8 / len(found.importance)
    for at, (metric, own) in enumerate(found.importance.items()):
        places = [i + thick * (at - (len(found.importance) - 1) / 2) for i in range(len(names))]
        axes.barh(places, [own.get(name, 0) for name in names], thick, color=(OURS, PAPER)[at], label=metric)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of the variance between {found.count('complete')} trials (fANOVA)")
    axes.legend(frameon=False, fontsize=8)
    _caption(figure, found)
    return figure


def _chosen(found: Findings) -> list[str]:
    """The parameters that every complete trial has, the most important first."""
    done = [trial for trial in found.trials if trial.state == "complete"]
    names = [p.name for p in found.sweep.space.parameters if all(p.name in trial.point for trial in done)]
    shares = next(iter(found.importance.values()), {})
    return sorted(names, key=lambda name: -shares.get(name, 0))[:MOST]


def _target(found: Findings) -> dict[str, Any]:
    return {"target": lambda trial: trial.values[0], "target_name": _axis(found, 0).replace("\n", " ")}


def _slice(study: Study, found: Findings) -> Figure | None:
    """The first objective against each parameter, later trials darker."""
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    blues = ListedColormap([mpl.colormaps["Blues"](shade / 255) for shade in range(50, 256)])
    names, done = _chosen(found), [trial for trial in found.trials if trial.state == "complete"]
    if not names or len(done) < 2:
        return None
    figure = Figure(figsize=(2.6 * len(names) + 1.2, 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    parameters = {parameter.name: parameter for parameter in found.sweep.space.parameters}
    dots: Any = None
    for panel, name in zip(panels, names, strict=True):
        here: list[Any] = [trial.point[name] for trial in done]
        if parameters[name].form == "choices":
            kept = [str(value) for value, _ in parameters[name].choices]
            here = [kept.index(str(value)) for value in here]
            panel.set_xticks(range(len(kept)), kept, rotation=90 if max(map(len, kept)) > 4 else 0)
        elif parameters[name].log:
            panel.set_xscale("log")
            _plain_ticks(panel.xaxis)
        dots = panel.scatter(here, [trial.values[0] for trial in done], c=[trial.number for trial in done], s=22,
                             cmap=blues, edgecolors=CHANCE, linewidths=0.5)  # fmt: skip
        panel.set_xlabel(name)
        panel.grid(color="#EEEEEE")
        panel.set_axisbelow(True)
    panels[0].set_ylabel(_axis(found, 0))
    figure.colorbar(dots, ax=panels[-1], label="trial")
    _caption(figure, found)
    return figure


def _plain_ticks(axis: Any) -> None:
    """0.5 and 2 instead of powers of ten on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _contour(study: Study, found: Findings) -> Figure | None:
    names = _chosen(found)
    done = [trial for trial in found.trials if trial.state == "complete"]
    names = [name for name in names if len({str(trial.point[name]) for trial in done}) > 1]
    if len(names) < 2 or len(done) < 4:
        return None
    axes = optuna.visualization.matplotlib.plot_contour(study, params=names, **_target(found))
    side = 4.2 if len(names) == 2 else 2.6 * len(names)
    return _finished(axes, found, side + 1.2, side)


def _front(study: Study, found: Findings) -> Figure | None:
    """Two objectives against each other, the front joined up, the tested trials numbered."""
    done = [trial for trial in found.trials if trial.state == "complete"]
    if len(found.sweep.objectives) < 2 or not done:
        return None
    figure, axes = _blank(5.4, 3.8)
    front = sorted((trial.values for trial in study.best_trials), key=lambda pair: pair[1])
    axes.plot([t.values[1] for t in done], [t.values[0] for t in done], "o", color=OURS, markersize=4, label="trial")
    axes.plot([pair[1] for pair in front], [pair[0] for pair in front], "-o", color=PAPER, markersize=5, linewidth=1,
              label="Pareto front")  # fmt: skip
    for trial in found.best:
        axes.annotate(f"trial {trial.number}", (trial.values[1], trial.values[0]), (-6, 5), textcoords="offset points",
                      fontsize=8, ha="right")  # fmt: skip
    axes.set_xlabel(_axis(found, 1))
    axes.set_ylabel(_axis(found, 0))
    axes.margins(x=0.12, y=0.12)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    _caption(figure, found)
    return figure


def _curves(study: Study, found: Findings) -> Figure | None:
    """kNN accuracy of each encoder while it was pre-trained."""
    seen = [trial for trial in found.trials if trial.curve]
    if not seen:
        return None
    figure, axes = _blank(6, 3.2)
    looks = {"complete": (OURS, "-", "complete"), "pruned": (CHANCE, ":", "pruned"), "best": (PAPER, "-", "best")}
    told: set[str] = set()
    for trial in sorted(seen, key=lambda trial: trial.best):
        kind = "best" if trial.best else trial.state if trial.state in looks else "complete"
        colour, line, label = looks[kind]
        steps, width = [int(step) for step in trial.curve], 1.8 if trial.best else 0.8
        axes.plot(steps, list(trial.curve.values()), line, color=colour, marker="o", markersize=3, linewidth=width,
                  label=None if kind in told else label)  # fmt: skip
        told.add(kind)
    axes.set_xlabel("step of pre-training")
    axes.set_ylabel("kNN accuracy, %, held-out part of train")
    axes.legend(frameon=False, fontsize=8)
    _caption(figure, found)
    return figure


def _finished(axes: Any, found: Findings, width: float, height: float) -> Figure:
    """Optuna's axes as a figure in this house's style."""
    import numpy as np
    from matplotlib import pyplot

    first = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()[0]
    figure: Figure = first.figure
    pyplot.close(figure)  # Optuna makes it with pyplot, which keeps figures open
    figure.set_size_inches(width, height)
    for one in figure.axes:
        one.set_title("")
        for axis in (one.xaxis, one.yaxis):
            if axis.get_scale() == "log":
                _plain_ticks(axis)
            axis.label.set_fontsize(9)
        one.tick_params(labelsize=8)
    _caption(figure, found)
    return figure
