"""Laws of the losses that hold for every input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fima import foreground, geometry, losses
from fima.negatives import Queue


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def test_identical_keys_give_log_of_their_number() -> None:
    query, key = unit(3, 8), unit(1, 8)
    loss = losses.instance_loss(query, key.expand(3, 8), key.expand(10, 8), 0.1)
    assert float(loss) == pytest.approx(math.log(11), rel=1e-6)


def test_no_positive_is_an_exact_differentiable_zero() -> None:
    prediction = unit(2, 2, 6, 8).requires_grad_()
    loss = losses.pixel_loss(prediction, unit(2, 2, 6, 8), torch.zeros(2, 6, 6, dtype=torch.bool), 0.1, 8)
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad is not None
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


@pytest.mark.parametrize("average", ["clip", "pixel"])
def test_low_temperature_stays_finite(average: str) -> None:
    prediction = unit(2, 2, 6, 8).requires_grad_()
    loss = losses.pixel_loss(prediction, unit(2, 2, 6, 8), torch.rand(2, 6, 6) < 0.3, 0.01, 8, None, average)
    loss.backward()
    assert prediction.grad is not None
    assert loss.isfinite()
    assert prediction.grad.isfinite().all()


def test_order_of_negatives_is_irrelevant() -> None:
    query, key, queue = unit(3, 8), unit(3, 8), unit(12, 8)
    shuffled = losses.instance_loss(query, key, queue[torch.randperm(12)], 0.1)
    assert float(losses.instance_loss(query, key, queue, 0.1)) == pytest.approx(float(shuffled), rel=1e-6)


def test_flipping_both_views_only_permutes_pixels() -> None:
    source = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    target = torch.tensor([[0.2, 0.1, 0.9, 0.8]])
    flip = [2, 1, 0, 3]
    plain = geometry.near(source, target, 3, 4, 0.7).view(3, 4, 3, 4)
    flipped = geometry.near(source[:, flip], target[:, flip], 3, 4, 0.7).view(3, 4, 3, 4)
    assert plain.any()
    assert torch.equal(flipped, plain.flip(1, 3))


def test_a_view_is_nearest_to_itself() -> None:
    box = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    # Neighbours of a square-ish bin lie at least 0.6 diagonals away, so T = 0.5 leaves the identity.
    assert torch.equal(geometry.near(box, box, 4, 4, 0.5)[0], torch.eye(16, dtype=torch.bool))


def test_constant_map_keeps_all_pixels() -> None:
    assert foreground.top_portion(torch.full((2, 49), 3.0), 0.3).all()


def test_half_of_forty_nine_pixels_is_twenty_four() -> None:
    assert foreground.top_portion(torch.randn(5, 49), 0.5).sum(-1).tolist() == [24] * 5


@pytest.mark.parametrize("pushes", [[3, 3, 3], [5, 4], [7, 2], [20, 3], [10]])
def test_queue_is_first_in_first_out(pushes: list[int]) -> None:
    queue, size = Queue(7, 1), 7
    history = queue.keys[:, 0].tolist()
    count = 0
    for n in pushes:
        new = torch.arange(count, count + n, dtype=torch.float32)
        queue.push(new[:, None])
        history += new.tolist()
        count += n
    assert sorted(queue.keys[:, 0].tolist()) == sorted(history[-size:])
    assert int(queue.pointer) == count % size
    # Reading from the pointer on gives the order of arrival.
    order = torch.roll(queue.keys[:, 0], -int(queue.pointer)).tolist()
    assert order == history[-size:]
