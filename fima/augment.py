"""Geometry and photometry of the views, the same for all frames of a clip and drawn anew per clip (appendix A.3).

Drawing (numpy, per sample, in a data worker) is apart from applying (torch, per batch, on the device): a drawn
sample is a few numbers, so a run can go on bit for bit (on a CPU) wherever it was cut.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fima.config import Augment

MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
GRAY = (0.299, 0.587, 0.114)
RATIO = (3 / 4, 4 / 3)
# RGB to YIQ: hue turns the I-Q plane and saturation scales it, so both are one 3 x 3 matrix.
YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True)
class Crop:
    """A rectangle of the original frame in pixels, right and lower side exclusive, and whether it is flipped."""

    x0: int
    y0: int
    x1: int
    y1: int
    flip: bool

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the outermost pixels, normalised by (W - 1, H - 1); a flip swaps x0 and x1."""
        x0, x1 = self.x0 / max(width - 1, 1), (self.x1 - 1) / max(width - 1, 1)
        if self.flip:
            x0, x1 = x1, x0
        return x0, self.y0 / max(height - 1, 1), x1, (self.y1 - 1) / max(height - 1, 1)


def draw_crop(height: int, width: int, augment: Augment, rng: np.random.Generator) -> Crop:
    """RandomResizedCrop and flip: area `scale_min` to `scale_max` of the frame, ratio 3/4 to 4/3.

    Where ten draws do not fit into the frame, it is the largest square in the middle.
    """
    flip = bool(rng.random() < augment.flip)
    for _ in range(10):
        area = height * width * rng.uniform(augment.scale_min, augment.scale_max)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(0, width - w, endpoint=True)), int(rng.integers(0, height - h, endpoint=True))
            return Crop(x, y, x + w, y + h, flip)
    return centre_crop(height, width, flip)


def centre_crop(height: int, width: int, flip: bool = False) -> Crop:
    """The largest square in the middle of the frame."""
    side = min(height, width)
    x, y = (width - side) // 2, (height - side) // 2
    return Crop(x, y, x + side, y + side, flip)


def draw_photometry(augment: Augment, rng: np.random.Generator, blur: bool = True) -> NDArray[np.float32]:
    """[6] brightness, contrast and saturation factors, hue in turns, grayscale (0 or 1), blur sigma (0: none)."""
    drawn = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    # Every number is drawn whether it is used or not: one probability does not shift the others' randomness.
    jitter, gray, blurred = rng.random(3)
    factors = rng.uniform(-1, 1, 4)
    sigma = rng.uniform(augment.blur_min, augment.blur_max)
    if jitter < augment.jitter:
        ranges = (augment.brightness, augment.contrast, augment.saturation)
        drawn[:3] = [max(0.0, 1 + f * r) for f, r in zip(factors, ranges, strict=False)]
        drawn[3] = factors[3] * augment.hue
    drawn[4] = float(gray < augment.grayscale)
    if blur and blurred < augment.blur:
        drawn[5] = sigma
    return np.array(drawn, np.float32)


def resize_matrix(start: Tensor, stop: Tensor, length: int, size: int) -> Tensor:
    """Antialiased bilinear resize of the span [start, stop) of an axis as a matrix.

    Args:
        start, stop: [N] pixels; start > stop reads the span backwards (a flip).
        length: pixels of the axis.
        size: pixels of the result.

    Returns:
        [N, size, length], rows sum to 1.
    """
    low, high = torch.minimum(start, stop), torch.maximum(start, stop)
    scale = (high - low) / size  # [N]
    centre = low[:, None] + (torch.arange(size) + 0.5) * scale[:, None]  # [N, size]
    pixel = torch.arange(length) + 0.5
    reach = scale.clamp_min(1)[:, None, None]
    weight = (1 - (pixel - centre[..., None]).abs() / reach).clamp_min(0)  # [N, size, length]
    inside = (pixel > low[:, None, None]) & (pixel < high[:, None, None])
    weight = weight * inside
    weight = weight / weight.sum(-1, keepdim=True)
    return torch.where((start > stop)[:, None, None], weight.flip(1), weight)


def crop_resize(frames: Tensor, crops: list[Crop], size: int) -> Tensor:
    """Crop, flip and resize clips of one native size by two matrix products each.

    Args:
        frames: [N, 3, T, H, W] uint8.
        crops: N rectangles.
        size: side of the result.

    Returns:
        [N, 3, T, size, size] float32 in [0, 1].
    """
    n, _, t, height, width = frames.shape
    span = torch.tensor([(c.x0, c.x1, c.y0, c.y1) if not c.flip else (c.x1, c.x0, c.y0, c.y1) for c in crops])
    span = span.to(torch.float32)
    across = there(resize_matrix(span[:, 0], span[:, 1], width, size), frames.device)
    down = there(resize_matrix(span[:, 2], span[:, 3], height, size), frames.device)
    out = torch.empty(n, 3 * t, size, size, device=frames.device)
    for i, crop in enumerate(crops):  # clip by clip: only what is inside is turned into floats, and stays in the cache
        rows, columns = slice(crop.y0, crop.y1), slice(crop.x0, crop.x1)
        inside = frames[i, :, :, rows, columns].to(torch.float32).div_(255)
        x = torch.mm(inside.reshape(-1, crop.x1 - crop.x0), across[i, :, columns].mT)
        torch.matmul(down[i, :, rows], x.view(3 * t, -1, size), out=out[i])
    return out.view(n, 3, t, size, size)


