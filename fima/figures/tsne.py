"""How classes lie in the features of test videos: t-SNE (Figs. 10, 11)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fima import views
from fima.datasets import usable
from fima.evaluate import features
from fima.figures import picture
from fima.figures.picture import COLOURS, Picture
from fima.figures.stage import Stage

PERPLEXITY = 30.0
MARKERS = "osD"  # 8 colours x 3 shapes: 24 classes keep apart

Array = NDArray[np.float64]


def embed(vectors: Array, seed: int, perplexity: float = PERPLEXITY) -> Array:
    """t-SNE of unit vectors [N, C] to [N, 2], from their principal components; the same every time.

    A perplexity above a third of N - 1 is lowered to it: a point cannot have so many neighbours.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums depend on the number of threads
        model = TSNE(perplexity=lowered(len(vectors), perplexity), init="pca", random_state=seed)
        found: Array = model.fit_transform(vectors).astype(np.float64)
    return found


def lowered(points: int, perplexity: float = PERPLEXITY) -> float:
    """The perplexity that so many points take."""
    return min(perplexity, max(1.0, (points - 1) / 3))


def silhouette(vectors: Array, labels: NDArray[np.int64]) -> float | None:
    """Mean silhouette of the classes in [-1, 1], Euclidean; None where it is not defined (one class, or all alone)."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(vectors, labels))


def draw(stages: Sequence[Stage], classes: int = 20, clips: int = 10, seed: int = 0) -> Picture:
    """t-SNE of each stage's query encoder on all test videos of random classes.

    A video's feature is the mean of its clips' pooled features, scaled to length 1, as in retrieval. Number: silhouette
    of the classes in the features and in the picture.

    Args:
        stages: of equal view size.
        classes: at most; taken at random among those that have test videos.
        clips: of each video.
        seed: of the classes and of t-SNE.
    """
    from matplotlib.figure import Figure

    first = stages[0]
    settings, data = first.settings, first.data
    dataset, records, _ = usable(data, "test", settings.clip, labelled=True)
    present = np.unique([record.label for record in records])
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(present)[:classes])
    records = [record for record in records if record.label in kept]
    labels = np.array([record.label for record in records], np.int64)
    footage = views.Footage(data)
    reader = views.Uniform(records, footage, settings.clip, settings.augment.size, clips)
    arrays: dict[str, NDArray[np.generic]] = {"labels": labels}
    numbers: picture.Numbers = {}
    places: dict[str, Array] = {}
    for stage in stages:
        vectors = _vectors(stage, reader)
        places[stage.label] = embed(vectors, seed)
        inside, drawn = silhouette(vectors, labels), silhouette(places[stage.label], labels)
        numbers[stage.label] = {"silhouette of features": inside, "silhouette of picture": drawn}
        arrays |= {f"features {stage.label}": vectors, f"picture {stage.label}": places[stage.label]}
    lines = -(-len(kept) // (3 * len(stages)))  # of the legend
    with picture.style():
        figure = Figure(figsize=(2.5 * len(stages), 2.5 + 0.17 * lines), layout="constrained")
        panels = figure.subplots(1, len(stages), squeeze=False)[0]
        for panel, (label, place) in zip(panels, places.items(), strict=True):
            for number, name in enumerate(kept):
                own = place[labels == name]
                colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
                panel.scatter(*own.T, s=10, c=colour, marker=marker, linewidths=0, label=dataset.classes[name])
            values = [_number(value) for value in numbers[label].values()]
            panel.set_title(f"{label}\nsilhouette {values[0]}, drawn {values[1]}")
            panel.set_box_aspect(1)
            picture.bare(panel)
        handles, names = panels[0].get_legend_handles_labels()
        looks = {"frameon": False, "markerscale": 1.6, "handletextpad": 0.1, "columnspacing": 1.2}
        figure.legend(handles, names, loc="outside lower center", ncols=3 * len(stages), **looks)
    said = "; ".join(
        f"{label} {_number(values['silhouette of features'])} in the features, "
        f"{_number(values['silhouette of picture'])} in the picture"
        for label, values in numbers.items()
    )
    caption = (
        f"t-SNE (perplexity {lowered(len(records)):.3g}) of the features of {len(records)} test videos of {len(kept)} "
        f"classes, mean of {clips} clips, length 1. Silhouette of the classes: {said}. "
        f"{picture.sources(stages, f'{len(records)} labelled test videos of {dataset.title}', seed)}"
    )
    return Picture("tsne", figure, arrays, numbers, caption)


def _vectors(stage: Stage, reader: views.Uniform) -> Array:
    """[N, C] features of all videos, of length 1."""
    found = []
    for keys in features.chunks(len(reader)):
        samples = [reader[key] for key in keys]
        found.append(
            features.uniform_features(
                stage.model.query.backbone, samples, reader.footage, stage.settings, torch.device("cpu")
            )
        )
    vectors: Array = torch.cat(found).double().mean(1).numpy()
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")
