"""Optuna: where trials are kept, who chooses the next one, who prunes. The only import of optuna but for its plots.

A trial that a killed process left is not failed and not repeated: it waits again, under its number and with its
parameters, and whoever takes it goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ablations.sqlite import made_whole
from ablations.store import birth, still_runs
from ablations.sweep import Sampler

if TYPE_CHECKING:
    from ablations.space import Parameter, Point
    from ablations.sweep import Objective, Pruner, Sweep

BEAT = 15.0  # seconds between signs of life of who runs a trial
STALE = 120.0  # seconds without one after which it is taken for dead, on whatever machine it was
ASKED = 60.0  # seconds within which who asked for a trial has put down its name
MODEL_TRIES = 100  # draws of a sampler until a point breaks no constraint; after them it is drawn at random
TRIES = 5000  # draws at random
SQLITE_PATIENCE = 60  # seconds that a write waits for other processes

optuna.logging.set_verbosity(optuna.logging.WARNING)


# --- where trials are kept


def open_storage(url: str) -> BaseStorage:
    """An Optuna storage: sqlite:///FILE, another database's URL, or journal:FILE on a shared folder.

    Raises:
        ValueError: it cannot be opened; the line names the reason and the way out.
    """
    try:
        if url.startswith("journal:"):
            path = Path(url.removeprefix("journal:"))
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path)))
        if url.startswith("sqlite:///"):
            made_whole(Path(url.removeprefix("sqlite:///").partition("?")[0]), _create)
            return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": SQLITE_PATIENCE}})
        with FileLock(Path(_temporary(url))):  # two that create its tables at once disturb each other
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (ImportError, ModuleNotFoundError) as error:
        way = "pip install 'fima-ablate[postgres]'" if url.startswith("postgres") else "install its driver"
        raise ValueError(f"--storage {hidden(url)}: {error}; {way}") from None
    except Exception as error:  # whatever SQLAlchemy and its drivers raise
        reason = " ".join(str(error).split()).partition(" (Background on")[0]
        raise ValueError(
            f"--storage {hidden(url)}: {reason[:300]}; give sqlite:///FILE, journal:FILE or the URL of a running "
            "database, such as postgresql://USER:PASSWORD@HOST/NAME"
        ) from None


def hidden(url: str) -> str:
    """A URL without its password."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def _create(path: Path) -> None:
    RDBStorage(f"sqlite:///{path}")


def _temporary(url: str) -> str:
    import tempfile

    return str(Path(tempfile.gettempdir()) / f"fima-ablate-{hashlib.sha256(url.encode()).hexdigest()[:12]}.lock")


def open_study(storage: BaseStorage, name: str, sweep: Sweep) -> Study:
    """The study of a sweep; made if there is none. Its sampler and pruner are the sweep's."""
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[objective.direction for objective in sweep.objectives],
        sampler=Searcher(sweep),
        pruner=build_pruner(sweep.pruner),
        load_if_exists=True,
    )


def close(study: Study) -> None:
    """Give back the connections to a database."""
    storage = getattr(study._storage, "_backend", study._storage)  # Optuna wraps a database into a cache
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def begin(study: Study, points: Mapping[str, Point], sweep: Sweep) -> int:
    """Have points tried first: named ones, then the cells of a grid. Those that are there already stay alone.

    Returns:
        how many trials the sweep is to have, without the named ones and the retries that are beyond it.
    """
    for label, point in points.items():
        study.enqueue_trial(dict(point), user_attrs={"row": label}, skip_if_exists=True)
    if sweep.sampler.name != "grid":
        assert sweep.trials is not None  # load_sweep sees to it
        return sweep.trials
    cells = {_key(cell): cell for cell in sweep.space.cells()[: sweep.trials]}
    there = [t for t in study.get_trials(deepcopy=False) if "retry_of" not in t.user_attrs]
    points_there = [_key(known_parameters(trial)) for trial in there]
    for key, cell in cells.items():
        if key not in points_there:
            study.enqueue_trial(dict(cell))
    # Points between the cells, and cells that another sampler drew twice, take no cell's place.
    return len(cells) + len(there) - len(cells.keys() & set(points_there))


def target(study: Study, trials: int) -> int:
    """How many trials are to be begun: as many as asked for, each retry besides, and no row of a study left out."""
    there = study.get_trials(deepcopy=False)
    retries = sum("retry_of" in trial.user_attrs for trial in there)
    begun = sum(trial.state != TrialState.WAITING for trial in there)
    named = [trial for trial in there if trial.user_attrs.keys() & {"row", "retry_of"}]
    return max(trials + retries, begun + sum(trial.state == TrialState.WAITING for trial in named))


def _key(point: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(point.items()))


# --- who chooses


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter in Optuna's words."""
    if parameter.form == "choices":
        return CategoricalDistribution([kept for kept, _ in parameter.choices])
    if parameter.form == "int":
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)


