"""Seeds to numbers: mean, spread, 95 % intervals, paired differences, and what they say about a claim.

A claim is judged on seeds that both rows share, pair by pair, because a seed fixes the data order and the start of
both. The words used are "supported", "contradicted" and "undecided"; none of them means that a number was reproduced.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

LEVEL = 0.95
MARGIN = 1.0  # points within which two accuracies count as equal; the paper calls 0.5 "saturated" and 1.2 "better"
TOLERANCE = 0.05  # distance from a claimed ratio that still counts as that ratio

State = Literal["supported", "contradicted", "undecided"]
Values = Mapping[int, float]  # seed -> value


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
    p: float | None = None  # two-sided paired t test
    p_holm: float | None = None  # Holm's correction over the rows of this metric in this table
    sign_flip: float | None = None  # exact two-sided sign-flip test; never below 2 / 2^n
    boot_low: float | None = None  # 95 % hierarchical bootstrap over seeds and test videos; None where no video is known
    boot_high: float | None = None
    detectable: float | None = None  # true difference that so many seeds of this spread find with 80 % power

    @property
    def n(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between the paper's order of rows and the measured means."""

    metric: str
    rows: int  # that both sides have
    n: int  # seeds behind every mean
    tau: float | None  # None with fewer than 2 rows, or where one side is all ties
    low: float | None = None  # 95 % percentile bootstrap over seeds; None with fewer than 2 seeds
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What measured numbers say about one sentence of the paper."""

    says: str
    metric: str
    kind: str
    state: State
    direction: Literal["agrees", "disagrees", "level"] | None  # sign of the measured gap; None without numbers
    n: int  # common seeds of the comparison shown
    gap: float | None
    low: float | None
    high: float | None
    level: float
    rule: str
    words: str
    p: float | None = None  # two-sided paired t test of the comparison shown
    sign_flip: float | None = None  # its exact two-sided sign-flip test
    boot_low: float | None = None  # its 95 % hierarchical bootstrap over seeds and test videos
    boot_high: float | None = None
    needed: int | None = None  # further seeds that an undecided claim asks for, if the gap and spread stay as they are


def critical(n: int, level: float = LEVEL) -> float:
    """Student's t quantile for a two-sided interval of the mean of n >= 2 values."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, n - 1))


def summarise(values: Sequence[float], level: float = LEVEL) -> Summary:
    """Mean, sample standard deviation and half width of the t interval."""
    n = len(values)
    if n == 0:
        return Summary(0, None, None, None)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Summary(n, mean, std, critical(n, level) * std / math.sqrt(n))


def _interval(values: Sequence[float], level: float) -> Gap:
    summary = summarise(values, level)
    if summary.mean is None or summary.half is None:
        return Gap(summary.n, summary.mean, None, None)
    return Gap(summary.n, summary.mean, summary.mean - summary.half, summary.mean + summary.half)


def paired(first: Values, second: Values, level: float = LEVEL) -> Gap:
    """first - second over the seeds that both have."""
    seeds = sorted(first.keys() & second.keys())
    return _interval([first[seed] - second[seed] for seed in seeds], level)


def paired_ratio(first: Values, second: Values, level: float = LEVEL) -> Gap:
    """Geometric mean of first / second over common seeds; the interval is a t interval of the logarithms.

    Raises:
        ValueError: a value is not positive, so that a ratio has no meaning.
    """
    seeds = sorted(first.keys() & second.keys())
    bad = [value for seed in seeds for value in (first[seed], second[seed]) if value <= 0]
    if bad:
        raise ValueError(f"a ratio needs values above 0, got {bad[0]}; leave the ratio out for this metric")
    log = _interval([math.log(first[seed] / second[seed]) for seed in seeds], level)
    if log.value is None:
        return log
    if log.low is None or log.high is None:
        return Gap(log.n, math.exp(log.value), None, None)
    return Gap(log.n, math.exp(log.value), math.exp(log.low), math.exp(log.high))


