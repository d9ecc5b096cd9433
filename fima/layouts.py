"""The layouts of data sets on a disk, the official ones and your own: files and lists to records.

Importing this module imports no torch and opens no file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from fima import synthetic
from fima.synthetic import Embedded

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
    "kinetics400": "train/<class>/*.mp4 and val/<class>/*.mp4, or the lists train.csv and val.csv with youtube_id",
    "diving48": "Diving48_V2_train.json, Diving48_V2_test.json and rgb/*.mp4",
    "folder": "a csv with path, label and split, or train/<class>/ and test/<class>/",
}


class DataError(ValueError):
    """The data are not as they must be; the one line names the folder, what is wrong and the way out."""


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
        listed: entries of the official lists in all.
        missing: of these, the ones whose video is not there, as the lists name them.
    """

    name: str
    title: str
    root: Path
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    listed: int
    missing: tuple[str, ...] = ()

    def split(self, name: str) -> list[Record]:
        """Records of "train" or "test", in the order of the lists."""
        return [record for record in self.records if record.split == name]

    def fingerprint(self) -> str:
        """SHA-256 over path below the root, size in bytes, label, split, group and stretch of each record: not over
        where the root lies."""
        digest = hashlib.sha256()
        for record in self.records:
            place = os.path.relpath(record.path, self.root)
            size = record.path.stat().st_size
            fields = (place, size, record.label, record.split, record.group, record.start, record.stop)
            digest.update(json.dumps(fields).encode())
        return digest.hexdigest()


def _below(root: Path, names: Sequence[str]) -> Path:
    """The first of these folders that is there, else the root itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def beside(root: Path, names: Sequence[str], files: str) -> Path | None:
    """The first of these folders with such files, in the root or next to it: a root may be the videos' own folder."""
    places = (place / name for place in (root, root.absolute().parent) for name in names)
    return next((place for place in places if any(place.glob(files))), None)


UCF101_LISTS = (["ucfTrainTestlist"], "classInd.txt")
HMDB51_LISTS = (
    [
        f"{above}{name}"
        for name in ("splits", "testTrainMulti_7030_splits", "test_train_splits")
        for above in ("", "test_train_splits/", "annotations/")
    ],
    "*_test_split1.txt",
)


