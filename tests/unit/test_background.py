"""BE and FAME beside plain loops over what their papers and published codes say."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fima import background
from fima.config import Augment, Settings

SEEDS = st.integers(0, 2**32 - 1)


def noise(seed: int, n: int = 2, frames: int = 3, size: int = 12) -> torch.Tensor:
    return torch.rand(n, 3, frames, size, size, generator=torch.Generator().manual_seed(seed))


# --- BE


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_a_frame_is_blended_over_its_own_clip(seed: int) -> None:
    clips, random = noise(seed), np.random.default_rng(seed)
    weight, frame = torch.from_numpy(random.uniform(0, 1, 2)), torch.from_numpy(random.integers(3, size=2))
    found = background.blend(clips, weight, frame)
    for n in range(2):
        for t in range(3):
            w = float(weight[n])
            expected = (1 - w) * clips[n, :, t] + w * clips[n, :, int(frame[n])]
            torch.testing.assert_close(found[n, :, t], expected)


def test_what_stands_still_is_not_changed_and_what_moves_moves_less() -> None:
    still = noise(0)[:, :, :1].expand(-1, -1, 4, -1, -1)
    half, last = torch.full((2,), 0.5), torch.tensor([3, 0])
    torch.testing.assert_close(background.blend(still, half, last), still)
    clips = noise(1)
    before, after = (x[:, :, 1:] - x[:, :, :-1] for x in (clips, background.blend(clips, half, last % 3)))
    torch.testing.assert_close(after, before / 2)
    assert torch.equal(background.blend(clips, torch.zeros(2), last % 3), clips)


def test_weights_are_uniform_up_to_the_largest_and_frames_anything() -> None:
    random = np.random.default_rng(0)
    drawn = [background.draw_static(Augment(static=0.3), 5, random) for _ in range(2000)]
    weights = np.array([weight for weight, _ in drawn])
    assert 0 <= weights.min() < 0.01 and 0.29 < weights.max() <= 0.3
    assert weights.mean() == pytest.approx(0.15, abs=0.01)
    assert np.bincount([frame for _, frame in drawn]).tolist() == pytest.approx([400] * 5, rel=0.15)


# --- FAME


def blurred(image: np.ndarray) -> np.ndarray:
    """A Gaussian over a square image, ends reflected, by its definition."""
    side = len(image)
    reach = max(1, int(0.1 * side) // 2)
    deviation = (2 * reach + 1) / 3
    offsets = range(-reach, reach + 1)
    kernel = [math.exp(-0.5 * (o / deviation) ** 2) for o in offsets]
    out = np.zeros_like(image)

    def inside(place: int) -> int:
        place = abs(place)
        return 2 * (side - 1) - place if place >= side else place

    for y in range(side):
        for x in range(side):
            for dy, a in zip(offsets, kernel, strict=True):
                for dx, b in zip(offsets, kernel, strict=True):
                    out[y, x] += a * b * image[inside(y + dy), inside(x + dx)]
    return out / sum(kernel) ** 2


def colour(red: float, green: float, blue: float) -> list[float]:
    """Coordinates in [0, 9], not yet rounded."""
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    angle = 2 * math.pi * hue
    return [
        9 * part for part in ((saturation * math.cos(angle) + 1) / 2, (saturation * math.sin(angle) + 1) / 2, value)
    ]


def level(clip: np.ndarray) -> np.ndarray:
    """What FAME ranks pixels by, of one clip [3, T, S, S], by loops."""
    side = clip.shape[-1]
    seed = blurred(np.abs(np.diff(clip, axis=1)).sum(0).mean(0)).ravel()
    mean = clip.mean(1).reshape(3, -1)
    colours = [[round(part) for part in colour(*mean[:, i])] for i in range(side * side)]
    order = sorted(range(side * side), key=lambda i: seed[i])
    rest, move = order[: side * side // 10], order[-(side * side // 2) :]
    odds = np.zeros(side * side)
    for i, own in enumerate(colours):
        fore = sum(colours[j] == own for j in move) / len(move)
        back = (1 + sum(colours[j] == own for j in rest)) / (1000 + len(rest))
        odds[i] = fore / (fore + back)
    return blurred(odds.reshape(side, side)).ravel()


@pytest.mark.parametrize("side", [12, 24])
def test_the_moving_foreground_is_that_of_loops(side: int) -> None:
    clips = noise(side, n=2, frames=4, size=side).double()
    upper = clips[:, :, :, : side // 2]  # half of the picture hardly moves; where nothing does, the choice is open
    clips[:, :, :, : side // 2] = upper[:, :, :1] + 0.01 * (upper - upper[:, :, :1])
    for kept in (0.1, 0.5):
        found = background.moving(clips, kept)
        for clip, mask in zip(clips, found, strict=True):
            expected = level(clip.numpy())
            assert int(mask.sum()) == int(kept * side * side)
            assert expected[mask.ravel().numpy()].min() >= expected[~mask.ravel().numpy()].max() - 1e-6


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_colours_are_those_of_hsv(rgb: tuple[int, int, int]) -> None:
    pixel = torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1) / 255
    found = int(background.binned(pixel))
    digits = found % 10, found // 10 % 10, found // 100
    for digit, exact in zip(digits, colour(*(part / 255 for part in rgb)), strict=True):
        assert abs(digit - exact) < 0.5 + 1e-6  # on the border of two bins either will do


def test_a_moving_square_is_cut_out_and_laid_over_the_next_clip() -> None:
    clips = torch.full((2, 3, 6, 32, 32), 0.5)
    clips[1] = 0.25
    for t in range(6):
        clips[0, 0, t, 8:16, 4 + 2 * t : 12 + 2 * t] = 1  # red, to the right
    mask = background.moving(clips[:1], 0.15)[0]
    inside = mask[8:16, 4:22].sum() / mask.sum()
    assert inside > 0.7  # of what is kept; all pixels alike would give 0.14
    merged = background.merge(clips, 0.15)
    assert torch.equal(merged[0][:, :, ~mask], clips[1][:, :, ~mask])
    assert torch.equal(merged[0][:, :, mask], clips[0][:, :, mask])
    other = background.moving(clips, 0.15)[1]
    assert torch.equal(merged[1][:, :, ~other], clips[0][:, :, ~other])


def test_a_clip_needs_another_one() -> None:
    with pytest.raises(ValueError, match=r"augment\.kept shows each clip on another one of the batch, got a batch of"):
        background.merge(noise(0, n=1), 0.5)


# --- settings


def test_what_is_off_is_in_no_identity() -> None:
    def active(**augment: float) -> dict[str, object]:
        found: dict[str, object] = Settings.model_validate({"losses": ["vv"], "augment": augment}).active()["augment"]
        return found

    assert not {"static", "kept"} & active().keys()
    assert active(static=0, kept=1) == active()
    assert active(static=0.3)["static"] == 0.3 and active(kept=0.5)["kept"] == 0.5
