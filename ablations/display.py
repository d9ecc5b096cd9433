"""What a run shows while it runs: a live line per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

if TYPE_CHECKING:
    from ablations.plan import Plan
    from ablations.store import Store
    from ablations.uids import Stage

HEARTBEAT = 30.0  # seconds between signs of life where there is no terminal
SHOWN = 5  # metrics on a line


def span(seconds: float) -> str:
    """A time for people: 9.4 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


@dataclass
class _Line:
    """A stage that runs."""

    stage: Stage
    began: float = field(default_factory=time.monotonic)
    step: int = 0
    steps: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    first: tuple[int, float] | None = None  # (step, time) of the first message: start-up is no part of the speed
    task: TaskID | None = None

    @property
    def speed(self) -> float | None:
        """Steps per second."""
        if self.first is None or self.step <= self.first[0]:
            return None
        return (self.step - self.first[0]) / max(1e-9, self.updated - self.first[1])

    updated: float = 0.0

    @property
    def left(self) -> float | None:
        """Seconds to the last step."""
        return None if not self.speed else max(0.0, (self.steps - self.step) / self.speed - self.silent)

    @property
    def silent(self) -> float:
        return time.monotonic() - self.updated

    @property
    def note(self) -> str:
        """Time left, speed and losses."""
        parts = []
        if self.left is not None and self.step < self.steps:
            parts.append(f"{span(self.left)} left")
        if self.speed:
            clips = _clips(self.stage)
            parts.append(f"{self.speed:.3g} steps/s" if clips is None else f"{self.speed * clips:.3g} clips/s")
        parts += [f"{name} {value:.4g}" for name, value in list(self.values.items())[:SHOWN] if name != "lr"]
        return "  ".join(parts)


def _clips(stage: Stage) -> int | None:
    """Clips a step: pre-training takes two windows of each video (sub-clips apart); None if that is not known."""
    if stage.kind == "features":  # its steps are videos
        return int(stage.config["clips"])
    part: Any = stage.config.get("settings" if stage.kind == "pretrain" else stage.kind)
    for name in ("optim", "batch"):
        part = part.get(name) if isinstance(part, dict) else None
    return part * (2 if stage.kind == "pretrain" else 1) if isinstance(part, int) else None


class Display:
    """Progress of the stages of a plan. A context manager; `tick` keeps it alive."""

    def __init__(self, plan: Plan, store: Store, jobs: int, console: Console | None = None) -> None:
        self.stages, self.store, self.jobs = plan.stages, store, jobs
        self.console = console or Console(stderr=True)
        self.lines: dict[str, _Line] = {}
        self.settled: dict[str, str] = {}  # uid -> state
        self.took: dict[str, list[float]] = {}  # kind -> seconds of stages done
        self.waiting: set[str] = set()
        self._beat = time.monotonic()
        self._bars: Progress | None = None
        self._all: TaskID | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=2)),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=3)),
                console=self.console,
                refresh_per_second=4,
                expand=True,
            )
            self._all = self._bars.add_task("[bold]all stages", total=len(self.stages), count="", note="")
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            for line in self.lines.values():
                if line.task is not None:
                    self._bars.remove_task(line.task)
            self._draw_all()
            self._bars.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._beat = time.monotonic()
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def starts(self, stage: Stage) -> None:
        line = self.lines[stage.uid] = _Line(stage)
        self.waiting.discard(stage.uid)
        if self._bars:
            line.task = self._bars.add_task(escape(stage.title), total=None, count="", note="starts")
        else:
            self.say(f"{self._place} starts: {stage.title}")

    def waits(self, stage: Stage, pid: int | None) -> None:
        """Another process runs a stage."""
        if stage.uid not in self.waiting:
            self.waiting.add(stage.uid)
            self.say(f"{self._place} waiting for pid {pid or 'unknown'}, which runs it: {stage.title}")

    def steps(self, stage: Stage, step: int, steps: int, values: Mapping[str, float]) -> None:
        line = self.lines[stage.uid]
        if line.first is None or step < line.step:
            line.first = (step, time.monotonic())
        line.step, line.steps, line.values, line.updated = step, steps, values, time.monotonic()

    def ends(self, stage: Stage, state: str, error: str | None) -> None:
        line = self.lines.pop(stage.uid, None)
        self.settled[stage.uid] = state
        seconds = time.monotonic() - line.began if line else None
        if state == "done" and seconds is not None:
            self.took.setdefault(stage.kind, []).append(seconds)
        if state == "cached":
            result = self.store.result(stage.uid) or {}
            if isinstance(result.get("seconds"), (int, float)):
                self.took.setdefault(stage.kind, []).append(float(result["seconds"]))
        if self._bars and line and line.task is not None:
            self._bars.remove_task(line.task)
        if state == "done" and seconds is not None:
            self.say(f"{self._place} {span(seconds)}: {stage.title}")
        elif state == "failed":
            self.say(f"{self._place} failed: {stage.title}: {error}")
        elif state == "skipped":
            self.say(f"{self._place} skipped, it needs a failed stage: {stage.title}")

    def fails(self, stage: Stage, told: str) -> None:
        """A stage failed, which is not its end: it is tried again."""
        line = self.lines.pop(stage.uid, None)
        if self._bars and line and line.task is not None:
            self._bars.remove_task(line.task)
        self.say(f"{self._place} failed: {stage.title}: {told}")

    def tick(self) -> None:
        """Draw, or give a sign of life now and then."""
        if self._bars:
            for line in self.lines.values():
                if line.task is not None and line.steps:
                    count = f"{line.step}/{line.steps}"
                    self._bars.update(line.task, completed=line.step, total=line.steps, count=count, note=line.note)
            self._draw_all()
        elif time.monotonic() - self._beat >= HEARTBEAT:
            left = self.left()
            rest = f"; all: about {span(left)}" if left is not None else ""
            for line in self.lines.values():
                count = (
                    f"step {line.step}/{line.steps}" if line.steps else f"after {span(time.monotonic() - line.began)}"
                )
                self.say(f"{self._place} {count}: {line.stage.title}  {line.note}{rest}")

    def left(self) -> float | None:
        """Seconds until all is done, from what stages of a kind took so far; None while a kind is unknown."""
        total = 0.0
        for uid, stage in self.stages.items():
            if uid in self.settled:
                continue
            line = self.lines.get(uid)
            usual = self._usual(stage.kind)
            if line and line.left is not None:
                total += line.left
            elif usual is None:
                return None
            else:
                total += max(0.0, usual - (time.monotonic() - line.began if line else 0.0))
        return total / self.jobs

    def _usual(self, kind: str) -> float | None:
        took = self.took.get(kind)
        return sum(took) / len(took) if took else None

    @property
    def _place(self) -> str:
        return f"[{len(self.settled)}/{len(self.stages)}]"

    def _draw_all(self) -> None:
        if self._bars and self._all is not None:
            left, count = self.left(), len(self.settled)
            note = f"about {span(left)} left" if left is not None and count < len(self.stages) else ""
            self._bars.update(self._all, completed=count, count=f"{count}/{len(self.stages)}", note=note)
