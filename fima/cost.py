"""What a pre-training step costs, without taking one: FLOPs counted on tensors that hold no data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from fima.config import Settings


def sizes(settings: Settings) -> dict[str, float]:
    """Size of the model and FLOPs of one step at the settings' batch: forward, backward and the key passes.

    A multiplication and an addition are two FLOPs; what is elementwise (BatchNorm, ReLU, the optimiser, views) is not
    counted. Nothing is allocated, so that I3D at 224 x 224 and a batch of 64 take seconds on any machine.

    Returns:
        "parameters_paper_millions" and "parameters_millions": the two counts of `FIMA.count_parameters`, 10^6.
        "gflop_per_step": 10^9.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from fima import losses
    from fima.model import FIMA

    # Autocast alters no count, and recomputation and compilation none that a reader means by a step's FLOPs.
    plain: Any = settings.compute.model_copy(update={"precision": "float32", "compile": False, "recompute": False})
    backbone = settings.backbone.model_copy(update={"weights": None})
    settings = settings.model_copy(update={"compute": plain, "backbone": backbone})
    with torch.device("meta"):
        model = FIMA(settings).train()
        views = _views(settings, "meta")
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):  # counts nothing, and without data takes half of the time
            part.forward = torch.clone  # type: ignore[method-assign]
    with FlopCounterMode(display=False) as counter:
        terms, _ = model(views)
        losses.total(terms, {name: float(getattr(settings.weights, name)) for name in settings.losses}).backward()
    size = model.count_parameters()
    return {
        "parameters_paper_millions": size["paper"] / 1e6,
        "parameters_millions": size["all"] / 1e6,
        "gflop_per_step": counter.get_total_flops() / 1e9,
    }


def _views(settings: Settings, device: str) -> dict[str, Any]:
    """Views as `fima.model.FIMA` takes them, of a whole batch and without content."""
    import torch

    from fima import backbones

    videos, frames, size = settings.optim.batch, settings.clip.frames, settings.augment.size
    parts = backbones.feature_grid(settings.backbone, frames, size)[0]
    views = {}
    for side in ("source", "target"):
        views[f"{side}_box"] = torch.empty(videos, 4, device=device)
        views[side] = torch.empty(videos, 3, frames, size, size, device=device)
        if settings.uses("vd", "pix"):
            views[f"{side}_difference"] = torch.empty(videos, 3, frames, size, size, device=device)
        if settings.uses("fra"):
            views[f"{side}_parts"] = torch.empty(videos, parts, 3, frames, size, size, device=device)
    return views


def measure(rows: Sequence[Settings], steps: int) -> list[float]:
    """Seconds per step of several settings on this machine's device: the median of `steps` rounds taken in turns.

    Views are noise and prepared before; the first round, which warms up, is not counted.
    """
    import torch
    from torch import Tensor

    from fima import compute, distributed, loop, losses
    from fima.model import FIMA

    device = distributed.start()
    spent: list[list[float]] = [[] for _ in rows]
    takers: list[tuple[Settings, FIMA, Any, dict[str, Tensor]]] = []
    for settings in rows:
        model = FIMA(settings)
        compute.placed(model, settings.compute, device).train()
        optimizer = loop.build_optimizer(settings.optim, list(model.trained()))
        views = {name: torch.rand(view.shape, device=device) for name, view in _views(settings, "meta").items()}
        takers.append((settings, model, optimizer, compute.cast_views(views, settings.compute)))
    for _ in range(steps + 1):
        for times, (settings, model, optimizer, views) in zip(spent, takers, strict=True):
            began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            model.update_key_encoder()
            terms, keys = model(views)
            weights: dict[str, float] = {name: float(getattr(settings.weights, name)) for name in settings.losses}
            losses.total(terms, weights).backward()
            optimizer.step()
            model.enqueue(keys)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
    return [median(times[1:]) for times in spent]


def device_name() -> str:
    """What `measure` ran on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
