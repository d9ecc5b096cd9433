"""What results are made with: versions, machine, commit. Device and threads are the worker's to add."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from ablations import code
from fima.datasets import cores


@functools.cache
def environment() -> dict[str, Any]:
    """The code and this machine."""
    commit, dirty = code.commit()
    return {**machine(), "commit": commit, "dirty": dirty}


@functools.cache
def machine() -> dict[str, Any]:
    """Versions and processor of this machine, which need not be the one that the command was given on."""
    return {
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": cores(),
    }


def _cpu(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor, and its widest instructions: clouds give one name to several, whose rounding and pace differ."""
    try:
        lines = info.read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor()

    def first(name: str) -> str:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")

    flags, known = first("flags").split(), {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
    widest = next((f" with {title}" for flag, title in known.items() if flag in flags), "")
    return (first("model name") or platform.machine()) + widest
