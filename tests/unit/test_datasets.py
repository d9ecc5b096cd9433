"""Every layout becomes the same list of records; what does not fit is said in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from fima import datasets, layouts, video
from fima.datasets import Data, DataError, PartialCopy, Record, load


def place(root: Path, *names: str) -> Path:
    """Files that are there; loading opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def data(name: str, root: Path, **more: Any) -> Data:
    return Data.model_validate({"name": name, "root": root, **more})


def rows(dataset: datasets.Dataset) -> list[tuple[Any, ...]]:
    """(path below the root, class, split, group) of each record."""
    return [
        (
            os.path.relpath(record.path, dataset.root),
            None if record.label is None else dataset.classes[record.label],
            record.split,
            record.group,
        )
        for record in dataset.records
    ]


def refused(settings: Data) -> str:
    """The one line that says why."""
    with pytest.raises(DataError) as caught:
        load(settings)
    line = str(caught.value)
    assert "\n" not in line
    return line


# --- UCF101

YOYO, PUNCH = "YoYo/v_YoYo_g{:02d}_c01.avi", "Punch/v_Punch_g{:02d}_c01.avi"


def ucf101(root: Path) -> Path:
    """Classes whose numbers are not in alphabetical order; split n tests group n."""
    text(root / "ucfTrainTestlist/classInd.txt", "1 YoYo", "2 Punch", "")
    for fold in (1, 2, 3):
        train = [f"{n.format(g)} {label}" for label, n in ((1, YOYO), (2, PUNCH)) for g in (1, 2, 3) if g != fold]
        text(root / f"ucfTrainTestlist/trainlist{fold:02d}.txt", *train)
        text(root / f"ucfTrainTestlist/testlist{fold:02d}.txt", YOYO.format(fold), "", PUNCH.format(fold))
    return place(root, *(f"UCF-101/{n.format(g)}" for n in (YOYO, PUNCH) for g in (1, 2, 3)))


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_ucf101_is_split_by_its_lists_and_numbered_by_its_class_file(tmp_path: Path, fold: int) -> None:
    dataset = load(data("ucf101", ucf101(tmp_path), fold=fold))
    assert dataset.classes == ("YoYo", "Punch")
    assert (dataset.title, dataset.listed, dataset.missing) == (f"UCF101 split {fold}", 6, ())
    assert [record.path.name for record in dataset.split("test")] == [
        f"v_YoYo_g0{fold}_c01.avi",
        f"v_Punch_g0{fold}_c01.avi",
    ]
    assert Counter(record.split for record in dataset.records) == {"train": 4, "test": 2}
    assert all(record.path.is_file() for record in dataset.records)
    assert len({record.group for record in dataset.records}) == 6  # a group number is one film within its class only


@pytest.mark.parametrize("way", ["absolute", "relative", "renamed", "bare"])
def test_the_folder_of_the_videos_is_a_root_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    want = load(data("ucf101", ucf101(tmp_path))).fingerprint()
    videos = tmp_path / "UCF-101"
    if way == "relative":
        monkeypatch.chdir(videos)
        videos = Path()
    elif way == "renamed":
        videos = videos.rename(tmp_path / "films")
    elif way == "bare":  # class folders beside the lists
        for folder in [*videos.iterdir()]:
            folder.rename(tmp_path / folder.name)
        videos.rmdir()
        videos = tmp_path
    assert load(data("ucf101", videos)).fingerprint() == want


def test_a_partial_copy_warns_with_counts(tmp_path: Path) -> None:
    (ucf101(tmp_path) / "UCF-101" / YOYO.format(1)).unlink()
    with pytest.warns(PartialCopy, match="5 of 6 listed videos of UCF101 split 1 exist; a partial copy gives other"):
        dataset = load(data("ucf101", tmp_path))
    assert dataset.missing == (YOYO.format(1),)
    assert [record.path.name for record in dataset.split("test")] == ["v_Punch_g01_c01.avi"]


