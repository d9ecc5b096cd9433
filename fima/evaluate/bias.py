"""Does a linear probe read motion or background? Its accuracy where the test clips lack the one, or lie with the other.

The probe is fitted on training clips as they are; only what it is tested on changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fima import compute, distributed, views
from fima.config import Settings
from fima.datasets import Data, Record, usable
from fima.evaluate import linear
from fima.evaluate.features import Features, chunks, per_video, uniform_features
from fima.synthetic import CLASSES

Change = Callable[[Tensor, np.random.Generator], Tensor]  # a clip [3, T, H, W] to one of the same shape


def shuffled(clip: Tensor, random: np.random.Generator) -> Tensor:
    """The frames of a clip [3, T, H, W] in random order: every image is there, motion is not."""
    return clip[:, torch.from_numpy(random.permutation(clip.shape[1]))]


def frozen(clip: Tensor, random: np.random.Generator) -> Tensor:
    """The middle frame of a clip [3, T, H, W], T times: nothing moves."""
    return clip[:, clip.shape[1] // 2].unsqueeze(1).expand_as(clip)


@dataclass(frozen=True)
class Encoded:
    """Pooled features of the labelled videos of a split.

    Attributes:
        features: [N, clips, C] float32.
        records: [N].
    """

    features: NDArray[np.float32]
    records: tuple[Record, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N]."""
        return np.array([record.label for record in self.records], np.int64)

    @property
    def groups(self) -> NDArray[np.str_]:
        """[N] names."""
        return np.array([record.group for record in self.records])


def encode(
    backbone: nn.Module,
    settings: Settings,
    data: Data,
    split: str,
    count: int,
    change: Change | None = None,
    seed: int = 0,
) -> Encoded:
    """Features of `count` uniform clips of each labelled video, as `features.extract` has them, or of changed clips.

    Args:
        backbone: the encoder.
        settings: clip, size of a view and precision are read.
        data: the videos.
        split: train or test.
        count: clips per video.
        change: made on each clip before it is encoded.
        seed: of the change; a clip's randomness depends on (seed, video, clip) alone.
    """
    device = distributed.start()
    backbone = compute.placed(backbone, settings.compute, device).eval()
    _, records, _ = usable(data, split, settings.clip, labelled=True)
    footage = views.Footage(data)
    reader = views.Uniform(records, footage, settings.clip, settings.augment.size, count)

    def changed(number: int) -> views.Sample:
        sample = reader[0, number]
        if change is None:
            return sample
        clips = [change(c, np.random.default_rng([seed, number, place])) for place, c in enumerate(sample.clips)]
        return replace(sample, clips=clips)

    found = [
        uniform_features(backbone, [changed(number) for _, number in keys], footage, settings, device).cpu()
        for keys in chunks(len(records))
    ]
    return Encoded(torch.cat(found).numpy(), tuple(records))


def probe(train: Encoded, tests: Mapping[str, Encoded], seed: int) -> dict[str, NDArray[np.int64]]:
    """Predicted classes [N] of several sets of test clips by one logistic probe (see `linear.logistic`)."""
    every = Features(
        train.features,
        np.concatenate([test.features for test in tests.values()]),
        train.labels,
        np.concatenate([test.labels for test in tests.values()]),
        train.groups,
        np.concatenate([test.groups for test in tests.values()]),
    )
    predicted = np.array(linear.logistic(every, seed)["predictions"], np.int64)
    ends = np.cumsum([len(test.records) for test in tests.values()])
    return dict(zip(tests, np.split(predicted, ends[:-1]), strict=True))


def motion(backbone: nn.Module, settings: Settings, data: Data, count: int, seed: int = 0) -> dict[str, Any]:
    """Accuracy of a probe that was fitted on normal clips, where test clips are shuffled, and where they stand still.

    An encoder whose features say what moves falls to chance; one that reads backgrounds or poses does not.

    Args:
        backbone: the encoder.
        settings: clip, size of a view and precision are read.
        data: training and test videos.
        count: clips per video.
        seed: of the probe's quarter and of the order of frames.

    Returns:
        top1 in percent as "normal", "shuffled", "frozen"; the points lost as "order" (normal - shuffled) and "motion"
        (normal - frozen); "chance" (the most frequent test class), number of test "videos", and what each of them came
        to "per_video", as plain JSON data.
    """
    changes: dict[str, Change | None] = {"normal": None, "shuffled": shuffled, "frozen": frozen}
    tests = {name: encode(backbone, settings, data, "test", count, change, seed) for name, change in changes.items()}
    found = probe(encode(backbone, settings, data, "train", count), tests, seed)
    labels = tests["normal"].labels
    top1 = {name: _percent(predicted == labels) for name, predicted in found.items()}
    lost = {"order": top1["normal"] - top1["shuffled"], "motion": top1["normal"] - top1["frozen"]}
    right = {name: (predicted == labels).tolist() for name, predicted in found.items()}
    return {
        **top1,
        **lost,
        "chance": _most_frequent(labels),
        "videos": len(labels),
        "per_video": per_video(right, tests["normal"].groups.tolist()),
    }


