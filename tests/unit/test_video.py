"""Reading frames is slicing one sequential decode, whatever the container promises."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from made_videos import (
    OPEN_GOP,
    UNEVEN,
    Pictures,
    audio,
    covered,
    damaged,
    encode,
    half,
    packed,
    pictures,
    plain,
    remux,
    resized,
    turned,
    written,
)
from torch.nn import functional as F

from fima import video
from fima.indices import Index
from fima.video import Crop, VideoError


def assert_slices(path: Path, lists: Sequence[Sequence[int]], whole: Sequence[Pictures]) -> None:
    for numbers in lists:
        (got,) = video.read(path, numbers)
        wrong = [n for n, frame in zip(numbers, got.numpy(), strict=True) if not np.array_equal(frame, whole[n])]
        assert not wrong, f"{path.name}: frames {wrong} of {list(numbers)} are others"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of frames that decoders gave out, one entry per opened file."""
    counts: list[int] = []
    frames = video._frames

    def counted(*args: Any) -> Iterator[Any]:
        counts.append(0)
        for frame in frames(*args):
            counts[-1] += 1
            yield frame

    monkeypatch.setattr(video, "_frames", counted)
    return counts


# --- exactly the frames asked for

FILES: dict[str, Callable[[Path], Path]] = {
    "b-frames.avi": lambda p: encode(p, "mpeg4", bf=2, g=12),
    "packed.avi": packed,
    "open-gop.mp4": lambda p: encode(p, "libx264", **OPEN_GOP),
    "open-gop.ts": lambda p: encode(p, "libx264", **OPEN_GOP),
    "refresh.mp4": lambda p: encode(p, "libx264", **{"x264-params": "intra-refresh=1:keyint=12"}),
    "no-stamps.h264": lambda p: encode(p, "libx264", g=12),
    "vp9.webm": lambda p: encode(p, "libvpx-vp9", g=12, deadline="realtime", **{"cpu-used": 8, "lag-in-frames": 10}),
    "ffv1.mkv": lambda p: encode(p, "ffv1", pix="bgr0", g=12),
    "uneven.mp4": lambda p: encode(p, "libx264", stamps=UNEVEN, g=12, bf=2),
    "uneven.mkv": lambda p: encode(p, "mpeg4", stamps=UNEVEN, g=12, bf=2),
    "one-frame.mp4": lambda p: encode(p, "libx264", pictures(1)),
    "odd.mkv": lambda p: encode(p, "ffv1", pictures(60, 47, 63), g=12),
    "odd-444.mp4": lambda p: encode(p, "libx264", pictures(60, 47, 63), "yuv444p", g=12),
    "ten-bit.mp4": lambda p: encode(p, "libx264", pix="yuv420p10le", g=12),
    "gray.mkv": lambda p: encode(p, "ffv1", pix="gray", g=12),
    "alpha.mkv": lambda p: encode(p, "ffv1", pix="yuva420p", g=12),
    "bad-packet.mp4": lambda p: damaged(p, encode(p.with_stem("x"), "libx264", **OPEN_GOP), 13),
    "bad-packet.avi": lambda p: damaged(p, encode(p.with_stem("y"), "mpeg4", bf=2, g=12), 22),
}


@pytest.mark.parametrize("name", FILES)
def test_any_frames_in_any_order_are_those_of_one_decode(tmp_path: Path, name: str) -> None:
    path = FILES[name](tmp_path / name)
    whole = plain(path)
    found = video.index(path)
    assert (found.frames, found.height, found.width) == (len(whole), *whole[0].shape[:2])
    assert (found.corrupt > 0) == name.startswith("bad")
    rng = np.random.default_rng(0)
    single = [[n] for n in range(len(whole))]
    mixed = [rng.integers(0, len(whole), rng.integers(1, 12)).tolist() for _ in range(8)]
    assert_slices(path, [range(len(whole)), range(len(whole) - 1, -1, -1), *single, *mixed], whole)


REAL = {
    "packed Xvid": "ucf101/UCF-101/YoYo/v_YoYo_g0*_c01.avi",
    "hmdb51": "hmdb51/videos/*/*.avi",
    "ut-interaction": "ut_interaction/hug/set1_1*.avi",
    "kinetics": "kinetics400/R6*.mp4",
    "broken": "broken/*",
}