def test_real_ucf101(clips: Path) -> None:
    with pytest.warns(PartialCopy, match="83 of 13,320 listed videos of UCF101 split 1 exist"):
        dataset = load(data("ucf101", clips / "ucf101"))
    assert (len(dataset.classes), dataset.classes[0], dataset.classes[100]) == (101, "ApplyEyeMakeup", "YoYo")
    assert Counter(record.split for record in dataset.records if record.path.parent.name == "Punch") == {"test": 31}
    assert {record.label for record in dataset.records if record.path.parent.name == "YoYo"} == {100}


@pytest.mark.parametrize(
    "file, line, says",
    [
        ("classInd.txt", "YoYo", "classInd.txt:1: is no line of an official split file: YoYo"),
        ("classInd.txt", "one YoYo", "classInd.txt:1: must be a class number and a class, got one YoYo"),
        ("classInd.txt", "7 YoYo", "classInd.txt: classes must be numbered from 1 on, without a gap"),
        ("testlist01.txt", "Swing/v_Swing_g01_c01.avi", "testlist01.txt:1: Swing is no class of classInd.txt"),
        ("trainlist01.txt", None, "trainlist01.txt: No such file or directory; the official split files belong there"),
    ],
)
def test_damaged_lists_of_ucf101_are_named(tmp_path: Path, file: str, line: str | None, says: str) -> None:
    path = ucf101(tmp_path) / "ucfTrainTestlist" / file
    if line is None:
        path.unlink()
    else:
        text(path, line)
    assert refused(data("ucf101", tmp_path)) == f"{tmp_path / 'ucfTrainTestlist'}/{says}"


# --- HMDB51


def hmdb51(root: Path, lists: str = "splits") -> Path:
    names = [f"wave/Film {film}_wave_f_nm_np1_ba_med_{n}.avi" for film in "AB" for n in (0, 1)]
    for fold, flags in ((1, "1120"), (2, "0211"), (3, "2101")):
        files = [f"{name.split('/')[1]} {flag} " for name, flag in zip(names, flags, strict=True)]
        text(root / lists / f"wave_test_split{fold}.txt", *files)
        text(root / lists / f"brush_hair_test_split{fold}.txt", "#1_brush_hair_u_nm.avi 1", "C_brush_hair_u_nm.avi 2")
    return place(root, *(f"videos/{name}" for name in names), "videos/brush_hair/#1_brush_hair_u_nm.avi")


@pytest.mark.parametrize("fold, flags", [(1, "1120"), (2, "0211"), (3, "2101")])
def test_hmdb51_reads_its_flags(tmp_path: Path, fold: int, flags: str) -> None:
    with pytest.warns(PartialCopy, match="5 of 6 listed"):
        dataset = load(data("hmdb51", hmdb51(tmp_path), fold=fold))
    assert dataset.classes == ("brush_hair", "wave")
    assert dataset.missing == ("brush_hair/C_brush_hair_u_nm.avi",)
    names = {"0": "unused", "1": "train", "2": "test"}
    waves = [row for row in rows(dataset) if row[1] == "wave"]
    assert [row[2] for row in waves] == [names[flag] for flag in flags]
    assert [row[3] for row in waves] == ["Film A", "Film A", "Film B", "Film B"]


@pytest.mark.filterwarnings("ignore::fima.datasets.PartialCopy")
@pytest.mark.parametrize("lists", ["testTrainMulti_7030_splits", "test_train_splits/testTrainMulti_7030_splits"])
def test_lists_of_hmdb51_may_lie_as_they_were_unpacked(tmp_path: Path, lists: str) -> None:
    want = load(data("hmdb51", hmdb51(tmp_path / "a"))).fingerprint()
    other = hmdb51(tmp_path / "b", lists)
    assert load(data("hmdb51", other)).fingerprint() == want
    assert load(data("hmdb51", other / "videos")).fingerprint() == want


def test_real_hmdb51(clips: Path) -> None:
    with pytest.warns(PartialCopy, match="4 of 6,766 listed videos of HMDB51 split 1 exist"):
        dataset = load(data("hmdb51", clips / "hmdb51"))
    assert len(dataset.classes) == 51
    assert {row[1] for row in rows(dataset)} == {"wave", "cartwheel"}
    assert "RATRACE" in {row[3] for row in rows(dataset)}


