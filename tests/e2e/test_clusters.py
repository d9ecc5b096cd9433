"""--engine slurm and --engine ray on this machine: killed workers, time limits, Ctrl-C; results are those of local.

submitit's local executor stands in for Slurm: it runs the same jobs, and puts those back that a time limit cuts.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import warm

from ablations import worker
from ablations.engines import choose, remote, slurm
from ablations.store import Store
from ablations.uids import Stage

STUDY = """
study: one
title: One row
base: {losses: [vv]}
metrics: [parameters]
rows:
  - {label: "a", default: true}
"""
STEPS = 40


def running(folder: Path, *options: str) -> warm.Command:
    """One pre-training of some seconds, in a process group of its own."""
    (folder / "one.yaml").write_text(STUDY)
    words = ["run", "one.yaml", "--profile", "debug", "--no-mlflow", "--jobs", "1", "--workers", "0"]
    return warm.start("ablations.cli:main", *words, f"optim.steps={STEPS}", *options, cwd=folder)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.02)


def at_work(store: Store, attempt: int) -> int:
    """The process of the only stage's n-th attempt, once it trains."""

    def trains() -> bool:
        return any(
            store.status(uid).attempts == attempt and store.metrics(uid) and store.status(uid).state == "running"
            for uid in store.uids()
        )

    wait_for(trains, f"attempt {attempt}")
    pid = store.status(store.uids()[0]).pid
    assert pid is not None
    return pid


def parent(pid: int) -> int:
    """The process that waits for a stage: the cluster's own."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def told(store: Store) -> tuple[int, dict[str, float], bytes]:
    """Attempts of the only stage, its last losses and its curve."""
    (uid,) = store.uids()
    result = store.result(uid)
    assert result is not None
    return store.status(uid).attempts, result["final"], (store.folder(uid) / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, float], bytes]:
    folder = tmp_path_factory.mktemp("local")
    with running(folder) as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return told(Store(folder / "runs"))


def test_slurm_goes_on_after_a_time_limit_and_a_kill(undisturbed: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with running(tmp_path, "--engine", "slurm", "--slurm", "cluster=local", "--retry-failed", "1") as process:
        os.kill(parent(at_work(store, 1)), signal.SIGUSR2)  # as Slurm does some time before the limit
        os.kill(at_work(store, 2), signal.SIGKILL)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "killed by SIGKILL" in err and "tried again, 1 of 1" in err
    assert told(store) == (3, *undisturbed[1:])


def test_ray_gives_the_stage_of_a_killed_worker_to_another(undisturbed: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with running(tmp_path, "--engine", "ray") as process:
        os.kill(parent(at_work(store, 1)), signal.SIGKILL)  # Ray's worker; the stage below it ends with it
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "failed" not in err
    assert told(store) == (2, *undisturbed[1:])


def test_control_c_cancels_jobs(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with running(tmp_path, "--engine", "slurm", "--slurm", "cluster=local") as process:
        pid = at_work(store, 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert "the same command goes on from here" in err
        assert not Path(f"/proc/{pid}").exists()
    assert store.status(store.uids()[0]).state == "interrupted"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("slum", {}, "--engine is one of local, ray, slurm; got slum"),
        ("local", {"address": "auto"}, "--address is for --engine ray, and this is --engine local"),
        ("ray", {"devices": "0"}, "--devices is for --engine local"),
        ("slurm", {}, "there is no sbatch on this machine; run it on a login node"),
        ("slurm", {"slurm": ("partition",)}, "--slurm takes KEY=VALUE, such as partition=gpu; got partition"),
        ("slurm", {"slurm": ("cluster=local", "partitoin=x")}, "no such key. Did you mean partition?"),
        ("slurm", {"slurm": ("cluster=local", "nodes=2")}, "a stage is one task of one machine"),
        ("slurm", {"slurm": ("cluster=local", "time=12:00:00")}, "takes minutes as a whole number"),
        ("slurm", {"slurm": ("cluster=local", "gpus_per_node=1"), "per_run": 2}, "--devices-per-run 2 needs as many"),
        ("slurm", {"slurm": ("cluster=loco",)}, "it is one of slurm, local"),
    ],
)
def test_a_wrong_engine_or_option_is_one_line(
    name: str, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda command: None)
    given = {"jobs": None, "devices": None, "per_run": 1, "address": None, "slurm": (), **options}
    with pytest.raises(ValueError) as error:
        choose(name, **given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "library"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_library_says_what_to_install(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"--engine {name} needs {library}: pip install 'fima-ablate\[{name}\]'"):
        choose(name, None, None, 1, None, ())


def test_slurm_is_asked_for_cards_by_what_a_stage_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-trainings as one array with all their cards, evaluations as another with one; sbatch notes its file here."""
    (tmp_path / "bin").mkdir()
    for command, does in (("sbatch", f'cat "$1" >> {tmp_path}/asked; echo Submitted batch job $$'), ("srun", ":")):
        path = tmp_path / "bin" / command
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = ("partition=gpu", "time=90", "cpus_per_task=8", "mem=64GB")
    chosen = choose("slurm", None, None, 2, None, words)
    engine = chosen.build(Store(tmp_path / "runs"))
    handles = engine.start([job(tmp_path, "pretrain", n) for n in (1, 2)] + [job(tmp_path, "linear", 3)])
    assert [handle.stage.uid for handle in handles] == ["pretrain-1", "pretrain-2", "linear-3"]
    first, second = (tmp_path / "asked").read_text().split("#!/bin/bash")[1:]
    lines = {"--partition=gpu", "--time=90", "--cpus-per-task=8", "--mem=64GB", "--gpus-per-node=2"}
    assert lines <= {line.removeprefix("#SBATCH ") for line in first.splitlines()}
    assert "--array=0-1" in first and "--array" not in second
    assert "--gpus-per-node=1" in second
    assert remote.portable(job(tmp_path, "pretrain", 1)).variables == {"FIMA_CACHE": "/c"}
    assert engine.threads(3) == 0  # what the machine gives the job


def job(root: Path, kind: Any, number: int) -> Any:
    stage = Stage(kind, f"{kind}-{number}", {}, 0, (), kind)
    return worker.Job(stage, root / "runs", "", 0, 0, number, {}, {"FIMA_CACHE": "/c", "HOME": "/h"})
