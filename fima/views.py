"""Records to batches: frames are read and crops drawn per sample, pixels are worked on per batch.

Randomness depends on (seed, epoch, video, purpose) alone: not on the number of data workers, not on what ran before,
and switching a loss on draws nothing away from another view.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fima import augment, background, clips, decoded, distributed, video
from fima.augment import Crop
from fima.config import Augment, Clip, Settings
from fima.datasets import Data, Record

GIB = 2**30
T = TypeVar("T")


class Draw(IntEnum):
    """What a stream of randomness is for. None is 0: numpy takes [seed] and [seed, 0] for one seed."""

    WINDOWS, SOURCE, TARGET, SOURCE_DIFFERENCE, TARGET_DIFFERENCE, SOURCE_PARTS, TARGET_PARTS = range(1, 8)
    CLASSIFICATION, ORDER, STATIC = 8, 9, 10


@dataclass(frozen=True)
class Sample:
    """The clips of one video as they were read, and what was drawn for them."""

    clips: list[Tensor]  # each [3, T, H, W] uint8; cropped already where the data are streamed
    crops: list[Crop]  # one per clip, in pixels of the original frame
    boxes: Tensor  # [clips, 4] crops normalised to the original frame
    photometry: Tensor  # [views, 6]
    label: int
    static: tuple[float, int] = (0.0, 0)  # weight and number of the frame blended over the source view


class Footage:
    """Reads records: whole decoded videos kept in memory up to a bound, or streamed from the files.

    Whole videos are shared with other processes through the cache (`fima.decoded`), and are then no memory of this one.
    A video beyond the bound is read as far as it is asked for, every time; its pixels are the same.

    Args:
        data: `decoded` chooses; `memory_gib` and `cache_gib` bound what is kept.
    """

    def __init__(self, data: Data) -> None:
        self.in_memory = data.decoded == "memory"
        self._room, self._shared = data.memory_gib * GIB, decoded.Shared(int(data.cache_gib * GIB))
        self._kept: dict[Path, Tensor] = {}

    def frames(self, record: Record) -> int:
        """Raw frames of the record."""
        length = video.index(record.path).frames
        stop = length if record.stop is None else min(record.stop, length)
        if stop <= record.start:
            raise video.VideoError(
                f"{record.path}: frames {record.start} to {record.stop} are asked for, but {length} decode; "
                "correct the list or leave the video out"
            )
        return stop - record.start

    def size(self, record: Record) -> tuple[int, int]:
        """Height and width in pixels."""
        index = video.index(record.path)
        return index.height, index.width

    def read(self, record: Record, frames: Sequence[clips.Frames], crops: Sequence[Crop], size: int) -> list[Tensor]:
        """Clips [3, T, H, W] uint8 for frame numbers that count from the record's start.

        In memory they come whole, to be cropped in a batch; streamed they come cropped and resized by swscale.
        """
        whole = self._whole(record.path) if self.in_memory else None
        if whole is not None:
            return [whole.index_select(1, torch.from_numpy(numbers + record.start)) for numbers in frames]
        union = np.unique(np.concatenate(frames))
        places = [np.searchsorted(union, numbers) for numbers in frames]
        raw = (union + record.start).tolist()
        if self.in_memory:
            part = _planes(video.read(record.path, raw)[0])
            return [part.index_select(1, torch.from_numpy(place)) for place in places]
        wanted = [
            video.Crop(crop.x0, crop.y0, crop.x1, crop.y1, size, tuple(place.tolist()))
            for crop, place in zip(crops, places, strict=True)
        ]
        return [_planes(clip) for clip in video.read(record.path, raw, wanted)]

    def _whole(self, path: Path) -> Tensor | None:
        """The decoded video; None where there is no room for it."""
        if path not in self._kept:
            index = video.index(path)
            frames = self._shared.recall(path, (3, index.frames, index.height, index.width))
            if frames is None:
                size = index.frames * index.height * index.width * 3
                if size > self._room:
                    return None
                own = _planes(video.read_all(path))
                frames = self._shared.keep(path, own)
                if frames is None:
                    frames = own
                    self._room -= size
            self._kept[path] = frames
        return self._kept[path]


def _planes(frames: Tensor) -> Tensor:
    """Frames [T, H, W, 3] as planes [3, T, H, W], which become floats at once."""
    return frames.permute(3, 0, 1, 2).contiguous()


class Pretraining(Dataset[Sample]):
    """Samples of pre-training, indexed by (epoch, video).

    Args:
        records: the videos.
        footage: where frames come from.
        settings: only what the losses that are on need is read.
        parts: T' of the backbone's feature map, the number of sub-clips of L_Fra.
        seed: of the run.
    """

    def __init__(self, records: Sequence[Record], footage: Footage, settings: Settings, parts: int, seed: int) -> None:
        self.records, self.footage, self.settings, self.seed = records, footage, settings, seed
        self.parts = parts if settings.uses("fra") else 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, number = key
        record, settings = self.records[number], self.settings
        length, (height, width) = self.footage.frames(record), self.footage.size(record)

        def rng(purpose: Draw) -> np.random.Generator:
            return np.random.default_rng([self.seed, epoch, number, purpose])

        starts = clips.windows(length, settings.clip, rng(Draw.WINDOWS))
        views, parts, drawn = [], [], []
        for start, view, part in zip(
            starts, (Draw.SOURCE, Draw.TARGET), (Draw.SOURCE_PARTS, Draw.TARGET_PARTS), strict=True
        ):
            random = rng(view)
            frames = [clips.clip_frames(start, length, settings.clip)]
            crops = [augment.draw_crop(height, width, settings.augment, random)]
            drawn.append(augment.draw_photometry(settings.augment, random))
            if self.parts:
                random = rng(part)
                frames += list(clips.part_frames(start, length, settings.clip, self.parts))
                crops += [augment.draw_crop(height, width, settings.augment, random) for _ in range(self.parts)]
                parts += [augment.draw_photometry(settings.augment, random) for _ in range(self.parts)]
            views.append((self.footage.read(record, frames, crops, settings.augment.size), crops))
        if settings.uses("vd", "pix"):
            for purpose in (Draw.SOURCE_DIFFERENCE, Draw.TARGET_DIFFERENCE):
                drawn.append(augment.draw_photometry(settings.augment, rng(purpose)))
        drawn += parts
        # Clips in order: source, target, the source's sub-clips, the target's.
        read = [views[0][0][0], views[1][0][0], *views[0][0][1:], *views[1][0][1:]]
        crops = [views[0][1][0], views[1][1][0], *views[0][1][1:], *views[1][1][1:]]
        boxes = torch.tensor([crop.box(height, width) for crop in crops])
        static = (0.0, 0)
        if settings.augment.static:
            static = background.draw_static(settings.augment, settings.clip.frames, rng(Draw.STATIC))
        return Sample(read, crops, boxes, torch.from_numpy(np.stack(drawn)), -1, static)


class Classification(Dataset[Sample]):
    """One random augmented clip of a labelled video, indexed by (epoch, video): fine-tuning and the SGD probe.

    Args:
        records: labelled videos.
        footage: where frames come from.
        clip: frames and stride.
        augmentation: geometry and photometry; never blurred.
        seed: of the run.
        augmented: False takes the centre crop as it is, at a random time.
    """

    def __init__(
        self, records: Sequence[Record], footage: Footage, clip: Clip, augmentation: Augment, seed: int, augmented: bool
    ) -> None:
        self.records, self.footage, self.clip, self.augmentation = records, footage, clip, augmentation
        self.seed, self.augmented = seed, augmented

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, number = key
        record = self.records[number]
        length, (height, width) = self.footage.frames(record), self.footage.size(record)
        random = np.random.default_rng([self.seed, epoch, number, Draw.CLASSIFICATION])
        start = int(random.integers(0, clips.last_start(length, self.clip), endpoint=True))
        if self.augmented:
            crop = augment.draw_crop(height, width, self.augmentation, random)
            drawn = augment.draw_photometry(self.augmentation, random, blur=False)
        else:
            crop = augment.centre_crop(height, width)
            drawn = np.array([1, 1, 1, 0, 0, 0], np.float32)
        read = self.footage.read(record, [clips.clip_frames(start, length, self.clip)], [crop], self.augmentation.size)
        return Sample(
            read, [crop], torch.tensor([crop.box(height, width)]), torch.from_numpy(drawn)[None], _label(record)
        )


class Uniform(Dataset[Sample]):
    """All test clips of a video: evenly spaced, centre crop, no augmentation; indexed by (0, video).

    Args:
        records: the videos.
        footage: where frames come from.
        clip: frames and stride.
        size: side of a view in pixels.
        count: clips per video.
    """

    def __init__(self, records: Sequence[Record], footage: Footage, clip: Clip, size: int, count: int) -> None:
        self.records, self.footage, self.clip, self.size, self.count = records, footage, clip, size, count

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        record = self.records[key[1]]
        length, (height, width) = self.footage.frames(record), self.footage.size(record)
        frames = list(clips.uniform_clips(length, self.clip, self.count))
        crops = [augment.centre_crop(height, width)] * self.count
        read = self.footage.read(record, frames, crops, self.size)
        return Sample(read, crops, torch.empty(0), torch.empty(0), -1 if record.label is None else record.label)


def _label(record: Record) -> int:
    if record.label is None:
        raise ValueError(f"{record.path}: has no label, which classification needs; take a labelled data set")
    return record.label


class _Guarded(Dataset["Sample | video.VideoError"]):
    """A data set whose unreadable video comes as a value: a loader's process would wrap the error in its traceback."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Sample | video.VideoError:
        try:
            return self.dataset[key]
        except video.VideoError as error:
            return error


