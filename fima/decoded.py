"""Decoded videos in the cache, which all processes share: a small set is decoded once, not by every stage.

One file a video, mapped into memory: what several processes read lies there once.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import warnings
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from fima import loop, video

UNUSED_SECONDS = 86_400  # what nobody has asked for so long makes room


def folder() -> Path:
    """Where they lie: decoded/ in the cache."""
    return video.cache_folder() / "decoded"


def recall(path: Path) -> Tensor | None:
    """The frames [3, T, H, W] uint8 that `keep` left of a file that is as it was; None if there are none."""
    try:
        place = _place(path)
        frames = np.load(place, mmap_mode="c")  # pages of the file, until somebody writes to them
        os.utime(place)
    except (OSError, ValueError, EOFError):  # none, or half of one after a power cut
        return None
    return torch.from_numpy(frames)


def keep(path: Path, frames: Tensor, bound: int) -> Tensor | None:
    """Leave a video's frames to others.

    Args:
        path: the video.
        frames: [3, T, H, W] uint8, all of it.
        bound: bytes that all videos together may take on disk.

    Returns:
        The frames as others will see them; None if there is no room, or no place that can be written.
    """
    try:
        place = _place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _make_room(place.parent, frames.nbytes, bound):
            return None

        def save(part: Path) -> None:
            with part.open("wb") as file:
                np.save(file, frames.numpy(), allow_pickle=False)

        loop.write_atomically(place, save)
    except OSError as error:
        if not _told_unwritable.is_set():
            _told_unwritable.set()
            where = f"{folder()}: {error.strerror}; decoded videos are not kept"
            warnings.warn(f"{where}, set FIMA_CACHE to a writable folder", stacklevel=3)
        return None
    return recall(path)


_told_unwritable = threading.Event()


def _place(path: Path) -> Path:
    """Of a video by its name, size and time of change, as another release of the decoder would not see it."""
    stat = path.stat()
    identity = f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns} av {av.__version__}"
    return folder() / f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.npy"


def _make_room(folder: Path, needed: int, bound: int) -> bool:
    """Whether so many bytes fit, after those went that are long unused."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                stat = entry.stat()
            except FileNotFoundError:  # another process is at it
                continue
            found.append((stat.st_mtime, stat.st_size, entry.path))
    over = sum(size for _, size, _ in found) + needed - bound
    for used, size, path in sorted(found):
        if over <= 0 or time.time() - used < UNUSED_SECONDS:
            break
        Path(path).unlink(missing_ok=True)
        over -= size
    return over <= 0
