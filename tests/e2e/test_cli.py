"""The product as a user meets it: the command line on embedded and on real videos, killed and resumed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import warm
from filelock import FileLock

from ablations import cli

ROOT = Path(__file__).resolve().parents[2]
FILES = {"table.md", "table.tex", "table.csv", "table.json", "plot.png", "plot.pdf", "effect.png", "effect.pdf"}
CURVE = {"curve.png", "curve.pdf"}
TIMES = re.compile(r"second|environment|attempt|started|ended|pid|gpu_days|device|memory")


def started(cwd: Path, *arguments: str) -> warm.Command:
    """fima-ablate; as a context, a kill at its end reaches all of its group."""
    return warm.start("ablations.cli:main", *arguments, *(["--jobs", "2"] if "run" in arguments else []), cwd=cwd)


def call(cwd: Path, *arguments: str, seconds: float = 900) -> tuple[int, str, str]:
    with started(cwd, *arguments) as process:
        return process.wait(seconds), *process.communicate()


def call_python(cwd: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of the same, as users start it."""
    command = [sys.executable, "-m", "ablations.cli", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, start_new_session=True)
    return done.returncode, done.stderr


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Exit code and stderr of a command that must not get as far as its work, so that it needs no process."""

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fima-ablate", *arguments])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command puts its own there
        before = signal.getsignal(signal.SIGINT)
        try:
            with pytest.raises(SystemExit) as caught:
                cli.main()
        finally:
            signal.signal(signal.SIGINT, before)
        assert isinstance(caught.value.code, int)
        return caught.value.code, capsys.readouterr().err

    return command


def timeless(value: Any) -> Any:
    """A result without the times in it."""
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if not TIMES.search(name)}
    if isinstance(value, list):
        return [timeless(part) for part in value]
    return value


def results(store: Path) -> dict[str, Any]:
    return {path.parent.name: timeless(json.loads(path.read_text())) for path in sorted(store.glob("*/result.json"))}


def tables(reports: Path) -> dict[str, bytes]:
    files = (
        path
        for path in sorted(reports.rglob("[!.]*"))  # a killed command leaves its draft
        if path.is_file() and path.name != "results.jsonl"  # has times
    )
    return {str(path.relative_to(reports)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(together: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run once for all processes of this session; each has a copy."""
    folder = together / "undisturbed"
    with FileLock(together / "undisturbed.lock"):
        if not (folder / "reports").exists():
            folder.mkdir(exist_ok=True)
            code, err = call_python(folder, "run", "table3d_beta", "--profile", "debug", "--jobs", "2")
            assert code == 0, err
            assert "\n2 stages side by side (--jobs)\n" in err
    return shutil.copytree(folder, tmp_path_factory.mktemp("copy") / "undisturbed")


def test_a_study_becomes_a_table(undisturbed: Path) -> None:
    folder = undisturbed / "reports/debug/table3d_beta"
    assert {path.name for path in folder.iterdir()} == FILES | CURVE
    text = (folder / "table.md").read_text()
    for printed in ("0.3", "0.5", "0.7", "73.1", "fima-ablate run studies/table3d_beta.yaml", "--profile debug"):
        assert printed in text
    for name in ("table.md", "table.tex", "table.csv", "table.json"):
        assert "not a reproduction" in (folder / name).read_text(), name


def test_nothing_runs_twice_and_the_report_is_the_same_to_the_byte(undisturbed: Path) -> None:
    before = tables(undisturbed / "reports")
    stamps = {path: path.stat().st_mtime_ns for path in undisturbed.glob("runs/*/result.json")}
    code, _, err = call(undisturbed, "run", "table3d_beta", "--profile", "debug", "--no-mlflow")
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("runs/*/result.json")} == stamps
    assert tables(undisturbed / "reports") == before
    code, _, err = call(undisturbed, "report", "table3d_beta", "--profile", "debug", "--reports", "again")
    assert code == 0, err
    assert tables(undisturbed / "again") == before


