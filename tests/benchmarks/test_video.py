"""From files to clips: two windows of 32 frames a video, every second frame, a random crop each, at 112 x 112.

Beside ours, on the same videos, windows and crops: torchvision's way (decode the window, make floats, crop, resize);
torchcodec and decord, where they are installed, give whole frames to crop and resize.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from test_step import chosen
from torch import Tensor
from torch.nn import functional as F

from fima import augment, datasets, video, views
from fima.config import Augment, Settings
from fima.datasets import Data
from fima.views import Footage, Pretraining

SIZE = 112
SETS = {
    "ucf101": "ucf101/UCF-101/*/*_g0[1-4]_c0[12].avi",
    "kinetics400": "kinetics400/*.mp4",
}
Job = tuple[Path, list[tuple[range, augment.Crop]]]  # a video, its windows and their crops


def jobs(clips: Path, name: str) -> list[Job]:
    """The same for every reader."""
    random, found = np.random.default_rng(0), []
    for path in sorted(clips.glob(SETS[name]))[:12]:
        known = video.index(path)
        windows = []
        for _ in range(2):
            start = int(random.integers(0, max(1, known.frames - 32)))
            crop = augment.draw_crop(known.height, known.width, Augment(flip=0), random)
            windows.append((range(start, min(start + 32, known.frames), 2), crop))
        found.append((path, windows))
    return found


def ours(job: Job) -> list[Tensor]:
    path, windows = job
    found = []
    for frames, crop in windows:
        wanted = video.Crop(crop.x0, crop.y0, crop.x1, crop.y1, SIZE, tuple(range(len(frames))))
        found += video.read(path, frames, [wanted])
    return found


def resized(frames: Tensor, crop: augment.Crop) -> Tensor:
    """Whole frames [T, 3, H, W] uint8, in torchvision's way."""
    inside = (frames.float() / 255)[:, :, crop.y0 : crop.y1, crop.x0 : crop.x1]
    return F.interpolate(inside, (SIZE, SIZE), mode="bilinear", antialias=True)


def torchvisions(job: Job) -> list[Tensor]:
    """Decodes each window whole, as its read_video did, from the key frame before it."""
    path, windows = job
    found = []
    for frames, crop in windows:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate, base = stream.average_rate, stream.time_base
            assert rate is not None and base is not None
            first = int(frames[0] / rate / base)
            container.seek(max(0, first), stream=stream)
            window = []
            for frame in container.decode(stream):
                if frame.pts is None or frame.pts >= first:
                    window.append(frame.to_ndarray(format="rgb24"))
                if len(window) == 32:
                    break
        clip = torch.from_numpy(np.stack(window)).permute(0, 3, 1, 2)
        found.append(resized(clip, crop)[::2])
    return found


def torchcodecs(job: Job) -> list[Tensor]:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    path, windows = job
    decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
    return [resized(decoder.get_frames_at(list(frames)).data, crop) for frames, crop in windows]


def decords(job: Job) -> list[Tensor]:
    import decord  # type: ignore[import-not-found]

    path, windows = job
    reader = decord.VideoReader(str(path), num_threads=1)
    clips = [torch.from_numpy(reader.get_batch(list(frames)).asnumpy()) for frames, _ in windows]
    return [resized(clip.permute(0, 3, 1, 2), crop) for clip, (_, crop) in zip(clips, windows, strict=True)]


def all_of(read: Callable[[Job], list[Tensor]], chosen_jobs: Sequence[Job]) -> int:
    return sum(len(read(job)) for job in chosen_jobs)


@pytest.mark.parametrize("reader", [ours, torchvisions, torchcodecs, decords])
@pytest.mark.parametrize("name", SETS)
def test_clips_of_files(benchmark: Any, clips: Path, name: str, reader: Callable[[Job], list[Tensor]]) -> None:
    if reader in (torchcodecs, decords):
        pytest.importorskip(reader.__name__[:-1], exc_type=ImportError)
    found = jobs(clips, name)
    count = benchmark.pedantic(all_of, (reader, found), rounds=5, warmup_rounds=1)
    assert count == 2 * len(found)
    benchmark.extra_info["clips_per_second"] = count / benchmark.stats["median"]


def test_index(benchmark: Any, clips: Path) -> None:
    """Once a file: which decoded frame each key frame is."""
    path = jobs(clips, "ucf101")[0][0]
    found = benchmark.pedantic(video._decode_index, (path,), rounds=10, warmup_rounds=1)
    benchmark.extra_info["frames_per_second"] = found.frames / benchmark.stats["median"]
    assert found.frames > 40


def batch_of(dataset: Pretraining, settings: Settings, footage: Footage) -> int:
    samples = [dataset[(0, number)] for number in range(8)]
    found = views.pretraining_views(samples, settings, footage, torch.device("cpu"))
    return len(found["source"]) + len(found["target"])


@pytest.mark.filterwarnings("ignore::fima.datasets.PartialCopy")
@pytest.mark.parametrize("row", ["VV", "DC+FS+MD", "full"])
@pytest.mark.parametrize("name", ["ucf101", "embedded"])
def test_batches(benchmark: Any, clips: Path, name: str, row: str) -> None:
    """Decode to batch, all views that the losses take: eight videos as pre-training draws them."""
    if name == "ucf101":
        settings, data = chosen("i3d", row), Data(name="ucf101", root=clips / "ucf101")
    else:
        data = Data.model_validate({"name": "embedded", "decoded": "memory", "embedded": {"train": 32, "test": 6}})
        settings = chosen("small", row)
    _, records, _ = datasets.usable(data, "train", settings.clip, labelled=False)
    footage = Footage(data)
    dataset = Pretraining(records, footage, settings, 2, 0)
    batch = partial(batch_of, dataset, settings, footage)
    count = benchmark.pedantic(batch, rounds=5, warmup_rounds=1)
    benchmark.extra_info["clips_per_second"] = count / benchmark.stats["median"]