def test_damaged_lists_of_hmdb51_are_named(tmp_path: Path) -> None:
    path = hmdb51(tmp_path) / "splits/wave_test_split1.txt"
    text(path, "A_wave_f.avi 3")
    assert refused(data("hmdb51", tmp_path)) == (
        f"{path}:1: A_wave_f.avi must be marked 0 (unused), 1 (train) or 2 (test), got 3"
    )
    shutil.rmtree(path.parent)
    assert refused(data("hmdb51", tmp_path)).startswith(f"{tmp_path}: the split files are not there (looked in splits,")


# --- Kinetics-400


def test_kinetics_in_class_folders(tmp_path: Path) -> None:
    place(tmp_path, "train/zumba/a.mp4", "train/abseiling/b.mp4", "val/zumba/c.mp4", "test/d.mp4")
    dataset = load(data("kinetics400", tmp_path))
    assert [row[:3] for row in rows(dataset)] == [
        ("train/abseiling/b.mp4", "abseiling", "train"),
        ("train/zumba/a.mp4", "zumba", "train"),
        ("test/d.mp4", None, "unused"),  # results on Kinetics are those of its validation videos
        ("val/zumba/c.mp4", "zumba", "test"),
    ]


def test_kinetics_in_folders_of_splits_that_are_called_otherwise_is_no_training_set(tmp_path: Path) -> None:
    place(tmp_path, "train_256/zumba/a.mp4", "val_256/zumba/b.mp4")
    says = refused(data("kinetics400", tmp_path))
    assert says.endswith("train_256: seems to be the videos of a split; call it train/, or add the csv lists")


def test_kinetics_without_lists_or_splits(tmp_path: Path) -> None:
    dataset = load(data("kinetics400", place(tmp_path, "loose.mp4", "training dog/a.mp4", "abseiling/b.mp4", "no.txt")))
    assert [row[:3] for row in rows(dataset)] == [
        ("abseiling/b.mp4", "abseiling", "train"),
        ("loose.mp4", None, "train"),
        ("training dog/a.mp4", "training dog", "train"),
    ]


HEAD = "label,youtube_id,time_start,time_end,split"
LISTS: dict[str, dict[str, list[str]]] = {
    "one list": {
        "k.csv": [HEAD, '"zumba",-aaaaaaaaaa,0,10,train', "air drumming,bbbbbbbbbbb,5,15,val", "x,ccccccccccc,1,9,test"]
    },
    "one a split, in annotations/": {
        "annotations/train.csv": [HEAD, "zumba,-aaaaaaaaaa,0,10,train"],
        "annotations/val.csv": [HEAD, "air drumming,bbbbbbbbbbb,5,15,validate"],
        "annotations/test.csv": ["youtube_id,time_start,time_end,split", "ccccccccccc,1,9,test"],
    },
    "no column of the split": {
        "kinetics_train.csv": ["youtube_id,label", "-aaaaaaaaaa,zumba"],
        "kinetics_val.csv": ["youtube_id,label", "bbbbbbbbbbb,air drumming"],
        "kinetics_test.csv": ["youtube_id,label", "ccccccccccc,x"],
    },
}


@pytest.mark.parametrize("which", LISTS)
def test_kinetics_lists(tmp_path: Path, which: str) -> None:
    place(tmp_path, "train/-aaaaaaaaaa_000000_000010.mp4", "val/bbbbbbbbbbb.mp4", "replacement/ccccccccccc_x.mp4")
    for name, lines in LISTS[which].items():
        text(tmp_path / name, *lines)
    found = {row[3]: row[:3] for row in rows(load(data("kinetics400", tmp_path)))}
    assert found["-aaaaaaaaaa"] == ("train/-aaaaaaaaaa_000000_000010.mp4", "zumba", "train")
    assert found["bbbbbbbbbbb"] == ("val/bbbbbbbbbbb.mp4", "air drumming", "test")
    assert found["ccccccccccc"][2] == "unused"


