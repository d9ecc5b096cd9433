"""The method: views of videos in, loss terms and keys out (Fig. 2). No side effect but BatchNorm statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fima import backbones, compute, distributed, foreground, geometry, losses
from fima.config import Settings
from fima.decoder import MotionDecoder
from fima.negatives import Queue

Views = dict[str, Tensor]


class Projector(nn.Sequential):
    """The projection head g: two 1 x 1 convolutions, written as linear layers over the last dimension."""

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, width))


class Encoder(nn.Module):
    """A backbone and its projection head; the query and the key encoder are one each."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.backbone = backbones.build(settings.backbone)
        channels = cast(int, self.backbone.channels)
        self.projector = Projector(channels, settings.projector.hidden, settings.projector.width)

    def project(self, features: Tensor) -> Tensor:
        """Features [..., C] to unit vectors [..., D] in float32."""
        return F.normalize(self.projector(features).float(), dim=-1)


def tokens(features: Tensor) -> Tensor:
    """Feature map [B, C, T', H', W'] to pixels [B, T', H'W', C]."""
    return features.flatten(3).permute(0, 2, 3, 1)


def pooled(features: Tensor) -> Tensor:
    """Feature map [B, C, T', H', W'] to global features [B, C]."""
    return features.mean(dim=(2, 3, 4))


def swap(both: Tensor) -> Tensor:
    """Both directions are stacked as [source views, target views]; the partner of each is in the other half."""
    source, target = both.chunk(2)
    return torch.cat([target, source])


def _of_next_video(both: Tensor | None) -> Tensor | None:
    """Keys [2B, ...] of the source and target views, each video's replaced by the next one's.

    Raises:
        ValueError: there is no other video.
    """
    if both is not None and len(both) < 4:
        raise ValueError("contrast.shuffled takes the motion of another video of the batch, got a batch of one video")
    return None if both is None else torch.cat([half.roll(1, 0) for half in both.chunk(2)])


