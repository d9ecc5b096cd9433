"""What several test modules read from: a video, and a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and nothing in memory."""
    from fima import indices

    monkeypatch.setenv("FIMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indices, "_MEMORY", {})
    indices._told_unwritable.clear()
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mp4 of 60 frames of 48 x 64, with a key frame every 12."""
    from made_videos import encode

    return encode(tmp_path_factory.mktemp("good") / "good.mp4", "libx264", g=12)
