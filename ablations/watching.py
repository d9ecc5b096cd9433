"""What the stages of a store are at, once or again and again: `fima-ablate status`. Imports no torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations.display import HEARTBEAT, SHOWN, span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ablations.store import Store

LIVE = 2.0  # seconds between looks on a terminal
TROUBLES = 5  # failed stages that a live view names

Row = dict[str, Any]  # of Store.describe


class Watch:
    """The stages of a store, looked at again and again: what is done is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._done: dict[str, tuple[int, Row]] = {}  # uid -> when its result was written (ns), what it is

    def look(self) -> list[Row]:
        """Every stage that was ever begun, as `Store.describe` gives it."""
        return [self._describe(uid) for uid in self.store.uids()]

    def _describe(self, uid: str) -> Row:
        try:
            written = (self.store.folder(uid) / "result.json").stat().st_mtime_ns
        except FileNotFoundError:
            return self.store.describe(uid)
        if self._done.get(uid, (0, {}))[0] != written:
            row = self.store.describe(uid)
            if row["state"] != "done":  # the file is damaged
                return row
            self._done[uid] = (written, row)
        return self._done[uid][1]

    def active(self, rows: Sequence[Row]) -> bool:
        """Whether something runs, or a command is between two stages."""
        return any(row["state"] == "running" for row in rows) or self.store.commanded()


def lines(rows: Sequence[Row]) -> list[str]:
    """Every stage in a line, then how many there are of each state."""
    width = max((len(row["uid"]) for row in rows), default=0)
    found = []
    for row in rows:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f} s"
        line = f"{row['state']:11} {row['progress'] or '':>9} {seconds:>9}  {row['uid']:{width}}  {row['title']}"
        told = details(row) if row["state"] == "running" else row["error"]
        found.append(f"{line}: {told}" if told else line)
    return [*found, counts(rows)]


def counts(rows: Sequence[Row]) -> str:
    """How many stages there are of each state."""
    return ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in rows).items())


def details(row: Row) -> str:
    """Of a stage that runs: where, since when, how long it still takes, and the last losses."""
    parts = [place(row)]
    if row["started"] is not None:
        parts.append(f"since {_clock(row['started'])}")
    if row["left"] is not None:
        parts += [f"{span(row['left'])} left", f"{row['seconds_per_step']:.3g} s/step"]
    losses = _losses(row["values"])
    return "  ".join([", ".join(parts), losses] if losses else [", ".join(parts)])


def place(row: Row) -> str:
    """Machine, process and device of a stage, as far as they are known."""
    parts = [f"{row['host'] or 'unknown host'} pid {row['pid'] or 'unknown'}"]
    if row["device"]:
        parts.append(f"{row['device']} x {row['threads']} threads" if row["device"] == "cpu" else row["device"])
    return " ".join(parts)


def _losses(values: Mapping[str, float]) -> str:
    shown = [(name, value) for name, value in values.items() if name != "lr" and isinstance(value, (int, float))]
    return "  ".join(f"{name} {value:.4g}" for name, value in shown[:SHOWN])


def _clock(moment: float) -> str:
    """Unix seconds as the time of day, with the day where that is another."""
    then = time.localtime(moment)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def watch(store: Store, console: Console, every: float | None = None) -> None:
    """Show what runs until nothing does any more, or until Ctrl-C.

    Args:
        store: whose stages.
        console: a terminal gets a live table, anything else plain lines.
        every: seconds between looks; None: 2 on a terminal, 30 elsewhere.
    """
    watched = Watch(store)
    pause = every if every is not None else LIVE if console.is_terminal else HEARTBEAT
    try:
        if console.is_terminal:
            _live(watched, console, pause)
        else:
            _plain(watched, console, pause)
    except KeyboardInterrupt:  # to stop looking is no failure
        return


def _looks(watched: Watch, pause: float) -> Iterator[list[Row]]:
    """One look after another; the last finds that nothing runs."""
    while True:
        active = watched.active(watched.look())
        rows = watched.look()  # after the question whether anything runs, so that the last look misses no end
        yield rows
        if not active:
            return
        time.sleep(pause)


def _plain(watched: Watch, console: Console, pause: float) -> None:
    """A line per look, one per stage that runs, and one per stage that ended since the look before."""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    before: dict[str, str] | None = None
    for rows in _looks(watched, pause):
        say(f"{_clock(time.time())}  {counts(rows) or 'no stages yet'}")
        for row in rows:
            if row["state"] == "running":
                say(f"  {row['progress'] or 'starts':>9}  {row['title']}: {details(row)}")
            elif before is not None and before.get(row["uid"]) != row["state"]:
                say(f"  {row['state']:>9}  {row['title']}" + (f": {row['error']}" if row["error"] else ""))
        before = {row["uid"]: row["state"] for row in rows}
    say("nothing runs")


def _live(watched: Watch, console: Console, pause: float) -> None:
    from rich.live import Live

    rows: list[Row] = []
    with Live(console=console, auto_refresh=False) as live:
        for rows in _looks(watched, pause):
            live.update(view(rows), refresh=True)
    console.print("nothing runs", highlight=False)


def view(rows: Sequence[Row]) -> RenderableType:
    """What runs and what went wrong, as a table, with how many stages there are of each state below."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for name, ratio in (("stage", 4), ("step", None), ("since", None), ("left", None), ("where", 2), ("losses", 3)):
        table.add_column(name, ratio=ratio, no_wrap=ratio is None, overflow="ellipsis" if ratio is None else "fold")
    for row in rows:
        if row["state"] == "running":
            cells = [
                row["title"],
                row["progress"] or "starts",
                _clock(row["started"]) if row["started"] is not None else "",
                span(row["left"]) if row["left"] is not None else "",
                place(row),
                _losses(row["values"]),
            ]
            table.add_row(*(Text(cell) for cell in cells))
    troubled = [row for row in rows if row["state"] == "failed"]
    told = [Text(f"failed: {row['title']}: {row['error']}", style="red") for row in troubled[-TROUBLES:]]
    return Group(table, *told, Text(counts(rows) or "no stages yet"))
