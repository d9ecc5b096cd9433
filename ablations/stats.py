"""Seeds to numbers: mean, spread, 95 % intervals; rows compared pair by pair; agreement with the paper's order.

Rows are compared on seeds that both have, because a seed fixes the data order and the start of both. Nothing here is
ever NaN: where there are too few seeds, there is no number.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
LEAST = (
    3  # seeds that a test or a verdict takes: of two, differences that happen to be equal leave an interval no width
)
ROUNDING = 1e-12  # of the mean: a spread below it is none
POWER = 0.8  # chance of being found that makes a true difference "detectable"
DRAWS = 4000  # of a bootstrap
BOOTSTRAP_SEED = 20240  # of everything drawn here, so that the same numbers always give the same report
SIGNED = 40  # most seeds of a sign-flip test, which takes 2^(n/2) sums twice
CERTAIN = 1e6  # standard deviations that any seeds find; scipy's noncentral t knows no number far beyond
MOST = 1000  # further seeds beyond which their number is not told

Values = Mapping[int, float]  # seed -> value


@dataclass(frozen=True)
class PerVideo:
    """Outcome of one seed on the test videos; a group of dependent videos counts as one.

    Raises:
        ValueError: no video, sides of unequal length, a video without items, or right ones outside -of .. of.
    """

    right: tuple[int, ...]  # of each video, how many of its test items were right, or how many fewer another way
    of: tuple[int, ...]  # of how many, at least 1

    def __post_init__(self) -> None:
        if not self.of or len(self.right) != len(self.of):
            raise ValueError(f"need as many right as of, at least one, got {len(self.right)} and {len(self.of)}")
        bad = next(
            ((right, of) for right, of in zip(self.right, self.of, strict=True) if not -of <= right <= of > 0), None
        )
        if bad:
            raise ValueError(f"a test video needs items, and not more of them right, got {bad[0]} of {bad[1]}")

    @property
    def accuracy(self) -> float:
        """Of all items, in percent; of a difference in points."""
        return 100 * sum(self.right) / sum(self.of)


Hits = Mapping[int, PerVideo]  # seed -> outcome; every seed is tested on the same videos, in the same order


@dataclass(frozen=True)
class Summary:
    """Location and spread of one cell over its seeds."""

    n: int
    mean: float | None  # None when n = 0
    std: float | None  # sample standard deviation (n - 1); None when n < 2
    half: float | None  # half width of the t interval of the mean; None when n < 2


@dataclass(frozen=True)
class Gap:
    """A difference (or ratio) of two rows over their common seeds, with a t interval."""

    n: int
    value: float | None  # None when n = 0
    low: float | None  # None when n < 2
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """One row against the default row on one metric, paired by seed. In the metric's unit; row minus default."""

    metric: str
    label: str
    against: str
    seeds: tuple[int, ...]  # that both rows have
    gap: float | None  # None without a common seed
    low: float | None = None  # 95 % paired t interval; None with fewer than 2 seeds, as all that follows
    high: float | None = None
    p: float | None = None  # two-sided paired t test; None with fewer than 3, as p_holm and detectable
    p_holm: float | None = None  # Holm's correction over all comparisons of the table
    sign_flip: float | None = None  # exact two-sided sign-flip test; never below 2 / 2^n
    boot_low: float | None = None  # 95 % bootstrap over seeds and test videos; None where no video is known
    boot_high: float | None = None
    detectable: float | None = None  # true difference that p, before Holm, finds with 80 % power

    @property
    def n(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between the paper's order of rows and that of the means over shared seeds."""

    metric: str
    rows: int  # that both sides have
    n: int  # seeds that these rows share
    tau: float | None  # None with fewer than 2 rows, without a shared seed, or where one side is all ties
    low: float | None = None  # 95 % percentile bootstrap over seeds; None where every resample of them gives this tau
    high: float | None = None


@functools.cache
def critical(n: int, level: float = LEVEL) -> float:
    """Student's t quantile for a two-sided interval of the mean of n >= 2 values."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, n - 1))


def summarise(values: Sequence[float], level: float = LEVEL) -> Summary:
    """Mean, sample standard deviation and half width of the t interval."""
    n = len(values)
    if n == 0:
        return Summary(0, None, None, None)
    mean = values[0] if min(values) == max(values) else math.fsum(values) / n  # equal values have no spread by rounding
    if n == 1:
        return Summary(1, mean, None, None)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Summary(n, mean, std, critical(n, level) * std / math.sqrt(n))


def interval(values: Sequence[float], level: float) -> Gap:
    summary = summarise(values, level)
    if summary.mean is None or summary.half is None:
        return Gap(summary.n, summary.mean, None, None)
    return Gap(summary.n, summary.mean, summary.mean - summary.half, summary.mean + summary.half)


def paired_differences(first: Values, second: Values) -> list[float]:
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def paired(first: Values, second: Values, level: float = LEVEL) -> Gap:
    """first - second over the seeds that both have."""
    return interval(paired_differences(first, second), level)


def paired_logs(first: Values, second: Values) -> list[float]:
    seeds = sorted(first.keys() & second.keys())
    bad = [value for seed in seeds for value in (first[seed], second[seed]) if value <= 0]
    if bad:
        raise ValueError(f"a ratio needs values above 0, got {bad[0]}; leave the ratio out for this metric")
    return [math.log(first[seed] / second[seed]) for seed in seeds]


def paired_ratio(first: Values, second: Values, level: float = LEVEL) -> Gap:
    """Geometric mean of first / second over common seeds; the interval is a t interval of the logarithms.

    Raises:
        ValueError: a value is not positive, so that a ratio has no meaning.
    """
    log = interval(paired_logs(first, second), level)
    if log.value is None:
        return log
    if log.low is None or log.high is None:
        return Gap(log.n, math.exp(log.value), None, None)
    return Gap(log.n, math.exp(log.value), math.exp(log.low), math.exp(log.high))


# --- tests of paired differences


def p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t test; None with fewer than three seeds. Without spread 1 if the mean is 0, else 0.

    Accuracies are counts: two differences are often equal, and any of them would be certain.
    """
    from scipy.stats import t

    summary = summarise(differences)
    if summary.mean is None or summary.std is None or summary.n < LEAST:
        return None
    if summary.std <= ROUNDING * abs(summary.mean):
        return 1.0 if summary.mean == 0 else 0.0
    return float(2 * t.sf(abs(summary.mean) / (summary.std / math.sqrt(summary.n)), summary.n - 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values, in their order."""
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted


def sign_flip(differences: Sequence[float]) -> float | None:
    """Exact two-sided p of the mean under random signs; None with n < 2 or n > SIGNED.

    Sums of the first half under all its signs are held against those of the second, which are sorted.
    """
    import numpy as np

    n = len(differences)
    if not 2 <= n <= SIGNED:
        return None
    # sums that are equal on paper may differ by rounding
    least = abs(math.fsum(differences)) - 1e-12 * math.fsum(map(abs, differences))
    if least <= 0:
        return 1.0
    values = np.asarray(differences, float)
    first, second = _signed_sums(values[: n // 2]), np.sort(_signed_sums(values[n // 2 :]))
    above = len(second) - np.searchsorted(second, least - first)
    return 2 * int(above.sum()) / 2**n  # with all signs turned a sum as far above 0 is one as far below


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of n values under each of their 2^n sign vectors."""
    import numpy as np

    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@functools.lru_cache(maxsize=4096)
def least_effect(n: int, level: float, power: float) -> float:
    """True mean, in standard deviations, that a two-sided t test of n >= 2 values finds with this power (> 1 - level).

    A finding in the wrong direction does not count; at 80 % power its chance is below 1e-4.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct

    bound = critical(n, level)

    def missing(shift: float) -> float:
        return float(nct.sf(bound, n - 1, shift)) - power

    most = bound
    while missing(most) < 0:
        most *= 2
    return float(brentq(missing, 0, most)) / math.sqrt(n)


def detectable(differences: Sequence[float], level: float = LEVEL, power: float = POWER) -> float | None:
    """Smallest true difference that a paired t test of so many seeds of this spread finds; None of fewer than 3."""
    summary = summarise(differences)
    if summary.std is None or summary.n < LEAST:
        return None
    return summary.std * least_effect(summary.n, level, power) if summary.std else 0.0


def _further(n: int, most: int, enough: Callable[[int], bool]) -> int | None:
    """Seeds to add to n until there are enough; None if more than `most`."""
    found = bisect.bisect_left(range(most + 1), True, key=lambda more: enough(n + more))
    return found if found <= most else None


def needed(
    differences: Sequence[float],
    level: float = LEVEL,
    bound: float = 0.0,
    power: float = POWER,
    most: int = MOST,
    together: int = 1,
) -> int | None:
    """Further seeds until a two-sided paired t test tells the mean from `bound` with this power.

    The true mean and spread are taken to be those observed; `together` is as in `to_find_again`.

    Returns:
        0 if there are enough; None with n < 2, a mean equal to `bound`, or if more than `most` would be needed.
    """
    effect = _standardised(differences, bound)
    if effect is None:
        return None
    each = _each(power, together)
    return _further(len(differences), most, lambda n: least_effect(n, level, each) <= effect)


def to_find_again(
    differences: Sequence[float], level: float = LEVEL, bound: float = 0.0, power: float = POWER, together: int = 1
) -> int:
    """Fresh seeds, LEAST or more, on which alone that test would tell the mean from `bound` with this power.

    The true mean and spread are taken to be those observed: of a difference that was only just found, too few.

    Args:
        differences: two or more that a test has told from `bound`, so that some two times as many are enough.
        together: findings that all must be made again, this one among them: each with so much more power that all are
            made with `power`, however they depend on each other (Bonferroni).

    Raises:
        ValueError: no test can have told them from it.
    """
    each = _each(power, together)
    return _fresh(differences, bound, lambda n, effect: least_effect(n, level, each) <= effect)


def to_decide_again(
    differences: Sequence[float], level: float = LEVEL, bound: float = 0.0, power: float = POWER, together: int = 1
) -> int:
    """Fresh seeds, never fewer than `to_find_again`, which with probability `power` are themselves enough for that.

    A decision takes more than a test: as many seeds as would find the same again, by their own mean and spread. These
    are so many that a decision would be made again. Arguments and errors are those of `to_find_again`.
    """
    from scipy.stats import nct

    each = _each(power, together)

    def enough(n: int, effect: float) -> bool:
        return float(nct.sf(least_effect(n, level, each) * math.sqrt(n), n - 1, effect * math.sqrt(n))) >= each

    return _fresh(differences, bound, enough)


def _each(power: float, together: int) -> float:
    """Power of each of so many findings that are all to be made with `power` (Bonferroni)."""
    return 1 - (1 - power) / together


def _fresh(differences: Sequence[float], bound: float, enough: Callable[[int, float], bool]) -> int:
    """Fewest seeds, LEAST or more, that are enough for the mean's distance from `bound` in standard deviations."""
    effect = _standardised(differences, bound)
    if (effect or 0) > CERTAIN or summarise(differences).std == 0:
        return LEAST
    more = None if effect is None else _further(LEAST, MOST, lambda n: enough(n, effect))
    if more is None:
        raise ValueError(f"{len(differences)} differences cannot have been told from {bound:g}")
    return LEAST + more


def _standardised(differences: Sequence[float], bound: float) -> float | None:
    """Distance of the mean from `bound` in standard deviations; None with n < 2 or without a distance."""
    summary = summarise(differences)
    if summary.mean is None or summary.std is None or summary.mean == bound:
        return None
    return abs(summary.mean - bound) / summary.std if summary.std else math.inf


# --- bootstrap


def resampled(first: Hits, second: Hits, draws: int = DRAWS) -> NDArray[np.float64] | None:
    """[draws] differences in points, as `hierarchical` says."""
    import numpy as np

    seeds = sorted(first.keys() & second.keys())
    sides = [hits[seed] for hits in (first, second) for seed in seeds]
    videos = {len(side.of) for side in sides}
    n = len(seeds)
    if n < 2 or len(videos) > 1:
        return None
    count = videos.pop()
    counts = np.array([side.right for side in sides] + [side.of for side in sides], float).T  # [videos, 4 n]
    rng = np.random.default_rng(np.random.SeedSequence(BOOTSTRAP_SEED))
    of_seed = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    block = max(1, 2_000_000 // count)  # draws at a time; bounds memory
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)  # multinomial, but faster
        sums = weights.astype(float) @ counts
        accuracy = 100 * sums[:, : 2 * n] / sums[:, 2 * n :]
        parts.append(((accuracy[:, :n] - accuracy[:, n:]) * of_seed[start : start + size]).sum(1) / n)
    return np.concatenate(parts)


def mean_interval(hits: Hits, level: float = LEVEL, draws: int = DRAWS) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a mean accuracy in percent.

    A draw takes videos with replacement, the same for all seeds, and of several seeds as many with replacement: of one
    seed the interval tells what other videos might have given, not what another seed might.

    Returns:
        None without seeds, or if these do not all have the same number of videos.
    """
    import numpy as np

    seeds = sorted(hits)
    if not seeds or len({len(hits[seed].of) for seed in seeds}) > 1:
        return None
    count, n = len(hits[seeds[0]].of), len(seeds)
    rng = np.random.default_rng(np.random.SeedSequence(BOOTSTRAP_SEED))
    right, of = (np.array([getattr(hits[seed], side) for seed in seeds], float).T for side in ("right", "of"))
    of_seed = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    block = max(1, 2_000_000 // count)  # draws at a time; bounds memory
    parts = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(float)
        accuracy = 100 * (weights @ right) / (weights @ of)
        parts.append((accuracy * of_seed[start : start + size]).sum(1) / n)
    return percentiles(np.concatenate(parts), level)


def percentiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def hierarchical(first: Hits, second: Hits, level: float = LEVEL, draws: int = DRAWS) -> tuple[float, float] | None:
    """Percentile interval of the difference of mean accuracies, first - second, in points.

    A draw takes common seeds with replacement, and test videos with replacement: the same videos for both rows and
    for all of its seeds, because every seed is tested on the same videos. The same input gives the same interval.

    Returns:
        None with fewer than 2 common seeds, or if these do not all have the same number of videos.
    """
    values = resampled(first, second, draws)
    return None if values is None else percentiles(values, level)


def shared_hits(hits: Mapping[str, Hits] | None, label: str, seeds: Sequence[int]) -> Hits:
    """A row's outcomes on these seeds, as far as known."""
    known = (hits or {}).get(label, {})
    return {seed: known[seed] for seed in seeds if seed in known}


# --- tables


def compare(
    metric: str,
    default: str,
    rows: Mapping[str, Values],
    hits: Mapping[str, Hits] | None = None,
    level: float = LEVEL,
) -> tuple[Comparison, ...]:
    """Every row but the default against it, paired by seed, in order of rows; `corrected` adds Holm's p.

    Args:
        default: label of the default row; without it no comparison has a seed.
        hits: outcomes per test video, of the rows where they are known.
    """
    against = rows.get(default, {})
    others = {label: values for label, values in rows.items() if label != default}
    differences = {label: paired_differences(values, against) for label, values in others.items()}
    p = {label: found for label, values in differences.items() if (found := p_value(values)) is not None}
    out = []
    for label, values in others.items():
        seeds = tuple(sorted(values.keys() & against.keys()))
        gap = interval(differences[label], level)
        low, high = hierarchical(shared_hits(hits, label, seeds), shared_hits(hits, default, seeds), level) or (
            None,
            None,
        )
        out.append(
            Comparison(
                metric,
                label,
                default,
                seeds,
                gap.value,
                gap.low,
                gap.high,
                p.get(label),
                sign_flip=sign_flip(differences[label]),
                boot_low=low,
                boot_high=high,
                detectable=detectable(differences[label], level),
            )
        )
    return tuple(out)


def corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons of a table, all its rows and metrics, with Holm's correction over those that have a p."""
    tested = [i for i, one in enumerate(comparisons) if one.p is not None]
    found = dict(zip(tested, holm([one.p for i in tested if (one := comparisons[i]).p is not None]), strict=True))
    return tuple(replace(one, p_holm=found.get(i)) for i, one in enumerate(comparisons))


def _tau(paper: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's tau-b of signs [pairs] with each of [draws, pairs]; NaN where one side is all ties."""
    import numpy as np

    untied = np.abs(paper).sum() * np.abs(measured).sum(-1)
    out = np.full(untied.shape, np.nan)
    np.divide(measured @ paper, np.sqrt(untied), out=out, where=untied > 0)
    return out


def agreement(metric: str, paper: Mapping[str, float], rows: Mapping[str, Values], level: float = LEVEL) -> Agreement:
    """Kendall's tau-b between the paper's numbers and the measured means, over rows that both have.

    Which way is better does not matter: both sides turn. Means are of the seeds that all these rows share, so that no
    row is ahead by its seeds. The interval resamples these seeds; draws in which every mean ties are left out.
    """
    import numpy as np

    labels = [label for label in paper if rows.get(label)]
    seeds = sorted(set.intersection(*(set(rows[label]) for label in labels))) if labels else []
    n = len(seeds)
    if len(labels) < 2 or not seeds:
        return Agreement(metric, len(labels), n, None)
    left, right = np.triu_indices(len(labels), 1)

    def signs(means: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., rows] to signs of [..., pairs] differences; what differs by rounding only is a tie."""
        gaps = means[..., left] - means[..., right]
        return np.where(np.abs(gaps) <= 1e-9 * np.abs(means).max(), 0.0, np.sign(gaps))

    stated = signs(np.array([paper[label] for label in labels], float))
    values = np.array([[rows[label][seed] for label in labels] for seed in seeds], float)
    tau = float(_tau(stated, signs(values.mean(0))[None])[0])
    if math.isnan(tau) or n < 2:
        return Agreement(metric, len(labels), n, None if math.isnan(tau) else tau)
    rng = np.random.default_rng(np.random.SeedSequence(BOOTSTRAP_SEED))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
    taus = _tau(stated, signs(weights @ values))
    taus = taus[~np.isnan(taus)]
    if not len(taus) or taus.min() == taus.max():
        return Agreement(metric, len(labels), n, tau)  # no resample alters it: no interval, and no certainty either
    return Agreement(metric, len(labels), n, tau, *percentiles(taus, level))
