"""UCF101, HMDB51, Kinetics-400, Diving48, your own folder, the embedded set: all become the same list of records.

Importing this module imports no torch and opens no file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from fima import synthetic
from fima.config import Frozen
from fima.synthetic import Embedded

if TYPE_CHECKING:
    from fima.video import Index

VIDEOS = {".avi", ".mp4", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".3gp", ".ts"}
Split = Literal["train", "test", "unused"]
BOTH: tuple[Split, Split] = ("train", "test")
SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "unused": "unused", "": "unused",
}  # fmt: skip
VALIDATION = ("val", "validation", "validate")  # the test split where there is no other
LAYOUTS = {
    "ucf101": "UCF-101/<class>/*.avi and ucfTrainTestlist/",
    "hmdb51": "videos/<class>/*.avi and splits/*_test_split1.txt",
    "kinetics400": "train/<class>/*.mp4 and val/<class>/*.mp4, or a csv with label, youtube_id and split",
    "diving48": "Diving48_V2_train.json, Diving48_V2_test.json and rgb/*.mp4",
    "folder": "a csv with path, label and split, or train/<class>/ and test/<class>/",
}


class DataError(ValueError):
    """The data are not as they must be; the one line names the folder, what is wrong and the way out."""


class PartialCopy(UserWarning):
    """Some of the listed videos are not there; the others are used."""


@dataclass(frozen=True, slots=True)
class Record:
    """A labelled stretch of a video.

    Attributes:
        path: the file.
        label: class number, None if unknown.
        split: of the official list.
        group: videos of one group (subject, recording, film) are never parted by a development split.
        start, stop: frames; stop None is the end of the video.
    """

    path: Path
    label: int | None
    split: Split
    group: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set as it is on this disk.

    Attributes:
        listed: videos that the official lists name in all.
        missing: of these, the ones that are not there.
    """

    name: str
    title: str
    root: Path
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    listed: int
    missing: int = 0

    def split(self, name: str) -> list[Record]:
        """Records of "train" or "test", in the order of the lists."""
        return [record for record in self.records if record.split == name]

    def fingerprint(self) -> str:
        """SHA-256 over path below the root, size in bytes, label, split and stretch of each record: not over where
        the root lies."""
        digest = hashlib.sha256()
        for record in self.records:
            place = os.path.relpath(record.path, self.root)
            fields = (place, record.path.stat().st_size, record.label, record.split, record.start, record.stop)
            digest.update(json.dumps(fields).encode())
        return digest.hexdigest()


class Data(Frozen):
    """Which videos, and how they are read."""

    name: Literal["ucf101", "hmdb51", "kinetics400", "diving48", "folder", "embedded"] = Field(description="data set")
    root: Path | None = Field(None, description="its folder; embedded videos need none")
    fold: int = Field(1, ge=1, le=3, description="official split of UCF101 and HMDB51")
    limit: int | None = Field(None, ge=1, description="videos per split, spread over the classes; none: all")
    broken: Literal["skip", "fatal"] = Field("skip", description="what a video that does not decode does")
    decoded: Literal["stream", "memory"] = Field(
        "stream", description="read clips from the files, or keep decoded videos in memory (small sets)"
    )
    memory_gib: float = Field(2.0, gt=0, description="bound on what is kept in memory")
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
        dataset = _embedded(root, data.embedded)
    else:
        if data.root is None:
            raise DataError(
                f"{data.name}: no folder is given; name it with --data-root DIR (it holds {LAYOUTS[data.name]})"
            )
        root = data.root.expanduser()
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; --data-root must hold {LAYOUTS[data.name]}")
        dataset = {
            "ucf101": _ucf101, "hmdb51": _hmdb51, "kinetics400": _kinetics400, "diving48": _diving48, "folder": _folder,
        }[data.name](root, data.fold)  # fmt: skip
    if not dataset.records:
        raise DataError(f"{root}: none of the {dataset.listed:,} videos of {dataset.title} is there; {_layout(data)}")
    if dataset.missing:
        warnings.warn(
            f"{root}: {dataset.listed - dataset.missing:,} of {dataset.listed:,} listed videos of {dataset.title} "
            "exist; a partial copy gives other numbers than the whole set",
            PartialCopy,
            stacklevel=2,
        )
    if data.limit is not None:
        kept = [record for split in ("train", "test") for record in _spread(dataset.split(split), data.limit)]
        chosen = set(kept)
        records = tuple(record for record in dataset.records if record in chosen)
        dataset = Dataset(
            dataset.name, dataset.title, dataset.root, dataset.classes, records, dataset.listed, dataset.missing
        )
    return dataset