@dataclass(frozen=True)
class _Packed:
    """A batch on its way from another process: all pixels in one tensor, for each tensor there holds an open file."""

    pixels: Tensor
    shapes: list[list[torch.Size]]  # per sample, per clip
    others: list[tuple[list[Crop], NDArray[np.float32], NDArray[np.float32], int, tuple[float, int]]]

    @staticmethod
    def of(batch: list[Sample | video.VideoError]) -> _Packed | video.VideoError:
        """Pack samples; of samples with an error, the error."""
        samples = [part for part in batch if isinstance(part, Sample)]
        if len(samples) < len(batch):
            return next(part for part in batch if isinstance(part, video.VideoError))
        return _Packed(
            torch.cat([clip.reshape(-1) for sample in samples for clip in sample.clips]),
            [[clip.shape for clip in sample.clips] for sample in samples],
            [(part.crops, part.boxes.numpy(), part.photometry.numpy(), part.label, part.static) for part in samples],
        )

    def samples(self) -> list[Sample]:
        """The samples again; their clips are views of one tensor."""
        pieces = iter(self.pixels.split([shape.numel() for shapes in self.shapes for shape in shapes]))
        return [
            Sample(
                [next(pieces).view(shape) for shape in shapes],
                crops,
                torch.from_numpy(boxes),
                torch.from_numpy(photometry),
                label,
                static,
            )
            for shapes, (crops, boxes, photometry, label, static) in zip(self.shapes, self.others, strict=True)
        ]


