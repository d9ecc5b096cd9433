"""Every setting of the method and every default, once.

The defaults are the paper's recipe for I3D on UCF101 (section 4.1, appendix A). A profile or a study changes them by
dotted name (`foreground.beta`). Unknown names are refused. `Settings.active()` drops what cannot act under the
losses that are on, so that two rows which differ only in an idle knob are the same experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Loss = Literal["vv", "vd", "pix", "fra"]


class Frozen(BaseModel):
    """A group of settings: immutable, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Clip(Frozen):
    """Which frames make a clip (section 4.1)."""

    frames: int = Field(16, ge=2, description="frames of a clip")
    stride: int = Field(2, ge=1, description="raw frames from one frame of a clip to the next")
    gap: int = Field(1, ge=0, description="least distance in raw frames between the starts of the two windows")


class Augment(Frozen):
    """Geometry and photometry of pre-training (section 4.1, appendix A.3), and what peers do to backgrounds."""

    size: int = Field(224, ge=8, description="side of a view in pixels")
    scale_min: float = Field(0.2, gt=0, le=1, description="least share of the frame's area that a crop covers")
    scale_max: float = Field(1.0, gt=0, le=1, description="largest share of the frame's area that a crop covers")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    grayscale: float = Field(0.2, ge=0, le=1, description="probability of grayscale")
    jitter: float = Field(0.2, ge=0, le=1, description="probability of colour jitter (published code: 0.8)")
    brightness: float = Field(0.4, ge=0, le=1, description="half range of the brightness factor around 1")
    contrast: float = Field(0.4, ge=0, le=1, description="half range of the contrast factor around 1")
    saturation: float = Field(0.4, ge=0, le=1, description="half range of the saturation factor around 1")
    hue: float = Field(0.1, ge=0, le=0.5, description="half range of the hue shift in turns")
    blur: float = Field(0.2, ge=0, le=1, description="probability of a Gaussian blur (published code: 0.5)")
    blur_min: float = Field(0.1, gt=0, description="least standard deviation of the blur in pixels of the view")
    blur_max: float = Field(2.0, gt=0, description="largest standard deviation of the blur in pixels of the view")
    difference: Literal["half", "raw"] = Field("half", description="frame difference as (d + 1) / 2, or d itself")
    static: float = Field(
        0.0, ge=0, le=1, description="largest weight of a frame of the source view blended over all of it (BE: 0.3)"
    )
    kept: float = Field(
        1.0, gt=0, le=1, description="portion of the source view kept as moving foreground on another clip (FAME: 0.5)"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min must not exceed scale_max, got {self.scale_min} > {self.scale_max}")
        if self.blur_min > self.blur_max:
            raise ValueError(f"blur_min must not exceed blur_max, got {self.blur_min} > {self.blur_max}")
        return self


class Backbone(Frozen):
    """The video encoder."""

    name: Literal["i3d", "r2plus1d", "r3d", "small"] = Field("i3d", description="architecture")
    weights: Path | None = Field(None, description="file of initial weights in the public layout; none: random")


class Projector(Frozen):
    """The projection head g: conv1x1, ReLU, conv1x1, shared by global and dense features."""

    hidden: int = Field(1024, ge=1, description="width between the two convolutions")
    width: int = Field(128, ge=1, description="width of a projected feature")


class Decoder(Frozen):
    """The motion decoder (section 3.2, appendix A.2)."""

    depth: int = Field(2, ge=1, description="blocks of cross-attention and feed-forward (Table 3b)")
    width: int = Field(512, ge=1, description="width d (Tables 3c, 7)")
    heads: int = Field(4, ge=1, description="attention heads (Table 3c)")
    shared: bool = Field(True, description="one decoder for Pix and Fra, or one each (Table 8)")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in attention and feed-forward")
    init: Literal["paper", "identity"] = Field(
        "paper", description="PyTorch's default start, or outer linears as identity and residual branches at zero"
    )
    position: float = Field(1.0, ge=0, description="factor on the sinusoidal positions")
    memory_norm: bool = Field(False, description="layer norm on keys and values")

    @model_validator(mode="after")
    def _divisible(self) -> Decoder:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width {self.width} and heads {self.heads}")
        if self.width % 2:
            raise ValueError(f"width must be even for sinusoidal positions, got {self.width}")
        return self


class Foreground(Frozen):
    """Which pixels may form positive pairs (Eq. 6)."""

    beta: float = Field(0.5, gt=0, le=1, description="portion of the H'W' pixels kept as foreground (Table 3d)")
    source: Literal["rgb", "diff", "both"] = Field("both", description="activation maps that vote (Table 3e)")
    position: Literal["none", "prediction", "target", "both"] = Field(
        "both", description="sides that are masked (Table 3f); none is L_Pix without FS (Table 2)"
    )


class Pixel(Frozen):
    """The pixel-level loss L_Pix (Eqs. 3, 5, 8)."""

    decoder: bool = Field(True, description="predict through the motion decoder (MD of Table 2)")
    threshold: float = Field(
        0.7, gt=0, description="distance in bin diagonals under which a pair is positive (Table 3a)"
    )
    negatives: Literal["video", "batch", "queue"] = Field(
        "batch", description="whose pixels are negatives: own video, the group, the group and a queue (Table 10)"
    )
    group: int = Field(8, ge=1, description="videos whose pixels are each other's negatives (batch of one GPU)")
    queue: int = Field(784, ge=1, description="pixels in the queue when negatives is queue (Kinetics-400: 31360)")
    average: Literal["clip", "pixel"] = Field(
        "clip", description="mean per clip then over clips (published code), or over all pixels (paper)"
    )


class Frame(Frozen):
    """The frame-level loss L_Fra (Eq. 10)."""

    type: Literal["infonce", "triplet", "mse"] = Field("infonce", description="form of the loss (Table 9)")
    margin: float = Field(0.5, ge=0, le=2, description="margin of the triplet in cosine distance")
    queue: int = Field(2048, ge=1, description="sub-clip features of other videos (Kinetics-400: 65536)")


class Contrast(Frozen):
    """What all contrastive terms share (MoCo-v2, appendix A.1)."""

    temperature: float = Field(0.1, gt=0, description="temperature")
    momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key encoder")
    queue: int = Field(2048, ge=1, description="global features in each of the queues of VV and VD (K400: 65536)")
    shuffled: bool = Field(
        False, description="control: motion keys of the next video in the batch, so that they tell nothing of one's own"
    )


class Weights(Frozen):
    """Factor on each loss (Eq. 11 has 1 everywhere)."""

    vv: float = Field(1.0, gt=0)
    vd: float = Field(1.0, gt=0)
    pix: float = Field(1.0, gt=0)
    fra: float = Field(1.0, gt=0)


class Optim(Frozen):
    """An optimiser, its schedule and its length."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="optimiser")
    lr: float = Field(0.00375, gt=0, description="initial learning rate, for the batch given")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD, or the first beta of AdamW")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    schedule: Literal["cosine", "steps", "constant"] = Field("cosine", description="half cosine, or x0.1 at milestones")
    milestones: tuple[float, ...] = Field((), description="fractions of the run at which `steps` decays by ten")
    per: Literal["epoch", "step"] = Field("epoch", description="how often the schedule moves (published code: epoch)")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    batch: int = Field(24, ge=1, description="videos per step over all devices")
    epochs: int = Field(200, ge=1, description="passes over the videos")
    steps: int | None = Field(None, ge=1, description="stop after so many steps; the schedule ends there too")

    def active(self) -> dict[str, Any]:
        """What can alter the result, as plain JSON data."""
        data = self.model_dump(mode="json")
        if self.steps is not None:
            del data["epochs"]
        if self.schedule != "steps":
            del data["milestones"]
        if self.schedule == "constant":
            del data["per"]
        return data


class Compute(Frozen):
    """Arithmetic. It alters results in the last digits, so it is part of an experiment; `recompute` does not."""

    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="autocast of the networks")
    channels_last: bool | None = Field(
        None,
        description="channels_last_3d memory format; null: where it is faster (a CPU, except R(2+1)D in float32 with "
        "AVX2 alone; a GPU below float32)",
    )
    compile: bool = Field(False, description="torch.compile of the encoders; pays on GPUs, minutes at the start")
    recompute: bool = Field(
        False, description="compute the query encoder's activations anew in backward: less memory, an eighth more time"
    )

    @model_validator(mode="after")
    def _one(self) -> Compute:
        if self.compile and self.recompute:
            raise ValueError("compile and recompute exclude each other; a compiled encoder plans its memory itself")
        return self

    def active(self) -> dict[str, Any]:
        """What can alter the result, as plain JSON data."""
        return self.model_dump(mode="json", exclude={"recompute"})


class Linear(Frozen):
    """The linear probe (appendix A.4), or the fast one on features extracted once."""

    protocol: Literal["sgd", "logistic"] = Field("sgd", description="the paper's probe, or logistic regression")
    clips: int = Field(10, ge=1, description="uniform test clips, softmax averaged per video")
    optim: Optim = Optim(lr=1.5, weight_decay=0, schedule="steps", milestones=(0.6, 0.8), batch=16, epochs=100)
    normalise: bool = Field(True, description="sgd: L2-normalise features; lr 1.5 wants it")


class Finetune(Frozen):
    """Fine-tuning of the whole network (appendix A.4)."""

    clips: int = Field(10, ge=1, description="uniform test clips, softmax averaged per video")
    optim: Optim = Optim(lr=0.0033, weight_decay=1e-4, schedule="steps", milestones=(0.4, 0.8), batch=16, epochs=150)
    dropout: float = Field(0.7, ge=0, lt=1, description="before the classifier (UCF101 0.7, HMDB51 0.5)")
    augment: bool = Field(True, description="augmentation of pre-training without blur; off: centre crop")


class Retrieval(Frozen):
    """Video retrieval (section 4.1): cosine on pooled features, test queries the training set."""

    clips: int = Field(10, ge=1, description="uniform clips whose features are averaged per video")


class Settings(Frozen):
    """One experiment of the method: how an encoder is pre-trained. Evaluation has settings of its own."""

    losses: tuple[Loss, ...] = Field(("vv", "pix", "fra"), min_length=1, description="terms of Eq. (11)")
    weights: Weights = Weights()
    clip: Clip = Clip()
    augment: Augment = Augment()
    backbone: Backbone = Backbone()
    projector: Projector = Projector()
    decoder: Decoder = Decoder()
    foreground: Foreground = Foreground()
    pixel: Pixel = Pixel()
    frame: Frame = Frame()
    contrast: Contrast = Contrast()
    optim: Optim = Optim()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _distinct(self) -> Settings:
        if len(set(self.losses)) != len(self.losses):
            raise ValueError(f"each loss once, got {list(self.losses)}")
        return self

    def uses(self, *losses: Loss) -> bool:
        """Whether any of the losses is on."""
        return any(loss in self.losses for loss in losses)

    @property
    def decodes(self) -> bool:
        """Whether any motion decoder exists: L_Pix with MD, or L_Fra."""
        return (self.uses("pix") and self.pixel.decoder) or self.uses("fra")

    @property
    def masks(self) -> bool:
        """Whether foreground sampling acts; a portion of 1 keeps every pixel."""
        return self.uses("pix") and self.foreground.position != "none" and self.foreground.beta < 1

    def active(self) -> dict[str, Any]:
        """The settings that can alter the result, as plain JSON data; idle ones are left out.

        `Settings.model_validate` of it is the same experiment. Losses come in a fixed order: their sum does not depend
        on it.
        """
        data = self.model_dump(mode="json")
        data["optim"] = self.optim.active()
        data["compute"] = self.compute.active()
        data["losses"] = [loss for loss in get_args(Loss) if loss in self.losses]
        data["weights"] = {loss: data["weights"][loss] for loss in data["losses"]}
        if not self.uses("pix"):
            del data["pixel"]
        elif self.pixel.negatives != "queue":
            del data["pixel"]["queue"]
            if self.pixel.negatives == "video":
                del data["pixel"]["group"]
        if not self.uses("pix"):
            del data["foreground"]
        elif not self.masks:
            data["foreground"] = {"position": "none"}  # must be said: left out it would be the default, which masks
        if not self.decodes:
            del data["decoder"]
        elif not (self.uses("pix") and self.pixel.decoder and self.uses("fra")):
            del data["decoder"]["shared"]
        if not self.uses("fra"):
            del data["frame"]
        elif self.frame.type == "mse":
            del data["frame"]["queue"], data["frame"]["margin"]
        elif self.frame.type == "infonce":
            del data["frame"]["margin"]
        if not self.uses("vv", "vd"):
            del data["contrast"]["queue"]
            if not self.uses("pix") and self.frame.type != "infonce":
                del data["contrast"]["temperature"]
        if not self.uses("vd", "pix", "fra"):
            del data["augment"]["difference"]
        if not (self.uses("vd", "pix", "fra") and self.contrast.shuffled):
            del data["contrast"]["shuffled"]
        if not self.augment.jitter:
            for name in ("brightness", "contrast", "saturation", "hue"):
                del data["augment"][name]
        if not self.augment.blur:
            del data["augment"]["blur_min"], data["augment"]["blur_max"]
        if not self.augment.static:
            del data["augment"]["static"]
        if self.augment.kept == 1:
            del data["augment"]["kept"]
        return data


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted name: {"optim": {"lr": 0.1}} to {"optim.lr": 0.1}."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
