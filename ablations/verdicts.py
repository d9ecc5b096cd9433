"""What measured numbers say about a sentence of the paper.

A claim is judged on seeds that both rows share. The words used are "supported", "contradicted" and "undecided"; none of
them means that a number was reproduced, and a mean alone decides nothing. What is decided must be so plain that as many
fresh seeds would be expected to find it again: an interval that just clears its mark is found again only every other
time (Goodman, Statistics in Medicine 1992), and seeds are added to a study after looking at it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ablations.stats import (
    LEAST,
    LEVEL,
    MOST,
    Gap,
    Hits,
    Values,
    hierarchical,
    interval,
    needed,
    p_value,
    paired,
    paired_differences,
    paired_logs,
    paired_ratio,
    percentiles,
    resampled,
    shared_hits,
    sign_flip,
    to_decide_again,
    to_find_again,
)

MARGIN = 1.0  # points within which two accuracies count as equal
MARGIN_FROM = " (the paper calls a difference of 0.5 “saturated” and one of 1.2 “better”)"
TOLERANCE = 0.05  # distance from a claimed ratio that still counts as that ratio: at most, and half of what it claims

State = Literal["supported", "contradicted", "undecided"]
Untold = Literal["beyond", "bootstrap"]  # seeds still needed: more than MOST; the bootstrap may ask for more yet


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
    needed: int | None = None  # further seeds that the t interval asks for (80 % power, gap and spread as they are)
    untold: Untold | None = None  # why there is no such number, or why it is the least
    repeat: int | None = None  # of a decided claim: fresh seeds that by themselves decide it so with 80 % probability

    @classmethod
    def of(
        cls,
        claim: tuple[str, str, str],
        state: State,
        direction: Literal["agrees", "disagrees", "level"] | None,
        gap: Gap,
        level: float,
        rule: str,
        words: str,
        differences: Sequence[float] = (),
        boot: tuple[float, float] | None = None,
        more: int | None = None,
        untold: Untold | None = None,
        repeat: int | None = None,
    ) -> Verdict:
        """A verdict on the comparison shown.

        Args:
            claim: says, metric and kind.
            gap: of that comparison.
            differences: behind it, for the tests that ask whether it is zero; none: nobody asks that.
            boot: interval over seeds and test videos.
            more: seeds still needed.
            untold: why their number is not given.
            repeat: fresh seeds that would decide it in the same way.
        """
        (says, metric, kind), (boot_low, boot_high) = claim, boot or (None, None)
        p, flip = (p_value(differences), sign_flip(differences)) if differences else (None, None)
        return cls(
            says, metric, kind, state, direction, gap.n, gap.value, gap.low, gap.high, level, rule, words, p, flip,
            boot_low, boot_high, more, untold, repeat,
        )  # fmt: skip


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


def _withheld(low: float, high: float, digits: int) -> str:
    interval = f"{_number(low, digits, True)} to {_number(high, digits, True)}"
    return f"the bootstrap over seeds and test videos withholds the verdict: {interval}"


def _more_seeds(more: int | None, what: str, boot: tuple[float, float] | None, favours: bool) -> str:
    """How many the interval over seeds asks for; how many the bootstrap asks for is not known."""
    if more is None:
        return f"; more than {MOST} more seeds would be needed if gap and spread stay"
    by = "" if boot is None else " by the interval over seeds, the bootstrap perhaps later,"
    way = "" if favours else ", against the claim,"
    return f"; about {more} more seed{'' if more == 1 else 's'} would decide {what}{way}{by} if gap and spread stay"


def _with_repeat(verdict: Verdict) -> Verdict:
    """With what somebody must run who doubts a decision; `REPEAT_RULE` says how it is reckoned."""
    if verdict.repeat is None:
        return verdict
    return replace(verdict, words=f"{verdict.words}; to repeat it: {verdict.repeat} seeds")


def _narrow(state: str, n: int, seeds: int, pair: str = "") -> str:
    """Why what as many fresh seeds would not be expected to find again is not decided."""
    return f"{state} narrowly{pair}, by {n} seeds where it takes {seeds} to find it again"


def _too_few(n: int) -> str:
    return f"; {n} seeds in common, and a verdict takes {LEAST}"


REPEAT_RULE = (
    "A decision is given only where as many fresh seeds would by their t intervals alone find the same with 80 % power "
    "or more, if the true gaps and spreads are those measured; else it is narrow and not given (of a p of 0.05 a "
    "repeat of the same size finds the same only every other time: Goodman, Statistics in Medicine 1992). Of one "
    "comparison this asks for a p below 0.030 with 3 seeds, 0.020 with 5, 0.014 with 8 and 0.009 with 16; of k that "
    "must all be found again, each edge of a margin one of them, each is to have 1 − 0.2/k power. “To repeat it: n "
    "seeds” are so many fresh ones that with 80 % probability they give that decision by themselves, the bootstrap not "
    "counted"
)
ORDER_RULE = (
    "supported: the 95 % t interval of the paired difference lies above 0 in every comparison; contradicted: in one, "
    "that at 1 − 0.05/k lies below 0 (Bonferroni over k comparisons); where outcomes per test video are known, the "
    "bootstrap interval over seeds and videos at the same level must lie there too (the sign-flip test decides "
    f"nothing); otherwise, with fewer than {LEAST} common seeds, or with fewer than find it again, undecided"
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
    hits: Mapping[str, Hits] | None = None,
) -> Verdict:
    """A claim that in each pair the first row is better than the second.

    All must hold for "supported", which needs no correction (an intersection-union test); any one refutes, so that
    one side is corrected for the number of pairs. The comparison with the smallest gap is the one shown. Where `hits`
    tells the outcomes per test video, an interval over seeds decides only what one over seeds and videos decides too.
    """
    sign = -1.0 if lower_is_better else 1.0
    corrected = 1 - (1 - level) / max(len(pairs), 1)

    def flip(values: Values) -> dict[int, float]:
        return {seed: sign * value for seed, value in values.items()}

    sides = [(flip(rows.get(better, {})), flip(rows.get(worse, {}))) for better, worse in pairs]
    gaps = [paired(better, worse, level) for better, worse in sides]
    strict = [paired(better, worse, corrected) for better, worse in sides]
    empty = [pair for pair, gap in zip(pairs, gaps, strict=True) if gap.value is None]
    known = [(gap.value, i) for i, gap in enumerate(gaps) if gap.value is not None]
    if not known:
        what = "; ".join(f"“{better}” against “{worse}”" for better, worse in empty) or "no comparison"
        words = f"undecided: {what}: no seed measured on both sides"
        return Verdict.of((says, metric, kind), "undecided", None, Gap(0, None, None, None), level, ORDER_RULE, words)
    boots: list[tuple[float, float] | None] = []
    strict_boots: list[tuple[float, float] | None] = []
    for labels, (better_values, worse_values) in zip(pairs, sides, strict=True):
        seeds = sorted(better_values.keys() & worse_values.keys())
        draws = resampled(shared_hits(hits, labels[0], seeds), shared_hits(hits, labels[1], seeds))
        boots.append(None if draws is None else percentiles(sign * draws, level))
        strict_boots.append(None if draws is None else percentiles(sign * draws, corrected))

    _, i = closest = min(known)
    state: State = "undecided"
    few: str | None = None  # why an interval over seeds alone does not decide
    refuting = [(g.high, j) for j, g in enumerate(strict) if g.n >= LEAST and g.high is not None and g.high < 0]
    if refuting:
        firm = [(high, j) for high, j in refuting if (boot := strict_boots[j]) is None or boot[1] < 0]
        # the pair that refutes is the one to show: one that would be found again, if there is any
        short_of = {j: to_find_again(paired_differences(*sides[j]), corrected) - gaps[j].n for _, j in refuting}
        _, _, i = min((max(0, short_of[j]), high, j) for high, j in firm or refuting)
        if firm:
            state = "contradicted"
        elif (boot := strict_boots[i]) is not None:
            few = _withheld(*boot, digits)
            if len(pairs) > 1:
                few += f" (at {100 * corrected:.4g} %, for {len(pairs)} comparisons)"
    elif not empty and all(g.n >= LEAST and g.low is not None and g.low > 0 for g in gaps):
        loose = [(boot, j) for j, boot in enumerate(boots) if boot is not None and boot[0] <= 0]
        if loose:
            boot, i = min(loose)
            few = _withheld(*boot, digits)
        else:
            state = "supported"
    again: dict[int, tuple[Sequence[float], float, int]] = {}  # comparisons that must come out so again
    leaning: State = state if not few else "contradicted" if refuting else "supported"  # by seeds alone
    if leaning == "contradicted":
        again = {i: (paired_differences(*sides[i]), corrected, 1)}
    elif leaning == "supported":
        again = {j: (paired_differences(*side), level, len(sides)) for j, side in enumerate(sides)}
    found = {j: to_find_again(spread, certain, together=n) for j, (spread, certain, n) in again.items()}
    lacking, short = max(((seeds - gaps[j].n, j) for j, seeds in found.items()), default=(0, i))
    narrow = ""
    if lacking > 0:
        i = i if few else short
        pair = "" if short == i else " for “{}” against “{}”".format(*pairs[short])
        narrow = _narrow(leaning, gaps[short].n, found[short], pair)
    gap, (better, worse) = gaps[i], pairs[i]
    differences = paired_differences(*sides[i])
    direction = _direction(gap.value)
    prefix = f"closest of {len(pairs)}: " if len(pairs) > 1 and state != "contradicted" and i == closest[1] else ""
    shown = f"{prefix}“{better}” against “{worse}”: {_shown(gap, digits, True, level)}"
    if lower_is_better:
        shown += " (lower is better; a positive gap is in favour)"
    if empty:
        shown += f"; {len(empty)} of {len(pairs)} comparisons have no common seed"
    more: int | None = lacking if narrow else None
    repeat: int | None = None
    untold: Untold | None = "bootstrap" if few else None
    if gap.n == 1 and state == "undecided":
        more, untold = LEAST - 1, None
        words = f"one seed: {_one_seed(direction)}, undecided; {shown}"
    elif few:
        words = f"undecided: {few}{f'; by seeds alone it is {narrow}' if narrow else ''}; {shown}"
    elif state != "undecided":
        if narrow:
            words = f"undecided: {narrow}; {shown}"
            state = "undecided"
        else:
            repeat = max(to_decide_again(spread, certain, together=n) for spread, certain, n in again.values())
            words = f"{state}: {shown}"
    else:
        words = f"{state}: {shown}"
        if gap.low is not None and gap.high is not None:
            crosses = gap.low <= 0 <= gap.high
            if not crosses and gap.n < LEAST:
                more = LEAST - gap.n
                words += _too_few(gap.n)
            else:
                if crosses:
                    words += "; the interval includes 0"
                elif gap.high < 0:
                    words += (
                        f"; the interval lies below 0, but that at {100 * corrected:.4g} %, which {len(pairs)} "
                        "comparisons ask for (Bonferroni), includes it"
                    )
                else:
                    words += "; not every comparison decides"
                if gap.value and gap.low <= 0:  # else more seeds of this comparison are of no help
                    favours = gap.value > 0  # then all pairs must be found, else this one alone
                    certain, together = (level, len(pairs)) if favours else (corrected, 1)
                    more = needed(differences, certain, together=together)
                    untold = "beyond" if more is None else None
                    words += _more_seeds(more, "this comparison" if len(pairs) > 1 else "it", boots[i], favours)
    verdict = Verdict.of(
        (says, metric, kind), state, direction, gap, level, ORDER_RULE, words, differences, boots[i], more, untold,
        repeat,
    )  # fmt: skip
    return _with_repeat(verdict)


def equal(
    says: str,
    metric: str,
    labels: Sequence[str],
    rows: Mapping[str, Values],
    *,
    margin: float = MARGIN,
    digits: int = 1,
    level: float = LEVEL,
    hits: Mapping[str, Hits] | None = None,
) -> Verdict:
    """A claim that no two of the rows differ by more than a margin. The pair that speaks most against it is shown."""
    reason = MARGIN_FROM if margin == MARGIN else ""
    rule = (
        f"equal means within ±{margin:g}{reason}: supported when the whole interval of the paired difference lies "
        "inside, contradicted when it lies wholly outside, undecided when it is wider or there are fewer than "
        f"{LEAST} common seeds, or fewer than find it again; "
        "where outcomes per test video are known, the bootstrap interval over seeds and videos must lie there too; "
        "of several pairs the one most against the claim decides"
    )
    verdicts: list[Verdict] = []
    pairs = list(itertools.combinations(labels, 2))
    corrected = 1 - (1 - level) / max(1, len(pairs))
    if len(pairs) > 1:
        rule += f", which contradicts it only by intervals at {100 * corrected:.4g} % (Bonferroni)"
    for pair in pairs:
        first, second = (rows.get(label, {}) for label in pair)
        seeds = sorted(first.keys() & second.keys())
        both = shared_hits(hits, pair[0], seeds), shared_hits(hits, pair[1], seeds)
        boot, strict_boot = hierarchical(*both, level), hierarchical(*both, corrected)
        differences = paired_differences(first, second)
        gap, strict = interval(differences, level), interval(differences, corrected)
        verdicts.append(
            _within(
                says, metric, "equal", pair, gap, 0.0, margin, rule, digits, True, level, differences, boot,
                len(pairs), (strict, strict_boot),
            )
        )  # fmt: skip
    order = ("contradicted", "undecided", "supported")
    found = min(verdicts, key=lambda verdict: (order.index(verdict.state), -abs(verdict.gap or 0)))
    if found.state == "supported":  # all pairs must be found equal again
        found = replace(found, repeat=max(verdict.repeat or 0 for verdict in verdicts))
    return _with_repeat(found)


def ratio(
    says: str,
    metric: str,
    labels: tuple[str, str],
    value: float,
    rows: Mapping[str, Values],
    *,
    tolerance: float | None = None,
    digits: int = 3,
    level: float = LEVEL,
) -> Verdict:
    """A claim that the first row costs `value` times the second.

    Args:
        tolerance: distance from `value` that counts as it; None: half of what is claimed, no more than TOLERANCE. With
            a wider one a method that costs less would support that it costs 2.9 % more.
    """
    reason = ""
    if tolerance is None:
        tolerance = round(min(TOLERANCE, abs(value - 1) / 2), 4) or TOLERANCE
        reason = f" (half of its distance from 1, at most {TOLERANCE:g})" if value != 1 else ""
    rule = (
        "supported when the whole interval of the paired ratio (geometric mean over seeds) lies within "
        f"±{tolerance:g} of the paper's {value:g}{reason}, contradicted when it lies wholly outside; otherwise, with "
        f"fewer than {LEAST} common seeds, or with fewer than find it again, undecided"
    )
    first, second = rows.get(labels[0], {}), rows.get(labels[1], {})
    gap = paired_ratio(first, second, level)
    logs = paired_logs(first, second)
    verdict = _within(says, metric, "ratio", labels, gap, value, tolerance, rule, digits, False, level, logs, None)
    return _with_repeat(verdict)


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
    spread: Sequence[float],
    boot: tuple[float, float] | None,
    pairs: int = 1,
    strict: tuple[Gap, tuple[float, float] | None] | None = None,
) -> Verdict:
    """A claim that a measured gap lies within `margin` of `centre`; what repeats it is not in the words yet.

    Args:
        signed: a difference, else a ratio.
        spread: differences behind the gap, or logarithms of the ratios.
        boot: interval over seeds and test videos.
        pairs: of which all must lie within it.
        strict: intervals that contradict, corrected for the number of pairs; None: the same.
    """
    what = f"“{labels[0]}” against “{labels[1]}”: {_shown(gap, digits, signed, level)}"
    asked = f"within ±{margin:g} of {centre:g}"
    if gap.value is None:
        words = f"undecided: {what}"
        return Verdict.of((says, metric, kind), "undecided", None, gap, level, rule, words)
    inside = abs(gap.value - centre) <= margin
    direction: Literal["agrees", "disagrees"] = "agrees" if inside else "disagrees"
    if gap.low is None or gap.high is None:
        words = f"one seed: size {direction} ({'' if inside else 'not '}{asked}), undecided; {what}"
        return Verdict.of((says, metric, kind), "undecided", direction, gap, level, rule, words, more=LEAST - 1)

    def decided(low: float, high: float) -> State:
        if centre - margin <= low and high <= centre + margin:
            return "supported"
        return "contradicted" if high < centre - margin or low > centre + margin else "undecided"

    state = decided(gap.low, gap.high)
    corrected = 1 - (1 - level) / pairs
    reason = f"the interval is not wholly inside or outside ±{margin:g} of {centre:g}"
    judging = boot  # the bootstrap interval that must not withhold it
    if state == "contradicted" and strict is not None:
        wide, judging = strict
        if wide.low is not None and wide.high is not None and decided(wide.low, wide.high) != state:
            state = "undecided"
            reason = (
                f"the interval lies nowhere {asked}, but that at {100 * corrected:.4g} %, which {pairs} comparisons "
                "ask for (Bonferroni), reaches it"
            )
    more: int | None = None
    repeat: int | None = None
    untold: Untold | None = None
    narrow = ""
    lower, upper = centre - margin, centre + margin
    if not signed:
        lower, upper = math.log(lower) if lower > 0 else -math.inf, math.log(upper)
    edge = min((lower, upper), key=lambda side: abs(statistics.fmean(spread) - side))  # more seeds clear it last
    if state != "undecided" and gap.n >= LEAST:
        edges = [lower, upper] if state == "supported" else [edge]
        again = (level, pairs * len(edges)) if state == "supported" else (corrected, 1)
        found = max(to_find_again(spread, again[0], bound, together=again[1]) for bound in edges)
        narrow = _narrow(state, gap.n, found) if found > gap.n else ""
        more = found - gap.n if narrow else None
    if judging is not None and state not in ("undecided", decided(*judging)):
        words = (
            f"undecided: {_withheld(*judging, digits)}{f'; by seeds alone it is {narrow}' if narrow else ''}; {what}"
        )
        state, untold = "undecided", "bootstrap"
    elif state != "undecided" and gap.n < LEAST:
        state, more = "undecided", LEAST - gap.n
        words = f"undecided: {what}{_too_few(gap.n)}"
    else:
        reason = {
            "supported": f"the interval lies {asked}",
            "contradicted": f"the interval lies nowhere {asked}",
        }.get(state, reason)
        words = f"undecided: {narrow}; {what}; {reason}" if narrow else f"{state}: {what}; {reason}"
        if narrow:
            state = "undecided"
        elif state != "undecided":
            repeat = max(to_decide_again(spread, again[0], bound, together=again[1]) for bound in edges)
        elif abs(gap.value - centre) != margin:
            edges = [lower, upper] if inside else [edge]
            certain, together = (level, pairs * len(edges)) if inside else (corrected, 1)
            each = [needed(spread, certain, bound, together=together) for bound in edges]
            more = None if None in each else max(count for count in each if count is not None)
            untold = "beyond" if more is None else None
            words += _more_seeds(more, "it", boot, inside)
    tested = spread if signed else ()  # a ratio is not asked to differ from 1
    return Verdict.of(
        (says, metric, kind), state, direction, gap, level, rule, words, tested, boot, more, untold, repeat
    )


def unmeasured(says: str, metric: str, kind: str, reason: str) -> Verdict:
    """A claim about which nothing was measured."""
    return Verdict(says, metric, kind, "undecided", None, 0, None, None, None, LEVEL, "", f"undecided: {reason}")
