"""What is drawn: clips of test videos, and where in them the figure moves, if that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fima import clips, views
from fima.augment import Crop
from fima.config import Clip, Settings
from fima.datasets import Data, Record, usable

COVERED = 0.1  # share of a bin that the figure must cover for the bin to count as figure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scenes:
    """N test videos, K clips of each.

    Attributes:
        title: of the data set.
        of: test videos that it has.
        records: [N].
        samples: [N], K clips each.
        footage: where they were read from.
        size: side of a view in pixels.
        cover: [N, K, T', H', W'] share of each bin of the feature map that the moving figure covers, mean over the
            frames that the bin sees; None where the truth is not known, as for real video.
    """

    title: str
    of: int
    records: tuple[Record, ...]
    samples: tuple[views.Sample, ...]
    footage: views.Footage
    size: int
    cover: Array | None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def clips(self) -> int:
        """K."""
        return len(self.samples[0].clips)

    @property
    def boxes(self) -> Tensor:
        """[N, K, 4] crops normalised to the original frame."""
        return torch.stack([sample.boxes for sample in self.samples])

    def pixels(self, chosen: Sequence[int]) -> Tensor:
        """[n, K, 3, T, S, S] in [0, 1] of some videos."""
        samples = [self.samples[number] for number in chosen]
        return views.pixels(samples, slice(None), self.footage, self.size, torch.device("cpu"))

    def frames(self, number: int, clip: int, parts: int) -> NDArray[np.float32]:
        """[T', S, S, 3] in [0, 1]: the central frame of each of a clip's T' equal parts."""
        pixels = self.pixels([number])[0, clip]
        middle = [int((part + 0.5) * pixels.shape[1] / parts) for part in range(parts)]
        found: NDArray[np.float32] = pixels[:, middle].permute(1, 2, 3, 0).numpy()
        return found

    @property
    def words(self) -> str:
        """What a caption says of the videos."""
        share = f"all {self.of}" if len(self) == self.of else f"{len(self)} of the {self.of}"
        return f"{share} test videos of {self.title}"

    def named(self, chosen: Sequence[int]) -> str:
        """Some videos' names, as a caption lists them."""
        return ", ".join(self.records[number].path.stem for number in chosen)


def uniform(
    data: Data, settings: Settings, grid: tuple[int, int, int], count: int, per_video: int, seed: int
) -> Scenes:
    """Evenly spaced clips of random test videos, centre crop, no augmentation.

    Args:
        data: the set; its test split is taken.
        settings: clip and size of a view are read.
        grid: T', H', W' of the feature map.
        count: videos; all where there are not so many.
        per_video: clips of each; one alone is in the middle.
        seed: of the choice.
    """
    title, of, records = _chosen(data, settings.clip, count, seed)
    footage = views.Footage(data)
    reader = views.Uniform(records, footage, settings.clip, settings.augment.size, per_video)
    samples = [reader[0, number] for number in range(len(records))]
    numbers = [clips.uniform_clips(footage.frames(record), settings.clip, per_video) for record in records]
    cover = _cover(data, footage, records, samples, numbers, grid)
    return Scenes(title, of, tuple(records), tuple(samples), footage, settings.augment.size, cover)


def paired(data: Data, settings: Settings, grid: tuple[int, int, int], count: int, seed: int) -> Scenes:
    """Source and target view of random test videos: windows, crops and flips as in pre-training, colours left alone.

    Args:
        data, settings, grid, count, seed: as in `uniform`.
    """
    title, of, records = _chosen(data, settings.clip, count, seed)
    footage = views.Footage(data)
    plain = settings.model_copy(update={"losses": ("vv",)})  # no sub-clips, no differences
    reader = views.Pretraining(records, footage, plain, 0, seed)
    samples = [reader[0, number] for number in range(len(records))]
    numbers = []
    for number, record in enumerate(records):
        length = footage.frames(record)
        random = np.random.default_rng([seed, 0, number, views.Draw.WINDOWS])
        starts = clips.windows(length, settings.clip, random)
        numbers.append(np.stack([clips.clip_frames(start, length, settings.clip) for start in starts]))
    cover = _cover(data, footage, records, samples, numbers, grid)
    return Scenes(title, of, tuple(records), tuple(samples), footage, settings.augment.size, cover)


def overlap(start: float, stop: float, length: int, bins: int) -> Array:
    """[bins, length]: the share of each of `bins` equal bins of the span [start, stop) that lies in each cell.

    Args:
        start, stop: in cells; start > stop reads the span backwards (a flip).
        length: cells of the axis.
        bins: of the span; rows sum to 1 where the span lies on the axis.
    """
    edges = np.linspace(start, stop, bins + 1)
    low, high = np.minimum(edges[:-1], edges[1:])[:, None], np.maximum(edges[:-1], edges[1:])[:, None]
    cell = np.arange(length)
    inside: Array = (np.minimum(high, cell + 1) - np.maximum(low, cell)).clip(0) / (high - low)
    return inside


def seen(mask: Array, crop: Crop, height: int, width: int, grid: tuple[int, int, int]) -> Array:
    """A mask over the whole frame as the feature map of a crop sees it: exact means over its bins.

    Args:
        mask: [T, G, G] in [0, 1] over the original frame.
        crop: in pixels of the original frame.
        height, width: of the original frame in pixels.
        grid: T', H', W'; T' divides T.

    Returns:
        [T', H', W'] in [0, 1].
    """
    time, down, across = grid
    side = mask.shape[-1]
    x0, x1 = (crop.x1, crop.x0) if crop.flip else (crop.x0, crop.x1)
    rows = overlap(crop.y0 / height * side, crop.y1 / height * side, side, down)
    columns = overlap(x0 / width * side, x1 / width * side, side, across)
    parts = overlap(0, len(mask), len(mask), time)
    found: Array = np.einsum("at,bi,cj,tij->abc", parts, rows, columns, mask)
    return found


def _chosen(data: Data, clip: Clip, count: int, seed: int) -> tuple[str, int, list[Record]]:
    """Title of the data set, number of its test videos, and some of them at random; each file is one video."""
    dataset, records, _ = usable(data, "test", clip, labelled=False)
    order = np.random.default_rng(seed).permutation(len(records))[:count]
    return dataset.title, len(records), [records[number] for number in order]


def _cover(
    data: Data,
    footage: views.Footage,
    records: list[Record],
    samples: list[views.Sample],
    numbers: list[clips.Frames],
    grid: tuple[int, int, int],
) -> Array | None:
    if data.name != "embedded":
        return None
    found = []
    for record, sample, frames in zip(records, samples, numbers, strict=True):
        with np.load(record.path.with_suffix(".npz")) as truth:
            mask = truth["mask"] / 255
        height, width = footage.size(record)
        found.append(
            [
                seen(mask[part + record.start], crop, height, width, grid)
                for part, crop in zip(frames, sample.crops, strict=True)
            ]
        )
    return np.array(found)
