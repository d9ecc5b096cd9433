"""A classifier on an encoder, trained on augmented clips and tested on uniform ones; the encoder frozen or not."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fima import augment, compute, distributed, loop, views
from fima.config import Optim, Settings
from fima.datasets import Data, copy_of, fingerprint, usable
from fima.evaluate.features import chunks, encode, per_video, uniform_features
from fima.loop import Progress

SEEN = ("clip", "augment", "backbone", "compute")  # settings that a classifier has to do with


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained and tested.

    Attributes:
        optim: optimiser, schedule, batch and length.
        clips: uniform test clips, softmax averaged per video.
        dropout: before the classifier.
        normalise: L2-normalise the features.
        frozen: leave the encoder as it is, in eval mode.
        augmented: random crop, flip and colour (never blur); else the centre crop.
    """

    optim: Optim
    clips: int
    dropout: float
    normalise: bool
    frozen: bool
    augmented: bool

    @property
    def words(self) -> str:
        """The protocol in a few words, which travel with the number."""
        length = f"{self.optim.steps} steps" if self.optim.steps else f"{self.optim.epochs} epochs"
        optim = f"{self.optim.name.upper()} {length}, batch {self.optim.batch}, lr {self.optim.lr:g}"
        return f"{optim}, {self.clips} clips averaged"


class Classifier(nn.Module):
    """Encoder, dropout, one linear layer."""

    def __init__(self, backbone: nn.Module, classes: int, recipe: Recipe) -> None:
        super().__init__()
        self.backbone, self.recipe = backbone, recipe
        self.head = nn.Linear(cast(int, backbone.channels), classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        if recipe.frozen:
            backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Classifier:
        """A frozen encoder stays in eval mode: its BatchNorm statistics are part of what is probed."""
        super().train(mode)
        if self.recipe.frozen:
            self.backbone.eval()
        return self

    def classify(self, features: Tensor) -> Tensor:
        """Pooled features [..., C] to logits [..., classes]."""
        if self.recipe.normalise:
            features = F.normalize(features, dim=-1)
        logits: Tensor = self.head(F.dropout(features, self.recipe.dropout, self.training))
        return logits


def run(
    backbone: nn.Module,
    settings: Settings,
    recipe: Recipe,
    data: Data,
    seed: int,
    folder: Path,
    *,
    workers: int = 0,
    every: int = 10,
    checkpoint_seconds: float = 60,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on the training split, then test once at the end: the test split chooses nothing.

    Args:
        backbone: the encoder.
        settings: clip, augmentation and precision are read.
        recipe: how.
        data: labelled videos with a train and a test split.
        seed: of the classifier, the order, the augmentation and the dropout.
        folder: gets metrics.jsonl and checkpoint.pt; a killed run goes on from there, bit for bit on the CPU.
        workers: processes that read videos ahead; alters no result.
        every: steps between metrics.
        checkpoint_seconds: least time between checkpoints; alters no result.
        on_progress: called with (step, steps, metrics).

    Returns:
        top1 in percent, predictions, numbers of videos, protocol, as plain JSON data.

    Raises:
        ValueError: data and settings do not fit, or the folder is of another run.
        FloatingPointError: the loss is not finite.
    """
    device = distributed.start()
    encoder = loop.digest_of(backbone)
    torch.manual_seed(seed)
    dataset, train, problems = usable(data, "train", settings.clip, labelled=True)
    _, test, bad = usable(data, "test", settings.clip, labelled=True)
    optim = recipe.optim
    if optim.batch > len(train):  # a small labelled set is trained in one batch an epoch
        optim = optim.model_copy(update={"batch": len(train)})
        recipe = replace(recipe, optim=optim)
    steps = loop.total_steps(optim, len(train))
    model = Classifier(compute.placed(backbone, settings.compute, device), len(dataset.classes), recipe).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.compute.precision == "float16")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = loop.build_optimizer(optim, trained, scaled=scaler.is_enabled())
    journal = loop.Journal(folder, every, checkpoint_seconds, on_progress)
    seen = {name: part for name, part in settings.active().items() if name in SEEN}
    seen["backbone"] = {**seen["backbone"], "weights": None}  # those that pre-training began with: `encoder` tells more
    how = {name: getattr(recipe, name) for name in ("clips", "dropout", "normalise", "frozen", "augmented")}
    made = loop.made_of({**seen, **how, "encoder": encoder}, optim, seed, fingerprint(data))
    start, spent = 0, 0.0
    state = journal.restore()
    if state is not None:
        loop.check_same(made, steps, state, journal.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        loop.set_random_state(state["random"])
        start, spent = state["step"], state["seconds"]

    footage = views.Footage(data)
    samples_of = views.Classification(train, footage, settings.clip, settings.augment, seed, recipe.augmented)
    keys = views.training_keys(len(train), optim.batch, steps, seed, start)
    per_epoch = max(1, len(train) // optim.batch)
    began = time.monotonic()

    def snapshot() -> loop.State:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "random": loop.random_state(),
            "made": made,
            "seconds": spent + time.monotonic() - began,
        }

    def prepare(samples: list[views.Sample]) -> tuple[Tensor, Tensor]:
        clips = views.pixels(samples, slice(None), footage, settings.augment.size, device)[:, 0]
        clips = augment.photometry(clips, torch.stack([sample.photometry[0] for sample in samples]))
        return compute.cast(clips, settings.compute), views.sent(
            [torch.tensor(sample.label) for sample in samples], device
        )

    model.train()
    drawn = views.batches(samples_of, keys, footage, workers)
    for step, (clips, labels) in enumerate(views.ahead(drawn, prepare, device), start):
        rate = loop.learning_rate(optim, step, steps, per_epoch)
        loop.set_learning_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(not recipe.frozen):
            features = encode(model.backbone, clips, settings)
        with torch.enable_grad():
            logits = model.classify(features)
            loss = F.cross_entropy(logits, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        done = step + 1
        if journal.due(done, steps):
            right = (logits.argmax(-1) == labels).float().mean().item()
            journal.log(done, steps, {"loss": loss.item(), "train_top1": 100 * right, "lr": rate})
        journal.save(done, steps, snapshot)

    model.eval()
    predicted: list[int] = []
    uniform = views.Uniform(test, footage, settings.clip, settings.augment.size, recipe.clips)
    for samples in views.batches(uniform, chunks(len(test)), footage, workers):
        features = uniform_features(model.backbone, samples, footage, settings, device)
        with torch.no_grad():
            predicted += model.classify(features).softmax(-1).mean(1).argmax(-1).tolist()
        if on_progress:
            on_progress(steps, steps, {"tested": len(predicted)})
    hits = [p == record.label for p, record in zip(predicted, test, strict=True)]
    return {
        "top1": 100 * sum(hits) / len(test),
        "videos": len(test),
        "train_videos": len(train),
        "classes": len({record.label for record in train}),
        "steps": steps,
        **copy_of(dataset, problems + bad),
        "predictions": predicted,
        "per_video": per_video({"top1": hits}, [record.group for record in test]),
        "protocol": recipe.words,
        "seconds": spent + time.monotonic() - began,
    }
