"""The motion decoder: who sees whom, where it starts, how large it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fima.config import Decoder
from fima.decoder import MotionDecoder, sinusoid

FRAMES, PIXELS, CHANNELS, WIDTH = 3, 6, 10, 8
CPU = torch.device("cpu")


def decoder(channels: int = CHANNELS, **settings: Any) -> MotionDecoder:
    made = MotionDecoder(channels, Decoder(**{"width": WIDTH, "heads": 2, "dropout": 0, **settings}))
    with torch.no_grad():
        made.cls.normal_()  # a trained token
    return made


def maps(channels: int = CHANNELS) -> tuple[Tensor, Tensor]:
    return torch.randn(FRAMES, PIXELS, channels), torch.randn(FRAMES, PIXELS, channels)


def decoded(made: MotionDecoder, pixels: Tensor | None, memory: Tensor, cls: bool) -> list[Tensor]:
    return [out for out in made(pixels, memory, cls) if out is not None]


def test_a_query_does_not_see_the_other_queries() -> None:
    made, (pixels, memory) = decoder(), maps()
    both, token = decoded(made, pixels, memory, True)
    changed = pixels.clone()
    changed[:, 2] = 7.0
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(made(changed, memory, True)[0][:, others], both[:, others])
    assert not torch.allclose(made(changed, memory, True)[0][:, 2], both[:, 2])
    # The class token is one more query: with it or without it, with pixels or alone, nothing else moves.
    torch.testing.assert_close(made(changed, memory, True)[1], token)
    torch.testing.assert_close(decoded(made, pixels, memory, False), [both])
    torch.testing.assert_close(decoded(made, None, memory, True), [token])


def test_without_positions_queries_follow_a_permutation_and_memory_is_a_set() -> None:
    made, (pixels, memory), order = decoder(position=0.0), maps(), torch.randperm(PIXELS)
    both, token = decoded(made, pixels, memory, True)
    torch.testing.assert_close(decoded(made, pixels[:, order], memory[:, order.flip(0)], True), [both[:, order], token])


def test_with_positions_memory_is_no_set() -> None:
    made, (pixels, memory) = decoder(), maps()
    assert not torch.allclose(made(pixels, memory, False)[0], made(pixels, memory.flip(1), False)[0])


def test_frames_do_not_see_each_other() -> None:
    made, (pixels, memory) = decoder(), maps()
    whole = decoded(made, pixels, memory, True)
    for frame in range(FRAMES):
        alone = decoded(made, pixels[frame, None], memory[frame, None], True)
        torch.testing.assert_close(alone, [part[frame, None] for part in whole])


def test_absent_outputs_are_none() -> None:
    made, (pixels, memory) = decoder(), maps()
    assert made(pixels, memory, False)[1] is None
    assert made(None, memory, True)[0] is None


def test_class_token_starts_at_zero() -> None:
    assert torch.equal(MotionDecoder(CHANNELS, Decoder()).cls, torch.zeros(512))


@pytest.mark.parametrize("memory_norm", [False, True])
def test_identity_start_gives_pixels_back(memory_norm: bool) -> None:
    pixels, memory = maps()
    made = decoder(width=12, init="identity", position=0.0, memory_norm=memory_norm)
    both, token = decoded(made, pixels, memory, True)
    torch.testing.assert_close(both, pixels, rtol=0, atol=0)
    torch.testing.assert_close(token, made.cls[:CHANNELS].expand(FRAMES, -1), rtol=0, atol=0)
    # A width below C keeps the first channels.
    narrow = decoder(init="identity", position=0.0)(pixels, memory, False)[0]
    torch.testing.assert_close(narrow[..., :WIDTH], pixels[..., :WIDTH], rtol=0, atol=0)
    assert not narrow[..., WIDTH:].any()


def test_identity_start_can_learn() -> None:
    pixels, memory = maps()
    made = decoder(init="identity")
    loss = sum(out.square().sum() for out in decoded(made, pixels, memory, True))
    assert isinstance(loss, Tensor)
    loss.backward()
    for name in ("blocks.0.attention.out_proj.weight", "blocks.1.narrow.weight", "cls", "enter.weight"):
        grad = made.get_parameter(name).grad
        assert grad is not None and grad.any(), name


def test_positions_are_those_of_vaswani() -> None:
    table = sinusoid(PIXELS, WIDTH, CPU)
    for place in range(PIXELS):
        for i in range(0, WIDTH, 2):
            angle = place / 10000 ** (i / WIDTH)
            assert table[place, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[place, i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_position_is_a_factor(factor: float) -> None:
    # Through identity layers a query comes back with its position added.
    pixels, memory = maps()
    found = decoder(width=CHANNELS, init="identity", position=factor)(pixels, memory, False)[0]
    torch.testing.assert_close(found - pixels, (factor * sinusoid(PIXELS, CHANNELS, CPU)).expand_as(pixels))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 4])
def test_size_follows_depth_and_width_but_not_heads(depth: int, heads: int) -> None:
    made = decoder(depth=depth, heads=heads)
    d, c = WIDTH, CHANNELS
    outer, feedforward, attention, norms = c * d + d + d * c + c, 2 * (d * d + d), 4 * (d * d + d), 4 * d
    counted = sum(parameter.numel() for parameter in made.paper_parameters())
    assert counted == outer + depth * feedforward
    assert sum(parameter.numel() for parameter in made.parameters()) == counted + depth * (attention + norms) + d
    assert all(block.attention.num_heads == heads for block in made.blocks)


@pytest.mark.parametrize("memory_norm", [False, True])
def test_gradients_reach_queries_memory_token_and_every_weight(memory_norm: bool) -> None:
    made, (pixels, memory) = decoder(memory_norm=memory_norm), maps()
    pixels.requires_grad_(), memory.requires_grad_()
    both, token = decoded(made, pixels, memory, True)
    (both.square().sum() + token.square().sum()).backward()
    for name, tensor in [("pixels", pixels), ("memory", memory), *made.named_parameters()]:
        assert tensor.grad is not None and tensor.grad.any(), name


def test_dropout_acts_in_training_only() -> None:
    made, (pixels, memory) = decoder(dropout=0.5), maps()
    assert not torch.equal(made(pixels, memory, False)[0], made(pixels, memory, False)[0])
    made.eval()
    assert torch.equal(made(pixels, memory, False)[0], made(pixels, memory, False)[0])


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({"width": 10, "heads": 4}, "width must be a multiple of heads, got width 10 and heads 4"),
        ({"width": 9, "heads": 3}, "width must be even for sinusoidal positions, got 9"),
    ],
)
def test_impossible_widths_are_refused(settings: dict[str, int], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        Decoder.model_validate(settings)
