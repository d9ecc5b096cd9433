"""Decoded videos in the cache: the same pixels, found by others, within a bound."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from fima import augment, decoded, video, views
from fima.datasets import Data, Record

SIZE = 3 * 6 * 16 * 16


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/decoded"


def filmed(path: Path, seed: int = 0) -> Path:
    video.write(path, np.random.default_rng(seed).integers(0, 255, (6, 16, 16, 3), np.uint8))
    return path


def frames(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 255, (3, 6, 16, 16), np.uint8))


def test_what_one_keeps_another_recalls(tmp_path: Path) -> None:
    path = filmed(tmp_path / "a.mp4")
    assert decoded.recall(path) is None
    kept = decoded.keep(path, frames(), 10 * SIZE)
    assert kept is not None
    kept[:] = 0  # of this process alone
    found = decoded.recall(path)
    assert found is not None
    assert torch.equal(found, frames())


def test_a_file_that_changed_is_another(tmp_path: Path) -> None:
    path = filmed(tmp_path / "a.mp4")
    decoded.keep(path, frames(), 10 * SIZE)
    os.utime(path, ns=(1, 1))
    assert decoded.recall(path) is None


def test_half_a_file_is_none(tmp_path: Path, cache: Path) -> None:
    path = filmed(tmp_path / "a.mp4")
    decoded.keep(path, frames(), 10 * SIZE)
    (file,) = cache.iterdir()
    for size in (file.stat().st_size - 1, 20, 0):
        os.truncate(file, size)
        assert decoded.recall(path) is None
    assert decoded.keep(path, frames(), 10 * SIZE) is not None


def test_the_bound_holds_and_what_is_long_unused_makes_room(tmp_path: Path, cache: Path) -> None:
    paths = [filmed(tmp_path / f"{name}.mp4", name) for name in range(4)]
    bound = int(2.5 * SIZE)
    for number, path in enumerate(paths[:3]):
        assert (decoded.keep(path, frames(number), bound) is None) == (number == 2)
    long_ago = time.time() - decoded.UNUSED_SECONDS - 60
    for file in cache.iterdir():
        os.utime(file, (long_ago, long_ago))
    assert decoded.recall(paths[1]) is not None  # which is a use of it
    assert decoded.keep(paths[2], frames(2), bound) is not None
    assert decoded.keep(paths[3], frames(3), bound) is None
    assert [decoded.recall(path) is not None for path in paths] == [False, True, True, False]


def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filmed(tmp_path / "a.mp4")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIMA_CACHE", str(tmp_path / "file"))
    decoded._told_unwritable.clear()
    with pytest.warns(UserWarning, match=r"file/decoded: .*; decoded videos are not kept, set FIMA_CACHE") as caught:
        for _ in range(2):
            assert decoded.keep(path, frames(), SIZE * 2) is None
    assert len(caught) == 1
    assert decoded.recall(path) is None


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_another_process_reads_the_same_pixels_without_decoding(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, cache_gib: float
) -> None:
    path = filmed(tmp_path / "a.mp4")
    plain = video.read_all(path)
    read_all = Mock(wraps=video.read_all)
    monkeypatch.setattr(video, "read_all", read_all)
    data = Data(name="folder", root=tmp_path, decoded="memory", cache_gib=cache_gib)
    for _ in range(2):
        footage = views.Footage(data)
        for _ in range(2):
            (clip,) = footage.read(Record(path, 0, "train", "a"), [np.array([4, 1])], [augment.centre_crop(16, 16)], 16)
            assert torch.equal(clip, plain[[4, 1]].permute(3, 0, 1, 2))
    assert read_all.call_count == (1 if cache_gib else 2)
    assert cache.exists() == bool(cache_gib)
