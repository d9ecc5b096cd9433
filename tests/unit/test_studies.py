"""The studies against the paper's tables: numbers and claims; thirteen ablations of 46 rows, 28 pre-trainings."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ablations import literature, spec, stages
from ablations import plan as planning
from ablations.spec import Study
from ablations.store import Store
from fima import datasets, pretrain
from fima.config import Finetune, Linear, Retrieval, Settings

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper" / "paper_tables.yaml"
STUDIES = {
    "table1": "table1_losses", "table2": "table2_components", "table3a": "table3a_threshold",
    "table3b": "table3b_depth",
    "table3c": "table3c_width_heads", "table3d": "table3d_beta", "table3e": "table3e_mask_source",
    "table3f": "table3f_mask_position", "table7": "table7_width_all_losses", "table8": "table8_shared_decoder",
    "table9": "table9_frame_loss", "table10": "table10_negatives", "table11": "table11_cost",
}  # fmt: skip
CITING = {"table4": "table4_recognition", "table5": "table5_diving48", "table6": "table6_retrieval"}
CITED_COLUMNS = {
    "table4": ["lin/ucf101", "lin/hmdb51", "ft/ucf101", "ft/hmdb51"],
    "table5": ["ft/diving48"],
    "table6": [f"R{k}/{role}" for role in ("ucf101", "hmdb51") for k in (1, 5, 10, 20)],
}
METRICS = {
    "lin": "lin/ucf101", "lin_ucf101": "lin/ucf101", "lin_hmdb51": "lin/hmdb51", "ft": "ft/ucf101",
    "ft_ucf101": "ft/ucf101", "ft_hmdb51": "ft/hmdb51", "parameters_millions": "parameters", "gpu_days": "gpu_days",
}  # fmt: skip
SOURCES = {"rgb": "rgb", "frame difference": "diff", "both": "both"}
POSITIONS = {"no mask": "none", "prediction side": "prediction", "target side": "target", "both": "both"}
NEGATIVES = {98: ("video", 784), 784: ("batch", 784), 1568: ("queue", 784)}


@pytest.fixture(scope="module")
def paper() -> dict[str, Any]:
    if not PAPER.is_file():
        pytest.skip(f"the paper's tables are not at {PAPER}")
    tables: dict[str, Any] = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    return tables


def load(table: str) -> Study:
    return spec.load_study(STUDIES[table])


def expected(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """What the paper's row means in settings, written from the paper and not from the studies."""
    losses = {"vv", "pix", "fra"} if table in ("table7", "table8", "table9") else {"vv", "pix"}
    want: dict[str, Any] = {}
    if table == "table1":
        losses = {name.lower() for name in row["losses"]}
    if "components" in row:
        parts = row["components"]
        want = {"foreground.position": "both" if "FS" in parts else "none", "pixel.decoder": "MD" in parts}
        if not parts:
            losses, want = {"vv", "vd"}, {}
    for key, name in (("threshold", "pixel.threshold"), ("blocks", "decoder.depth"), ("dim", "decoder.width"),
                      ("heads", "decoder.heads"), ("beta", "foreground.beta")):  # fmt: skip
        if key in row:
            want[name] = row[key]
    if "source" in row:
        want["foreground.source"] = SOURCES[row["source"]]
    if "position" in row:
        want["foreground.position"] = POSITIONS[row["position"]]
    if "decoder" in row:
        want["decoder.shared"] = row["decoder"] == "shared"
    if "type" in row:
        want["frame.type"] = row["type"].lower()
    if table == "table10":
        if row["loss"] == "VD":
            losses = {"vv", "vd"}
        else:
            want["pixel.negatives"], want["pixel.queue"] = NEGATIVES[row["negatives"]]
    return {"losses": losses, **want}


