"""Committed means, intervals, p-values and verdicts again, from the seeds' values in table.json, by other means.

Nothing of ablations/ is used: studies are read as plain YAML, tests are loops over their definitions.
"""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import nct, t, ttest_1samp, ttest_rel

ROOT = Path(__file__).parents[2]
TABLES = sorted(path for path in ROOT.glob("reports/*/*/table.json"))
close = pytest.approx


def values(table: dict[str, Any], label: str, metric: str) -> dict[str, float]:
    (row,) = (row for row in table["rows"] if row["label"] == label)
    return dict(row["cells"].get(metric, {}).get("values", {}))


def paired(one: dict[str, float], other: dict[str, float]) -> list[float]:
    return [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys(), key=int)]


def flipped(differences: list[float]) -> float:
    """Of all ways to sign the differences, the share whose sum is as far from 0."""
    signs = 1 - 2 * ((np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences))) & 1)
    return float((abs(signs @ np.array(differences)) >= abs(sum(differences)) - 1e-6).mean())


@pytest.fixture(params=TABLES, ids=lambda path: "/".join(path.parts[-3:-1]))
def table(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return found


def test_there_are_tables() -> None:
    assert len(TABLES) > 20


def test_means_and_intervals_of_cells(table: dict[str, Any]) -> None:
    for row in (*table["rows"], *table["references"]):
        for cell in row["cells"].values():
            found = list(cell["values"].values())
            assert cell["n"] == len(found)
            assert cell["mean"] == (close(statistics.fmean(found), rel=1e-8, abs=1e-7) if found else None)
            if len(found) < 2:
                assert cell["std"] is cell["half"] is None
                continue
            assert cell["std"] == close(statistics.stdev(found), rel=1e-6, abs=1e-7)
            if cell["std"] > 1e-6:
                interval = ttest_1samp(found, 0).confidence_interval(0.95)
                assert cell["half"] == close((interval.high - interval.low) / 2, rel=1e-6)


def test_rows_against_the_default_row(table: dict[str, Any]) -> None:
    p_values: list[tuple[float, float]] = []  # of the whole table, with what Holm made of them
    for found in table["comparisons"]:
        one, other = (values(table, found[side], found["metric"]) for side in ("label", "against"))
        differences = paired(one, other)
        assert len(found["seeds"]) == len(differences)
        if not differences:
            assert found["gap"] is None
            continue
        assert found["gap"] == close(statistics.fmean(differences), abs=1e-6)
        if len(differences) < 2:
            continue
        if len(differences) < 3:  # of two, equal counts would be certain
            assert found["p"] is found["p_holm"] is found["detectable"] is None
            assert found["sign_flip"] == close(flipped(differences))
            continue
        if not any(differences):  # the very same numbers: no evidence of a difference, and one of the table's tests
            assert (found["p"], found["sign_flip"]) == (1, 1)
            p_values.append((1, found["p_holm"]))
            continue
        seeds = list(map(str, found["seeds"]))
        tested = ttest_rel([one[seed] for seed in seeds], [other[seed] for seed in seeds])
        interval = tested.confidence_interval(0.95)
        assert [found["low"], found["high"]] == close([interval.low, interval.high], abs=1e-5)
        assert found["p"] == close(tested.pvalue, rel=1e-4, abs=1e-8)
        assert found["sign_flip"] == close(flipped(differences))
        p_values.append((found["p"], found["p_holm"]))
    least = 0.0
    for rank, (p, holm) in enumerate(sorted(p_values)):  # Holm (1979): the k-th least of m times m - k, never falling
        least = max(least, min(1.0, (len(p_values) - rank) * p))
        assert holm == close(least, rel=1e-6, abs=1e-8)


def claims(table: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The study's claims beside their verdicts."""
    study = yaml.safe_load(next(ROOT.glob(f"studies/**/{table['study']}.yaml")).read_text(encoding="utf-8"))
    found = list(zip(study.get("claims", []), table["verdicts"], strict=True))
    assert all(claim["says"] == verdict["says"] for claim, verdict in found)
    return found


def better_and_worse(claim: dict[str, Any], labels: list[str]) -> list[tuple[str, str]]:
    """The comparisons that a claim of `better`, `best` or `worst` asks for."""
    if "best" in claim:
        return [(claim["best"], label) for label in labels if label != claim["best"]]
    if "worst" in claim:
        return [(label, claim["worst"]) for label in labels if label != claim["worst"]]
    worse = claim.get("worse", [])
    return [(claim["better"], label) for label in (worse if isinstance(worse, list) else [worse])]


def enough(differences: list[float], bound: float, level: float, together: int) -> bool:
    """Would as many fresh seeds find the same, with 80 % power for all that must be found together?"""
    n, spread = len(differences), statistics.stdev(differences)
    if spread < 1e-9:
        return True
    effect = abs(statistics.fmean(differences) - bound) / spread
    return bool(nct.sf(t.ppf((1 + level) / 2, n - 1), n - 1, effect * n**0.5) >= 1 - 0.2 / together)


def test_seeds_that_repeat_a_verdict_are_drawn(table: dict[str, Any]) -> None:
    """So many fresh ones as a decided claim tells, of the mean and spread there were, decide the same in 80 %."""
    rng = np.random.default_rng(0)
    for claim, verdict in claims(table):
        asked = better_and_worse(claim, []) if "better" in claim else []
        if verdict["state"] != "supported" or len(asked) != 1:
            continue
        ((first, second),) = asked
        differences = paired(*(values(table, label, verdict["metric"]) for label in (first, second)))
        mean, spread = abs(statistics.fmean(differences)), statistics.stdev(differences)
        shares = []
        for size in (max(3, verdict["repeat"] - 1), verdict["repeat"]):
            fresh = rng.normal(mean, spread, size=(20_000, size))
            effects = fresh.mean(1) / fresh.std(1, ddof=1)
            grid = np.linspace(0.1, 8, 800)  # of effects, one that so many seeds would find again
            again = nct.sf(t.ppf(0.975, size - 1), size - 1, grid * size**0.5) >= 0.8
            shares.append(float((effects > grid[again].min()).mean()))
        assert shares[1] > 0.78 and (shares[0] < 0.82 or verdict["repeat"] == 3)


def test_few_seeds_decide_nothing(table: dict[str, Any]) -> None:
    assert all(verdict["n"] >= 3 or verdict["state"] == "undecided" for _, verdict in claims(table))


def test_verdicts_on_one_row_being_better_than_others(table: dict[str, Any]) -> None:
    for claim, verdict in claims(table):
        if not claim.keys() & {"better", "best", "worst"} or verdict["n"] < 2:
            continue
        column = next(column for column in table["columns"] if column["metric"] == verdict["metric"])
        sign = -1 if column["better"] == "lower" else 1
        asked = better_and_worse(claim, [row["label"] for row in table["rows"]])
        level = {True: 0.95, False: 1 - 0.05 / len(asked)}
        pairs, firm, firmly_refuted = [], [], []
        for first, second in asked:
            one, other = values(table, first, verdict["metric"]), values(table, second, verdict["metric"])
            differences = [sign * difference for difference in paired(one, other)]
            if len(differences) < 2:
                continue
            tested = ttest_1samp(differences, 0)
            lows, highs = zip(
                *(tested.confidence_interval(level[one_sided]) for one_sided in (True, False)), strict=True
            )
            pairs.append((statistics.fmean(differences), lows[0], highs[0], highs[1], tested.pvalue, len(differences)))
            firm.append(enough(differences, 0, level[True], len(asked)))
            firmly_refuted.append(highs[1] < 0 and enough(differences, 0, level[False], 1))
        shown = min(pairs, key=lambda pair: abs(pair[0] - verdict["gap"]))
        assert [verdict["gap"], verdict["low"], verdict["high"], verdict["n"]] == close(
            [*shown[:3], shown[5]], abs=1e-5
        )
        assert verdict["p"] == close(shown[4], rel=1e-4)
        boot = (verdict["boot_low"], verdict["boot_high"])
        whole = len(pairs) == len(asked) and all(low > 0 and n >= 3 for _, low, *_, n in pairs) and all(firm)
        refuted = any(sure and n >= 3 for sure, (*_, n) in zip(firmly_refuted, pairs, strict=True))
        # The bootstrap of the pair shown is known here, at 95 %; of several pairs others may have the last word.
        if len(pairs) == 1:
            assert (verdict["state"] == "supported") == (whole and (boot[0] is None or boot[0] > 0))
            assert (verdict["state"] == "contradicted") == (refuted and (boot[1] is None or boot[1] < 0))
        else:
            assert verdict["state"] != "supported" or (whole and (boot[0] is None or boot[0] > 0))
            assert verdict["state"] != "contradicted" or (refuted and (boot[1] is None or boot[1] < 0))
            assert verdict["state"] != "undecided" or not (whole or refuted) or "withholds" in verdict["words"]


def test_verdicts_on_equality_and_on_ratios(table: dict[str, Any]) -> None:
    def near(ratio: float) -> float:
        return min(0.05, (ratio - 1) / 2)

    for claim, verdict in claims(table):
        if not claim.keys() & {"equal", "ratio"} or verdict["n"] < 2:
            continue
        centre, margin = (0.0, claim.get("margin", 1.0)) if "equal" in claim else (claim["value"], near(claim["value"]))
        one, other = (values(table, label, verdict["metric"]) for label in claim.get("equal", claim.get("ratio"))[:2])
        if "equal" in claim:
            interval = ttest_1samp(paired(one, other), 0).confidence_interval(0.95)
            assert [verdict["low"], verdict["high"]] == close([interval.low, interval.high], abs=1e-5)
        else:  # trainings of one machine are paired, and table.json does not tell which
            assert verdict["n"] <= len(one.keys() & other.keys())
        inside = centre - margin <= verdict["low"] and verdict["high"] <= centre + margin
        outside = verdict["high"] < centre - margin or centre + margin < verdict["low"]
        if verdict["n"] < 3:
            inside = outside = False
        by_seeds = "supported" if inside else "contradicted" if outside else "undecided"
        if "narrowly" in verdict["words"]:
            assert f"{by_seeds} narrowly" in verdict["words"]
            by_seeds = "undecided"
        if verdict["boot_low"] is None:
            assert verdict["state"] == by_seeds
        else:  # the bootstrap may withhold a verdict, never give one
            assert verdict["state"] in (by_seeds, "undecided")


def test_bootstrap_over_seeds_and_videos_again_by_plain_loops() -> None:
    """Table 1 of `mini`, from the outcomes per test video in the records: other draws, so only about the same."""
    folder = ROOT / "reports/mini"
    table = json.loads((folder / "table1_losses/table.json").read_text(encoding="utf-8"))
    lines = (json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines())
    outcomes = {line["uid"]: line["result"]["per_video"] for line in lines if "per_video" in line.get("result", {})}
    draw = random.Random(0)
    cells = {row["label"]: row["cells"]["lin/ucf101"] for row in table["rows"]}
    found = next(found for found in table["comparisons"] if found["metric"] == "lin/ucf101" and found["label"] == "VV")
    sides = [
        [[int(right) for right in outcomes[cells[found[side]]["uids"][str(seed)]]["top1"]] for seed in found["seeds"]]
        for side in ("label", "against")
    ]
    count = len(sides[0][0])
    of = [int(n) for n in outcomes[cells["VV"]["uids"][str(found["seeds"][0])]]["of"]]
    gaps = []
    for _ in range(1000):
        videos = draw.choices(range(count), k=count)
        seeds = draw.choices(range(len(found["seeds"])), k=len(found["seeds"]))
        seen = sum(of[video] for video in videos) * len(seeds)
        right = [sum(side[seed][video] for seed in seeds for video in videos) for side in sides]
        gaps.append(100 * (right[0] - right[1]) / seen)
    cut = statistics.quantiles(gaps, n=40)
    assert [found["boot_low"], found["boot_high"]] == close([cut[0], cut[-1]], abs=1.2)
