"""The loop: what a killed run leaves is gone on from bit for bit; two processes train one model."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
import yaml

from fima import backbones, datasets, pretrain, video, views
from fima.config import Backbone, Clip, Settings
from fima.datasets import Data
from fima.figures import stage

SMALL: dict[str, Any] = {
    "losses": ["vv", "vd", "pix", "fra"],
    "clip": {"frames": 8, "stride": 2, "gap": 20},
    "augment": {"size": 32, "jitter": 0.8},
    "backbone": {"name": "small"},
    "projector": {"hidden": 32, "width": 16},
    "decoder": {"width": 32, "heads": 2, "dropout": 0.1},
    "pixel": {"group": 2, "negatives": "queue", "queue": 50},
    "frame": {"queue": 10},
    "contrast": {"queue": 10, "momentum": 0.9},
    "optim": {"batch": 4, "steps": 6, "lr": 0.01},
}
DATA = {"name": "embedded", "decoded": "memory", "embedded": {"train": 12, "test": 6}}


class Killed(Exception):
    """Stands for kill -9: nothing of the run survives but its folder."""


def run(folder: Path, settings: dict[str, Any] = SMALL, kill_at: int | None = None, **more: Any) -> dict[str, Any]:
    def watch(step: int, steps: int, values: dict[str, float]) -> None:
        if step == kill_at:
            raise Killed

    data = Data.model_validate({**DATA, **more})
    return pretrain.run(
        Settings.model_validate(settings), data, 0, folder, every=1, checkpoint_seconds=0, on_progress=watch
    )


def state(folder: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return saved


def equal(one: Any, other: Any) -> bool:
    """Bitwise equality of nested states."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, precision: str) -> None:
    optim = {"batch": 4, "steps": 4, "lr": 0.01}
    settings = {**SMALL, "compute": {"precision": precision}, "optim": optim}
    if precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # slow there
        settings["losses"] = ["vv", "pix"]
    whole = run(tmp_path / "whole", settings)
    for kill_at in (1, 3):
        with pytest.raises(Killed):
            run(tmp_path / "cut", settings, kill_at)
    resumed = run(tmp_path / "cut", settings)
    of_the_process = ("seconds", "seconds_per_step", "peak_memory_gib")
    assert {k: v for k, v in resumed.items() if k not in of_the_process} == {
        k: v for k, v in whole.items() if k not in of_the_process
    }
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "cut/metrics.jsonl").read_bytes()
    one, other = state(tmp_path / "whole"), state(tmp_path / "cut")
    for name in ("step", "model", "optimizer", "random"):
        assert equal(one[name], other[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert run(tmp_path)["final"] == first["final"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_training_lowers_the_losses(tmp_path: Path) -> None:
    """Against the same run without learning: queues fill with real keys, so a loss may rise from its first step."""
    means = []
    for name, lr in (("trained", 2e-3), ("untrained", 1e-9)):
        optim = {"batch": 4, "steps": 30, "name": "adamw", "lr": lr, "warmup": 3}
        run(tmp_path / name, {**SMALL, "losses": ["vv", "pix", "fra"], "optim": optim})
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        means.append(sum(json.loads(line)["loss"] for line in lines[-10:]) / 10)
    assert means[0] < means[1] - 0.5


def test_streamed_data_read_by_workers_equal_those_read_here(tmp_path: Path) -> None:
    data = Data.model_validate({**DATA, "decoded": "stream"})
    settings = Settings.model_validate({**SMALL, "optim": {"batch": 4, "steps": 2, "lr": 0.01}})
    here = pretrain.run(settings, data, 0, tmp_path / "here", workers=0)
    ahead = pretrain.run(settings, data, 0, tmp_path / "ahead", workers=2)
    assert here["final"] == ahead["final"]


def test_pre_training_sees_each_video_whole_once() -> None:
    data = Data.model_validate(DATA)
    _, records, _ = datasets.usable(data, "train", Clip(), labelled=False)
    _, stages, _ = datasets.usable(data, "train", Clip(), labelled=True)
    assert len(records) == 12
    assert len(stages) == 24
    assert all((record.label, record.start, record.stop) == (None, 0, 80) for record in records)


def test_pre_training_never_sees_a_test_stretch(tmp_path: Path) -> None:
    rows = ["long.mp4,a,train,0,20", "long.mp4,b,test,30,60", "long.mp4,a,train,60,", "cut.mp4,a,train,5,20",
            "cut.mp4,b,train,30,50", "own.mp4,b,test,,"]  # fmt: skip
    for name in ("long", "cut", "own"):
        video.write(tmp_path / f"{name}.mp4", np.zeros((80, 32, 32, 3), np.uint8))
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split,start,stop", *rows]))
    _, records, _ = datasets.usable(Data(name="folder", root=tmp_path), "train", Clip(frames=4), labelled=False)
    found = [(record.path.stem, record.start, record.stop) for record in records]
    assert found == [("long", 0, 20), ("long", 60, None), ("cut", 5, 50)]


def test_what_identifies_pre_training_data_is_what_pre_training_sees(tmp_path: Path) -> None:
    video.write(tmp_path / "a.mp4", np.zeros((80, 32, 32, 3), np.uint8))

    def identity(*rows: str) -> str:
        (tmp_path / "list.csv").write_text("\n".join(["path,label,split,start,stop", *rows]))
        return datasets.fingerprint(Data(name="folder", root=tmp_path), pretraining=True)

    plain = identity("a.mp4,x,train,0,20", "a.mp4,y,train,40,60", "a.mp4,x,test,60,80")
    assert identity("a.mp4,z,train,0,20", "a.mp4,z,train,40,60") == plain  # labels and test stretches say nothing
    assert identity("a.mp4,x,train,0,60") == plain  # seen whole all the same
    assert identity("a.mp4,x,train,0,20", "a.mp4,y,train,40,60", "a.mp4,x,test,20,40") != plain  # now it is held out


@pytest.mark.parametrize(("world", "fits"), [(1, True), (2, False), (3, True), (4, False)])
def test_devices_must_hold_whole_groups_of_negatives(world: int, fits: bool) -> None:
    settings = Settings(losses=("vv", "pix"))  # batch 24, groups of 8
    if fits:
        pretrain.check_devices(settings, world)
        return
    with pytest.raises(ValueError, match=r"no multiple of pixel\.group 8; take 1 or 3 devices"):
        pretrain.check_devices(settings, world)
    pretrain.check_devices(Settings(losses=("vv", "vd")), world)


def test_the_motion_of_another_video_needs_one_on_each_device() -> None:
    settings = Settings.model_validate({"losses": ["vv", "fra"], "contrast": {"shuffled": True}, "optim": {"batch": 8}})
    pretrain.check_devices(settings, 4)
    with pytest.raises(ValueError, match=r"optim\.batch 8 is one video for each of 8 devices; take a larger"):
        pretrain.check_devices(settings, 8)


def with_few_files() -> None:
    """What the next test starts."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    settings, data = json.loads(sys.argv[1])
    result = pretrain.run(Settings(**settings), Data(**data), 0, Path(sys.argv[2]), workers=2)
    print(result["steps"])


def test_many_tensors_need_few_open_files(tmp_path: Path) -> None:
    """Kinetics' batch of 64 with sub-clips is 512 tensors; systems allow 1024 open files."""
    settings = {**SMALL, "optim": {"batch": 12, "steps": 4, "lr": 0.01}}
    given = json.dumps([settings, {**DATA, "decoded": "stream"}])
    process = warm.start("test_pretrain:with_few_files", given, str(tmp_path), cwd=tmp_path)
    assert process.wait() == 0, process.communicate()
    assert process.communicate()[0] == "4\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_video_that_goes_while_it_is_needed_is_one_line(tmp_path: Path, workers: int) -> None:
    (tmp_path / "train/x").mkdir(parents=True)
    for name in "ab":
        video.write(tmp_path / f"train/x/{name}.mp4", np.zeros((80, 32, 32, 3), np.uint8))
    data = Data(name="folder", root=tmp_path)
    _, records, _ = datasets.usable(data, "train", Clip(frames=8), labelled=False)
    (tmp_path / "train/x/b.mp4").unlink()
    dataset = views.Pretraining(records, views.Footage(data), Settings.model_validate(SMALL), 2, 0)
    with pytest.raises(video.VideoError, match=r"^\S*b\.mp4: [^\n]*$"):
        list(views.batches(dataset, [[(0, 0), (0, 1)]], dataset.footage, workers))


def test_float16_scales_its_loss_on_the_cpu_too(tmp_path: Path) -> None:
    """Its first step may overflow and is then left out; what follows is finite, or the run would end."""
    first = {}
    for precision in ("float32", "float16"):
        settings = {**SMALL, "compute": {"precision": precision}, "optim": {"batch": 4, "steps": 4, "lr": 0.01}}
        run(tmp_path / precision, settings)
        first[precision] = json.loads((tmp_path / precision / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert first["float16"] == pytest.approx(first["float32"], rel=0.02)
    assert not state(tmp_path / "float32")["scaler"]
    assert state(tmp_path / "float16")["scaler"]["scale"] > 1
    momenta = [own["momentum_buffer"] for own in state(tmp_path / "float16")["optimizer"]["state"].values()]
    assert momenta and all(momentum.isfinite().all() for momentum in momenta)


def test_a_batch_above_the_number_of_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"optim\.batch must not exceed the 12 training videos, got 64; set"):
        run(tmp_path, {**SMALL, "optim": {"batch": 64, "steps": 1}})


def test_a_checkpoint_of_another_architecture_is_named(tmp_path: Path) -> None:
    run(tmp_path, {**SMALL, "losses": ["vv"], "optim": {"batch": 4, "steps": 1}})
    settings = Settings.model_validate({**SMALL, "backbone": {"name": "r3d"}})
    with pytest.raises(ValueError, match=r"checkpoint\.pt: holds no r3d backbone"):
        pretrain.load_backbone(settings, tmp_path / "checkpoint.pt")


def test_the_encoder_is_what_evaluation_loads(tmp_path: Path) -> None:
    run(tmp_path, {**SMALL, "losses": ["vv"], "optim": {"batch": 4, "steps": 1}})
    backbone = pretrain.load_backbone(Settings.model_validate(SMALL), tmp_path / "checkpoint.pt")
    saved = state(tmp_path)["model"]
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, saved[f"query.backbone.{name}"]), name


def words(file: Path, out: Path, *more: str) -> list[str]:
    """What `python -m fima.pretrain` is told."""
    return [str(file), "--out", str(out), "--workers", "0", *more]


def written(tmp_path: Path, **changed: Any) -> Path:
    datasets.load(Data.model_validate(DATA))  # rendered once, before two processes ask for it
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "data": DATA, **changed}))
    return file


