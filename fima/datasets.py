"""UCF101, HMDB51, Kinetics-400, Diving48, your own folder, the embedded set: all become the same list of records.

Importing this module imports no torch and opens no file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fima import indices, layouts, synthetic
from fima.config import Clip, Frozen
from fima.layouts import BOTH, LAYOUTS, DataError, Dataset, Record
from fima.synthetic import Embedded

__all__ = [
    "Data", "DataError", "Dataset", "PartialCopy", "Problems", "Record", "copy_of", "cores", "fingerprint", "load",
    "readable", "scan", "usable",
]  # fmt: skip


class PartialCopy(UserWarning):
    """Some of the listed videos are not there; the others are used."""


class Data(Frozen):
    """Which videos, and how they are read."""

    name: Literal["ucf101", "hmdb51", "kinetics400", "diving48", "folder", "embedded"] = Field(description="data set")
    root: Path | None = Field(None, description="its folder; embedded videos need none")
    fold: int = Field(1, ge=1, le=3, description="official split of UCF101 and HMDB51")
    limit: int | None = Field(None, ge=1, description="videos per split, spread over the classes; none: all")
    held_out: int | None = Field(
        None,
        ge=2,
        description="choose on train: one n-th of its groups, by class, takes the place of test, which stays unread",
    )
    broken: Literal["skip", "fatal"] = Field("skip", description="what a video that does not decode does")
    short: Literal["loop", "skip", "fatal"] = Field(
        "loop", description="what a video with fewer frames than a clip spans does: repeat them, stay out, or stop all"
    )
    decoded: Literal["stream", "memory"] = Field(
        "stream", description="read clips from the files, or keep decoded videos in memory (small sets)"
    )
    memory_gib: float = Field(2.0, gt=0, description="bound on what a process keeps in memory")
    cache_gib: float = Field(
        2.0,
        ge=0,
        description="bound on all decoded videos in the cache, where processes share them (decoded: memory); 0: none",
    )
    embedded: Embedded = Field(Embedded(), description="the videos that are rendered")


def load(data: Data) -> Dataset:
    """The records of a data set; embedded videos are rendered on first use.

    Warns:
        PartialCopy: listed videos are missing.

    Raises:
        DataError: no root, a wrong layout, or no video at all.
    """
    if data.name == "embedded":
        root = synthetic.render(data.embedded)
        dataset = layouts.embedded_set(root, data.embedded)
    else:
        if data.root is None:
            raise DataError(
                f"{data.name}: no folder is given; name it with --data-root DIR (it holds {LAYOUTS[data.name]})"
            )
        root = data.root.expanduser()
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; --data-root must hold {LAYOUTS[data.name]}")
        dataset = layouts.READERS[data.name](root, data.fold)
    if not dataset.records:
        raise DataError(f"{root}: none of the {dataset.listed:,} videos of {dataset.title} is there; {_layout(data)}")
    if dataset.missing:
        warnings.warn(
            f"{root}: {dataset.listed - len(dataset.missing):,} of {dataset.listed:,} listed videos of {dataset.title} "
            "exist; a partial copy gives other numbers than the whole set",
            PartialCopy,
            stacklevel=2,
        )
    if data.held_out is not None:
        dataset = _hold_out(dataset, data.held_out)
    if data.limit is not None:
        chosen = {record for split in BOTH for record in _spread(dataset.split(split), data.limit)}
        dataset = replace(dataset, records=tuple(record for record in dataset.records if record in chosen))
    return dataset


def fingerprint(data: Data, pretraining: bool = False) -> str:
    """What identifies the videos. Embedded ones are identified by their settings, without rendering them.

    Args:
        data: the set.
        pretraining: only what pre-training sees: training videos without labels, less what is held out.
    """
    if data.name == "embedded":
        limited = f"-{data.limit}" if data.limit is not None else ""
        held = f"-held1/{data.held_out}" if data.held_out is not None else ""
        return synthetic.fingerprint(data.embedded, training_only=pretraining) + held + limited
    dataset = load(data)
    if pretraining:
        dataset = replace(dataset, records=tuple(_unlabelled(dataset)))
    return dataset.fingerprint()


def training_videos(data: Data) -> int:
    """Videos that pre-training sees if all can be read; embedded ones are not rendered for it, nor held out."""
    if data.name == "embedded":
        return min(data.embedded.train, data.limit or data.embedded.train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartialCopy)
        return len(_unlabelled(load(data)))


def _hold_out(dataset: Dataset, parts: int) -> Dataset:
    """One n-th of the groups of train as "test", classes in proportion; what was test is "unused". Always the same.

    Raises:
        DataError: train has fewer groups, or no class with so many records.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    known = [record for record in dataset.split("train") if record.label is not None]
    groups = [record.group for record in known]
    if len(set(groups)) < parts:
        raise DataError(
            f"{dataset.root}: train of {dataset.title} has {len(set(groups))} groups of labelled videos, of which "
            f"data.held_out={parts} cannot hold out one in {parts}; take at most {max(2, len(set(groups)))}"
        )
    folds = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with few videos may be missing on one side
        try:
            _, chosen = next(iter(folds.split(groups, [record.label for record in known], groups)))
        except ValueError as error:
            raise DataError(f"{dataset.root}: data.held_out={parts}: {error}; take a smaller number") from None
    held = {groups[number] for number in chosen}

    def side(record: Record) -> Record:
        if record.split == "test":
            return replace(record, split="unused")
        if record.split == "train" and record.group in held:
            return replace(record, split="unused" if record.label is None else "test")
        return record

    return replace(dataset, records=tuple(map(side, dataset.records)))


