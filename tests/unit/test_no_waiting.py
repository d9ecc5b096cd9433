"""A step on a GPU, traced on tensors without content where there is none: the host waits for no copy, asks no value."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fima import augment, compute, decoder, losses, views
from fima import model as models
from fima.config import Settings

SIDE, FRAMES = 48, 8


class Waits(TorchDispatchMode):
    """Where a copy from the CPU blocks, or a value of the card is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name, there = str(func), getattr(out, "device", torch.device("cpu")).type
        if "_to_copy" in name or "aten.copy_" in name:
            given = args[0] if "_to_copy" in name else args[1]
            if there == "cuda" and given.device.type == "cpu":
                self.copies += 1
                if not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
                    self.tell(name)
        asked = [part for part in args if isinstance(part, Tensor) and part.device.type == "cuda"]
        if asked and ("local_scalar" in name or "nonzero" in name):
            self.tell(name)
        return out

    def tell(self, name: str) -> None:
        inside = [
            f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack() if "/fima/" in frame.filename
        ]
        self.found[f"{name} at {inside[-1] if inside else '?'}"] += 1


def samples(settings: Settings, count: int) -> list[views.Sample]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        clips = [torch.zeros(3, FRAMES, SIDE, SIDE, dtype=torch.uint8) for _ in range(2 + 4)]
        crops = [augment.draw_crop(64, 64, settings.augment, rng) for _ in clips]
        drawn = np.stack([augment.draw_photometry(settings.augment, rng) for _ in range(2 + 2 + 4)])
        boxes = torch.tensor([crop.box(64, 64) for crop in crops])
        made.append(views.Sample(clips, crops, boxes, torch.from_numpy(drawn), -1, (0.1, 2)))
    return made


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Constants that stay on a card are without content here."""
    yield
    augment.constant.cache_clear()
    decoder.sinusoid.cache_clear()


@pytest.mark.parametrize("kind", ["infonce", "triplet", "mse"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_views_and_losses_of_a_step_let_the_host_go_on(
    monkeypatch: pytest.MonkeyPatch, precision: str, kind: str
) -> None:
    settings = Settings.model_validate(
        {
            "losses": ["vv", "vd", "pix", "fra"],
            "backbone": {"name": "small"},
            "clip": {"frames": FRAMES},
            "augment": {"size": SIDE, "jitter": 1, "blur": 1, "grayscale": 0.5, "static": 0.3, "kept": 0.5},
            "projector": {"hidden": 32, "width": 16},
            "decoder": {"width": 32, "heads": 2, "shared": False, "memory_norm": True},
            "contrast": {"queue": 16},
            "frame": {"queue": 16, "type": kind},
            "pixel": {"negatives": "queue", "queue": 50, "group": 2},
            "compute": {"channels_last": False, "precision": precision},
        }
    )
    # What needs a card or contents: page-locked memory, autocast, the choice of clips to blur, the copy of the weights.
    monkeypatch.setattr(views, "sent", lambda parts, device: torch.stack(list(parts)).to(device, non_blocking=True))
    monkeypatch.setattr(augment, "there", lambda small, device: small.to(device, non_blocking=True))
    monkeypatch.setattr(augment, "to_blur", lambda drawn: torch.arange(2))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(models.copy, "deepcopy", lambda _: models.Encoder(settings))
    card, waits, given = torch.device("cuda", 0), Waits(), samples(settings, 4)
    footage: Any = type("Streamed", (), {"in_memory": False})
    with FakeTensorMode(allow_non_fake_inputs=True):
        with card:
            model = models.FIMA(settings)
        model.train()
        for step in range(2):
            if step == 1:  # the first one keeps constants on the card
                waits.__enter__()
            batch = compute.cast_views(views.pretraining_views(given, settings, footage, card), settings.compute)
            model.update_key_encoder()
            terms, keys = model(batch)
            losses.total(terms, dict.fromkeys(settings.losses, 1.0))
            model.enqueue(keys)
        waits.__exit__(None, None, None)
    assert all((term.device, term.dtype) == (card, torch.float32) for term in terms.values())
    assert waits.copies > 10 and not waits.found, waits.found


def test_a_copy_that_blocks_is_found() -> None:
    with FakeTensorMode(), Waits() as waits:
        there = torch.zeros(3).to("cuda:0", non_blocking=True)
        torch.zeros(3).to("cuda:0")
        there.copy_(torch.zeros(3))
        with pytest.raises(Exception, match="local_scalar"):
            there.sum().item()
    assert waits.copies == 3 and sum(waits.found.values()) == 2
