"""Video retrieval (section 4.1): test videos query the training videos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fima.evaluate.features import Features, per_video

RANKS = (1, 5, 10, 20)


def hits(features: Features) -> dict[str, NDArray[np.bool_]]:
    """R@k per test video: whether some of the k nearest training videos has the query's class.

    A video's feature is the mean of its clips' pooled features; nearness is cosine similarity. Ties keep the order of
    the training list.

    Args:
        features: of both splits.

    Returns:
        {"R1", "R5", "R10", "R20"}: [test videos]; a k above the number of training videos takes them all.
    """
    train, test = (_unit(part.astype(np.float64).mean(axis=1)) for part in (features.train, features.test))
    nearest = np.argsort(-(test @ train.T), axis=1, kind="stable")
    hit = features.train_labels[nearest] == features.test_labels[:, None]
    return {f"R{k}": hit[:, :k].any(axis=1) for k in RANKS}


def recall(features: Features) -> dict[str, float]:
    """R@k in percent of the test videos; see `hits`."""
    return {name: 100 * float(found.mean()) for name, found in hits(features).items()}


def run(features: Features) -> dict[str, Any]:
    """Recall with the numbers that explain it, as plain JSON data."""
    found = hits(features)
    return {
        **{name: 100 * float(hit.mean()) for name, hit in found.items()},
        "videos": len(features.test),
        "gallery": len(features.train),
        "classes": int(np.unique(features.train_labels).size),
        "protocol": f"retrieval, {features.test.shape[1]} clips averaged, cosine, test queries train",
        "per_video": per_video({name: hit.tolist() for name, hit in found.items()}, features.test_groups.tolist()),
    }


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
