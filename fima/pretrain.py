"""Self-supervised pre-training (section 4.1, appendix A.3).

On its own:  python -m fima.pretrain settings.yaml --out runs/mine          (one device)
             torchrun --nproc_per_node 3 -m fima.pretrain settings.yaml --out runs/mine
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fima import backbones, compute, cost, distributed, loop, losses, views
from fima.config import Settings
from fima.datasets import Data, copy_of, fingerprint, usable
from fima.evaluate.knn import Probe, Watch
from fima.loop import Progress
from fima.model import FIMA
from fima.options import whole


def run(
    settings: Settings,
    data: Data,
    seed: int,
    folder: Path,
    *,
    workers: int = 0,
    every: int = 10,
    checkpoint_seconds: float = 60,
    on_progress: Progress | None = None,
    probe: Probe | None = None,
) -> dict[str, Any]:
    """Pre-train, going on from the folder's checkpoint if there is one.

    Args:
        settings: the experiment.
        data: its training videos; labels are not read.
        seed: of weights, order, views and dropout.
        folder: gets metrics.jsonl and checkpoint.pt (weights, optimiser, queues, generators, position in the data).
        workers: processes that read videos ahead; alters no result.
        every: steps between metrics.
        checkpoint_seconds: least time between checkpoints; alters no result.
        on_progress: called with (step, steps, metrics).
        probe: when to measure the encoder's kNN accuracy, which metrics then hold as "knn"; alters no result.

    Returns:
        Sizes (on rank 0), steps, seconds and the last losses (of this rank's share of the batch), as plain JSON data.

    Raises:
        ValueError: settings, data or checkpoint do not fit, such as a checkpoint of another experiment; the line says
            which and the way out.
        FloatingPointError: a loss is not finite.
    """
    device = distributed.start()
    torch.manual_seed(seed)
    with distributed.first():  # one rank renders and indexes what the others then find
        dataset, records, problems = usable(data, "train", settings.clip, labelled=False)
    optim = settings.optim
    steps = loop.total_steps(optim, len(records))
    model = FIMA(settings)
    compute.placed(model, settings.compute, device)
    active = settings.active()
    if settings.backbone.weights is not None:  # told by what it holds: the file may be moved
        active["backbone"] = {**active["backbone"], "weights": loop.digest_of(model.query.backbone)}
    made = loop.made_of(active, optim, seed, fingerprint(data, pretraining=True))
    trained = list(model.trained())
    scaler = torch.amp.GradScaler(device.type, enabled=settings.compute.precision == "float16")
    optimizer = loop.build_optimizer(optim, trained, scaled=scaler.is_enabled())
    journal = loop.Journal(folder, every, checkpoint_seconds, on_progress, writes=distributed.rank() == 0)
    distributed.barrier()  # every rank reads the same resume point

    start, spent = 0, 0.0
    state = journal.restore()
    distributed.barrier()  # and none writes another before all have read this one
    if state is not None:
        loop.check_same(made, steps, state, journal.checkpoint)
        _check_resumed(state, journal.checkpoint)
        model.load_state_dict(state["model"])
        start, spent = state["step"], state["seconds"]
        if start < steps:
            optimizer.load_state_dict(state["optimizer"])
            scaler.load_state_dict(state["scaler"])
            loop.set_random_state(state["random"])

    footage = views.Footage(data)
    parts = backbones.feature_grid(settings.backbone, settings.clip.frames, settings.augment.size)[0]
    samples_of = views.Pretraining(records, footage, settings, parts, seed)
    rank, world = distributed.rank(), distributed.world()
    check_devices(settings, world)
    keys = views.training_keys(len(records), optim.batch, steps, seed, start, rank, world)
    step_model: nn.Module = model
    if distributed.active():
        # Queues are equal on all ranks by construction; BatchNorm statistics are each rank's own.
        step_model = DistributedDataParallel(model, forward_sync_buffers=False)
    weights: dict[str, float] = {name: float(getattr(settings.weights, name)) for name in settings.losses}
    per_epoch = max(1, len(records) // optim.batch)
    began = time.monotonic()
    # Seconds per step from one line of metrics, where the device is waited for, to the next.
    paces: list[float] = []
    looked = (start, began)
    final: dict[str, float] = {} if state is None else state["final"]

    def snapshot() -> loop.State:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "random": loop.random_state(),
            "made": made,
            "devices": world,
            "seconds": spent + time.monotonic() - began,
            "final": final,
        }

    def prepare(samples: list[views.Sample]) -> dict[str, Tensor]:
        return compute.cast_views(views.pretraining_views(samples, settings, footage, device), settings.compute)

    watch = Watch(probe, settings, device) if probe and distributed.rank() == 0 else None
    model.train()
    samples = views.batches(samples_of, keys, footage, workers)
    for step, batch in enumerate(views.ahead(samples, prepare, device), start):
        rate = loop.learning_rate(optim, step, steps, per_epoch)
        loop.set_learning_rate(optimizer, rate)
        if distributed.active():  # dropout of its own on each rank, and the same again when the run goes on
            torch.manual_seed((seed * steps + step) * world + rank)
        optimizer.zero_grad(set_to_none=True)  # not first in backward: forward needs their room
        model.update_key_encoder()
        terms, new_keys = step_model(batch)
        loss = losses.total(terms, weights)  # Eq. (11)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        model.enqueue(new_keys)  # after every loss has read the queues
        done = step + 1
        looks = watch is not None and watch.due(done, steps)
        if looks or journal.due(done, steps):
            final = {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}, "lr": rate}
            paces.append((time.monotonic() - looked[1]) / (done - looked[0]))
            seen = {"knn": watch.look(model.query.backbone)} if looks and watch else {}
            looked = (done, time.monotonic())  # what the probe takes is no part of a step
            journal.log(done, steps, {**final, **seen})
        journal.save(done, steps, snapshot)
    distributed.barrier()
    seconds = spent + time.monotonic() - began
    memory = compute.peak_memory(device) / 2**30
    return {
        **(cost.sizes(settings) if distributed.rank() == 0 else {}),
        "steps": steps,
        "videos": len(records),
        "devices": world,
        **copy_of(dataset, problems),
        "final": final,
        "seconds": seconds,
        # The first pace holds what is done once; the median leaves out checkpoints and what else the machine did.
        "seconds_per_step": median(paces[1:] or paces or [seconds / steps]),
        "peak_memory_gib": memory,
    }


def untrained(settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
    """A checkpoint of the encoder that `run` would start from, for evaluations of a random encoder.

    Returns:
        Nothing to tell, as plain JSON data.
    """
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    state = {"step": 0, "model": FIMA(settings).state_dict()}
    loop.write_atomically(folder / "checkpoint.pt", lambda part: torch.save(state, part))
    return {}


def _check_resumed(state: loop.State, checkpoint: Path) -> None:
    """A run must not change in the middle: BatchNorm's statistics are each device's own.

    Raises:
        ValueError: the checkpoint is one of another number of devices.
    """
    before, world = state.get("devices", distributed.world()), distributed.world()
    if before != world:
        raise ValueError(
            f"{checkpoint}: was trained on {before} device{'s' * (before > 1)}, and this would go on with {world}; use "
            f"as many as before (--devices-per-run or --nproc_per_node {before}), or delete its folder to start again"
        )


def check_devices(settings: Settings, world: int) -> None:
    """A batch must divide over the devices, and groups of pixel negatives must be what they are on one.

    Raises:
        ValueError: it does not, a device's share of the batch cannot be cut into whole groups, or it is one video where
            another one's motion is asked for.
    """
    if settings.optim.batch % world:
        raise ValueError(f"optim.batch must be a multiple of the {world} devices, got {settings.optim.batch}")
    group, share = settings.pixel.group, settings.optim.batch // world
    if settings.contrast.shuffled and share < 2:
        raise ValueError(
            f"contrast.shuffled takes the motion of another video of the batch, and optim.batch {settings.optim.batch} "
            f"is one video for each of {world} device{'s' * (world > 1)}; take a larger optim.batch"
        )
    if world > 1 and settings.uses("pix") and settings.pixel.negatives != "video" and share % group:
        fits = [n for n in range(1, settings.optim.batch + 1) if settings.optim.batch % (n * group) == 0]
        raise ValueError(
            f"{world} devices get {share} videos each of optim.batch {settings.optim.batch}, which is no multiple of "
            f"pixel.group {group}; take {' or '.join(map(str, fits)) or 'one'} device{'s' * (fits != [1])}, or change "
            "pixel.group"
        )


def load_backbone(settings: Settings, checkpoint: Path) -> nn.Module:
    """The query encoder's backbone of a pre-trained model.

    Raises:
        ValueError: the checkpoint is damaged or of another architecture.
    """
    backbone = backbones.build(settings.backbone.model_copy(update={"weights": None}))
    state: dict[str, Tensor] = loop.read_checkpoint(checkpoint)["model"]
    prefix = "query.backbone."
    try:
        backbone.load_state_dict({name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)})
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{checkpoint}: holds no {settings.backbone.name} backbone ({reason})") from error
    return backbone


def main() -> None:
    """Pre-train from a YAML file of settings."""
    import yaml
    from pydantic import ValidationError
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, help="YAML with `data:` and any settings of fima.config.Settings")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of checkpoint.pt, metrics.jsonl, config.json and result.json"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos ahead")
    parser.add_argument("--every", type=whole, default=10, help="steps from one line of metrics to the next")
    parser.add_argument("--checkpoint-seconds", type=float, default=60, help="least time between checkpoints")
    arguments = parser.parse_args()
    try:
        tree = yaml.safe_load(arguments.settings.read_text())
        if not isinstance(tree, dict) or not isinstance(tree.get("data"), dict):
            raise ValueError("needs `data:` with the name of a data set, such as {name: ucf101, root: DIR}")
        data = Data.model_validate(tree.pop("data"))
        settings = Settings.model_validate(tree)
        compute.keep_memory(settings.compute.precision)
        distributed.start()
        speaks = distributed.rank() == 0
        with Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=Console(stderr=True), disable=not speaks,
        ) as bar:  # fmt: skip
            task = bar.add_task("pre-training", total=None)
            first: list[float] = []  # step and time of the first message: start-up is no part of the speed

            def show(step: int, steps: int, values: dict[str, float]) -> None:
                now = time.monotonic()
                if not first:
                    first.extend((step, now))
                rate = (step - first[0]) * 2 * settings.optim.batch / max(1e-9, now - first[1])
                text = " ".join(f"{name} {value:.3f}" for name, value in values.items() if name != "lr")
                bar.update(task, completed=step, total=steps, description=f"{text}  {rate:.1f} clips/s")

            result = run(
                settings, data, arguments.seed, arguments.out,
                workers=arguments.workers, every=arguments.every, checkpoint_seconds=arguments.checkpoint_seconds,
                on_progress=show,
            )  # fmt: skip
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ["data"] * (error.title == Data.__name__) + [str(part) for part in found["loc"]]
        raise SystemExit(f"{arguments.settings}: {'.'.join(where)}: {found['msg']}") from error
    except (OSError, ValueError, FloatingPointError, yaml.YAMLError) as error:
        raise SystemExit(f"{arguments.settings}: {' '.join(str(error).split())}") from error
    finally:
        distributed.stop()
    if speaks:  # what fima.figures reads, beside the checkpoint
        inner = {"settings": settings.model_dump(mode="json"), "where": {"data": data.model_dump(mode="json")}}
        for name, tree in (("config", {"kind": "pretrain", "config": inner}), ("result", result)):
            (arguments.out / f"{name}.json").write_text(json.dumps(tree, indent=2) + "\n")


if __name__ == "__main__":
    main()
