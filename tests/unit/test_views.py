"""Samples and views: what is read, what is drawn, and that nothing else decides either."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fima import augment, background, clips, datasets, video, views
from fima.config import Augment, Clip, Loss, Settings
from fima.datasets import Data, Record

CPU = torch.device("cpu")
LOSSES: list[tuple[Loss, ...]] = [("vv",), ("vd",), ("vv", "pix"), ("fra",), ("vv", "vd", "pix", "fra")]
SETTINGS: dict[str, Any] = {
    "clip": {"frames": 4, "stride": 2, "gap": 20},
    "augment": {"size": 16, "jitter": 0.8, "blur": 0.5},
}
WHOLE = {"size": 32, "scale_min": 1, "flip": 0, "jitter": 0, "grayscale": 0, "blur": 0}  # frames as they are
PARTS = 2


def data_of(**more: Any) -> Data:
    return Data.model_validate(
        {"name": "embedded", "decoded": "memory", "embedded": {"train": 6, "test": 3, "size": 32}, **more}
    )


def settings_of(*losses: Loss, **more: Any) -> Settings:
    return Settings.model_validate({**SETTINGS, "losses": losses, **more})


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Six whole training videos of 80 frames, 32 x 32."""
    return datasets.usable(data_of(), "train", Clip(), labelled=False)[1]


