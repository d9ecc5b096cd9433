"""Decoded videos in the cache: the same pixels, found by others, within a bound, and never in the way."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from fima import augment, decoded, video, views
from fima.datasets import Data, Record

SHAPE = (3, 6, 16, 16)
SIZE = 3 * 6 * 16 * 16


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIMA_CACHE", str(tmp_path / "cache"))
    decoded._told.clear()
    return tmp_path / "cache/decoded"


def filmed(path: Path, seed: int = 0) -> Path:
    video.write(path, np.random.default_rng(seed).integers(0, 255, (6, 16, 16, 3), np.uint8))
    return path


def frames(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 255, SHAPE, np.uint8))


def test_what_one_keeps_another_recalls(tmp_path: Path) -> None:
    path, one, another = filmed(tmp_path / "a.mp4"), decoded.Shared(10 * SIZE), decoded.Shared(10 * SIZE)
    assert one.recall(path, SHAPE) is None
    kept = one.keep(path, frames())
    assert kept is not None
    kept[:] = 0  # in its own memory
    found = another.recall(path, SHAPE)
    assert found is not None
    assert torch.equal(found, frames())
    assert decoded.Shared(0).recall(path, SHAPE) is decoded.Shared(0).keep(path, frames()) is None


def test_a_file_that_changed_is_another(tmp_path: Path) -> None:
    path, shared = filmed(tmp_path / "a.mp4"), decoded.Shared(10 * SIZE)
    shared.keep(path, frames())
    os.utime(path, ns=(1, 1))
    assert shared.recall(path, SHAPE) is None


def test_half_a_file_is_none(tmp_path: Path, cache: Path) -> None:
    path, shared = filmed(tmp_path / "a.mp4"), decoded.Shared(10 * SIZE)
    for size in (SIZE - 1, 20, 0):
        assert shared.keep(path, frames()) is not None
        (file,) = cache.iterdir()
        os.truncate(file, size)
        assert shared.recall(path, SHAPE) is None


def test_a_cache_of_others_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shared = filmed(tmp_path / "a.mp4"), decoded.Shared(10 * SIZE)
    shared.keep(path, frames())
    monkeypatch.setattr(os, "utime", Mock(side_effect=PermissionError))
    assert shared.recall(path, SHAPE) is not None


def test_the_bound_holds_and_what_is_long_unused_makes_room(tmp_path: Path, cache: Path) -> None:
    paths = [filmed(tmp_path / f"{name}.mp4", name) for name in range(4)]
    bound = int(2.5 * SIZE)
    shared = decoded.Shared(bound)
    assert [shared.keep(path, frames(n)) is not None for n, path in enumerate(paths[:3])] == [True, True, False]
    assert decoded.Shared(bound).keep(paths[2], frames(2)) is None  # what another left counts too
    long_ago = time.time() - decoded.UNUSED_SECONDS - 60
    for file in cache.iterdir():
        os.utime(file, (long_ago, long_ago))
    assert decoded.Shared(SIZE - 1).keep(paths[2], frames(2)) is None  # would never fit: nothing goes for it
    shared = decoded.Shared(bound)
    assert shared.recall(paths[1], SHAPE) is not None  # which is a use of it
    assert shared.keep(paths[2], frames(2)) is not None
    assert shared.keep(paths[3], frames(3)) is None
    assert [shared.recall(path, SHAPE) is not None for path in paths] == [False, True, True, False]


def test_what_is_long_unused_makes_room_for_each_that_follows(tmp_path: Path, cache: Path) -> None:
    """Each is smaller than what is written between two looks."""
    paths = [filmed(tmp_path / f"{name}.mp4", name) for name in range(6)]
    before = decoded.Shared(3 * SIZE)
    assert all(before.keep(path, frames(n)) is not None for n, path in enumerate(paths[:3]))
    long_ago = time.time() - decoded.UNUSED_SECONDS - 60
    for file in cache.iterdir():
        os.utime(file, (long_ago, long_ago))
    shared = decoded.Shared(3 * SIZE)
    assert all(shared.keep(path, frames(n)) is not None for n, path in enumerate(paths[3:]))
    assert len(list(cache.iterdir())) == 3


def test_a_disk_is_not_filled(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filmed(tmp_path / "a.mp4")
    left = SimpleNamespace(free=decoded.RESERVE + SIZE - 1)
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda where: left)
    assert decoded.Shared(10 * SIZE).keep(path, frames()) is None
    left.free += 1
    assert decoded.Shared(10 * SIZE).keep(path, frames()) is not None


def test_a_full_disk_is_said_once_and_leaves_no_drafts(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, shared = filmed(tmp_path / "a.mp4"), decoded.Shared(10 * SIZE)
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"cache/decoded: No space left on device; decoded videos are not kept"):
        for _ in range(2):
            assert shared.keep(path, frames()) is None
    assert full.call_count == 1
    assert list(cache.iterdir()) == []


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shared = filmed(tmp_path / "a.mp4"), decoded.Shared(10 * SIZE)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIMA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"file/decoded: .*; decoded videos are not kept for others"):
        assert shared.keep(path, frames()) is None
    assert shared.recall(path, SHAPE) is None


def test_many_videos_need_few_open_files(tmp_path: Path) -> None:
    """macOS allows 256 open files, and the demo has 360 videos."""
    shared, held = decoded.Shared(400 * SIZE), []
    first = filmed(tmp_path / "0.mp4")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = Path("/proc/self/fd")
    taken = max(int(file.name) for file in listed.iterdir()) if listed.is_dir() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 20, limits[1]))
    try:
        for number in range(60):
            path = tmp_path / f"{number}.mp4"
            if number:
                path.write_bytes(first.read_bytes())
            assert shared.keep(path, frames(number)) is not None
            held.append(shared.recall(path, SHAPE))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for number, found in enumerate(held):
        assert found is not None
        assert torch.equal(found, frames(number))


def pixels(data: Data, path: Path, answers: Any = None) -> list[int]:
    """Two frames of a video and how often it was decoded for them, in a process of its own."""
    read_all = video.read_all = Mock(wraps=video.read_all)  # type: ignore[assignment]
    try:
        footage = views.Footage(data)
        for _ in range(2):
            (clip,) = footage.read(Record(path, 0, "train", "a"), [np.array([4, 1])], [augment.centre_crop(16, 16)], 16)
        found = [read_all.call_count, *clip.flatten().tolist()]
    finally:
        video.read_all = read_all._mock_wraps
    if answers is not None:
        answers.put(found)
    return found


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_other_processes_read_the_same_pixels_without_decoding(tmp_path: Path, cache: Path, cache_gib: float) -> None:
    path = filmed(tmp_path / "a.mp4")
    expected = video.read_all(path)[[4, 1]].permute(3, 0, 1, 2).flatten().tolist()
    data = Data(name="folder", root=tmp_path, decoded="memory", cache_gib=cache_gib)
    assert pixels(data, path) == [1, *expected]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=pixels, args=(data, path, answers))
    process.start()
    assert answers.get() == [0 if cache_gib else 1, *expected]
    process.join()
    assert cache.exists() == bool(cache_gib)


def keep_often(path: Path, seed: int) -> None:
    for _ in range(40):
        assert decoded.Shared(10 * SIZE).keep(path, frames(seed)) is not None


def test_those_who_write_the_same_at_once_leave_one_whole_file(tmp_path: Path, cache: Path) -> None:
    path = filmed(tmp_path / "a.mp4")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=keep_often, args=(path, 0)) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = decoded.Shared(10 * SIZE).recall(path, SHAPE)
        assert found is None or torch.equal(found, frames())
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1