def names(table: str, row: dict[str, Any]) -> str:
    """The label of a row of the paper in ours."""
    if table == "table1":
        return " + ".join({"VV": "VV", "VD": "VD", "Pix": "Pix", "Fra": "Fra"}[name] for name in row["losses"])
    if table == "table2":
        return " + ".join(row["components"]) or "none (VV + VD)"
    if table == "table11":
        return " + ".join(row["components"]) or "VD"
    if table == "table3c":
        return f"{row['dim']}, {row['heads']} heads"
    if table == "table10":
        return str(row["negatives"] or "VD")
    if table == "table3e":
        return {"rgb": "RGB"}.get(row["source"], str(row["source"]))
    key = next(name for name in ("threshold", "blocks", "beta", "position", "dim", "decoder", "type") if name in row)
    return str(row[key])


def ablations() -> list[Study]:
    return [spec.load_study(name) for name in STUDIES.values()]


def test_there_are_thirteen_ablations_of_46_rows_and_three_tables_beside_the_literature() -> None:
    found = [spec.load_study(path) for path in spec.study_files()]
    assert sorted(study.study for study in found) == sorted([*STUDIES.values(), *CITING.values()])
    numbers = [int(re.sub(r"\D", "", study.paper["table"])) for study in found]
    assert numbers == sorted(numbers)
    assert sum(len(study.rows) for study in ablations()) == 46
    assert all(study.study == study.path.stem for study in found)


@pytest.mark.parametrize("table", CITING)
def test_cited_lines_are_the_papers(paper: dict[str, Any], table: str) -> None:
    study = spec.load_study(CITING[table])
    assert list(study.metrics) == CITED_COLUMNS[table]
    for ours, theirs in zip(study.cited, paper[table]["rows"], strict=True):
        pretrain = {"table5": "Kinetics-400", "table6": "UCF101"}.get(table) or theirs["pretrain"]
        assert (ours.label, ours.backbone, ours.pretrain) == (theirs["method"], theirs["backbone"], pretrain)
        printed = zip(study.metrics, theirs["values"], strict=True)
        assert ours.paper == {metric: value for metric, value in printed if value is not None}
        if table != "table6":  # which prints neither; those of FIMA are in the text
            assert (ours.frames, ours.resolution) == (theirs.get("frames"), theirs["res"])
        assert ours.note == {"linear": "linear probe reproduced by Zhu et al.", "all": "reproduced by Zhu et al."}.get(
            theirs.get("reproduced", ""), ""
        )
    peers = {"BE": (("vv",), 0.3, 1.0), "FAME": (("vv",), 0.0, 0.5), "FIMA": (("vv", "pix", "fra"), 0.0, 1.0)}
    for row in study.rows:
        settings = spec.resolve(study, row, spec.load_profile("ucf101-i3d")).settings
        assert (settings.losses, settings.augment.static, settings.augment.kept) == peers[row.label]
    assert [row.default for row in study.rows] == [row.label == "FIMA" for row in study.rows]


@pytest.mark.parametrize("table", CITING)
def test_their_claims_are_the_papers_words_and_hold_of_its_numbers(table: str) -> None:
    study = spec.load_study(CITING[table])
    if not PAPER.is_file():
        pytest.skip(f"the paper is not at {PAPER}")
    words = " ".join(PAPER.with_name("fima_paper.txt").read_text(encoding="utf-8").split()).replace(r"\times", "x")
    for claim in study.claims:
        assert claim.says.partition(" (")[0] in words or "R(2+1)D" in claim.says
        own = literature_of(study, "ucf101-i3d" if table != "table5" else "mini")
        better = claim.better or claim.best
        assert better == "FIMA"
        others = [row.label for row in study.rows if row.label != better and claim.metric in own[row.label]]
        assert all(own[better][claim.metric] > own[label][claim.metric] for label in claim.worse or others)


def literature_of(study: Study, profile: str) -> dict[str, dict[str, float]]:
    """What stands beside each row under a profile."""
    chosen = spec.load_profile(profile)
    rows = [
        SimpleNamespace(study=study, row=row, resolved=spec.resolve(study, row, chosen, ["data.root=/nowhere"]))
        for row in study.rows
    ]
    return {row.row.label: dict(literature.values(row, chosen)) for row in rows}  # type: ignore[arg-type]


