"""Reading: a clip against the whole video, cropped and resized against whole frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fima import video


def a_clip(clips: Path) -> Path:
    return sorted((clips / "ucf101/UCF-101/YoYo").glob("*.avi"))[0]


def test_index(benchmark: Any, clips: Path) -> None:
    path = a_clip(clips)
    found = benchmark(video._decode_index, path)
    benchmark.extra_info["frames_per_second"] = found.frames / benchmark.stats["median"]
    assert found.frames > 40


def test_read_everything(benchmark: Any, clips: Path) -> None:
    assert len(benchmark(video.read_all, a_clip(clips))) > 40


def test_read_a_clip_at_native_size(benchmark: Any, clips: Path) -> None:
    assert len(benchmark(video.read, a_clip(clips), range(20, 52, 2))[0]) == 16


def test_read_a_clip_cropped_to_112(benchmark: Any, clips: Path) -> None:
    crop = video.Crop(40, 20, 240, 220, 112, tuple(range(16)))
    assert benchmark(video.read, a_clip(clips), range(20, 52, 2), [crop])[0].shape == (16, 112, 112, 3)