def build_sampler(sampler: Sampler, number: int, objectives: Sequence[Objective]) -> BaseSampler:
    """Optuna's sampler for trial `number`: its seed is drawn from (seed, number), so that it does not matter which
    process asks, nor how often the sweep was stopped."""
    import numpy as np

    seed = int(np.random.SeedSequence([sampler.seed, number]).generate_state(1)[0])
    if sampler.name == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`, for conditions
            return TPESampler(n_startup_trials=sampler.startup, multivariate=True, group=True, seed=seed)
    if sampler.name == "cmaes":
        return CmaEsSampler(n_startup_trials=max(1, sampler.startup), warn_independent_sampling=False, seed=seed)
    if sampler.name == "nsga2":
        return NSGAIISampler(population_size=sampler.population, seed=seed)
    return RandomSampler(seed=seed)


class Searcher(BaseSampler):
    """Optuna's sampler over whole points: conditions and constraints are met before a trial exists."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._inner: tuple[int, BaseSampler] | None = None

    def _of(self, number: int) -> BaseSampler:
        if self._inner is None or self._inner[0] != number:
            self._inner = (number, build_sampler(self.sweep.sampler, number, self.sweep.objectives))
        return self._inner[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {parameter.name: distribution(parameter) for parameter in self.sweep.space.parameters}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point that the space allows.

        Raises:
            ValueError: none is found.
        """
        self._inner = None  # a trial that is asked for again gets the same point again
        inner, space = self._of(trial.number), self.sweep.space
        fixed = known_parameters(trial)
        together = inner.infer_relative_search_space(study, trial)
        for attempt in range(MODEL_TRIES + TRIES):
            if attempt == MODEL_TRIES:  # a model of what is good may see it only where constraints forbid it
                inner, together = build_sampler(Sampler("random", self.sweep.sampler.seed), trial.number, ()), {}
            drawn = inner.sample_relative(study, trial, together)
            point: dict[str, Any] = {}
            for parameter in space.parameters:
                name = parameter.name
                if not space.active(parameter, point):
                    continue
                value = drawn.get(name)
                if name not in drawn:
                    value = inner.sample_independent(study, trial, name, search_space[name])
                point[name] = value
            if (
                space.broken(point) is None
            ):  # drawn whole first: a trial cut short between two parameters ends as it was
                point = self._over(point, fixed)
                if not fixed or space.broken(point) is None:
                    return point
        raise ValueError(f"{self.sweep.path}: {TRIES:,} draws in a row broke a constraint; loosen the constraints, or "
                         "narrow the space to where they hold")  # fmt: skip

    def _over(self, point: Point, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """A point with what is fixed already; conditions decide again."""
        found: dict[str, Any] = {}
        for parameter in self.sweep.space.parameters:
            known = fixed if parameter.name in fixed else point
            if parameter.name in known and self.sweep.space.active(parameter, found):
                found[parameter.name] = known[parameter.name]
        return found

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        return self._of(trial.number).sample_independent(study, trial, name, distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._of(trial.number).after_trial(study, trial, state, values)


def known_parameters(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was given already: by whoever enqueued it, or before its process was killed."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def suggest(trial: Trial, sweep: Sweep) -> Point:
    """The trial's point, kept in the storage."""
    point: dict[str, Any] = {}
    for parameter in sweep.space.parameters:
        if not sweep.space.active(parameter, point):
            continue
        name, kind = parameter.name, distribution(parameter)
        if isinstance(kind, CategoricalDistribution):
            point[name] = trial.suggest_categorical(name, kind.choices)
        elif isinstance(kind, IntDistribution):
            point[name] = trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
        elif isinstance(kind, FloatDistribution):
            point[name] = trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
    return point


def build_pruner(pruner: Pruner) -> optuna.pruners.BasePruner:
    """Optuna's pruner; a step is a step of pre-training."""
    if pruner.name == "median":
        return optuna.pruners.MedianPruner(pruner.startup, pruner.warmup, n_min_trials=1)
    if pruner.name == "percentile":
        return optuna.pruners.PercentilePruner(pruner.percentile, pruner.startup, pruner.warmup)
    if pruner.name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=pruner.every, reduction_factor=2)
    if pruner.name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=pruner.every, reduction_factor=2)
    return optuna.pruners.NopPruner()


# --- who runs a trial


class Claims:
    """Which process runs which trial; the trials of the dead are free again.

    Args:
        study: of the sweep.
        folder: where a lock keeps processes that share it from deciding at the same time.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process of those that share the folder at a time."""
        name = hashlib.sha256(self.study.study_name.encode()).hexdigest()[:12]
        with FileLock(self.folder / f"{name}.lock"):
            yield

    def take(self, target: int) -> Trial | None:
        """The next trial, this process's from now on; None if the sweep has as many as it is to have."""
        with self.alone():
            self.free()
            trials = self.study.get_trials(deepcopy=False)
            begun = sum(trial.state != TrialState.WAITING for trial in trials)
            if begun >= target:
                return None
            try:
                trial = self.study.ask()
            except ValueError:
                self._fail_unnamed()
                raise
            self.beat(trial)
            return trial

    def _fail_unnamed(self) -> None:
        """A trial for which no point was found."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not trial.params and "worker" not in trial.user_attrs:
                self.study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def beat(self, trial: Trial) -> None:
        """Say that this process is at it."""
        pid = os.getpid()
        worker = {"host": socket.gethostname(), "pid": pid, "born": birth(pid), "beat": time.time()}
        trial.set_user_attr("worker", worker)

    @contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """Signs of life from a thread while the trial runs."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(Exception):  # a storage that is away for a moment; the next sign may get through
                    self.beat(trial)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def free(self) -> int:
        """Have trials wait again whose process is dead; returns how many. With `alone`, but for other machines."""
        count = 0
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not lives(trial):
                self.study._storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)
                count += 1
        return count


def lives(trial: FrozenTrial) -> bool:
    """Whether the process that runs a trial still does, as far as can be known."""
    worker = trial.user_attrs.get("worker")
    if worker is None:  # asked for, not named yet: that takes no second
        return trial.datetime_start is not None and time.time() - trial.datetime_start.timestamp() < ASKED
    if worker["host"] == socket.gethostname():  # a machine that slept has old signs of what lives
        return still_runs(worker["pid"], worker.get("born"))
    return bool(time.time() - worker["beat"] < STALE)