def batches(
    dataset: Dataset[Sample], keys: Iterable[Sequence[tuple[int, int]]], footage: Footage, workers: int
) -> Iterator[list[Sample]]:
    """Samples of each batch of (epoch, video) keys, in order, read ahead by `workers` processes (0: in this one).

    Whole videos in memory are read in this process: cutting a window out of an array needs no help.

    Raises:
        fima.video.VideoError: a video cannot be read any more.
    """
    if footage.in_memory or not workers:
        for batch in keys:
            yield [dataset[key] for key in batch]
        return
    loader = DataLoader(
        _Guarded(dataset),
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=workers,
        multiprocessing_context=_context_of_readers(),
        collate_fn=_Packed.of,
        generator=torch.Generator(),  # of its own: dropout's generator must not know of loaders, or no run resumes
        prefetch_factor=2,
    )
    for packed in loader:
        if isinstance(packed, video.VideoError):
            raise packed
        yield packed.samples()


def _context_of_readers() -> BaseContext | None:
    """How the processes that read ahead start.

    By fork, as DataLoader does by itself on Linux: in a stage of the suite, which comes from a fork server, it would
    take another one, with nothing loaded, and each reader would load torch again, for 3 CPU seconds
    (tests/benchmarks/NOTES.md).
    Beside other ranks from such a server that loads it once: NCCL does not bear a fork (PyTorch's notes on DDP).
    """
    if sys.platform != "linux":
        return None
    if not distributed.active():
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def ahead(samples: Iterable[list[Sample]], prepare: Callable[[list[Sample]], T], device: torch.device) -> Iterator[T]:
    """`prepare` of each batch: on a CPU one batch ahead, in a thread with one core, so that steps find views ready.

    On a GPU a step is only queued, and while it runs the next views are gathered and queued behind it. No further than
    that: each batch that waits holds page-locked memory. No result changes: nothing here draws from torch's generators.

    Raises:
        Exception: what reading or preparing raised, at its batch.
    """
    batches = _begun(samples)

    def following() -> T | None:
        batch = next(batches, None)
        return None if batch is None else prepare(batch)

    if device.type == "cuda":
        before = None
        for found in iter(following, None):
            yield found
            if before is not None:
                before.synchronize()
            before = torch.cuda.Event()
            before.record()  # of the step that was queued with these views
        return
    if device.type != "cpu":
        yield from iter(following, None)
        return
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "views", torch.set_num_threads, (1,)) as thread:
        coming = thread.submit(following)
        while (views := coming.result()) is not None:
            torch.set_num_threads(threads)  # the thread's call was also for all threads to come
            coming = thread.submit(following)
            yield views


def _begun(samples: Iterable[list[Sample]]) -> Iterator[list[Sample]]:
    """The same, the first of them drawn here: with it a loader forks its processes.

    One that is forked by a thread of a pool joins that thread when it ends, which is itself: it ends with an error, and
    the loader's watch over its processes may raise that in the last step of a run.
    """
    batches = iter(samples)
    first = list(islice(batches, 1))

    def every() -> Iterator[list[Sample]]:
        while first:
            yield first.pop()  # held no longer than the others
        yield from batches

    return every()


