"""What a training step costs by loss, at the demo's scale; compare the rows of one run, machines differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fima import losses, views
from fima.config import Settings
from fima.datasets import Data, usable
from fima.model import FIMA

DEMO = {
    "clip": {"frames": 8, "stride": 2, "gap": 40},
    "augment": {"size": 48, "scale_min": 0.4, "jitter": 0.8, "blur": 0},
    "backbone": {"name": "small"},
    "projector": {"hidden": 256, "width": 64},
    "decoder": {"width": 128, "dropout": 0, "init": "identity", "position": 0.1, "memory_norm": True},
    "contrast": {"queue": 256},
    "frame": {"queue": 256},
}
DATA = Data.model_validate({"name": "embedded", "decoded": "memory", "embedded": {"train": 32, "test": 6}})
ROWS: dict[str, dict[str, Any]] = {
    "VV": {"losses": ["vv"]},
    "VV+VD": {"losses": ["vv", "vd"]},
    "VV+DC+FS": {"losses": ["vv", "pix"], "pixel": {"decoder": False}},
    "VV+Pix": {"losses": ["vv", "pix"]},
    "VV+Pix+Fra": {"losses": ["vv", "pix", "fra"]},
}


@pytest.mark.parametrize("row", ROWS)
def test_training_step(benchmark: Any, row: str) -> None:
    settings = Settings.model_validate({**DEMO, **ROWS[row]})
    _, records, _ = usable(DATA, "train", settings.clip, labelled=False)
    footage, model = views.Footage(DATA), FIMA(settings)
    dataset = views.Pretraining(records, footage, settings, 2, 0)
    optimizer = torch.optim.AdamW(model.trained(), 2e-3)
    weights = dict.fromkeys(settings.losses, 1.0)

    def step() -> float:
        samples = [dataset[(0, number)] for number in range(32)]
        model.update_key_encoder()
        terms, keys = model(views.pretraining_views(samples, settings, footage, torch.device("cpu")))
        loss = losses.total(terms, weights)  # type: ignore[arg-type]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        model.enqueue(keys)
        return loss.item()

    assert benchmark.pedantic(step, rounds=5, warmup_rounds=1) > 0