@pytest.mark.long
def test_all_sixteen_studies_end_with_a_table(tmp_path: Path) -> None:
    """By default test_studies.py trains each of their 30 rows, and test_report.py writes each of their tables."""
    code, _, err = call(tmp_path, "run", "all", "--profile", "debug", "--no-mlflow", "--metrics", "lin/ucf101")
    assert code == 0, err
    assert "54 rows need 30 distinct pre-trainings per seed" in err
    folder = tmp_path / "reports/debug"
    written = {path.name: {file.name for file in path.iterdir()} for path in folder.iterdir() if path.is_dir()}
    assert len(written) == 16
    assert {frozenset(files) for files in written.values()} == {frozenset(FILES), frozenset(FILES | CURVE)}
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"results.jsonl", "report.tex", "claims.md"}
    rows = [json.loads(path.read_text())["rows"] for path in tmp_path.glob("reports/debug/*/table.json")]
    assert sum(map(len, rows)) == 54
    assert all(cell["n"] == 1 for table in rows for row in table for cell in row["cells"].values())


def test_two_studies_share_their_default_row(undisturbed: Path) -> None:
    code, out, _ = call(undisturbed, "plan", "table3d_beta", "table3f_mask_position", "--profile", "debug", "--json")
    assert code == 0
    plan = json.loads(out)
    assert plan["rows"] == 7
    assert plan["pretrainings"] == 6
    assert plan["stages_done"] > 0