def epoch_order(videos: int, seed: int, epoch: int) -> list[int]:
    """The videos of an epoch in their random order."""
    order: list[int] = np.random.default_rng([seed, epoch, 0, Draw.ORDER]).permutation(videos).tolist()
    return order


def training_keys(
    videos: int, batch: int, steps: int, seed: int, start: int = 0, rank: int = 0, world: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """(epoch, video) of each remaining step for this rank; the rest of an epoch that fills no batch is left out.

    One epoch's order is held at a time: 100 epochs of Kinetics-400 are 24 million pairs.

    Raises:
        ValueError: a batch needs more videos than there are, or does not divide over the devices.
    """
    if batch > videos:
        raise ValueError(
            f"optim.batch must not exceed the {videos} training videos, got {batch}; set optim.batch={videos}"
        )
    if batch % world:
        raise ValueError(f"optim.batch must be a multiple of the {world} devices, got {batch}")
    per_epoch, share = videos // batch, batch // world

    def keys() -> Iterator[list[tuple[int, int]]]:
        order: list[int] = []
        for step in range(start, steps):
            epoch, place = divmod(step, per_epoch)
            if place == 0 or not order:
                order = epoch_order(videos, seed, epoch)
            first = place * batch + rank * share
            yield [(epoch, number) for number in order[first : first + share]]

    return keys()


def sent(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """Tensors of one shape as one on the device; to a GPU through page-locked memory, so that nobody waits for it."""
    if device.type != "cuda":
        return torch.stack(list(parts)).to(device)
    staged = torch.empty((len(parts), *parts[0].shape), dtype=parts[0].dtype, pin_memory=True)
    return torch.stack(list(parts), out=staged).to(device, non_blocking=True)


def pixels(samples: list[Sample], chosen: slice, footage: Footage, size: int, device: torch.device) -> Tensor:
    """Some of the clips of each sample, cropped, flipped and resized: [B, clips, 3, T, size, size] in [0, 1]."""
    shapes = {sample.clips[chosen][0].shape for sample in samples}
    rows = []
    # One call where the batch has one native size (streamed and embedded clips); otherwise video by video.
    for part in [samples] if len(shapes) == 1 else [[sample] for sample in samples]:
        frames = sent([clip for sample in part for clip in sample.clips[chosen]], device)
        crops = [crop for sample in part for crop in sample.crops[chosen]]
        if footage.in_memory:
            out = augment.crop_resize(frames, crops, size)
        else:
            out = frames.to(torch.float32).div_(255)
            flip = augment.there(torch.tensor([crop.flip for crop in crops]), device)
            out = torch.where(flip[:, None, None, None, None], out.flip(-1), out)
        rows.append(out.unflatten(0, (len(part), -1)))
    return torch.cat(rows)


def pretraining_views(
    samples: list[Sample], settings: Settings, footage: Footage, device: torch.device
) -> dict[str, Tensor]:
    """The views that `fima.model.FIMA` takes, for the losses that are on."""
    size, scaling = settings.augment.size, settings.augment.difference
    low = -1.0 if scaling == "raw" else 0.0
    drawn = torch.stack([sample.photometry for sample in samples])  # [B, views, 6]
    boxes = sent([sample.boxes[:2] for sample in samples], device)
    views = {"source_box": boxes[:, 0], "target_box": boxes[:, 1]}
    rgb = pixels(samples, slice(0, 2), footage, size, device)
    for i, name in enumerate(("source", "target")):
        shown = _on_backgrounds(samples, rgb[:, i], settings.augment) if name == "source" else rgb[:, i]
        views[name] = augment.photometry(shown, drawn[:, i])
        if settings.uses("vd", "pix"):
            moved = augment.difference(rgb[:, i], scaling)
            views[f"{name}_difference"] = augment.photometry(moved, drawn[:, 2 + i], low)
    if settings.uses("fra"):
        parts = pixels(samples, slice(2, None), footage, size, device).flatten(0, 1)
        moved = augment.difference(parts, scaling)
        count = len(parts) // len(samples)  # sub-clips of both views
        parts = augment.photometry(moved, drawn[:, -count:].flatten(0, 1), low).unflatten(0, (len(samples), count))
        views["source_parts"], views["target_parts"] = parts[:, : count // 2], parts[:, count // 2 :]
    return views


def _on_backgrounds(samples: list[Sample], clips: Tensor, chosen: Augment) -> Tensor:
    """RGB clips [B, 3, T, S, S] in [0, 1] as BE and FAME change them, where they are on."""
    if chosen.kept < 1:
        clips = background.merge(clips, chosen.kept)
    if chosen.static:
        weight, frame = (
            torch.tensor(part).to(clips.device, non_blocking=True)
            for part in zip(*(s.static for s in samples), strict=True)
        )
        clips = background.blend(clips, weight, frame)
    return clips