class FIMA(nn.Module):
    """Query and key encoders, motion decoders and queues: what the losses that are on need, and nothing else.

    Args:
        settings: the experiment.

    Views (made by `fima.views`), B videos, all normalised:
        source, target: [B, 3, T, H, W] RGB clips.
        source_box, target_box: [B, 4] crop boxes in the original frame.
        source_difference, target_difference: [B, 3, T, H, W], only if VD or Pix is on.
        source_parts, target_parts: [B, T', 3, t, H, W] frame differences of sub-clips, only if Fra is on.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.query = Encoder(settings)
        self.key = copy.deepcopy(self.query)
        self.key.requires_grad_(False)
        if settings.compute.compile:
            self.query.backbone.compile()
            self.key.backbone.compile()
        channels = cast(int, self.query.backbone.channels)
        self.decoders = nn.ModuleDict()
        if settings.decodes:
            pixel = settings.uses("pix") and settings.pixel.decoder
            names = ["shared"] if settings.decoder.shared else ["pix"] * pixel + ["fra"] * settings.uses("fra")
            for name in names:
                self.decoders[name] = MotionDecoder(channels, settings.decoder)
        for name, decoder in self.decoders.items():
            if name == "pix" or not settings.uses("fra"):  # nobody asks its class token
                cast(MotionDecoder, decoder).cls.requires_grad_(False)
        sizes = {"vv": settings.contrast.queue, "vd": settings.contrast.queue, "fra": settings.frame.queue}
        if settings.pixel.negatives == "queue":
            sizes["pix"] = settings.pixel.queue
        if settings.frame.type == "mse":  # has no negatives
            del sizes["fra"]
        self.queues = nn.ModuleDict(
            {name: Queue(size, settings.projector.width) for name, size in sizes.items() if settings.uses(name)}  # type: ignore[arg-type]
        )

    # --- one step of training, in the order of fima.pretrain ---

    @torch.no_grad()
    def update_key_encoder(self) -> None:
        """Key weights follow the query's with momentum m (MoCo); BatchNorm statistics are the key's own."""
        query: list[Tensor] = list(self.query.parameters())
        key: list[Tensor] = list(self.key.parameters())
        torch._foreach_lerp_(key, query, 1 - self.settings.contrast.momentum)

    def forward(self, views: Views) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All loss terms that are on, both directions.

        Returns:
            Terms {"vv", "vd", "pix", "fra"}: scalars, unweighted, float32. Keys of the same names for `enqueue`:
            [2B, D] of VV and VD, [2B T', D] of Fra, [2B T'H'W', D] of Pix.
        """
        settings, on, temperature = self.settings, self.settings.uses, self.settings.contrast.temperature
        with torch.no_grad():  # before the queries: what the key encoder needs is free again when they keep theirs
            appearance, motion, parts = self._keys(views)
            shown = motion  # what the foreground is seen in, also where the control takes other videos' motion as keys
            if settings.contrast.shuffled:
                motion, parts = _of_next_video(motion), _of_next_video(parts)
        query = compute.encode(self.query.backbone, self._input(views, "source", "target"), settings.compute)
        terms: dict[str, Tensor] = {}
        keys: dict[str, Tensor] = {}
        if on("vv", "vd"):
            anchor = self.query.project(pooled(query.float()))
            for name, features in (("vv", appearance), ("vd", motion)):
                if name in self.settings.losses:
                    assert features is not None
                    with torch.no_grad():
                        keys[name] = self.key.project(pooled(features))
                    terms[name] = losses.instance_loss(anchor, swap(keys[name]), self._negatives(name), temperature)
        if on("pix", "fra"):
            pixels, frames = self._predict(query)
            if on("pix"):
                assert pixels is not None
                assert motion is not None
                assert shown is not None
                with torch.no_grad():
                    dense = self.key.project(tokens(motion))
                positive = self._positive(views, appearance, shown)
                terms["pix"] = self._pixel_loss(pixels, swap(dense), positive)
                keys["pix"] = dense.flatten(0, 2)
            if on("fra"):
                assert frames is not None
                assert parts is not None
                terms["fra"] = self._frame_loss(frames, parts)
                keys["fra"] = parts.flatten(0, 1)
        assert terms.keys() == set(settings.losses), f"of {settings.losses} only {list(terms)} are implemented"
        return terms, keys

    @torch.no_grad()
    def enqueue(self, keys: dict[str, Tensor]) -> None:
        """Push the keys of all devices, once every loss has read the queues."""
        for name, queue in self.queues.items():
            assert isinstance(queue, Queue)
            queue.push(distributed.gather(keys[name]))

    # --- the parts of forward ---

    def _input(self, views: Views, *names: str) -> Tensor:
        return torch.cat([compute.cast(views[name], self.settings.compute).flatten(0, -5) for name in names])

    def _encode_key(self, clips: Tensor) -> Tensor:
        """Key features in float32, the batch shuffled over devices so that BatchNorm cannot leak (MoCo)."""

        def encode(batch: Tensor) -> Tensor:
            return compute.encode(self.key.backbone, batch, self.settings.compute)

        return distributed.shuffled(encode, clips).float()

    def _keys(self, views: Views) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Key maps of RGB and of motion [2B, C, T', H', W'], projected sub-clips [2B, T', D]; None if unused."""
        settings = self.settings
        appearance = motion = parts = None
        if settings.uses("vv") or (settings.masks and settings.foreground.source in ("rgb", "both")):
            appearance = self._encode_key(self._input(views, "source", "target"))
        if settings.uses("vd", "pix"):
            motion = self._encode_key(self._input(views, "source_difference", "target_difference"))
        if settings.uses("fra"):
            parts = self.key.project(pooled(self._encode_key(self._input(views, "source_parts", "target_parts"))))
            parts = parts.unflatten(0, (-1, views["source_parts"].shape[1]))
        return appearance, motion, parts

    def _negatives(self, name: str) -> Tensor:
        queue = self.queues[name]
        assert isinstance(queue, Queue)
        return queue.keys

    def _predict(self, query: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Projected predictions of the pixels [2B, T', H'W', D] and of the class token [2B, T', D]."""
        on = self.settings.uses
        features = tokens(query)
        shape = features.shape[:2]
        source, target = features.flatten(0, 1), swap(features).flatten(0, 1)  # [2B T', H'W', C]
        pixels = frames = None
        decode = on("pix") and self.settings.pixel.decoder
        with compute.autocast(self.settings.compute, query.device):
            if "shared" in self.decoders:
                pixels, frames = self.decoders["shared"](source if decode else None, target, on("fra"))
            if "pix" in self.decoders:
                pixels, _ = self.decoders["pix"](source, target, False)
            if "fra" in self.decoders:
                _, frames = self.decoders["fra"](None, target, True)
        if on("pix"):
            pixels = self.query.project((source if pixels is None else pixels).float()).unflatten(0, shape)
        if frames is not None:
            frames = self.query.project(frames.float()).unflatten(0, shape)
        return pixels, frames

    @torch.no_grad()
    def _positive(self, views: Views, appearance: Tensor | None, motion: Tensor) -> Tensor:
        """Which target pixels are positive for which source pixels, [2B, H'W', H'W'] for both directions."""
        box = torch.cat([views["source_box"], views["target_box"]])
        positive = geometry.near(box, swap(box), motion.shape[3], motion.shape[4], self.settings.pixel.threshold)
        if not self.settings.masks:
            return positive
        source, position = self.settings.foreground.source, self.settings.foreground.position
        choices = {"rgb": [appearance], "diff": [motion], "both": [appearance, motion]}
        maps: list[Tensor | None] = choices[source]  # type: ignore[assignment]
        activity = torch.stack([foreground.activation(features) for features in maps if features is not None]).sum(0)
        mask = foreground.top_portion(activity, self.settings.foreground.beta)
        if position in ("prediction", "both"):
            positive = positive & mask[:, :, None]
        if position in ("target", "both"):
            positive = positive & swap(mask)[:, None, :]
        return positive

    def _pixel_loss(self, prediction: Tensor, key: Tensor, positive: Tensor) -> Tensor:
        """Mean of both directions; a video's negatives are of its own direction."""
        pixel = self.settings.pixel
        group = 1 if pixel.negatives == "video" else pixel.group
        queue = self._negatives("pix") if "pix" in self.queues else None
        halves = zip(prediction.chunk(2), key.chunk(2), positive.chunk(2), strict=True)
        directions = [
            losses.pixel_loss(p, k, m, self.settings.contrast.temperature, group, queue, pixel.average)
            for p, k, m in halves
        ]
        return torch.stack(directions).mean()

    def _frame_loss(self, prediction: Tensor, source: Tensor) -> Tensor:
        target, frame = swap(source), self.settings.frame
        if frame.type == "mse":
            return losses.frame_mse(prediction, target)
        queue = self._negatives("fra")
        if frame.type == "triplet":
            return losses.frame_triplet(prediction, target, source, queue, frame.margin)
        return losses.frame_infonce(prediction, target, source, queue, self.settings.contrast.temperature)

    # --- size ---

    def trained(self) -> Iterator[nn.Parameter]:
        """Parameters that gradients reach."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def count_parameters(self) -> dict[str, int]:
        """Sizes in two conventions, neither with the projection head (Tables 8, 11).

        Returns:
            "paper": encoder, the decoders' outer linears and feed-forward layers. "all": attention, norms and class
            tokens too.
        """
        encoder = _size(self.query.backbone.parameters())
        decoders = [decoder for decoder in self.decoders.values() if isinstance(decoder, MotionDecoder)]
        return {
            "paper": encoder + sum(_size(decoder.paper_parameters()) for decoder in decoders),
            "all": encoder + sum(_size(decoder.parameters()) for decoder in decoders),
        }


def _size(parameters: Iterator[nn.Parameter] | list[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
