"""Shared fixtures: the real clips beside the repository, a seed, one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Video indices and rendered videos of the tests live and die with the session."""
    before = os.environ.get("FIMA_CACHE")
    os.environ["FIMA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["FIMA_CACHE"]
    else:
        os.environ["FIMA_CACHE"] = before


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real video clips, which are other people's footage and never part of the repository."""
    root = SHARED / "data"
    if not root.is_dir():
        pytest.skip(f"real clips are not at {root}")
    return root
