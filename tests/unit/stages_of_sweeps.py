"""What the stages of test_sweeping.py do. A module of its own: each process of a stage imports it, and little else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from ablations.store import Store
from ablations.uids import Stage


def fake(stage: Stage, store: Store, workers: int, on_progress: Callable[..., None]) -> dict[str, Any]:
    """A bowl over beta and threshold, with a little of the seed; pre-training shows it coming."""
    with (store.root / "ran.txt").open("a") as file:
        file.write(f"{stage.uid}\n")
    uid = stage.uid if stage.kind == "pretrain" else next(u for u in _above(stage, store) if u.startswith("pretrain-"))
    settings = (store.config(uid) or {})["config"]["settings"]
    beta, threshold = settings["foreground"]["beta"], settings["pixel"]["threshold"]
    good = 70 - 60 * (beta - 0.4) ** 2 - 8 * (threshold - 0.8) ** 2
    if stage.kind == "pretrain":
        if beta > 0.8 and (store.root / "trouble").exists():
            raise ValueError("beta is too\nlarge for this machine")
        for step in range(1, 11):
            time.sleep(float((store.root / "pause").read_text()) if (store.root / "pause").exists() else 0)
            on_progress(step, 10, {"loss": 1.0, **({"knn": good * step / 10} if step % 5 == 0 else {})})
        return {"seconds": 1.0, "seconds_per_step": 0.1 + beta, "gflop_per_step": 3.0, "parameters_paper_millions": 1.0,
                "parameters_millions": 1.5}  # fmt: skip
    if stage.kind == "features":
        return {"seconds": 0.1}
    right = [int(random.Random(f"{uid}{i}").random() < good / 100) for i in range(60)]
    return {"top1": good + 0.1 * stage.seed, "videos": 60, "classes": 6, "per_video": {"of": [1] * 60, "top1": right}}


def _above(stage: Stage, store: Store) -> list[str]:
    found, waiting = [], list(stage.needs)
    while waiting:
        uid = waiting.pop()
        found.append(uid)
        waiting += (store.config(uid) or {}).get("needs", [])
    return found
