"""A check of a data set names every file that would trouble a run."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fima import check, indices, video
from fima.check import Report
from fima.datasets import DataError

YOYO, PUNCH = "YoYo/v_YoYo_g{:02d}_c01.avi", "Punch/v_Punch_g{:02d}_c01.avi"


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound video, one of 10 frames, and one with a damaged packet."""
    folder = tmp_path_factory.mktemp("sources")
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    paths = {name: folder / f"{name}.mp4" for name in ("sound", "short", "damaged")}
    video.write(paths["sound"], noise)
    video.write(paths["short"], noise[:10])
    data = bytearray(paths["sound"].read_bytes())
    start = data.index(b"mdat") + len(data) // 2  # packets come first, of about 1.5 kB each
    data[start : start + 3000] = bytes(3000)
    paths["damaged"].write_bytes(data)
    return paths


@pytest.fixture
def ucf101(tmp_path: Path, sources: dict[str, Path]) -> Path:
    """A partial copy with one file of each kind of trouble."""
    lists, videos = tmp_path / "ucfTrainTestlist", tmp_path / "UCF-101"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Punch\n2 YoYo\n")
    wrong = "Punch/v_YoYo_g09_c01.avi"
    (lists / "trainlist01.txt").write_text("".join(f"{YOYO.format(n)} 2\n" for n in range(1, 6)) + f"{wrong} 1\n")
    (lists / "testlist01.txt").write_text(f"{PUNCH.format(1)}\n{PUNCH.format(2)}\n")
    there = {1: "sound", 2: "short", 3: "damaged", 4: None}
    for folder in ("YoYo", "Punch"):
        (videos / folder).mkdir(parents=True)
    for number, source in there.items():
        path = videos / YOYO.format(number)
        path.write_bytes(sources[source].read_bytes() if source else b"no video")
    for name in (PUNCH.format(1), wrong, "YoYo/extra.avi"):
        shutil.copy(sources["sound"], videos / name)
    return tmp_path


def names(lines: list[str]) -> list[str]:
    """File names that lines begin with."""
    return [Path(line.split(":")[0]).name for line in lines]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_kind_of_trouble_is_named(ucf101: Path, jobs: int) -> None:
    told: list[tuple[int, int]] = []
    with warnings.catch_warnings(record=True) as warned:
        report = check.run(ucf101, jobs=jobs, on_progress=lambda done, every: told.append((done, every)))
    assert not warned  # that the copy is partial is part of the report
    assert (report.title, report.videos, report.listed, report.classes) == ("UCF101 split 1", 7, 8, 2)
    assert names(report.broken) == ["v_YoYo_g04_c01.avi"]
    assert names(report.corrupt) == ["v_YoYo_g03_c01.avi"]
    assert names(report.short) == ["v_YoYo_g02_c01.avi"]
    assert names(report.unlisted) == ["extra.avi"]
    assert report.missing == [YOYO.format(5), PUNCH.format(2)]
    wrong = ucf101 / "UCF-101/Punch/v_YoYo_g09_c01.avi"
    assert report.mislabelled == [f"{wrong}: listed as Punch, named YoYo"]
    assert report.frames == sum(video.index(path).frames for path in ucf101.rglob("*g0[1239]_c01.avi")) + 40
    assert told == [(n, 7) for n in range(1, 8)]
    assert not report.clean


def test_the_report_as_json_and_for_people(ucf101: Path) -> None:
    report = check.run(ucf101)
    plain = json.loads(json.dumps(report.as_json()))
    assert plain["root"] == str(ucf101)
    assert plain["broken"] == report.broken
    assert plain["missing"] == report.missing
    assert plain["clean"] is False
    said = "\n".join(report.lines())
    for part in (
        "UCF101 split 1, 2 classes\n7 videos, ",
        "6 of 8 listed videos exist",
        "1 broken: no frame decodes; a run skips them by name\n    ",
        "1 corrupt in part: the frames that decode are used\n    ",
        "1 short: fewer than 32 frames, clips start again\n    ",
        "2 missing: listed and not there\n    YoYo/v_YoYo_g05_c01.avi\n    Punch/",
        "1 unlisted: in no split, never used\n    ",
        "1 mislabelled: name, folder and list disagree\n    ",
    ):
        assert part in said
    assert "nothing is wrong" not in said
    assert "videos/s" not in said  # seven videos tell nothing about a rate


