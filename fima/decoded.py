"""Decoded videos in the cache, which all processes share: a small set is decoded once, not by every stage.

One file a video, mapped into memory: what several processes read lies there once. It only saves time: whatever is wrong
with it, videos are decoded as without it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import av
import torch
from torch import Tensor

from fima import indices, loop

FORMAT = 1  # of the files, and of what `fima.views.Footage` puts into them
UNUSED_SECONDS = 7 * 86_400  # what nobody has opened for so long makes room
RESERVE = 2**30  # bytes of the disk that are left to others
LOOK = 2**25  # bytes that a process writes before it looks again at what others wrote
Shape = tuple[int, int, int, int]


class Shared:
    """The decoded videos that a process reads from the cache and leaves there.

    Args:
        bound: bytes that all of them may take on disk, those of others too; 0: nothing is read or left.
    """

    def __init__(self, bound: int) -> None:
        self.bound, self._open = bound, bound > 0
        self._taken = 0  # bytes, as far as this process knows
        self._written = float("inf")  # bytes that it wrote since it last looked at those of others

    def recall(self, path: Path, shape: Shape) -> Tensor | None:
        """The frames, [3, T, H, W] uint8, that somebody left of a file that is as it was; None if there are none."""
        if not self.bound:
            return None
        try:
            place = _place(path)
            size = torch.Size(shape).numel()
            if place.stat().st_size != size:
                return None
            # Pages of the file until somebody writes to them. NumPy's map would hold an open file for each video.
            frames = torch.from_file(str(place), shared=False, size=size, dtype=torch.uint8)
        except (OSError, RuntimeError):
            return None
        with suppress(OSError):  # somebody else's cache may be read all the same
            os.utime(place)
        return frames.view(shape)

    def keep(self, path: Path, frames: Tensor) -> Tensor | None:
        """Leave a video's frames, [3, T, H, W] uint8, all of it, to others.

        Returns:
            The frames as others will see them; None if there is no room, or no place that can be written.
        """
        if not self._open or frames.nbytes > self.bound:
            return None
        try:
            place = _place(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._open = self._room(place.parent, frames.nbytes)
            if not self._open:  # nor will there be any for the next ones
                return None

            def write(part: Path) -> None:
                part.write_bytes(frames.contiguous().numpy().data)

            # Other machines may be at it too, and one of their processes have this one's number.
            loop.write_atomically(place, write, writer=uuid.uuid4().hex)
        except OSError as error:
            self._open = False
            if not _told.is_set():
                _told.set()
                warnings.warn(f"{folder()}: {error.strerror}; decoded videos are not kept for others", stacklevel=3)
            return None
        self._taken += frames.nbytes
        self._written += frames.nbytes
        return self.recall(path, (frames.shape[0], frames.shape[1], frames.shape[2], frames.shape[3]))

    def _room(self, where: Path, needed: int) -> bool:
        """Whether so many bytes fit, after those went that are long unused."""
        if self._written > LOOK or self._taken + needed > self.bound:
            files = _files(where)
            self._taken, self._written = sum(size for _, size, _ in files), 0
            unused = [file for file in files if time.time() - file[0] > UNUSED_SECONDS]
            if sum(size for _, size, _ in unused) >= self._taken + needed - self.bound:
                for _, size, name in sorted(unused):
                    if self._taken + needed <= self.bound:
                        break
                    Path(name).unlink(missing_ok=True)
                    self._taken -= size
        return self._taken + needed <= self.bound and shutil.disk_usage(where).free - needed >= RESERVE


_told = threading.Event()


def folder() -> Path:
    """Where they lie: decoded/ in the cache."""
    return indices.cache_folder() / "decoded"


def _place(path: Path) -> Path:
    """Of a video by its name, size and time of change, and by what decoded it."""
    stat = path.stat()
    decoder = f"{FORMAT} {av.__version__} {av.library_versions['libavcodec']}"
    identity = f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns} {decoder}"
    return folder() / f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.rgb"


def _files(where: Path) -> list[tuple[float, int, str]]:
    """(Unix seconds of the last use, bytes, path) of each file there, drafts of killed processes too."""
    found = []
    with os.scandir(where) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process is at it
                stat = entry.stat()
                found.append((stat.st_mtime, stat.st_size, entry.path))
    return found