def fingerprint(data: Data) -> str:
    """What identifies the videos. Embedded ones are identified by their settings, without rendering them."""
    if data.name == "embedded":
        limited = f"-{data.limit}" if data.limit is not None else ""
        return synthetic.fingerprint(data.embedded) + limited
    return load(data).fingerprint()


def readable(data: Data, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records whose video decodes, and one line for each video that does not.

    The first call decodes each video once and keeps its index; later ones only look it up.

    Raises:
        DataError: a video is broken and `data.broken` is fatal.
    """
    problems: dict[Path, str] = {}
    lengths: dict[Path, int] = {}
    for path, found in scan([*dict.fromkeys(record.path for record in records)]):
        if isinstance(found, str):
            problems[path] = found
        else:
            lengths[path] = found.frames
    good = []
    for record in records:
        if record.path in problems:
            continue
        if record.start >= lengths[record.path] or (record.stop is not None and record.stop <= record.start):
            problems[record.path] = (
                f"{record.path}: frames {record.start} to {record.stop} are listed, but {lengths[record.path]} decode"
            )
            continue
        good.append(record)
    if problems and data.broken == "fatal":
        more = f"; {len(problems) - 1} more are broken" if len(problems) > 1 else ""
        raise DataError(f"{next(iter(problems.values()))}{more}; data.broken=skip leaves them out")
    return good, sorted(problems.values())


def scan(
    paths: Sequence[Path], jobs: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Path, Index | str]]:
    """Index videos, in several processes if asked; yields (path, index or what is wrong) as they are done.

    Args:
        paths: files.
        jobs: processes.
        on_progress: called with (done, all).
    """
    done = 0
    if jobs == 1 or len(paths) < 2 * jobs:
        found: Iterable[tuple[Path, Index | str]] = map(_index, paths)
        for pair in found:
            done += 1
            if on_progress:
                on_progress(done, len(paths))
            yield pair
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        for pair in pool.map(_index, paths, chunksize=max(1, min(32, len(paths) // (4 * jobs)))):
            done += 1
            if on_progress:
                on_progress(done, len(paths))
            yield pair


def _index(path: Path) -> tuple[Path, Index | str]:
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


# --- the official layouts


def _first(root: Path, names: Sequence[str], need: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root}: {need} is not there (looked for {', '.join(names)})")


def _read(path: Path) -> list[str]:
    try:
        return [
            line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; the official split files belong there") from None


def _ucf101(root: Path, fold: int) -> Dataset:
    lists = next(
        (folder for folder in (root / "ucfTrainTestlist", root.parent / "ucfTrainTestlist") if folder.is_dir()), None
    )
    if lists is None:
        raise DataError(f"{root}: ucfTrainTestlist/ is not there; --data-root must hold {LAYOUTS['ucf101']}")
    videos = next((root / name for name in ("UCF-101", "UCF101", "videos") if (root / name).is_dir()), root)
    numbers = {name: int(number) - 1 for number, name in (line.split() for line in _read(lists / "classInd.txt"))}
    records, listed = [], 0
    for split in BOTH:
        for line in _read(lists / f"{split}list{fold:02d}.txt"):
            name = line.split()[0]
            listed += 1
            path = videos / name
            if not path.is_file():
                continue
            group = re.search(r"_(g\d+)_c\d+", name)
            label = numbers[name.split("/")[0]]
            records.append(Record(path, label, split, f"{label}-{group[1] if group else name}"))
    title, classes = f"UCF101 split {fold}", tuple(sorted(numbers, key=numbers.__getitem__))
    return Dataset("ucf101", title, videos, classes, tuple(records), listed, listed - len(records))


def _hmdb51(root: Path, fold: int) -> Dataset:
    lists = _first(
        root,
        ["splits", "testTrainMulti_7030_splits", "test_train_splits/testTrainMulti_7030_splits"],
        "the split files",
    )
    videos = next((root / name for name in ("videos", "hmdb51_org", "hmdb51") if (root / name).is_dir()), root)
    ending = f"_test_split{fold}.txt"
    classes = tuple(sorted(path.name[: -len(ending)] for path in lists.glob(f"*{ending}")))
    if not classes:
        raise DataError(f"{lists}: no *{ending}; the official split files belong there")
    splits: dict[str, Split] = {"0": "unused", "1": "train", "2": "test"}
    records, listed = [], 0
    for label, name in enumerate(classes):
        for line in _read(lists / f"{name}{ending}"):
            file, flag = line.rsplit(maxsplit=1)
            listed += 1
            path = videos / name / file
            if path.is_file():
                film = file.split(f"_{name}_")[0]
                records.append(Record(path, label, splits[flag], film))
    # The 30 % that a split leaves unused is no part of the experiment.
    return Dataset("hmdb51", f"HMDB51 split {fold}", videos, classes, tuple(records), listed, listed - len(records))


def _kinetics400(root: Path, fold: int) -> Dataset:
    lists = sorted(root.glob("*.csv"))
    if lists:
        return _kinetics_lists(root, lists)
    if any((root / name).is_dir() for name in ("train", *VALIDATION)):
        return _class_folders("kinetics400", "Kinetics-400", root)
    files = video_files(root)
    classes = tuple(sorted({path.parent.name for path in files if path.parent != root}))
    records = tuple(
        Record(path, classes.index(path.parent.name) if path.parent != root else None, "train", path.stem)
        for path in files
    )
    return Dataset("kinetics400", "Kinetics-400, clips without split", root, classes, records, len(records))


def _kinetics_lists(root: Path, lists: Sequence[Path]) -> Dataset:
    rows = [row for path in lists for row in _rows(path, ("youtube_id", "split"))]
    classes = tuple(sorted({row["label"] for row in rows if row.get("label")}))
    number = {name: i for i, name in enumerate(classes)}
    by_stem = {path.stem[:11]: path for path in video_files(root)}  # <id>_<start>_<stop>.mp4 or <id>.mp4
    records, held = [], _held([row["split"] for row in rows])
    for row in rows:
        path = by_stem.get(row["youtube_id"])
        if path is not None:
            label = number.get(row.get("label", ""))
            records.append(Record(path, label, _split(row["split"], held, lists[0]), row["youtube_id"]))
    return Dataset("kinetics400", "Kinetics-400", root, classes, tuple(records), len(rows), len(rows) - len(records))


def _diving48(root: Path, fold: int) -> Dataset:
    videos = next((root / name for name in ("rgb", "videos") if (root / name).is_dir()), root)
    there = {path.stem: path for path in video_files(videos)}
    vocabulary = root / "Diving48_vocab.json"
    records, listed = [], 0
    labels: set[int] = set()
    for split in BOTH:
        path = root / f"Diving48_V2_{split}.json"
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); --data-root must hold {LAYOUTS['diving48']}") from None
        for entry in entries:
            listed += 1
            labels.add(entry["label"])
            if entry["vid_name"] in there:
                name, start, stop = entry["vid_name"], entry["start_frame"], entry["end_frame"]
                film = name.rsplit("_", 1)[0]
                # Files hold one dive each; the frames listed count from its start.
                records.append(Record(there[name], entry["label"], split, film, start, stop))
    classes = tuple(str(label) for label in range(max(labels) + 1))
    if vocabulary.is_file():
        classes = tuple(" ".join(words) for words in json.loads(vocabulary.read_text()))
    return Dataset("diving48", "Diving48 V2", videos, classes, tuple(records), listed, listed - len(records))


def _folder(root: Path, fold: int) -> Dataset:
    lists = sorted(root.glob("*.csv"))
    if len(lists) > 1:
        names = ", ".join(path.name for path in lists)
        raise DataError(f"{root}: holds several lists ({names}); keep the one that is meant")
    if not lists:
        return _class_folders("folder", root.resolve().name, root)
    return _listed("folder", root.resolve().name, root, lists[0])


def _listed(name: str, title: str, root: Path, path: Path) -> Dataset:
    rows = _rows(path, ("path", "split"))
    classes = tuple(sorted({row["label"] for row in rows if row.get("label")}, key=_natural))
    number = {label: i for i, label in enumerate(classes)}
    records = []
    held = _held([row["split"] for row in rows])
    for line, row in enumerate(rows, 2):
        video = root / row["path"]
        if not video.is_file():
            continue
        try:
            start, stop = int(row.get("start") or 0), int(row["stop"]) if row.get("stop") else None
        except ValueError:
            raise DataError(f"{path}:{line}: start and stop must be whole frame numbers, or empty") from None
        split = _split(row["split"], held, path, line)
        records.append(
            Record(video, number.get(row.get("label", "")), split, row.get("group") or row["path"], start, stop)
        )
    return Dataset(name, title, root, classes, tuple(records), len(rows), len(rows) - len(records))


def _class_folders(name: str, title: str, root: Path) -> Dataset:
    """train/<class>/*, test/<class>/* (or val)."""
    there = [name for name in (*SPLITS, *VALIDATION) if name and (root / name).is_dir()]
    held = _held(there)
    parts = [(root / part, _split(part, held, root)) for part in there]
    if not parts:
        raise DataError(
            f"{root}: has no split; put a csv with path,label,split there, or the videos into train/ and test/"
        )
    files = [(path, split) for part, split in parts for path in video_files(part)]
    classes = tuple(sorted({path.parent.name for path, _ in files}))
    number = {label: i for i, label in enumerate(classes)}
    records = tuple(Record(path, number[path.parent.name], split, str(path.relative_to(root))) for path, split in files)
    return Dataset(name, title, root, classes, records, len(records))


def _embedded(root: Path, embedded: Embedded) -> Dataset:
    dataset = _listed("embedded", synthetic.title(embedded), root, root / "records.csv")
    number = {dataset.classes.index(label): i for i, label in enumerate(synthetic.CLASSES)}
    records = tuple(
        Record(r.path, number[cast(int, r.label)], r.split, r.group, r.start, r.stop) for r in dataset.records
    )
    return Dataset(dataset.name, dataset.title, root, synthetic.CLASSES, records, dataset.listed, dataset.missing)


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            have = reader.fieldnames or []
            missing = [name for name in needed if name not in have]
            if missing:
                raise DataError(
                    f"{path}:1: the csv needs the columns {', '.join(needed)} (label, group, start, stop if known), "
                    f"has {', '.join(have) or 'none'}"
                )
            return [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as csv ({error}); save it as UTF-8 with commas") from None


def _held(texts: Iterable[str]) -> Split:
    """What a validation split is: the test split of sets that have no other (Kinetics), else unused."""
    return "unused" if any(SPLITS.get(text.lower()) == "test" for text in texts) else "test"


def _split(text: str, held: Split, path: Path, line: int | None = None) -> Split:
    if text.lower() in VALIDATION:
        return held
    if text.lower() not in SPLITS:
        where = path if line is None else f"{path}:{line}"
        raise DataError(f"{where}: split must be train or test, got {text}")
    return SPLITS[text.lower()]


def _natural(text: str) -> list[tuple[int, str]]:
    """Class 10 comes after class 9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


@cache
def _known(suffix: str) -> bool:
    return suffix.lower() in VIDEOS


def video_files(root: Path) -> list[Path]:
    """Video files below a folder, sorted; one pass of os.scandir, so 240,000 files are fine."""
    found: list[Path] = []
    for folder, _, names in os.walk(root, followlinks=True):
        found += [Path(folder, name) for name in names if _known(Path(name).suffix)]
    return sorted(found)