def by_torchrun(given: list[str]) -> None:
    """`torchrun --nproc_per_node=2 -m fima.pretrain ...`."""
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "fima.pretrain"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *launch, *given], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def by_hand(given: list[str], folder: Path) -> None:
    """Two ranks that are told what torchrun would tell them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        warm.start(
            "fima.pretrain:main", *given, cwd=folder,
            env={**os.environ, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"},
        )
        for rank in range(2)
    ]  # fmt: skip
    for rank in ranks:
        assert rank.wait() == 0, rank.communicate()


def test_kill_9_in_the_middle_of_a_run_changes_no_bit(tmp_path: Path) -> None:
    file = written(tmp_path, optim={"batch": 4, "steps": 40, "lr": 0.01})
    metrics = tmp_path / "cut/metrics.jsonl"

    def start(name: str) -> warm.Command:
        often = words(file, tmp_path / name, "--every", "1", "--checkpoint-seconds", "0")
        return warm.start("fima.pretrain:main", *often, cwd=tmp_path)

    process = start("cut")
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(metrics.read_text().splitlines()) < 40
    for name in ("cut", "whole"):
        process = start(name)
        assert process.wait() == 0, process.communicate()
    assert metrics.read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    one, other = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert equal(one["model"], other["model"]) and equal(one["optimizer"], other["optimizer"])
    assert stage.load(tmp_path / "whole").label == "VV + VD + Pix + Fra"  # it can be drawn


def test_a_moved_file_of_weights_is_the_same(tmp_path: Path) -> None:
    """A run that began from it goes on; from a file of other weights it does not."""
    encoder = backbones.build(Backbone(name="small"))
    torch.save(encoder.state_dict(), tmp_path / "a.pt")
    torch.save(encoder.state_dict(), tmp_path / "moved.pt")
    torch.save(backbones.build(Backbone(name="small")).state_dict(), tmp_path / "other.pt")

    def trained(name: str, kill_at: int | None = None) -> None:
        small = {**SMALL, "losses": ["vv"], "optim": {"batch": 4, "steps": 3, "lr": 0.01}}
        run(tmp_path / "run", {**small, "backbone": {"name": "small", "weights": tmp_path / name}}, kill_at)

    with pytest.raises(Killed):
        trained("a.pt", kill_at=2)
    with pytest.raises(ValueError, match=r"is of a run with backbone\.weights"):
        trained("other.pt")
    trained("moved.pt")
    assert state(tmp_path / "run")["step"] == 3


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path) -> None:
    two = {**SMALL, "losses": ["vv"], "optim": {"batch": 4, "steps": 2, "lr": 0.01}}
    run(tmp_path, two)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    for changes, says in (
        (
            {"contrast": {**SMALL["contrast"], "temperature": 0.5}},
            "a run with contrast.temperature 0.1, and this one h",
        ),
        ({"losses": ["vv", "fra"]}, 'a run with losses ["vv"], and this one has ["vv", "fra"]; take another folder, '),
        ({"optim": {"batch": 4, "steps": 3, "lr": 0.01}}, "a run with optim.steps 2, and this one has 3; "),
        ({"optim": {"batch": 4, "steps": 1, "lr": 0.01}}, "was trained for 2 steps, and this run has 1; "),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/checkpoint.pt: ")) as caught:
            run(tmp_path, {**two, **changes})
        assert says in str(caught.value)
    with pytest.raises(ValueError, match="is of a run with data "):
        run(tmp_path, two, limit=6)
    with pytest.raises(ValueError, match="is of a run with seed 0, and this one has 7; "):
        pretrain.run(Settings.model_validate(two), Data.model_validate(DATA), 7, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    constant = {**two["optim"], "schedule": "constant"}  # the one kind of run that more steps lead to no other course
    for steps in (1, 2):
        run(tmp_path / "longer", {**two, "optim": {**constant, "steps": steps}})
    assert state(tmp_path / "longer")["step"] == 2


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """DDP over gloo: shuffled keys, gathered queues, dropout of its own on each; a run of two halves is the whole.

    Readers alter nothing. With two decoders, of which one's class token is never asked: a parameter without gradient
    would end DDP.
    """
    for name, parts in (("whole", [(4, 0)]), ("halves", [(2, 0), (4, 1)])):
        for length, readers in parts:
            file = written(
                tmp_path, optim={"batch": 4, "lr": 0.01, "schedule": "constant", "steps": length},
                decoder={**SMALL["decoder"], "shared": False}, data={**DATA, "decoded": "stream"},
            )  # fmt: skip
            given = words(file, tmp_path / name, "--workers", str(readers))
            if name == "whole":
                by_torchrun(given)
            else:
                by_hand(given, tmp_path)
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert (result["devices"], result["steps"]) == (2, 4)
    whole, halves = state(tmp_path / "whole"), state(tmp_path / "halves")
    assert int(whole["model"]["queues.vv.pointer"]) == 4 * 2 * 4 % 10  # both views of four videos, from both ranks
    moving = [name for name in whole["model"] if "running" not in name]  # statistics are each rank's own
    assert all(torch.equal(whole["model"][name], halves["model"][name]) for name in moving)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {name: embedded}\nforeground: {betta: 1}\n", "foreground.betta"),
        ("data: {name: embedded}\noptim: {lr: fast}\n", "optim.lr"),
        ("data: {nmae: embedded}\n", "data.n"),
        ("losses: [vv]\n", "needs `data:`"),
        ("data: {name: ucf101}\n", "--data-root"),
        ("data: [\n", "expected"),
    ],
)
def test_bad_settings_are_one_line(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["pretrain", str(file), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        pretrain.main()
    line = f"{capsys.readouterr().err}{caught.value.code}".strip().splitlines()[-1]  # below the bar, if there was one
    assert line.startswith(f"{file}: ")
    assert said in line
