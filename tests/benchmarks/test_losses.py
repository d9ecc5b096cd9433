"""Each loss, forward and backward, beside a plain PyTorch rendering of its equation: exp, sum and log as printed."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fima import losses

B, PARTS, S, D, K, TEMPERATURE = 24, 2, 49, 128, 2048, 0.1


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def plain_instance(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
    """Eq. (1)."""
    own = ((query * key).sum(-1) / TEMPERATURE).exp()
    return -(own / (own + (query @ queue.T / TEMPERATURE).exp().sum(-1))).log().mean()


def plain_pixel(prediction: Tensor, key: Tensor, positive: Tensor) -> Tensor:
    """Eqs. (3), (8), one group of eight videos after another, frame by frame, mean per clip."""
    found = []
    for at in range(0, B, 8):
        p, k, mask = prediction[at : at + 8], key[at : at + 8], positive[at : at + 8]
        everything = k.reshape(-1, D)
        for frame in range(PARTS):
            own = ((p[:, frame] @ k[:, frame].mT / TEMPERATURE).exp() * mask).sum(-1)
            all_of_them = (p[:, frame] @ everything.T / TEMPERATURE).exp().sum(-1)
            pixels = mask.any(-1)
            loss = torch.where(pixels, -(own / all_of_them).clamp_min(1e-30).log(), 0)
            found.append(loss.sum(-1) / pixels.sum(-1).clamp_min(1))
    return torch.cat(found).mean()


def plain_frame(prediction: Tensor, target: Tensor, source: Tensor, queue: Tensor) -> Tensor:
    """Eq. (10)."""
    found = []
    for i in range(PARTS):
        p = prediction[:, i]
        own = ((p * target[:, i]).sum(-1) / TEMPERATURE).exp()
        others = [target[:, j] for j in range(PARTS) if j != i] + [source[:, j] for j in range(PARTS)]
        negatives = sum(((p * other).sum(-1) / TEMPERATURE).exp() for other in others)
        found.append(-(own / (own + negatives + (p @ queue.T / TEMPERATURE).exp().sum(-1))).log())
    return torch.cat(found).mean()


def instance() -> tuple[Tensor, Callable[[], Tensor], Callable[[], Tensor]]:
    query, key, queue = unit(2 * B, D).requires_grad_(), unit(2 * B, D), unit(K, D)
    return (
        query,
        lambda: losses.instance_loss(query, key, queue, TEMPERATURE),
        lambda: plain_instance(query, key, queue),
    )


def pixel() -> tuple[Tensor, Callable[[], Tensor], Callable[[], Tensor]]:
    prediction, key = unit(B, PARTS, S, D).requires_grad_(), unit(B, PARTS, S, D)
    positive = torch.rand(B, S, S) < 0.05
    return (
        prediction,
        lambda: losses.pixel_loss(prediction, key, positive, TEMPERATURE, 8),
        lambda: plain_pixel(prediction, key, positive),
    )


def frame() -> tuple[Tensor, Callable[[], Tensor], Callable[[], Tensor]]:
    prediction, target, source = unit(2 * B, PARTS, D).requires_grad_(), unit(2 * B, PARTS, D), unit(2 * B, PARTS, D)
    queue = unit(K, D)
    return (
        prediction,
        lambda: losses.frame_infonce(prediction, target, source, queue, TEMPERATURE),
        lambda: plain_frame(prediction, target, source, queue),
    )


@pytest.mark.parametrize("loss", [instance, pixel, frame])
def test_loss_beside_its_equation(
    benchmark: Any, loss: Callable[[], tuple[Tensor, Callable[[], Tensor], Callable[[], Tensor]]], flops: Any
) -> None:
    learns, ours, plain = loss()
    torch.testing.assert_close(ours(), plain(), rtol=1e-3, atol=1e-3)
    plain_times = []

    def gradient(of: Callable[[], Tensor]) -> None:
        torch.autograd.grad(of(), learns)

    def between() -> None:
        began = time.perf_counter()
        gradient(plain)
        plain_times.append(time.perf_counter() - began)

    benchmark.extra_info["gflop"] = flops(lambda: gradient(ours))
    benchmark.pedantic(gradient, (ours,), setup=between, rounds=30, warmup_rounds=3)
    benchmark.extra_info["plain_over_ours"] = median(plain_times) / benchmark.stats["median"]
