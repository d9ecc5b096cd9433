"""Embedded videos: rendered on first use, with controlled motion, true masks and motion labels.

An articulated figure moves over a background that is unique to each video and says nothing about the class; the
classes show it equally often at any place, size, lean and arm position, so that one frame does not give the class away
(but for a figure upside down, which spins).
The compound domain stands in for Diving48: a class is two sub-motions at once, and every video shows one of the same
four backgrounds, so that neither a background nor a single sub-motion tells anything.
Two-stage videos show two sub-motions in turn, each a record of its own: what moves changes over time, which is what
FIMA's temporal weak alignment is about. Importing this module imports no torch.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from pydantic import Field

from fima import drawing, indices
from fima.config import Frozen
from fima.drawing import CLASSES, COMPOUNDS, DOMAINS, Look, Motion

VERSION = 3  # raised when the same settings give other videos
FADE = 4  # frames in which one motion turns into the next
GRID = 16  # side of the stored masks

__all__ = ["CLASSES", "Embedded", "classes", "fingerprint", "render", "title"]


class Embedded(Frozen):
    """What the rendered videos contain; each knob is a property that may decide which component matters."""

    set: Literal["stationary", "two-stage"] = Field("two-stage", description="one sub-motion per video, or two in turn")
    domain: Literal["source", "transfer", "compound"] = Field(
        "source",
        description="transfer has other textures, more jitter, other periods, amplitudes and sizes; compound has pairs "
        "of sub-motions at once for classes, before four backgrounds that all videos share",
    )
    train: int = Field(240, ge=1, description="training videos")
    test: int = Field(120, ge=1, description="test videos")
    seed: int = Field(0, ge=0, description="of all videos")
    size: int = Field(64, ge=32, multiple_of=16, description="side in pixels")
    frames: int = Field(80, ge=80, description="length of a video at 25 frames per second")
    figure: float = Field(1.0, gt=0, le=1.5, description="factor on the size of the figure")
    jitter: float = Field(0.7, ge=0, description="camera jitter: innovation of an AR(1) walk (0.8) in pixels")
    distractors: int = Field(0, ge=0, description="blobs of the figure's colours that drift through the video")
    redraw: bool = Field(True, description="the second stage draws period, amplitude and direction anew")
    background_class_correlation: float = Field(
        0.0, ge=0, le=1, description="share of videos whose background tells the (first) class; in test another class"
    )


def title(embedded: Embedded) -> str:
    """How tables name the set."""
    return f"embedded {embedded.set} ({embedded.domain})"


def classes(embedded: Embedded) -> tuple[str, ...]:
    """Names of the classes, by number."""
    return tuple("+".join(pair) for pair in COMPOUNDS) if embedded.domain == "compound" else CLASSES


def fingerprint(embedded: Embedded, training_only: bool = False) -> str:
    """12 hexadecimal digits over settings and version of the generator; renders nothing.

    Args:
        embedded: the settings.
        training_only: leave out how many test videos there are, which alters no training video.
    """
    settings = embedded.model_dump(mode="json", exclude={"test"} if training_only else None)
    data = json.dumps({"version": VERSION, **settings}, sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()[:12]


def folder(embedded: Embedded, root: Path | None = None) -> Path:
    """Where the videos are, rendered or not."""
    words = f"{embedded.set}-{embedded.domain}-{embedded.train}+{embedded.test}-s{embedded.seed}"
    return (root or indices.cache_folder() / "embedded") / f"{words}-{fingerprint(embedded)}"


def render(
    embedded: Embedded,
    root: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> Path:
    """The folder of the videos, rendered if it is not there. Safe in two processes at once; a kill leaves nothing.

    It holds videos/*.mp4, beside each an .npz (masks, camera path, sub-motion per frame, parameters), records.csv
    (path, label, split, group, start, stop) and meta.json.

    Args:
        embedded: what to render.
        root: parent folder; default: $FIMA_CACHE/embedded.
        on_progress: called with (videos done, videos).
        jobs: processes.

    Raises:
        OSError: the folder cannot be written.
    """
    final = folder(embedded, root)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_suffix(".lock")):
        if final.is_dir():  # another process was faster
            return final
        part = final.with_name(f".{final.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # what a killed process left
        (part / "videos").mkdir(parents=True)
        _render(embedded, part, on_progress, jobs)
        part.replace(final)
    return final


@dataclass(frozen=True)
class _Job:
    embedded: Embedded
    folder: Path
    split: Literal["train", "test"]
    number: int


def _render(embedded: Embedded, part: Path, on_progress: Callable[[int, int], None] | None, jobs: int) -> None:
    splits: tuple[tuple[Literal["train", "test"], int], ...] = (("train", embedded.train), ("test", embedded.test))
    work = [_Job(embedded, part, split, number) for split, count in splits for number in range(count)]
    rows: list[dict[str, str | int]] = []

    def collect(found: list[dict[str, str | int]], done: int) -> None:
        rows.extend(found)
        if on_progress:
            on_progress(done, len(work))

    if jobs == 1:
        for done, job in enumerate(work, 1):
            collect(_video(job), done)
    else:
        # Not from a fork server: a process has one for all, and who trains next may want one that has torch loaded.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for done, found in enumerate(pool.map(_video, work, chunksize=8), 1):
                collect(found, done)
    with (part / "records.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "split", "group", "start", "stop"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    meta = {"version": VERSION, "settings": embedded.model_dump(mode="json"), "classes": list(classes(embedded))}
    (part / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def pairs() -> list[tuple[int, int]]:
    """The 15 unordered pairs of sub-motions, such that every three in a row hold each sub-motion once (round robin)."""
    others = list(range(1, len(CLASSES)))
    out: list[tuple[int, int]] = []
    for turn in range(len(others)):
        ring = [0, *others[turn:], *others[:turn]]
        out += [(ring[i], ring[-1 - i]) for i in range(len(ring) // 2)]
    return out


def _video(job: _Job) -> list[dict[str, str | int]]:
    """Render one video and its truth; returns its records."""
    from fima import video

    embedded, frames = job.embedded, job.embedded.frames
    identity = [VERSION, embedded.seed, DOMAINS.index(embedded.domain), int(job.split == "test"), job.number]
    rng = np.random.default_rng(identity)
    if embedded.set == "stationary":
        labels, switch = [job.number % len(CLASSES)], frames
    else:
        pair = pairs()[job.number % 15]
        labels = list(pair if rng.random() < 0.5 else pair[::-1])
        switch = int(rng.integers(36, 44, endpoint=True))
    first, second = Motion.draw(embedded.domain, rng), Motion.draw(embedded.domain, rng)
    motions = [first, second if embedded.redraw else first][: len(labels)]
    look = Look.draw(embedded.domain, embedded.figure, embedded.size, rng)
    weight = np.clip((np.arange(frames) - (switch - FADE / 2) + 0.5) / FADE, 0, 1)  # of the second stage
    pose = drawing.poses(look, labels, motions, weight, frames)
    camera = drawing.camera_path(frames, embedded.jitter * (1.4 if embedded.domain == "transfer" else 1), rng)
    theme = _theme(embedded, job.split, labels[0], rng)
    pixels, figure, others = drawing.draw(look, pose, camera, theme, embedded.distractors, embedded.domain, rng)
    names = classes(embedded)
    more: dict[str, Any] = {}  # period and phase of each stage's second sub-motion
    if embedded.domain == "compound":
        more = {"second": np.array([motion.second for motion in motions])}
    name = f"{job.split}_{job.number:05d}"
    path = job.folder / "videos" / f"{name}.mp4"
    video.write(path, pixels, crf=12)
    np.savez_compressed(
        path.with_suffix(".npz"),
        mask=drawing.shrink(figure, GRID),
        distractor_mask=drawing.shrink(others, GRID),
        camera=camera,
        motion=np.where(weight < 0.5, labels[0], labels[-1]).astype(np.int8),
        switch=np.array(switch if len(labels) == 2 else -1),
        amplitude=np.array([motion.amplitude for motion in motions]),
        period=np.array([motion.period for motion in motions]),
        phase=np.array([motion.phase for motion in motions]),
        direction=np.array([motion.direction for motion in motions]),
        seed=np.array(identity),
        **more,
    )
    stretches = [(0, frames)] if len(labels) == 1 else [(0, switch - FADE // 2), (switch + FADE // 2, frames)]
    return [
        {
            "path": f"videos/{name}.mp4",
            "label": names[label],
            "split": job.split,
            "group": name,
            "start": a,
            "stop": b,
        }
        for label, (a, b) in zip(labels, stretches, strict=True)
    ]


def _theme(embedded: Embedded, split: str, label: int, rng: np.random.Generator) -> int | None:
    """The class that the background tells, if it tells one: in test another than in train."""
    if rng.random() >= embedded.background_class_correlation:
        return None
    return label if split == "train" else (label + 1) % len(CLASSES)