def _direction(gap: float | None, zero: float = 0.0) -> Literal["agrees", "disagrees", "level"] | None:
    if gap is None:
        return None
    return "level" if gap == zero else "agrees" if gap > zero else "disagrees"


def _number(value: float, digits: int, signed: bool) -> str:
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")


def _shown(gap: Gap, digits: int, signed: bool, level: float = LEVEL) -> str:
    """ "gap +2.3, 95 % interval +0.9 to +3.7, n = 5" """
    name = "gap" if signed else "ratio"
    if gap.value is None:
        return "no seed measured on both sides"
    text = f"{name} {_number(gap.value, digits, signed)}"
    if gap.low is not None and gap.high is not None:
        low, high = _number(gap.low, digits, signed), _number(gap.high, digits, signed)
        text += f", {100 * level:g} % interval {low} to {high}"
    return f"{text}, n = {gap.n}"


def _one_seed(direction: str | None) -> str:
    return {"agrees": "direction agrees", "disagrees": "direction disagrees", "level": "no difference"}[direction or ""]


ORDER_RULE = (
    "supported: every interval of the paired difference lies above 0; contradicted: one lies below 0 "
    "(Bonferroni over the comparisons); otherwise, or with fewer than 2 common seeds, undecided"
)


def ordered(
    says: str,
    metric: str,
    kind: str,
    pairs: Sequence[tuple[str, str]],
    rows: Mapping[str, Values],
    *,
    lower_is_better: bool = False,
    digits: int = 1,
    level: float = LEVEL,
) -> Verdict:
    """A claim that in each pair the first row is better than the second.

    All must hold for "supported", which needs no correction (an intersection-union test); any one refutes, so that
    one side is corrected for the number of pairs. The comparison with the smallest gap is the one shown.
    """
    sign = -1.0 if lower_is_better else 1.0

    def flip(values: Values) -> dict[int, float]:
        return {seed: sign * value for seed, value in values.items()}

    sides = [(flip(rows.get(better, {})), flip(rows.get(worse, {}))) for better, worse in pairs]
    gaps = [paired(better, worse, level) for better, worse in sides]
    strict = [paired(better, worse, 1 - (1 - level) / max(len(pairs), 1)) for better, worse in sides]
    empty = [pair for pair, gap in zip(pairs, gaps, strict=True) if gap.value is None]
    known = [(gap.value, i) for i, gap in enumerate(gaps) if gap.value is not None]
    if not known:
        what = "; ".join(f"“{better}” against “{worse}”" for better, worse in empty) or "no comparison"
        return Verdict(
            says,
            metric,
            kind,
            "undecided",
            None,
            0,
            None,
            None,
            None,
            level,
            ORDER_RULE,
            f"undecided: {what}: no seed measured on both sides",
        )
    _, i = min(known)
    gap, (better, worse) = gaps[i], pairs[i]
    state: State = "undecided"
    if any(g.high is not None and g.high < 0 for g in strict):
        state = "contradicted"
        # the pair that refutes is the one to show
        i = min((g.high, j) for j, g in enumerate(strict) if g.high is not None)[1]
        gap, (better, worse) = gaps[i], pairs[i]
    elif not empty and all(g.low is not None and g.low > 0 for g in gaps):
        state = "supported"
    direction = _direction(gap.value)
    closest = "closest of " + str(len(pairs)) + ": " if len(pairs) > 1 and state != "contradicted" else ""
    shown = f"{closest}“{better}” against “{worse}”: {_shown(gap, digits, True, level)}"
    if lower_is_better:
        shown += " (lower is better; a positive gap is in favour)"
    if empty:
        shown += f"; {len(empty)} of {len(pairs)} comparisons have no common seed"
    if gap.n == 1 and state == "undecided":
        words = f"one seed: {_one_seed(direction)}, undecided; {shown}"
    else:
        words = f"{state}: {shown}"
        if state == "undecided" and gap.low is not None:
            words += (
                "; the interval includes 0" if gap.low <= 0 <= (gap.high or 0) else "; not every comparison decides"
            )
    return Verdict(says, metric, kind, state, direction, gap.n, gap.value, gap.low, gap.high, level, ORDER_RULE, words)


