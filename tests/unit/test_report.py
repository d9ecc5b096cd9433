"""Tables from a plan and what the store holds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_render import FILES, body

from ablations import code, publish, render, report
from ablations.results import Results
from ablations.spec import Claim
from ablations.table import REDUCED, Table
from ablations.uids import Cell as Source
from fima.config import Settings


class Shelf:
    """What `report` asks of a store."""

    def __init__(self, results: Mapping[str, dict[str, Any]], failed: Mapping[str, str] | None = None) -> None:
        self.results, self.failed = dict(results), dict(failed or {})

    def result(self, uid: str) -> dict[str, Any] | None:
        return self.results.get(uid)

    def status(self, uid: str) -> SimpleNamespace:
        if uid in self.failed:
            return SimpleNamespace(state="failed", error=self.failed[uid])
        return SimpleNamespace(state="done" if uid in self.results else "new", error=None)


def planned(
    metrics: Mapping[str, str],
    labels: Sequence[str] = ("VD", "DC"),
    paper: Sequence[Mapping[str, float]] = ({}, {}),
    seeds: Sequence[int] = (0,),
    claims: Sequence[Any] = (),
    same_data: bool = False,
    asked: Sequence[str] | None = None,
) -> Any:
    """A plan of one study; `metrics` gives the key in the result. Uids are <kind>-<role>-<row>-<seed>."""
    study = SimpleNamespace(
        study="table11_cost", title="Cost", paper={"table": "11", "source": "Zhu et al."}, base={}, seeds=None,
        metrics=tuple(asked or metrics), claims=tuple(claims), path=code.ROOT / "studies/table11_cost.yaml",
    )  # fmt: skip
    profile = SimpleNamespace(
        profile="demo", word="demo", title="small", reduced=True, scale="small videos", roots=(), seeds=(0,),
        metrics=tuple(metrics), rule={"decoder.width": Fraction(1, 4)},
    )  # fmt: skip

    def data(domain: str) -> SimpleNamespace:
        embedded = SimpleNamespace(set="two-stage", domain=domain)
        return SimpleNamespace(name="embedded", embedded=embedded, limit=None, root=None, short="loop")

    roles = {
        "pretrain": data("source"),
        "ucf101": data("source"),
        "hmdb51": data("source" if same_data else "transfer"),
    }
    scaled = (SimpleNamespace(name="decoder.width", paper=512, value=128),)
    settings = Settings.model_validate({"optim": {"lr": 0.002}, "losses": ["vv", "pix"]})
    resolved = SimpleNamespace(settings=settings, data=roles, scaled=scaled)
    rows, stages = [], {}
    for label, printed in zip(labels, paper, strict=True):
        cells: dict[str, dict[int, Any]] = {metric: {} for metric in metrics}
        for seed in seeds:
            pretrain = f"pretrain-{label}-{seed}"
            where = {"where": {"data": {"name": "ucf101"}}}
            title = f"pre-training of {label}, seed {seed}"
            stages[pretrain] = SimpleNamespace(uid=pretrain, needs=(), title=title, config=where)
            for metric, key in metrics.items():
                kind, _, role = metric.partition("/")
                uid = f"{kind}-{'ucf101' if same_data else role}-{label}-{seed}" if role else pretrain
                stages.setdefault(uid, SimpleNamespace(uid=uid, needs=(pretrain,), title=f"{kind} of {label}"))
                days = metric == "gpu_days"
                cells[metric][seed] = Source(uid, key, 1 / 86400 if days else 1.0, per_step=days)
        row = SimpleNamespace(label=label, paper=printed, default=label == labels[-1], set={}, encoder=None)
        pretrains = {seed: f"pretrain-{label}-{seed}" for seed in seeds}
        rows.append(SimpleNamespace(study=study, row=row, resolved=resolved, cells=cells, pretrain=pretrains))
    return SimpleNamespace(
        rows=tuple(rows),
        references=(),
        stages=stages,
        seeds=tuple(seeds),
        profile=profile,
        overrides=("optim.steps=3",),
    )


def claim(**form: Any) -> Claim:
    return Claim(says="it holds", where="study.yaml:1", **form)


def built(plan: Any, results: Mapping[str, dict[str, Any]], failed: Mapping[str, str] | None = None) -> Table:
    (table,) = report.build(plan, Shelf(results, failed))  # type: ignore[arg-type]
    return table


KEYS = ("top1", "R1", "R5", "R10", "R20")  # of results
LINEAR = {"top1": 40.0, "videos": 60, "classes": 6, "protocol": "logistic, 3 clips"}


def test_chance_of_retrieval_is_that_of_k_guesses() -> None:
    plan = planned({"R5/ucf101": "R5", "R20/ucf101": "R20"})
    found = LINEAR | {"R5": 65.0, "R20": 99.0, "gallery": 12}
    results = {f"{k}-ucf101-{label}-0": found for label in ("VD", "DC") for k in ("R5", "R20")}
    five, twenty = built(plan, results).columns
    every = list(itertools.combinations(range(12), 5))  # the first two are of the query's class
    assert five.chance == pytest.approx(100 * sum(min(drawn) < 2 for drawn in every) / len(every))
    assert twenty.chance == 100.0  # all of the gallery
    other = results | {"R5-ucf101-DC-0": found | {"gallery": 13}}
    assert built(plan, other).columns[0].chance is None


def test_build_reads_cells_protocol_chance_scale_and_departures() -> None:
    plan = planned({"lin/ucf101": "top1"}, paper=({"lin/ucf101": 68.7}, {"lin/ucf101": 69.7}), seeds=(0, 1))
    results = {
        f"lin-ucf101-{label}-{seed}": LINEAR | {"top1": top + seed}
        for label, top in (("VD", 40.0), ("DC", 44.0))
        for seed in (0, 1)
    }
    table = built(plan, results)
    assert table.rows[0].cells["lin/ucf101"].values == {0: 40.0, 1: 41.0}
    assert table.rows[1].cells["lin/ucf101"].best and table.rows[1].default
    assert table.paper == "Table 11 of Zhu et al."
    assert table.columns[0].chance == pytest.approx(100 / 6)
    text = render.markdown(table)
    assert "1. Protocol: logistic, 3 clips; 60 test videos; 6 classes; chance 16.7 %." in text
    assert "decoder.width × 1/4: 512 → 128" in text
    assert table.departures == {"optim.lr": 0.002, "losses": ["vv", "pix"]}
    assert "Motion decoder: usual start, positions × 1, dropout 0.1" in text
    assert "fima-ablate run studies/table11_cost.yaml --profile demo --seeds 0,1 optim.steps=3" in text


def test_what_departs_from_the_profile_is_said_in_every_file() -> None:
    plan = planned({"lin/ucf101": "top1"})
    plan.profile.reduced, plan.profile.scale = False, "the paper's: 200 epochs"
    plan.overrides = ("data.root=/videos", "data.ucf101.root=/more", "data.broken=fatal")
    results = {"lin-ucf101-VD-0": LINEAR, "pretrain-VD-0": {"listed": 13320, "missing": 0, "broken": []}}
    table = built(plan, results)
    assert (table.warning, table.scale_line, table.departs) == ("", "the paper's: 200 epochs", False)
    plan.overrides = ("data.root=/videos", "optim.steps=1")
    table = built(
        plan,
        {
            **results,
            "pretrain-VD-0": {
                "listed": 13320,
                "missing": 13237,
                "broken": ["a.avi: is empty"],
                "short": ["b.avi: 9 frames, but a clip spans 32"],
            },
        },
    )
    said = (
        "not the paper's recipe: not a reproduction of the paper's numbers; the command sets optim.steps=1; "
        "partial copy of UCF101: 83 of 13,320 listed videos; otherwise the paper's: 200 epochs"
    )
    assert table.scale_line == said
    for text in (render.markdown(table), render.as_csv(table), render.as_json(table), render.text(table)):
        assert said in text
    assert "not a reproduction" in render.latex(table)
    text = render.markdown(table)
    assert "1 video left out, for nothing can be read of them: a.avi: is empty." in text
    assert "1 video shorter than a clip, so that frames repeat: b.avi: 9 frames, but a clip spans 32." in text
    plan.profile.reduced = True
    assert built(plan, results).warning == REDUCED


def test_missing_results_are_counted_by_reason_and_failures_listed() -> None:
    plan = planned({"lin/ucf101": "top1"}, ("a", "b", "c"), ({}, {}, {}))
    table = built(plan, {"lin-ucf101-a-0": LINEAR}, {"pretrain-b-0": "the loss is not finite"})
    text = render.markdown(table)
    assert "2 of 3 results (row × metric × seed) are missing: 1 failed, 1 not run." in text
    assert "- pre-training of b, seed 0 (pretrain-b-0): the loss is not finite" in text
    assert [render.measured(row.cells["lin/ucf101"], table.columns[0]) for row in table.rows] == ["40.0 (1)", "–", "–"]
    nothing = built(plan, {})
    assert not nothing.measured and "3 of 3 results" in render.markdown(nothing)


def test_one_data_set_in_both_roles_is_shown_once_and_said() -> None:
    paper = ({"lin/ucf101": 71.6, "lin/hmdb51": 41.2},) * 2
    metrics = {"lin/ucf101": "top1", "lin/hmdb51": "top1"}
    both = built(planned(metrics, paper=paper, same_data=True), {"lin-ucf101-VD-0": LINEAR})
    assert [column.metric for column in both.visible] == ["lin/ucf101"]
    assert "lin/hmdb51 (as lin/ucf101)" in render.markdown(both)
    told = planned(metrics, same_data=True, claims=[claim(metric="lin/hmdb51", best="DC")])
    (verdict,) = built(told, {f"lin-ucf101-{label}-0": LINEAR for label in ("VD", "DC")}).verdicts
    assert verdict.words.startswith("undecided: one data set plays both UCF101 and HMDB51 here")
    assert "41.2" in render.as_csv(both) and "41.2" not in body(render.latex(both))[3]
    apart = built(planned(metrics, paper=paper), {})
    assert [column.data for column in apart.visible] == ["embedded two-stage (source)", "embedded two-stage (transfer)"]


def cost(seconds: float, device: str, devices: int = 1) -> dict[str, Any]:
    sizes = {"parameters_paper_millions": 14.388, "parameters_millions": 16.494}
    step = {"seconds_per_step": seconds / 4, "steps": 4, "gflop_per_step": 21.0, "peak_memory_gib": 1.5}
    return {"seconds": 2 * seconds, "devices": devices, "environment": {"device": device}, **sizes, **step}


@pytest.mark.parametrize(("device", "unit"), [("cpu", "device-days (CPU)"), ("cuda:0", "GPU-days (GPU)")])
def test_cost_is_days_times_devices_and_relative_to_the_first_row(device: str, unit: str) -> None:
    plan = planned(
        {"parameters": "parameters_paper_millions", "gpu_days": "seconds_per_step"},
        paper=({"parameters": 12.3, "gpu_days": 3.43}, {"parameters": 12.3, "gpu_days": 3.53}),
        claims=[claim(metric="gpu_days", ratio=("DC", "VD"), value=1.029)],
    )
    table = built(plan, {"pretrain-VD-0": cost(864.0, device, 3), "pretrain-DC-0": cost(950.4, device, 3)})
    assert [column.metric for column in table.columns] == [
        "parameters", "parameters/all", "gpu_days", "gpu_days/flops", "gpu_days/step", "gpu_days/memory",
        "gpu_days/relative", "gpu_days/flops/relative", "gpu_days/step/relative", "gpu_days/memory/relative",
    ]  # fmt: skip
    first, second = table.rows[0].cells, table.rows[1].cells
    assert first["gpu_days"].values == {0: pytest.approx(0.03)}
    assert second["gpu_days/relative"].values == {0: pytest.approx(1.1)}
    assert second["gpu_days/relative"].paper == pytest.approx(1.029)
    assert second["gpu_days/step"].values == {0: pytest.approx(237.6)}
    assert second["gpu_days/step/relative"].values == {0: pytest.approx(1.1)}
    assert second["gpu_days/flops/relative"].values == {0: 1.0} and first["gpu_days/memory"].values == {0: 1.5}
    assert second["parameters/all"].values == {0: 16.494}
    assert table.columns[2].data == unit and table.columns[2].paper_data == "GPU-days"
    assert table.verdicts[0].words.startswith("one seed: size disagrees")
    assert table.verdicts[0].words.endswith("other load on the machine; that of FLOPs, which does not, is 1.000")
    assert "0.0330 (1)" in render.markdown(table)


def test_times_of_two_kinds_of_machines_make_no_ratio() -> None:
    plan = planned(
        {"gpu_days": "seconds_per_step"},
        seeds=(0, 1, 2),
        claims=[claim(metric="gpu_days", ratio=("DC", "VD"), value=1.029)],
    )
    results = {}
    for label, seconds, cpu in (("VD", 100.0, ("a", "a", "a")), ("DC", 103.0, ("a", "b", "a"))):
        for seed in range(3):
            result = cost(seconds * (2 if cpu[seed] == "b" else 1), "cpu")
            result["environment"] |= {"cpu": cpu[seed], "threads": 1}
            results[f"pretrain-{label}-{seed}"] = result
    table = built(plan, results)
    (_, second), (verdict,) = table.rows, table.verdicts
    for name in ("gpu_days", "gpu_days/step", "gpu_days/memory"):
        assert set(second.cells[f"{name}/relative"].values) == {0, 2}
    assert second.cells["gpu_days/relative"].values == {0: pytest.approx(1.03), 2: pytest.approx(1.03)}
    assert set(second.cells["gpu_days/flops/relative"].values) == {0, 1, 2}  # counted, not timed
    assert set(second.cells["gpu_days"].values) == {0, 1, 2}
    assert verdict.n == 2 and verdict.gap == pytest.approx(1.03)
    assert "Seeds of which both pre-trainings ran on machines of one kind" in render.markdown(table)
    results["pretrain-VD-1"]["environment"] |= {"cpu": "b", "threads": 2}
    assert built(plan, results).verdicts[0].n == 2  # another number of threads is another machine
    for seed in (0, 2):
        results[f"pretrain-VD-{seed}"]["environment"] |= {"cpu": "c"}
    (verdict,) = built(plan, results).verdicts
    assert "FLOPs" not in verdict.words
    assert verdict.words == "undecided: “DC” and “VD” were pre-trained on machines of different kinds, seed by seed"


def test_cards_of_one_kind_are_one_machine_whatever_holds_them() -> None:
    plan = planned({"gpu_days": "seconds_per_step"})
    results = {f"pretrain-{label}-0": cost(100.0, "cuda: H100") for label in ("VD", "DC")}
    results["pretrain-VD-0"]["environment"] |= {"cpu": "a", "threads": 8}
    results["pretrain-DC-0"]["environment"] |= {"cpu": "b", "threads": 4}
    assert built(plan, results).rows[1].cells["gpu_days/relative"].values == {0: 1.0}


def test_short_runs_cost_seconds_and_damaged_results_are_named() -> None:
    plan = planned({"gpu_days": "seconds_per_step"})
    table = built(plan, {"pretrain-VD-0": cost(12.3, "cpu"), "pretrain-DC-0": {"half": 1}})
    assert table.columns[0].data == "device-seconds (CPU)"
    text = render.markdown(table)
    assert "12.3 (1)" in text
    assert "1 damaged: pretrain-DC-0/result.json has no number seconds_per_step, delete that folder" in text


def test_a_table_says_where_its_pre_trainings_were_made() -> None:
    """Another machine than the probe's, perhaps, and another commit."""
    plan = planned({"lin/ucf101": "top1"})
    made = {"pretrain": "abc", "lin": "def"}
    results = {
        f"{kind}{role}-{label}-0": LINEAR | {"environment": {"commit": made[kind], "device": "cpu"}}
        for kind, role in (("pretrain", ""), ("lin", "-ucf101"))
        for label in ("VD", "DC")
    }
    assert "- results from: commit abc or def, on cpu" in render.markdown(built(plan, results))


