"""Fine-tuning of the whole network (appendix A.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from fima.config import Finetune, Settings
from fima.datasets import Data
from fima.evaluate import classifier
from fima.loop import Progress


def run(
    backbone: nn.Module,
    settings: Settings,
    finetune: Finetune,
    data: Data,
    seed: int,
    folder: Path,
    *,
    workers: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Train encoder and classifier together, test with uniform clips; see `fima.evaluate.classifier.run`."""
    recipe = classifier.Recipe(
        finetune.optim, finetune.clips, finetune.dropout, normalise=False, frozen=False, augmented=finetune.augment
    )
    result = classifier.run(backbone, settings, recipe, data, seed, folder, workers=workers, on_progress=on_progress)
    return {**result, "protocol": f"fine-tuning by {result['protocol']}"}
