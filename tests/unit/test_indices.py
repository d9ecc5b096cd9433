"""What a full decode of a video found is kept, for all processes, until the file changes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from made_videos import encode, pictures, written

from fima import indices, video
from fima.video import VideoError


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths in the order in which they are decoded for their index."""
    paths: list[Path] = []
    true = video._decode_index

    def counted(path: Path) -> indices.Index:
        paths.append(path)
        return true(path)

    monkeypatch.setattr(video, "_decode_index", counted)
    return paths


def test_a_file_is_indexed_once(good: Path, fresh: Path, indexed: list[Path]) -> None:
    first = video.index(good)
    indices._MEMORY.clear()  # as in another process
    assert video.index(good) == video.index(good) == first
    assert indexed == [good]


def test_what_is_wrong_with_the_bytes_is_kept_too(tmp_path: Path, fresh: Path, indexed: list[Path]) -> None:
    path = written(tmp_path / "x.mp4", b"no video")
    for _ in range(3):
        indices._MEMORY.clear()
        with pytest.raises(VideoError, match="no readable video"):
            video.index(path)
    assert indexed == [path]


def test_what_is_wrong_with_this_moment_is_not_kept(
    good: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch, indexed: list[Path]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(VideoError, match=r"cannot be opened \(Permission denied\)"):
            video.index(good)
    assert video.index(good).frames == 60


@pytest.mark.parametrize("change", ["bytes", "time", "format", "row"])
def test_a_change_is_indexed_anew(
    tmp_path: Path, fresh: Path, indexed: list[Path], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = encode(tmp_path / "x.avi", "mpeg4", pictures(5))
    stat = path.stat()
    assert video.index(path).frames == 5
    if change == "bytes":
        encode(path, "mpeg4", pictures(7))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        indices._MEMORY.clear()
        monkeypatch.setattr(indices, "FORMAT", indices.FORMAT + 1)
    if change == "row":
        with sqlite3.connect(fresh / "index.sqlite") as connection:
            connection.execute("update videos set found = '{'")
        connection.close()
    assert video.index(path).frames == (7 if change == "bytes" else 5)
    assert len(indexed) == 2


@pytest.mark.parametrize("how", ["folder is a file", "database is junk"])
def test_a_cache_that_cannot_be_written_is_a_warning_once(
    good: Path, fresh: Path, indexed: list[Path], how: str
) -> None:
    if how == "folder is a file":
        fresh.write_text("")
    else:
        fresh.mkdir()
        (fresh / "index.sqlite").write_text("no database, " * 100)
    with pytest.warns(UserWarning, match=r"index\.sqlite: .*set FIMA_CACHE to a writable folder") as caught:
        assert video.index(good).frames == 60
    assert len(caught) == 1
    indices._MEMORY.clear()
    assert video.index(good).frames == 60
    assert len(indexed) == 2


def test_several_processes_index_at_once(tmp_path: Path, good: Path, fresh: Path) -> None:
    paths = [Path(shutil.copy(good, tmp_path / f"{n}.mp4")) for n in range(12)]
    program = (
        "import sys; from pathlib import Path; from fima import video; sys.stdin.readline(); "
        "print(sum(video.index(Path(p)).frames for p in sys.argv[1:]))"
    )
    words = [sys.executable, "-W", "error", "-c", program, *map(str, paths)]
    # Each waits for a line, so that all open a database that is not there yet.
    processes = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate() for process in processes] == [(f"{12 * 60}\n", "")] * 4
    with sqlite3.connect(fresh / "index.sqlite") as connection:
        assert connection.execute("select count(*) from videos").fetchone() == (12,)
    connection.close()
