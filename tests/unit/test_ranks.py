"""A stage on two devices: two gloo processes under torchrun's launcher, started by the engine."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import warm
from rich.console import Console
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from ablations import cards, engine, engines, notes, phrases, ranks
from ablations.store import Store
from ablations.uids import Stage
from fima import datasets, distributed, pretrain
from fima.config import Settings
from fima.datasets import Data
from fima.model import FIMA

SETTINGS = {
    "losses": ["vv", "vd", "pix", "fra"],
    "clip": {"frames": 8, "stride": 2, "gap": 20},
    "augment": {"size": 32},
    "backbone": {"name": "small"},
    "projector": {"hidden": 32, "width": 16},
    "decoder": {"width": 32, "heads": 2, "dropout": 0.0},
    "pixel": {"group": 2, "negatives": "queue", "queue": 50},
    "frame": {"queue": 10},
    "contrast": {"queue": 10},
    "compute": {"precision": "float32"},
    "optim": {"batch": 4, "steps": 4, "lr": 0.01},
}
DATA = {"name": "embedded", "decoded": "memory", "embedded": {"train": 12, "test": 6}}


def train(folder: Path, stage: str) -> dict[str, Any]:
    """Pre-training without BatchNorm's batch statistics, which notes the losses of each step and rank.

    Each rank has statistics of its own, so that they are what one process and two cannot have alike: BatchNorm is left
    in evaluation mode, where it takes the running statistics, mean 0 and variance 1. Dropout is 0.
    """
    training, total = FIMA.train, pretrain.losses.total

    def without_statistics(model: FIMA, mode: bool = True) -> FIMA:
        training(model, mode)
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return model

    def noted(terms: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
        if any(term.is_meta for term in terms.values()):  # the cost of a step is counted in the end
            return total(terms, weights)
        with (folder / f"terms-{distributed.rank()}.jsonl").open("a") as file:
            file.write(json.dumps({name: term.item() for name, term in terms.items()}) + "\n")
        calls = len((folder / f"terms-{distributed.rank()}.jsonl").read_text().splitlines())
        if stage == "cut" and distributed.rank() == 1 and calls == 3:  # once: the second time it is the sixth
            os.kill(os.getpid(), signal.SIGKILL)
        return total(terms, weights)

    folder.mkdir(parents=True, exist_ok=True)
    FIMA.train, pretrain.losses.total = without_statistics, noted  # type: ignore[method-assign, assignment]
    try:
        settings, data = Settings.model_validate(SETTINGS), Data.model_validate(DATA)
        return pretrain.run(settings, data, 0, folder, every=1, checkpoint_seconds=0)
    finally:
        FIMA.train, pretrain.losses.total = training, total  # type: ignore[method-assign]


def execute(stage: Stage, store: Store, workers: int, on_progress: Any) -> dict[str, Any]:
    """What the ranks run."""
    distributed.start()
    if stage.uid == "value":
        if distributed.rank() == 1:
            raise FloatingPointError("pix is nan at step 3")
        distributed.barrier()  # in which the other one would wait for ever
    if stage.uid == "memory":
        if distributed.rank() == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        distributed.barrier()
    (store.folder(stage.uid) / f"group-{distributed.rank()}").write_text(f"{os.getpgrp()} {torch.get_num_threads()}")
    return train(store.folder(stage.uid), stage.uid)


def told(folder: Path, rank: int) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / f"terms-{rank}.jsonl").read_text().splitlines()]


def run_all() -> None:
    """What `ran` starts."""
    names = ("whole", "cut", "value", "memory")
    plan: Any = SimpleNamespace(stages={uid: Stage("pretrain", uid, {}, 0, (), uid) for uid in names})
    outcome = engine.run(
        plan, Store(Path(sys.argv[1])), jobs=3, workers=0, console=Console(file=io.StringIO()), devices=2,
        execute="test_ranks:execute",
    )  # fmt: skip
    print(json.dumps({"done": outcome.done, "failed": outcome.failed}))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Any]:
    """The store and how the stages ended."""
    datasets.load(Data.model_validate(DATA))  # rendered once, before two processes ask for it
    folder = tmp_path_factory.mktemp("ranks")
    process = warm.start("test_ranks:run_all", str(folder / "runs"), cwd=folder)
    assert process.wait() == 0, process.communicate()
    return Store(folder / "runs"), SimpleNamespace(**json.loads(process.communicate()[0]))


def test_the_first_losses_of_two_processes_are_those_of_one(ran: tuple[Store, Any], tmp_path: Path) -> None:
    store, _ = ran
    train(tmp_path / "one", "one")
    ones, twos = told(tmp_path / "one", 0), [told(store.folder("whole"), rank) for rank in (0, 1)]
    assert [len(steps) for steps in (ones, *twos)] == [4, 4, 4]
    for name, loss in ones[0].items():
        assert (twos[0][0][name] + twos[1][0][name]) / 2 == pytest.approx(loss, rel=1e-6), name
    # then queues hold the same keys in another order, and small ones keep others of them
    for name, loss in ones[1].items():
        assert (twos[0][1][name] + twos[1][1][name]) / 2 == pytest.approx(loss, rel=0.01), name
    assert twos[0][0] != twos[1][0]  # each has videos of its own


def test_a_killed_rank_costs_the_steps_since_the_checkpoint(ran: tuple[Store, Any]) -> None:
    store, outcome = ran
    assert outcome.done == 2
    results = [store.result(uid) or {} for uid in ("whole", "cut")]
    assert results[0]["final"] == results[1]["final"]
    assert [store.status(uid).attempts for uid in ("whole", "cut")] == [1, 1]
    assert "a rank died, 1 of at most 3 times" in (store.folder("cut") / "log.txt").read_text()
    metrics = [(store.folder(uid) / "metrics.jsonl").read_bytes() for uid in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    assert len(told(store.folder("cut"), 1)) > 4  # and not from the beginning again
    assert len(told(store.folder("cut"), 1)) < 4 + 3


def test_what_one_rank_finds_wrong_is_the_line_of_the_stage(ran: tuple[Store, Any]) -> None:
    store, outcome = ran
    assert outcome.failed["value"] == "pix is nan at step 3"
    assert "a rank died" not in (store.folder("value") / "log.txt").read_text()


def test_a_full_card_is_said_as_on_one_device_and_not_tried_again(ran: tuple[Store, Any]) -> None:
    store, outcome = ran
    said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB; the traceback is in runs/memory/log.txt"
    assert outcome.failed["memory"] == said
    assert "a rank died" not in (store.folder("memory") / "log.txt").read_text()


@pytest.mark.parametrize(
    ("code", "text", "error", "says"),
    [
        (1, "AssertionError: of mine", RuntimeError, "died 3 times, the last one: AssertionError: of mine"),
        (-9, "RuntimeError: closed by peer", ChildProcessError, "died 3 times, the last one killed by SIGKILL"),
    ],
)
def test_what_ended_the_ranks_three_times_is_said(
    monkeypatch: pytest.MonkeyPatch, code: int, text: str, error: type[Exception], says: str
) -> None:
    def launch(*_: Any) -> Any:
        def fail(_: Any, __: Any, failures: Any) -> None:
            failures.put(("other", text))
            raise ChildFailedError("rank", {0: ProcessFailure(0, 1, code, "/none")})

        return fail

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch)
    job: Any = SimpleNamespace(devices=2)
    with pytest.raises(error, match=says):
        ranks.launch(job, None)


def test_ranks_share_threads_and_end_with_the_worker(ran: tuple[Store, Any]) -> None:
    """One signal to the group of the worker reaches them, and that is how the engine kills."""
    store, _ = ran
    status, result = store.status("whole"), store.result("whole") or {}
    told = {(store.folder("whole") / f"group-{rank}").read_text() for rank in (0, 1)}
    assert told == {f"{status.pid} {max(1, datasets.cores() // 3 // 2)}"}
    assert result["devices"] == result["environment"]["devices"] == 2
    if not torch.cuda.is_available():
        assert status.device == "2 processes on the cpu"


def test_a_run_goes_on_with_as_many_devices_as_it_began_with(ran: tuple[Store, Any]) -> None:
    store, _ = ran
    settings, data = Settings.model_validate(SETTINGS), Data.model_validate(DATA)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: was trained on 2 devices, and this would go on with 1; use"):
        pretrain.run(settings, data, 0, store.folder("whole"))


def test_side_by_side_no_two_share_a_card() -> None:
    cards.check((0, 1, 2, 3), 2, 2)
    cards.check((), 4, 2)  # on the CPU they share the cores
    with pytest.raises(ValueError, match="--jobs 2 x --devices-per-run 2 need 4 cards, and there are 3: lower one"):
        cards.check((0, 1, 2), 2, 2)


@pytest.mark.parametrize(
    ("there", "cores", "per_run", "jobs"), [((), 8, 1, 2), ((), 1, 1, 1), ((), 8, 2, 1), ((0, 1), 8, 1, 1)]
)
def test_without_a_card_two_stages_share_the_cores(
    there: tuple[int, ...], cores: int, per_run: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "driver", lambda: True)
    monkeypatch.setattr(cards, "all_of_them", lambda: there)
    monkeypatch.setattr(engines, "cores", lambda: cores)
    assert engines.choose("local", None, None, per_run, None, ()).jobs == jobs
    assert engines.choose("local", 3, None, 1, None, ()).jobs == 3


def test_a_table_says_on_how_many_devices_its_rows_were_trained() -> None:
    rows: Any = [
        SimpleNamespace(row=SimpleNamespace(label=label, encoder=None), pretrain={0: label})
        for label in ("a", "b", "c")
    ]
    results: Any = SimpleNamespace(devices={"a": 1, "b": 2, "c": 2})
    (note,) = notes.device_notes(results, rows)
    assert "on different numbers of devices (1: “a”; 2: “b” and “c”)" in note
    results.devices = dict.fromkeys("abc", 2)
    assert notes.device_notes(results, rows) == []
    made = [{"device": "cpu", "cpu": "EPYC", "threads": 1, "devices": 2}, {"device": "cuda: H100", "devices": 4}]
    table: Any = SimpleNamespace(environments=made)
    assert phrases._made(table) == "on EPYC (2 processes of 1 thread) or 4 x H100"