class Spy(views.Footage):
    """Notes what is asked for."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.asked: list[list[list[int]]] = []

    def read(self, record: Record, frames: Sequence[clips.Frames], *rest: Any) -> list[torch.Tensor]:
        self.asked.append([numbers.tolist() for numbers in frames])
        return super().read(record, frames, *rest)


def dataset_of(
    records: list[Record], *losses: Loss, seed: int = 0, data: Data | None = None, **more: Any
) -> views.Pretraining:
    return views.Pretraining(records, views.Footage(data or data_of()), settings_of(*losses, **more), PARTS, seed)


def same(one: views.Sample, other: views.Sample) -> bool:
    return (
        one.crops == other.crops
        and torch.equal(one.photometry, other.photometry)
        and one.static == other.static
        and torch.equal(one.boxes, other.boxes)
        and all(torch.equal(a, b) for a, b in zip(one.clips, other.clips, strict=True))
    )


# --- what a term costs


@pytest.mark.parametrize("losses", LOSSES)
def test_a_term_that_is_off_reads_and_computes_nothing(
    records: list[Record], losses: tuple[Loss, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, footage = settings_of(*losses), Spy(data_of())
    dataset = views.Pretraining(records, footage, settings, PARTS, 0)
    samples = [dataset[(0, number)] for number in range(2)]
    moved, sub = bool({"vd", "pix"} & set(losses)), "fra" in losses
    for view in footage.asked:
        assert [len(numbers) for numbers in view] == [4] * (1 + PARTS * sub)  # the clip, and sub-clips if they are used
        assert view[0] == list(range(view[0][0], view[0][0] + 8, 2))
        if sub:
            assert [*view[1], *view[2]] == list(range(view[0][0], view[0][0] + 8))
    assert len(footage.asked) == 2 * len(samples)
    for sample in samples:
        count = 2 + 2 * PARTS * sub
        assert (len(sample.clips), len(sample.crops), len(sample.boxes)) == (count, count, count)
        assert len(sample.photometry) == 2 + 2 * moved + 2 * PARTS * sub

    spies = {name: Mock(wraps=getattr(augment, name)) for name in ("difference", "photometry", "crop_resize")}
    for name, spy in spies.items():
        monkeypatch.setattr(augment, name, spy)
    found = views.pretraining_views(samples, settings, footage, CPU)
    expected = {"source", "target", "source_box", "target_box"}
    expected |= {"source_difference", "target_difference"} if moved else set()
    expected |= {"source_parts", "target_parts"} if sub else set()
    assert set(found) == expected
    calls = [spies[name].call_count for name in ("difference", "photometry", "crop_resize")]
    assert calls == [2 * moved + sub, 2 + 2 * moved + sub, 1 + sub]


@pytest.mark.parametrize("losses", LOSSES[1:])
def test_switching_a_loss_on_changes_no_view_that_was_there(records: list[Record], losses: tuple[Loss, ...]) -> None:
    fewer, more = dataset_of(records, "vv")[(3, 1)], dataset_of(records, *losses)[(3, 1)]
    assert same(fewer, replace(more, clips=more.clips[:2], crops=more.crops[:2], boxes=more.boxes[:2],
                               photometry=more.photometry[:2]))  # fmt: skip


def test_sub_clips_do_not_change_the_differences(records: list[Record]) -> None:
    fewer, more = dataset_of(records, "pix")[(3, 1)], dataset_of(records, "pix", "fra")[(3, 1)]
    assert torch.equal(fewer.photometry, more.photometry[:4])
    assert torch.equal(more.photometry[4:], dataset_of(records, "fra")[(3, 1)].photometry[2:])
    for place, purpose in ((2, views.Draw.SOURCE_PARTS), (2 + PARTS, views.Draw.TARGET_PARTS)):
        rng = np.random.default_rng([0, 3, 1, purpose])
        assert more.crops[place] == augment.draw_crop(32, 32, settings_of("fra").augment, rng)


# --- what randomness depends on


def test_a_sample_depends_on_seed_epoch_and_video_and_on_nothing_that_ran_before(records: list[Record]) -> None:
    dataset = dataset_of(records, "vv", "pix", "fra")
    first = dataset[(2, 3)]
    for key in ((0, 0), (2, 4), (1, 3)):
        assert dataset[key].crops != first.crops
    assert dataset_of(records, "vv", "pix", "fra", seed=1)[(2, 3)].crops != first.crops
    np.random.default_rng().random()
    torch.rand(1)
    assert same(dataset[(2, 3)], first)
    assert same(dataset_of(records, "vv", "pix", "fra")[(2, 3)], first)


def test_every_clip_of_a_sample_is_drawn_on_its_own(records: list[Record]) -> None:
    chosen = {**SETTINGS["augment"], "jitter": 1, "scale_min": 0.1}
    sample = dataset_of(records, "vv", "pix", "fra", augment=chosen)[(0, 0)]
    assert len(set(sample.crops)) == 2 + 2 * PARTS
    assert len({tuple(row) for row in sample.photometry[:, :4].tolist()}) == 4 + 2 * PARTS


def test_workers_and_resuming_change_no_sample(records: list[Record]) -> None:
    data = data_of(decoded="stream")
    dataset = dataset_of(records, "vv", "fra", data=data, augment={**SETTINGS["augment"], "static": 0.3})
    keys = list(views.training_keys(6, 2, 5, 0))
    whole = list(views.batches(dataset, keys, dataset.footage, 0))
    rest = list(views.training_keys(6, 2, 5, 0, start=3))
    resumed = list(views.batches(dataset, rest, dataset.footage, 2))
    assert (len(whole), len(resumed)) == (5, 2)
    for one, other in zip(whole[3:], resumed, strict=True):
        assert all(same(a, b) for a, b in zip(one, other, strict=True))
    assert list(views.batches(dataset, [], dataset.footage, 0)) == []  # a finished run has no step left


def test_reading_draws_from_no_generator_of_the_run(records: list[Record]) -> None:
    before = torch.get_rng_state()
    dataset = dataset_of(records, "vv")
    views.pretraining_views(next(views.batches(dataset, [[(0, 0)]], dataset.footage, 0)), dataset.settings,
                            dataset.footage, CPU)  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)


# --- keys


@given(st.integers(1, 200), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_is_a_permutation_of_its_own(videos: int, seed: int, epoch: int) -> None:
    order = views.epoch_order(videos, seed, epoch)
    assert sorted(order) == list(range(videos))
    if videos > 20:
        assert order != views.epoch_order(videos, seed, epoch + 1)
        assert order != views.epoch_order(videos, seed + 1, epoch)


@hypothesis(deadline=None)
@given(st.integers(1, 60), st.data())
def test_steps_cut_epochs_into_batches_and_ranks_share_each_batch(videos: int, draw: st.DataObject) -> None:
    world = draw.draw(st.sampled_from([1, 2, 4]))
    batch = world * draw.draw(st.integers(1, max(1, videos // world)))
    if batch > videos:
        with pytest.raises(ValueError, match=f"must not exceed the {videos} training videos, got {batch}; set optim"):
            views.training_keys(videos, batch, 1, 0, world=world)
        return
    steps, start = 2 * (videos // batch) + 1, draw.draw(st.integers(0, 4))
    whole = list(views.training_keys(videos, batch, steps, 0))
    assert [len(keys) for keys in whole] == [batch] * steps
    for epoch in range(2):
        seen = [number for keys in whole for e, number in keys if e == epoch]
        assert seen == views.epoch_order(videos, 0, epoch)[: videos // batch * batch]
    assert list(views.training_keys(videos, batch, steps, 0, start)) == whole[start:]
    shares = [list(views.training_keys(videos, batch, steps, 0, 0, rank, world)) for rank in range(world)]
    assert [[key for keys in step for key in keys] for step in zip(*shares, strict=True)] == whole


def test_a_batch_that_does_not_divide_over_the_devices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optim\.batch must be a multiple of the 4 devices, got 6"):
        views.training_keys(20, 6, 1, 0, world=4)


# --- pixels


def test_memory_and_stream_agree(records: list[Record]) -> None:
    found = []
    for decoded in ("memory", "stream"):
        dataset = dataset_of(records, "vv", "pix", "fra", data=data_of(decoded=decoded))
        samples = [dataset[(0, number)] for number in range(6)]
        found.append((samples, views.pretraining_views(samples, dataset.settings, dataset.footage, CPU)))
    (kept, memory), (streamed, stream) = found
    for one, other in zip(kept, streamed, strict=True):
        assert one.crops == other.crops
        assert torch.equal(one.photometry, other.photometry)
    assert memory.keys() == stream.keys()
    for name, view in memory.items():
        assert view.shape == stream[name].shape
        # In deviations of natural video; swscale resizes a little otherwise. The boxes are the same to the bit.
        assert (view - stream[name]).abs().mean() <= (0 if name.endswith("box") else 0.03), name
        assert torch.corrcoef(torch.stack([view.flatten(), stream[name].flatten()]))[0, 1] > 0.995, name


@pytest.mark.parametrize("scaling", ["half", "raw"])
def test_views_are_the_frames_that_were_asked_for(records: list[Record], scaling: str) -> None:
    """Without augmentation every view is known in closed form from the decoded video."""
    settings = settings_of("vv", "vd", "fra", augment={**WHOLE, "difference": scaling})
    footage = views.Footage(data_of())
    dataset = views.Pretraining(records, footage, settings, PARTS, 0)
    found = views.pretraining_views([dataset[(0, 0)], dataset[(0, 1)]], settings, footage, CPU)
    for b, record in enumerate(records[:2]):
        whole = video.read_all(record.path)
        starts = clips.windows(80, settings.clip, np.random.default_rng([0, 0, b, views.Draw.WINDOWS]))
        assert found["source_box"][b].tolist() == found["target_box"][b].tolist() == [0, 0, 1, 1]

        def picture(numbers: clips.Frames, whole: torch.Tensor = whole) -> torch.Tensor:
            return (whole[torch.from_numpy(numbers)] / 255).permute(3, 0, 1, 2)[None]

        def moved(numbers: clips.Frames) -> torch.Tensor:
            return augment.normalise(augment.difference(picture(numbers), scaling))[0]

        for name, start in zip(("source", "target"), starts, strict=True):
            frames = clips.clip_frames(start, 80, settings.clip)
            parts = clips.part_frames(start, 80, settings.clip, PARTS)
            torch.testing.assert_close(found[name][b], augment.normalise(picture(frames))[0])
            torch.testing.assert_close(found[f"{name}_difference"][b], moved(frames))
            torch.testing.assert_close(found[f"{name}_parts"][b], torch.stack([moved(part) for part in parts]))


def test_each_view_gets_the_photometry_that_was_drawn_for_it(records: list[Record]) -> None:
    dataset = dataset_of(records, "vv", "pix", "fra", augment={"size": 16, "jitter": 1, "blur": 1, "difference": "raw"})
    sample = dataset[(0, 0)]
    found = views.pretraining_views([sample], dataset.settings, dataset.footage, CPU)
    rgb = views.pixels([sample], slice(0, 2), dataset.footage, 16, CPU)[0]
    moved = augment.difference(rgb, "raw")
    parts = augment.difference(views.pixels([sample], slice(2, None), dataset.footage, 16, CPU)[0], "raw")
    expected = {
        "source": augment.photometry(rgb[:1], sample.photometry[:1]),
        "target": augment.photometry(rgb[1:], sample.photometry[1:2]),
        "source_difference": augment.photometry(moved[:1], sample.photometry[2:3], -1),
        "target_difference": augment.photometry(moved[1:], sample.photometry[3:4], -1),
        "source_parts": augment.photometry(parts[:PARTS], sample.photometry[4 : 4 + PARTS], -1)[None],
        "target_parts": augment.photometry(parts[PARTS:], sample.photometry[4 + PARTS :], -1)[None],
    }
    for name, view in expected.items():
        torch.testing.assert_close(found[name], view, msg=name)


def test_a_batch_is_its_videos_one_by_one_whatever_their_size(records: list[Record]) -> None:
    _, larger, _ = datasets.usable(
        data_of(embedded={"train": 3, "test": 1, "size": 48}), "train", Clip(), labelled=False
    )
    dataset = dataset_of([*records[:2], larger[0]], "vv", "pix", "fra")
    samples = [dataset[(0, number)] for number in range(3)]
    assert len({sample.clips[0].shape for sample in samples}) == 2
    together = views.pretraining_views(samples, dataset.settings, dataset.footage, CPU)
    alone = [views.pretraining_views([sample], dataset.settings, dataset.footage, CPU) for sample in samples]
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, torch.cat([single[name] for single in alone]), msg=name)


@pytest.mark.parametrize("chosen", [{"static": 0.5}, {"kept": 0.5}, {"static": 0.5, "kept": 0.5}])
def test_backgrounds_of_source_views_alone_are_changed(records: list[Record], chosen: dict[str, float]) -> None:
    """BE and FAME: crops, colours, differences and the target view stay what they were."""
    plain = dataset_of(records, "vv", "vd")
    dataset = dataset_of(records, "vv", "vd", augment={**SETTINGS["augment"], **chosen})
    samples = [dataset[(0, number)] for number in range(3)]
    before = [plain[(0, number)] for number in range(3)]
    assert all(same(a, replace(b, static=a.static)) for a, b in zip(samples, before, strict=True))
    assert ("static" in chosen) == (len({sample.static for sample in samples}) == 3)
    usual = views.pretraining_views(before, plain.settings, plain.footage, CPU)
    found = views.pretraining_views(samples, dataset.settings, dataset.footage, CPU)
    assert {name for name in usual if not torch.equal(usual[name], found[name])} == {"source"}
    rgb = views.pixels(samples, slice(0, 1), dataset.footage, dataset.settings.augment.size, CPU)[:, 0]
    if "kept" in chosen:
        rgb = background.merge(rgb, 0.5)
    if "static" in chosen:
        weight, frame = zip(*(sample.static for sample in samples), strict=True)
        rgb = background.blend(rgb, torch.tensor(weight), torch.tensor(frame))
    drawn = torch.stack([sample.photometry[0] for sample in samples])
    torch.testing.assert_close(found["source"], augment.photometry(rgb, drawn))


# --- one batch ahead


class Event:
    """A CUDA event on a machine without a card: it tells what is asked of it."""

    told: ClassVar[list[str]] = []

    def record(self) -> None:
        self.number = sum(one.startswith("queued") for one in self.told)
        self.told.append(f"queued {self.number}")

    def synchronize(self) -> None:
        self.told.append(f"done {self.number}")


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.told.clear()


def test_on_a_gpu_views_are_prepared_while_one_step_runs_and_no_further() -> None:
    def prepare(batch: list[views.Sample]) -> int:
        Event.told.append(f"views {len(batch)}")
        return len(batch)

    batches: list[Any] = [[None] * n for n in range(4)]
    for _ in views.ahead(batches, prepare, torch.device("cuda")):
        pass
    first = ["views 0", "queued 0", "views 1", "done 0", "queued 1", "views 2", "done 1", "queued 2", "views 3"]
    assert Event.told[: len(first)] == first


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_come_in_order_and_at_most_one_is_prepared_early(device: str) -> None:
    prepared: list[int] = []

    def prepare(batch: list[views.Sample]) -> int:
        prepared.append(len(batch))
        return len(batch)

    batches: list[Any] = [[None] * n for n in range(1, 6)]
    found = []
    for number in views.ahead(batches, prepare, torch.device(device)):
        found.append(number)
        assert len(prepared) <= number + (device == "cpu")
    assert found == prepared == [1, 2, 3, 4, 5]


def test_only_a_cpu_prepares_in_a_thread_and_its_steps_keep_their_threads() -> None:
    torch.set_num_threads(2)
    where: list[tuple[bool, int]] = []

    def prepare(batch: list[views.Sample]) -> int:
        where.append((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
        return 0

    for device in ("cpu", "cuda"):
        for _ in views.ahead([[], []], prepare, torch.device(device)):
            assert torch.get_num_threads() == 2
    assert where == [(False, 1), (False, 1), (True, 2), (True, 2)]
    counted: list[int] = []
    thread = threading.Thread(target=lambda: counted.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert counted == [2]  # threads to come are not held to one core


def test_processes_that_read_ahead_end_well(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a thread had forked ended with 1, which now and then broke off the last step of a run."""
    started: list[Any] = []

    class Loader(DataLoader[Any]):
        def __iter__(self) -> Any:
            iterator: Any = super().__iter__()
            started.extend(iterator._workers)
            return iterator

    monkeypatch.setattr(views, "DataLoader", Loader)
    dataset = dataset_of(records, "vv", data=data_of(decoded="stream"))
    keys = [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(1, 0), (1, 1)]]
    read = views.batches(dataset, keys, dataset.footage, 2)
    assert list(views.ahead(read, len, torch.device("cpu"))) == [2, 2, 2]
    assert [process.exitcode for process in started] == [0, 0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_preparing_or_reading_raises_comes_at_its_batch(device: str) -> None:
    def batches() -> Iterator[list[views.Sample]]:
        yield []
        raise video.VideoError("gone")

    found = views.ahead(batches(), len, torch.device(device))
    assert next(found) == 0
    with pytest.raises(video.VideoError, match="gone"):
        next(found)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("views")]


