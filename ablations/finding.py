"""One thing that `fima-ablate doctor` saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

SHOWN = 5  # things of one sort that are named one by one
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """What was seen where, and the way out of it."""

    level: Literal["ok", "fixed", "warning", "problem"]
    about: str  # versions, devices, codecs, cache, disk, stages, files, drafts, checkpoints, mlflow
    what: str
    way_out: str | None = None

    def line(self) -> str:
        """For people."""
        return f"{self.level}: {self.what}" + (f"; {self.way_out}" if self.way_out else "")

    def as_json(self) -> dict[str, str | None]:
        """For programs."""
        return asdict(self)


def named(names: list[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
