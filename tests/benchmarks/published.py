"""The authors' training step on a CPU, from a clone of their repository: its model as it is, on inputs of ours.

Left out are augmentation (their kornia pipeline) and what needs several GPUs; a normalisation stands for the former.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """In place of `Augment_GPU_pre`."""

    def __init__(self, size: int) -> None:
        super().__init__()

    def forward(self, clips: Tensor) -> Tensor:
        return (clips - 0.4) / 0.22


def _stand_in(name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


def step(folder: Path, backbone: str, views: dict[str, Tensor]) -> Callable[[], float]:
    """Forward, backward and update of all losses.

    Args:
        folder: the clone.
        backbone: i3d or r2plus1d.
        views: of `fima.model.FIMA`; two sub-clips a view.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    for name in ("cv2", "turtle", "kornia"):  # imported there, not used by the step
        _stand_in(name, pos=None)
    _stand_in("moco.loader", Augment_GPU_pre=Normalise)
    Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign]
    from moco import builder  # type: ignore[import-not-found]

    builder.concat_all_gather = lambda batch: batch
    builder.MoCo._batch_shuffle_ddp = lambda self, batch: (batch, None)
    builder.MoCo._batch_unshuffle_ddp = lambda self, batch, order: batch
    if backbone == "i3d":
        from backbone.i3d import I3D as Encoder  # type: ignore[import-not-found]
    else:
        from backbone.r2plus1d import R2PLUS1D as Encoder  # type: ignore[import-not-found]
    model = builder.MoCo(Encoder, 128, 2048, 0.999, 0.1, 0.1, 0.7, views["source"].shape[-1], "ucf101").train()
    optimizer = torch.optim.SGD(model.parameters(), 0.00375, momentum=0.9, weight_decay=1e-4)
    parts = {
        f"vi_{short}_l{i + 1}": views[f"{side}_parts"][:, i]
        for side, short in (("source", "m"), ("target", "n"))
        for i in range(2)
    }

    def run() -> float:
        one, of_one, other, of_other, pixel, lexip, *frames = model(
            vi_m=views["source"], vi_n=views["target"], **parts,
            coord_m=views["source_box"], coord_n=views["target_box"],
        )  # fmt: skip
        entropy = nn.functional.cross_entropy
        loss = (entropy(one, of_one) + entropy(other, of_other)) / 2 + (pixel + lexip) / 2
        loss = loss + sum(entropy(frames[i], frames[i + 1]) for i in range(0, 8, 2)) / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return run
