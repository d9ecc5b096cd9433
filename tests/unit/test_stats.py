"""Means, intervals and tests against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ablations import stats

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
    assert stats.least_effect(10, 0.95, 0.8) < 1 < stats.least_effect(9, 0.95, 0.8)
    strict = [stats.least_effect(n, 1 - 0.05 / 12, 0.8) for n in (2, 3, 4, 5, 30, 1000)]  # nct's left tail is NaN there
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
    count = stats.to_find_again(decided)
    assert stats.least_effect(count, 0.95, 0.8) <= effect < stats.least_effect(count - 1, 0.95, 0.8)
    assert (
        stats.to_find_again([value + 2 for value in decided], bound=2.0)
        == count
        < stats.to_find_again(decided, level=0.99)
    )
    rng = np.random.default_rng(0)
    repeats = rng.normal(np.mean(decided), np.std(decided, ddof=1), size=(4000, count))
    found = repeats.mean(1) > stats.critical(count) * repeats.std(1, ddof=1) / math.sqrt(count)
    assert 0.78 < found.mean() < 0.92  # whole seeds: a little more than 80 %
    several = stats.to_find_again(decided, together=4)
    fresh = rng.normal(
        np.mean(decided), np.std(decided, ddof=1), size=(4, 4000, several)
    )  # that know nothing of another
    all_found = fresh.mean(2) > stats.critical(several) * fresh.std(2, ddof=1) / math.sqrt(several)
    assert several > count and all_found.all(0).mean() > 0.78
    for size, together in ((stats.to_decide_again(decided), 1), (stats.to_decide_again(decided, together=4), 4)):
        assert size > stats.to_find_again(decided, together=together)
        fresh = rng.normal(np.mean(decided), np.std(decided, ddof=1), size=(together, 300, size))
        enough = [
            [stats.to_find_again(list(one), together=together) <= size if one.mean() > 2 else False for one in some]
            for some in fresh
        ]
        assert 0.75 < np.all(enough, axis=0).mean() < (0.9 if together == 1 else 1)
    assert stats.to_decide_again([1.0, 1 + 1e-9, 1 - 1e-9]) == 3  # beyond what nct knows
    assert stats.to_decide_again([5.0, 5.1, 5.2]) == stats.to_decide_again([1.0] * 4) == 3
    assert (
        stats.to_find_again([5.0, 5.1, 5.2])
        == stats.to_find_again([1.0] * 4)
        == stats.to_find_again([1.0] * 4, bound=1.0)
        == 3
    )


@pytest.mark.parametrize("nothing", [[], [1.0], [1.0, -1.0], [0.01, 1.0, -1.0]])
def test_what_no_test_can_have_found_is_not_repeated(nothing: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(nothing)} differences cannot have been told from 0"):
        stats.to_find_again(nothing)


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
    rare = agreement_of((1, 2), [(1, 1, 1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2, 2, -0.5)])  # few draws turn it
    assert (rare.tau, rare.low, rare.high) == (1.0, 1.0, 1.0)
    found = agreement_of((1, 2), [(5, 5), (5, 6)])  # drawing seed 0 twice ties
    assert (found.tau, found.low, found.high) == (1.0, None, None)  # the others agree: no interval to tell
    uneven = stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": seeds(1, 2, 3), "b": {2: 5.0, 7: 1.0}})
    assert (uneven.n, uneven.tau, uneven.low) == (1, 1.0, None)  # one common seed
    apart = stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": {0: 1.0, 1: 9.0}, "b": {0: 2.0}})
    assert (apart.n, apart.tau) == (1, 1.0)  # of the means of all seeds, 5 and 2, the order is the reverse
    assert stats.agreement("m", {"a": 1.0, "b": 2.0}, {"a": {0: 1.0}, "b": {1: 2.0}}).tau is None