# --- footage


def test_videos_in_memory_are_decoded_once(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    read_all = Mock(wraps=video.read_all)
    monkeypatch.setattr(video, "read_all", read_all)
    dataset = dataset_of(records, "vv", data=data_of(cache_gib=0))
    for epoch in range(2):
        for number in range(6):
            dataset[(epoch, number)]
    assert [call.args[0] for call in read_all.call_args_list] == [record.path for record in records]


def test_beyond_the_bound_only_what_is_asked_for_is_decoded_and_pixels_are_the_same(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_video = 80 * 32 * 32 * 3 / views.GIB
    expected = [dataset_of(records, "vv", "fra")[(0, number)] for number in range(3)]
    read_all = Mock(wraps=video.read_all)
    monkeypatch.setattr(video, "read_all", read_all)
    dataset = dataset_of(records, "vv", "fra", data=data_of(memory_gib=1.5 * one_video, cache_gib=0))
    for _ in range(2):
        assert all(same(dataset[(0, number)], sample) for number, sample in enumerate(expected))
    assert [call.args[0] for call in read_all.call_args_list] == [records[0].path]


@pytest.mark.parametrize("decoded", ["memory", "stream"])
def test_frames_count_from_the_start_of_a_record(records: list[Record], decoded: str) -> None:
    footage = views.Footage(data_of(decoded=decoded))
    stage = replace(records[0], start=30, stop=70)
    assert (footage.frames(stage), footage.frames(records[0]), footage.size(stage)) == (40, 80, (32, 32))
    assert footage.frames(replace(stage, stop=500)) == 50  # a list may end after the video
    crop = [augment.centre_crop(32, 32)]
    inside = footage.read(stage, [np.array([0, 9])], crop, 32)
    assert torch.equal(inside[0], footage.read(records[0], [np.array([30, 39])], crop, 32)[0])
    with pytest.raises(video.VideoError, match=r"frames 90 to 95 are asked for, but 80 decode; correct the list"):
        footage.frames(replace(stage, start=90, stop=95))


def test_reading_on_and_on_leaks_neither_files_nor_memory(records: list[Record]) -> None:
    dataset = dataset_of(records, "vv", "pix", "fra", data=data_of(decoded="stream"))
    settings, footage = dataset.settings, dataset.footage

    def read(first: int, count: int) -> tuple[int, int]:
        """Descriptors and resident bytes after so many samples."""
        for epoch in range(first, first + count):
            views.pretraining_views([dataset[(epoch, epoch % 6)]], settings, footage, CPU)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(list(Path("/proc/self/fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")

    (files, before), (later, after) = read(0, 60), read(60, 240)
    assert later == files
    assert after - before < 240 * 32 * 32 * 3 * 80  # one decoded video kept a sample would be more


# --- evaluation


def test_uniform_clips_lie_in_the_stage_and_carry_its_label() -> None:
    data = data_of()
    _, stages, _ = datasets.usable(data, "test", Clip(), labelled=True)
    footage, clip = Spy(data), Clip(frames=4, stride=2)
    uniform = views.Uniform(stages, footage, clip, 32, 3)
    for number, stage in enumerate(stages):
        sample = uniform[(0, number)]
        assert (sample.label, len(sample.clips)) == (stage.label, 3)
        assert set(sample.crops) == {augment.centre_crop(32, 32)}
        assert footage.asked[-1] == clips.uniform_clips(footage.frames(stage), clip, 3).tolist()
        pixels = views.pixels([sample], slice(None), footage, 32, CPU)
        whole = video.read_all(stage.path)[torch.tensor(footage.asked[-1]) + stage.start]
        torch.testing.assert_close(pixels[0], (whole / 255).permute(0, 4, 1, 2, 3))


def test_classification_takes_one_clip_at_a_random_time_of_the_stage() -> None:
    data = data_of()
    _, stages, _ = datasets.usable(data, "train", Clip(), labelled=True)
    footage, clip = Spy(data), Clip(frames=4, stride=2)
    dataset = views.Classification(stages, footage, clip, Augment(size=16), 0, True)
    for epoch in range(40):
        dataset[(epoch, 1)]
    starts = {view[0][0] for view in footage.asked}
    assert starts <= set(range(footage.frames(stages[1]) - 8 + 1))
    assert len(starts) > 15
    assert all(view == [list(range(view[0][0], view[0][0] + 8, 2))] for view in footage.asked)


def test_classification_is_never_blurred_and_can_leave_the_frame_as_it_is() -> None:
    data = data_of()
    _, stages, _ = datasets.usable(data, "train", Clip(), labelled=True)
    chosen = Augment(size=16, jitter=1, blur=1)
    augmented, plain = (
        views.Classification(stages, views.Footage(data), Clip(frames=4), chosen, 0, on) for on in (True, False)
    )
    keys = [(epoch, number) for epoch in range(3) for number in range(6)]
    drawn = torch.cat([augmented[key].photometry for key in keys])
    assert (drawn[:, 5] == 0).all()
    assert len(drawn[:, 0].unique()) == len(keys)
    for key in keys:
        assert plain[key].photometry.tolist() == [[1, 1, 1, 0, 0, 0]]
        assert plain[key].crops == [augment.centre_crop(32, 32)]
        assert augmented[key].label == stages[key[1]].label
        assert same(augmented[key], augmented[key])
    with pytest.raises(ValueError, match=r"train_00000\.mp4: has no label, which classification needs"):
        views.Classification([replace(stages[0], label=None)], views.Footage(data), Clip(frames=4), chosen, 0, True)[
            (0, 0)
        ]


@pytest.mark.parametrize(("ranks", "start"), [(False, "fork"), (True, "forkserver")])
def test_readers_are_forked_but_not_beside_ranks(monkeypatch: pytest.MonkeyPatch, ranks: bool, start: str) -> None:
    """A stage's default is another fork server, of which each reader would load torch; NCCL does not bear a fork."""
    monkeypatch.setattr(views.sys, "platform", "linux")
    monkeypatch.setattr(views.distributed, "active", lambda: ranks)
    monkeypatch.setattr("multiprocessing.forkserver._forkserver.set_forkserver_preload", lambda names: None)
    context = views._context_of_readers()
    assert context is not None and context.get_start_method() == start
