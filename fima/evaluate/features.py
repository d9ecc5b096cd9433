"""Features of uniform clips, extracted once for every evaluation that leaves the encoder as it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fima import augment, compute, distributed, loop, views
from fima.config import Settings
from fima.datasets import Data, Problems, Record, copy_of, fingerprint, usable
from fima.loop import Progress
from fima.model import pooled

FILE = "features.npz"
CHUNK = 8  # videos read together
SLICE = 16  # clips encoded together: what fits beside I3D at 224


@dataclass(frozen=True)
class Features:
    """Pooled encoder features of both splits.

    Attributes:
        train, test: [videos, clips, C] float32.
        train_labels, test_labels: [videos] int64.
        train_groups, test_groups: [videos] names; videos of one group (subject, recording) are never parted by a
            development split, and are resampled together when an interval over test videos is asked for.
    """

    train: NDArray[np.float32]
    test: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    train_groups: NDArray[np.str_]
    test_groups: NDArray[np.str_]


def per_video(right: Mapping[str, Sequence[bool]], groups: Sequence[str]) -> dict[str, list[int]]:
    """How many of each independent test video's (or group's) items were right, for intervals over test videos.

    Args:
        right: metric -> whether each test item counts as right.
        groups: of the items.

    Returns:
        {"of": items of each group, metric: right ones}, groups in the order in which they first appear.
    """
    order = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    member = np.array([order[name] for name in groups])
    counts = {metric: np.bincount(member, np.asarray(hits, float), len(order)) for metric, hits in right.items()}
    found = {"of": np.bincount(member, minlength=len(order)), **counts}
    return {name: values.astype(int).tolist() for name, values in found.items()}


def read(folder: Path) -> Features:
    """Features that `extract` left in a folder.

    Raises:
        ValueError: the file is missing or damaged.
    """
    path = folder / FILE
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return Features(**{name: file[name] for name in Features.__dataclass_fields__})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        what = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read: it is damaged"
        raise ValueError(f"{path}: {what}; delete its folder to extract again") from error


def encode(backbone: nn.Module, clips: Tensor, settings: Settings) -> Tensor:
    """Normalised clips [N, 3, T, H, W] to pooled features [N, C] in float32."""
    return pooled(compute.encode(backbone, clips, settings.compute).float())


@torch.no_grad()
def uniform_features(
    backbone: nn.Module, samples: list[views.Sample], footage: views.Footage, settings: Settings, device: torch.device
) -> Tensor:
    """[videos, clips, C] of samples of `views.Uniform`; the backbone must be in eval mode."""
    found = []
    together = max(1, SLICE // len(samples[0].clips))  # videos whose pixels are expanded at once
    for at in range(0, len(samples), together):
        clips = views.pixels(samples[at : at + together], slice(None), footage, settings.augment.size, device)
        parts = clips.flatten(0, 1).split(SLICE)
        features = torch.cat([encode(backbone, augment.normalise(part), settings) for part in parts])
        found.append(features.unflatten(0, clips.shape[:2]))
    return torch.cat(found)


def chunks(videos: int, done: int = 0) -> list[list[tuple[int, int]]]:
    """Keys of `views.Uniform` for all videos from `done` on, some at a time."""
    return [[(0, number) for number in range(at, min(at + CHUNK, videos))] for at in range(done, videos, CHUNK)]


def extract(
    backbone: nn.Module,
    settings: Settings,
    data: Data,
    count: int,
    folder: Path,
    *,
    workers: int = 0,
    checkpoint_seconds: float = 60,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode `count` uniform clips of each labelled video of both splits; a killed run goes on.

    Args:
        backbone: the encoder.
        settings: clip, size of a view and precision are read.
        data: training and test videos.
        count: clips per video.
        folder: gets features.npz.
        workers: processes that read videos ahead; alters no result.
        checkpoint_seconds: least time between checkpoints; alters no result.
        on_progress: called with (videos done, videos, {}).

    Returns:
        Numbers of videos, what was broken, seconds, as plain JSON data.

    Raises:
        ValueError: the folder has half of the features of another encoder, of other videos or other clips.
    """
    device = distributed.start()
    backbone = compute.placed(backbone, settings.compute, device).eval()
    splits: dict[str, list[Record]] = {}
    problems = Problems()
    for split in ("train", "test"):
        dataset, splits[split], bad = usable(data, split, settings.clip, labelled=True)
        problems += bad
    records = splits["train"] + splits["test"]
    journal = loop.Journal(folder, 1, checkpoint_seconds)
    active = settings.active()
    made = {
        **{name: active[name] for name in ("clip", "compute")},
        "backbone": {**active["backbone"], "weights": None},  # those that pre-training began with
        "augment": {name: active["augment"].get(name) for name in ("size", "difference")},
        "clips": count,
        "data": fingerprint(data),
        "encoder": loop.digest_of(backbone),
    }
    state = journal.restore()
    if state is not None:
        loop.check_same(made, len(records), state, journal.checkpoint)
    encoded: list[Tensor] = [] if state is None else [state["features"]]
    done, spent = (0, 0.0) if state is None else (state["step"], state["seconds"])
    footage = views.Footage(data)
    uniform = views.Uniform(records, footage, settings.clip, settings.augment.size, count)
    began = time.monotonic()

    def snapshot() -> loop.State:
        return {"features": torch.cat(encoded), "made": made, "seconds": spent + time.monotonic() - began}

    for samples in views.batches(uniform, chunks(len(records), done), footage, workers):
        encoded.append(uniform_features(backbone, samples, footage, settings, device).cpu())
        done += len(samples)
        if on_progress:
            on_progress(done, len(records), {})
        if done < len(records):
            journal.save(done, len(records), snapshot)
    everything = torch.cat(encoded).numpy()
    train = len(splits["train"])
    arrays = {
        "train": everything[:train],
        "test": everything[train:],
        "train_labels": np.array([record.label for record in splits["train"]], np.int64),
        "test_labels": np.array([record.label for record in splits["test"]], np.int64),
        "train_groups": np.array([record.group for record in splits["train"]]),
        "test_groups": np.array([record.group for record in splits["test"]]),
    }

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    loop.write_atomically(folder / FILE, save)
    journal.checkpoint.unlink(missing_ok=True)
    return {
        "train_videos": train,
        "test_videos": len(records) - train,
        "classes": len(dataset.classes),
        "clips": count,
        "channels": int(everything.shape[-1]),
        **copy_of(dataset, problems),
        "seconds": spent + time.monotonic() - began,
    }