def test_two_clips_of_one_kinetics_video_are_told_apart(tmp_path: Path) -> None:
    place(tmp_path, "aaaaaaaaaaa_000000_000010.mp4", "aaaaaaaaaaa_000020_000030.mp4")
    text(tmp_path / "k.csv", HEAD, "a,aaaaaaaaaaa,20,30,train", "b,aaaaaaaaaaa,0,10,train", "b,bbbbbbbbbbb,0,10,train")
    with pytest.warns(PartialCopy, match="2 of 3 listed"):
        dataset = load(data("kinetics400", tmp_path))
    assert [row[:2] for row in rows(dataset)] == [
        ("aaaaaaaaaaa_000020_000030.mp4", "a"),
        ("aaaaaaaaaaa_000000_000010.mp4", "b"),
    ]
    assert dataset.missing == ("bbbbbbbbbbb_000000_000010",)


def test_one_clip_of_a_kinetics_video_never_stands_for_another(tmp_path: Path) -> None:
    place(tmp_path, "aaaaaaaaaaa_000020_000030.mp4")
    text(tmp_path / "k.csv", HEAD, "run,aaaaaaaaaaa,20,30,train", "jump,aaaaaaaaaaa,0,10,train")
    with pytest.warns(PartialCopy, match="1 of 2 listed"):
        dataset = load(data("kinetics400", tmp_path))
    assert [row[:2] for row in rows(dataset)] == [("aaaaaaaaaaa_000020_000030.mp4", "run")]
    assert dataset.missing == ("aaaaaaaaaaa_000000_000010",)


def test_kinetics_lists_need_ids_and_splits(tmp_path: Path) -> None:
    path = text(place(tmp_path, "a.mp4") / "list.csv", "id,label", "a,b")
    assert refused(data("kinetics400", tmp_path)).startswith(f"{path}:1: the csv needs the columns youtube_id, split")


def test_real_kinetics(clips: Path) -> None:
    dataset = load(data("kinetics400", clips / "kinetics400"))
    assert [(record.label, record.split) for record in dataset.records] == [(None, "train")] * 3


# --- Diving48


def diving48(root: Path, **change: Any) -> Path:
    for split, name in (("train", "a_b_00001"), ("test", "c_00002")):
        entry = {"vid_name": name, "label": 1, "start_frame": 3, "end_frame": 48, **change}
        text(root / f"Diving48_V2_{split}.json", json.dumps([entry]))
    text(root / "Diving48_vocab.json", '[["Back", "15som"], ["Front", "25som"]]')
    return place(root, "rgb/a_b_00001.mp4", "rgb/c_00002.mp4")


def test_diving48_has_stretches_and_a_vocabulary(tmp_path: Path) -> None:
    dataset = load(data("diving48", diving48(tmp_path)))
    assert dataset.classes == ("Back 15som", "Front 25som")
    assert [(r.path.name, r.label, r.split, r.group, r.start, r.stop) for r in dataset.records] == [
        ("a_b_00001.mp4", 1, "train", "a_b", 3, 48),
        ("c_00002.mp4", 1, "test", "c", 3, 48),
    ]
    (tmp_path / "Diving48_vocab.json").unlink()
    assert load(data("diving48", tmp_path)).classes == ("0", "1")


def test_real_diving48_lists(clips: Path, tmp_path: Path) -> None:
    for path in (clips / "diving48").glob("*.json"):
        shutil.copy(path, tmp_path)
    names = [entry["vid_name"] for entry in json.loads((tmp_path / "Diving48_V2_test.json").read_text())[:3]]
    place(tmp_path, *(f"rgb/{name}.mp4" for name in names))
    with pytest.warns(PartialCopy, match="3 of 16,997 listed"):
        dataset = load(data("diving48", tmp_path))
    assert (len(dataset.classes), dataset.classes[0]) == (48, "Back 15som 05Twis FREE")
    assert [record.path.stem for record in dataset.split("test")] == names


