"""What one full decode of each video found, kept in memory and, for all processes, in SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 3  # of what is kept
Key = tuple[int, int | None, int | None]
Identity = tuple[str, int, int]  # path, bytes, time of change


@dataclass(frozen=True)
class Index:
    """What one full decode found.

    Attributes:
        frames: frames that decode.
        width, height: in pixels, as shown, after rotation.
        keys: (frame number, pts, dts) of each decoded key frame that a seek finds again; none in a damaged file.
        corrupt: frames that the decoder marked, and packets that it refused.
    """

    frames: int
    width: int
    height: int
    keys: tuple[Key, ...]
    corrupt: int = 0


_MEMORY: dict[Identity, Index | str] = {}
_told_unwritable = threading.Event()


def cache_folder() -> Path:
    """Where indices, embedded videos and decoded ones are kept: $FIMA_CACHE, else ~/.cache/fima."""
    return Path(os.environ.get("FIMA_CACHE") or Path.home() / ".cache/fima").expanduser()


def recall(paths: Iterable[Path]) -> set[Path]:
    """The files whose index is in the cache, looked up at once: of these `known` then answers from memory."""
    there = set()
    with suppress(sqlite3.Error, OSError), closing(_database()) as connection:
        for path in paths:
            with suppress(OSError):
                identity = identify(path)
                found = _MEMORY.get(identity) or _lookup(connection, identity)
                if found is not None:
                    _MEMORY[identity] = found
                    there.add(path)
    return there


def identify(path: Path) -> Identity:
    """What tells a file from another, and from what it was.

    Raises:
        OSError: it is not there.
    """
    stat = path.stat()
    # SQLite takes no name that is not UTF-8.
    return (str(path.absolute()).encode(errors="backslashreplace").decode(), stat.st_size, stat.st_mtime_ns)


def known(identity: Identity) -> Index | str | None:
    """What was found in a file, or what is wrong with its bytes; None: nobody looked yet."""
    if identity in _MEMORY:
        return _MEMORY[identity]
    try:
        with closing(_database()) as connection:
            found = _lookup(connection, identity)
    except (sqlite3.Error, OSError) as error:
        _tell_unwritable(error)
        return None
    if found is not None:
        _MEMORY[identity] = found
    return found


def keep(identity: Identity, what: Index | str) -> None:
    """Keep what was found in a file, or what is wrong with its bytes."""
    _MEMORY[identity] = what
    found: dict[str, Any] = {"format": FORMAT}
    if isinstance(what, str):
        found["error"] = what
    else:
        found |= {"frames": what.frames, "width": what.width, "height": what.height}
        found |= {"keys": what.keys, "corrupt": what.corrupt}
    try:
        with closing(_database()) as connection, connection:
            connection.execute("insert or replace into videos values (?, ?, ?, ?)", (*identity, json.dumps(found)))
    except (sqlite3.Error, OSError) as error:
        _tell_unwritable(error)


def _database() -> sqlite3.Connection:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "index.sqlite", timeout=60)
    # Survives a kill; only a power cut may lose it. Waiting for the disk takes as long as decoding a short clip.
    connection.execute("pragma synchronous = off")
    connection.execute(
        "create table if not exists videos (path text primary key, size integer, mtime integer, found text)"
    )
    return connection


def _lookup(connection: sqlite3.Connection, identity: Identity) -> Index | str | None:
    query = "select found from videos where path = ? and size = ? and mtime = ?"
    row = connection.execute(query, identity).fetchone()
    if row is None:
        return None
    try:
        found = json.loads(row[0])
        if found["format"] != FORMAT:
            return None
        if "error" in found:
            return str(found["error"])
        keys = tuple((number, pts, dts) for number, pts, dts in found["keys"])
        return Index(found["frames"], found["width"], found["height"], keys, found["corrupt"])
    except (ValueError, KeyError, TypeError):  # written by something else
        return None


def _tell_unwritable(error: Exception) -> None:
    """The cache only saves time: without it every process decodes each video once."""
    if not _told_unwritable.is_set():
        _told_unwritable.set()
        warnings.warn(
            f"{cache_folder() / 'index.sqlite'}: {error}; video indices are not kept, "
            "set FIMA_CACHE to a writable folder",
            stacklevel=4,
        )
