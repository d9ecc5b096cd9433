"""The whole forward pass, from clips to every loss term, against plain float64 loops over the paper's equations.

The encoder is a fixed linear map of blocks of pixels; projector, decoder, masks, positives and losses are written here
a second time, from the weights alone and one feature at a time. Nothing of `fima` computes on this side.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fima import backbones
from fima.config import Settings
from fima.model import FIMA

Array = NDArray[np.float64]
Maps = list[list[list[Array]]]  # [video][frame][pixel] -> feature vector
B, CHANNELS, PARTS, HEIGHT, WIDTH = 3, 6, 2, 2, 3
S = HEIGHT * WIDTH
TAU, THRESHOLD, BETA, MARGIN = 0.1, 0.7, 0.6, 0.5
ON = ("vv", "vd", "pix", "fra")


class Blocks(nn.Conv3d):
    """A linear map of blocks of 2 x 2 x 2 pixels."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__(3, CHANNELS, 2, stride=2, bias=False)


@pytest.fixture(autouse=True)
def _blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.CONSTRUCTORS, "small", Blocks)


def settings(**changes: Any) -> Settings:
    tree: dict[str, Any] = {
        "losses": ON,
        "backbone": {"name": "small"},
        "projector": {"hidden": 7, "width": 5},
        "decoder": {"width": 8, "heads": 2, "depth": 2, "dropout": 0},
        "foreground": {"beta": BETA},
        "pixel": {"threshold": THRESHOLD, "group": 2, "queue": 4},
        "frame": {"queue": 5, "margin": MARGIN},
        "contrast": {"queue": 6, "temperature": TAU},
    }
    for name, value in changes.items():
        group, _, field = name.partition("__")
        if field:
            tree[group] = {**tree[group], field: value}
        else:
            tree[name] = value
    return Settings.model_validate(tree)


# Normalised corners; the second video's source is flipped, the third's two views have nothing in common.
SOURCE_BOX = ((0.1, 0.1, 0.6, 0.7), (0.7, 0.2, 0.2, 0.8), (0.0, 0.0, 0.4, 0.4))
TARGET_BOX = ((0.2, 0.2, 0.8, 0.7), (0.25, 0.1, 0.9, 0.7), (0.6, 0.6, 1.0, 1.0))


def drawn() -> dict[str, Tensor]:
    views = {"source_box": torch.tensor(SOURCE_BOX), "target_box": torch.tensor(TARGET_BOX)}
    shape = (3, 2 * PARTS, 2 * HEIGHT, 2 * WIDTH)
    for side in ("source", "target"):
        views[side] = torch.randn(B, *shape)
        views[f"{side}_difference"] = torch.randn(B, *shape)
        views[f"{side}_parts"] = torch.randn(B, PARTS, *shape)
    return views


def built(chosen: Settings) -> FIMA:
    """A model in the middle of training: every weight is random, those of the key encoder others than the query's."""
    model = FIMA(chosen)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(1.5)
        for parameter in model.key.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


