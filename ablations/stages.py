"""What a stage does: the one place where the suite calls `fima`. Runs in the worker process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablations.store import Store
from ablations.uids import Stage

Progress = Callable[[int, int, dict[str, float]], None]


def execute(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """Run a stage in its folder, going on from what a killed run left there.

    Args:
        stage: what to do; what it needs is done.
        store: where its folder and those of its needs are.
        workers: processes that read videos ahead; alters no result.
        on_progress: called with (step, steps, metrics).

    Returns:
        The result, as plain JSON data.

    Raises:
        ValueError, OSError, FloatingPointError: one line that names what is wrong and the way out.
    """
    began = time.monotonic()
    result = _KINDS[stage.kind](stage, store, workers, on_progress)
    result.setdefault("seconds", time.monotonic() - began)
    return result


def _pretrain(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima import pretrain

    settings, data = _settings(stage), _data(stage)
    folder = store.folder(stage.uid)
    return pretrain.run(
        settings, data, stage.seed, folder, workers=workers, on_progress=on_progress, probe=_probe(stage)
    )


def _untrained(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima import pretrain

    return pretrain.untrained(_settings(stage), stage.seed, store.folder(stage.uid))


def _given(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima import pretrain

    settings = _settings(stage)
    weights = settings.backbone.model_copy(update={"weights": Path(stage.config["where"]["weights"])})
    return pretrain.untrained(settings.model_copy(update={"backbone": weights}), 0, store.folder(stage.uid))


def _energy(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima.evaluate import energy, features

    settings = _settings(stage)
    folder = store.folder(stage.uid)
    return features.extract(
        energy.Energy(settings), settings, _data(stage), stage.config["clips"], folder,
        workers=workers, on_progress=on_progress,
    )  # fmt: skip


def _features(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima import pretrain
    from fima.evaluate import features

    settings = _settings(stage)
    backbone = pretrain.load_backbone(settings, _checkpoint(stage, store))
    folder = store.folder(stage.uid)
    return features.extract(
        backbone, settings, _data(stage), stage.config["clips"], folder, workers=workers, on_progress=on_progress
    )


def _linear(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima import pretrain
    from fima.config import Linear
    from fima.evaluate import features, linear

    chosen = Linear.model_validate(stage.config["linear"])
    if chosen.protocol == "logistic":
        return linear.logistic(features.read(store.folder(stage.needs[0])), stage.seed)
    settings = _settings(stage)
    backbone = pretrain.load_backbone(settings, _checkpoint(stage, store))
    folder = store.folder(stage.uid)
    return linear.sgd(
        backbone, settings, chosen, _data(stage), stage.seed, folder, workers=workers, on_progress=on_progress
    )


def _finetune(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima import pretrain
    from fima.config import Finetune
    from fima.evaluate import finetune

    settings = _settings(stage)
    backbone = pretrain.load_backbone(settings, _checkpoint(stage, store))
    chosen, folder = Finetune.model_validate(stage.config["finetune"]), store.folder(stage.uid)
    return finetune.run(
        backbone, settings, chosen, _data(stage), stage.seed, folder, workers=workers, on_progress=on_progress
    )


def _retrieval(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima.evaluate import features, retrieval

    return retrieval.run(features.read(store.folder(stage.needs[0])))


def _motion(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima.evaluate import bias

    return _told(bias.motion(*_encoder(stage, store), stage.config["clips"], stage.seed), stage)


def _background(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    from fima.evaluate import bias

    return _told(bias.background(*_encoder(stage, store), stage.config["clips"], stage.seed), stage)


def _encoder(stage: Stage, store: Store) -> tuple[Any, Any, Any]:
    """Backbone, settings and data."""
    from fima import pretrain

    settings = _settings(stage)
    return pretrain.load_backbone(settings, _checkpoint(stage, store)), settings, _data(stage)


def _told(found: dict[str, Any], stage: Stage) -> dict[str, Any]:
    count = stage.config["clips"]
    return {**found, "protocol": f"logistic regression on frozen features of whole clips, {count} clips averaged"}


def _figures(stage: Stage, store: Store, workers: int, on_progress: Progress) -> dict[str, Any]:
    """Draw a model by itself; the pictures, and the arrays behind their numbers, stay in the stage's folder."""
    from dataclasses import replace

    from fima.config import Settings
    from fima.figures import gallery
    from fima.figures.stage import load

    model = load(store.folder(stage.needs[0]))
    own, chosen = model.settings.model_dump(), stage.config["settings"]
    seen = {"clip": chosen["clip"], "augment": {**own["augment"], **chosen["augment"]}}
    model = replace(model, settings=Settings.model_validate({**own, **seen}), data=_data(stage))
    choice = gallery.Choice(clips=stage.config["clips"], seed=stage.seed)
    pictures = list(gallery.draw([model], choice=choice))
    for picture in pictures:
        picture.save(store.folder(stage.uid) / "pictures")
    every = {picture.name: gallery.known(picture.numbers.get(model.label, {})) for picture in pictures}
    protocol = f"figures of {choice.videos} test videos at most, {choice.clips} clips for similarity and silhouette"
    return {**gallery.numbers(pictures, model.label), "numbers": every, "protocol": protocol}


_KINDS = {
    "pretrain": _pretrain,
    "untrained": _untrained,
    "given": _given,
    "energy": _energy,
    "features": _features,
    "linear": _linear,
    "finetune": _finetune,
    "retrieval": _retrieval,
    "motion": _motion,
    "background": _background,
    "figures": _figures,
}


def _settings(stage: Stage) -> Any:
    from fima.config import Settings

    settings = Settings.model_validate(stage.config["settings"])
    compute = settings.compute.model_copy(update={"recompute": stage.config["where"].get("recompute", False)})
    return settings.model_copy(update={"compute": compute})


def _data(stage: Stage) -> Any:
    from fima.datasets import Data

    return Data.model_validate(stage.config["where"]["data"])


def _probe(stage: Stage) -> Any:
    """When the encoder is looked at while it is trained, if it is: `ablations.sweep` says so; it alters no result."""
    from fima.datasets import Data
    from fima.evaluate.knn import Probe

    chosen = stage.config["where"].get("probe")
    return chosen and Probe(Data.model_validate(chosen["data"]), chosen["every"], chosen["videos"])


def _checkpoint(stage: Stage, store: Store) -> Path:
    return store.folder(stage.needs[0]) / "checkpoint.pt"