@pytest.mark.parametrize("which", REAL)
def test_real_clips_give_the_frames_of_one_decode(clips: Path, which: str) -> None:
    paths = sorted(clips.glob(REAL[which]))[:4]
    assert paths
    for path in paths:
        whole = plain(path)
        last = len(whole) - 1
        middle = range(last // 2, min(last // 2 + 8, last))
        assert video.index(path).frames == len(whole)
        assert_slices(path, [[last], middle, [last, 0, last - 1, 0, last // 3, 1]], whole)


def test_a_header_is_not_believed(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.avi", "mpeg4", pictures(20), bf=0)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, 9999)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, 9999)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 9999
    assert video.index(path).frames == len(video.read_all(path)) == 20


def test_metadata_that_is_not_utf8_does_no_harm(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.avi", "mpeg4", pictures(5))
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"\xe9\xff\xfeX"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert len(video.read_all(path)) == 5


def test_a_cover_picture_is_not_the_video(tmp_path: Path, good: Path) -> None:
    path = covered(tmp_path / "cover.mp4", good)
    with av.open(str(path)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["mjpeg", "h264"]
    assert torch.equal(video.read_all(path), video.read_all(good))


def test_frames_that_change_their_size_get_the_size_of_the_first(tmp_path: Path) -> None:
    path = resized(tmp_path / "x.avi")
    whole = plain(path)
    assert {frame.shape for frame in whole} == {(48, 64, 3), (80, 96, 3)}
    (got,) = video.read(path, [15, 3])
    assert got.shape == (2, 48, 64, 3)
    assert np.array_equal(got[1], whole[3])
    large = torch.from_numpy(whole[15]).float().permute(2, 0, 1)
    small = F.interpolate(large[None], (48, 64), mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    assert (got[0].float() - small).abs().mean() < 6
    (cut,) = video.read(path, [15], [Crop(0, 0, 64, 48, 16, (0,))])
    assert (cut[0].float() - got[0].float().reshape(16, 3, 16, 4, 3).mean((1, 3))).abs().mean() < 6


@pytest.mark.parametrize(
    "name", ["#20_Rhythm_(clap)&!_goo_0.avi", "100%d %05d.avi", "é β.avi", os.fsdecode(b"\xe9.avi")]
)
def test_any_file_name_is_read_and_remembered(tmp_path: Path, fresh: Path, name: str) -> None:
    path = encode(tmp_path / "x.avi", "mpeg4", pictures(3)).rename(tmp_path / name)
    assert len(video.read_all(path)) == 3
    with sqlite3.connect(fresh / "index.sqlite") as connection:
        assert connection.execute("select count(*) from videos").fetchone() == (1,)
    connection.close()


def test_a_relative_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "x.avi", "mpeg4", pictures(3)).rename(tmp_path / "12:30.avi")
    monkeypatch.chdir(tmp_path)
    assert len(video.read_all(Path("12:30.avi"))) == 3


# --- only what is asked for


def test_a_late_window_is_not_decoded_from_the_first_frame(good: Path, decoded: list[int]) -> None:
    video.index(good)
    decoded.clear()
    video.read(good, range(50, 55))
    assert decoded == [7]  # key frame 48 to frame 54


def test_a_gap_with_a_key_frame_is_skipped(good: Path, decoded: list[int]) -> None:
    video.index(good)
    decoded.clear()
    video.read(good, [49, 1, 1, 0])
    assert decoded == [2, 2]  # 0 and 1, then from key frame 48
    decoded.clear()
    video.read(good, [0, 11])
    assert decoded == [12]
    decoded.clear()
    assert video.read(good, [])[0].shape == (0, 48, 64, 3)
    assert decoded == []


@pytest.mark.parametrize("key", [(36, 10**9, None), (36, None, -5), (36, -(10**9), 3)])
def test_a_key_frame_that_a_seek_does_not_find_costs_time_only(
    good: Path, monkeypatch: pytest.MonkeyPatch, key: video.Key
) -> None:
    whole, true = plain(good), video.index(good)
    monkeypatch.setattr(video, "index", lambda _: Index(true.frames, true.width, true.height, (key,)))
    assert_slices(good, [[40, 59, 2]], whole)


def test_a_container_that_cannot_seek_costs_time_only(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, opened = plain(good), video._opened
    video.index(good)

    class Fixed:
        def __init__(self, container: Any) -> None:
            self.demux = container.demux

        def seek(self, *args: Any, **kwargs: Any) -> None:
            raise av.error.PermissionError(1, "Operation not permitted")

    @contextmanager
    def fixed(path: Path) -> Iterator[Any]:
        with opened(path) as (container, stream):
            yield Fixed(container), stream

    monkeypatch.setattr(video, "_opened", fixed)
    assert_slices(good, [[40, 59, 2]], whole)


# --- crops and rotation


# Deep colour is interpolated, which shows at the edge of the crop.
@pytest.mark.parametrize(
    "pix, edge",
    [(p, 0) for p in ("yuv420p", "yuv422p", "yuv444p", "yuva420p", "gray", "bgr0")] + [("yuv420p10le", 1)],
)
@pytest.mark.parametrize("x, y", [(20, 10), (21, 11), (0, 0), (48, 16)])
@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_crop_is_a_crop_of_the_frame_then_area_averages(
    tmp_path_factory: pytest.TempPathFactory, pix: str, edge: int, x: int, y: int, factor: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"crop-{pix}.mkv"
    if not path.exists():
        encode(path, "ffv1", pictures(2, 96, 128), pix)
    size = 80 // factor
    (got,) = video.read(path, [1], [Crop(x, y, x + 80, y + 80, size, (0,))])
    whole = video.read_all(path)[1, y : y + 80, x : x + 80].float()
    want = whole.reshape(size, factor, size, factor, 3).mean((1, 3))
    assert (got[0] - want)[edge : size - edge, edge : size - edge].abs().max() <= 1
    assert (got[0] - want).abs().mean() < 1


def test_a_crop_of_a_frame_with_odd_sides(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mkv", "ffv1", pictures(2, 95, 127, soft=True))
    (got,) = video.read(path, [1], [Crop(47, 15, 127, 95, 40, (0,))])
    want = video.read_all(path)[1, 15:95, 47:127].float().reshape(40, 2, 40, 2, 3).mean((1, 3))
    assert (got[0] - want).abs().mean() < 1.5


def test_a_small_crop_grows_bilinearly(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mkv", "ffv1", pictures(2, soft=True), "bgr0")
    (got,) = video.read(path, [1], [Crop(20, 9, 50, 39, 45, (0,))])
    small = video.read_all(path)[1:, 9:39, 20:50].permute(0, 3, 1, 2).float()
    assert (got[0] - F.interpolate(small, 45, mode="bilinear")[0].permute(1, 2, 0)).abs().max() < 3


def test_crops_take_places_in_the_list_of_frames(good: Path) -> None:
    numbers, whole = [30, 7, 7, 59], video.read_all(good)
    first, second = video.read(good, numbers, [Crop(0, 0, 48, 48, 48, (3, 0, 3)), Crop(8, 8, 24, 24, 16, (1,))])
    assert torch.equal(first, whole[[59, 30, 59], :48, :48])
    assert torch.equal(second, whole[[7], 8:24, 8:24])


# x grows to the right and y downwards, so (0, 1, -1, 0) turns clockwise: what telephones held upright write.
@pytest.mark.parametrize(
    "matrix, quarters",
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotated_video_is_read_as_it_is_shown(tmp_path: Path, matrix: Sequence[int], quarters: int) -> None:
    frames = pictures(12, soft=True)
    path = turned(tmp_path / "x.mp4", matrix, frames)
    whole = video.read_all(path)
    assert np.array_equal(whole, np.stack([np.rot90(frame, quarters) for frame in plain(path)]))
    assert (video.index(path).height, video.index(path).width) == whole.shape[1:3]
    (cut,) = video.read(path, [11, 3], [Crop(3, 5, 35, 37, 32, (0, 1))])
    assert (cut.float() - whole[[11, 3], 5:37, 3:35].float()).abs().mean() < 1.5


# To the right, downwards, and about the diagonals: a reflection, whatever angle ffmpeg reads in it.
@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_a_mirrored_video_is_refused_and_not_read_upside_down(tmp_path: Path, matrix: Sequence[int]) -> None:
    path = turned(tmp_path / "x.mp4", matrix, pictures(3))
    for _ in range(2):  # the second time from the cache
        with pytest.raises(video.VideoError, match=r"x\.mp4: its frames are stored as mirror images.*leave the video"):
            video.index(path)


def test_an_angle_between_goes_to_the_nearest_quarter(tmp_path: Path) -> None:
    path = turned(tmp_path / "x.mp4", (0, 1, -1, 0), pictures(3))
    tilted = turned(tmp_path / "y.mp4", (1, 9, -9, 1), pictures(3))
    assert torch.equal(video.read_all(path), video.read_all(tilted))
    assert video.read(tilted, [1], [Crop(0, 20, 40, 60, 8, (0,))])[0].shape == (1, 8, 8, 3)


# --- errors


def folder(path: Path) -> Path:
    path.mkdir()
    return path


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing.mp4": (lambda p: p, "no such file"),
    "folder.mp4": (folder, "cannot be opened (Is a directory)"),
    "nul\0byte.mp4": (lambda p: p, "cannot be opened (embedded null byte)"),
    "empty.mp4": (lambda p: written(p, b""), "the file is empty"),
    "junk.mp4": (lambda p: written(p, np.random.default_rng(0).bytes(5000)), "is no readable video (Invalid data"),
    "text.mp4": (lambda p: written(p, b"<!DOCTYPE html>Video unavailable\n" * 20), "is no readable video (Invalid"),
    "subtitles.mp4": (lambda p: written(p, b"1\n00:00:01,000 --> 00:00:02,000\nhi\n\n"), "holds no video stream"),
    "cut.mp4": (lambda p: half(p, encode(p.with_stem("whole"), "libx264")), "is no readable video (Invalid data"),
    "audio.mp4": (audio, "holds no video stream"),
    "song.mp4": (lambda p: covered(p, audio(p.with_stem("bare"))), "holds no video stream"),
    "nothing.avi": (
        lambda p: remux(encode(p.with_stem("z"), "mpeg4"), p, lambda all_: [bytes(len(data)) for data in all_]),
        "no frame can be decoded",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_video_says_so_in_one_line(tmp_path: Path, name: str) -> None:
    make, reason = UNREADABLE[name]
    path = make(tmp_path / name)
    for again in range(2):  # the second time from the cache
        with pytest.raises(VideoError) as caught:
            video.read(path, [0]) if again else video.index(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: {reason}")
        assert text.endswith("leave the video out")
        assert "\n" not in text


def test_a_truncated_avi_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.avi", "mpeg4", bf=0, g=12)
    path = half(tmp_path / "x.avi", whole)
    found = video.index(path)
    assert 10 < found.frames < 60
    assert found.corrupt
    assert torch.equal(video.read(path, [found.frames - 3])[0], video.read(whole, [found.frames - 3])[0])


@pytest.mark.parametrize("numbers, bad", [([0, 60], 60), ([-1], -1), ([3, 99, -2], 99)])
def test_frames_that_are_not_there_are_named(good: Path, numbers: list[int], bad: int) -> None:
    with pytest.raises(VideoError, match=rf"^.*good\.mp4: frame {bad} is asked for, but frames 0 to 59 decode$"):
        video.read(good, numbers)


@pytest.mark.parametrize("sides", [(0, 0, 65, 48), (-1, 0, 8, 8), (8, 8, 8, 16), (0, 40, 8, 49)])
def test_a_crop_that_leaves_the_frame_is_refused(good: Path, sides: tuple[int, int, int, int]) -> None:
    with pytest.raises(VideoError, match=r"good\.mp4: .* is no crop of frames of 64 x 48$"):
        video.read(good, [0], [Crop(*sides, 8, (0,))])


def test_a_file_that_lost_frames_meanwhile_is_an_error(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = video.index(good)
    monkeypatch.setattr(video, "index", lambda _: Index(80, true.width, true.height, true.keys))
    with pytest.raises(VideoError, match="frame 70 does not decode any more; the file changed"):
        video.read(good, [70])


# --- the cached index


# --- writing


def test_writing_is_the_same_to_the_byte_and_leaves_nothing_else(tmp_path: Path) -> None:
    frames = pictures(10, soft=True)
    for name in ("a.mp4", "b.mp4"):
        video.write(tmp_path / name, frames)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    assert (video.read_all(tmp_path / "a.mp4").float() - torch.from_numpy(frames).float()).abs().mean() < 4


def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.mp4", b"before")

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(video.VideoFrame, "from_ndarray", stop)
        video.write(path, pictures(3))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "frames", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 7, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.float32)]
)
def test_frames_that_h264_does_not_take_are_refused(tmp_path: Path, frames: Any) -> None:
    with pytest.raises(VideoError, match=r"a\.mp4: takes \[T, H, W, 3\] uint8 with even H and W, got \["):
        video.write(tmp_path / "a.mp4", frames)
    with pytest.raises(VideoError, match=r"nowhere/a\.mp4: cannot be written \(No such file or directory\)"):
        video.write(tmp_path / "nowhere/a.mp4", pictures(2))
    assert list(tmp_path.iterdir()) == []
