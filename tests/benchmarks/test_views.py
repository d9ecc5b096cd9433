"""From frames to views: geometry, photometry and blur of a batch, beside torchvision's on the same clips."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from fima import augment
from fima.config import Augment

N, T = 8, 16


def median(call: Any, rounds: int = 3) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return sorted(times)[rounds // 2]


@pytest.mark.parametrize("size", [112, 224])
def test_crop_flip_and_resize(benchmark: Any, size: int) -> None:
    """Two matrix products a clip, beside torchvision's antialiased resize of float frames."""
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.integers(0, 256, (N, 3, T, 240, 320), np.uint8))
    crops = [augment.draw_crop(240, 320, Augment(), random) for _ in range(N)]

    def torchvisions() -> None:
        for clip, crop in zip(frames, crops, strict=True):
            box = [crop.y0, crop.x0, crop.y1 - crop.y0, crop.x1 - crop.x0]
            vision.resized_crop(clip.transpose(0, 1).float() / 255, *box, size=[size, size], antialias=True)

    benchmark.pedantic(augment.crop_resize, (frames, crops, size), rounds=5, warmup_rounds=1)
    benchmark.extra_info["torchvision_over_ours"] = median(torchvisions) / benchmark.stats["median"]


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("blur", [0, 1])
def test_photometry(benchmark: Any, size: int, blur: int) -> None:
    """Jitter and grayscale as one affine map, blur as two banded products; torchvision's beside them."""
    chosen = Augment(size=size, jitter=1, blur=blur)
    clips = torch.rand(N, 3, T, size, size)
    drawn = torch.from_numpy(np.stack([augment.draw_photometry(chosen, np.random.default_rng(i)) for i in range(N)]))
    side = size // 20 * 2 + 1

    def torchvisions() -> None:
        for clip, numbers in zip(clips, drawn.tolist(), strict=True):
            x = clip.transpose(0, 1)
            if blur:
                x = vision.gaussian_blur(x, [side, side], [numbers[5], numbers[5]])
            x = vision.adjust_contrast(vision.adjust_brightness(x, numbers[0]), numbers[1])
            x = vision.adjust_hue(vision.adjust_saturation(x, numbers[2]), numbers[3])
            vision.normalize(x, list(augment.MEAN), list(augment.STD))

    benchmark.pedantic(augment.photometry, (clips, drawn), rounds=5, warmup_rounds=1)
    benchmark.extra_info["torchvision_over_ours"] = median(torchvisions) / benchmark.stats["median"]