@dataclass(frozen=True)
class Problems:
    """One line per video that is not as it should be.

    Attributes:
        broken: left out, for nothing can be read of them.
        short: they have fewer frames than a clip spans; `Data.short` says what became of them.
    """

    broken: tuple[str, ...] = ()
    short: tuple[str, ...] = ()

    def __add__(self, other: Problems) -> Problems:
        return Problems(self.broken + other.broken, self.short + other.short)


def readable(data: Data, records: Sequence[Record], span: int = 1) -> tuple[list[Record], Problems]:
    """The records that can be used, and what is wrong with those that cannot, or only in part.

    The first call decodes each video once and keeps its index; later ones only look it up.

    Args:
        data: says what broken and short videos do.
        records: to be looked at.
        span: raw frames that a clip spans.

    Raises:
        DataError: a video is broken or short, and `data.broken` or `data.short` is fatal.
    """
    found = dict(scan([*dict.fromkeys(record.path for record in records)]))
    good: list[Record] = []
    broken: dict[str, None] = {}  # a video that several records share is named once
    short: dict[str, None] = {}
    for record in records:
        index = found[record.path]
        if isinstance(index, str):
            broken[index] = None
            continue
        end = index.frames if record.stop is None else min(record.stop, index.frames)
        if record.start >= end:
            stop = "the end" if record.stop is None else record.stop
            broken[f"{record.path}: frames {record.start} to {stop} are listed, but {index.frames} decode"] = None
            continue
        if end - record.start < span:
            short[f"{record.path}: {end - record.start} frames, but a clip spans {span}"] = None
            if data.short == "skip":
                continue
        good.append(record)
    for lines, fatal, way in (
        (broken, data.broken == "fatal", "data.broken=skip leaves them out"),
        (short, data.short == "fatal", "data.short=loop repeats their frames, skip leaves them out"),
    ):
        if lines and fatal:
            more = f"; {len(lines) - 1} more like it" if len(lines) > 1 else ""
            raise DataError(f"{next(iter(lines))}{more}; {way}")
    return good, Problems(tuple(sorted(broken)), tuple(sorted(short)))


