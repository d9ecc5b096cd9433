"""Video files as they occur, made here: the awkward ones, the damaged ones, and what one plain decode of them gives."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=4:scenecut=0:bframes=3:b-adapt=0"}
UNEVEN = np.cumsum(np.random.default_rng(1).integers(5, 120, 60))  # milliseconds
VOP = b"\0\0\1\xb6"  # starts a picture of MPEG-4


def pictures(count: int = 60, height: int = 48, width: int = 64, soft: bool = False) -> Pictures:
    """[T, H, W, 3] coloured blocks (or waves) that move, and a corner that tells the frame's number."""
    y, x = np.mgrid[:height, :width]
    if soft:
        waves = [np.sin(x / (9 + c) + y / (7 + 2 * c) + c) for c in range(3)]
        still = (127 + 90 * np.stack(waves, -1)).astype(np.uint8)
    else:
        colours = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        still = colours[y // 8, x // 8]
    moving = np.stack([np.roll(still, (n, 2 * n), (0, 1)) for n in range(count)])
    moving[:, :8, :8] = (37 * np.arange(count) % 256)[:, None, None, None]
    return moving


def encode(
    path: Path,
    codec: str,
    frames: Pictures | None = None,
    pix: str = "yuv420p",
    stamps: Sequence[int] | None = None,
    **options: Any,
) -> Path:
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={name: str(value) for name, value in options.items()})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, array in enumerate(frames):
            frame = VideoFrame.from_ndarray(array, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = int(stamps[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, path: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """The same stream with other packets."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        packets = [packet for packet in old.demux(stream) if packet.size]
        for packet, data in zip(packets, change([bytes(packet) for packet in packets]), strict=True):
            other = av.Packet(data)
            other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
            other.is_keyframe, other.stream = packet.is_keyframe, copy
            new.mux(other)
    return path


def packed(path: Path) -> Path:
    """Packed B-frames, as DivX and Xvid wrote them: a P- and a B-frame in one packet, then an empty place holder."""

    def kind(data: bytes) -> int:
        return data[data.index(VOP) + 4] >> 6  # 0 I, 1 P, 2 B

    def change(packets: list[bytes]) -> list[bytes]:
        signed = [p.replace(VOP, b"\0\0\1\xb2DivX503b1393p" + VOP, 1) if kind(p) == 0 else p for p in packets]
        out: list[bytes] = []
        for data in signed:
            if kind(data) == 2:
                out[-1:] = [out[-1] + data, VOP + b"\x50\x00\x7f"]
            else:
                out.append(data)
        return out

    return remux(encode(path.with_stem("loose"), "mpeg4", bf=1, g=12), path, change)


def damaged(path: Path, source: Path, packet: int) -> Path:
    """One packet, counted from 0, is junk."""

    def change(packets: list[bytes]) -> list[bytes]:
        junk = np.random.default_rng(0).bytes(len(packets[packet]))
        return [junk if number == packet else data for number, data in enumerate(packets)]

    return remux(source, path, change)


def resized(path: Path) -> Path:
    """Motion JPEG whose second half is 96 x 80 instead of 64 x 48."""
    small = encode(path.with_stem("small"), "mjpeg", pictures(20, soft=True), "yuvj420p")
    large = encode(path.with_stem("large"), "mjpeg", pictures(20, 80, 96, soft=True), "yuvj420p")
    with av.open(str(large)) as container:
        later = [bytes(packet) for packet in container.demux(video=0) if packet.size][10:]
    return remux(small, path, lambda packets: packets[:10] + later)


def turned(path: Path, matrix: Sequence[int], frames: Pictures) -> Path:
    """An mp4 whose track header has a display matrix (a, b, c, d): x' = ax + cy, y' = bx + dy."""
    encode(path, "libx264", frames, g=5, crf=1)
    data = bytearray(path.read_bytes())
    a, b, c, d = (number * 65536 for number in matrix)
    # Behind the name: 40 bytes of version, times, number and layers.
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def covered(path: Path, source: Path) -> Path:
    """An mp4 with a cover picture that comes out as its first stream."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        cover = new.add_stream("mjpeg", rate=25)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        stream = old.streams.best("video") or old.streams.best("audio")
        assert stream is not None
        copy = new.add_stream_from_template(stream)
        new.mux(cover.encode(VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")))
        new.mux(cover.encode(None))
        for packet in old.demux(stream):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    data = path.read_bytes()  # the picture lies in `udta` behind the track: change their places in `moov`
    track, extra = data.index(b"trak") - 4, data.rindex(b"udta") - 4
    end = extra + int.from_bytes(data[extra : extra + 4])
    path.write_bytes(data[:track] + data[extra:end] + data[track:extra] + data[end:])
    return path


def plain(path: Path) -> list[Pictures]:
    """Every frame of one decode from the first packet to the last, by PyAV alone."""
    frames: list[Pictures] = []
    with av.open(str(path), metadata_errors="ignore") as container:
        container.streams.video[0].codec_context.thread_count = 1
        for packet in container.demux(video=0):
            try:
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except (FFmpegError, EOFError):
                continue
    return frames


def half(path: Path, source: Path) -> Path:
    data = source.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