def difference(clips: Tensor, scaling: str) -> Tensor:
    """Differences of adjacent frames, as long as the clip: the last one is repeated.

    Args:
        clips: [N, 3, T, H, W] in [0, 1], cropped and not yet colour-jittered.
        scaling: "half": (d + 1) / 2 in [0, 1]; "raw": d in [-1, 1].
    """
    d = clips[:, :, 1:] - clips[:, :, :-1]
    if scaling == "half":
        d = d.add_(1).mul_(0.5)
    return torch.cat([d, d[:, :, -1:]], dim=2)


def colour_matrix(drawn: Tensor) -> Tensor:
    """[N, 3, 3] of saturation, hue and grayscale; it leaves gray as it is. `drawn` is [N, 6] of `draw_photometry`."""
    to = torch.tensor(YIQ, dtype=torch.float64)
    angle = drawn[:, 3].double() * 2 * math.pi
    chroma = drawn[:, 2].double() * (1 - drawn[:, 4].double())
    turn = torch.zeros(len(drawn), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = chroma * angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -chroma * angle.sin(), chroma * angle.sin()
    return (to.inverse() @ turn @ to).float()


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Gaussian blur along an axis as [N, size, size] matrices: kernel a tenth of the axis and odd, reflected ends."""
    reach = max(1, size // 20)  # 11 at 224: the paper's kernel of 23; 5 at 112: 11
    offset = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    place = (torch.arange(size)[:, None] + offset).abs()
    place = torch.where(place >= size, 2 * (size - 1) - place, place)
    matrix = torch.zeros(len(sigma), size, size)
    return matrix.scatter_add_(2, place.expand(len(sigma), -1, -1), kernel[:, None].expand(-1, size, -1).contiguous())


@functools.lru_cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers on a device, copied once: a copy in each step would let the host wait for all that is queued."""
    return torch.tensor(values, device=device)


def there(small: Tensor, device: torch.device) -> Tensor:
    """A small tensor on the device; to a GPU through page-locked memory, so that nobody waits for it."""
    return (small.pin_memory() if device.type == "cuda" else small).to(device, non_blocking=True)


def to_blur(drawn: Tensor) -> Tensor:
    """Numbers of the clips that are blurred, of `drawn` [N, 6]."""
    return (drawn[:, 5] > 0).nonzero()[:, 0]


def photometry(clips: Tensor, drawn: Tensor, low: float = 0.0) -> Tensor:
    """Jitter, grayscale and blur as drawn, then the networks' normalisation.

    Brightness, contrast, saturation and hue act in this order and hue turns the I-Q plane of YIQ, so that colour is
    one affine map per clip; torchvision draws the order and turns HSV.

    Args:
        clips: [N, 3, T, H, W] in [low, 1].
        drawn: [N, 6] of `draw_photometry`, on the CPU.
        low: least value, -1 for raw frame differences.

    Returns:
        [N, 3, T, H, W], zero mean and unit deviation on natural video.
    """
    n, _, t, height, width = clips.shape

    chosen = to_blur(drawn)
    if len(chosen):
        places = there(chosen, clips.device)
        x = clips[places]
        across = there(blur_matrix(drawn[chosen, 5], width), clips.device)
        down = there(blur_matrix(drawn[chosen, 5], height), clips.device)
        x = torch.bmm(x.reshape(len(chosen), -1, width), across.mT)
        x = x.view(len(chosen), 3 * t, height, width).transpose(2, 3).reshape(len(chosen), -1, height)
        x = torch.bmm(x, down.mT).view(len(chosen), 3, t, width, height).transpose(3, 4)
        clips = clips.index_copy(0, places, x)
    matrix = there(colour_matrix(drawn) * (drawn[:, 0] * drawn[:, 1])[:, None, None], clips.device)
    brightness, contrast = there(drawn[:, :2], clips.device).unbind(1)
    mean = (clips.mean(dim=(2, 3, 4)) @ constant(GRAY, clips.device)) * brightness  # gray level after brightness
    offset = ((1 - contrast) * mean)[:, None].expand(-1, 3)
    x = torch.baddbmm(offset[:, :, None], matrix, clips.reshape(n, 3, -1)).clamp_(low, 1)
    return x.sub_(constant(MEAN, clips.device)[:, None]).div_(constant(STD, clips.device)[:, None]).view_as(clips)


def normalise(clips: Tensor) -> Tensor:
    """[N, 3, T, H, W] in [0, 1] to the networks' input, without augmentation."""
    shape = (1, 3, 1, 1, 1)
    mean, std = constant(MEAN, clips.device), constant(STD, clips.device)
    return (clips - mean.view(shape)) / std.view(shape)
