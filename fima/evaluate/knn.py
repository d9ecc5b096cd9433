"""Nearest neighbours of frozen features: how good an encoder is, cheaply, while it is still trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fima import views
from fima.config import Settings
from fima.datasets import Data, usable
from fima.evaluate import features

NEIGHBOURS = 20  # Wu et al., CVPR 2018, use 200 among 1.3 million
TEMPERATURE = 0.07


def accuracy(
    gallery: NDArray[np.float32], labels: NDArray[np.int64], query: NDArray[np.float32], truth: NDArray[np.int64]
) -> float:
    """Weighted k-nearest-neighbour accuracy in percent (Wu et al., CVPR 2018, section 3.4).

    The 20 gallery features (all, if there are fewer) of highest cosine similarity vote with exp(similarity / 0.07).

    Args:
        gallery, query: [N, C], [M, C] features.
        labels, truth: [N], [M] class numbers.
    """
    from sklearn.neighbors import KNeighborsClassifier

    def votes(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-distance / TEMPERATURE))  # distance = 1 - similarity; a common factor does not count

    judge = KNeighborsClassifier(min(NEIGHBOURS, len(gallery)), weights=votes, metric="cosine", algorithm="brute")
    return 100 * float(judge.fit(gallery, labels).score(query, truth))


@dataclass(frozen=True)
class Probe:
    """When and on which videos an encoder in training is looked at. Alters nothing that it looks at.

    Attributes:
        data: its train split is the gallery, its test split asks; with `Data.held_out`, both are of train.
        every: steps from one look to the next; the last step is always looked at.
        videos: at most so many of each split, spread over the classes.
    """

    data: Data
    every: int
    videos: int


class Watch:
    """A probe with its videos read: `look` gives the accuracy of an encoder."""

    def __init__(self, probe: Probe, settings: Settings, device: torch.device) -> None:
        limit = min(probe.videos, probe.data.limit or probe.videos)
        data = probe.data.model_copy(update={"limit": limit})
        self.every, self.settings, self.device, self.footage = probe.every, settings, device, views.Footage(data)
        records = [usable(data, split, settings.clip, labelled=True)[1] for split in ("train", "test")]
        self.labels = [np.array([record.label for record in part], np.int64) for part in records]
        self.clips = [
            views.Uniform(part, self.footage, settings.clip, settings.augment.size, count=1) for part in records
        ]

    def due(self, step: int, steps: int) -> bool:
        """Whether the encoder is to be looked at after so many steps."""
        return step % self.every == 0 or step == steps

    @torch.no_grad()
    def look(self, backbone: nn.Module) -> float:
        """kNN accuracy in percent, one uniform clip per video; BatchNorm statistics and generators stay as they are."""
        was = backbone.training
        backbone.eval()
        try:
            gallery, query = map(self._encode, self.clips, (backbone, backbone))
        finally:
            backbone.train(was)
        return accuracy(gallery, self.labels[0], query, self.labels[1])

    def _encode(self, clips: views.Uniform, backbone: nn.Module) -> NDArray[np.float32]:
        found = [
            features.uniform_features(backbone, samples, self.footage, self.settings, self.device).flatten(0, 1).cpu()
            for samples in views.batches(clips, features.chunks(len(clips)), self.footage, 0)
        ]
        return torch.cat(found).numpy()
