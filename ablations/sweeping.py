"""A sweep from the outside: processes that run trials, what is seen of them, what MLflow is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from ablations import search as optimiser
from ablations import searcher
from ablations.display import HEARTBEAT, span
from ablations.engines.local import no_main
from ablations.mirror import git
from ablations.provenance import environment
from ablations.search import Claims
from ablations.searcher import Search
from ablations.store import Store
from ablations.tracking import invocations

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from ablations.ledger import Entry
    from ablations.plan import Plan

TICK = 1.0  # seconds between looks at the trials
REVIVALS = 3  # times in a row that a process which was killed is started again
STATES = {"RUNNING": "RUNNING", "COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}  # Optuna's to MLflow's


@dataclass
class Outcome:
    """What became of a sweep's trials."""

    complete: int = 0
    pruned: int = 0
    failed: dict[int, str] = field(default_factory=dict)  # trial -> why
    left: int = 0  # not begun, or begun and not ended, for want of time
    seconds: float = 0.0

    def lines(self) -> list[str]:
        parts = [f"{self.complete} trials complete", f"{self.pruned} pruned"]
        parts += [f"{len(self.failed)} failed"] * bool(self.failed)
        parts += [f"{self.left} left; the same command goes on"] * bool(self.left)
        lines = [f"{', '.join(parts)}, {span(self.seconds)}"]
        lines += [f"failed: trial {number}: {error}" for number, error in self.failed.items()]
        if self.failed:
            lines.append("--retry-failed tries the failed ones again, as new trials")
        return lines


def run(search: Search, study: Study, jobs: int, console: Console) -> Outcome:
    """Run trials in `jobs` processes until there are as many as there are to be, or time is up.

    Other commands may work on the same study; this one ends when no trial runs any more, whoever's it is. A process
    that is killed is started again, and its trial goes on.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the processes are ended, and what they had is kept.
        OSError: a process failed by itself; its log says why.
    """
    began = time.monotonic()
    claims = Claims(study, search.folder)
    processes: dict[int, SpawnProcess] = {}
    revivals = dict.fromkeys(range(jobs), 0)
    with Display(study, search, console) as display:
        try:
            while True:
                with claims.alone():
                    claims.free()
                trials = study.get_trials(deepcopy=False)
                for number in list(processes):
                    if not processes[number].is_alive():
                        _ended(processes.pop(number), number, search, revivals)
                if _left(trials, search) and (search.until is None or time.time() < search.until):
                    for number in set(range(jobs)) - set(processes):
                        processes[number] = _start(replace(search, number=number, beside=jobs))
                running = [trial for trial in trials if trial.state.name == "RUNNING"]
                if not processes and not running:
                    break
                display.show(trials)
                time.sleep(TICK)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here", highlight=False)
            raise
        finally:
            _end(processes)
        display.show(study.get_trials(deepcopy=False))
    return state(study, search.trials, time.monotonic() - began)


def _left(trials: Sequence[FrozenTrial], search: Search) -> bool:
    """Whether there are trials to be begun."""
    return sum(trial.state.name != "WAITING" for trial in trials) < search.trials


def _start(search: Search) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=searcher.process, args=(search,))
    with no_main():
        process.start()
    return process


def _ended(process: SpawnProcess, number: int, search: Search, revivals: dict[int, int]) -> None:
    """A process is over: by itself, which is well or an error, or killed, which a few times is borne."""
    process.join()
    code = process.exitcode or 0
    if code == 0:
        revivals[number] = 0
        return
    revivals[number] += 1
    if code > 0 or revivals[number] > REVIVALS:
        own = replace(search, number=number)
        last = _last_line(own)
        how = f"was killed {revivals[number]} times" if code < 0 else f"ended with exit code {code}"
        raise OSError(f"a process of the sweep {how}: {last}; what it printed is in {own.log}")


def _last_line(search: Search) -> str:
    with suppress(OSError):
        lines = search.log.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
    return "it left no word"


