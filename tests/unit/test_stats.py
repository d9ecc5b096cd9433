"""Means, intervals and verdicts against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

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


def better(first: dict[int, float], *others: dict[int, float], lower: bool = False) -> stats.Verdict:
    rows = {"a": first} | {f"o{i}": other for i, other in enumerate(others)}
    pairs = [("a", name) for name in rows if name != "a"]
    return stats.ordered("a wins", "lin/ucf101", "better", pairs, rows, lower_is_better=lower)


def test_order_supported_contradicted_undecided() -> None:
    high, low = seeds(11, 12.5, 14), seeds(9.0, 10.0, 11.0)  # differences 2, 2.5, 3: 2.5 +- 1.24
    assert better(high, low).state == "supported"
    assert better(low, high).state == "contradicted"
    assert better(low, high, lower=True).state == "supported"
    wide = better(seeds(9, 14, 10), low)  # differences 0, 4, -1
    assert (wide.state, wide.n, wide.gap) == ("undecided", 3, 1.0)
    assert wide.words == (
        "undecided: “a” against “o0”: gap +1.0, 95 % interval −5.6 to +7.6, n = 3; the interval includes 0"
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
    first, above = (
        seeds(10, 10, 10),
        seeds(10.3, 11.0, 11.7),
    )  # gap -1 +- 1.74: never; tighten until 95 % just excludes 0
    above = seeds(10.65, 11.0, 11.35)  # gap -1, std 0.35, half 0.869; at 97.5 % half is 1.254
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
    assert stats.equal("same", "m", ("a", "near"), rows).state == "supported"
    assert stats.equal("same", "m", ("a", "far"), rows).state == "contradicted"
    wide = stats.equal("same", "m", ("a", "wide"), rows)
    assert wide.state == "undecided"
    assert "not wholly inside or outside ±1 of 0" in wide.words
    assert stats.equal("same", "m", ("a", "near", "far"), rows).state == "contradicted"
    assert stats.equal("same", "m", ("a", "near"), {"a": seeds(1), "near": seeds(1.5)}).words == (
        "one seed: size agrees (within ±1 of 0), undecided; “a” against “near”: gap −0.5, n = 1"
    )


def test_ratio_verdicts() -> None:
    rows = {"dc": seeds(1.03, 1.02, 1.04), "vd": seeds(1.0, 1.0, 1.0), "md": seeds(1.5, 1.51, 1.49)}
    assert stats.ratio("cheap", "gpu_days", ("dc", "vd"), 1.029, rows).state == "supported"
    assert stats.ratio("cheap", "gpu_days", ("md", "vd"), 1.102, rows).state == "contradicted"
    single = stats.ratio("cheap", "gpu_days", ("md", "vd"), 1.102, {"md": seeds(1.5), "vd": seeds(1.0)})
    assert single.words == (
        "one seed: size disagrees (not within ±0.05 of 1.102), undecided; “md” against “vd”: ratio 1.500, n = 1"
    )


def test_identical_seeds_give_a_zero_width_interval() -> None:
    assert better(seeds(14.4, 14.4), seeds(12.3, 12.3)).state == "supported"
    assert better(seeds(12.3, 12.3), seeds(12.3, 12.3)).state == "undecided"
