"""Which frames make a sample: laws over lengths, clips and seeds (section 4.1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fima import clips
from fima.config import Clip

LAW = settings(deadline=None, max_examples=200)
LENGTHS = st.integers(1, 300)
CLIPS = st.builds(Clip, frames=st.integers(2, 20), stride=st.integers(1, 4), gap=st.integers(0, 80))
SEEDS = st.integers(0, 2**32)
PAPER = Clip()  # 16 frames at stride 2


def drawn(length: int, clip: Clip, seed: int) -> tuple[int, int]:
    return clips.windows(length, clip, np.random.default_rng(seed))


@LAW
@given(LENGTHS, CLIPS, SEEDS)
def test_windows_lie_in_the_video_and_keep_the_gap(length: int, clip: Clip, seed: int) -> None:
    first, second = drawn(length, clip, seed)
    last = clips.last_start(length, clip)
    assert 0 <= min(first, second) <= max(first, second) <= last
    assert abs(first - second) >= min(clip.gap, last)
    if last <= clip.gap:  # the farthest that the video allows
        assert sorted((first, second)) == [0, last]


def test_every_pair_of_starts_is_drawn_in_both_orders() -> None:
    clip = Clip(frames=4, stride=2, gap=2)  # starts 0 to 4
    pairs = {drawn(12, clip, seed) for seed in range(400)}
    assert pairs == {(a, b) for a in range(5) for b in range(5) if abs(a - b) >= 2}


@given(st.integers(1, 32), SEEDS)
def test_too_short_for_two_starts_gives_one_window_twice(length: int, seed: int) -> None:
    assert drawn(length, PAPER, seed) == (0, 0)


@LAW
@given(LENGTHS, CLIPS, SEEDS)
@example(31, PAPER, 0)  # the window is longer than the video, its 16 frames are not
def test_frames_are_a_stride_apart_and_loop_only_where_the_video_ends(length: int, clip: Clip, seed: int) -> None:
    start, _ = drawn(length, clip, seed)
    numbers = clips.clip_frames(start, length, clip)
    assert numbers.shape == (clip.frames,)
    assert ((numbers >= 0) & (numbers < length)).all()
    assert ((np.diff(numbers) - clip.stride) % length == 0).all()
    if length > (clip.frames - 1) * clip.stride:
        assert (np.diff(numbers) == clip.stride).all()


def test_a_shorter_video_starts_again() -> None:
    assert clips.clip_frames(0, 5, Clip(frames=6, stride=2)).tolist() == [0, 2, 4, 1, 3, 0]
    assert clips.part_frames(0, 3, Clip(frames=4, stride=2), 2).tolist() == [[0, 1, 2, 0], [1, 2, 0, 1]]
    assert clips.clip_frames(0, 1, PAPER).tolist() == [0] * 16


@LAW
@given(st.integers(100, 300), CLIPS, st.integers(1, 4), SEEDS)
def test_sub_clips_cut_the_window_into_equal_parts_at_stride_1(length: int, clip: Clip, parts: int, seed: int) -> None:
    window = clip.frames * clip.stride
    start, _ = drawn(length, clip, seed)
    if window // parts < 2:
        with pytest.raises(ValueError, match=f"a window of {window} frames cannot be cut into {parts} sub-clips"):
            clips.part_frames(start, length, clip, parts)
        return
    numbers = clips.part_frames(start, length, clip, parts)
    assert numbers.shape == (parts, window // parts)
    # In a row they are the window, but for a rest that is smaller than the number of parts.
    assert numbers.ravel().tolist() == list(range(start, start + window - window % parts))
    if window % parts == 0:
        assert set(clips.clip_frames(start, length, clip)) <= set(numbers.ravel())


def test_paper_takes_two_sub_clips_of_sixteen_frames() -> None:
    assert clips.part_frames(5, 100, PAPER, 2).tolist() == [list(range(5, 21)), list(range(21, 37))]


@LAW
@given(LENGTHS, CLIPS, st.integers(2, 12))
def test_uniform_clips_go_evenly_from_the_first_to_the_last_window(length: int, clip: Clip, count: int) -> None:
    found = clips.uniform_clips(length, clip, count)
    last = clips.last_start(length, clip)
    assert found.shape == (count, clip.frames)
    assert (found[0, 0], found[-1, 0]) == (0, last)
    assert np.abs(found[:, 0] - np.arange(count) * last / (count - 1)).max() <= 0.5
    for row in found:
        assert row.tolist() == clips.clip_frames(int(row[0]), length, clip).tolist()


@LAW
@given(LENGTHS, CLIPS)
def test_a_single_uniform_clip_is_central(length: int, clip: Clip) -> None:
    (row,) = clips.uniform_clips(length, clip, 1)
    assert abs(row[0] - clips.last_start(length, clip) / 2) <= 0.5


def test_ten_clips_of_a_paper_test_video() -> None:
    assert clips.uniform_clips(122, PAPER, 10)[:, 0].tolist() == list(range(0, 91, 10))