def _end(processes: Mapping[int, SpawnProcess]) -> None:
    for process in processes.values():
        with suppress(ProcessLookupError):
            if process.pid is not None:
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    for process in processes.values():
        process.join()


def state(study: Study, trials: int, seconds: float = 0.0) -> Outcome:
    """What has become of so many trials by now; one that failed and is tried again counts by what came of that."""
    found = Outcome(seconds=seconds)
    there = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("retry_of") for trial in there}
    for trial in there:
        if trial.state.name == "COMPLETE":
            found.complete += 1
        elif trial.state.name == "PRUNED":
            found.pruned += 1
        elif trial.state.name == "FAIL" and trial.number not in again:
            found.failed[trial.number] = trial.user_attrs.get("error", "no reason was recorded")
    found.left = max(0, trials - sum(trial.state.is_finished() for trial in there))
    return found


def retry_failed(study: Study) -> None:
    """Enqueue the points of failed trials again, each once, however often it is asked for."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.state.name == "FAIL" and trial.params and trial.number not in again:
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})


# --- what is seen


class Display:
    """Trials as they go: a live line for each on a terminal, a line for each that ends elsewhere."""

    def __init__(self, study: Study, search: Search, console: Console) -> None:
        self.study, self.search, self.console = study, search, console
        self.store = Store(search.root)
        self.ended = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
        self._beat = time.monotonic()
        self._bars: Progress | None = None
        self._lines: dict[int, TaskID] = {}
        self._all: TaskID | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column

            self._bars = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=3)),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=3)),
                console=self.console,
                expand=True,
            )
            self._all = self._bars.add_task("[bold]all trials", total=self.search.trials, note="")
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            for task in self._lines.values():
                self._bars.remove_task(task)
            self._bars.stop()

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """Bring the picture up to date."""
        done = sum(trial.state.is_finished() for trial in trials)
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.ended:
                self.ended.add(trial.number)
                self._say(f"[{done}/{self.search.trials}] {self._verdict(trial)}: {words(trial)}")
        running = [trial for trial in trials if trial.state.name == "RUNNING"]
        if self._bars:
            self._draw(running, done)
        elif time.monotonic() - self._beat >= HEARTBEAT:
            for trial in running:
                self._say(f"[{done}/{self.search.trials}] {self._note(trial)}: {words(trial)}")

    def _draw(self, running: Sequence[FrozenTrial], done: int) -> None:
        assert self._bars is not None
        assert self._all is not None
        for number in set(self._lines) - {trial.number for trial in running}:
            self._bars.remove_task(self._lines.pop(number))
        for trial in running:
            if trial.number not in self._lines:
                self._lines[trial.number] = self._bars.add_task(words(trial), total=None, note="")
            step, steps = self._progress(trial)
            task = self._lines[trial.number]
            self._bars.update(task, description=words(trial), completed=step, total=steps, note=self._note(trial))
        self._bars.update(self._all, completed=done, note=f"{done}/{self.search.trials}  {best_words(self.study)}")

    def _say(self, text: str) -> None:
        from rich.markup import escape

        self._beat = time.monotonic()
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def _stage(self, trial: FrozenTrial) -> str | None:
        """The stage that a trial is at, as far as this store knows."""
        return next((uid for uid in trial.user_attrs.get("stages", []) if self.store.result(uid) is None), None)

    def _progress(self, trial: FrozenTrial) -> tuple[int, int | None]:
        uid = self._stage(trial)
        found = self.store.progress(uid) if uid else None
        return (found["step"], found["steps"]) if found else (0, None)

    def _note(self, trial: FrozenTrial) -> str:
        uid, (step, steps) = self._stage(trial), self._progress(trial)
        host = trial.user_attrs.get("worker", {}).get("host", "")
        parts = [(uid or "").partition("-")[0], f"{step}/{steps}" if steps else ""]
        if trial.intermediate_values:
            parts.append(f"kNN {trial.intermediate_values[max(trial.intermediate_values)]:.1f}")
        return "  ".join(part for part in (*parts, f"on {host}" if host else "") if part)

    def _verdict(self, trial: FrozenTrial) -> str:
        if trial.state.name == "COMPLETE":
            return ", ".join(
                f"{o.metric} {v:.4g}" for o, v in zip(self.search.sweep.objectives, trial.values, strict=True)
            )
        if trial.state.name == "PRUNED":
            return f"pruned at step {trial.last_step}"
        return f"failed: {trial.user_attrs.get('error', 'no reason was recorded')}"


def words(trial: FrozenTrial) -> str:
    """A trial's number and point."""
    shown = {**optimiser.known_parameters(trial)}
    point = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in shown.items())
    row = trial.user_attrs.get("row")
    return f"trial {trial.number} ({point})" + (f", row {row}" if row else "")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def best_words(study: Study) -> str:
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if not complete or len(study.directions) > 1:
        return ""
    best = study.best_trial
    return f"best {best.value:.4g} (trial {best.number})"


