"""A step of pre-training of each row, timed on this machine and kept for estimates: `fima-ablate bench`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ablations import estimate, spec
from ablations.engines.local import SPINS
from ablations.provenance import environment
from ablations.store import Store, read_json, write_json
from fima.datasets import cores

if TYPE_CHECKING:
    from fima.config import Settings


def measure(
    names: Sequence[str],
    profile: str,
    overrides: Sequence[str],
    store: Store,
    steps: int,
    jobs: int = 1,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Time steps on views of noise, one distinct setting after another, and keep each time in <store>/bench.json.

    Needs neither the data nor a place for the results of a training.

    Args:
        names: studies; none, or `all`: every one of the repository.
        profile: how large.
        overrides: `KEY=VALUE`.
        store: gets bench.json, also when stopped in between.
        steps: to time for each setting, after one that warms up.
        jobs: stages that will run side by side: one then has cores // jobs threads.
        again: also what bench.json has for this device and number of threads.
        say: takes a line per setting.

    Returns:
        One entry per distinct setting: step (a digest), place, threads, seconds_per_step, steps, batch, rows, time,
        and whether it was there before (kept).

    Raises:
        SpecError: a study, profile or override that is wrong.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # as stages have it; read once, when torch is loaded
    import torch

    from fima import compute, cost

    threads = max(1, cores() // jobs)
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available()
    device = f"cuda: {torch.cuda.get_device_name()}" if cuda else "cpu"
    where = estimate.place(device, environment()["cpu"])
    found = []
    for digest, (settings, rows) in distinct(names, profile, overrides).items():
        entry = None if again else _kept(store, digest, where, threads)
        if entry is not None:
            say(f"{entry['seconds_per_step']:.3g} s/step  {', '.join(rows)} (measured before)")
            found.append({**entry, "rows": rows, "kept": True})
            continue
        compute.keep_memory(settings.compute.precision)  # as in stages
        (seconds,) = cost.measure([settings], steps)
        entry = {
            "step": digest,
            "place": where,
            "threads": threads,
            "seconds_per_step": seconds,
            "steps": steps,
            "batch": settings.optim.batch,
            "rows": rows,
            "time": time.time(),
        }
        _keep(store, entry)
        say(f"{seconds:.3g} s/step  {', '.join(rows)}")
        found.append({**entry, "kept": False})
    return found


def distinct(names: Sequence[str], profile: str, overrides: Sequence[str]) -> dict[str, tuple[Settings, list[str]]]:
    """Settings of which each has a time of its own, by digest, with the rows that have them.

    Reference rows that are pre-trained, with other videos' motion as keys, are among them.
    """
    paths = spec.find_studies(names)
    chosen = spec.load_profile(profile)
    found: dict[str, tuple[Settings, list[str]]] = {}
    for path in paths:
        study = spec.load_study(path)
        rows = [row for row in study.rows if row.encoder is None]  # nobody trains the others here
        usual = next((row for row in rows if row.default), rows[-1] if rows else None)
        for row in rows:
            settings = spec.resolve(study, row, chosen, overrides).settings
            many = [(settings, row.label)]
            if row is usual and "shuffled" in chosen.references and settings.uses("vd", "pix", "fra"):
                contrast = settings.contrast.model_copy(update={"shuffled": True})
                many.append((settings.model_copy(update={"contrast": contrast}), "shuffled reference"))
            for own, label in many:
                config = {"settings": own.active(), "where": {"recompute": own.compute.recompute}}
                found.setdefault(estimate.step(config), (own, []))[1].append(f"{study.study}: {label}")
    return found


def _entries(store: Store) -> list[dict[str, Any]]:
    return list((read_json(store.root / estimate.BENCH) or {}).get("measured", []))


def _key(entry: dict[str, Any]) -> tuple[str, str, int]:
    return entry["step"], entry["place"], entry["threads"]


def _kept(store: Store, digest: str, where: str, threads: int) -> dict[str, Any] | None:
    return next((entry for entry in _entries(store) if _key(entry) == (digest, where, threads)), None)


def _keep(store: Store, entry: dict[str, Any]) -> None:
    """Put a time in the place of an older one of the same setting, device and number of threads."""
    store.root.mkdir(parents=True, exist_ok=True)
    others = [other for other in _entries(store) if _key(other) != _key(entry)]
    write_json(store.root / estimate.BENCH, {"measured": [*others, entry]})
