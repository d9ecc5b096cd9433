"""What README shows must work: its study loads, its commands parse, its files exist."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats
from typer.main import get_command

from ablations import cli, spec, sweep
from ablations.commands import train
from fima import pretrain
from fima.config import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What --help shows: of the tool, and of each of its commands.
HELP = {name: found.help or "" for name, found in get_command(cli.app).commands.items()}  # type: ignore[attr-defined]
HELP["fima-ablate"] = cli.app.info.help or ""
COMMANDS = [
    line.partition("#")[0].strip()
    for text in (README, *HELP.values())
    for line in text.replace("\\\n", " ").splitlines()
    if line.strip().startswith("fima-ablate ")
]


BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def test_the_study_is_one(tmp_path: Path) -> None:
    (text,) = (block for block in BLOCKS if "\nstudy: " in block)
    path = tmp_path / "my_temperature.yaml"
    path.write_text(text, encoding="utf-8")
    study = spec.load_study(path)
    assert [row.label for row in study.rows] == ["0.05", "0.1", "0.2"]
    assert [row.default for row in study.rows] == [False, True, False]


def test_the_sweep_is_one_that_can_run(tmp_path: Path) -> None:
    (text,) = (block for block in BLOCKS if "\nsweep: " in block)
    path = tmp_path / "decoder.yaml"
    path.write_text(text, encoding="utf-8")
    found = sweep.load_sweep(path)
    sweep.check(found, spec.load_profile("demo"), [])
    assert [objective.metric for objective in found.objectives] == ["lin/ucf101", "gflop_per_step"]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _, name, *words = shlex.split(command)
    found: Any = get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    if name == "data":
        name, *words = words
        found = found.commands[name]
    with found.make_context(name, words) as context:  # refuses what is no option
        for word in context.params.get("words") or []:
            if "=" not in word and word != "all":
                study, colon, row = word.partition(":")  # a row of a study, to be drawn
                found_file = sweep.find_sweep(word) if name == "sweep" else spec.find_study(study)
                assert not colon or row in {one.label for one in spec.load_study(study).rows}
                assert found_file.is_file()


@pytest.mark.parametrize(
    "text", [README, train.run.__doc__ or "", pretrain.__doc__ or ""], ids=["README", "run", "pretrain"]
)
def test_batches_can_be_spread_over_the_devices_of_examples(text: str) -> None:
    """By the profile of a command, or without one by the profile that it has then; the library's by its defaults."""
    examples = [
        (profile or "demo", count)
        for line in text.replace("\\\n", " ").splitlines()
        for profile, count in re.findall(r"fima-ablate run (?:.*--profile (\S+))?.*--devices-per-run (\d+)", line)
    ]
    for name, count in examples:
        study = spec.load_study("table1_losses")
        for row in study.rows:
            pretrain.check_devices(spec.resolve(study, row, spec.load_profile(name)).settings, int(count))
    counts = re.findall(r"torchrun --nproc_per_node (\d+)", text)
    for count in counts:
        pretrain.check_devices(Settings(losses=("vv", "pix", "fra")), int(count))
    assert examples or counts


@pytest.mark.parametrize(
    "name", ["fima-ablate", "run", "sweep", "plan", "report", "claims", "cost", "status", "figures"]
)
def test_help_teaches_by_examples(name: str) -> None:
    assert re.search(r"\n *fima-ablate \w", HELP[name])


LOSSES = ("vv", "vv+vd", "vv+pix", "vv+pix+fra")  # rows of `steps`


def shares(profile: str, better: str, worse: str, size: int) -> tuple[int, int]:
    """Choices of so many seeds of Table 1 that decide for and against, in per cent: as many would do so again."""
    table = json.loads((ROOT / "reports" / profile / "table1_losses/table.json").read_text(encoding="utf-8"))
    one, other = (
        row["cells"]["lin/ucf101"]["values"]
        for label in (better, worse)
        for row in table["rows"]
        if row["label"] == label
    )
    gaps = np.array([one[seed] - other[seed] for seed in one.keys() & other.keys()])
    chosen = gaps[list(itertools.combinations(range(len(gaps)), size))]
    mark, root = scipy_stats.t.ppf(0.975, size - 1), size**0.5
    least = optimize.brentq(lambda effect: scipy_stats.nct.sf(mark, size - 1, effect * root) - 0.8, 0.1, 9)
    effects = chosen.mean(axis=1) / chosen.std(axis=1, ddof=1)
    return round(100 * float((effects >= least).mean())), round(100 * float((effects <= -least).mean()))


