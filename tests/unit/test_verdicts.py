"""What measured numbers say about a claim, against verdicts worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_stats import finite, outcome, seeds

from ablations import phrases, stats, verdicts


def better(first: dict[int, float], *others: dict[int, float], lower: bool = False) -> verdicts.Verdict:
    rows = {"a": first} | {f"o{i}": other for i, other in enumerate(others)}
    pairs = [("a", name) for name in rows if name != "a"]
    return verdicts.ordered("a wins", "lin/ucf101", "better", pairs, rows, lower_is_better=lower)


def test_order_supported_contradicted_undecided() -> None:
    high, low = seeds(11, 12.5, 14), seeds(9.0, 10.0, 11.0)  # differences 2, 2.5, 3: 2.5 +- 1.24
    assert better(high, low).state == "supported"
    assert better(low, high).state == "contradicted"
    assert better(low, high, lower=True).state == "supported"
    wide = better(seeds(9, 14, 10), low)  # differences 0, 4, -1
    assert (wide.state, wide.n, wide.gap) == ("undecided", 3, 1.0)
    assert wide.words == (
        "undecided: “a” against “o0”: gap +1.0, 95 % interval −5.6 to +7.6, n = 3; the interval includes 0; "
        "about 54 more seeds would decide it if gap and spread stay"
    )


def test_best_needs_every_comparison() -> None:
    first, below, near = seeds(12, 13, 14), seeds(9, 10, 11.1), seeds(11, 14, 13)
    assert better(first, below).state == "supported"
    verdict = better(first, below, near)
    assert verdict.state == "undecided"
    assert "closest of 2: “a” against “o1”" in verdict.words


def test_one_refuting_comparison_contradicts_and_is_shown() -> None:
    verdict = better(seeds(9, 10, 11), seeds(5, 6, 7.1), seeds(20, 21, 22.1))
    assert verdict.state == "contradicted"
    assert "“o1”" in verdict.words and verdict.gap == pytest.approx(-11.0333333)


def test_refuting_is_corrected_for_the_number_of_comparisons() -> None:
    first, above = seeds(10, 10, 10), seeds(10.7, 11.0, 11.3)  # gap -1, std 0.3, half 0.745; at 97.5 % half is 1.075
    assert better(first, above).state == "contradicted"
    assert better(first, above, seeds(10, 10.1, 9.9)).state == "undecided"


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [(61.0, 58.5, "direction agrees"), (58.0, 58.5, "direction disagrees"), (58.0, 58.0, "no difference")],
)
def test_one_seed_never_decides(ours: float, theirs: float, words: str) -> None:
    verdict = better(seeds(ours), seeds(theirs))
    assert (verdict.state, verdict.n, verdict.low) == ("undecided", 1, None)
    assert verdict.words.startswith(f"one seed: {words}, undecided; “a” against “o0”: gap ")
    assert verdict.words.endswith("n = 1")


def test_missing_numbers_leave_a_claim_undecided() -> None:
    verdict = better({}, seeds(1, 2))
    assert (verdict.state, verdict.n, verdict.gap) == ("undecided", 0, None)
    assert "no seed measured on both sides" in verdict.words
    partly = better(seeds(12, 13, 14), seeds(9, 10, 11.1), {})
    assert partly.state == "undecided"
    assert "1 of 2 comparisons have no common seed" in partly.words


def test_equal_inside_outside_and_wide() -> None:
    base = seeds(50, 51, 52)
    rows = {
        "a": base,
        "near": seeds(50.1, 51.0, 52.2),  # 0.1, 0, 0.2: 0.1 +- 0.25
        "far": seeds(55, 56, 57.1),
        "wide": seeds(47, 52, 55),
    }
    assert verdicts.equal("same", "m", ("a", "near"), rows).state == "supported"
    assert verdicts.equal("same", "m", ("a", "far"), rows).state == "contradicted"
    wide = verdicts.equal("same", "m", ("a", "wide"), rows)
    assert wide.state == "undecided"
    assert "not wholly inside or outside ±1 of 0" in wide.words
    assert verdicts.equal("same", "m", ("a", "near", "far"), rows).state == "contradicted"
    # one of three pairs contradicts by an interval at 98.33 %: 2.5 ± 1.12 does, but not 2.5 ± 1.96
    rows["off"] = seeds(52.05, 53.5, 54.95)
    assert verdicts.equal("same", "m", ("a", "off"), rows).state == "contradicted"
    corrected = verdicts.equal("same", "m", ("a", "near", "off"), rows)
    assert corrected.state == "undecided"
    assert "but that at 98.33 %, which 3 comparisons ask for (Bonferroni), reaches it" in corrected.words
    assert "98.33 % (Bonferroni)" in corrected.rule
    assert verdicts.equal("same", "m", ("a", "near"), {"a": seeds(1), "near": seeds(1.5)}).words == (
        "one seed: size agrees (within ±1 of 0), undecided; “a” against “near”: gap −0.5, n = 1"
    )


def test_ratio_verdicts() -> None:
    rows = {"dc": seeds(1.03, 1.028, 1.032), "vd": seeds(1.0, 1.0, 1.0), "md": seeds(1.5, 1.51, 1.49)}
    assert verdicts.ratio("cheap", "gpu_days", ("dc", "vd"), 1.029, rows).state == "supported"
    assert verdicts.ratio("cheap", "gpu_days", ("md", "vd"), 1.102, rows).state == "contradicted"
    close = {"a": seeds(1.06, 1.0601, 1.0599), "same": seeds(1.0, 1.0, 1.0), "less": seeds(0.985, 0.9851, 0.9849)}
    for label, value, state in (
        ("a", 1.029, "contradicted"),  # by a tolerance of 0.05 one number would support all three
        ("a", 1.068, "supported"),
        ("a", 1.102, "supported"),
        ("less", 1.029, "contradicted"),  # it costs less
    ):
        assert verdicts.ratio("cheap", "gpu_days", (label, "same"), value, close).state == state
    single = verdicts.ratio("cheap", "gpu_days", ("md", "vd"), 1.102, {"md": seeds(1.5), "vd": seeds(1.0)})
    assert single.words == (
        "one seed: size disagrees (not within ±0.05 of 1.102), undecided; “md” against “vd”: ratio 1.500, n = 1"
    )


def test_identical_seeds_give_a_zero_width_interval() -> None:
    assert better(seeds(14.4, 14.4, 14.4), seeds(12.3, 12.3, 12.3)).state == "supported"
    assert better(seeds(12.3, 12.3, 12.3), seeds(12.3, 12.3, 12.3)).state == "undecided"


def test_two_seeds_never_decide() -> None:
    high, low = seeds(14.4, 14.4), seeds(12.3, 12.3)
    for verdict in (better(high, low), better(low, high)):
        assert (verdict.state, verdict.n, verdict.needed) == ("undecided", 2, 1)
        assert verdict.words.endswith("n = 2; 2 seeds in common, and a verdict takes 3")
    assert better({**high, 2: 14.0}, {**low, 2: 12.0}, low).state == "undecided"  # one comparison of two is short
    rows = {"a": seeds(50, 51), "same": seeds(50, 51), "far": seeds(60, 61)}
    for label in ("same", "far"):
        verdict = verdicts.equal("same", "m", ("a", label), rows)
        assert (verdict.state, verdict.needed) == ("undecided", 1)
    for value in (1.0, 2.0):
        assert verdicts.ratio("cheap", "gpu_days", ("a", "same"), value, rows).state == "undecided"


# --- verdicts with tests, videos and seeds that are needed


def test_verdict_names_tests_of_the_comparison_shown() -> None:
    verdict = better(seeds(11, 12.5, 14), seeds(9.0, 10.0, 11.0))
    assert verdict.p == stats.p_value([2.0, 2.5, 3.0])
    assert (verdict.sign_flip, verdict.boot_low, verdict.boot_high, verdict.needed) == (0.25, None, None, None)
    one = better(seeds(61.0), seeds(58.5))
    assert (one.p, one.sign_flip, one.boot_low, one.needed) == (None, None, None, 2)  # a verdict takes three
    assert finite(verdict, one)


def test_undecided_order_tells_the_seeds_it_needs() -> None:
    wide = better(seeds(9, 14, 10), seeds(9.0, 10.0, 11.0))
    assert wide.needed == stats.needed([0.0, 4.0, -1.0]) == 54
    near = better(seeds(1, 2.2), seeds(0, 0))
    assert near.needed == stats.needed([1.0, 2.2]) == 3
    assert near.words.endswith("the interval includes 0; about 3 more seeds would decide it if gap and spread stay")
    assert "about 1 more seed would" in better(seeds(1, 1.3), seeds(0, 0)).words
    far = better(seeds(0.01, 1, -1), seeds(0, 0, 0))
    assert far.needed is None and (far.untold, wide.untold) == ("beyond", None)
    assert far.words.endswith("; more than 1000 more seeds would be needed if gap and spread stay")
    level = better(seeds(1, -1), seeds(0, 0))
    assert level.needed is None and level.words.endswith("the interval includes 0")


def test_decided_claims_tell_the_seeds_that_a_repetition_takes() -> None:
    gaps = [7.0, 2.0, 8.0, 4.0, 4.0, 5.0]
    count, nothing = stats.to_decide_again(gaps), seeds(*[0.0] * 6)
    supported = better(seeds(*gaps), nothing)
    assert (supported.state, supported.repeat) == ("supported", count)
    assert supported.words.endswith(f"n = 6; to repeat it: {count} seeds")
    both = better(seeds(*gaps), nothing, seeds(-90, -91, -90, -90, -90, -90))  # the other pair needs but three
    assert (both.state, both.repeat) == ("supported", stats.to_decide_again(gaps, together=2))
    far = better(nothing, seeds(*gaps), seeds(-90, -91, -90, -90, -90, -90))  # one of two refutes: at 97.5 %
    strict = stats.to_decide_again(gaps, level=0.975)
    assert (far.state, far.repeat) == ("contradicted", strict) and strict > count
    same = verdicts.equal("s", "m", ["a", "b"], {"a": seeds(0.1, 0.2, -0.1, 0.4), "b": seeds(0, 0, 0, 0)})
    assert (same.state, same.repeat) == (
        "supported",
        stats.to_decide_again([0.1, 0.2, -0.1, 0.4], bound=1.0, together=2),
    )
    near = {"a": seeds(0, 0, 0, 0), "b": seeds(0.1, -0.1, 0.1, -0.1), "c": seeds(0.9, 0.2, -0.9, -0.2)}
    three = verdicts.equal("s", "m", ["a", "b", "c"], near, margin=3.0)
    widest = max(stats.to_decide_again([0.8, 0.3, -1.0, -0.1], bound=edge, together=6) for edge in (-3.0, 3.0))
    assert (three.state, three.repeat) == ("supported", widest) and f"to repeat it: {widest} seeds" in three.words
    half = verdicts.ratio("s", "m", ("a", "b"), 1.5, {"a": seeds(2.0, 2.2, 2.1), "b": seeds(1, 1, 1)})
    logs = [math.log(value) for value in (2.0, 2.2, 2.1)]
    assert (half.state, half.repeat) == ("contradicted", stats.to_decide_again(logs, bound=math.log(1.55)))
    assert better(seeds(0.0, 4.0, -1.0), seeds(0, 0, 0)).repeat is None  # undecided: nothing to be repeated


@pytest.mark.parametrize(("looks", "interval", "verdict"), [((8,), 5, 1), (range(3, 9), 15, 7), (range(3, 17), 21, 8)])
def test_looks_decide_little_that_is_nothing(looks: Sequence[int], interval: int, verdict: int) -> None:
    """What claims.md and reports/README.md say: of 100 differences that are none, so many are decided at some look."""
    values = np.random.default_rng(0).normal(size=(20_000, 16))
    by_interval, by_verdict = np.zeros(20_000, bool), np.zeros(20_000, bool)
    for n in looks:
        effect = np.abs(values[:, :n].mean(1)) / values[:, :n].std(1, ddof=1)
        by_interval |= effect > stats.critical(n) / math.sqrt(n)
        by_verdict |= effect >= stats.least_effect(n, 0.95, 0.8)  # what `to_find_again` asks of n seeds
    assert 100 * by_interval.mean() == pytest.approx(interval, abs=0.8)
    assert 100 * by_verdict.mean() == pytest.approx(verdict, abs=0.8)


def test_a_narrow_decision_is_none() -> None:
    """The interval excludes 0, but so many fresh seeds would not be expected to find it again."""
    gaps, nothing = [7.0, -1.0, 9.0, 4.0, 3.0, 5.0], seeds(*[0.0] * 6)
    assert stats.interval(gaps, 0.95).low > 0 and stats.to_find_again(gaps) == 7
    for one, other, state in ((seeds(*gaps), nothing, "supported"), (nothing, seeds(*gaps), "contradicted")):
        narrow = better(one, other)
        assert (narrow.state, narrow.needed, narrow.repeat, narrow.untold) == ("undecided", 1, None, None)
        assert narrow.words.startswith(
            f"undecided: {state} narrowly, by 6 seeds where it takes 7 to find it again; “a”"
        )
    wide = seeds(-90, -91, -90, -90, -90, -90)  # the narrow one of two is shown
    both = better(seeds(*gaps), wide, nothing)
    assert (both.state, both.needed) == (
        "undecided",
        stats.to_find_again(gaps, together=2) - 6,
    ) and "“o1”" in both.words
    more = better(seeds(*gaps, 4.0), seeds(*[0.0] * 7))  # what was asked for decides, gap and spread being as they were
    assert (more.state, more.repeat) == ("supported", stats.to_decide_again([*gaps, 4.0]))
    off = verdicts.equal("s", "m", ["a", "b"], {"a": seeds(*gaps), "b": nothing}, margin=0.0)
    assert (off.state, off.needed) == ("undecided", 1) and "contradicted narrowly" in off.words
    cheap = verdicts.ratio("s", "m", ("a", "b"), 0.8, {"a": seeds(0.58, 0.62, 0.66), "b": seeds(1, 1, 1)})
    assert cheap.high is not None and cheap.high < 0.75
    assert (cheap.state, cheap.needed) == ("undecided", 1) and "contradicted narrowly, by 3 seeds" in cheap.words


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [
        (better(seeds(0.0, 4.0, -1.0), seeds(0, 0, 0)), "54"),
        (better(seeds(0.01, 1.0, -1.0), seeds(0, 0, 0)), "> 1000"),
        (better(seeds(61.0), seeds(58.5)), "2"),
        (better(seeds(61.0), {}), "–"),
        (better(seeds(11, 12.5, 14), seeds(9.0, 10.0, 11.0)), "–"),  # supported
        (better(seeds(1, 1, 1), seeds(1, 1, 1)), "–"),  # a gap of nothing: more of the same decide nothing
    ],
)
def test_what_a_reader_is_told_of_seeds_still_needed(verdict: verdicts.Verdict, shown: str) -> None:
    assert phrases.seeds_needed(verdict) == shown


def test_seeds_to_refute_are_counted_at_the_corrected_level() -> None:
    first = seeds(10.0, 10.0, 10.0)
    above, level = seeds(10.65, 11.0, 11.35), seeds(10, 10.1, 9.9)
    verdict = better(first, above, level)
    differences = [10 - 10.65, -1.0, 10 - 11.35]
    assert verdict.needed == stats.needed(differences, 0.975) and (verdict.needed or 0) > 0
    assert "the interval lies below 0, but that at 97.5 %, which 2 comparisons ask for (Bonferroni), " in verdict.words
    assert "would decide this comparison, against the claim, if" in verdict.words


def test_seeds_of_a_comparison_that_is_decided_already_are_not_asked_for() -> None:
    verdict = better(seeds(1, 1.1, 0.9), seeds(0, 0, 0), seeds(-30, 0.9, 0))  # the second is wide, its gap larger
    assert verdict.state == "undecided" and (verdict.low or 0) > 0
    assert verdict.needed is None and verdict.words.endswith("not every comparison decides")


def few_and_many() -> tuple[dict[str, dict[int, float]], dict[str, stats.Hits], dict[str, stats.Hits]]:
    """Row a beats b by 10 points in all of 4 seeds, by one video of 10 or by 20 of 200."""
    few: dict[str, stats.Hits] = {
        "a": {seed: outcome(*([1] * 6 + [0] * 4)) for seed in range(4)},
        "b": {seed: outcome(*([1] * 5 + [0] * 5)) for seed in range(4)},
    }
    many: dict[str, stats.Hits] = {
        name: {seed: stats.PerVideo(side.right * 20, side.of * 20) for seed, side in hits.items()}
        for name, hits in few.items()
    }
    values = {name: {seed: side.accuracy for seed, side in hits.items()} for name, hits in few.items()}
    return values, few, many


def test_too_few_videos_leave_an_order_undecided() -> None:
    rows, few, many = few_and_many()

    def judge(
        hits: dict[str, stats.Hits] | None, pair: tuple[str, str] = ("a", "b"), lower: bool = False
    ) -> verdicts.Verdict:
        return verdicts.ordered("a wins", "m", "better", [pair], rows, hits=hits, lower_is_better=lower)

    assert judge(None).state == "supported" and judge(None).boot_low is None
    assert judge({"a": few["a"]}).state == "supported"
    enough = judge(many)
    assert enough.state == "supported" and (enough.boot_low or 0) > 0
    assert enough.words == judge(None).words
    verdict = judge(few)
    assert (verdict.state, verdict.boot_low, verdict.boot_high) == (
        "undecided",
        *(stats.hierarchical(few["a"], few["b"]) or ()),
    )
    assert verdict.boot_low == 0.0 and verdict.needed is None and (verdict.low, verdict.p) == (10.0, 0.0)
    assert verdict.words == (
        "undecided: the bootstrap over seeds and test videos withholds the verdict: +0.0 to +30.0; "
        "“a” against “b”: gap +10.0, 95 % interval +10.0 to +10.0, n = 4"
    )
    assert judge(many, ("b", "a")).state == "contradicted"
    against = judge(few, ("b", "a"))
    assert (against.state, against.direction) == ("undecided", "disagrees")
    assert phrases.seeds_needed(against) == "not known"
    assert "bootstrap over seeds and test videos withholds the verdict: −30.0 to " in against.words
    rows["a"] = {seed: rows["b"][seed] + gap for seed, gap in enumerate((12.0, 2.0, 14.0, 9.0))}  # and narrow by seeds
    count = stats.to_find_again([12.0, 2.0, 14.0, 9.0])
    both = judge(few)
    assert stats.interval([12.0, 2.0, 14.0, 9.0], 0.95).low > 0 and count > 4
    assert (
        f"; by seeds alone it is supported narrowly, by 4 seeds where it takes {count} to find it again; “a”"
        in both.words
    )
    assert (both.needed, both.untold, phrases.seeds_needed(both)) == (count - 4, "bootstrap", f"at least {count - 4}")
    rows["a"] = {seed: value + 10.0 for seed, value in rows["b"].items()}
    turned = judge(many, ("b", "a"), lower=True)
    assert turned.state == "supported" and (turned.boot_low, turned.boot_high) == (enough.boot_low, enough.boot_high)


def test_every_pair_needs_enough_videos() -> None:
    rows, few, many = few_and_many()
    rows["c"] = {seed: value - 1.0 for seed, value in rows["a"].items()}  # closer than b, and of unknown videos
    pairs = [("a", "c"), ("a", "b")]
    assert verdicts.ordered("a wins", "m", "best", pairs, rows, hits=many).state == "supported"
    verdict = verdicts.ordered("a wins", "m", "best", pairs, rows, hits=few)
    assert verdict.state == "undecided"
    assert "“a” against “b”" in verdict.words and "closest" not in verdict.words and verdict.gap == 10.0
    # to refute, the pair that its videos bear out is enough
    turned = [(worse, better) for better, worse in pairs]
    found = verdicts.ordered("a loses", "m", "best", turned, rows, hits=few)
    assert (found.state, found.gap) == ("contradicted", -1.0)
    corrected = verdicts.ordered("a loses", "m", "best", [("b", "a"), ("a", "c")], rows, hits=few)
    assert corrected.state == "undecided"
    assert "(at 97.5 %, for 2 comparisons); closest of 2: “b” against “a”" in corrected.words


def test_too_few_videos_leave_equality_undecided() -> None:
    rows, few, many = few_and_many()

    def judge(hits: dict[str, stats.Hits] | None, margin: float) -> verdicts.Verdict:
        return verdicts.equal("same", "m", ("a", "b"), rows, margin=margin, hits=hits)

    assert judge(None, 12.0).state == "supported" and judge(None, 3.0).state == "contradicted"
    assert judge(many, 20.0).state == "supported" and judge(many, 3.0).state == "contradicted"
    for margin in (12.0, 3.0):
        verdict = judge(few, margin)
        assert (verdict.state, verdict.needed, verdict.p, verdict.sign_flip) == ("undecided", None, 0.0, 0.125)
        assert (verdict.boot_low, verdict.boot_high) == stats.hierarchical(few["a"], few["b"])
        assert verdict.words.startswith(
            "undecided: the bootstrap over seeds and test videos withholds the verdict: +0.0 to +30.0; “a” against “b”"
        )


def powerful(distance: float, std: float, least: int, power: float = 0.8) -> int:
    """Seeds of which a two-sided t test finds a mean so far off with this probability."""
    return next(
        n
        for n in range(least, 2000)
        if scipy_stats.nct.sf(stats.critical(n), n - 1, distance / std * math.sqrt(n)) >= power
    )


def test_seeds_until_an_interval_fits_a_margin() -> None:
    differences = [3.0, -1.0, -3.0, 1.2]
    rows = {"a": seeds(*differences), "b": seeds(0, 0, 0, 0)}
    verdict = verdicts.equal("same", "m", ("a", "b"), rows)
    distance, std = 1 - 0.05, float(np.std(differences, ddof=1))
    n = powerful(distance, std, 4, power=0.9)  # either edge, so that both are found four times of five
    assert (verdict.state, verdict.needed) == ("undecided", n - 4)
    assert f"; about {n - 4} more seeds would decide it if gap and spread stay" in verdict.words
    edge = verdicts.equal("same", "m", ("a", "b"), {"a": seeds(0, 2), "b": seeds(0, 0)})
    assert edge.needed is None and edge.words.endswith("not wholly inside or outside ±1 of 0")
    hard = verdicts.equal("same", "m", ("a", "b"), {"a": seeds(-8, 9.99), "b": seeds(0, 0)})
    assert hard.needed is None and "more than 1000 more seeds" in hard.words


def test_seeds_until_a_ratio_fits_its_margin_are_counted_in_logarithms() -> None:
    rows = {"a": seeds(1.2, 1.0, 1.1), "b": seeds(1.0, 1.0, 1.0)}
    logs = [math.log(1.2), 0.0, math.log(1.1)]
    mean, std = float(np.mean(logs)), float(np.std(logs, ddof=1))
    distance = min(abs(mean - math.log(1.05)), abs(mean - math.log(1.15)))
    n = powerful(distance, std, 3, power=0.9)
    verdict = verdicts.ratio("cheap", "gpu_days", ("a", "b"), 1.1, rows)
    assert (verdict.state, verdict.needed, verdict.p) == ("undecided", n - 3, None)
    wide = verdicts.ratio("cheap", "gpu_days", ("a", "b"), 1.1, rows, tolerance=1.2)  # no edge below
    assert wide.state in ("supported", "undecided") and finite(wide)


def stretched(mean: float, std: float, n: int) -> list[float]:
    """n values of exactly this mean and sample deviation."""
    shape = np.sin(np.arange(n) * 2.4)
    return (mean + std * (shape - shape.mean()) / shape.std(ddof=1)).tolist()


@pytest.mark.parametrize(("mean", "std", "others"), [(1.0, 2.0, 1), (1.0, 2.0, 3), (-1.0, 2.0, 1), (-1.0, 2.0, 3)])
def test_the_seeds_that_are_asked_for_decide_an_order(mean: float, std: float, others: int) -> None:
    """Where gap and spread stay as they are to the last digit: as many as told, and not one fewer."""

    def judge(n: int) -> verdicts.Verdict:
        far = [dict.fromkeys(range(n), -90.0 - i) for i in range(others - 1)]
        return better(seeds(*stretched(mean, std, n)), seeds(*[0.0] * n), *far)

    more = judge(5).needed
    assert judge(5).state == "undecided" and more
    assert judge(5 + more).state == ("supported" if mean > 0 else "contradicted")
    assert judge(4 + more).state == "undecided"


@pytest.mark.parametrize("mean", [0.0, 0.3, -0.3, 3.0])
def test_the_seeds_that_are_asked_for_decide_equality(mean: float) -> None:
    def judge(n: int) -> verdicts.Verdict:
        rows = {"a": seeds(*stretched(mean, 2.0, n)), "b": seeds(*[0.0] * n)}
        return verdicts.equal("same", "m", ("a", "b"), rows)

    more = judge(5).needed
    assert judge(5).state == "undecided" and more
    assert judge(5 + more).state == ("supported" if abs(mean) < 1 else "contradicted")
    assert judge(4 + more).state == "undecided"


@pytest.mark.parametrize(("ratio", "state"), [(1.5, "supported"), (1.52, "supported"), (1.7, "contradicted")])
def test_the_seeds_that_are_asked_for_decide_a_ratio(ratio: float, state: str) -> None:
    def judge(n: int) -> verdicts.Verdict:
        logs = stretched(math.log(ratio), 0.1, n)
        rows = {"a": seeds(*map(math.exp, logs)), "b": seeds(*[1.0] * n)}
        return verdicts.ratio("dear", "gpu_days", ("a", "b"), 1.5, rows)

    more = judge(4).needed
    assert judge(4).state == "undecided" and more
    assert judge(4 + more).state == state and judge(3 + more).state == "undecided"


def test_a_plain_refutation_is_not_hidden_by_a_narrow_one() -> None:
    nothing = seeds(*[0.0] * 5)
    wide, plain = seeds(17.75, 5.18, 12.04, 6.41, 16.53), seeds(0.50, 0.51, 0.52, 0.53, 0.54)
    alone = better(nothing, wide, wide)
    assert alone.state == "undecided" and "contradicted narrowly, by 5 seeds" in alone.words
    both = better(nothing, wide, plain)
    assert (both.state, both.repeat) == ("contradicted", 3) and "“o1”" in both.words


def test_of_what_the_bootstrap_withholds_the_pair_that_is_narrow_is_named() -> None:
    rows, few, _ = few_and_many()
    narrow = [12.0, 2.0, 14.0, 9.0]
    rows["c"] = {seed: rows["a"][seed] - gap for seed, gap in enumerate(narrow)}  # of unknown videos
    found = verdicts.ordered("a wins", "m", "best", [("a", "b"), ("a", "c")], rows, hits=few)
    count = stats.to_find_again(narrow, together=2)
    assert (
        f"by seeds alone it is supported narrowly for “a” against “c”, by 4 seeds where it takes {count}" in found.words
    )
    assert "“a” against “b”: gap +10.0" in found.words and found.needed == count - 4
    turned = [("b", "a"), ("c", "a")]
    against = verdicts.ordered("a loses", "m", "best", turned, rows, hits=few | {"c": few["b"]})
    assert (against.state, against.needed, against.untold) == ("undecided", None, "bootstrap")
    assert "withholds" in against.words and "narrowly" not in against.words  # b loses to a beyond doubt of seeds


def test_equality_that_the_bootstrap_withholds_may_be_narrow_too() -> None:
    rows, few, _ = few_and_many()
    rows["a"] = {seed: rows["b"][seed] + gap for seed, gap in enumerate((12.0, 9.0, 12.0, 9.0))}
    for margin, state in ((14.0, "supported"), (7.5, "contradicted")):
        edges = (-margin, margin) if state == "supported" else (margin,)
        gaps = [12.0, 9.0, 12.0, 9.0]
        count = max(stats.to_find_again(gaps, bound=edge, together=len(edges)) for edge in edges)
        assert count > 4
        found = verdicts.equal("same", "m", ("a", "b"), rows, margin=margin, hits=few)
        assert (
            f"; by seeds alone it is {state} narrowly, by 4 seeds where it takes {count} to find it again"
            in found.words
        )
        assert (found.state, found.needed, found.untold) == ("undecided", count - 4, "bootstrap")


def test_all_equal_pairs_are_to_be_found_again_not_the_shown_one_alone() -> None:
    rows = {"a": seeds(0, 0, 0, 0), "b": seeds(0.9, 0.9, 0.9, 0.91), "c": seeds(1.5, -1.5, 1.4, -1.4)}
    found = verdicts.equal("same", "m", ("a", "b", "c"), rows, margin=8.0)
    assert found.gap == pytest.approx(-0.9, abs=0.01) and found.repeat is not None
    worst = [rows["c"][seed] - rows["b"][seed] for seed in range(4)]
    assert found.repeat == max(stats.to_decide_again(worst, bound=edge, together=6) for edge in (-8.0, 8.0)) > 3


def test_rules_say_where_their_margins_come_from() -> None:
    rows = {"a": seeds(1.0, 1.1), "b": seeds(1.0, 1.0)}
    assert "±1 (the paper calls a difference of 0.5 " in verdicts.equal("s", "m", ("a", "b"), rows).rule
    assert "paper calls" not in verdicts.equal("s", "m", ("a", "b"), rows, margin=2.0).rule
    assert "±0.034 of the paper's 1.068 (half of its" in verdicts.ratio("s", "m", ("a", "b"), 1.068, rows).rule
    assert "half" not in verdicts.ratio("s", "m", ("a", "b"), 1.0, rows).rule
    assert "half" not in verdicts.ratio("s", "m", ("a", "b"), 1.5, rows, tolerance=0.2).rule
    for n, p in ((3, "0.030 with 3"), (5, "0.020 with 5"), (8, "0.014 with 8"), (16, "0.009 with 16")):
        at = 2 * scipy_stats.t.sf(stats.least_effect(n, 0.95, 0.8) * math.sqrt(n), n - 1)
        assert f"{at:.3f} with {n}" == p and p in verdicts.REPEAT_RULE