def equal(
    says: str,
    metric: str,
    labels: Sequence[str],
    rows: Mapping[str, Values],
    *,
    margin: float = MARGIN,
    digits: int = 1,
    level: float = LEVEL,
) -> Verdict:
    """A claim that no two of the rows differ by more than a margin. The pair that speaks most against it is shown."""
    rule = (
        f"equal means within ±{margin:g}: supported when the whole interval of the paired difference lies inside, "
        "contradicted when it lies wholly outside, undecided when it is wider or there are fewer than 2 common seeds; "
        "of several pairs the one most against the claim decides"
    )
    verdicts = []
    for first, second in itertools.combinations(labels, 2):
        gap = paired(rows.get(first, {}), rows.get(second, {}), level)
        verdicts.append(_within(says, metric, "equal", (first, second), gap, 0.0, margin, rule, digits, True, level))
    order = ("contradicted", "undecided", "supported")
    return min(verdicts, key=lambda verdict: (order.index(verdict.state), -abs(verdict.gap or 0)))


def ratio(
    says: str,
    metric: str,
    labels: tuple[str, str],
    value: float,
    rows: Mapping[str, Values],
    *,
    tolerance: float = TOLERANCE,
    digits: int = 3,
    level: float = LEVEL,
) -> Verdict:
    """A claim that the first row costs `value` times the second."""
    rule = (
        f"supported when the whole interval of the paired ratio lies within ±{tolerance:g} of the paper's ratio, "
        "contradicted when it lies wholly outside; otherwise, or with fewer than 2 common seeds, undecided"
    )
    gap = paired_ratio(rows.get(labels[0], {}), rows.get(labels[1], {}), level)
    return _within(says, metric, "ratio", labels, gap, value, tolerance, rule, digits, False, level)


def _within(
    says: str,
    metric: str,
    kind: str,
    labels: tuple[str, str],
    gap: Gap,
    centre: float,
    margin: float,
    rule: str,
    digits: int,
    signed: bool,
    level: float,
) -> Verdict:
    """A claim that a measured gap lies within `margin` of `centre`."""
    what = f"“{labels[0]}” against “{labels[1]}”: {_shown(gap, digits, signed, level)}"
    asked = f"within ±{margin:g} of {centre:g}"
    if gap.value is None:
        words = f"undecided: {what}"
        return Verdict(says, metric, kind, "undecided", None, 0, None, None, None, level, rule, words)
    inside = abs(gap.value - centre) <= margin
    direction: Literal["agrees", "disagrees"] = "agrees" if inside else "disagrees"
    if gap.low is None or gap.high is None:
        words = f"one seed: size {direction} ({'' if inside else 'not '}{asked}), undecided; {what}"
        return Verdict(says, metric, kind, "undecided", direction, gap.n, gap.value, None, None, level, rule, words)
    state: State = "undecided"
    if centre - margin <= gap.low and gap.high <= centre + margin:
        state = "supported"
    elif gap.high < centre - margin or gap.low > centre + margin:
        state = "contradicted"
    reason = {
        "supported": f"the interval lies {asked}",
        "contradicted": f"the interval lies nowhere {asked}",
        "undecided": f"the interval is not wholly inside or outside ±{margin:g} of {centre:g}",
    }[state]
    words = f"{state}: {what}; {reason}"
    return Verdict(says, metric, kind, state, direction, gap.n, gap.value, gap.low, gap.high, level, rule, words)


def unmeasured(says: str, metric: str, kind: str, reason: str) -> Verdict:
    """A claim about which nothing was measured."""
    return Verdict(says, metric, kind, "undecided", None, 0, None, None, None, LEVEL, "", f"undecided: {reason}")
