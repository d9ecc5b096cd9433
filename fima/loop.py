"""What every training loop shares: the schedule, and a journal that lets a killed run go on, on a CPU bit for bit."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import nn

from fima.config import Optim, flat

State = dict[str, Any]
STEADIER = "lower optim.lr, or raise contrast.temperature, or use float32"  # where numbers overflow
Progress = Callable[[int, int, dict[str, float]], None]  # step, steps, metrics


def total_steps(optim: Optim, videos: int) -> int:
    """Steps of a run: `steps` if given, else whole epochs."""
    return optim.steps or optim.epochs * max(1, videos // optim.batch)


def learning_rate(optim: Optim, step: int, steps: int, per_epoch: int) -> float:
    """Learning rate of step 0, 1, ... of `steps`: half cosine, tenths at milestones, or constant, after a warm-up."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    if optim.per == "epoch" and steps > per_epoch:
        progress = (step // per_epoch) / math.ceil(steps / per_epoch)
    else:
        progress = max(0, step - optim.warmup) / max(1, steps - optim.warmup)
    if optim.schedule == "cosine":
        return optim.lr * 0.5 * (1 + math.cos(math.pi * progress))
    if optim.schedule == "steps":
        return optim.lr * 0.1 ** sum(progress >= milestone for milestone in optim.milestones)
    return optim.lr


def _eager(optimizer: type[torch.optim.Optimizer]) -> type[Any]:
    """The optimizer without torch.compile's guards, which import its compiler: 1.3 s and 0.18 GB of a process.

    Nothing here compiles an optimizer. The methods are torch's own, to the last bit.
    """
    guarded = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    bare = {name: inspect.unwrap(getattr(optimizer, name)) for name in guarded}
    return type(optimizer.__name__, (optimizer,), {**bare, "step": torch.no_grad()(inspect.unwrap(optimizer.step))})


SGD, AdamW = _eager(torch.optim.SGD), _eager(torch.optim.AdamW)


def build_optimizer(optim: Optim, parameters: list[nn.Parameter], scaled: bool = False) -> torch.optim.Optimizer:
    """SGD with momentum as in the paper, or AdamW; fused where the device has it.

    Args:
        optim: kind, rate, momentum and decay.
        parameters: those that are trained.
        scaled: steps go through a GradScaler, which may leave the first one out, as float16 often needs. Momentum is
            then zero from the start: fused SGD (PyTorch 2.14) would take memory as it is found for it, and keep that.
            Else it is made in the first step, in the room that backward leaves.
    """
    shared: dict[str, Any] = {"weight_decay": optim.weight_decay, "fused": True}
    if optim.name == "adamw":
        return cast(torch.optim.Optimizer, AdamW(parameters, optim.lr, betas=(optim.momentum, 0.999), **shared))
    optimizer = cast(torch.optim.Optimizer, SGD(parameters, optim.lr, momentum=optim.momentum, **shared))
    if scaled and optim.momentum:
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def random_state() -> State:
    """State of torch's generators: dropout and shuffling BN draw from them."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: State) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def write_atomically(path: Path, write: Callable[[Path], None], writer: str | None = None) -> None:
    """Replace a file such that a kill leaves the old one or the new one, never half of it.

    Args:
        path: the file.
        write: makes the file that it is given; what it leaves of one that fails, on a full disk say, is removed.
        writer: tells this one from those that write the same file at the same time; none: the process's number, which
            does on one machine.
    """
    part = path.with_name(f".{path.name}.{writer or os.getpid()}")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> State:
    """What a checkpoint holds, on the CPU.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, UnpicklingError, LookupError, ValueError) as error:
        what = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read: it is damaged"
        raise ValueError(f"{path}: {what}; delete its folder to start that stage again") from error
    return state


