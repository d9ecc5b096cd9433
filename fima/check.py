"""Checks a data set before a run depends on it: every video is decoded once, and its index is kept for later runs."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from fima import datasets, indices, layouts
from fima.datasets import Data, DataError, Dataset

SHORT = 32  # raw frames of one window of the paper's clips: 16 frames at stride 2
KINETICS, LENGTH = 240_000, 300  # files of Kinetics-400, frames of each
SHOWN = 10  # names per kind of finding


@dataclass
class Report:
    """What was found; every list holds one line per video."""

    root: Path
    title: str
    videos: int = 0
    listed: int = 0
    frames: int = 0
    seconds: float = 0.0
    jobs: int = 1
    recognised: bool = True  # the videos are those of the lists
    cached: int = 0  # videos whose index was there already: their decoding is not measured
    classes: int = 0
    broken: list[str] = field(default_factory=list)  # no frame decodes
    corrupt: list[str] = field(default_factory=list)  # some packets are damaged; the others are used
    short: list[str] = field(default_factory=list)  # fewer than SHORT frames: clips repeat them
    missing: list[str] = field(default_factory=list)  # listed and not there
    unlisted: list[str] = field(default_factory=list)  # there and in no list
    mislabelled: list[str] = field(default_factory=list)  # name, folder and list disagree about the class

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return self.recognised and not (
            self.broken or self.corrupt or self.short or self.missing or self.unlisted or self.mislabelled
        )

    @property
    def rate(self) -> float:
        """Videos decoded per second, 0 if none was."""
        return (self.videos - self.cached) / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return {**asdict(self), "root": str(self.root), "clean": self.clean, "videos_per_second": self.rate}

    def lines(self) -> list[str]:
        """The report for people."""
        out = [f"{self.root}: {self.title}, {self.classes} classes"]
        out.append(f"{self.videos:,} videos, {self.frames:,} frames decode")
        if self.listed:
            out.append(f"{self.listed - len(self.missing):,} of {self.listed:,} listed videos exist")
        for what, found in (
            ("broken: no frame decodes; a run skips them by name", self.broken),
            ("corrupt in part: the frames that decode are used", self.corrupt),
            (f"short: fewer than {SHORT} frames, clips start again", self.short),
            ("missing: listed and not there", self.missing),
            ("unlisted: in no split, never used", self.unlisted),
            ("mislabelled: name, folder and list disagree", self.mislabelled),
        ):
            if found:
                out.append(f"{len(found):,} {what}")
                out += [f"    {line}" for line in found[:SHOWN]]
                if len(found) > SHOWN:
                    out.append(f"    and {len(found) - SHOWN:,} more (--json names all)")
        if self.clean:
            out.append("nothing is wrong")
        if self.videos - self.cached >= 50 and self.seconds > 0.5 and self.frames:
            rate = self.rate * self.frames / self.videos
            hours = KINETICS * LENGTH / rate / 3600
            many = "1 process" if self.jobs == 1 else f"{self.jobs} processes"
            out.append(f"{self.rate:,.0f} videos/s, {rate:,.0f} frames/s with {many}")
            out.append(
                f"at this rate Kinetics-400, {KINETICS:,} files of about {LENGTH} frames, would take {hours:.1f} h"
            )
        return out


def detect(root: Path) -> str:
    """Which layout a folder has, by its files; Kinetics-400 without lists if nothing else fits.

    Raises:
        DataError: no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the folder of a data set")
    names = {path.name for path in root.iterdir()}
    above = layouts.beside(root, *layouts.UCF101_LISTS), layouts.beside(root, *layouts.HMDB51_LISTS)
    own = [lists is not None and lists.is_relative_to(root) for lists in above]
    if own[0]:
        return "ucf101"
    if own[1]:
        return "hmdb51"
    if "Diving48_V2_train.json" in names:
        return "diving48"
    for path in layouts.kinetics_lists(root):
        with path.open(errors="replace") as file:
            if "youtube_id" in file.readline():
                return "kinetics400"
        if path.parent == root:
            return "folder"
    if names & {*layouts.SPLITS, *layouts.VALIDATION}:
        return "folder"
    return "ucf101" if above[0] else "hmdb51" if above[1] else "kinetics400"


def run(
    root: Path,
    name: str | None = None,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
    fold: int = 1,
) -> Report:
    """Scan a data set; what is indexed already is answered from the cache.

    Args:
        root: its folder.
        name: ucf101, hmdb51, kinetics400, diving48 or folder; None: seen from the files.
        jobs: processes.
        on_progress: called with (videos done, videos).
        fold: official split of UCF101 and HMDB51.

    Raises:
        DataError: no data set is there.
    """
    known = [choice for choice in get_args(Data.model_fields["name"].annotation) if choice != "embedded"]
    if name is None:
        name = detect(root)
        if name == "kinetics400" and not layouts.kinetics_lists(root) and not layouts.video_files(root):
            layout = ", ".join(known)
            raise DataError(
                f"{root}: no video and no list of videos in it; --name says which layout is meant: {layout}"
            )
    if name not in known:
        raise DataError(f"{name} is not a data set; there are {', '.join(known)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", datasets.PartialCopy)  # said by the report itself
        dataset: Dataset | None
        try:
            dataset = datasets.load(Data.model_validate({"name": name, "root": root, "fold": fold}))
        except DataError:
            if not layouts.video_files(root):  # else lists and videos have nothing in common: say what the videos are
                raise
            dataset = None
    # Lists may name videos outside the folder, or with endings that no other layout looks for.
    files = sorted({*layouts.video_files(root), *(record.path for record in (dataset.records if dataset else ()))})
    report = Report(root, dataset.title if dataset else f"{name}: none of the listed videos is there", jobs=jobs)
    report.recognised = dataset is not None
    if dataset:
        report.listed, report.missing, report.classes = dataset.listed, [*dataset.missing], len(dataset.classes)
        report.mislabelled = _mislabelled(dataset)
        listed = {record.path.resolve() for record in dataset.records}
        report.unlisted = [str(path) for path in files if path.resolve() not in listed]
    report.cached = len(indices.recall(files))
    began = time.monotonic()
    for path, found in datasets.scan(files, jobs, on_progress):
        report.videos += 1
        if isinstance(found, str):
            report.broken.append(found)
            continue
        report.frames += found.frames
        if found.corrupt:
            report.corrupt.append(
                f"{path}: {found.frames} frames decode, {found.corrupt} packets or frames are damaged"
            )
        if found.frames < SHORT:
            report.short.append(f"{path}: {found.frames} frames")
    report.seconds = time.monotonic() - began
    return report


def _mislabelled(dataset: Dataset) -> list[str]:
    """Records whose folder, or whose official name v_<Class>_gNN_cNN, says another class than the list."""
    out = []
    names = set(dataset.classes)
    for record in dataset.records:
        if record.label is None:
            continue
        own = dataset.classes[record.label]
        official = re.match(r"v_(.+)_g\d+_c\d+$", record.path.stem)
        said = {record.path.parent.name} & names
        if official:
            said.add(official[1])
        other = {name for name in said if name.lower() != own.lower()}
        if other:
            out.append(f"{record.path}: listed as {own}, named {', '.join(sorted(other))}")
    return out