def test_what_was_trained_for_a_number_that_is_missing_is_no_source_of_the_table() -> None:
    plan = planned({"lin/ucf101": "top1"})
    made = {"pretrain-VD-0": "abc", "lin-ucf101-VD-0": "def", "pretrain-DC-0": "ghi"}
    shelf: Any = Shelf({uid: LINEAR | {"environment": {"commit": commit}} for uid, commit in made.items()})
    results = Results(plan, shelf)
    assert results.get("lin-ucf101-VD-0") is not None
    assert results.get("lin-ucf101-DC-0") is None
    assert results.why("lin-ucf101-DC-0") == "not run"
    assert results.environments == [{"commit": "abc"}, {"commit": "def"}]


def test_rows_that_became_one_experiment_get_no_verdict() -> None:
    """As an override does of what the rows differ in."""
    told = [claim(metric="lin/ucf101", best="b"), claim(metric="lin/ucf101", better="c", worse=("a",))]
    plan = planned({"lin/ucf101": "top1"}, ("a", "b", "c"), ({}, {}, {}), seeds=(0, 1), claims=told)
    plan.rows[1].pretrain = plan.rows[0].pretrain
    results = {f"lin-ucf101-{label}-{seed}": LINEAR | {"top1": 40.0 + seed} for label in "abc" for seed in (0, 1)}
    table = built(plan, results)
    assert table.verdicts[0].words == "undecided: “a” and “b” are one experiment here"
    assert table.verdicts[1].n == 2
    assert "“a” and “b” are one experiment here: nothing tells them apart." in render.markdown(table)


