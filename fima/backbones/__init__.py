"""Video encoders: clips [B, 3, T, H, W] to feature maps [B, C, T', H', W'], without pooling or classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

from fima.backbones import i3d, r2plus1d, r3d, small
from fima.config import Backbone

CONSTRUCTORS: dict[str, Callable[[], nn.Module]] = {
    "i3d": i3d.I3D,
    "r2plus1d": r2plus1d.build,
    "r3d": r3d.build,
    "small": small.Small,
}
STRIDES = {"i3d": (8, 32), "r2plus1d": (8, 16), "r3d": (8, 16), "small": (4, 8)}  # in time and space; rests round up


def build(backbone: Backbone) -> nn.Module:
    """An encoder with the attribute `channels`, randomly initialised or with the weights of a file.

    Raises:
        ValueError: the file of weights is not of this architecture.
    """
    network = CONSTRUCTORS[backbone.name]()
    if backbone.weights is not None:
        load(network, backbone.weights, backbone.name)
    return network


def load(network: nn.Module, path: Path, name: str) -> None:
    """Load weights in the public layout, strictly; only the classifier (`fc.*`, `head.*`) of a public file is left out.

    Raises:
        ValueError: missing, unexpected or misshapen weights; the line names the first ones.
    """
    try:
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle can end in any of them: IndexError, KeyError, UnpicklingError, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"backbone.weights {path}: cannot be read ({reason}); give a file of torch.save") from error
    if not _is_state(state):
        raise ValueError(f"backbone.weights {path}: holds no state_dict (names to tensors); save network.state_dict()")
    state = {key: value for key, value in state.items() if not key.startswith(("fc.", "head."))}
    own = network.state_dict()
    wrong = [f"missing {key}" for key in own if key not in state]
    wrong += [f"unexpected {key}" for key in state if key not in own]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"backbone.weights {path}: is no {name}: {', '.join(wrong[:3])}{more}")
    network.load_state_dict(state)


def _is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def feature_grid(backbone: Backbone, frames: int, size: int) -> tuple[int, int, int]:
    """T', H', W' of the feature map of clips of `frames` frames of `size` x `size` pixels."""
    time, space = STRIDES[backbone.name]
    side = math.ceil(size / space)
    return math.ceil(frames / time), side, side