def test_what_fresh_seeds_would_decide_is_of_the_committed_tables() -> None:
    whole, others = "VV + Pix + Fra", (("VV + Pix", "VV"), ("VV + Pix", "VV + VD"), ("VV + Fra", "VV"))
    found = {
        (profile, size): [shares(profile, *pair, size) for pair in (*others, (whole, "VV + Pix"))]
        for profile in ("mini", "mini-stationary")
        for size in (5, 8)
    }
    assert not any(against for one in found.values() for _, against in one)
    assert [one[3][0] for one in found.values()] == [18, 61, 5, 8]
    least = {key: min(share for share, _ in one[:3]) for key, one in found.items()}
    assert list(least.values()) == [100, 100, 64, 100]
    assert {shares("mini-800", *pair, 5) for pair in (*others, (whole, "VV + Pix"))} == {(100, 0)}
    words = " ".join((ROOT / "reports/README.md").read_text(encoding="utf-8").split())
    for said in (
        "every five of these seeds decide all four the same",
        "61 % decide this claim on two-stage videos and 8 % on stationary ones (18 and 5 % of fives)",
        "the other three 100 % on both sets (100 % of fives on two-stage videos, 64 to 100 % on stationary ones)",
    ):
        assert said in words


def test_what_is_said_of_steps_is_of_the_committed_tables() -> None:
    words = " ".join((ROOT / "reports/README.md").read_text(encoding="utf-8").split())
    found = {}
    for profile in ("mini", "mini-stationary"):
        table = json.loads((ROOT / f"reports/{profile}/steps/table.json").read_text(encoding="utf-8"))
        rows = {row["label"]: row["cells"]["lin/ucf101"]["values"] for row in table["rows"]}
        shared = set.intersection(*map(set, rows.values()))
        assert len(shared) == 5
        found[profile] = {label: statistics.fmean(values[seed] for seed in shared) for label, values in rows.items()}

    def leads(profile: str, better: str, worse: str) -> list[int]:
        means = found[profile]
        steps = (50, 100, 200, 400, 800)
        return [round(means[f"{better}, {count} steps"] - means[f"{worse}, {count} steps"]) for count in steps]

    assert leads("mini", "vv+pix", "vv") == [9, 12, 21, 27, 36]
    assert "VV + Pix leads VV by 9, 12, 21, 27 and 36 points" in words
    assert leads("mini", "vv+pix+fra", "vv+pix") == [2, 2, 2, 5, 7] and "(2, 2, 2, 5 and 7 points at 50," in words
    assert leads("mini-stationary", "vv+pix+fra", "vv+pix") == [7, 2, 9, 6, 2]
    assert "what L_Fra adds to L_Pix, 7, 2, 9, 6 and 2 points" in words
    for profile, count, said in (
        ("mini", 200, "(23.6, 28.3, 45.0, 46.8;"),
        ("mini", 800, "(27.8, 34.0, 63.7, 70.8)"),
        ("mini-stationary", 800, "(71.7 against 70.0)"),
    ):
        means = {f"{found[profile][f'{losses}, {count} steps']:.1f}" for losses in LOSSES}
        assert set(re.findall(r"\d+\.\d", said)) <= means and said in words


def test_cited_files_exist() -> None:
    cited = set(re.findall(r"`((?:fima|ablations|tests|studies)/[\w/.]+\.\w+)`", README))
    cited -= {"studies/my_temperature.yaml", "studies/profiles/mine.yaml"}  # the reader's
    assert len(cited) > 6
    assert [path for path in sorted(cited) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("package", ["fima", "ablations"])
def test_the_map_of_a_package_names_every_module_once(package: str) -> None:
    named = re.findall(r"`(\w+)`", (ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    modules = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(set(named) - {"fima"}) == sorted(modules - {"__init__"})
    assert max(map(named.count, named)) == 1


def test_settings_of_the_example_are_settings() -> None:
    (text,) = re.findall(r"Settings\.model_validate\(\s*(\{.*?\})\s*\)\n", README, re.DOTALL)
    settings = Settings.model_validate(eval(text))
    assert settings.backbone.name == "r2plus1d"


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"@[A-Z_]+@", README) == []
