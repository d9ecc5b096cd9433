"""The engine: order, failures, kills, two at once. Stages here are tiny functions of this module."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import warm
from rich.console import Console

from ablations import cards, engine, worker
from ablations.display import span
from ablations.engines import local
from ablations.store import Store
from ablations.uids import Stage
from fima.datasets import cores

Progress = Callable[[int, int, dict[str, float]], None]
HERE = Path(__file__).resolve().parent


# --- what the stages do


def add(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """The sum over the results it needs, plus one; noisy."""
    import torch

    print("a printed line")
    warnings.warn("a warning", stacklevel=1)
    os.system("echo from another process")
    on_progress(1, 2, {"loss": 0.5})
    on_progress(2, 2, {"loss": 0.25})
    with (store.root / "ran.txt").open("a") as file:
        file.write(f"{stage.uid}\n")
    needed = [store.result(uid) for uid in stage.needs]
    assert all(needed)
    return {"sum": 1 + sum(result["sum"] for result in needed if result), "seen": torch.get_num_threads()}


def trouble(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """What is wrong is in the uid."""
    if stage.uid.startswith("value"):
        raise ValueError("the batch\nmust divide")
    if stage.uid.startswith("nan"):
        raise FloatingPointError("loss is nan at step 3")
    if stage.uid.startswith("bug"):
        raise KeyError("missing")
    if stage.uid.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if stage.uid.startswith("exit"):
        os._exit(3)
    if stage.uid.startswith("nojson"):
        return {"top1": float("nan")}
    return add(stage, store, workers, on_progress)


def sometimes(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """Fails, or dies, as many times as its uid ends with; slow-... takes a second."""
    with (store.root / "tried.txt").open("a") as file:
        file.write(f"{stage.uid}\n")
    if stage.uid.startswith("slow"):
        time.sleep(1.0)
    times = int(stage.uid[-1])
    if (store.root / "tried.txt").read_text().split().count(stage.uid) <= times:
        if stage.uid.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("the disk is full")
    return add(stage, store, workers, on_progress)


def meet(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """Ends only if the other one runs at the same time."""
    (store.root / f"{stage.uid}.here").touch()
    deadline = time.monotonic() + 20
    while len(list(store.root.glob("*.here"))) < 2:
        if time.monotonic() > deadline:
            raise ValueError("alone")
        time.sleep(0.02)
    return add(stage, store, workers, on_progress)


def count(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """Slowly counts to 40 with a checkpoint a step, in this process and in a reader that it forks."""
    checkpoint = store.folder(stage.uid) / "checkpoint.json"
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "sum": stage.seed}
    reader = os.fork()
    if reader == 0:
        time.sleep(60)
        os._exit(0)
    try:
        while state["step"] < 40:
            time.sleep(0.01)
            state = {"step": state["step"] + 1, "sum": (7 * state["sum"] + state["step"]) % 1_000_003}
            part = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}")
            part.write_text(json.dumps(state))
            part.replace(checkpoint)
            on_progress(state["step"], 40, {"sum": float(state["sum"])})
    finally:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)
    return {"sum": state["sum"]}


# --- helpers


def planned(**needs: str) -> Any:
    """A plan of stages by name; each value names what it needs, separated by spaces."""
    stages = {
        uid: Stage("linear", uid, {"linear": {}, "seed": i}, i, tuple(named.split()), f"stage {uid}")
        for i, (uid, named) in enumerate(needs.items())
    }
    return SimpleNamespace(stages=stages)


def rows(count: int) -> Any:
    """A plan of so many pre-trainings with two stages after each, in the order of a study."""
    stages = {}
    for number in range(count):
        for kind, needs in (("pretrain", ()), ("features", (f"pretrain{number}",)), ("linear", (f"features{number}",))):
            uid = f"{kind}{number}"
            stages[uid] = Stage(kind, uid, {"settings": {}}, number, needs, uid)  # type: ignore[arg-type]
    return SimpleNamespace(stages=stages)


def go(
    plan: Any, store: Store, execute: str = "add", jobs: int = 1, terminal: bool = False, **options: Any
) -> tuple[Any, str, list[Any]]:
    """Run; returns the outcome, what was shown, and what was told."""
    screen, told = io.StringIO(), []
    console = Console(file=screen, force_terminal=terminal, width=150)
    outcome = engine.run(
        plan, store, jobs=jobs, workers=0, console=console, execute=f"{__name__}:{execute}",
        on_finished=lambda stage, state: told.append((stage.uid, state)), **options,
    )  # fmt: skip
    return outcome, screen.getvalue(), told


def ran(store: Store) -> list[str]:
    path = store.root / "ran.txt"
    return path.read_text().split() if path.exists() else []


class Noted(worker.Job):
    """A job that says which slot and cards it was given, and for how many devices."""

    given: ClassVar[list[tuple[int, tuple[int, ...], int]]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.given.append((self.slot, self.cards, self.devices))


# A script without a main guard: a child that imported it would start it again.
SCRIPT = """
from pathlib import Path
from ablations import engine
from ablations.store import Store
import test_engine
plan = test_engine.planned(a="", b="a", c="a", d="b c")
outcome = engine.run(plan, Store(Path({root!r})), jobs={jobs}, workers=0, execute="test_engine:{execute}")
print(outcome.done, outcome.cached, len(outcome.failed), flush=True)
"""


def script(folder: Path, execute: str, jobs: int = 1) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(SCRIPT.format(root=str(folder / "runs"), execute=execute, jobs=jobs))
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE, *HERE.parents[:2])))},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip


def survivors(folder: Path) -> list[str]:
    """Processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder and (entry / "stat").read_text().rpartition(")")[2].split()[
                0
            ] != "Z":
                found.append(entry.name)
        except OSError:  # it ended while we looked
            continue
    return found


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def test_ctrl_c_is_not_for_a_fork_server_that_still_loads() -> None:
    asks = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with local.no_interrupt():
            inside = subprocess.run(asks, capture_output=True, text=True, check=True).stdout
        after = subprocess.run(asks, capture_output=True, text=True, check=True).stdout
    finally:
        signal.signal(signal.SIGINT, before)
    assert (inside, after) == ("True\n", "False\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


# --- the laws


def test_stages_run_once_and_after_what_they_need(store: Store) -> None:
    plan = planned(a="", b="a", c="a", d="b c")
    outcome, shown, told = go(plan, store)
    assert (outcome.done, outcome.cached, outcome.failed, outcome.skipped) == (4, 0, {}, {})
    assert told == [("a", "done"), ("b", "done"), ("c", "done"), ("d", "done")]
    result = store.result("d")
    assert result is not None
    assert result["sum"] == 5
    assert result["seconds"] >= 0
    assert {"python", "torch", "platform", "cpu", "threads", "device", "commit", "dirty"} <= set(result["environment"])
    assert result["environment"]["threads"] == result["seen"] == cores()
    log = (store.folder("a") / "log.txt").read_text()
    for line in ("stage a", "a printed line", "a warning", "from another process"):
        assert line in log
        assert line == "stage a" or line not in shown
    assert "[4/4]" in shown
    outcome, _, told = go(plan, store)
    assert (outcome.done, outcome.cached) == (0, 4)
    assert {state for _, state in told} == {"cached"}
    assert ran(store) == ["a", "b", "c", "d"]


def test_one_after_the_other_ends_row_by_row(store: Store) -> None:
    _, _, told = go(rows(2), store)
    assert [uid for uid, _ in told] == [
        f"{kind}{row}" for row in range(2) for kind in ("pretrain", "features", "linear")
    ]


def test_the_last_pre_trainings_do_not_wait_for_other_rows_to_end(store: Store) -> None:
    """With two slots and three rows, the third begins when the first or second ends, before what follows those."""
    go(rows(3), store, jobs=2)
    order = ran(store)
    assert set(order[:2]) == {"pretrain0", "pretrain1"}
    assert order.index("pretrain2") < min(order.index("linear0"), order.index("linear1"))
    assert len(order) == 9


def test_a_failure_takes_only_its_dependants_along(store: Store) -> None:
    plan = planned(value="", nan="", bug="", kill="", exit="", nojson="", after="value", later="after", well="")
    outcome, shown, _ = go(plan, store, "trouble", jobs=2)
    assert outcome.failed["value"] == "the batch must divide"
    assert outcome.failed["nan"] == "loss is nan at step 3"
    assert outcome.failed["bug"] == "KeyError: 'missing'; the traceback is in runs/bug/log.txt"
    assert "killed by SIGKILL" in outcome.failed["kill"]
    assert "memory" in outcome.failed["kill"]
    assert "exit code 3" in outcome.failed["exit"]
    assert "no JSON" in outcome.failed["nojson"]
    assert outcome.skipped == {"after": "value", "later": "value"}
    assert outcome.done == 1
    assert "Traceback" in (store.folder("bug") / "log.txt").read_text()
    assert "Traceback" not in shown
    assert store.status("kill").state == "failed"
    assert store.status("after").state == "new"
    text = "\n".join(outcome.lines())
    assert "6 failed" in text
    assert "2 skipped" in text
    assert "the batch must divide" in text
    # the same command tries again, and what is mended goes through
    outcome, _, _ = go(planned(value="", after="value"), store, "add")
    assert (outcome.done, outcome.failed) == (2, {})
    assert store.status("value").attempts == 2


@pytest.mark.parametrize("terminal", [False, True])
def test_a_failed_stage_is_tried_again_as_often_as_asked(store: Store, terminal: bool) -> None:
    """A failure and a death count alike; what needs the stage waits for the last attempt."""
    plan = planned(oserror1="", kill2="", after0="oserror1 kill2", oserror3="", later0="oserror3")
    outcome, shown, told = go(plan, store, "sometimes", retries=2, terminal=terminal)
    assert outcome.failed == {"oserror3": "the disk is full"}
    assert outcome.skipped == {"later0": "oserror3"}
    assert told == [("oserror1", "done"), ("kill2", "done"), ("after0", "done"), ("oserror3", "failed"),
                    ("later0", "skipped")]  # fmt: skip
    tried = (store.root / "tried.txt").read_text().split()
    assert [tried.count(uid) for uid in plan.stages] == [2, 3, 1, 3, 0]
    assert store.status("kill2").attempts == 3
    assert "failed: stage oserror1: the disk is full; tried again, 1 of 2" in shown
    assert shown.count("the disk is full; tried again") == 3
    # another run tries again without being asked
    outcome, _, _ = go(plan, store, "sometimes")
    assert (outcome.done, outcome.cached, outcome.failed) == (2, 3, {})


def test_after_the_first_failure_nothing_is_started_if_so_asked(store: Store) -> None:
    plan = planned(slow0="", oserror9="", needs0="oserror9", more0="", after0="slow0", last0="more0")
    outcome, _, told = go(plan, store, "sometimes", jobs=2, fail_fast=True)
    assert outcome.failed == {"oserror9": "the disk is full"}
    assert outcome.skipped == {"needs0": "oserror9"}
    assert (outcome.done, outcome.unstarted) == (1, 3)  # what ran goes on to its end
    assert ("slow0", "done") in told
    assert {store.status(uid).state for uid in ("more0", "after0", "last0")} == {"new"}
    assert (
        "1 failed, 1 skipped, for they need a failed one, 3 not started after the first failure" in outcome.lines()[0]
    )
    # without it they run
    outcome, _, _ = go(plan, store, "sometimes", jobs=2)
    assert (outcome.done, outcome.unstarted) == (3, 0)


def test_a_retry_comes_before_the_end_that_a_failure_makes(store: Store) -> None:
    outcome, _, _ = go(planned(oserror1="", more0=""), store, "sometimes", retries=1, fail_fast=True)
    assert (outcome.done, outcome.failed, outcome.unstarted) == (2, {}, 0)


def test_stages_side_by_side_get_cards_of_their_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA no card is set; the job still names it."""
    monkeypatch.setattr(engine.worker, "Job", Noted)
    Noted.given.clear()
    go(planned(a="", b=""), store, "meet", jobs=2, cards=(3, 1))
    assert sorted(Noted.given) == [(0, (3,), 1), (1, (1,), 1)]
    Noted.given.clear()
    go(planned(c="", d="", e=""), store, jobs=3, cards=(5, 7))
    assert sorted(Noted.given) == [(0, (5,), 1), (1, (7,), 1), (2, (5,), 1)]
    Noted.given.clear()
    go(planned(f=""), store)
    assert Noted.given == [(0, (), 1)]


@pytest.mark.parametrize(("slot", "card", "given"), [(0, 1, 1), (1, 0, 0), (1, None, 1), (3, None, 1)])
def test_a_worker_takes_the_card_that_it_is_told(
    monkeypatch: pytest.MonkeyPatch, slot: int, card: int | None, given: int
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
    for name in ("LOCAL_RANK", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    cards = () if card is None else (card,)
    job = worker.Job(Stage("linear", "a", {}, 0, (), "a"), HERE, "", 0, 1, slot, {}, {}, cards)
    device = worker.prepare(job, 1)
    assert (device, os.environ["LOCAL_RANK"]) == (f"cuda: Card {given}", str(given))
    assert worker._place(device, job) == f"cuda:{given} Card {given}"


def test_cards_are_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--devices 0: this machine has no CUDA card that torch sees; leave"):
        cards.chosen("0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert cards.chosen("2,0") == (2, 0)
    for text, said in (
        ("0,4", "no card 4; torch sees cards 0 to 3"), ("-1", "there is no card -1"), ("1,1", "each card once"),
        ("a", "such as 0,1; got a"), ("", "such as 0,1; got"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            cards.chosen(text)


def test_jobs_run_side_by_side_with_the_cores_shared(store: Store) -> None:
    outcome, shown, _ = go(planned(a="", b=""), store, "meet", jobs=2, terminal=True)
    assert outcome.failed == {}
    assert outcome.done == 2
    result = store.result("a")
    assert result is not None
    assert result["seen"] == max(1, cores() // 2)
    assert "all stages" in shown
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        go(planned(a=""), store, jobs=0)


def test_killed_at_any_instant_it_ends_with_the_same_results(tmp_path: Path) -> None:
    chance = random.Random(0)
    folder = tmp_path / "killed"
    folder.mkdir()
    process = script(folder, "count", jobs=2)
    for _ in range(2):
        assert wait_until(lambda: any((folder / "runs").glob("*/progress.json")), 120)
        time.sleep(chance.uniform(0.0, 0.6))
        process.kill()  # only the parent: its stages have to notice
        process.communicate()
        assert wait_until(lambda: not survivors(folder), 10), "stages outlive their parent"
        process = script(folder, "count", jobs=2)
        time.sleep(chance.uniform(0.0, 1.0))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert sum(map(int, out.split()[:2])) == 4
    store = Store(folder / "runs")
    expected = {}
    for seed, uid in enumerate("abcd"):
        value = seed
        for step in range(40):
            value = (7 * value + step) % 1_000_003
        expected[uid] = value
    assert {uid: (store.result(uid) or {})["sum"] for uid in store.uids()} == expected
    assert not list((folder / "runs").glob("*/.*"))


def test_two_at_once_run_nothing_twice(tmp_path: Path) -> None:
    both = [script(tmp_path, "add") for _ in range(2)]
    outs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    counts = [[int(word) for word in out.split()] for out, _ in outs]
    assert [sum(one[:2]) for one in counts] == [4, 4]
    assert sum(one[0] for one in counts) == 4
    assert sorted(ran(Store(tmp_path / "runs"))) == ["a", "b", "c", "d"]


def test_what_another_process_runs_is_waited_for(store: Store) -> None:
    """Another holds `a`, and fails or ends it while this one waits."""
    code = (
        "import sys, time; from pathlib import Path; from ablations.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "with store.lock('a'):\n"
        "    store.start('a'); print('held', flush=True); time.sleep(2.5)\n"
        "    store.fail('a', 'no luck') if sys.argv[2] == 'fail' else store.finish('a', {'sum': 41})\n"
    )
    for how in ("fail", "finish"):
        other = warm.run(code, str(store.root), how, cwd=store.root.parent)
        other.says("held")
        outcome, shown, _ = go(planned(a="", b="a"), store)
        other.wait()
        assert f"waiting for pid {other.pid}" in shown
        if how == "fail":
            assert outcome.failed == {"a": "no luck"}
            assert outcome.skipped == {"b": "a"}
        else:
            assert (outcome.cached, outcome.done) == (1, 1)
            assert (store.result("b") or {})["sum"] == 42


def test_control_c_ends_all_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = script(tmp_path, "count")
    assert wait_until(lambda: any((tmp_path / "runs").glob("*/progress.json")), 120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "the same command goes on from here" in err
    assert wait_until(lambda: not survivors(tmp_path), 10)
    store = Store(tmp_path / "runs")
    assert {store.status(uid).state for uid in store.uids()} <= {"interrupted", "done"}


def test_times_are_for_people() -> None:
    assert [span(s) for s in (0.04, 9.4, 59, 200, 7500)] == ["0.0 s", "9.4 s", "59 s", "3 min 20 s", "2 h 5 min"]
