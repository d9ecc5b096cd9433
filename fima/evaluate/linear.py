"""The linear probe: the paper's (SGD through the frozen encoder), and a fast one on features extracted once."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fima.config import Linear, Settings
from fima.datasets import Data
from fima.evaluate import classifier
from fima.evaluate.features import Features, per_video
from fima.loop import Progress

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse strength C
FOLDS = 4  # a quarter of train chooses the penalty
ITERATIONS = 300


def logistic(features: Features, seed: int) -> dict[str, Any]:
    """Logistic regression on standardised clip features, softmax averaged per video.

    The penalty is chosen on a quarter of *train* that shares no group with the rest; test chooses nothing. Where
    groups or classes are too few for such a quarter, C = 1 is taken and said so.

    Args:
        features: of both splits.
        seed: of the quarter.

    Returns:
        top1 in percent, predictions and what was chosen, as plain JSON data.

    Raises:
        ValueError: train holds a single class.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: F401 (loads the libraries whose threads are limited)
    from threadpoolctl import threadpool_limits

    classes = np.unique(features.train_labels)
    if len(classes) < 2:
        raise ValueError(
            f"a linear probe needs two classes or more in train, got {len(classes)}; "
            "add labelled videos, or leave this metric out with --metrics"
        )
    # One thread: products this small are 8 times slower on two, and sums would depend on their number.
    with threadpool_limits(1):
        penalty, reason = _choose(features, seed)
        probability = _predict(features.train, features.train_labels, features.test, penalty)
    predicted = classes[probability.argmax(axis=1)]
    right = predicted == features.test_labels
    return {
        "top1": 100 * float(right.mean()),
        "videos": len(features.test),
        "classes": len(classes),
        "penalty": penalty,
        "penalty_choice": reason,
        "protocol": f"logistic regression on frozen features, {features.test.shape[1]} clips averaged",
        "predictions": predicted.tolist(),
        "per_video": per_video({"top1": right.tolist()}, features.test_groups.tolist()),
    }


def sgd(
    backbone: nn.Module,
    settings: Settings,
    linear: Linear,
    data: Data,
    seed: int,
    folder: Path,
    *,
    workers: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """The paper's probe: frozen encoder in eval mode, augmented clips, SGD, 10 clips averaged (appendix A.4)."""
    recipe = classifier.Recipe(linear.optim, linear.clips, 0.0, linear.normalise, frozen=True, augmented=True)
    result = classifier.run(backbone, settings, recipe, data, seed, folder, workers=workers, on_progress=on_progress)
    return {**result, "protocol": f"linear probe by {result['protocol']}"}


def _choose(features: Features, seed: int) -> tuple[float, str]:
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = features.train_labels, features.train_groups
    if len(np.unique(groups)) < FOLDS:
        return 1.0, f"default: train has {len(np.unique(groups))} groups, {FOLDS} are needed to part a quarter"
    if np.unique(labels, return_counts=True)[1].max() < FOLDS:
        return 1.0, f"default: no class of train has {FOLDS} videos, which are needed to part a quarter"
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer than four videos is all right here
        fit, held = next(iter(folds.split(np.zeros(len(labels)), labels, groups)))
    known = np.unique(labels[fit])
    if len(known) < 2 or not len(held):
        return 1.0, "default: a quarter of train would leave a single class"
    scores = []
    for penalty in PENALTIES:
        probability = _predict(features.train[fit], labels[fit], features.train[held], penalty)
        scores.append(float((known[probability.argmax(axis=1)] == labels[held]).mean()))
    best = int(np.argmax(scores))  # the first, so the strongest penalty, among equals
    return PENALTIES[best], f"best of {list(PENALTIES)} on {len(held)} of {len(labels)} training videos"


def _predict(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], penalty: float
) -> NDArray[np.float64]:
    """[videos, classes of train] mean probability over the clips of each test video."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    clips = train.shape[1]
    scaler = StandardScaler()
    x = scaler.fit_transform(train.reshape(-1, train.shape[-1]).astype(np.float64))
    probe = LogisticRegression(C=penalty, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty on separable data need not converge
        probe.fit(x, labels.repeat(clips))
    y = scaler.transform(test.reshape(-1, test.shape[-1]).astype(np.float64))
    probability: NDArray[np.float64] = probe.predict_proba(y).reshape(*test.shape[:2], -1).mean(axis=1)
    return probability
