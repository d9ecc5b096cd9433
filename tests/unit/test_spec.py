"""Studies, profiles and overrides: what they mean, and that every mistake is one line with place, law and way out."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations import schema, spec, sweep
from ablations.located import parse
from ablations.spec import SpecError
from fima.config import Settings

CITED = "cited:\n  - {label: X, backbone: I3D, frames: 16, pretrain: UCF101, paper: {lin/ucf101: 50}}"
STUDY = """\
study: mine
title: My study
base: {losses: [vv, pix]}
metrics: [lin/ucf101, parameters]
rows:
  - {label: a, set: {foreground.beta: 0.3}, paper: {lin/ucf101: 70.1}}
  - {label: b, default: true}
claims:
  - {says: b wins, metric: lin/ucf101, best: b}
"""


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        spec.load_study(write(folder, text))
    return str(caught.value)


def test_a_study_is_read(tmp_path: Path) -> None:
    study = spec.load_study(write(tmp_path, STUDY))
    assert [row.label for row in study.rows] == ["a", "b"]
    assert study.rows[0].set == {"foreground.beta": 0.3}
    assert study.rows[0].paper == {"lin/ucf101": 70.1}
    assert [row.default for row in study.rows] == [False, True]
    assert study.claims[0].best == "b" and study.claims[0].labels == ("b",)
    assert study.seeds is None and study.paper == {}


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("foreground.beta: 0.3", "foreground.betta: 0.3", 6,
         ["foreground.betta is not a setting; foreground has beta, position, source.", "Did you mean beta?"]),
        ("foreground.beta: 0.3", "beta: 0.3", 6, ["beta is not a setting", "Did you mean foreground.beta?"]),
        ("foreground.beta: 0.3", "foregroud.beta: 0.3", 6, ["foregroud.beta is not a setting", "foreground"]),
        ("foreground.beta: 0.3", "foreground.beta: 1.5", 6, ["foreground.beta must be at most 1, got 1.5"]),
        ("foreground.beta: 0.3", "foreground.beta: 0", 6, ["foreground.beta must be greater than 0, got 0"]),
        ("foreground.beta: 0.3", "foreground.beta: .nan", 6, ["finite"]),
        ("foreground.beta: 0.3", "foreground.beta: high", 6, ["foreground.beta must be a number, got high"]),
        ("foreground.beta: 0.3", "decoder.heads: true", 6, ["decoder.heads must be a whole number, got true"]),
        ("foreground.beta: 0.3", "decoder.heads: 2.5", 6, ["decoder.heads must be a whole number, got 2.5"]),
        ("foreground.beta: 0.3", "decoder.shared: yes", 6, ["decoder.shared must be true or false, got yes"]),
        ("foreground.beta: 0.3", "foreground.source: rbg", 6,
         ["foreground.source must be one of rgb, diff, both, got rbg.", "Did you mean rgb?"]),
        ("foreground.beta: 0.3", "foreground: 0.3", 6, ["foreground is a group of settings", "foreground.beta"]),
        ("foreground.beta: 0.3", "foreground: {beta: 0.3}, foreground.beta: 0.4", 6, ["beta is given twice"]),
        ("label: b", 'label: "b\\nc"', 7, ["label must be one line of printable text"]),
        ("title: My study", "title:", 2, ["title must be text, got null"]),
        ("[vv, pix]", "[vv, pxi]", 3, ["losses must be one of vv, vd, pix, fra, got pxi.", "Did you mean pix?"]),
        ("[vv, pix]", "vv", 3, ["losses must be a list, got vv"]),
        ("[vv, pix]", "[]", 3, ["losses must hold at least 1, got []"]),
        ("label: b", "label: a", 7, ["the label a is taken by the row in line 6"]),
        ("label: b", "lable: b", 7, ["lable is not a key of a row", "Did you mean label?"]),
        ("label: b,", "", 7, ["a row needs label"]),
        ("label: a,", "label: a, default: true,", 7, ["the default row is a already (line 6)"]),
        ("default: true", "default: 1", 7, ["default must be true or false, got 1"]),
        ("best: b", "best: c", 9, ["no row is labelled c; rows are a, b."]),
        ("best: b", "bst: b", 9, ["bst is not a key of a claim", "Did you mean best?"]),
        ("best: b", "best: b, worst: a", 9, ["exactly one of best, worst", "got best, worst"]),
        ("best: b", "better: b", 9, ["better needs worse"]),
        ("best: b", "better: b, worse: [b]", 9, ["compares different rows"]),
        ("best: b", "equal: [a]", 9, ["equal takes two labels"]),
        ("best: b", "ratio: [a, b]", 9, ["ratio needs value"]),
        ("best: b", "best: b, value: 2", 9, ["value belongs to ratio, not to best"]),
        ("best: b", "ratio: [a, b], value: 0", 9, ["the value of a ratio must be above 0, got 0"]),
        ("metric: lin/ucf101", "metric: lin/hmdb51", 9, ["lin/hmdb51 is not a metric", "lin/ucf101, parameters"]),
        ("[lin/ucf101, parameters]", "[lin/ucf1O1]", 4, ["lin/ucf1O1 is not a metric", "Did you mean lin/ucf101?"]),
        ("[lin/ucf101, parameters]", "[]", 4, ["metrics must be one or more"]),
        ("lin/ucf101: 70.1", "lin/hmdb51: 70.1", 6, ["lin/hmdb51 is not among the study's metrics"]),
        ("lin/ucf101: 70.1", "lin/ucf101: good", 6, ["paper.lin/ucf101 must be a number, got good"]),
        ("title: My study", "titel: My study", 2, ["titel is not a key of a study", "Did you mean title?"]),
        ("title: My study", "title: My study\nseeds: [0, 0]", 3, ["seeds must be different whole numbers", "[0, 0]"]),
        ("title: My study", "title: My study\nseeds: [4294967296]", 3, ["from 0 to 4294967295", "[4294967296]"]),
        ("title: My study", "title: My study\ntitle: Again", 3, ["title is given twice, first in line 2"]),
        ("title: My study", "title: [a", 3, []),
        ("title: My study", "title: !!python/object:os.system x", 2, ["is no plain value"]),
        ("study: mine", "study: ../mine", 1, ["letters, digits", "../mine"]),
        ("study: mine\n", "", 1, ["a study needs study"]),
        ("  - {label: b", "\t- {label: b", 7, ["a tab; YAML is indented with spaces"]),
        ("title: My study", "title: My study\nlabel: x", 3, ["neither"]),
        ("title: My study", f"title: My study\n{CITED}\n{CITED[7:]}", 5, ["X with I3D on UCF101 is cited in line 4"]),
        ("title: My study", f"title: My study\n{CITED.replace('lin', 'ft')}", 4, ["ft/ucf101 is not among the"]),
        ("title: My study", f"title: My study\n{CITED.replace('16', '1.5')}", 4, ["frames must be a whole number"]),
        ("title: My study", f"title: My study\n{CITED.replace('frames', 'frame')}", 4, ["Did you mean frames?"]),
        ("title: My study", f"title: My study\n{CITED.replace('X', 'a')}", 8,
         ["the row a takes its printed numbers from `cited`; remove its paper"]),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_at_its_place(
    tmp_path: Path, old: str, new: str, line: int, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in STUDY
    monkeypatch.chdir(tmp_path)
    message = complaint(tmp_path, STUDY.replace(old, new, 1))
    assert message.startswith(f"x.yaml:{line}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_misspelt_setting_reads_exactly_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = complaint(tmp_path, STUDY.replace("foreground.beta", "foreground.betta"))
    assert message == (
        "x.yaml:6: foreground.betta is not a setting; foreground has beta, position, source. Did you mean beta?"
    )


def test_no_rows_not_a_mapping_and_no_text(tmp_path: Path) -> None:
    head = "study: mine\ntitle: t\nmetrics: [parameters]\n"
    assert "needs rows, a grid or a zip" in complaint(tmp_path, head)
    assert "needs rows, a grid or a zip" in complaint(tmp_path, head + "rows: []\n")
    assert "must be a mapping" in complaint(tmp_path, "- 1\n- 2\n")
    assert "got nothing" in complaint(tmp_path, "")
    assert "alias" in complaint(tmp_path, "study: &a [*a]\n")
    path = tmp_path / "latin.yaml"
    path.write_bytes("title: é".encode("latin-1"))
    with pytest.raises(SpecError, match="not UTF-8"):
        spec.load_study(path)


def test_a_missing_study_or_profile_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no such study; there are table1_losses.*Did you mean table3d_beta\?"):
        spec.find_study("studies/table3d_bta.yaml")
    with pytest.raises(SpecError, match=r"no such study; there are .*, bias, figures, steps\. Did you mean bias\?$"):
        spec.find_study("bais")
    with pytest.raises(SpecError, match=r"no profile demmo; there are debug, demo.*Did you mean demo\?"):
        spec.load_profile("demmo")
    assert spec.find_study("table3d_beta") == spec.find_study("studies/table3d_beta")
    assert spec.find_study("embedded/bias.yaml") == spec.find_study("bias")
    with pytest.raises(SpecError, match=r"^mine/table3d_beta\.yaml: no such study"):
        spec.find_study("mine/table3d_beta.yaml")
    with pytest.raises(SpecError, match=r"^: no such study"):
        spec.find_study("")
    with pytest.raises(SpecError, match=r"no such sweep; there are beta_threshold.*Did you mean losses\?"):
        sweep.find_sweep("sweeps/loses.yaml")


def test_numbers_and_words_are_read_as_yaml_1_2() -> None:
    node = parse("{a: 1e-4, b: on, c: 2020-01-01, d: 0.30, e: ~, f: -3, g: 1:30, h: true, i: none}", "x")
    assert node.plain() == {
        "a": 1e-4, "b": "on", "c": "2020-01-01", "d": 0.3, "e": None, "f": -3, "g": "1:30", "h": True, "i": "none",
    }  # fmt: skip
    assert node.value["d"].text == "0.30"
    merged = parse("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", "x").plain()
    assert merged["b"] == {"p": 1, "q": 3}


# --- Generated rows -----------------------------------------------------------------------------------------------

GRID = """\
study: g
title: t
metrics: [lin/ucf101]
"""


def test_a_grid_is_the_product_and_rows_add_to_it_by_label(tmp_path: Path) -> None:
    study = spec.load_study(write(tmp_path, GRID + """\
