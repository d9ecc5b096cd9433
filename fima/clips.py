"""Which frames make a sample: two windows, their sub-clips, and uniform clips for tests (sections 3.3, 4.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fima.config import Clip

Frames = NDArray[np.int64]


def last_start(length: int, clip: Clip) -> int:
    """The last frame at which a window of frames x stride raw frames can start; 0 if the video is shorter."""
    return max(0, length - clip.frames * clip.stride)


def windows(length: int, clip: Clip, rng: np.random.Generator) -> tuple[int, int]:
    """Random starts of the source and the target window, at least `clip.gap` raw frames apart.

    A video too short for the gap gets its first and its last window; one too short for two windows gets one twice.

    Args:
        length: raw frames of the video.
        clip: frames, stride and gap.
        rng: source of randomness.
    """
    last = last_start(length, clip)
    gap = min(clip.gap, last)
    first, second = np.sort(rng.integers(0, last - gap, size=2, endpoint=True))
    pair = (int(first), int(second) + gap)
    return pair if rng.random() < 0.5 else pair[::-1]


def clip_frames(start: int, length: int, clip: Clip) -> Frames:
    """Raw frame numbers [T] of a clip; a video that ends too early starts again."""
    return (start + clip.stride * np.arange(clip.frames)) % length


def part_frames(start: int, length: int, clip: Clip, parts: int) -> Frames:
    """Raw frame numbers [T', t] of the window cut into T' equal sub-clips at stride 1 (the keys of L_Fra).

    Raises:
        ValueError: the window cannot be cut into so many parts of two frames or more.
    """
    window = clip.frames * clip.stride
    if window // parts < 2:
        raise ValueError(f"a window of {window} frames cannot be cut into {parts} sub-clips of two frames or more")
    part = window // parts
    return (start + np.arange(parts * part).reshape(parts, part)) % length


def uniform_clips(length: int, clip: Clip, count: int) -> Frames:
    """Raw frame numbers [count, T] of clips spread evenly from the first to the last frame; one clip is central."""
    last = last_start(length, clip)
    starts = np.linspace(0, last, count) if count > 1 else np.array([last / 2])
    return np.stack([clip_frames(int(start), length, clip) for start in np.rint(starts)])