def usable(data: Data, split: str, clip: Clip, labelled: bool) -> tuple[Dataset, list[Record], Problems]:
    """A data set, the records of a split that can be used, and what is wrong with others.

    Without labels each file is one record over all of its training stretches: pre-training sees the whole video even
    where a list cuts it into labelled pieces. Where that would show it a test stretch, the pieces stay apart.

    Raises:
        DataError: nothing is left, or videos are broken or short and that is fatal.
    """
    dataset = load(data)
    named = [record for record in dataset.split(split) if record.label is not None]
    records = named if labelled else _unlabelled(dataset, split)
    records, problems = readable(data, records, clip.frames * clip.stride)
    if not records:
        raise DataError(
            f"{dataset.root}: no {'labelled ' if labelled else ''}video of the {split} split of {dataset.title} "
            "can be read; check the folder with `fima-ablate data check`"
        )
    return dataset, records, problems


def _unlabelled(dataset: Dataset, split: str = "train") -> list[Record]:
    """Records of a split without labels and groups, those of one file joined unless one of another split lies between
    them."""
    records = dataset.split(split)
    held = [record for record in dataset.records if record.split != split]
    end = float("inf")

    def stop(record: Record) -> float:
        return end if record.stop is None else record.stop

    pieces: dict[Path, list[Record]] = {}
    for record in records:
        pieces.setdefault(record.path, []).append(replace(record, label=None, group=""))
    others: dict[Path, list[Record]] = {}
    for record in held:
        others.setdefault(record.path, []).append(record)
    out: list[Record] = []
    for path, own in pieces.items():
        first, last = min(record.start for record in own), max(map(stop, own))
        if any(other.start < last and stop(other) > first for other in others.get(path, [])):
            out += own
        else:
            out.append(replace(own[0], start=first, stop=None if last == end else int(last)))
    return out


def copy_of(dataset: Dataset, problems: Problems) -> dict[str, Any]:
    """What of a data set is not there, broken or short, as it goes into results."""
    counts = {"listed": dataset.listed, "missing": len(dataset.missing)}
    return {**counts, "broken": list(problems.broken), "short": list(problems.short)}


def scan(
    paths: Sequence[Path], jobs: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Path, indices.Index | str]]:
    """Index videos, in several processes if asked; yields (path, index or what is wrong), first what was known before.

    Args:
        paths: files.
        jobs: processes.
        on_progress: called with (done, all).
    """
    known = indices.recall(paths)  # in one go: a connection for each file would take minutes for Kinetics
    new = [path for path in paths if path not in known]
    alone = jobs == 1 or len(new) < 2 * jobs
    here = paths if alone else [path for path in paths if path in known]
    for done, pair in enumerate(map(_index, here), 1):
        if on_progress:
            on_progress(done, len(paths))
        yield pair
    if alone:
        return
    # As in fima.synthetic: no fork server, which a process has but one of.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = pool.map(_index, new, chunksize=max(1, min(32, len(new) // (4 * jobs))))
        for done, pair in enumerate(found, len(here) + 1):
            if on_progress:
                on_progress(done, len(paths))
            yield pair


def _index(path: Path) -> tuple[Path, indices.Index | str]:
    from fima import video

    try:
        return path, video.index(path)
    except video.VideoError as error:
        return path, str(error)


def _spread(records: Sequence[Record], limit: int) -> list[Record]:
    """The first record of each class, then the second of each, up to a limit of videos."""
    by_class: dict[int | None, list[Record]] = {}
    for record in records:
        by_class.setdefault(record.label, []).append(record)
    longest = max((len(part) for part in by_class.values()), default=0)
    rounds = [part[turn] for turn in range(longest) for part in by_class.values() if turn < len(part)]
    return rounds[:limit]


def _layout(data: Data) -> str:
    return "render them again" if data.name == "embedded" else f"the folder must hold {LAYOUTS[data.name]}"


def cores() -> int:
    """Processes worth starting."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