@pytest.mark.parametrize(
    "file, content, says",
    [
        ("Diving48_V2_test.json", None, "cannot be read (No such file or directory)"),
        ("Diving48_V2_test.json", "[{", "cannot be read (Expecting"),
        ("Diving48_V2_test.json", "{}", "must be a list"),
        (
            "Diving48_V2_test.json",
            '[{"vid_name": "a"}]',
            "entry 0 must have vid_name, label, start_frame and end_frame",
        ),
        ("Diving48_vocab.json", '[["Back"]]', "names 1 classes, but the lists have 2"),
    ],
)
def test_damaged_lists_of_diving48_are_named(tmp_path: Path, file: str, content: str | None, says: str) -> None:
    path = diving48(tmp_path) / file
    path.unlink()
    if content is not None:
        text(path, content)
    assert refused(data("diving48", tmp_path)).startswith(f"{path}: {says}")


# --- your own folder


def test_a_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    place(tmp_path, "a, b.mp4", "sub/c.mp4", "d.mp4")
    (tmp_path / "my list.csv").write_bytes(
        b'\xef\xbb\xbfpath, label ,split,group,start,stop\r\n"a, b.mp4",class 10,Train,film 1,2,9\r\n\r\n'
        b"sub/c.mp4,class 9,TEST,,,\r\nd.mp4,,,,0,\r\n"
    )
    dataset = load(data("folder", tmp_path))
    assert dataset.classes == ("class 9", "class 10")
    assert rows(dataset) == [
        ("a, b.mp4", "class 10", "train", "film 1"),
        ("sub/c.mp4", "class 9", "test", "sub/c.mp4"),
        ("d.mp4", None, "unused", "d.mp4"),
    ]
    assert [(record.start, record.stop) for record in dataset.records] == [(2, 9), (0, None), (0, None)]


@pytest.mark.parametrize(
    "splits, become",
    [
        (["train", "val"], ["train", "test"]),
        (["train", "val", "test"], ["train", "unused", "test"]),
        (["training", "Validation", "unused"], ["train", "test", "unused"]),
        (["train", "validate", "testing"], ["train", "unused", "test"]),
    ],
)
@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_validation_is_the_test_split_where_there_is_no_other(
    tmp_path: Path, splits: list[str], become: list[str], layout: str
) -> None:
    if layout == "csv":
        place(tmp_path, *(f"{n}.mp4" for n in range(len(splits))))
        text(tmp_path / "x.csv", "path,split", *(f"{n}.mp4,{split}" for n, split in enumerate(splits)))
    else:
        splits = [split.lower() for split in splits]
        place(tmp_path, *(f"{split}/c/{n}.mp4" for n, split in enumerate(splits)))
    by_name = {record.path.stem: record.split for record in load(data("folder", tmp_path)).records}
    assert [by_name[str(n)] for n in range(len(splits))] == become


CSV: list[tuple[list[str], str]] = [
    (["path,label", "a.mp4,x"], "x.csv:1: the csv needs the columns path, split (label, group, start, stop if known)"),
    (["path;split", "a.mp4;train"], "x.csv:1: the csv needs the columns path, split"),
    ([], "x.csv:1: the csv needs the columns path, split (label, group, start, stop if known), has none"),
    (["path,split", "a.mp4,train", "a.mp4,dev"], "x.csv:3: split must be train or test, got dev"),
    (["path,split", "", "gone.mp4,dev"], "x.csv:3: split must be train or test, got dev"),
    (["path,split", ",train"], "x.csv:2: path is empty"),
    (["path,split", "a, b.mp4,train"], "x.csv:2: more values than columns; put quotes around"),
    (["path,split,start", "a.mp4,train,1.5"], "x.csv:2: start and stop must be whole frame numbers, or empty"),
    (["path,split,start", "a.mp4,train,-1"], "x.csv:2: the frames -1 to None are none"),
    (["path,split,start,stop", "a.mp4,train,7,7"], "x.csv:2: the frames 7 to 7 are none; stop is exclusive"),
    (["path,split", "gone.mp4,train"], " none of the 1 videos of "),
]


