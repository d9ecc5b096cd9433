"""A finished pre-training as the figures take it: the whole model, its settings, its videos."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fima import augment, backbones, compute, loop
from fima.config import Loss, Settings
from fima.datasets import Data
from fima.figures.scenes import Scenes
from fima.model import FIMA

RANDOM = "random encoder"
GIVEN = "given encoder"
MOTION: tuple[Loss, ...] = ("vd", "pix", "fra")  # losses that see frame differences
WORDS = {"vv": "VV", "vd": "VD", "pix": "Pix", "fra": "Fra"}
SLICE = 16  # clips encoded together: what fits beside I3D at 224

Modality = Literal["rgb", "motion"]
Which = Literal["query", "key"]
Statistics = Literal["own", "running"]


@dataclass(frozen=True)
class Stage:
    """A model in eval mode and where it comes from.

    Attributes:
        folder: of the stage.
        model: with both encoders, decoders and queues.
        settings, data: of its pre-training.
        label: its losses, as legends name it.
        steps: of its pre-training.
        statistics: what BatchNorm normalises by. "own": as in pre-training, where every batch is of one modality. The
            query encoder's RGB keeps its running statistics, which are of RGB alone; everything else gets the
            statistics of the very clips that are drawn, because the query encoder never saw a frame difference, and
            the key encoder's running statistics mix RGB and differences. "running": always the running ones.
    """

    folder: Path
    model: FIMA
    settings: Settings
    data: Data
    label: str
    steps: int
    statistics: Statistics = "own"

    @property
    def grid(self) -> tuple[int, int, int]:
        """T', H', W' of the feature map."""
        settings = self.settings
        return backbones.feature_grid(settings.backbone, settings.clip.frames, settings.augment.size)

    def scaled(self, difference: Literal["half", "raw"]) -> Stage:
        """The same stage with another scaling of frame differences."""
        augment = self.settings.augment.model_copy(update={"difference": difference})
        return replace(self, settings=self.settings.model_copy(update={"augment": augment}))

    @torch.no_grad()
    def features(self, scenes: Scenes, modality: Modality = "rgb", encoder: Which = "query") -> Tensor:
        """Feature maps [N, K, C, T', H', W'] in float32 of the clips as they are, or of their frame differences."""
        backbone = self.model.get_submodule(encoder).get_submodule("backbone")

        def clips(part: list[int]) -> Tensor:
            pixels = scenes.pixels(part).flatten(0, 1)
            if modality == "motion":
                pixels = augment.difference(pixels, self.settings.augment.difference)
            return augment.normalise(pixels)

        calls = -(-len(scenes) * scenes.clips // SLICE)
        parts = [part.tolist() for part in np.array_split(np.arange(len(scenes)), min(calls, len(scenes)))]
        if self.statistics == "own" and (encoder, modality) != ("query", "rgb"):
            backbone = self._measured(backbone, clips, parts)
        found = torch.cat([compute.encode(backbone, clips(part), self.settings.compute).float() for part in parts])
        return found.unflatten(0, (len(scenes), scenes.clips))

    def _measured(self, backbone: nn.Module, clips: Callable[[list[int]], Tensor], parts: list[list[int]]) -> nn.Module:
        """A copy of the backbone whose BatchNorm statistics are those of the clips, batch by batch averaged."""
        backbone = copy.deepcopy(backbone)
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.reset_running_stats()
                module.momentum = None  # the mean over batches, each counting the same
        backbone.train()
        for part in parts:
            compute.encode(backbone, clips(part), self.settings.compute)
        return backbone.eval()


def load(folder: Path, statistics: Statistics = "own") -> Stage:
    """The model of a finished stage (pretrain, untrained or given).

    Raises:
        ValueError: the folder is not such a stage, is unfinished, or its checkpoint does not fit its settings in every
            tensor; one line that names the file.
    """
    config = _json(folder / "config.json")
    kind, inner = config.get("kind"), config.get("config", {})
    labels = {"pretrain": "", "untrained": RANDOM, "given": GIVEN}
    if kind not in labels:
        raise ValueError(f"{folder}: is a stage of kind {kind}; a figure takes {', '.join(labels)}")
    _json(folder / "result.json")  # written when the stage is done
    try:
        settings = Settings.model_validate(inner["settings"])
        data = Data.model_validate(inner["where"]["data"])
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / 'config.json'}: settings or data cannot be read ({reason})") from error
    backbone = settings.backbone.model_copy(update={"weights": None})  # the checkpoint has later ones
    plain = settings.compute.model_copy(update={"compile": False})
    model = FIMA(settings.model_copy(update={"backbone": backbone, "compute": plain}))
    state = loop.read_checkpoint(folder / "checkpoint.pt")
    try:
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder / 'checkpoint.pt'}: does not fit its config.json ({reason})") from error
    label = labels[kind] or " + ".join(WORDS.get(loss, loss) for loss in settings.losses)
    return Stage(folder, model.eval(), settings, data, label, int(state["step"]), statistics)


def load_all(folders: Sequence[Path], statistics: Statistics = "own") -> list[Stage]:
    """Stages to be drawn side by side, labels made distinct by seed or folder.

    The first one's videos are drawn for all, so that their views and feature maps must have one size. An untrained
    stage knows of no views: it takes those of the first trained one. A stage that was trained without motion knows no
    scaling of frame differences: it takes that of the first one that has one.

    Raises:
        ValueError: a folder is no finished stage, or sizes differ.
    """
    stages = [load(folder, statistics) for folder in folders]
    first = next((stage for stage in stages if stage.label != RANDOM), stages[0])
    seen = {"clip": first.settings.clip, "augment": first.settings.augment}
    stages = [
        replace(stage, settings=stage.settings.model_copy(update=seen)) if stage.label == RANDOM else stage
        for stage in stages
    ]
    moved = next((stage.settings.augment.difference for stage in stages if stage.settings.uses(*MOTION)), None)
    if moved is not None:
        stages = [stage if stage.settings.uses(*MOTION) else stage.scaled(moved) for stage in stages]
    for stage in stages:
        one, other = ((s.settings.augment.size, s.settings.clip.frames, s.grid) for s in (first, stage))
        if one != other:
            raise ValueError(
                f"{stage.folder}: views of {other[0]} pixels, {other[1]} frames and feature maps {other[2]} "
                f"cannot stand beside those of {first.folder}: {one[0]}, {one[1]}, {one[2]}"
            )
    labels = [stage.label for stage in stages]
    stages = [
        stage if labels.count(stage.label) == 1 else replace(stage, label=f"{stage.label} ({_short(stage.folder)})")
        for stage in stages
    ]
    told_apart(stages)
    return stages


def told_apart(stages: Sequence[Stage]) -> None:
    """That no two have one label, by which figures know them.

    Raises:
        ValueError: two have.
    """
    by_label: dict[str, Path] = {}
    for stage in stages:
        if stage.label in by_label:
            raise ValueError(
                f"{stage.folder}: is called {stage.label!r} in figures, as {by_label[stage.label]} is; "
                "name each folder once, and folders of different names"
            )
        by_label[stage.label] = stage.folder


def _short(folder: Path) -> str:
    """The end of a stage's name: seed and hash."""
    return "-".join(folder.name.split("-")[-2:])


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: is not there; a figure takes the folder of a finished stage") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold an object, got {type(content).__name__}")
    return content
