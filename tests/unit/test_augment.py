"""Geometry against the recorded boxes, pixels and colours against torchvision (appendix A.3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as vision

from fima import augment, geometry
from fima.augment import Crop
from fima.config import Augment

LAW = settings(deadline=None, max_examples=60)
SIDES = st.integers(4, 200)
SEEDS = st.integers(0, 2**32)
PLAIN = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, BLUR = range(6)


def drawn(**changed: float) -> torch.Tensor:
    """[1, 6] photometry that leaves all but the named numbers alone."""
    places = {"brightness": 0, "contrast": 1, "saturation": 2, "hue": 3, "gray": 4, "blur": 5}
    values = list(PLAIN)
    for name, value in changed.items():
        values[places[name]] = value
    return torch.tensor([values])


def still(size: int = 12, frames: int = 3) -> torch.Tensor:
    """[1, 3, T, size, size] one muted picture for T frames: nothing is clamped on the way."""
    return (0.35 + 0.3 * torch.rand(1, 3, 1, size, size)).expand(-1, -1, frames, -1, -1).contiguous()


def colours(clips: torch.Tensor, numbers: torch.Tensor, low: float = 0.0) -> torch.Tensor:
    """Photometry with the normalisation taken back."""
    out = augment.photometry(clips, numbers, low)
    shape = (1, 3, 1, 1, 1)
    return out * torch.tensor(augment.STD).view(shape) + torch.tensor(augment.MEAN).view(shape)


# --- geometry


@LAW
@given(SIDES, SIDES, st.integers(4, 64), SEEDS)
def test_the_recorded_box_says_where_each_pixel_was(height: int, width: int, size: int, seed: int) -> None:
    crop = augment.draw_crop(height, width, Augment(), np.random.default_rng(seed))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frame = torch.stack([x, y, torch.zeros_like(x)]).to(torch.uint8)  # each pixel is painted with its place
    seen = augment.crop_resize(frame[None, :, None], [crop], size)[0, :2, 0] * 255
    box = torch.tensor([crop.box(height, width)], dtype=torch.float64)
    told = geometry.bin_centres(box, size, size)[0].T.view(2, size, size)
    for axis, length, cut in ((0, width, crop.x1 - crop.x0), (1, height, crop.y1 - crop.y0)):
        # Boxes join the centres of the outermost pixels, half a pixel inside the crop; at its border the
        # antialiasing triangle is cut off, which moves its centre by a tenth of its reach.
        slack = 0.5 + 0.1 * max(1, cut / size)
        assert (seen[axis] - told[axis] * (length - 1)).abs().max() < slack + 0.01


@LAW
@given(SIDES, SIDES, SEEDS)
def test_a_flip_swaps_the_sides_of_the_box_and_mirrors_the_view(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = augment.draw_crop(height, width, Augment(flip=0), rng)
    mirrored = Crop(crop.x0, crop.y0, crop.x1, crop.y1, True)
    x0, y0, x1, y1 = crop.box(height, width)
    assert 0 <= x0 <= x1 <= 1
    assert 0 <= y0 <= y1 <= 1
    assert mirrored.box(height, width) == (x1, y0, x0, y1)
    frames = torch.from_numpy(rng.integers(0, 256, (1, 3, 1, height, width), np.uint8))
    plain, flipped = (augment.crop_resize(frames, [c], 9) for c in (crop, mirrored))
    torch.testing.assert_close(flipped, plain.flip(-1))


def test_the_whole_frame_is_the_unit_box() -> None:
    assert Crop(0, 0, 30, 20, False).box(20, 30) == (0, 0, 1, 1)
    assert Crop(0, 0, 30, 20, True).box(20, 30) == (1, 0, 0, 1)


@LAW
@given(SIDES, SIDES, st.integers(4, 96), SEEDS)
def test_crop_resize_is_torchvisions(height: int, width: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = augment.draw_crop(height, width, Augment(flip=0), rng)
    frames = torch.from_numpy(rng.integers(0, 256, (1, 3, 2, height, width), np.uint8))
    expected = vision.resized_crop(
        frames[0].transpose(0, 1) / 255, crop.y0, crop.x0, crop.y1 - crop.y0, crop.x1 - crop.x0, [size, size]
    )
    out = augment.crop_resize(frames, [crop], size)
    assert out.shape == (1, 3, 2, size, size)
    torch.testing.assert_close(out[0].transpose(0, 1), expected, atol=5e-5, rtol=0)


def test_every_clip_of_a_batch_gets_its_own_crop() -> None:
    frames = torch.randint(0, 256, (3, 3, 2, 20, 30), dtype=torch.uint8)
    crops = [Crop(0, 0, 10, 10, False), Crop(5, 3, 30, 20, True), augment.centre_crop(20, 30)]
    together = augment.crop_resize(frames, crops, 8)
    alone = [augment.crop_resize(frames[i : i + 1], crops[i : i + 1], 8) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@settings(deadline=None, max_examples=300)
@given(st.integers(16, 400), st.integers(16, 400), st.floats(0.05, 1), st.floats(0, 1), SEEDS)
def test_crops_keep_area_and_ratio(height: int, width: int, least: float, more: float, seed: int) -> None:
    most = least + more * (1 - least)
    limits = Augment(scale_min=least, scale_max=min(1.0, most))
    crop = augment.draw_crop(height, width, limits, np.random.default_rng(seed))
    w, h = crop.x1 - crop.x0, crop.y1 - crop.y0
    assert 0 <= crop.x0 < crop.x1 <= width
    assert 0 <= crop.y0 < crop.y1 <= height
    if crop == augment.centre_crop(height, width, crop.flip):  # nothing that was drawn fitted into the frame
        assert w == h == min(height, width)
        return
    assert (w + 0.5) * (h + 0.5) >= limits.scale_min * height * width  # sides are rounded
    assert (w - 0.5) * (h - 0.5) <= limits.scale_max * height * width
    assert (w + 0.5) / (h - 0.5) >= 3 / 4
    assert (w - 0.5) / (h + 0.5) <= 4 / 3


def test_crops_spread_over_the_frame_and_their_bounds() -> None:
    crops = [augment.draw_crop(240, 320, Augment(), np.random.default_rng(seed)) for seed in range(400)]
    share = np.array([(c.x1 - c.x0) * (c.y1 - c.y0) / (240 * 320) for c in crops])
    ratio = np.array([(c.x1 - c.x0) / (c.y1 - c.y0) for c in crops])
    assert share.min() < 0.23
    assert share.max() > 0.9
    assert ratio.min() < 0.78
    assert ratio.max() > 1.28
    assert 160 < sum(c.flip for c in crops) < 240
    assert min(c.x0 for c in crops) == 0
    assert max(c.x1 for c in crops) == 320


def test_a_frame_in_which_no_draw_fits_gives_its_central_square() -> None:
    narrow = augment.draw_crop(40, 400, Augment(scale_min=0.9, flip=0), np.random.default_rng(0))
    assert narrow == Crop(180, 0, 220, 40, False)


# --- photometry


@pytest.mark.parametrize(("probability", "happens"), [(0.0, False), (1.0, True)])
def test_probabilities_of_photometry(probability: float, happens: bool) -> None:
    chosen = Augment(jitter=probability, grayscale=probability, blur=probability)
    for seed in range(20):
        numbers = augment.draw_photometry(chosen, np.random.default_rng(seed))
        assert (numbers[:4] != PLAIN[:4]).all() == happens
        assert numbers[GRAY] == happens
        assert (numbers[BLUR] > 0) == happens
        assert augment.draw_photometry(chosen, np.random.default_rng(seed), blur=False)[BLUR] == 0


def test_photometry_fills_its_ranges_at_the_papers_rates() -> None:
    rng = np.random.default_rng(0)
    numbers = np.stack([augment.draw_photometry(Augment(), rng) for _ in range(4000)])
    jittered, blurred = numbers[:, BRIGHTNESS] != 1, numbers[:, BLUR] > 0
    for share in (jittered.mean(), numbers[:, GRAY].mean(), blurred.mean()):
        assert share == pytest.approx(0.2, abs=0.02)
    for column, (low, high) in zip(
        numbers[jittered, :4].T, [(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)], strict=True
    ):
        assert low <= column.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < column.max() <= high
    assert 0.1 <= numbers[blurred, BLUR].min() < 0.2 < 1.9 < numbers[blurred, BLUR].max() <= 2


def test_one_probability_does_not_shift_what_else_is_drawn() -> None:
    some, all_on = Augment(jitter=1, grayscale=0, blur=0), Augment(jitter=1, grayscale=1, blur=1)
    one, other = (augment.draw_photometry(chosen, np.random.default_rng(3)) for chosen in (some, all_on))
    assert one[:4].tolist() == other[:4].tolist()


def test_one_colour_map_for_all_frames_of_a_clip_and_another_for_each_clip() -> None:
    # The frames differ in brightness, but one pixel of each holds the same colour: it must stay the same.
    clip = torch.rand(3, 4, 8, 8) * torch.linspace(0.3, 1, 4)[:, None, None]
    clip[:, :, 2, 5] = torch.tensor([0.5, 0.4, 0.6])[:, None]
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(np.stack([augment.draw_photometry(Augment(jitter=1, blur=0), rng) for _ in range(6)]))
    out = augment.photometry(clip.expand(6, -1, -1, -1, -1), numbers)[..., 2, 5]
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out))
    assert len({tuple(row) for row in out[:, :, 0].tolist()}) == 6


def test_nothing_drawn_is_the_normalisation_alone() -> None:
    clips = torch.rand(2, 3, 4, 6, 7)
    torch.testing.assert_close(augment.photometry(clips, torch.tensor([PLAIN, PLAIN])), augment.normalise(clips))
    raw = 2 * clips - 1  # a raw frame difference keeps what lies below 0
    torch.testing.assert_close(augment.photometry(raw, torch.tensor([PLAIN, PLAIN]), -1), augment.normalise(raw))


def test_normalisation_has_the_kinetics_mean_and_deviation() -> None:
    mean = torch.tensor([0.43216, 0.394666, 0.37645]).view(1, 3, 1, 1, 1)
    std = torch.tensor([0.22803, 0.22145, 0.216989]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(augment.normalise(mean), torch.zeros(1, 3, 1, 1, 1))
    torch.testing.assert_close(augment.normalise(mean + std), torch.ones(1, 3, 1, 1, 1))


@pytest.mark.parametrize("factor", [0.6, 0.9, 1.4])
def test_brightness_contrast_and_saturation_are_torchvisions(factor: float) -> None:
    clips = still()
    frames = clips[0].transpose(0, 1)
    for name, function in {
        "brightness": vision.adjust_brightness, "contrast": vision.adjust_contrast,
        "saturation": vision.adjust_saturation,
    }.items():  # fmt: skip
        out = colours(clips, drawn(**{name: factor}))[0].transpose(0, 1)
        torch.testing.assert_close(out, function(frames, factor), atol=2e-4, rtol=0, msg=name)


def test_jitter_has_one_order_brightness_contrast_saturation() -> None:
    clips = still()
    expected = vision.adjust_brightness(clips[0].transpose(0, 1), 1.2)
    expected = vision.adjust_saturation(vision.adjust_contrast(expected, 0.7), 1.3)
    out = colours(clips, drawn(brightness=1.2, contrast=0.7, saturation=1.3))[0].transpose(0, 1)
    torch.testing.assert_close(out, expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize("hue", [0.0, 0.07])
def test_grayscale_is_torchvisions_and_ends_hue_and_saturation(hue: float) -> None:
    clips = still()
    out = colours(clips, drawn(gray=1, hue=hue, saturation=1 + hue))[0].transpose(0, 1)
    expected = vision.rgb_to_grayscale(clips[0].transpose(0, 1), num_output_channels=3)
    torch.testing.assert_close(out, expected, atol=2e-4, rtol=0)


def test_hue_turns_the_chroma_plane_of_yiq_where_torchvision_turns_hsv() -> None:
    def matrix(turns: float) -> torch.Tensor:
        return augment.colour_matrix(drawn(hue=turns))[0]

    yiq, colour = torch.tensor(augment.YIQ), torch.rand(3, 50)
    before, after = yiq @ colour, yiq @ matrix(0.1) @ colour
    torch.testing.assert_close(after[0], before[0])  # luma stays
    turned = torch.complex(before[1], before[2]) * torch.polar(torch.tensor(1.0), torch.tensor(0.2 * math.pi))
    torch.testing.assert_close(torch.complex(after[1], after[2]), turned)
    torch.testing.assert_close(matrix(0.1) @ torch.full((3,), 0.4), torch.full((3,), 0.4))  # gray stays
    torch.testing.assert_close(matrix(0.04) @ matrix(0.06), matrix(0.1))
    torch.testing.assert_close(matrix(1.0), torch.eye(3))
    picture = torch.rand(3, 8, 8)
    ours = (matrix(0.1) @ picture.flatten(1)).view_as(picture).clamp(0, 1)
    assert min((ours - vision.adjust_hue(picture, turns)).abs().max() for turns in (0.1, -0.1)) > 0.1


@pytest.mark.parametrize(("size", "kernel"), [(224, 23), (112, 11), (48, 5), (8, 3)])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_torchvisions_with_a_kernel_of_a_tenth_of_the_view(size: int, kernel: int, sigma: float) -> None:
    clips = torch.rand(1, 3, 1, size, size)
    out = colours(clips, drawn(blur=sigma))[0, :, 0]
    expected = vision.gaussian_blur(clips[0, :, 0], [kernel, kernel], [sigma, sigma])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_blur_touches_only_the_clips_that_drew_it_and_any_shape() -> None:
    clips = torch.rand(3, 3, 2, 20, 40)
    numbers = torch.cat([drawn(), drawn(blur=1.5), drawn()])
    out = colours(clips, numbers)
    torch.testing.assert_close(out[[0, 2]], clips[[0, 2]])
    # Kernels 3 high and 5 wide: a tenth of each side.
    expected = vision.gaussian_blur(clips[1].transpose(0, 1), [5, 3], [1.5, 1.5]).transpose(0, 1)
    torch.testing.assert_close(out[1], expected, atol=1e-5, rtol=0)


# --- frame difference


@pytest.mark.parametrize("frames", [2, 5])
def test_difference_keeps_the_length_and_repeats_the_last(frames: int) -> None:
    clips = torch.rand(2, 3, frames, 4, 4)
    before = clips.clone()
    raw, half = augment.difference(clips, "raw"), augment.difference(clips, "half")
    assert torch.equal(clips, before)
    assert raw.shape == clips.shape
    for t in range(frames - 1):
        assert torch.equal(raw[:, :, t], clips[:, :, t + 1] - clips[:, :, t])
    assert torch.equal(raw[:, :, -1], raw[:, :, -2])
    torch.testing.assert_close(half, (raw + 1) / 2)


def test_stillness_is_mid_gray_or_zero() -> None:
    assert (augment.difference(still(), "half") == 0.5).all()
    assert (augment.difference(still(), "raw") == 0).all()