def test_all_means_what_a_profile_measures() -> None:
    """Nobody needs Diving48 for the ablations on UCF101: Table 5 is of Kinetics-400."""
    studies = [spec.load_study(path) for path in spec.study_files()]
    for name in ("debug", "demo", "mini", "kinetics400-i3d", "kinetics400-r2plus1d"):
        assert planning.measured(studies, spec.load_profile(name)) == studies
    left = planning.measured(studies, spec.load_profile("ucf101-i3d"))
    assert {study.study for study in studies} - {study.study for study in left} == {"table5_diving48"}


def test_rows_take_the_line_of_their_recipe() -> None:
    study = spec.load_study("table4_recognition")
    linear = {
        name: literature_of(study, name)["FIMA"]["lin/ucf101"]
        for name in ("ucf101-i3d", "ucf101-r2plus1d", "kinetics400-i3d", "kinetics400-r2plus1d", "demo")
    }
    assert list(linear.values()) == [
        75.3,
        71.2,
        76.4,
        73.1,
        75.3,
    ]  # a reduced one is held against the ablations' recipe
    assert literature_of(study, "ucf101-r2plus1d")["BE"] == {}  # not printed
    diving = spec.load_study("table5_diving48")
    assert literature_of(diving, "kinetics400-r2plus1d") == {"BE": {}, "FAME": {}, "FIMA": {"ft/diving48": 74.7}}
    assert literature_of(diving, "mini") == {
        "BE": {"ft/diving48": 62.4}, "FAME": {"ft/diving48": 72.9}, "FIMA": {"ft/diving48": 74.7},
    }  # fmt: skip


@pytest.mark.parametrize("table", STUDIES)
def test_rows_numbers_and_defaults_are_the_papers(paper: dict[str, Any], table: str) -> None:
    study, printed = load(table), paper[table]
    columns = [METRICS[column] for column in printed["columns"]]
    assert sorted(study.metrics) == sorted(columns)
    assert study.paper["table"] == table.removeprefix("table")
    assert [row.label for row in study.rows] == [names(table, row) for row in printed["rows"]]
    profile = spec.load_profile("ucf101-i3d")
    for ours, theirs in zip(study.rows, printed["rows"], strict=True):
        assert ours.paper == dict(zip(columns, theirs["values"], strict=True)), ours.label
        assert ours.default == theirs.get("default", False), ours.label
        settings = spec.resolve(study, ours, profile).settings
        want = expected(table, theirs)
        assert set(settings.losses) == want.pop("losses"), ours.label
        for name, value in want.items():
            group, _, field = name.partition(".")
            assert getattr(getattr(settings, group), field) == value, (ours.label, name)


@pytest.mark.parametrize("table", STUDIES)
def test_claims_are_the_papers(paper: dict[str, Any], table: str) -> None:
    ours = load(table).claims
    theirs = [dict(claim) for claim in paper["claims"].get(table, [])]
    if table == "table11":  # 1.102 is what all three components cost; the decoder's +7.0 % is 3.78 of DC + FS's 3.54
        words, costs = theirs[1]["text"], theirs[1]
        costs["text"] = "All three components cost +10.2 % of VD's time"
        theirs[1:] = [{**costs, "text": f"{words}, which is 6.8 % of DC + FS's", "ratio": ["DC+FS+MD", "DC+FS"],
                       "value": 1.068}, costs]  # fmt: skip
    if table == "table3c":  # "8 heads are worse than 4, at either width" is one claim at each width
        assert [(c.metric, c.better, c.worse) for c in ours] == [
            ("lin/ucf101", f"{width}, 4 heads", (f"{width}, 8 heads",)) for width in (256, 512)
        ]
        assert all(claim.says.startswith("8 heads are worse than 4, at ") for claim in ours)
        return

    def label(name: Any) -> str:
        """A row as a claim of the paper names it: a list of parts, its value, or parts joined by +."""
        if isinstance(name, list):
            return " + ".join(name) or "none (VV + VD)"
        return " + ".join(str(name).split("+"))

    assert len(ours) == len(theirs)
    for mine, printed in zip(ours, theirs, strict=True):
        assert mine.says == printed["text"]
        assert mine.metric == METRICS[printed["metric"]]
        worse = printed.get("worse", [])
        many = isinstance(worse, list) and worse and isinstance(worse[0], list)
        below = tuple(label(name) for name in (worse if many else [worse])) if "worse" in printed else ()
        assert mine.best == (label(printed["best"]) if "best" in printed else None)
        assert mine.worst == (label(printed["worst"]) if "worst" in printed else None)
        assert mine.better == (label(printed["better"]) if "better" in printed else None)
        assert mine.worse == below
        assert mine.equal == tuple(label(name) for name in printed.get("equal", []))
        assert mine.ratio == (tuple(label(name) for name in printed["ratio"]) if "ratio" in printed else None)
        assert mine.value == printed.get("value")