def test_every_form_of_claim_is_judged() -> None:
    forms = [
        claim(metric="lin/ucf101", best="b"), claim(metric="lin/ucf101", worst="a"),
        claim(metric="lin/ucf101", better="b", worse=("a",)), claim(metric="lin/ucf101", equal=("a", "b")),
        claim(metric="ft/ucf101", best="a"),
    ]  # fmt: skip
    plan = planned({"lin/ucf101": "top1"}, ("a", "b"), seeds=(0, 1, 2), claims=forms, asked=["lin/ucf101", "ft/ucf101"])
    results = {f"lin-ucf101-a-{seed}": LINEAR for seed in range(3)}
    results |= {f"lin-ucf101-b-{seed}": LINEAR | {"top1": 45.0 + 0.1 * seed} for seed in range(3)}
    table = built(plan, results)
    assert [verdict.state for verdict in table.verdicts] == [
        "supported", "supported", "supported", "contradicted", "undecided",
    ]  # fmt: skip
    assert table.verdicts[4].words == "undecided: ft/ucf101 is not measured here"
    assert "Not measured here: ft/ucf101" in render.markdown(table)


def test_a_ratio_beside_a_value_of_zero_costs_no_table() -> None:
    form = claim(metric="lin/ucf101", ratio=("b", "a"), value=1.1)
    plan = planned({"lin/ucf101": "top1"}, ("a", "b"), seeds=(0, 1, 2), claims=[form])
    results = {
        f"lin-ucf101-{row}-{seed}": LINEAR | {"top1": 0.0 + 9 * (row == "b")} for row in "ab" for seed in range(3)
    }
    (verdict,) = built(plan, results).verdicts
    assert verdict.words == "undecided: a ratio has no meaning beside a value of 0"


