"""Video files: exactly the frames asked for, and errors that name the file.

Header counts and seeking by time are wrong on common files (packed B-frames, open GOPs, variable frame rate). So one
full decode per file records which decoded frames are key frames and their timestamps; to read, seek to the key frame
at or before the first frame wanted, discard until that very frame comes out, then count.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import av.filter
import numpy as np
from av.container import InputContainer
from av.error import EOFError as NoMoreFrames
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from fima import indices
from fima.indices import Index, Key

if TYPE_CHECKING:
    from torch import Tensor


class VideoError(OSError):
    """A file cannot be read as asked; the one line names it, what is wrong and the way out."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of the frame, right and lower side exclusive, resized to `size` x `size`.

    `frames` are places in the list of frames that is read with it.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    size: int
    frames: tuple[int, ...]


# --- index


def index(path: Path) -> Index:
    """The index of a file, from the cache if path, size and time of change are the same.

    Raises:
        VideoError: no frame can be decoded; what is wrong with its bytes is cached too.
    """
    path = Path(path)
    try:
        identity = indices.identify(path)
        known = indices.known(identity)
        if known is None:
            path.open("rb").close()  # rights and open files are no property of the bytes: that verdict is not cached
    except FileNotFoundError:
        raise VideoError(f"{path}: no such file; correct the list or leave the video out") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path}: cannot be opened ({reason}); mend that or leave the video out") from None
    if known is None:
        try:
            known = _decode_index(path)
        except VideoError as error:
            known = str(error)
        indices.keep(identity, known)
    if isinstance(known, str):
        raise VideoError(known)
    return known


def _decode_index(path: Path) -> Index:
    count = corrupt = width = height = 0
    keys: list[Key] = []
    stamps: Counter[int | None] = Counter()
    with _opened(path) as (container, stream):
        for frame in _frames(container, stream):
            if isinstance(frame, FFmpegError):
                corrupt += 1
                continue
            if count == 0:
                width, height = _shown(frame)
                if _mirrored(frame):
                    raise VideoError(
                        f"{path}: its frames are stored as mirror images, which nothing here turns back; write it "
                        "again (ffmpeg -i OLD NEW turns them) or leave the video out"
                    )
            stamps[_stamp(frame)] += 1
            if frame.key_frame:
                keys.append((count, frame.pts, frame.dts))
            corrupt += frame.is_corrupt
            count += 1
    if not count:
        raise VideoError(f"{path}: no frame can be decoded; replace the file or leave the video out")
    # A key frame without a timestamp of its own cannot be found again, and after a seek into a damaged file a decoder
    # conceals the damage otherwise than in one go: such files are counted from their first frame.
    found = [key for key in keys if (s := key[2] if key[1] is None else key[1]) is not None and stamps[s] == 1]
    return Index(count, width, height, () if corrupt else tuple(found), corrupt)


# --- reading


def read(path: Path, frames: Sequence[int], crops: Sequence[Crop] = ()) -> list[Tensor]:
    """Decode frames by number, in any order and with repeats.

    Frames that change their size within a file are scaled to the size of the first.

    Args:
        path: the file.
        frames: numbers from 0 on, as `index` counts.
        crops: rectangles to cut out, as shown after rotation, and to resize in swscale (area where it shrinks,
            bilinear where it grows).

    Returns:
        One [t, size, size, 3] uint8 tensor per crop; without crops one [T, H, W, 3] at native size.

    Raises:
        VideoError: a frame is not there, a crop leaves the frame, or the file changed since it was indexed.
    """
    import torch

    path = Path(path)
    numbers = [int(number) for number in frames]
    known = index(path)
    if numbers and not 0 <= min(numbers) <= max(numbers) < known.frames:
        bad = next(number for number in numbers if not 0 <= number < known.frames)
        raise VideoError(f"{path}: frame {bad} is asked for, but frames 0 to {known.frames - 1} decode")
    for crop in crops:
        if not (0 <= crop.x0 < crop.x1 <= known.width and 0 <= crop.y0 < crop.y1 <= known.height and crop.size > 0):
            raise VideoError(
                f"{path}: {crop.x0},{crop.y0} to {crop.x1},{crop.y1} at size {crop.size} is no crop of frames of "
                f"{known.width} x {known.height}"
            )
    if not crops:
        convert = _Converter(known)
        plain = {number: convert(frame) for number, frame in _wanted(path, known, sorted(set(numbers)))}
        arrays = [plain[number] for number in numbers]
        shape = (0, known.height, known.width, 3)
        return [torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(shape, dtype=torch.uint8)]
    needed: dict[int, list[tuple[int, int]]] = {}  # frame number -> (crop, place in it)
    for which, crop in enumerate(crops):
        for place, entry in enumerate(crop.frames):
            needed.setdefault(numbers[entry], []).append((which, place))
    out = [np.empty((len(crop.frames), crop.size, crop.size, 3), np.uint8) for crop in crops]
    cutters = [_Cutter(crop, known) for crop in crops]
    for number, frame in _wanted(path, known, sorted(needed)):
        for which in {which for which, _ in needed[number]}:
            cut = cutters[which](frame)
            for place in (place for w, place in needed[number] if w == which):
                out[which][place] = cut
    return [torch.from_numpy(array) for array in out]