def background(
    backbone: nn.Module, settings: Settings, data: Data, count: int, seed: int = 0, correlation: float = 0.5
) -> dict[str, Any]:
    """Accuracy of a probe whose training backgrounds tell the class, where test backgrounds say nothing, or another.

    Embedded videos are rendered again with `background_class_correlation`: training videos at `correlation`, so that a
    probe may read motion or background, test videos at 1, so that every background tells a class that it is not. They
    differ from those of the plain set in nothing but the tint of the background. In two-stage videos the background
    tells the first stage's class, or, in test, the one after it.

    Args:
        backbone, settings, count: as in `motion`.
        data: embedded videos whose backgrounds tell nothing.
        seed: of the probe's quarter.
        correlation: share of training videos whose background tells the class; at 1 a probe has no need of motion.

    Returns:
        top1 in percent: "plain" of a probe fitted and tested on backgrounds that say nothing; "unrelated" and "swapped"
        of the one fitted on telling backgrounds. "lured": percent of the swapped test videos that are given the class
        that their background tells, of those whose own class is another. "chance", "videos" and "per_video" (not of
        "lured") as in `motion`.

    Raises:
        ValueError: the videos are not embedded ones, or their backgrounds tell the class already.
    """
    if data.name != "embedded" or data.embedded.background_class_correlation:
        raise ValueError(
            f"backgrounds are swapped in embedded videos whose backgrounds tell nothing, got {data.name} with "
            f"background_class_correlation {data.embedded.background_class_correlation:g}; take data.name=embedded "
            "and data.embedded.background_class_correlation=0"
        )

    if data.held_out is not None:
        raise ValueError(
            f"backgrounds are swapped in the test videos, which data.held_out {data.held_out} leaves unread; "
            "take data.held_out=null"
        )

    def rendered(**changes: Any) -> Data:
        return data.model_copy(update={"embedded": data.embedded.model_copy(update=changes)})

    telling = rendered(background_class_correlation=correlation, test=1)  # a split does not depend on the other's size
    lying = rendered(background_class_correlation=1.0, train=1)
    plain = encode(backbone, settings, data, "test", count)
    swapped = encode(backbone, settings, lying, "test", count)
    fair = probe(encode(backbone, settings, data, "train", count), {"plain": plain}, seed)
    tests = {"unrelated": plain, "swapped": swapped}
    biased = probe(encode(backbone, settings, telling, "train", count), tests, seed)
    _, every, _ = usable(lying.model_copy(update={"limit": None}), "test", settings.clip, labelled=True)
    labels, told = swapped.labels, told_class(swapped, every)
    top1 = {name: _percent(predicted == labels) for name, predicted in {**fair, **biased}.items()}
    lured = _percent(biased["swapped"][told != labels] == told[told != labels])
    right = {name: (predicted == labels).tolist() for name, predicted in {**fair, **biased}.items()}
    return {
        **top1,
        "lured": lured,
        "chance": _most_frequent(labels),
        "videos": len(labels),
        "per_video": per_video(right, swapped.groups.tolist()),
    }


def told_class(test: Encoded, every: Sequence[Record]) -> NDArray[np.int64]:
    """[N] the class that a test video's background tells at full correlation: the one after its first stage's.

    Args:
        test: videos, or as many as a limit leaves.
        every: all of the split, in time's order: a limit may leave a second stage without the first.
    """
    first = {record.path: cast(int, record.label) for record in reversed(every)}
    return np.array([(first[record.path] + 1) % len(CLASSES) for record in test.records], np.int64)


def _percent(right: NDArray[np.bool_]) -> float:
    return 100 * float(right.mean())


def _most_frequent(labels: NDArray[np.int64]) -> float:
    return 100 * float(np.bincount(labels).max() / len(labels))