def made_of(settings: State, optim: Optim, seed: int, data: str) -> State:
    """What a run is made of, as plain JSON data: a checkpoint holds it under "made".

    Args:
        settings: those that act, but for the optimiser's.
        optim: with a constant rate its length is no part: such a run may be made longer.
        data: fingerprint of the videos.
    """
    length = ("steps", "epochs") if optim.schedule == "constant" else ()
    return {
        **settings,
        "optim": {name: value for name, value in optim.active().items() if name not in length},
        "seed": seed,
        "data": data,
    }


def digest_of(network: nn.Module) -> str:
    """12 hexadecimal digits over a network's kind, parameters and buffers."""
    digest = hashlib.sha256(type(network).__name__.encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def check_same(made: State, steps: int, state: State, checkpoint: Path) -> None:
    """That a checkpoint is one of this very experiment, and no further than its end.

    Args:
        made: as `made_of` tells.
        steps: of the whole run.
        state: of the checkpoint.

    Raises:
        ValueError: it is another's; the line names the first thing that differs.
    """
    if state["step"] > steps:
        raise ValueError(
            f"{checkpoint}: was trained for {state['step']} steps, and this run has {steps}; take another folder, or "
            "delete this one to start again"
        )
    before, now = flat(state.get("made", made)), flat(made)
    for name in {**now, **before}:
        if before.get(name) != now.get(name):
            told = [json.dumps(values[name]) if name in values else "nothing" for values in (before, now)]
            raise ValueError(
                f"{checkpoint}: is of a run with {name} {told[0]}, and this one has {told[1]}; take another folder, or "
                "delete this one to start again"
            )


class Journal:
    """The folder of a run: metrics.jsonl and checkpoint.pt.

    Args:
        folder: made if missing.
        every: steps between lines of metrics.
        checkpoint_seconds: least time between checkpoints; it alters no result.
        on_progress: called with (step, steps, metrics) whenever metrics are written.
        writes: off: this rank only reads.
    """

    def __init__(
        self,
        folder: Path,
        every: int = 10,
        checkpoint_seconds: float = 60,
        on_progress: Progress | None = None,
        writes: bool = True,
    ) -> None:
        self.folder, self.every, self.checkpoint_seconds, self.writes = folder, every, checkpoint_seconds, writes
        self.on_progress = on_progress
        self._saved = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step and values."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything that is needed to go on."""
        return self.folder / "checkpoint.pt"

    def restore(self) -> State | None:
        """The last checkpoint, if any; metrics written after it are taken back, since their steps run again.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.checkpoint.exists():
            if self.writes:
                self.metrics.unlink(missing_ok=True)
            return None
        state = read_checkpoint(self.checkpoint)
        if self.writes and self.metrics.exists():
            kept = []
            for line in self.metrics.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:  # a kill cut the last line
                    break
                if entry["step"] <= state["step"]:
                    kept.append(line)
            write_atomically(self.metrics, lambda part: _write_text(part, "".join(line + "\n" for line in kept)))
        return state

    def due(self, step: int, steps: int) -> bool:
        """Whether metrics of the finished step are to be written."""
        return step % self.every == 0 or step == steps or step == 1

    def log(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Append metrics of a finished step and tell who watches.

        Raises:
            FloatingPointError: a value is not finite.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value} at step {step}; {STEADIER}")
        if not self.writes:
            return
        with self.metrics.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.on_progress:
            self.on_progress(step, steps, values)

    def save(self, step: int, steps: int, state: Callable[[], State]) -> None:
        """Write a checkpoint if it is time or the run is over.

        Raises:
            FloatingPointError: the model has numbers that are not finite; the checkpoint before stays.
        """
        now = time.monotonic()
        if self.writes and (step == steps or now - self._saved >= self.checkpoint_seconds):
            found = state()
            for name, tensor in found.get("model", {}).items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    raise FloatingPointError(f"{name} is not finite at step {step}; {STEADIER}")
            write_atomically(self.checkpoint, lambda part: torch.save({"step": step, **found}, part))
            self._saved = time.monotonic()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
