"""The code that runs: which commit it is at, and whether it was changed since."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def commit() -> tuple[str | None, bool]:
    """The commit, and whether tracked files of code or studies differ from it; (None, False) outside a git checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "fima", "ablations", "studies")
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return head, bool(changed)


def shown(head: str | None, dirty: bool) -> str:
    """A commit for people: "+dirty" where the code differs from it."""
    return "unknown (not in a git checkout)" if head is None else f"{head}{'+dirty' if dirty else ''}"


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