# --- what MLflow is told


def entries(study: Study, search: Search, command: str, final: Plan | None, over: bool) -> dict[str, Entry]:
    """Sweep and trials as the mirror takes them: a run, below it one for each trial, below those their stages.

    Args:
        final: the test of the best, once it is run; it hangs below the sweep's run too.
        over: whether the sweep is done.
    """
    sweep, profile = search.sweep, search.profile
    key = f"sweep-{study.study_name.replace(' ', '-')}"
    trials = study.get_trials(deepcopy=False)
    common = {
        "study": sweep.sweep, "title": sweep.title, "profile": profile.profile, "scale": profile.scale,
        "overrides": list(search.overrides), "seeds": list(sweep.seeds), "git": git(environment()),
        "command": command, "files": {},
    }  # fmt: skip
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = {}
    if complete and len(study.directions) == 1:
        best = {"best": float(study.best_value), "best_trial": float(study.best_trial.number)}
    counts = {state.lower(): sum(trial.state.name == state for trial in trials) for state in STATES}
    found: dict[str, Entry] = {
        key: {
            **common,
            "name": f"sweep {sweep.sweep} {profile.profile}",
            "stages": {},
            "params": {p["name"]: {k: v for k, v in p.items() if k != "name"} for p in sweep.space.describe()}
            | {"sampler": sweep.sampler.name, "sampler.seed": sweep.sampler.seed, "pruner": sweep.pruner.name},
            "values": {**best, **{name: float(count) for name, count in counts.items() if name != "running"}},
            "state": "FINISHED" if over else None,
            "tags": {"kind": "sweep", "study_name": study.study_name},
        }
    }
    for trial in trials:
        if trial.state.name not in STATES:
            continue
        per_seed = trial.user_attrs.get("per_seed", {})
        values = {f"{metric}/seed {seed}": v for metric, own in per_seed.items() for seed, v in own.items()}
        if trial.state.name == "COMPLETE":
            values |= {o.metric: v for o, v in zip(sweep.objectives, trial.values, strict=True)}
        found[f"{key}-trial-{trial.number}"] = {
            **common,
            "above": key,
            "name": f"trial {trial.number}",
            "stages": dict.fromkeys(trial.user_attrs.get("stages", []), f"trial {trial.number}"),
            "params": dict(trial.params),
            "values": values,
            "curve": {"knn": {str(step): value for step, value in sorted(trial.intermediate_values.items())}},
            "state": STATES[trial.state.name] if trial.state.is_finished() else None,
            "tags": {"kind": "trial", "trial": str(trial.number), "state": trial.state.name.lower()}
            | ({"error": trial.user_attrs["error"]} if "error" in trial.user_attrs else {})
            | ({"row": trial.user_attrs["row"]} if "row" in trial.user_attrs else {}),
        }
    if final is not None:
        found |= {own: {**entry, "above": key} for own, entry in invocations(final, command).items()}
    return found
