"""Losses, masks and positives against plain float64 loops over the paper's equations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fima import foreground, geometry, losses

H, W, FRAMES, WIDTH, VIDEOS = 3, 4, 2, 5, 5


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def boxes(videos: int) -> Tensor:
    corner, size = (
        torch.rand(videos, 2, dtype=torch.float64) * 0.5,
        0.3 + 0.2 * torch.rand(videos, 2, dtype=torch.float64),
    )
    box = torch.cat([corner, corner + size], dim=1)
    flipped = torch.rand(videos) < 0.5
    box[flipped] = box[flipped][:, [2, 1, 0, 3]]
    return box


def near_by_loops(source: Tensor, target: Tensor, threshold: float) -> Tensor:
    out = torch.zeros(len(source), H * W, H * W, dtype=torch.bool)

    def centre(box: list[float], pixel: int) -> tuple[float, float]:
        row, column = divmod(pixel, W)
        return (box[0] + (column + 0.5) * (box[2] - box[0]) / W, box[1] + (row + 0.5) * (box[3] - box[1]) / H)

    def diagonal(box: list[float]) -> float:
        return math.sqrt(((box[2] - box[0]) / W) ** 2 + ((box[3] - box[1]) / H) ** 2)

    for b, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        for i, j in itertools.product(range(H * W), repeat=2):
            (x, y), (u, v) = centre(s, i), centre(t, j)
            out[b, i, j] = math.sqrt((x - u) ** 2 + (y - v) ** 2) / max(diagonal(s), diagonal(t)) < threshold
    return out


@pytest.mark.parametrize("threshold", [0.35, 0.7, 1.4, 2.8])
def test_near_equals_loops(threshold: float) -> None:
    source, target = boxes(VIDEOS), boxes(VIDEOS)
    result = geometry.near(source, target, H, W, threshold)
    assert torch.equal(result, near_by_loops(source, target, threshold))
    assert result.any()


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_foreground_equals_sorting(beta: float) -> None:
    activity = torch.randn(VIDEOS, H * W, dtype=torch.float64)
    for row, mask in zip(activity.tolist(), foreground.top_portion(activity, beta).tolist(), strict=True):
        ordered, place = sorted(row), (1 - beta) * (len(row) - 1)
        low = ordered[math.floor(place)]
        quantile = low + (place - math.floor(place)) * (ordered[math.ceil(place)] - low)
        assert mask == [value > quantile or beta == 1 for value in row]


def pixel_by_loops(
    prediction: Tensor, key: Tensor, positive: Tensor, tau: float, group: int, queue: Tensor | None, average: str
) -> float:
    clips: list[list[float]] = []
    for b in range(len(prediction)):
        members = range(b // group * group, min(len(key), b // group * group + group))
        clip = []
        for t, s in itertools.product(range(FRAMES), range(H * W)):
            f = prediction[b, t, s]

            def h(k: Tensor, f: Tensor = f) -> float:
                return math.exp(float(f @ k) / tau)

            numerator = sum(h(key[b, t, u]) for u in range(H * W) if positive[b, s, u])
            if not positive[b, s].any():
                continue
            denominator = sum(h(key[o, r, u]) for o in members for r in range(FRAMES) for u in range(H * W)) + (
                0 if queue is None else sum(h(k) for k in queue)
            )
            clip.append(-math.log(numerator / denominator))
        clips.append(clip)
    if average == "pixel":
        every = [value for clip in clips for value in clip]
        return sum(every) / len(every)
    means = [sum(clip) / len(clip) for clip in clips if clip]
    return sum(means) / len(means)


@pytest.mark.parametrize("average", ["clip", "pixel"])
@pytest.mark.parametrize("queue", [0, 7])
@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize("position", ["none", "prediction", "target", "both"])
def test_pixel_loss_equals_loops(position: str, group: int, queue: int, average: str) -> None:
    prediction, key = unit(VIDEOS, FRAMES, H * W, WIDTH), unit(VIDEOS, FRAMES, H * W, WIDTH)
    positive = geometry.near(boxes(VIDEOS), boxes(VIDEOS), H, W, 0.7)
    source, target = torch.rand(VIDEOS, H * W) < 0.5, torch.rand(VIDEOS, H * W) < 0.5
    if position in ("prediction", "both"):
        positive = positive & source[:, :, None]
    if position in ("target", "both"):
        positive = positive & target[:, None, :]
    negatives = unit(queue, WIDTH) if queue else None
    result = losses.pixel_loss(prediction, key, positive, 0.1, group, negatives, average)
    expected = pixel_by_loops(prediction, key, positive, 0.1, group, negatives, average)
    assert float(result) == pytest.approx(expected, rel=1e-9)


def test_instance_loss_equals_loops() -> None:
    query, key, queue, tau = unit(4, WIDTH), unit(4, WIDTH), unit(9, WIDTH), 0.1
    expected = 0.0
    for q, k in zip(query, key, strict=True):
        own = math.exp(float(q @ k) / tau)
        expected -= math.log(own / (own + sum(math.exp(float(q @ n) / tau) for n in queue))) / 4
    assert float(losses.instance_loss(query, key, queue, tau)) == pytest.approx(expected, rel=1e-9)


def test_frame_losses_equal_loops() -> None:
    prediction, target, source, queue = unit(4, 3, WIDTH), unit(4, 3, WIDTH), unit(4, 3, WIDTH), unit(6, WIDTH)
    infonce = triplet = mse = 0.0
    for b, i in itertools.product(range(4), range(3)):
        y = prediction[b, i]
        negatives = [target[b, j] for j in range(3) if j != i] + list(source[b]) + list(queue)
        own = float(y @ target[b, i])
        others = [float(y @ n) for n in negatives]
        infonce -= math.log(math.exp(own / 0.1) / (math.exp(own / 0.1) + sum(math.exp(o / 0.1) for o in others))) / 12
        triplet += sum(max(0.0, (1 - own) - (1 - o) + 0.5) for o in others) / len(others) / 12
        mse += sum(float(d) ** 2 for d in y - target[b, i]) / 12
    assert float(losses.frame_infonce(prediction, target, source, queue, 0.1)) == pytest.approx(infonce, rel=1e-9)
    assert float(losses.frame_triplet(prediction, target, source, queue, 0.5)) == pytest.approx(triplet, rel=1e-9)
    assert float(losses.frame_mse(prediction, target)) == pytest.approx(mse, rel=1e-9)