def read_all(path: Path) -> Tensor:
    """Every frame, [T, H, W, 3] uint8.

    Raises:
        VideoError: no frame decodes.
    """
    return read(path, range(index(path).frames))[0]


def _wanted(path: Path, known: Index, numbers: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of these sorted numbers; gaps that hold a key frame are skipped by seeking."""
    keys, waiting = known.keys, list(numbers)
    while waiting:
        key = _before(keys, waiting[0])
        for number, frame in _from_key(path, key):
            if number < waiting[0]:
                continue
            waiting.pop(0)
            yield number, frame
            if not waiting:
                return
            if _before(keys, waiting[0])[0] > number + 1:
                break
        else:  # the file ended
            if key[0] == 0:
                raise VideoError(
                    f"{path}: frame {waiting[0]} does not decode any more; the file changed, read it again"
                )
            keys = ()  # its key frame did not come out after the seek: count from the first frame


def _before(keys: Sequence[Key], number: int) -> Key:
    """The last key frame at or before a frame."""
    return max((key for key in keys if key[0] <= number), default=(0, None, None), key=lambda key: key[0])


def _from_key(path: Path, key: Key) -> Iterator[tuple[int, VideoFrame]]:
    """Numbered frames from a key frame on; none if it does not come out."""
    number, pts, dts = key
    found = number == 0
    with _opened(path) as (container, stream):
        if not found:
            try:
                container.seek(min(stamp for stamp in (pts, dts) if stamp is not None), stream=stream)
            except FFmpegError:  # the container cannot seek
                return
        for frame in _frames(container, stream):
            if isinstance(frame, FFmpegError):
                continue
            found = found or (frame.key_frame and _stamp(frame) == (pts if pts is not None else dts))
            if found:
                yield number, frame
                number += 1


def _stamp(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts


class _Converter:
    """Whole frames to RGB; one per file keeps its conversion tables."""

    def __init__(self, known: Index) -> None:
        self.known, self.reformatter = known, VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """[H, W, 3] as shown, after rotation."""
        width, height = _stored(self.known, frame)
        plain = self.reformatter.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
        return cast("NDArray[np.uint8]", np.ascontiguousarray(np.rot90(plain, _turns(frame))))


class _Cutter:
    """Crop and resize by a filter graph, so that only the crop is converted; rebuilt if frames change their format."""

    def __init__(self, crop: Crop, known: Index) -> None:
        self.crop, self.known = crop, known
        self.made_for: tuple[Any, ...] = ()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """[size, size, 3] of a frame."""
        kind = (frame.width, frame.height, frame.format.name, frame.rotation, frame.colorspace, frame.color_range)
        if kind != self.made_for:
            self.made_for, self.graph = kind, self._graph(frame)
        self.graph.push(frame)
        return cast("NDArray[np.uint8]", cast(VideoFrame, self.graph.pull()).to_ndarray(format="rgb24"))

    def _graph(self, frame: VideoFrame) -> av.filter.Graph:
        crop, stored, graph = self.crop, _stored(self.known, frame), av.filter.Graph()
        flags = "area" if min(crop.x1 - crop.x0, crop.y1 - crop.y0) >= crop.size else "bilinear"
        graph.threads = 1  # as many graphs are at work as there are processes
        # Colour is stored for blocks of up to 4 x 4 pixels. Cut between blocks, it moves against the brightness, and
        # resized before it is converted it stays coarse: cut whole blocks, convert, then cut the exact rectangle.
        left, top = crop.x0 // 4 * 4, crop.y0 // 4 * 4
        right, bottom = min(-(-crop.x1 // 4) * 4, self.known.width), min(-(-crop.y1 // 4) * 4, self.known.height)
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)),
            *([graph.add("scale", "{}:{}".format(*stored))] if stored != (frame.width, frame.height) else []),
            *(graph.add(name, option) for name, option in TURNS[_turns(frame)]),
            graph.add("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"),
            graph.add("scale", "flags=bilinear"),
            graph.add("format", "rgb24"),
            graph.add("crop", f"{crop.x1 - crop.x0}:{crop.y1 - crop.y0}:{crop.x0 - left}:{crop.y0 - top}:exact=1"),
            graph.add("scale", f"{crop.size}:{crop.size}:flags={flags}+full_chroma_inp+accurate_rnd+bitexact"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph


# Quarter turns counter-clockwise, as the frame is to be shown, to ffmpeg's filters.
TURNS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("transpose", "cclock"),),
    (("hflip", ""), ("vflip", "")),
    (("transpose", "clock"),),
)


def _turns(frame: VideoFrame) -> int:
    """Quarter turns counter-clockwise as the frame is to be shown, 0 to 3; other angles go to the nearest."""
    return round(frame.rotation / 90) % 4


def _mirrored(frame: VideoFrame) -> bool:
    """Whether the frame is to be reflected before it is shown, which no angle says: its matrix has determinant < 0."""
    held: Any = frame.side_data
    for data in held:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
            return bool(a * d < b * c)
    return False


def _shown(frame: VideoFrame) -> tuple[int, int]:
    """Width and height after rotation."""
    return (frame.height, frame.width) if _turns(frame) % 2 else (frame.width, frame.height)


def _stored(known: Index, frame: VideoFrame) -> tuple[int, int]:
    """Width and height that a frame of the indexed size has before rotation."""
    return (known.height, known.width) if _turns(frame) % 2 else (known.width, known.height)


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | FFmpegError]:
    """Decoded frames in order; the error of a packet that the decoder refuses comes in its place."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except NoMoreFrames:
                return
            except FFmpegError as error:
                yield error
    except FFmpegError as error:  # the container itself is cut off
        yield error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A container and its first video stream; opened anew for each read, since none survives a fork.

    A cover picture is no video. The absolute path keeps a name such as `12:30.avi` from being taken for a protocol.
    """
    try:
        container = av.open(str(path.absolute()), metadata_errors="ignore")
    except (FFmpegError, OSError, ValueError) as error:
        empty = path.is_file() and path.stat().st_size == 0
        reason = "the file is empty" if empty else f"is no readable video ({getattr(error, 'strerror', None) or error})"
        raise VideoError(f"{path}: {reason}; replace the file or leave the video out") from None
    with container:
        stream = next((s for s in container.streams.video if Disposition.attached_pic not in s.disposition), None)
        if stream is None:
            raise VideoError(f"{path}: holds no video stream; replace the file or leave the video out")
        stream.codec_context.thread_count = 1  # several processes read at once
        yield container, stream


# --- writing


def write(path: Path, frames: NDArray[np.uint8], fps: int = 25, crf: int = 18) -> None:
    """Encode [T, H, W, 3] uint8 as H.264: equal frames give equal bytes on any CPU, and a kill leaves no half file.

    Args:
        path: ends in .mp4 or another container that takes H.264; even height and width.
        frames: at least one.
        fps: frames per second.
        crf: constant rate factor of x264, 0 (nearly lossless: colour is halved) to 51.

    Raises:
        VideoError: the frames or the place do not suit.
    """
    shape = frames.shape
    if frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not shape[0] or shape[1] % 2 or shape[2] % 2:
        raise VideoError(f"{path}: takes [T, H, W, 3] uint8 with even H and W, got {list(shape)} {frames.dtype}")
    part = path.with_name(f".{os.getpid()}.{path.name}")
    options = {"crf": str(crf), "preset": "medium", "threads": "1", "flags": "+bitexact"}
    options["x264-params"] = "cpu-independent=1"  # else AVX-512 code decides otherwise from one run to the next
    try:
        with av.open(str(part.absolute()), "w", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.height, stream.width = shape[1:3]
            stream.pix_fmt = "yuv420p"
            for planes in _yuv420(frames):
                container.mux(stream.encode(VideoFrame.from_ndarray(planes, format="yuv420p")))
            container.mux(stream.encode(None))
        part.replace(path)
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path}: cannot be written ({reason})") from None
    finally:
        part.unlink(missing_ok=True)


def _yuv420(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[T, H, W, 3] RGB to the planes [T, 3 H / 2, W] of BT.601, limited range; integers, so the same on any CPU."""
    count, height, width, _ = frames.shape
    red, green, blue = (frames[..., i].astype(np.int32) for i in range(3))
    luma = (66 * red + 129 * green + 25 * blue + 128 >> 8) + 16
    red, green, blue = (
        p[:, ::2, ::2] + p[:, ::2, 1::2] + p[:, 1::2, ::2] + p[:, 1::2, 1::2] for p in (red, green, blue)
    )  # four times their mean
    u = (-38 * red - 74 * green + 112 * blue + 512 >> 10) + 128
    v = (112 * red - 94 * green - 18 * blue + 512 >> 10) + 128
    flat = np.concatenate([plane.reshape(count, -1) for plane in (luma, u, v)], axis=1)
    return flat.astype(np.uint8).reshape(count, height * 3 // 2, width)
