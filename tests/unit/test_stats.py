"""Means, intervals and verdicts against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ablations import phrases, stats, verdicts

T2 = 4.302652729911275  # 97.5 % quantile of Student's t with 2 degrees of freedom


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_summary_by_hand() -> None:
    summary = stats.summarise([1.0, 2.0, 3.0])
    assert (summary.n, summary.mean, summary.std) == (3, 2.0, 1.0)
    assert summary.half == pytest.approx(T2 / math.sqrt(3))


def test_one_value_has_no_spread_and_none_no_mean() -> None:
    assert stats.summarise([5.0]) == stats.Summary(1, 5.0, None, None)
    assert stats.summarise([]) == stats.Summary(0, None, None, None)


def test_paired_difference_uses_common_seeds_only() -> None:
    gap = stats.paired({0: 10.0, 1: 12.0, 2: 14.0, 7: 99.0}, {0: 9.0, 1: 10.0, 2: 11.0, 8: 0.0})
    half = T2 / math.sqrt(3)  # differences 1, 2, 3
    assert (gap.n, gap.value) == (3, 2.0)
    assert (gap.low, gap.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_ratio_is_a_geometric_mean() -> None:
    gap = stats.paired_ratio(seeds(2.0, 8.0), seeds(1.0, 1.0))
    assert gap.value == pytest.approx(4.0)
    half = (
        12.706204736432095 * math.log(2) * math.sqrt(2) / math.sqrt(2)
    )  # t with 1 degree of freedom; std = sqrt2 ln 2
    assert gap.low == pytest.approx(4 * math.exp(-half))
    with pytest.raises(ValueError, match=r"above 0, got 0\.0"):
        stats.paired_ratio(seeds(0.0), seeds(1.0))


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


# --- tests of paired differences


def test_equal_values_have_no_spread_at_all() -> None:
    for n in range(2, 40):
        summary = stats.summarise([0.1] * n)
        assert (summary.mean, summary.std, summary.half) == (0.1, 0.0, 0.0)


@pytest.mark.parametrize("differences", [[1.0, 2.0, 2.5], [2.5, -0.3, 1.9, 4.2], [-1.0, -2.0, -2.5, 0.3, -4.0]])
def test_p_is_that_of_scipy(differences: list[float]) -> None:
    assert stats.p_value(differences) == pytest.approx(scipy_stats.ttest_1samp(differences, 0).pvalue, rel=1e-9)
    found = stats.paired(seeds(*differences), seeds(*(0.0 for _ in differences)))
    low, high = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_p_without_spread_or_values() -> None:
    assert (stats.p_value([2.1] * 7), stats.p_value([0.0] * 3)) == (0.0, 1.0)
    assert stats.p_value([]) is None and stats.p_value([3.0]) is None
    assert stats.p_value([2.5, 2.5]) is stats.p_value([2.5, 2.4]) is None  # two counts are easily the same
    assert stats.p_value([61.7 - 59.4, 2.3, 52.3 - 50.0]) == 0.0  # equal but for rounding
    assert 0 < (stats.p_value([2.1, 2.1, 2.1 + 1e-11]) or 0) < 1e-6


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04 -> never falling
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.5]) == [1.0, 1.0]
    assert stats.holm([0.2]) == [0.2]
    assert stats.holm([]) == []
    assert stats.holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize(
    "differences",
    [[1.0, 2.0], [1.0, -0.5, 2.0, 0.7], [0.1, 0.2, -0.3, 0.3, 0.1], [3.0, -2.0, 0.0, 1.5, 4.0, 2.2, -0.4]],
)
def test_sign_flip_is_exact(differences: list[float]) -> None:
    zeros = np.zeros(len(differences))
    expected = scipy_stats.permutation_test(
        (np.array(differences), zeros),
        lambda one, two, axis: np.mean(one - two, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert stats.sign_flip(differences) == pytest.approx(expected.pvalue)
    observed = abs(sum(differences))
    loops = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) >= observed - 1e-9
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    assert stats.sign_flip(differences) == sum(loops) / len(loops)


def test_sign_flip_edges() -> None:
    assert stats.sign_flip([]) is None and stats.sign_flip([4.0]) is None
    assert stats.sign_flip([0.0, 0.0]) == 1.0
    for n in (2, 5, 8, 17, 40):
        assert stats.sign_flip([0.1 + 0.01 * i for i in range(n)]) == 2 / 2**n


def test_sign_flip_of_many_seeds_is_exact() -> None:
    mixed = [0.4, -0.2, 0.5, 0.1, -0.6, 0.3, 0.2, -0.1, 0.8, 0.3, -0.4, 0.2, 0.6, -0.3, 0.1, 0.2, 0.5]
    bits = (np.arange(2**17)[:, None] >> np.arange(17)) & 1
    exact = float((np.abs((1 - 2 * bits) @ np.array(mixed)) >= abs(sum(mixed)) - 1e-9).mean())
    assert stats.sign_flip(mixed) == exact
    assert stats.sign_flip(mixed + [0.0] * 23) == exact  # which alter no sum
    assert stats.sign_flip(mixed + [0.0] * 24) is None


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (5, 0.95), (8, 0.99), (16, 0.95)])
def test_detectable_difference_is_found_with_80_percent(n: int, level: float) -> None:
    rng = np.random.default_rng(n)
    shape = rng.normal(size=n)
    shape = 3.0 * (shape - shape.mean()) / shape.std(ddof=1)  # spread 3
    true = stats.detectable((shape + 7.0).tolist(), level)
    assert true is not None
    values = rng.normal(true, 3.0, size=(40_000, n))
    t = values.mean(1) / (values.std(1, ddof=1) / math.sqrt(n))
    found = float((t > stats.critical(n, level)).mean())
    assert found == pytest.approx(0.8, abs=0.008)  # four standard errors


def test_detectable_edges() -> None:
    assert stats.detectable([]) is None and stats.detectable([1.0]) is stats.detectable([1.0, 2.0]) is None
    assert stats.detectable([0.1] * 6) == 0.0
    # G*Power, t test of matched pairs, two tails, 0.05, 0.8: dz = 1 needs 10 pairs
    assert stats._effect(10, 0.95, 0.8) < 1 < stats._effect(9, 0.95, 0.8)
    strict = [stats._effect(n, 1 - 0.05 / 12, 0.8) for n in (2, 3, 4, 5, 30, 1000)]  # nct's left tail is NaN there
    assert all(math.isfinite(value) for value in strict) and strict == sorted(strict, reverse=True)


@pytest.mark.parametrize("differences", [[0.0, 4.0, -1.0], [1.0, 2.0], [-3.0, 0.5, -2.5, 1.0]])
def test_needed_seeds_have_the_power_and_one_fewer_has_not(differences: list[float]) -> None:
    more = stats.needed(differences)
    assert more is not None and more > 0
    effect = abs(np.mean(differences)) / np.std(differences, ddof=1)

    def power(n: int) -> float:
        return float(scipy_stats.nct.sf(stats.critical(n), n - 1, effect * math.sqrt(n)))

    n = len(differences) + more
    assert power(n) >= 0.8 > power(n - 1)
    assert stats.needed([-value for value in differences]) == more
    assert stats.needed([value + 5 for value in differences], bound=5.0) == more
    assert stats.needed(differences, most=more) == more and stats.needed(differences, most=more - 1) is None


def test_needed_edges() -> None:
    assert stats.needed([]) is None and stats.needed([1.0]) is None
    assert stats.needed([1.0, -1.0]) is None and stats.needed([0.0, 0.0]) is None
    assert stats.needed([0.1] * 3) == 0 and stats.needed([2.0, 2.1, 2.2, 1.9]) == 0
    assert stats.needed([0.1] * 3, bound=0.1) is None
    assert stats.needed([0.01, 1.0, -1.0]) is None  # tens of thousands


def test_a_decision_is_repeated_by_as_many_fresh_seeds_as_have_the_power() -> None:
    decided = [7.0, -1.0, 9.0, 4.0, 3.0, 5.0]
    assert stats.interval(decided, 0.95).low > 0
    effect = np.mean(decided) / np.std(decided, ddof=1)
    count = stats.repeated(decided)
    assert stats._effect(count, 0.95, 0.8) <= effect < stats._effect(count - 1, 0.95, 0.8)
    assert stats.repeated([value + 2 for value in decided], bound=2.0) == count < stats.repeated(decided, level=0.99)
    rng = np.random.default_rng(0)
    repeats = rng.normal(np.mean(decided), np.std(decided, ddof=1), size=(4000, count))
    found = repeats.mean(1) > stats.critical(count) * repeats.std(1, ddof=1) / math.sqrt(count)
    assert 0.78 < found.mean() < 0.92  # whole seeds: a little more than 80 %
    several = stats.repeated(decided, together=4)
    fresh = rng.normal(
        np.mean(decided), np.std(decided, ddof=1), size=(4, 4000, several)
    )  # that know nothing of another
    all_found = fresh.mean(2) > stats.critical(several) * fresh.std(2, ddof=1) / math.sqrt(several)
    assert several > count and all_found.all(0).mean() > 0.78
    assert stats.repeated([5.0, 5.1, 5.2]) == stats.repeated([1.0] * 4) == stats.repeated([1.0] * 4, bound=1.0) == 3


@pytest.mark.parametrize("nothing", [[], [1.0], [1.0, -1.0], [0.01, 1.0, -1.0]])
def test_what_no_test_can_have_found_is_not_repeated(nothing: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(nothing)} differences cannot have been told from 0"):
        stats.repeated(nothing)


# --- bootstrap


def outcome(*right: int, of: int = 1) -> stats.PerVideo:
    return stats.PerVideo(right, (of,) * len(right))


def test_accuracy_is_over_items_not_videos() -> None:
    assert stats.PerVideo((1, 0, 3), (1, 1, 8)).accuracy == 40.0
    with pytest.raises(ValueError, match="got 1 and 2"):
        stats.PerVideo((1,), (1, 1))
    with pytest.raises(ValueError, match="got 0 and 0"):
        stats.PerVideo((), ())
    for right, of in ((2, 1), (-2, 1), (0, 0)):
        with pytest.raises(ValueError, match=f"got {right} of {of}"):
            stats.PerVideo((1, right), (1, of))


def random_hits(seed: int, rates: Sequence[float], videos: int, most: int = 3) -> dict[int, stats.PerVideo]:
    rng = np.random.default_rng(seed)
    of = np.random.default_rng(99).integers(1, most + 1, size=videos)
    return {
        i: stats.PerVideo(tuple(rng.binomial(of, rate).tolist()), tuple(of.tolist())) for i, rate in enumerate(rates)
    }


def test_bootstrap_against_plain_loops() -> None:
    first, second = random_hits(1, (0.8, 0.7, 0.9), 6), random_hits(2, (0.5, 0.6, 0.3), 6)
    draw, count, found = random.Random(3), 6, []
    for _ in range(20_000):
        videos = [draw.randrange(count) for _ in range(count)]
        gaps = []
        for seed in [draw.randrange(3) for _ in range(3)]:
            one, two = (
                sum(hits[seed].right[v] for v in videos) / sum(hits[seed].of[v] for v in videos)
                for hits in (first, second)
            )
            gaps.append(100 * (one - two))
        found.append(sum(gaps) / 3)
    interval = stats.hierarchical(first, second, 0.9, draws=20_000)
    assert interval == pytest.approx(tuple(np.quantile(found, [0.05, 0.95])), abs=0.05 * float(np.std(found)))
    assert stats.hierarchical(first, second, 0.9) == pytest.approx(interval, abs=0.12 * float(np.std(found)))


def test_bootstrap_draws_the_same_videos_for_both_rows_and_all_seeds() -> None:
    alike = {seed: outcome(*([1] * 10 + [0] * 10)) for seed in range(8)}
    assert stats.hierarchical(alike, alike) == (0.0, 0.0)
    # seeds that do the same on every video do not average the videos' chance away: sd of 40 videos, of which 10 gain
    gain = {seed: outcome(*([1] * 10 + [0] * 30)) for seed in range(8)}
    none = {seed: outcome(*([0] * 40)) for seed in range(8)}
    low, high = stats.hierarchical(gain, none) or (0.0, 0.0)
    expected = scipy_stats.binom.ppf([0.025, 0.975], 40, 0.25) / 0.4
    assert (low, high) == pytest.approx(tuple(expected), abs=2.5)  # one video


def test_bootstrap_over_seeds_alone_where_videos_do_not_differ() -> None:
    right = dict(enumerate((10, 8, 6)))
    first = {seed: outcome(*([value] * 4), of=10) for seed, value in right.items()}
    second = {seed: outcome(*([5] * 4), of=10) for seed in right}
    means = [10 * sum(right[i] - 5 for i in drawn) / 3 for drawn in itertools.product(range(3), repeat=3)]
    low, high = stats.hierarchical(first, second, 0.9) or (0.0, 0.0)
    exact = np.quantile(means, [0.05, 0.95], method="inverted_cdf")
    assert (low, high) == pytest.approx(tuple(exact))


def test_bootstrap_is_deterministic_antisymmetric_and_bounded_in_memory() -> None:
    first, second = random_hits(1, (0.6,) * 8, 240), random_hits(2, (0.5,) * 8, 240)
    interval = stats.hierarchical(first, second)
    assert interval is not None and interval == stats.hierarchical(dict(reversed(first.items())), second)
    low, high = stats.hierarchical(second, first) or (0.0, 0.0)
    assert (-high, -low) == pytest.approx(interval)
    blocks = stats.resampled(random_hits(1, (0.6, 0.7), 3000), random_hits(2, (0.5, 0.5), 3000), draws=1001)
    assert blocks is not None and blocks.shape == (1001,)  # in blocks of 666
    assert blocks.mean() == pytest.approx(15, abs=2)


def test_bootstrap_covers_a_true_difference() -> None:
    """Over repeated experiments with no true difference, both seeds and videos varying, few intervals exclude 0."""
    rng = np.random.default_rng(5)
    outside = 0
    for _ in range(150):
        easy = rng.normal(size=60)  # of each video
        seed_of_row = rng.normal(0, 0.3, size=(2, 8))
        chance = 1 / (1 + np.exp(-(easy + seed_of_row[..., None])))
        right = (rng.random(chance.shape) < chance).astype(int)
        one, two = ({i: outcome(*row.tolist()) for i, row in enumerate(side)} for side in right)
        low, high = stats.hierarchical(one, two, draws=400) or (0.0, 0.0)
        outside += not low <= 0 <= high
    assert outside <= 0.12 * 150


def test_no_bootstrap_without_two_seeds_on_the_same_videos() -> None:
    two = {0: outcome(1, 0, 1), 1: outcome(0, 0, 1)}
    assert stats.hierarchical(two, {0: outcome(1, 1, 1)}) is None
    assert stats.hierarchical(two, {5: outcome(1, 1, 1), 6: outcome(1, 1, 1)}) is None
    assert stats.hierarchical(two, {0: outcome(1, 1), 1: outcome(1, 1)}) is None
    assert stats.hierarchical(two, {0: outcome(1, 1, 0), 1: outcome(1, 1)}) is None
    assert stats.hierarchical({}, {}) is None
    assert stats.hierarchical(two, two) is not None


# --- tables


def finite(*parts: object) -> bool:
    return all(math.isfinite(value) for part in parts for value in vars(part).values() if isinstance(value, float))


def test_comparison_of_every_row_with_the_default() -> None:
    rows = {
        "low": seeds(49.0, 48.0, 50.0, 47.5),
        "full": seeds(50.0, 51.0, 52.0, 50.5),
        "high": {1: 52.0, 2: 53.5, 3: 52.5, 9: 0.0},
        "once": {2: 60.0},
        "elsewhere": {8: 60.0, 9: 61.0},
        "none": {},
    }
    hits = {
        "full": random_hits(1, (0.5,) * 4, 30),
        "low": random_hits(2, (0.3,) * 4, 30),
        "high": {1: outcome(1), 2: outcome(0)},
    }
    found = stats.compare("lin/ucf101", "full", rows, hits)
    assert [one.label for one in found] == ["low", "high", "once", "elsewhere", "none"]
    assert all((one.metric, one.against) == ("lin/ucf101", "full") for one in found)
    assert finite(*found)
    low, high, once, elsewhere, none = found
    differences = [-1.0, -3.0, -2.0, -3.0]
    gap = stats.paired(rows["low"], rows["full"])
    assert (low.seeds, low.n, low.gap, low.low, low.high) == ((0, 1, 2, 3), 4, -2.25, gap.low, gap.high)
    assert low.p == pytest.approx(scipy_stats.ttest_rel(list(rows["low"].values()), list(rows["full"].values())).pvalue)
    assert low.p is not None and high.p is not None
    assert low.p_holm is None
    whole = stats.corrected([*found, *found])
    assert [one.p_holm for one in whole] == [*stats.holm([low.p, high.p] * 2)[:2], None, None, None] * 2
    assert low.sign_flip == 2 / 16
    assert (low.boot_low, low.boot_high) == stats.hierarchical(hits["low"], hits["full"])
    assert low.detectable == stats.detectable(differences)
    assert (high.seeds, high.boot_low) == ((1, 2, 3), None)  # another number of videos
    assert (once.seeds, once.gap) == ((2,), 8.0)
    assert (elsewhere.seeds, elsewhere.gap, none.gap) == ((), None, None)
    for one in (once, elsewhere, none):
        rest = (one.low, one.high, one.p, one.p_holm, one.sign_flip, one.boot_low, one.boot_high, one.detectable)
        assert set(rest) == {None}
    assert found == stats.compare("lin/ucf101", "full", rows, hits)


def test_comparison_without_spread() -> None:
    full, better_by = seeds(50.0, 60.0, 40.0), seeds(52.0, 62.0, 42.0)
    more, same = stats.corrected(stats.compare("m", "full", {"full": full, "more": better_by, "same": full}))
    assert (more.gap, more.low, more.high, more.p, more.p_holm, more.sign_flip) == (2.0, 2.0, 2.0, 0.0, 0.0, 0.25)
    assert (same.gap, same.low, same.high, same.p, same.p_holm, same.sign_flip) == (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    assert (more.detectable, same.detectable, more.boot_low) == (0.0, 0.0, None)
    assert [one.gap for one in stats.compare("m", "absent", {"full": full})] == [None]
    assert stats.compare("m", "full", {"full": full}) == ()


def test_comparison_takes_videos_of_the_common_seeds_only() -> None:
    videos = random_hits(1, (0.5, 0.6, 0.9), 20)
    base = random_hits(2, (0.4, 0.4, 0.1), 20)
    (one,) = stats.compare("m", "b", {"a": seeds(5.0, 6.0), "b": seeds(4.0, 4.0, 1.0)}, {"a": videos, "b": base})
    del videos[2], base[2]
    assert (one.boot_low, one.boot_high) == stats.hierarchical(videos, base)


def agreement_of(paper: Sequence[float], measured: Sequence[Sequence[float]]) -> stats.Agreement:
    names = [f"r{i}" for i in range(len(paper))]
    rows = {name: seeds(*values) for name, values in zip(names, measured, strict=True)}
    return stats.agreement("m", dict(zip(names, paper, strict=True)), rows)


@pytest.mark.parametrize(
    ("paper", "measured"),
    [
        ((1, 2, 3), (10, 20, 30)),
        ((1, 2, 3, 4), (4, 3, 2, 1)),
        ((1, 2, 3, 4, 5), (2, 1, 4, 3, 5)),
        ((1, 1, 2, 3), (5, 6, 6, 7)),
        ((1, 2, 2, 2, 5), (3, 3, 1, 3, 9)),
    ],
)
def test_tau_is_that_of_scipy(paper: Sequence[float], measured: Sequence[float]) -> None:
    found = agreement_of(paper, [[value] for value in measured])
    assert found.tau == pytest.approx(scipy_stats.kendalltau(paper, measured).statistic)
    assert (found.rows, found.n, found.low, found.high) == (len(paper), 1, None, None)


def test_tau_interval_against_plain_loops() -> None:
    paper = (50.0, 51.0, 52.0, 53.0)
    measured = np.random.default_rng(4).normal([50, 51, 51.5, 52], 2.0, size=(5, 4))
    found = agreement_of(paper, measured.T.tolist())
    assert (found.rows, found.n) == (4, 5)
    assert found.tau == pytest.approx(scipy_stats.kendalltau(paper, measured.mean(0)).statistic)
    every = [measured[list(drawn)].mean(0) for drawn in itertools.product(range(5), repeat=5)]  # all 3125 resamples
    taus = [scipy_stats.kendalltau(paper, means).statistic for means in every]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(taus, [0.025, 0.975])), abs=1e-9)
    assert found == agreement_of(paper, measured.T.tolist())


def test_tau_needs_rows_and_an_order() -> None:
    nothing = stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": seeds(1.0), "b": {}, "c": seeds(1.0)})
    assert (nothing.rows, nothing.n, nothing.tau) == (1, 1, None)
    assert stats.agreement("m", {}, {}) == stats.Agreement("m", 0, 0, None)
    assert agreement_of((1, 1, 1), [(1, 2), (2, 3), (3, 4)]).tau is None
    assert agreement_of((1, 2), [(5, 5), (5, 5)]) == stats.Agreement("m", 2, 2, None)
    rounding = agreement_of((1, 2, 3), [(0.1, 0.2), (0.15, 0.15), (0.3 - 0.15, 0.15)])
    assert rounding.tau is None  # means that only rounding tells apart tie


def test_tau_interval_leaves_undefined_draws_out() -> None:
    found = agreement_of((1, 2), [(5, 5), (5, 6)])  # drawing seed 0 twice ties
    assert (found.tau, found.low, found.high) == (1.0, None, None)  # the others agree: no interval to tell
    uneven = stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": seeds(1, 2, 3), "b": {2: 5.0, 7: 1.0}})
    assert (uneven.n, uneven.tau, uneven.low) == (1, 1.0, None)  # one common seed
    apart = stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": {0: 1.0, 1: 9.0}, "b": {0: 2.0}})
    assert (apart.n, apart.tau) == (1, 1.0)  # of the means of all seeds, 5 and 2, the order is the reverse
    assert stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": {0: 1.0}, "b": {1: 2.0}}).tau is None


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
    count, nothing = stats.repeated(gaps), seeds(*[0.0] * 6)
    supported = better(seeds(*gaps), nothing)
    assert (supported.state, supported.repeat) == ("supported", count)
    assert supported.words.endswith(f"n = 6; to repeat it: {count} seeds")
    both = better(seeds(*gaps), nothing, seeds(-90, -91, -90, -90, -90, -90))  # the other pair needs but three
    assert (both.state, both.repeat) == ("supported", stats.repeated(gaps, together=2))
    far = better(nothing, seeds(*gaps), seeds(-90, -91, -90, -90, -90, -90))  # one of two refutes: at 97.5 %
    strict = stats.repeated(gaps, level=0.975)
    assert (far.state, far.repeat) == ("contradicted", strict) and strict > count
    same = verdicts.equal("s", "m", ["a", "b"], {"a": seeds(0.1, 0.2, -0.1, 0.4), "b": seeds(0, 0, 0, 0)})
    assert (same.state, same.repeat) == ("supported", stats.repeated([0.1, 0.2, -0.1, 0.4], bound=1.0, together=2))
    near = {"a": seeds(0, 0, 0, 0), "b": seeds(0.1, -0.1, 0.1, -0.1), "c": seeds(0.9, 0.2, -0.9, -0.2)}
    three = verdicts.equal("s", "m", ["a", "b", "c"], near, margin=3.0)
    widest = max(stats.repeated([0.8, 0.3, -1.0, -0.1], bound=edge, together=6) for edge in (-3.0, 3.0))
    assert (three.state, three.repeat) == ("supported", widest) and f"to repeat it: {widest} seeds" in three.words
    half = verdicts.ratio("s", "m", ("a", "b"), 1.5, {"a": seeds(2.0, 2.2, 2.1), "b": seeds(1, 1, 1)})
    logs = [math.log(value) for value in (2.0, 2.2, 2.1)]
    assert (half.state, half.repeat) == ("contradicted", stats.repeated(logs, bound=math.log(1.55)))
    assert better(seeds(0.0, 4.0, -1.0), seeds(0, 0, 0)).repeat is None  # undecided: nothing to be repeated


def test_looks_after_every_seed_decide_little_that_is_nothing() -> None:
    """What claims.md says of it: 8 in 100 from three seeds to sixteen, where intervals alone would decide 21."""
    values = np.random.default_rng(0).normal(size=(20_000, 16))
    by_interval, by_verdict = np.zeros(20_000, bool), np.zeros(20_000, bool)
    for n in range(3, 17):
        effect = np.abs(values[:, :n].mean(1)) / values[:, :n].std(1, ddof=1)
        by_interval |= effect > stats.critical(n) / math.sqrt(n)
        by_verdict |= effect >= stats._effect(n, 0.95, 0.8)  # what `repeated` asks of n seeds
    assert by_interval.mean() == pytest.approx(0.21, abs=0.01)
    assert by_verdict.mean() == pytest.approx(0.08, abs=0.008)


def test_a_narrow_decision_is_none() -> None:
    """The interval excludes 0, but so many fresh seeds would not be expected to find it again."""
    gaps, nothing = [7.0, -1.0, 9.0, 4.0, 3.0, 5.0], seeds(*[0.0] * 6)
    assert stats.interval(gaps, 0.95).low > 0 and stats.repeated(gaps) == 7
    for one, other, state in ((seeds(*gaps), nothing, "supported"), (nothing, seeds(*gaps), "contradicted")):
        narrow = better(one, other)
        assert (narrow.state, narrow.needed, narrow.repeat, narrow.untold) == ("undecided", 1, None, None)
        assert narrow.words.startswith(f"undecided: {state} narrowly, by 6 seeds where it takes 7 to repeat it; “a”")
    wide = seeds(-90, -91, -90, -90, -90, -90)  # the narrow one of two is shown
    both = better(seeds(*gaps), wide, nothing)
    assert (both.state, both.needed) == ("undecided", stats.repeated(gaps, together=2) - 6) and "“o1”" in both.words
    more = better(seeds(*gaps, 4.0), seeds(*[0.0] * 7))  # what was asked for decides, gap and spread being as they were
    assert (more.state, more.repeat) == ("supported", stats.repeated([*gaps, 4.0]))
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


def powerful(distance: float, std: float, least: int) -> int:
    """Seeds of which a two-sided t test finds a mean so far off four times of five."""
    return next(
        n
        for n in range(least, 2000)
        if scipy_stats.nct.sf(stats.critical(n), n - 1, distance / std * math.sqrt(n)) >= 0.8
    )


def test_seeds_until_an_interval_fits_a_margin() -> None:
    differences = [3.0, -1.0, -3.0, 1.2]
    rows = {"a": seeds(*differences), "b": seeds(0, 0, 0, 0)}
    verdict = verdicts.equal("same", "m", ("a", "b"), rows)
    distance, std = 1 - 0.05, float(np.std(differences, ddof=1))
    n = powerful(distance, std, 4)
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
    n = powerful(distance, std, 3)
    verdict = verdicts.ratio("cheap", "gpu_days", ("a", "b"), 1.1, rows)
    assert (verdict.state, verdict.needed, verdict.p) == ("undecided", n - 3, None)
    wide = verdicts.ratio("cheap", "gpu_days", ("a", "b"), 1.1, rows, tolerance=1.2)  # no edge below
    assert wide.state in ("supported", "undecided") and finite(wide)