def test_the_papers_own_numbers_hold_its_claims(paper: dict[str, Any]) -> None:
    """A claim with its rows swapped would fail here. `equal` asks for a margin, which is the report's affair."""
    for table in STUDIES:
        study = load(table)
        for claim in study.claims:
            value = {row.label: row.paper[claim.metric] for row in study.rows if claim.metric in row.paper}
            if claim.best:
                assert value[claim.best] == max(value.values()), claim.says
            if claim.worst:
                assert value[claim.worst] == min(value.values()), claim.says
            if claim.better:
                assert all(value[claim.better] > value[label] for label in claim.worse), claim.says
            if claim.ratio and claim.value:
                first, second = claim.ratio
                assert value[first] / value[second] == pytest.approx(claim.value, abs=5e-4)


@pytest.mark.parametrize("profile", ["debug", "demo", "mini", "ucf101-i3d", "ucf101-r2plus1d"])
def test_46_rows_need_28_pretrainings_a_seed(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "fingerprint", lambda data, pretraining=False: data.model_dump_json(exclude={"root"}))
    planned = planning.build(ablations(), spec.load_profile(profile))
    counts = planned.summary()
    assert (counts["rows"], counts["pretrainings"]) == (46, 28)
    assert counts["pretrainings_total"] == 28 * len(planned.seeds)
    assert counts["pretrainings_without_sharing"] == 46 * len(planned.seeds)
    defaults = {row.pretrain[0] for row in planned.rows if row.row.default}
    assert len(defaults) == 2  # VV + Pix, and all losses: the default rows of all tables are the same two experiments