def _read(path: Path, columns: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """(where, words) of each line that is not empty; a line has one of these numbers of words.

    Only the last words are parted: a name may hold spaces.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; the official split files belong there") from None
    for number, line in enumerate(lines, 1):
        words = line.rsplit(maxsplit=max(columns) - 1)
        if words:
            if len(words) not in columns:
                raise DataError(f"{path}:{number}: is no line of an official split file: {line.strip()}")
            yield f"{path}:{number}", words


def ucf101(root: Path, fold: int) -> Dataset:
    lists = beside(root, *UCF101_LISTS)
    if lists is None:
        raise DataError(f"{root}: ucfTrainTestlist/ is not there; --data-root must hold {LAYOUTS['ucf101']}")
    videos = _below(root, ("UCF-101", "UCF101", "videos"))
    numbers: dict[str, int] = {}
    for where, (number, name) in _read(lists / "classInd.txt", [2]):
        if not number.isdigit():
            raise DataError(f"{where}: must be a class number and a class, got {number} {name}")
        numbers[name] = int(number) - 1
    classes = tuple(sorted(numbers, key=numbers.__getitem__))
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise DataError(f"{lists / 'classInd.txt'}: classes must be numbered from 1 on, without a gap")
    records, missing, listed = [], [], 0
    for split in BOTH:
        for where, (name, *_) in _read(lists / f"{split}list{fold:02d}.txt", [1, 2]):
            listed += 1
            label = numbers.get(name.split("/")[0])
            if label is None:
                raise DataError(f"{where}: {name.split('/')[0]} is no class of classInd.txt")
            if not (videos / name).is_file():
                missing.append(name)
                continue
            group = re.search(r"_(g\d+)_c\d+", name)
            records.append(Record(videos / name, label, split, f"{label}-{group[1] if group else name}"))
    return Dataset("ucf101", f"UCF101 split {fold}", videos, classes, tuple(records), listed, tuple(missing))


def hmdb51(root: Path, fold: int) -> Dataset:
    lists = beside(root, *HMDB51_LISTS)
    if lists is None:
        raise DataError(
            f"{root}: the split files are not there (looked in {', '.join(HMDB51_LISTS[0])}); "
            f"--data-root must hold {LAYOUTS['hmdb51']}"
        )
    videos = _below(root, ("videos", "hmdb51_org", "hmdb51"))
    ending = f"_test_split{fold}.txt"
    classes = tuple(sorted(path.name[: -len(ending)] for path in lists.glob(f"*{ending}")))
    # 0: the part of the videos that a split leaves unused.
    splits: dict[str, Split] = {"0": "unused", "1": "train", "2": "test"}
    records, missing, listed = [], [], 0
    for label, name in enumerate(classes):
        for where, (file, flag) in _read(lists / f"{name}{ending}", [2]):
            listed += 1
            if flag not in splits:
                raise DataError(f"{where}: {file} must be marked 0 (unused), 1 (train) or 2 (test), got {flag}")
            path = videos / name / file
            if path.is_file():
                records.append(Record(path, label, splits[flag], file.split(f"_{name}_")[0]))  # the group is the film
            else:
                missing.append(f"{name}/{file}")
    return Dataset("hmdb51", f"HMDB51 split {fold}", videos, classes, tuple(records), listed, tuple(missing))


def kinetics400(root: Path, fold: int) -> Dataset:
    """Results on Kinetics are those of its validation videos; its test split counts only where they are not there."""
    lists = kinetics_lists(root)
    if lists:
        return _kinetics_listed(root, lists)
    if any((root / name).is_dir() for name in ("train", *VALIDATION)):
        return _class_folders("kinetics400", "Kinetics-400", root)
    for folder in sorted(root.iterdir()):  # as training videos, validation's would be trained on
        if folder.is_dir() and (split := re.match(r"(train|val|test)[^A-Za-z ]", folder.name)):
            raise DataError(f"{folder}: seems to be the videos of a split; call it {split[1]}/, or add the csv lists")
    files = video_files(root)
    names = {path: None if path.parent == root else path.parent.name for path in files}
    classes = tuple(sorted({name for name in names.values() if name is not None}))
    number = {name: i for i, name in enumerate(classes)}
    records = tuple(Record(path, number.get(names[path] or ""), "train", path.stem) for path in files)
    return Dataset("kinetics400", "clips without a list, taken as Kinetics-400's", root, classes, records, len(records))


def kinetics_lists(root: Path) -> list[Path]:
    """The csv lists of Kinetics: in its folder, or in annotations/ below it."""
    return sorted(root.glob("*.csv")) or sorted(root.glob("annotations/*.csv"))


def _kinetics_listed(root: Path, lists: Sequence[Path]) -> Dataset:
    rows: list[tuple[str, str, dict[str, str]]] = []  # where, split, columns
    for path in lists:
        named = re.search(r"train|val|test", path.stem)  # lists without the column are one a split
        for where, row in _rows(path, ("youtube_id",) if named else ("youtube_id", "split")):
            rows.append((where, row.get("split") or (named[0] if named else ""), row))
    classes = tuple(sorted({row["label"] for _, _, row in rows if row.get("label")}))
    number = {name: i for i, name in enumerate(classes)}
    by_stem: dict[str, Path] = {}  # <id>_<start>_<stop>.mp4
    by_id: dict[str, Path] = {}
    whole: dict[str, Path] = {}  # <id>.mp4, or any other name that tells no times
    for path in video_files(root):
        by_stem[path.stem] = by_id[path.stem[:11]] = path
        if not re.fullmatch(r".{11}_\d{6}_\d{6}", path.stem):
            whole[path.stem[:11]] = path
    records, missing = [], []
    held = _held([split for _, split, _ in rows], prefer=True)
    for where, split, row in rows:
        name = row["youtube_id"]
        try:
            name = f"{name}_{float(row['time_start']):06.0f}_{float(row['time_end']):06.0f}"
            video = by_stem.get(name) or whole.get(row["youtube_id"])  # never another segment of the same video
        except (KeyError, ValueError):  # a list without times
            video = by_id.get(name)
        if video is None:
            missing.append(name)
            continue
        label = number.get(row.get("label", ""))
        records.append(Record(video, label, _split(split, held, where), row["youtube_id"]))
    return Dataset("kinetics400", "Kinetics-400", root, classes, tuple(records), len(rows), tuple(missing))


def _json(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); --data-root must hold {LAYOUTS['diving48']}") from None
    if not isinstance(entries, list):
        raise DataError(f"{path}: must be a list; --data-root must hold {LAYOUTS['diving48']}")
    return entries


def diving48(root: Path, fold: int) -> Dataset:
    videos = _below(root, ("rgb", "videos"))
    there = {path.stem: path for path in video_files(videos)}
    records, missing, listed, classes_needed = [], [], 0, 0
    for split in BOTH:
        path = root / f"Diving48_V2_{split}.json"
        for number, entry in enumerate(_json(path)):
            try:
                name, label = str(entry["vid_name"]), int(entry["label"])
                start, stop = int(entry["start_frame"]), int(entry["end_frame"])
            except (KeyError, TypeError, ValueError):
                raise DataError(
                    f"{path}: entry {number} must have vid_name, label, start_frame and end_frame, got {entry}"
                ) from None
            listed += 1
            classes_needed = max(classes_needed, label + 1)
            if name in there:
                film = name.rsplit("_", 1)[0]
                # Files hold one dive each; the frames listed count from its start.
                records.append(Record(there[name], label, split, film, start, stop))
            else:
                missing.append(name)
    classes = tuple(map(str, range(classes_needed)))
    vocabulary = root / "Diving48_vocab.json"
    if vocabulary.is_file():
        classes = tuple(" ".join(words) for words in _json(vocabulary))
        if len(classes) < classes_needed:
            raise DataError(f"{vocabulary}: names {len(classes)} classes, but the lists have {classes_needed}")
    return Dataset("diving48", "Diving48 V2", videos, classes, tuple(records), listed, tuple(missing))


def folder(root: Path, fold: int) -> Dataset:
    lists = sorted(root.glob("*.csv"))
    if len(lists) > 1:
        names = ", ".join(path.name for path in lists)
        raise DataError(f"{root}: holds several lists ({names}); keep the one that is meant")
    if not lists:
        return _class_folders("folder", root.resolve().name, root)
    return _listed("folder", root.resolve().name, root, lists[0])


def _listed(name: str, title: str, root: Path, path: Path) -> Dataset:
    rows = _rows(path, ("path", "split"))
    classes = tuple(sorted({row["label"] for _, row in rows if row.get("label")}, key=_natural))
    number = {label: i for i, label in enumerate(classes)}
    records, missing = [], []
    held = _held([row["split"] for _, row in rows])
    for where, row in rows:
        split = _split(row["split"], held, where)
        try:
            start, stop = int(row.get("start") or 0), int(row["stop"]) if row.get("stop") else None
        except ValueError:
            raise DataError(f"{where}: start and stop must be whole frame numbers, or empty") from None
        if start < 0 or (stop is not None and stop <= start):
            raise DataError(f"{where}: the frames {start} to {stop} are none; stop is exclusive and counts from 0")
        video = root / row["path"]
        if video.is_file():
            label = number.get(row.get("label", ""))
            records.append(Record(video, label, split, row.get("group") or row["path"], start, stop))
        else:
            missing.append(row["path"])
    return Dataset(name, title, root, classes, tuple(records), len(rows), tuple(missing))


def _class_folders(name: str, title: str, root: Path) -> Dataset:
    """train/<class>/*, test/<class>/* (or val)."""
    there = [part for part in (*SPLITS, *VALIDATION) if part and (root / part).is_dir()]
    held = _held(there, prefer=name == "kinetics400")
    parts = [(root / part, _split(part, held, str(root))) for part in there]
    if not parts:
        raise DataError(
            f"{root}: has no split; put a csv with path,label,split there, or the videos into train/ and test/"
        )
    files = [(path, split, part) for part, split in parts for path in video_files(part)]
    # A video beside the class folders has no label.
    names = {path: None if path.parent == part else path.parent.name for path, _, part in files}
    classes = tuple(sorted({label for label in names.values() if label is not None}))
    number = {label: i for i, label in enumerate(classes)}
    records = tuple(
        Record(path, number.get(names[path] or ""), split, str(path.relative_to(root))) for path, split, _ in files
    )
    return Dataset(name, title, root, classes, records, len(records))


def embedded_set(root: Path, embedded: Embedded) -> Dataset:
    dataset = _listed("embedded", synthetic.title(embedded), root, root / "records.csv")
    classes = synthetic.classes(embedded)
    number = {i: classes.index(label) for i, label in enumerate(dataset.classes)}
    records = tuple(
        Record(r.path, number[cast(int, r.label)], r.split, r.group, r.start, r.stop) for r in dataset.records
    )
    return Dataset(dataset.name, dataset.title, root, classes, records, dataset.listed, dataset.missing)


def _rows(path: Path, needed: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """(where, columns) of each row."""
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            have = [name.strip() for name in reader.fieldnames or []]
            if not {*needed} <= {*have}:
                raise DataError(
                    f"{path}:1: the csv needs the columns {', '.join(needed)} (label, group, start, stop if known), "
                    f"has {', '.join(have) or 'none'}"
                )
            reader.fieldnames = have
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or not row[needed[0]]:
                    wrong = f"{needed[0]} is empty" if None not in row else "more values than columns"
                    raise DataError(f"{where}: {wrong}; put quotes around a value that holds a comma")
                rows.append((where, {name: (value or "").strip() for name, value in row.items()}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as csv ({error}); save it as UTF-8 with commas") from None
    return rows


def _held(texts: Iterable[str], prefer: bool = False) -> tuple[Split, Split]:
    """What validation and test splits are.

    A validation split is the test split of sets that have no other, and of those that prefer it; else unused.
    """
    names = {text.lower() for text in texts}
    if names & {*VALIDATION} and (prefer or not any(SPLITS.get(name) == "test" for name in names)):
        return "test", "unused"
    return "unused", "test"


def _split(text: str, held: tuple[Split, Split], where: str) -> Split:
    name = text.lower()
    if name in VALIDATION:
        return held[0]
    if name not in SPLITS:
        raise DataError(f"{where}: split must be train or test, got {text}")
    return held[1] if SPLITS[name] == "test" else SPLITS[name]


def _natural(text: str) -> list[tuple[int, str]]:
    """Class 10 comes after class 9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


@cache
def _known(suffix: str) -> bool:
    return suffix.lower() in VIDEOS


def video_files(root: Path) -> list[Path]:
    """Video files below a folder, sorted, without hidden ones (macOS leaves a `._` twin of each file it copies)."""
    found: list[Path] = []
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".") and _known(Path(name).suffix)]
    return sorted(found)


READERS: dict[str, Callable[[Path, int], Dataset]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics400,
    "diving48": diving48,
    "folder": folder,
}