def test_a_figures_number_stands_beside_that_of_a_picture_which_shows_nothing() -> None:
    plan = planned({"fig/mask": "mask"}, ("a", "b"), seeds=(0,))
    numbers = {"masks": {"IoU random": 0.1, "IoU attainable": 0.25}}
    found = {"mask": 0.2, "numbers": numbers, "protocol": "figures"}
    other = {"mask": 0.1, "numbers": {"masks": {"IoU random": 0.2, "IoU attainable": None}}, "protocol": "figures"}
    table = built(plan, {"fig-mask-a-0": found, "fig-mask-b-0": other})
    assert "To compare: a random mask 15.0, the best of its size 25.0." in table.notes
    assert table.columns[0].notes == (1, 2)


# --- the real plan and store


def test_every_study_of_the_repository_has_a_report(tmp_path: Path) -> None:
    from ablations import plan, spec
    from ablations.store import Store

    studies = [spec.load_study(path) for path in spec.study_files()]
    made = plan.build(studies, spec.load_profile("debug"), seeds=(0, 1))
    store = Store(tmp_path / "runs")
    for i, stage in enumerate(made.stages.values()):
        found = cost(60.0 + i, "cpu") if stage.kind == "pretrain" else LINEAR | dict.fromkeys(KEYS, 30.0 + i % 9)
        store.prepare(stage)
        store.finish(stage.uid, found)
    tables = report.build(made, store)
    assert [table.study for table in tables] == [study.study for study in studies]
    assert sum(len(table.rows) for table in tables) == 46 + 8
    for table, study in zip(tables, studies, strict=True):
        assert table.measured and not table.failures
        assert f"studies/{study.path.name} --profile debug --seeds 0,1" in table.command
        assert len(table.verdicts) == len(study.claims)
        if table.literature is None or study.study == "table6_retrieval":  # not all is printed
            assert "–" not in "".join(body(render.latex(table)))
        assert render.markdown(table).count("(default)") <= 1
        json.loads(render.as_json(table))