@pytest.mark.parametrize("lines, says", CSV)
def test_a_wrong_csv_names_its_line(tmp_path: Path, lines: list[str], says: str) -> None:
    text(place(tmp_path, "a.mp4") / "x.csv", *lines)
    line = refused(data("folder", tmp_path))
    assert line.startswith(str(tmp_path))
    assert says in line


def test_a_csv_that_is_not_utf8_or_not_alone(tmp_path: Path) -> None:
    path = text(place(tmp_path, "a.mp4") / "x.csv", "path,split", "a.mp4,train")
    path.write_bytes(path.read_bytes() + b"\xe9.mp4,train\n")
    assert refused(data("folder", tmp_path)).endswith("save it as UTF-8 with commas")
    text(tmp_path / "y.csv", "path,split")
    assert "holds several lists (x.csv, y.csv)" in refused(data("folder", tmp_path))


def test_class_folders_leave_out_what_is_no_video(tmp_path: Path) -> None:
    place(tmp_path, "train/b/1.MP4", "train/a/2.avi", "test/a/3.webm", "train/a/._2.avi", "train/a/notes.txt")
    place(tmp_path, "train/.cache/x.mp4", "train/4.mp4")
    assert [row[:3] for row in rows(load(data("folder", tmp_path)))] == [
        ("train/4.mp4", None, "train"),
        ("train/a/2.avi", "a", "train"),
        ("train/b/1.MP4", "b", "train"),
        ("test/a/3.webm", "a", "test"),
    ]


@pytest.mark.parametrize("name", ["ucf101", "hmdb51", "kinetics400", "diving48", "folder"])
def test_what_is_not_there_says_what_should_be(tmp_path: Path, name: str) -> None:
    says = layouts.LAYOUTS[name]
    assert refused(Data.model_validate({"name": name})) == (
        f"{name}: no folder is given; name it with --data-root DIR (it holds {says})"
    )
    gone = tmp_path / "gone"
    assert refused(data(name, gone)) == f"{gone}: no such folder; --data-root must hold {says}"
    assert refused(data(name, tmp_path)).startswith(str(tmp_path))  # an empty one


# --- what holds for all

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "diving48": diving48,
    "kinetics400": lambda root: place(root, "train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4"),
    "folder": lambda root: place(root, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4"),
}


@pytest.mark.filterwarnings("ignore::fima.datasets.PartialCopy")
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_place_of_the_data_alters_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    settings = data(name, LAYOUTS[name](tmp_path / "here"))
    there = shutil.copytree(tmp_path / "here", tmp_path / "much/deeper/there")
    link = tmp_path / "link"
    link.symlink_to(there)
    monkeypatch.chdir(tmp_path)
    roots = [there, link, Path("here"), Path("much/../here")]
    assert {datasets.fingerprint(replace_root(settings, root)) for root in roots} == {datasets.fingerprint(settings)}


def replace_root(settings: Data, root: Path) -> Data:
    return settings.model_copy(update={"root": root})


@pytest.mark.parametrize("change", ["label", "split", "group", "start", "stop", "order", "size", "one less"])
def test_whatever_alters_results_alters_the_fingerprint(tmp_path: Path, change: str) -> None:
    dataset = load(data("diving48", diving48(tmp_path)))
    before = dataset.fingerprint()
    first, second = dataset.records
    values: dict[str, Any] = {"label": 0, "split": "unused", "group": "x", "start": 4, "stop": None}
    records: tuple[Record, ...] = (first, second)
    if change in values:
        records = (replace(first, **{change: values[change]}), second)
    elif change == "order":
        records = (second, first)
    elif change == "one less":
        records = (first,)
    else:
        first.path.write_bytes(b"longer than it was before")
    assert replace(dataset, records=records).fingerprint() != before