def test_killed_again_and_again_it_ends_with_the_same_results(undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 of everything: in pre-training, in an evaluation, and while the report is written."""
    table = tmp_path / "reports/debug/table3d_beta"
    for sign in (
        "runs/pretrain-*/metrics.jsonl",
        "runs/finetune-*/metrics.jsonl",
        str(table.relative_to(tmp_path) / "table.md"),
    ):
        with started(tmp_path, "run", "table3d_beta", "--profile", "debug", "--no-mlflow"):
            wait_for(lambda sign=sign: any(tmp_path.glob(sign)), sign)
    assert not (table / "plot.pdf").exists()
    code, _, err = call(tmp_path, "run", "table3d_beta", "--profile", "debug", "--no-mlflow")
    assert code == 0, err
    assert results(tmp_path / "runs") == results(undisturbed / "runs")
    assert tables(tmp_path / "reports") == tables(undisturbed / "reports")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.02)


def test_no_process_outlives_a_killed_command(tmp_path: Path) -> None:
    with started(tmp_path, "run", "table9_frame_loss", "--profile", "debug", "--no-mlflow") as process:
        wait_for(lambda: any(tmp_path.glob("runs/pretrain-*/status.json")), "a stage that runs")
        assert len(_mentions(str(tmp_path))) > 1
        process.kill()  # only the parent: its stages must notice
        process.wait()
        wait_for(lambda: not _mentions(str(tmp_path)), "the end of all its processes", 120)


def _mentions(folder: str) -> list[str]:
    """Processes whose working directory is the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str((entry / "cwd").readlink()) == folder and "Z" not in (entry / "stat").read_text().split()[2]:
                found.append(entry.name)
        except OSError:  # it ended while we looked
            continue
    return found


def test_real_videos_of_a_csv_make_the_same_table(clips: Path, tmp_path: Path) -> None:
    root = clips / "ut_interaction"
    code, _, err = call(
        tmp_path, "run", "table3d_beta", "--profile", "debug", "data.name=folder", f"data.root={root}",
        "data.limit=12", "--metrics", "lin/ucf101", "--no-mlflow",
    )  # fmt: skip
    assert code == 0, err
    text = (tmp_path / "reports/debug/table3d_beta/table.md").read_text()
    assert "not a reproduction" in text


def test_the_papers_profile_on_a_partial_copy_of_ucf101_alone(clips: Path, tmp_path: Path) -> None:
    """Neither HMDB51 nor Diving48 is here. A small encoder on small clips, for two steps."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ucf101").symlink_to(clips / "ucf101")
    small = {
        "data.limit": 12, "backbone.name": "small", "augment.size": 32, "clip.frames": 8, "clip.stride": 1,
        "projector.hidden": 32, "projector.width": 16, "decoder.width": 32, "decoder.heads": 2, "contrast.queue": 16,
        "frame.queue": 16, "pixel.queue": 8, "optim.batch": 8, "optim.steps": 2, "linear.clips": 2,
        "linear.optim.steps": 2,
    }  # fmt: skip
    study = tmp_path / "one.yaml"
    study.write_text("study: one\ntitle: One row\nmetrics: [lin/ucf101]\nrows:\n  - {label: a, default: true}\n")
    code, _, err = call(
        tmp_path, "run", str(study), "--profile", "ucf101-i3d", "--data-root", "data", "--no-mlflow",
        *(f"{name}={value}" for name, value in small.items()),
    )  # fmt: skip
    assert code == 0, err
    assert "83 of 13,320 listed videos of UCF101 split 1 exist" in err
    text = (tmp_path / "reports/ucf101-i3d/one/table.md").read_text()
    assert "not the paper's recipe" in text and "partial copy of UCF101" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "table3d_bet"], "table3d_beta"),
        (["run", "table3d_beta", "--profile", "demmo"], "demo"),
        (["run", "table3d_beta", "foreground.betta=0.4"], "Did you mean"),
        (["run", "table3d_beta", "foreground.beta=1.4"], "foreground.beta"),
        (["run", "table3d_beta", "--profile", "ucf101-i3d"], "--data-root"),
        (["run", "table3d_beta", "--seeds", "a"], "--seeds"),
        (["run", "table3d_beta", "--seeds=-1"], "--seeds takes whole numbers from 0 to 4294967295"),
        (["run", "table3d_beta", "--seeds", "0,4294967296"], "--seeds takes whole numbers from 0 to 4294967295"),
        (["run", "table3d_beta", "--store", "/proc/none"], "--store /proc/none: "),
        (["run", "table3d_beta", "--reports", "/dev/null"], "--reports /dev/null: "),
        (
            ["report", "--reports", "/dev/null"],
            "--reports /dev/null: File exists; name a folder that can be written",
        ),
        (["run", "table3d_beta", "--metrics", "lin/ucf"], "lin/ucf101"),
        (["run", "table3d_beta", "--devices", "0;1"], "--devices takes numbers of CUDA cards with commas"),
        (
            ["plan", "table3d_beta", "--jobs", "0"],
            "Input should be greater than or equal to 1, got 0; see fima-ablate plan",
        ),
        (["run", "table3d_beta", "--jbs", "1"], "No such option: --jbs (Possible options: --jobs); see"),
        (["rnu", "table3d_beta"], "No such command 'rnu'. Did you mean 'run'? see fima-ablate --help"),
        (["run"], "table3d_beta"),
        (["data", "check", "/does/not/exist"], "/does/not/exist"),
    ],
)
def test_bad_input_is_one_clear_line(refused: Callable[..., tuple[int, str]], arguments: list[str], said: str) -> None:
    code, err = refused(*arguments)
    assert code == 2
    line = err.splitlines()[-1]  # below the bar and the news of rendering, where there was any
    assert line.startswith("fima-ablate: ")
    assert said in line


def test_bad_input_of_a_process_too(tmp_path: Path) -> None:
    code, err = call_python(tmp_path, "run", "table3d_beta", "foreground.betta=0.4")
    assert code == 2
    assert err.startswith("fima-ablate: ")
    assert err.count("\n") == 1


def test_a_list_that_lacks_a_split_is_refused_before_anything_runs(clips: Path, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    (root / "list.csv").write_text("path,label,split\n" + "a.avi,x,train\n" + "b.avi,y,train\n")
    for name, source in zip("ab", sorted((clips / "ut_interaction/hug").glob("*.avi")), strict=False):
        (root / f"{name}.avi").symlink_to(source)
    words = ["run", "table9_frame_loss", "--profile", "debug", "data.name=folder", f"data.root={root}"]
    code, _, err = call(tmp_path, *words)
    assert code == 2
    assert "optim.batch must not exceed the 2 training videos" in err
    code, _, err = call(tmp_path, *words, "optim.batch=2")
    assert code == 2
    assert "no labelled video in its test split" in err
    assert not list(tmp_path.glob("runs/*/config.json"))


def test_a_failed_stage_fails_the_command_but_not_the_others(tmp_path: Path) -> None:
    """A learning rate that overflows: its line is said, the table is written, the exit code is 1."""
    code, _, err = call(
        tmp_path, "run", "table3d_beta", "--profile", "debug", "optim.lr=1e30", "optim.steps=6", "--no-mlflow",
        "--metrics", "lin/ucf101",
    )  # fmt: skip
    assert code == 1
    assert "Traceback" not in err
    assert (tmp_path / "reports/debug/table3d_beta/table.md").exists()


def test_records_alone_write_the_same_tables(undisturbed: Path, tmp_path: Path) -> None:
    """As in a fresh clone: the store is not there, results.jsonl is."""
    kept = tmp_path / "reports/debug"
    kept.mkdir(parents=True)
    (kept / "results.jsonl").write_bytes((undisturbed / "reports/debug/results.jsonl").read_bytes())
    code, _, err = call(tmp_path, "report", "--profile", "debug")
    assert code == 0, err
    written = tables(tmp_path / "reports")
    assert {name: content for name, content in written.items() if "table3d_beta/" in name} == tables(
        undisturbed / "reports"
    )
    assert {"debug/report.tex", "debug/claims.md"} <= set(written)
    code, out, err = call(tmp_path, "claims", "--profile", "debug", "--json")
    assert code == 0, err
    claims = json.loads(out)
    shown = {claim["study"] for claim in claims}
    summary = (tmp_path / "reports/debug/claims.md").read_text()
    assert "table3d_beta" in shown and all(f"| {study} |" in summary for study in shown)
    assert "table2_components" not in shown and "at most half of their rows are measured: table1_losses, " in err
    _, named, _ = call(tmp_path, "claims", "table2_components", "--profile", "debug", "--json")
    assert {claim["study"] for claim in json.loads(named)} == {"table2_components"}
    of_one = [(claim["state"], claim["n"]) for claim in claims if claim["study"] == "table3d_beta"]
    assert of_one == [("undecided", 1), ("undecided", 1)]


def test_a_sweep_prunes_on_held_out_videos_and_tests_once(tmp_path: Path) -> None:
    text = (ROOT / "studies" / "sweeps" / "beta_threshold.yaml").read_text()
    text = text.replace("every: 50, startup: 6, warmup: 100", "every: 1, startup: 1").replace("trials: 24", "trials: 4")
    (tmp_path / "mine.yaml").write_text(text)
    options = ("--profile", "debug", "--jobs", "2", "--workers", "0", "--no-mlflow", "--enqueue", "table3d_beta")
    code, out, err = call(tmp_path, "sweep", "mine.yaml", *options)
    assert code == 0, err
    folder = tmp_path / "reports" / "debug" / "sweeps" / "beta_threshold"
    content = json.loads((folder / "sweep.json").read_text())
    assert [trial["point"]["foreground.beta"] for trial in content["trials"]][:3] == [0.3, 0.5, 0.7]
    assert len(content["trials"]) == 4
    for trial in content["trials"]:
        assert trial["state"] in ("complete", "pruned")
        (uid,) = trial["pretrain"]
        lines = [json.loads(line) for line in (tmp_path / "runs" / uid / "metrics.jsonl").read_text().splitlines()]
        seen = {str(line["step"]): line["knn"] for line in lines if "knn" in line}
        assert trial["curve"] == {step: pytest.approx(value, abs=1e-4) for step, value in seen.items()}
        assert trial["curve"]
    judged = {json.loads(path.read_text())["videos"] for path in (tmp_path / "runs").glob("linear-*/result.json")}
    assert judged == {2 * 5, 2 * 12}  # stages of five of the 16 training videos (a quarter, by class), and of test
    assert (folder / "final" / "table.md").is_file()
    assert "reduced scale" in (folder / "sweep.md").read_text().lower()
    assert "best, trial" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "beta_treshold"], "no such sweep; there are beta_threshold"),
        (["sweep", "beta_threshold", "foreground.beta=0.3"], "the sweep searches it"),
        (["sweep", "decoder", "losses"], "name one sweep"),
        (["sweep", "beta_threshold", "--storage", "postgresql://a:secret@127.0.0.1:1/b"], "a:***@127.0.0.1:1/b"),
        (["sweep", "beta_threshold", "--enqueue", "table9_frame_loss"], "none of its rows lies in the space"),
    ],
)
def test_bad_input_of_a_sweep_is_one_clear_line(
    refused: Callable[..., tuple[int, str]], arguments: list[str], said: str
) -> None:
    code, err = refused(*arguments, "--profile", "debug")
    assert code == 2
    assert said in err
    assert "secret" not in err
