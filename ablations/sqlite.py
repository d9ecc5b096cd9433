"""A database in a file, made by one process and put in place whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def made_whole(path: Path, make: Callable[[Path], None]) -> None:
    """Make a database file if it is not there; see `held`."""
    with held(path, make):
        pass


@contextmanager
def held(path: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Hold the folder of a database; it is made first if there is none.

    Two processes that make one at the same time break it, and so does a kill while it is made: it takes seconds. So
    it is made elsewhere, by one process, and put in place whole.

    Args:
        path: of the database.
        make: makes one at another path, which does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            for half in path.parent.glob(f".{path.name}.*.tmp*"):
                half.unlink()
            draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            make(draft)
            draft.replace(path)
        yield
    finally:
        os.close(folder)