def test_every_distinct_pretraining_of_the_studies_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all sixteen ask of the method, at debug scale, in this process."""
    monkeypatch.setattr(pretrain.cost, "sizes", lambda settings: {})  # half the time, and test_cost.py's
    store = Store(tmp_path / "runs")
    studies = [spec.load_study(path) for path in spec.study_files()]
    plan = planning.build(studies, spec.load_profile("debug"), metrics=["lin/ucf101"])
    chosen = [stage for stage in plan.stages.values() if stage.kind == "pretrain"]
    assert len(studies) == 16 and len(chosen) == 30
    for stage in chosen:
        store.prepare(stage)
        found = stages.execute(stage, store, 0, lambda *_: None)
        asked = set(stage.config["settings"]["losses"])
        assert set(found["final"]) == {"loss", "lr", *asked} and found["steps"] == 2
        assert all(map(math.isfinite, found["final"].values()))
        assert (store.folder(stage.uid) / "checkpoint.pt").is_file()


def test_on_kinetics_the_row_of_784_negatives_is_an_experiment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "fingerprint", lambda data, pretraining=False: data.name)
    planned = planning.build(ablations(), spec.load_profile("kinetics400-i3d"))
    assert planned.summary()["pretrainings"] == 29
    by_label = {row.row.label: row.resolved.settings.pixel for row in planned.rows if "negatives" in row.study.study}
    assert by_label["784"].negatives == "batch"
    assert (by_label["1568"].negatives, by_label["1568"].queue) == ("queue", 784)
    default = next(row for row in planned.rows if row.study.study == "table3d_beta" and row.row.default)
    assert (default.resolved.settings.pixel.negatives, default.resolved.settings.pixel.queue) == ("queue", 31360)


def resolved(profile: str) -> spec.Resolved:
    study = spec.load_study("table1_losses")
    return spec.resolve(study, study.rows[-1], spec.load_profile(profile))


def test_the_paper_profile_is_the_defaults_of_the_method() -> None:
    found = resolved("ucf101-i3d")
    assert found.settings == Settings(losses=("vv", "pix", "fra"))
    assert found.linear["ucf101"] == found.linear["hmdb51"] == Linear.model_validate({})
    assert found.finetune["ucf101"] == Finetune.model_validate({})
    assert found.finetune["hmdb51"] == Finetune.model_validate({"dropout": 0.5})
    assert found.retrieval == Retrieval.model_validate({})
    assert [(data.name, data.fold, data.decoded) for data in found.data.values()] == [
        ("ucf101", 1, "stream"), ("ucf101", 1, "stream"), ("hmdb51", 1, "stream"), ("diving48", 1, "stream"),
    ]  # fmt: skip


@pytest.mark.parametrize("backbone", ["i3d", "r2plus1d"])
@pytest.mark.parametrize("data", ["ucf101", "kinetics400"])
def test_paper_profiles_differ_as_the_paper_says(data: str, backbone: str) -> None:
    found = resolved(f"{data}-{backbone}")
    settings, optim = found.settings, found.settings.optim
    assert (settings.backbone.name, settings.augment.size) == (backbone, {"i3d": 224, "r2plus1d": 112}[backbone])
    recipe = (optim.epochs, optim.batch, optim.lr, settings.contrast.queue, settings.frame.queue)
    assert recipe == {"ucf101": (200, 24, 0.00375, 2048, 2048), "kinetics400": (100, 64, 0.01, 65536, 65536)}[data]
    assert (optim.name, optim.momentum, optim.weight_decay, optim.schedule, optim.warmup) == (
        "sgd", 0.9, 1e-4, "cosine", 0,
    )  # fmt: skip
    assert found.data["pretrain"].name == data
    assert [found.data[role].name for role in spec.TESTED] == ["ucf101", "hmdb51", "diving48"]
    assert not spec.load_profile(f"{data}-{backbone}").reduced


@pytest.mark.parametrize(("profile", "side"), [("debug", 4), ("demo", 6), ("mini", 6)])
def test_small_profiles_keep_the_proportions_of_table_10(profile: str, side: int) -> None:
    study, small = spec.load_study("table10_negatives"), spec.load_profile(profile)
    assert small.reduced and small.scale.startswith("reduced")
    out = spec.resolve(study, study.rows[-1], small)
    own = 2 * side * side  # pixels of one video's feature map
    assert out.settings.pixel.queue == out.settings.pixel.group * own  # the queue holds one more group, as in the paper
    assert [(s.name, s.paper, s.value) for s in out.scaled] == [("pixel.queue", 784, out.settings.pixel.queue)]
    assert out.settings.optim.batch % out.settings.pixel.group == 0
    assert f"{own} / {8 * own} / {16 * own}" in small.scale


def test_mini_is_demo_with_more_steps_seeds_and_fine_tuning() -> None:
    demo, mini, half, twice = (spec.load_profile(name) for name in ("demo", "mini", "mini-200", "mini-800"))
    for profile, steps in ((mini, 400), (half, 200), (twice, 800)):
        settings = {name: node.value for name, node in profile.settings.items()}
        assert settings == {name: node.value for name, node in demo.settings.items()} | {"optim.steps": steps}
    assert (demo.data, demo.linear, demo.rule) == (mini.data, mini.linear, mini.rule)
    still = spec.load_profile("mini-stationary")
    assert (still.settings, still.references) == (mini.settings, mini.references)
    for profile in (still, half, mini, twice):
        assert profile.seeds == tuple(range(len(profile.seeds)))
    assert {layer["embedded.set"].value for layer in still.data.values()} == {"stationary"}
    assert len(mini.seeds) >= 5 and "ft/ucf101" in mini.metrics and "ft/ucf101" not in demo.metrics
    assert resolved("demo").data["hmdb51"].embedded.domain == "transfer"
    assert resolved("demo").data["pretrain"] == resolved("demo").data["ucf101"]


def test_heads_of_studies_say_cost_numbers_and_command() -> None:
    for path in spec.study_files():
        head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        text = "\n".join(head)
        assert f"fima-ablate run studies/{path.name}" in text and "Cost on the paper's scale" in text
        assert "Expected there" in text and "of the FIMA paper" in text
