"""Speed changes no result: the losses of fixed seeds in float32, digit by digit.

On the kind of machine that recorded them they are equal; elsewhere other kernels sum in another order, and rounding
grows from step to step. A change that is meant to alter them records them anew:  python tests/unit/test_exact.py
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fima import compute, loop, losses
from fima.config import Settings
from fima.model import FIMA

RECORD = Path(__file__).with_name("exact.json")
STEPS = 3
SIZES = {"small": (8, 32), "i3d": (16, 48), "r2plus1d": (8, 32)}
ALL = ("vv", "vd", "pix", "fra")
COMBINATIONS = {"small": (("vv", "vd"), ("vv", "pix"), ALL), "i3d": (ALL,), "r2plus1d": (ALL,)}


def machine() -> dict[str, str]:
    """What decides which kernels run."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    kinds = ("vendor_id", "cpu family", "model")
    found = {kind: re.search(rf"^{kind}\s*: (.*)$", info, re.MULTILINE) for kind in kinds}
    cpu = {kind: match[1] for kind, match in found.items() if match}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "system": platform.machine(), "capability": capability, **cpu}


def curve(backbone: str, chosen: tuple[str, ...]) -> list[float]:
    """Total loss of each step; inputs and weights come from seeded generators, one thread computes."""
    frames, size = SIZES[backbone]
    settings = Settings.model_validate(
        {
            "losses": chosen,
            "backbone": {"name": backbone},
            "clip": {"frames": frames},
            "projector": {"hidden": 32, "width": 16},
            "decoder": {"width": 32},
            "pixel": {"group": 2},
            "frame": {"queue": 10},
            "contrast": {"queue": 10},
            "optim": {"lr": 0.01},
        }
    )
    torch.manual_seed(0)
    model = FIMA(settings).train()
    compute.placed(model, settings.compute, torch.device("cpu"))
    optimizer = loop.build_optimizer(settings.optim, list(model.trained()))
    box = torch.tensor([[0.0, 0.0, 0.9, 0.9]] * 4)
    found = []
    for _ in range(STEPS):
        views = {"source_box": box + 0.1 * torch.rand(4, 1), "target_box": box + 0.1 * torch.rand(4, 1)}
        for side in ("source", "target"):
            views[side], views[f"{side}_difference"] = torch.randn(2, 4, 3, frames, size, size)
            views[f"{side}_parts"] = torch.randn(4, frames // 8, 3, frames, size, size)
        model.update_key_encoder()
        terms, keys = model(views)
        loss = losses.total(terms, dict.fromkeys(terms, 1.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        model.enqueue(keys)
        found.append(loss.item())
    return found


def curves() -> dict[str, list[float]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {f"{name}: {'+'.join(chosen)}": curve(name, chosen) for name in SIZES for chosen in COMBINATIONS[name]}
    finally:
        torch.set_num_threads(threads)


def test_losses_of_a_fixed_seed_are_those_on_record() -> None:
    record: dict[str, Any] = json.loads(RECORD.read_text())
    found = curves()
    assert set(found) == set(record["losses"])
    if machine() == record["machine"]:
        assert found == record["losses"]
    for name, values in found.items():
        assert values[0] == pytest.approx(record["losses"][name][0], rel=1e-4), name
        assert values == pytest.approx(record["losses"][name], rel=0.3), name


if __name__ == "__main__":
    RECORD.write_text(json.dumps({"machine": machine(), "losses": curves()}, indent=1) + "\n")
    sys.stdout.write(f"{RECORD} holds the losses of this machine\n")