def test_a_sound_set_is_clean(tmp_path: Path, sources: dict[str, Path]) -> None:
    for name in ("train/a/1.mp4", "test/a/2.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(sources["sound"], tmp_path / name)
    report = check.run(tmp_path)
    assert report.clean
    assert report.lines()[1:] == ["2 videos, 80 frames decode", "2 of 2 listed videos exist", "nothing is wrong"]


def test_videos_of_another_data_set_are_not_clean(tmp_path: Path, sources: dict[str, Path]) -> None:
    """Sound files and lists that do not belong together."""
    touch(tmp_path / "splits", "wave_test_split1.txt", content="a.avi 1\n")
    (tmp_path / "videos/run").mkdir(parents=True)
    shutil.copy(sources["sound"], tmp_path / "videos/run/b.mp4")
    report = check.run(tmp_path, "hmdb51")
    assert report.title == "hmdb51: none of the listed videos is there"
    assert not report.clean
    assert "nothing is wrong" not in report.lines()


def test_long_lists_are_cut_for_people_only() -> None:
    report = Report(Path("x"), "t", unlisted=[f"{n}.mp4" for n in range(1234)])
    assert report.lines()[2:] == [
        "1,234 unlisted: in no split, never used",
        *(f"    {n}.mp4" for n in range(10)),
        "    and 1,224 more (--json names all)",
    ]
    assert len(report.as_json()["unlisted"]) == 1234


def test_the_rate_is_that_of_decoding() -> None:
    report = Report(Path("x"), "t", videos=100, frames=20_000, seconds=10.0, jobs=2)
    assert report.lines()[-2:] == [
        "10 videos/s, 2,000 frames/s with 2 processes",
        "at this rate Kinetics-400, 240,000 files of about 300 frames, would take 10.0 h",
    ]
    half = replace(report, cached=50, seconds=5.0)  # what is only looked up counts for nothing
    assert half.lines()[-2:] == report.lines()[-2:]
    assert replace(report, jobs=1).lines()[-2].endswith("with 1 process")
    for other in (replace(report, cached=60), replace(report, seconds=0.4), replace(report, frames=0)):
        assert "videos/s" not in "\n".join(other.lines())


def test_what_is_indexed_is_not_decoded_again(ucf101: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = check.run(ucf101)
    assert first.cached == 0
    monkeypatch.setattr(video, "_decode_index", lambda path: pytest.fail(f"{path} is decoded again"))
    monkeypatch.setattr(indices, "_MEMORY", {})
    again = check.run(ucf101)
    assert again.cached == again.videos == 7
    assert replace(again, seconds=0, cached=0) == replace(first, seconds=0)


def test_videos_that_only_a_list_leads_to_are_checked(tmp_path: Path, sources: dict[str, Path]) -> None:
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere.mp4"
    root.mkdir()
    shutil.copy(sources["short"], elsewhere)
    shutil.copy(sources["sound"], root / "odd.ending")
    (root / "x.csv").write_text(f"path,label,split\n{elsewhere},a,train\nodd.ending,a,test\n")
    report = check.run(root)
    assert (report.videos, report.frames) == (2, 50)
    assert names(report.short) == ["elsewhere.mp4"]


def test_lists_and_videos_that_have_nothing_in_common(ucf101: Path) -> None:
    for path in (ucf101 / "UCF-101").rglob("v_*"):
        path.rename(path.with_name(f"renamed_{path.name}"))
    report = check.run(ucf101)
    assert report.lines()[0] == f"{ucf101}: ucf101: none of the listed videos is there, 0 classes"
    assert (report.videos, len(report.broken), len(report.short)) == (7, 1, 1)
    assert not report.clean


@pytest.mark.parametrize(
    "name, says",
    [
        (None, ": no video and no list of videos in it; --name says which layout is meant: ucf101, hmdb51, kine"),
        ("ucf101", ": ucfTrainTestlist/ is not there; "),
        ("ucf-101", "ucf-101 is not a data set; there are ucf101, hmdb51, kinetics400, diving48, folder"),
    ],
)
def test_no_data_set_is_an_error(tmp_path: Path, name: str | None, says: str) -> None:
    with pytest.raises(DataError) as caught:
        check.run(tmp_path, name)
    assert says in str(caught.value)
    with pytest.raises(DataError, match="gone: no such folder; name the folder of a data set"):
        check.detect(tmp_path / "gone")


def touch(root: Path, *names: str, content: str = "") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


UCF, HMDB = "ucfTrainTestlist/classInd.txt", "splits/wave_test_split1.txt"
DETECT: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "ucf101": ("ucf101", lambda p: touch(p, UCF, "UCF-101/YoYo/a.avi")),
    "its videos": ("ucf101", lambda p: touch(p, UCF, "UCF-101/YoYo/a.avi") / "UCF-101"),
    "hmdb51": ("hmdb51", lambda p: touch(p, HMDB, "videos/wave/a.avi")),
    "hmdb51 as unpacked": (
        "hmdb51",
        lambda p: touch(
            p, "test_train_splits/testTrainMulti_7030_splits/wave_test_split1.txt", "hmdb51_org/wave/a.avi"
        ),
    ),
    "hmdb51 beside ucf101": ("hmdb51", lambda p: touch(p, UCF, f"h/{HMDB}", "h/videos/wave/a.avi") / "h"),
    "own videos beside ucf101": ("folder", lambda p: touch(p, UCF, "mine/train/a/1.mp4") / "mine"),
    "diving48": ("diving48", lambda p: touch(p, "Diving48_V2_train.json", "rgb/a.mp4")),
    "kinetics lists": ("kinetics400", lambda p: touch(p, "k.csv", content="label,youtube_id,split\n")),
    "kinetics annotations": (
        "kinetics400",
        lambda p: touch(touch(p, "train/a.mp4"), "annotations/val.csv", content="label,youtube_id,split\n"),
    ),
    "bare clips": ("kinetics400", lambda p: touch(p, "a.mp4")),
    "own list": ("folder", lambda p: touch(p, "x.csv", content="path,label,split\n")),
    "own folders": ("folder", lambda p: touch(p, "train/a/1.mp4", "validation/a/2.mp4")),
    "own test videos": ("folder", lambda p: touch(p, "testing/a/1.mp4")),
}


@pytest.mark.parametrize("layout", DETECT)
def test_a_layout_is_seen_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    name, make = DETECT[layout]
    root = make(tmp_path)
    assert check.detect(root) == name
    monkeypatch.chdir(root)
    assert check.detect(Path()) == name


@pytest.mark.parametrize(
    "folder, name, listed, videos",
    [
        ("ucf101", "UCF101 split 2", 13_320, 83),
        ("hmdb51", "HMDB51 split 2", 6_766, 4),
        ("ut_interaction", "ut_interaction", 120, 120),
        ("kinetics400", "clips without a list, taken as Kinetics-400's", 3, 3),
    ],
)
def test_real_sets(clips: Path, folder: str, name: str, listed: int, videos: int) -> None:
    report = check.run(clips / folder, jobs=min(2, os.cpu_count() or 1), fold=2)
    assert (report.title, report.listed, report.videos) == (name, listed, videos)
    assert len(report.missing) == listed - videos
    assert not (report.broken or report.corrupt or report.short or report.unlisted or report.mislabelled)


def test_real_broken_clips(clips: Path) -> None:
    report = check.run(clips / "broken")
    assert (report.videos, report.frames, report.broken) == (2, 49 + 83, [])
    assert names(report.corrupt) == ["header_says_50_frames_one_bad_packet.mp4"]
