"""The schedule in closed form; the journal survives a kill."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fima import loop
from fima.config import Optim

CPU = torch.device("cpu")


def test_paper_schedule_moves_per_epoch_and_never_warms_up() -> None:
    optim = Optim(lr=0.00375, epochs=200, batch=24)
    steps = loop.total_steps(optim, 9537)
    assert steps == 200 * (9537 // 24)
    per_epoch = 9537 // 24
    assert loop.learning_rate(optim, 0, steps, per_epoch) == 0.00375
    assert loop.learning_rate(optim, per_epoch - 1, steps, per_epoch) == 0.00375
    at_100 = loop.learning_rate(optim, 100 * per_epoch, steps, per_epoch)
    assert at_100 == pytest.approx(0.00375 / 2)
    last = loop.learning_rate(optim, steps - 1, steps, per_epoch)
    assert last == pytest.approx(0.00375 * 0.5 * (1 + math.cos(math.pi * 199 / 200)))


def test_linear_probe_decays_by_ten_at_60_and_80() -> None:
    optim = Optim(lr=1.5, schedule="steps", milestones=(0.6, 0.8), epochs=100, batch=10)
    rates = [loop.learning_rate(optim, epoch * 3, 300, 3) for epoch in range(100)]
    assert rates[:60] == [1.5] * 60
    assert rates[60:80] == pytest.approx([0.15] * 20)
    assert rates[80:] == pytest.approx([0.015] * 20)


def test_warm_up_is_linear_and_cosine_per_step_ends_near_zero() -> None:
    optim = Optim(lr=1.0, warmup=4, per="step", steps=100)
    assert [loop.learning_rate(optim, step, 100, 7) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert loop.learning_rate(optim, 4, 100, 7) == 1.0
    assert loop.learning_rate(optim, 99, 100, 7) < 1e-3


def test_steps_end_the_run_and_its_schedule() -> None:
    optim = Optim(steps=5, epochs=200, batch=2)
    assert loop.total_steps(optim, 1000) == 5
    assert loop.learning_rate(optim, 4, 5, 500) < loop.learning_rate(optim, 0, 5, 500)


def test_metrics_after_the_checkpoint_are_taken_back_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    journal = loop.Journal(tmp_path, every=1, checkpoint_seconds=0)
    journal.log(1, 10, {"loss": 3.0})
    journal.save(1, 10, lambda: {"model": {"weights": torch.ones(2)}})
    journal.log(2, 10, {"loss": 2.0})
    with journal.metrics.open("a") as file:
        file.write('{"step": 3, "lo')
    state = loop.Journal(tmp_path).restore()
    assert state is not None
    assert state["step"] == 1
    assert [json.loads(line) for line in journal.metrics.read_text().splitlines()] == [{"step": 1, "loss": 3.0}]


def test_without_a_checkpoint_old_metrics_go(tmp_path: Path) -> None:
    loop.Journal(tmp_path, every=1).log(1, 10, {"loss": 3.0})
    assert loop.Journal(tmp_path).restore() is None
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: cannot be read: it is damaged; delete its folder"):
        loop.Journal(tmp_path).restore()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"pix is nan at step 7; lower optim\.lr"):
        loop.Journal(tmp_path).log(7, 10, {"pix": math.nan})


def test_a_model_that_is_not_finite_is_not_saved_over_the_one_before(tmp_path: Path) -> None:
    """Losses are looked at every few steps only, and a checkpoint may be due in between."""
    journal = loop.Journal(tmp_path, checkpoint_seconds=0)
    journal.save(1, 10, lambda: {"model": {"weight": torch.ones(2), "count": torch.tensor(1)}})
    broken = {"weight": torch.ones(2), "bias": torch.tensor([1.0, math.inf])}
    with pytest.raises(FloatingPointError, match=r"^bias is not finite at step 2; lower optim\.lr, or raise"):
        journal.save(2, 10, lambda: {"model": broken})
    assert (journal.restore() or {})["step"] == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        loop.write_atomically(path, fail)
    assert path.read_text() == "old"


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("name", "theirs"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizers_are_torchs_to_the_last_bit(name: str, theirs: Any, scaled: bool, tmp_path: Path) -> None:
    """Also when a run goes on from a checkpoint."""
    optim = Optim.model_validate({"name": name, "lr": 0.1, "weight_decay": 0.01})
    more = {"momentum": optim.momentum} if name == "sgd" else {"betas": (optim.momentum, 0.999)}
    ours, other = (torch.nn.Linear(5, 3) for _ in range(2))
    other.load_state_dict(ours.state_dict())
    mine = loop.build_optimizer(optim, list(ours.parameters()), scaled)
    reference = theirs(other.parameters(), 0.1, weight_decay=0.01, fused=True, **more)
    for step in range(4):
        if step == 2:
            torch.save(mine.state_dict(), tmp_path / "state.pt")
            mine = loop.build_optimizer(optim, list(ours.parameters()), scaled)
            mine.load_state_dict(torch.load(tmp_path / "state.pt"))
        batch = torch.randn(7, 5)
        for network, optimizer in ((ours, mine), (other, reference)):
            loop.set_learning_rate(optimizer, 0.1 / (step + 1))
            optimizer.zero_grad(set_to_none=True)
            network(batch).square().sum().backward()
            optimizer.step()
        assert torch.equal(ours.weight, other.weight)
        assert torch.equal(ours.bias, other.bias)


@pytest.fixture
def memory_full_of_nan() -> Iterator[None]:
    """What PyTorch allocates and does not fill."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("memory_full_of_nan")
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_first_step_that_overflows_leaves_no_trace(name: str) -> None:
    """Of float16: the loss was scaled by too much, and the step is left out."""
    network, untouched = (torch.nn.Linear(5, 3) for _ in range(2))
    untouched.load_state_dict(network.state_dict())
    optim = Optim.model_validate({"name": name, "lr": 0.1})
    optimizers = [loop.build_optimizer(optim, list(n.parameters()), scaled=True) for n in (network, untouched)]
    scaler = torch.amp.GradScaler("cpu")
    batch = torch.randn(7, 5)
    for loss in (network(batch).sum() * math.inf, network(batch).square().mean()):
        optimizers[0].zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizers[0])
        scaler.update()
    untouched(batch).square().mean().backward()
    optimizers[1].step()
    torch.testing.assert_close(network.weight, untouched.weight)
    torch.testing.assert_close(network.bias, untouched.bias)


def test_a_step_imports_no_compiler() -> None:
    """torch._dynamo, with sympy and triton, costs a process 0.18 GB and its first step 1.3 s."""
    script = """
import sys, torch
from fima import loop
from fima.config import Optim
for name in ("sgd", "adamw"):
    network = torch.nn.Linear(2, 1)
    optimizer = loop.build_optimizer(Optim(name=name), list(network.parameters()))
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