class Loops:
    """The method once more."""

    def __init__(self, model: FIMA, views: dict[str, Tensor]) -> None:
        self.weights = {name: t.detach().numpy().astype(np.float64) for name, t in model.state_dict().items()}
        self.views = {name: t.numpy().astype(np.float64) for name, t in views.items()}
        self.settings = model.settings

    # --- networks ---

    def linear(self, name: str, x: Array) -> Array:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def layer_norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean()
        scaled = centred / math.sqrt((centred**2).mean() + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def encode(self, encoder: str, clips: Array) -> Maps:
        kernel = self.weights[f"{encoder}.backbone.weight"]

        def pixel(clip: Array, t: int, h: int, w: int) -> Array:
            block = clip[:, 2 * t : 2 * t + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
            return np.array([(k * block).sum() for k in kernel])

        places = list(itertools.product(range(HEIGHT), range(WIDTH)))
        return [[[pixel(clip, t, h, w) for h, w in places] for t in range(clip.shape[1] // 2)] for clip in clips]

    def project(self, encoder: str, x: Array) -> Array:
        hidden = np.maximum(self.linear(f"{encoder}.projector.0", x), 0)
        out = self.linear(f"{encoder}.projector.2", hidden)
        return out / math.sqrt(float(out @ out))

    def decode(self, which: str, queries: list[Array], memory: list[Array]) -> list[Array]:
        """Queries in width d to outputs in width C; each is worked on alone."""
        decoder, name = self.settings.decoder, f"decoders.{which}"
        d, heads = decoder.width, decoder.heads
        keys = [self.linear(f"{name}.enter", x) + self.place(i) for i, x in enumerate(memory)]
        if decoder.memory_norm:
            keys = [self.layer_norm(f"{name}.memory_norm", key) for key in keys]
        outputs = []
        for x in queries:
            for depth in range(decoder.depth):
                block = f"{name}.blocks.{depth}"
                into, bias = (self.weights[f"{block}.attention.in_proj_{kind}"] for kind in ("weight", "bias"))
                q = into[:d] @ self.layer_norm(f"{block}.attention_norm", x) + bias[:d]
                k = [into[d : 2 * d] @ key + bias[d : 2 * d] for key in keys]
                v = [into[2 * d :] @ key + bias[2 * d :] for key in keys]
                found = []
                for head in range(heads):
                    part = slice(head * d // heads, (head + 1) * d // heads)
                    score = [math.exp(float(q[part] @ key[part]) / math.sqrt(d // heads)) for key in k]
                    found.append(sum(s / sum(score) * value[part] for s, value in zip(score, v, strict=True)))
                x = x + self.linear(f"{block}.attention.out_proj", np.concatenate(found))
                hidden = np.maximum(self.linear(f"{block}.widen", self.layer_norm(f"{block}.feedforward_norm", x)), 0)
                x = x + self.linear(f"{block}.narrow", hidden)
            outputs.append(self.linear(f"{name}.leave", x))
        return outputs

    def place(self, number: int) -> Array:
        d = self.settings.decoder.width
        angles = [number / 10000 ** (2 * (i // 2) / d) for i in range(d)]
        sines = [math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)]
        return self.settings.decoder.position * np.array(sines)

    def decoder_of(self, loss: str) -> str:
        return "shared" if self.settings.decoder.shared else loss

    # --- positives ---

    def foreground(self, rgb: Maps, motion: Maps) -> list[list[bool]]:
        chosen = {"rgb": [rgb], "diff": [motion], "both": [rgb, motion]}[self.settings.foreground.source]
        masks = []
        for b in range(B):
            activity = [
                sum(float(np.mean([frame[s].mean() for frame in maps[b]])) for maps in chosen) for s in range(S)
            ]
            ordered, place = sorted(activity), (1 - BETA) * (S - 1)
            low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
            masks.append([a > low + (place - math.floor(place)) * (high - low) for a in activity])
        return masks

    def near(self, one: Array, s: int, other: Array, u: int) -> bool:
        def centre(box: Array, pixel: int) -> tuple[float, float]:
            row, column = divmod(pixel, WIDTH)
            x = box[0] + (column + 0.5) / WIDTH * (box[2] - box[0])
            return x, box[1] + (row + 0.5) / HEIGHT * (box[3] - box[1])

        def diagonal(box: Array) -> float:
            return math.hypot((box[2] - box[0]) / WIDTH, (box[3] - box[1]) / HEIGHT)

        return math.dist(centre(one, s), centre(other, u)) < THRESHOLD * max(diagonal(one), diagonal(other))

    # --- losses, of one direction ---

    def terms(self) -> dict[str, float]:
        one, other = self.direction("source", "target"), self.direction("target", "source")
        return {name: (one[name] + other[name]) / 2 for name in one}

    def direction(self, source: str, target: str) -> dict[str, float]:
        """Queries of the source view against keys of the target view."""
        views, terms = self.views, {}
        query, bridge = self.encode("query", views[source]), self.encode("query", views[target])
        rgb = {side: self.encode("key", views[side]) for side in (source, target)}
        motion = {side: self.encode("key", views[f"{side}_difference"]) for side in (source, target)}
        for name, keys in (("vv", rgb), ("vd", motion)):
            queue = self.weights.get(f"queues.{name}.keys")
            if queue is not None:
                terms[name] = self.instance(query, keys[target], queue)
        if "pix" in self.settings.losses:
            masks = {side: self.foreground(rgb[side], motion[side]) for side in (source, target)}
            terms["pix"] = self.pixel(query, bridge, motion[target], masks[source], masks[target], source, target)
        if "fra" in self.settings.losses:
            parts = {
                side: [[self.pooled("key", clip) for clip in self.encode("key", v)] for v in views[f"{side}_parts"]]
                for side in (source, target)
            }
            terms["fra"] = self.frame(bridge, parts[target], parts[source])
        return terms

    def pooled(self, encoder: str, frames: list[list[Array]]) -> Array:
        return self.project(encoder, np.mean([pixel for frame in frames for pixel in frame], axis=0))

    def instance(self, query: Maps, key: Maps, queue: Array) -> float:
        loss = 0.0
        for q_map, k_map in zip(query, key, strict=True):
            q = self.pooled("query", q_map)
            own = self.h(q, self.pooled("key", k_map))
            loss -= math.log(own / (own + sum(self.h(q, n) for n in queue))) / B
        return loss

    def h(self, one: Array, other: Array) -> float:
        return math.exp(float(one @ other) / TAU)

    def pixel(
        self, query: Maps, bridge: Maps, motion: Maps,
        own_mask: list[list[bool]], other_mask: list[list[bool]], source: str, target: str,
    ) -> float:  # fmt: skip
        chosen, position = self.settings.pixel, self.settings.foreground.position
        keys = [[[self.project("key", pixel) for pixel in frame] for frame in video] for video in motion]
        group = 1 if chosen.negatives == "video" else chosen.group
        queue = list(self.weights["queues.pix.keys"]) if chosen.negatives == "queue" else []
        values: list[list[float]] = []
        for b in range(B):
            values.append([])
            group_keys = [k for o in range(B) if o // group == b // group for frame in keys[o] for k in frame]
            for t, s in itertools.product(range(PARTS), range(S)):
                if position in ("prediction", "both") and not own_mask[b][s]:
                    continue
                boxes = self.views[f"{source}_box"][b], self.views[f"{target}_box"][b]
                positives = [
                    keys[b][t][u]
                    for u in range(S)
                    if self.near(boxes[0], s, boxes[1], u) and (position in ("none", "prediction") or other_mask[b][u])
                ]
                if not positives:
                    continue
                out = query[b][t][s]
                if chosen.decoder:
                    name = self.decoder_of("pix")
                    asked = self.linear(f"decoders.{name}.enter", out) + self.place(s)
                    (out,) = self.decode(name, [asked], bridge[b][t])
                y = self.project("query", out)
                mass = sum(self.h(y, k) for k in group_keys + queue)
                values[-1].append(-math.log(sum(self.h(y, k) for k in positives) / mass))
        if not any(values):
            return 0.0
        if chosen.average == "pixel":
            return float(np.mean([value for clip in values for value in clip]))
        return float(np.mean([np.mean(clip) for clip in values if clip]))

    def frame(self, bridge: Maps, target: list[list[Array]], source: list[list[Array]]) -> float:
        name, losses = self.decoder_of("fra"), []
        for b, i in itertools.product(range(B), range(PARTS)):
            (out,) = self.decode(name, [self.weights[f"decoders.{name}.cls"]], bridge[b][i])
            y, positive = self.project("query", out), target[b][i]
            if self.settings.frame.type == "mse":
                losses.append(float(((y - positive) ** 2).sum()))
                continue
            negatives = [target[b][j] for j in range(PARTS) if j != i] + source[b]
            negatives += list(self.weights["queues.fra.keys"])
            if self.settings.frame.type == "triplet":
                hinges = [max(0.0, (1 - y @ positive) - (1 - y @ n) + MARGIN) for n in negatives]
                losses.append(float(np.mean(hinges)))
            else:
                own = self.h(y, positive)
                losses.append(-math.log(own / (own + sum(self.h(y, n) for n in negatives))))
        return float(np.mean(losses))


def differing(chosen: Settings) -> list[str]:
    """Terms that the model and the loops do not have alike."""
    model, views = built(chosen), drawn()
    terms, _ = model(views)
    expected = Loops(model, views).terms()
    assert list(terms) == [name for name in ON if name in chosen.losses] == list(expected)
    assert min(expected.values()) > 0
    return [name for name, term in terms.items() if term.item() != pytest.approx(expected[name], rel=1e-5)]


@pytest.mark.parametrize("average", ["clip", "pixel"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("negatives", ["video", "batch", "queue"])
@pytest.mark.parametrize("position", ["none", "prediction", "target", "both"])
@pytest.mark.parametrize("source", ["rgb", "diff", "both"])
def test_every_choice_of_the_pixel_loss(source: str, position: str, negatives: str, shared: bool, average: str) -> None:
    chosen = settings(
        foreground__source=source, foreground__position=position,
        pixel__negatives=negatives, pixel__average=average, decoder__shared=shared,
    )  # fmt: skip
    assert not differing(chosen)


@pytest.mark.parametrize("kind", ["infonce", "triplet", "mse"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("position", ["none", "both"])
@pytest.mark.parametrize("decoder", [True, False])
def test_every_row_of_table_2_with_every_frame_loss(decoder: bool, position: str, shared: bool, kind: str) -> None:
    """DC, DC+FS, DC+MD and DC+FS+MD."""
    chosen = settings(
        pixel__decoder=decoder, foreground__position=position, decoder__shared=shared, frame__type=kind
    )  # fmt: skip
    assert not differing(chosen)


@pytest.mark.parametrize("losses", [c for n in (1, 2, 3) for c in itertools.combinations(ON, n)], ids="+".join)
def test_every_combination_of_losses(losses: tuple[str, ...]) -> None:
    assert not differing(settings(losses=losses))


@pytest.mark.parametrize("changes", [{"depth": 1}, {"heads": 4}, {"position": 0.3}, {"memory_norm": True}])
def test_every_form_of_the_decoder(changes: dict[str, Any]) -> None:
    assert not differing(settings(**{f"decoder__{name}": value for name, value in changes.items()}))