grid: {decoder.width: [256, 512], decoder.heads: [4, 8]}
rows:
  - {label: "width 512, heads 4", default: true, paper: {lin/ucf101: 73.1}}
  - {label: other, set: {decoder.depth: 3}}
"""))  # fmt: skip
    assert [row.label for row in study.rows] == [
        "width 256, heads 4", "width 256, heads 8", "width 512, heads 4", "width 512, heads 8", "other",
    ]  # fmt: skip
    assert study.rows[2].default and study.rows[2].paper == {"lin/ucf101": 73.1}
    assert study.rows[2].set == {"decoder.width": 512, "decoder.heads": 4}


def test_zip_goes_in_parallel_and_crosses_the_grid(tmp_path: Path) -> None:
    study = spec.load_study(write(tmp_path, GRID + """\
grid: {losses: [[vv, pix], [vv, pix, fra]]}
zip: {decoder.width: [256, 512], decoder.heads: [4, 8]}
label: "{losses}: {decoder.width}/{decoder.heads}"
"""))  # fmt: skip
    assert [row.label for row in study.rows] == ["vv+pix: 256/4", "vv+pix: 512/8", "vv+pix+fra: 256/4",
                                                 "vv+pix+fra: 512/8"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("zip: {decoder.width: [256, 512], decoder.heads: [4]}", "equally long, got decoder.width 2, decoder.heads 1"),
        ("grid: {decoder.width: 256}", "must be a list"),
        ("grid: {decoder.width: []}", "at least one value"),
        ("grid: {decoder.width: [256, 512]}\nlabel: same", "two generated rows have the label same"),
        ('grid: {decoder.width: [256]}\nlabel: "{decoder.with}"', "Did you mean decoder.width?"),
        ("grid: {decoder.width: [256]}\nzip: {decoder.width: [256]}", "both grid and zip"),
        ("grid: {decoder.width: [256, 512]}\nrows: [{label: '255'}]", "no generated row is labelled 255"),
        ("grid: {decoder.width: [0]}", "decoder.width must be at least 1, got 0"),
    ],
)
def test_mistakes_in_a_grid(tmp_path: Path, text: str, part: str) -> None:
    assert part in complaint(tmp_path, GRID + text + "\n")


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6, unique=True),
       st.lists(st.floats(0.1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=4, unique=True))  # fmt: skip
def test_a_grid_has_every_combination_once(
    tmp_path_factory: pytest.TempPathFactory, a: list[int], b: list[float]
) -> None:
    path = tmp_path_factory.mktemp("grid") / "g.yaml"
    path.write_text(GRID + f"grid: {{contrast.queue: {a}, foreground.beta: {b}}}\n")
    rows = spec.load_study(path).rows
    combinations = {(row.set["contrast.queue"], row.set["foreground.beta"]) for row in rows}
    assert combinations == {(x, y) for x in a for y in b} and len(rows) == len(combinations)
    assert len({row.label for row in rows}) == len(rows)


# --- Layers -------------------------------------------------------------------------------------------------------


def resolved(tmp_path: Path, text: str, *overrides: str, profile: str = "debug", row: int = 0) -> spec.Resolved:
    study = spec.load_study(write(tmp_path, text))
    return spec.resolve(study, study.rows[row], spec.load_profile(profile), overrides)


def test_layers_win_in_order(tmp_path: Path) -> None:
    text = STUDY.replace("[vv, pix]}", "[vv, pix], foreground.beta: 0.6, decoder.depth: 3}")
    assert resolved(tmp_path, text, row=1).settings.foreground.beta == 0.6  # base over default
    out = resolved(tmp_path, text)
    assert out.settings.foreground.beta == 0.3  # row over base
    assert out.settings.decoder.depth == 3
    assert out.settings.augment.size == 32  # profile over default
    assert out.settings.contrast.temperature == 0.1  # default
    assert resolved(tmp_path, text, "foreground.beta=0.9").settings.foreground.beta == 0.9
    assert resolved(tmp_path, text, "foreground={beta: 0.8, source: rgb}").settings.foreground.source == "rgb"
    assert resolved(tmp_path, text, "losses=[vv, fra]").settings.losses == ("vv", "fra")


def test_the_rule_scales_what_the_study_states_and_nothing_else(tmp_path: Path) -> None:
    text = STUDY.replace("foreground.beta: 0.3", "decoder.width: 512")
    out = resolved(tmp_path, text)
    assert out.settings.decoder.width == 128
    assert out.scaled == (spec.Scaled("decoder.width", 512, 128),)
    plain = resolved(tmp_path, text, row=1)
    assert plain.settings.decoder.width == 128 and plain.scaled == ()  # the profile's own value is no paper value
    literal = resolved(tmp_path, text, "decoder.width=64")
    assert literal.settings.decoder.width == 64 and literal.scaled == ()
    paper = resolved(tmp_path, text, profile="ucf101-i3d")
    assert paper.settings.decoder.width == 512 and paper.scaled == ()


def test_a_rule_that_gives_no_whole_number_says_what_would(tmp_path: Path) -> None:
    text = STUDY.replace("foreground.beta: 0.3", "decoder.width: 258")
    with pytest.raises(SpecError, match=r"x\.yaml:6: decoder\.width 258 times the rule 1/4.*is 64\.5.*multiple of 4"):
        resolved(tmp_path, text)


def test_laws_between_settings_are_told_at_the_value_that_breaks_them(tmp_path: Path) -> None:
    text = STUDY.replace("foreground.beta: 0.3", "decoder.heads: 5")
    with pytest.raises(SpecError, match=r"x\.yaml:6: decoder: width must be a multiple of heads"):
        resolved(tmp_path, text)
    with pytest.raises(SpecError, match=r"^override decoder\.heads=5: decoder: width must be a multiple of heads"):
        resolved(tmp_path, STUDY, "decoder.heads=5")
    with pytest.raises(SpecError, match="each loss once"):
        resolved(tmp_path, STUDY, "losses=[vv, vv]")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("foo.bar=3", "foo.bar is not a setting; there are losses"),
        ("foreground.beta=2", "foreground.beta must be at most 1, got 2"),
        ("foreground.beta", "must be KEY=VALUE"),
        ("foreground.beta=", "no value is given; foreground.beta=null unsets what may be unset"),
        ("foreground.beta=null", "foreground.beta must be a number, got null"),
        ("foreground.beta=[", ""),
        ("optim.batch=0", "optim.batch must be at least 1, got 0"),
        ("data.nmae=folder", "data.nmae is not a field"),
        ("data.ucf101.name=ucf11", "data.ucf101.name must be one of ucf101"),
        ("data.pretrain=3", "must be a mapping"),
        ("linear.clips=0", "linear.clips must be at least 1, got 0"),
        ("linear.clip=3", "Did you mean clips?"),
        ("hmdb51.finetune.dropout=1", "finetune.dropout must be less than 1, got 1"),
        ("pretrain.finetune.clips=1", "the role pretrain has data.pretrain"),
        ("ucf101.clips=1", "the role ucf101 has ucf101.linear and ucf101.finetune"),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path: Path, override: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolved(tmp_path, STUDY, override)
    message = str(caught.value)
    assert message.startswith(f"override {override}: ") and part in message and "\n" not in message


def test_overrides_reach_data_and_protocols(tmp_path: Path) -> None:
    out = resolved(
        tmp_path,
        STUDY,
        "data.limit=5",
        "data.hmdb51.limit=2",
        "data.pretrain.embedded.train=20",
        "linear.clips=7",
        "hmdb51.finetune.dropout=0.1",
        "finetune.optim.lr=1e-3",
        "retrieval.clips=9",
    )
    assert [out.data[role].limit for role in spec.ROLES] == [5, 5, 2, 5]
    assert out.data["pretrain"].embedded.train == 20 and out.data["ucf101"].embedded.train == 16
    assert out.linear["ucf101"].clips == out.linear["hmdb51"].clips == 7
    assert out.finetune["hmdb51"].dropout == 0.1 and out.finetune["ucf101"].dropout == 0.5
    assert out.finetune["ucf101"].optim.lr == 1e-3
    assert out.finetune["ucf101"].optim.name == "adamw"  # the profile's, not the default's
    assert out.retrieval.clips == 9


def test_what_a_role_has_of_its_own_is_kept() -> None:
    study = spec.load_study("table1_losses")
    out = spec.resolve(study, study.rows[0], spec.load_profile("ucf101-i3d"))
    assert (out.finetune["ucf101"].dropout, out.finetune["hmdb51"].dropout) == (0.7, 0.5)


def test_roots_go_to_the_roles_they_name(tmp_path: Path) -> None:
    (tmp_path / "UCF101").mkdir()
    (tmp_path / "own").mkdir()
    study = spec.load_study("table1_losses")
    profile = spec.load_profile("ucf101-i3d")

    def roots(*given: str, overrides: tuple[str, ...] = ()) -> list[Path | None]:
        out = spec.resolve(study, study.rows[0], spec.apply_roots(profile, given), overrides)
        return [out.data[role].root for role in spec.ROLES[:3]]

    inside, own = tmp_path / "UCF101", tmp_path / "own"
    assert roots() == [None, None, None]
    assert roots(str(tmp_path)) == [inside, inside, tmp_path]
    assert roots(str(tmp_path), f"hmdb51={own}") == [inside, inside, own]
    assert roots(f"pretrain={own}") == [own, None, None]
    assert roots(f"ucf101={own}") == [own, own, None]  # the data set of that name, whatever its role
    assert roots(str(own), overrides=(f"data.hmdb51.root={inside}",)) == [own, own, inside]
    assert roots(overrides=(f"data.root={own}", "data.hmdb51.name=folder")) == [own, own, own]
    with pytest.raises(SpecError, match="no such folder"):
        spec.apply_roots(profile, [str(tmp_path / "nowhere")])
    with pytest.raises(SpecError, match=r"no role and no data set is named ufc101.*Did you mean ucf101"):
        spec.apply_roots(profile, [f"ufc101={own}"])


def test_embedded_data_take_no_root_and_a_new_name_drops_the_old_one(tmp_path: Path) -> None:
    study = spec.load_study("table1_losses")
    demo = spec.apply_roots(spec.load_profile("demo"), [str(tmp_path)])
    out = spec.resolve(study, study.rows[0], demo)
    assert {data.root for data in out.data.values()} == {None}
    mine = spec.resolve(study, study.rows[0], demo, ["data.pretrain.name=folder"])
    assert mine.data["pretrain"].root == tmp_path
    assert (mine.data["pretrain"].decoded, mine.data["ucf101"].decoded) == ("stream", "memory")


# --- Profiles -----------------------------------------------------------------------------------------------------


def test_a_profile_extends_another(tmp_path: Path) -> None:
    path = write(tmp_path, "profile: mine\nextends: demo\ntitle: t\nscale: s\nsettings: {optim.steps: 7}\n"
                           "rule: {frame.queue: 0.5}\n")  # fmt: skip
    mine, demo = spec.load_profile(str(path)), spec.load_profile("demo")
    assert mine.settings["optim.steps"].value == 7
    assert {**mine.settings, "optim.steps": None} == {**demo.settings, "optim.steps": None}
    assert mine.rule == {**demo.rule, "frame.queue": Fraction(1, 2)}
    assert (mine.reduced, mine.seeds, mine.metrics) == (demo.reduced, demo.seeds, demo.metrics)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("extends: demmo", "x.yaml:4: no profile demmo; there are"),
        ("extends: x.yaml", "cannot extend itself"),
        ("reduced: true", "needs seeds"),
        ("extends: demo\nrule: {losses: 1/2}", "losses is no number"),
        ("extends: demo\nrule: {decoder.width: 1/0}", "x.yaml:5: rule: decoder.width must be a fraction above 0"),
        ("extends: demo\nrule: {decoder.width: -1}", "must be a fraction above 0, such as 1/4, got -1"),
        ("extends: demo\nsettings: {augment.sise: 3}", "Did you mean size?"),
        ("extends: demo\nsettings: {augment.size: 3}", "x.yaml:5: augment.size must be at least 8, got 3"),
        ("extends: demo\ndata: {ucf102: {}}", "Did you mean ucf101?"),
        ("extends: demo\ndata: {ucf101: {fold: 9}}", "data.ucf101.fold must be at most 3, got 9"),
        ("extends: demo\nlinear: {protocol: svm}", "linear.protocol must be one of sgd, logistic, got svm"),
        ("extends: demo\nroles: {hmdb51: {retrieval: {}}}", "retrieval is not a key of roles.hmdb51"),
        ("extends: demo\nseeds: 3", "seeds must be different whole numbers"),
    ],
)
def test_mistakes_in_a_profile(tmp_path: Path, text: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, f"profile: mine\ntitle: t\nscale: s\n{text}\n")
    with pytest.raises(SpecError) as caught:
        spec.load_profile("x.yaml")
    assert part in str(caught.value) and "\n" not in str(caught.value)


# --- Schemas ------------------------------------------------------------------------------------------------------


def test_the_json_schemas_are_current() -> None:
    for path, content in schema.files().items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name} is old: python -m ablations.schema"
        json.loads(content)


def test_the_schema_names_every_setting() -> None:
    from ablations.dotted import fields

    names = set(schema.study()["$defs"]["settings"]["properties"])
    assert set(fields(Settings)) <= names and set(Settings.model_fields) <= names


def test_every_yaml_points_at_its_schema() -> None:
    for path in (*spec.study_files(), *spec.profile_files(), *sweep.sweep_files()):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found = first.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / found).is_file() and found != first, path