def test_points_lost_are_resampled_by_video_as_accuracies_are() -> None:
    """A claim on them is not left to the interval over seeds alone."""
    kept = {"normal": [2, 1, 0], "shuffled": [0, 1, 2], "frozen": [1, 1, 0], "of": [2, 2, 2]}
    results: Any = SimpleNamespace(get=lambda _: {"per_video": kept})
    found = {key: report._hits({0: Source("a", key)}, results)[0] for key in ("order", "motion", "normal")}
    assert {key: one.right for key, one in found.items()} == {
        "order": (2, 0, -2),
        "motion": (1, 0, 0),
        "normal": (2, 1, 0),
    }
    assert found["motion"].accuracy == pytest.approx(100 / 6)


def test_a_failed_need_is_said_once_with_its_reason(tmp_path: Path) -> None:
    from ablations import plan, spec
    from ablations.store import Store

    made = plan.build([spec.load_study("table3d_beta")], spec.load_profile("debug"))
    store = Store(tmp_path / "runs")
    first = next(stage for stage in made.stages.values() if stage.kind == "pretrain")
    store.prepare(first)
    store.start(first.uid)
    store.fail(first.uid, "vv became nan at step 3; lower optim.lr")
    (table,) = report.build(made, store)
    assert table.failures == (f"{first.title} ({first.uid}): vv became nan at step 3; lower optim.lr",)
    assert set(table.rows[0].cells["lin/ucf101"].missing.values()) == {"failed"}
    assert set(table.rows[1].cells["lin/ucf101"].missing.values()) == {"not run"}
    assert [path.name for path in publish.write(table, tmp_path / "report")] == FILES
