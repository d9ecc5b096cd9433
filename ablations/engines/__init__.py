"""Where stages execute: processes of this machine, Ray, Slurm. Each is one module that follows `protocol`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations import cards
from fima.datasets import cores

if TYPE_CHECKING:
    from ablations.engines.protocol import Engine
    from ablations.store import Store

NAMES = ("local", "ray", "slurm")
LIBRARIES = {"ray": "ray", "slurm": "submitit"}  # engine, and extra of the package -> what it imports


@dataclass(frozen=True)
class Chosen:
    """An engine that was asked for, before there is a store."""

    build: Callable[[Store], Engine]
    jobs: int | None  # stages side by side; None: as many as are ready
    cards: tuple[int, ...] = ()  # of this machine


def choose(
    name: str, jobs: int | None, devices: str | None, per_run: int, address: str | None, slurm: tuple[str, ...]
) -> Chosen:
    """The engine of a command line.

    Args:
        name: local, ray or slurm.
        jobs: stages side by side; None: what suits the engine.
        devices: numbers of CUDA cards with commas, of this machine.
        per_run: devices that each pre-training is trained on.
        address: of a Ray cluster.
        slurm: KEY=VALUE for submitit.

    Raises:
        ValueError: there is no such engine, its library is missing, or an option is not one of its own.
    """
    if name not in NAMES:
        raise ValueError(f"--engine is one of {', '.join(NAMES)}; got {name}")
    given = {"--devices": (devices, "local"), "--address": (address, "ray"), "--slurm": (slurm, "slurm")}
    for option, (value, engine) in given.items():
        if value and name != engine:
            raise ValueError(f"{option} is for --engine {engine}, and this is --engine {name}")
    library = LIBRARIES.get(name)
    if library and importlib.util.find_spec(library) is None:
        raise ValueError(f"--engine {name} needs {library}: pip install 'fima-ablate[{name}]', or -e '.[{name}]' here")
    if name == "ray":
        from ablations.engines.ray import Ray

        cluster = Ray(address, jobs, per_run)
        return Chosen(lambda store: cluster, cluster.jobs)
    if name == "slurm":
        from ablations.engines.slurm import Options, Slurm

        options = Options.read(slurm, per_run)
        return Chosen(lambda store: Slurm(options, store, jobs), jobs)
    from ablations.engines.local import Local

    there = cards.chosen(devices) if devices is not None else cards.all_of_them() if per_run > 1 else ()
    if jobs is None:
        jobs = max(1, len(there) // per_run) if devices is not None else 1 if per_run > 1 else side_by_side()
    cards.check(there, jobs, per_run)
    return Chosen(lambda store: Local(), jobs, there)


def side_by_side() -> int:
    """Stages side by side on this machine where nobody says how many: one on a card, else two if there are two cores.

    Two small encoders with a thread each take less time than one after the other with two threads, by a fifth on two
    cores (tests/benchmarks/NOTES.md).
    """
    return 1 if cards.driver() and cards.all_of_them() else min(2, cores())