@pytest.mark.parametrize("limit, labels", [(1, "a"), (2, "ab"), (4, "aabc"), (99, "aaabbc")])
def test_a_limit_spreads_over_the_classes_of_each_split(tmp_path: Path, limit: int, labels: str) -> None:
    names = [f"{label}/{n}.mp4" for label, many in (("a", 3), ("b", 2), ("c", 1)) for n in range(many)]
    place(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in names))
    dataset = load(data("folder", tmp_path, limit=limit))
    for split in ("train", "test"):
        assert "".join(dataset.classes[record.label or 0] for record in dataset.split(split)) == labels
    assert dataset.classes == ("a", "b", "c")  # numbers stay what they are without a limit
    whole = load(data("folder", tmp_path))
    assert [record for record in whole.records if record in set(dataset.records)] == list(dataset.records)


# --- which videos decode


@pytest.fixture
def mixed(tmp_path: Path) -> Data:
    """A video of 20 frames in several stretches, a broken one, and one whose stretch starts too late."""
    video.write(tmp_path / "good.mp4", np.zeros((20, 32, 32, 3), np.uint8))
    shutil.copy(tmp_path / "good.mp4", tmp_path / "late.mp4")
    place(tmp_path, "bad.mp4")
    lines = ["good.mp4,20,", "good.mp4,0,5", "bad.mp4,0,5", "good.mp4,19,99", "late.mp4,30,40", "bad.mp4,5,"]
    text(tmp_path / "x.csv", "path,start,stop,split", *(f"{line},train" for line in lines))
    return data("folder", tmp_path)


def test_what_does_not_decode_is_skipped_by_name(mixed: Data) -> None:
    good, problems = datasets.readable(mixed, load(mixed).records)
    assert [(record.path.name, record.start) for record in good] == [("good.mp4", 0), ("good.mp4", 19)]
    root = mixed.root
    assert problems.short == ()
    assert problems.broken == (
        f"{root}/bad.mp4: is no readable video (Invalid data found when processing input); "
        "replace the file or leave the video out",
        f"{root}/good.mp4: frames 20 to the end are listed, but 20 decode",
        f"{root}/late.mp4: frames 30 to 40 are listed, but 20 decode",
    )


def test_what_does_not_decode_may_be_fatal(mixed: Data) -> None:
    fatal = mixed.model_copy(update={"broken": "fatal"})
    with pytest.raises(DataError, match=r"good\.mp4: frames 20 .*; 2 more like it; data\.broken=skip leaves them out"):
        datasets.readable(fatal, load(fatal).records)
    sound = [record for record in load(fatal).records if record.path.name == "good.mp4" and record.start < 20]
    assert datasets.readable(fatal, sound) == (sound, datasets.Problems())


def test_short_videos_are_named_and_repeat_stay_out_or_stop_all(mixed: Data) -> None:
    records = [record for record in load(mixed).records if record.path.name == "good.mp4" and record.start < 20]
    lines = tuple(f"{mixed.root}/good.mp4: {frames} frames, but a clip spans 6" for frames in (1, 5))
    assert len(datasets.readable(mixed, records, 5)[1].short) == 1
    assert datasets.readable(mixed, records, 6) == (records, datasets.Problems((), lines))
    good, problems = datasets.readable(mixed.model_copy(update={"short": "skip"}), records, 6)
    assert (good, problems.short) == ([], lines)
    with pytest.raises(DataError, match=r"good\.mp4: 5 frames, .*; 1 more like it; data\.short=loop repeats"):
        datasets.readable(mixed.model_copy(update={"short": "fatal"}), records, 6)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_scan_tells_of_every_file_and_its_progress(mixed: Data, jobs: int, no_fork_server: None) -> None:
    paths = layouts.video_files(Path(str(mixed.root))) * 2
    told: list[tuple[int, int]] = []
    found = list(datasets.scan(paths, jobs, lambda done, every: told.append((done, every))))
    assert [path for path, _ in found] == paths
    assert [index if isinstance(index, str) else index.frames for _, index in found[1:3]] == [20, 20]
    assert "no readable video" in str(found[0][1])
    assert told == [(n, 6) for n in range(1, 7)]


def test_every_data_set_that_settings_name_has_a_reader_and_says_its_layout() -> None:
    names = set(get_args(Data.model_fields["name"].annotation)) - {"embedded"}  # rendered, not read
    assert names == set(layouts.READERS) == set(layouts.LAYOUTS)
