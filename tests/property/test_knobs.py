"""No dead knob: every declared setting acts where it can, and what `Settings.active` leaves out does not act at all.

The observer is the real loop on hand-made videos: metrics, learning rates, final weights, queues and optimiser state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from fima import augment, backbones, clips, datasets, loop, pretrain, synthetic, video, views
from fima.augment import Crop
from fima.config import Clip, Finetune, Linear, Retrieval, Settings
from fima.datasets import Data, Record
from fima.evaluate import classifier, features, finetune, linear, retrieval
from fima.model import FIMA
from fima.synthetic import Embedded
from fima.views import Footage

RECORDS = [Record(Path(str(number)), number % 2, "train", str(number)) for number in range(4)]
DATA = Data(name="folder", decoded="memory")


class Films(Footage):
    """Short films of noise, one per record, in memory."""

    kept: dict[Path, Tensor] = {}  # noqa: RUF012 (shared on purpose)

    def frames(self, record: Record) -> int:
        return 24

    def size(self, record: Record) -> tuple[int, int]:
        return 20, 26

    def read(self, record: Record, frames: Sequence[clips.Frames], crops: Sequence[Crop], size: int) -> list[Tensor]:
        if record.path not in self.kept:
            random = torch.Generator().manual_seed(int(record.path.name))
            self.kept[record.path] = torch.randint(0, 256, (3, 24, 20, 26), dtype=torch.uint8, generator=random)
        return [self.kept[record.path][:, torch.from_numpy(numbers)] for numbers in frames]


class Tiny(nn.Sequential):
    """Eight channels, two convolutions; 8 x 16 x 16 to 8 x 2 x 3 x 3."""

    channels = 8

    def __init__(self) -> None:
        super().__init__(nn.Conv3d(3, 8, 4, 4, bias=False), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 8, (1, 2, 2)))


def usable(
    data: Data, split: str, clip: Clip, labelled: bool
) -> tuple[SimpleNamespace, list[Record], datasets.Problems]:
    return SimpleNamespace(classes=("a", "b"), listed=len(RECORDS), missing=()), RECORDS, datasets.Problems()


@pytest.fixture(autouse=True)
def _small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.CONSTRUCTORS, "small", Tiny)
    for module in (pretrain, classifier, features):
        monkeypatch.setattr(module, "usable", usable)
        monkeypatch.setattr(module, "fingerprint", lambda data, pretraining=False: "films", raising=False)
    monkeypatch.setattr(views, "Footage", Films)
    monkeypatch.setattr(loop.os, "fsync", lambda number: None)  # nobody pulls the plug here
    monkeypatch.setattr(pretrain.cost, "sizes", lambda settings: {})  # takes longer than to train, and is not looked at


# --- settings as dotted names ---


def leaves(kind: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted names of every declared setting."""
    found: set[str] = set()
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= leaves(field.annotation, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def changed(chosen: BaseModel, values: dict[str, Any]) -> Any:
    """The same settings but for the dotted names."""
    data = chosen.model_dump()
    for name, value in values.items():
        *groups, field = name.split(".")
        group = data
        for part in groups:
            group = group[part]
        group[field] = value
    return type(chosen).model_validate(data)


def flat(state: Any) -> Iterator[Any]:
    """Leaves of nested states, tensors with their memory layout; names do not count."""
    if isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from flat(part)
    elif isinstance(state, Tensor):
        yield state.tolist(), tuple(state.shape), state.stride()
    else:
        yield state


def left(folder: Path) -> list[Any]:
    """What a run leaves in its folder, but for times."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state["seconds"]
    return [(folder / "metrics.jsonl").read_text(), *flat(state)]


# --- pre-training ---

# Every loss in the form in which most settings act.
EVERYTHING = Settings.model_validate(
    {
        "losses": ["vv", "vd", "pix", "fra"],
        "clip": {"frames": 8, "stride": 1},
        "augment": {"size": 16, "jitter": 1, "grayscale": 0, "blur": 1},
        "backbone": {"name": "small"},
        "projector": {"hidden": 6, "width": 5},
        "decoder": {"width": 8, "heads": 2},
        "pixel": {"group": 2, "negatives": "queue", "queue": 20},
        "frame": {"queue": 6, "type": "triplet", "margin": 1},
        "contrast": {"queue": 6, "momentum": 0.9},
        "optim": {"batch": 2, "epochs": 2, "lr": 0.1, "schedule": "steps", "milestones": (0.6,)},
    }
)
OPTIM: dict[str, Any] = {
    "name": "adamw", "lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "schedule": "cosine", "milestones": (0.3,),
    "per": "step", "warmup": 2, "batch": 4, "epochs": 3, "steps": 3,
}  # fmt: skip
# Another value of each setting; a new setting needs a line here.
OTHERS: dict[str, Any] = {
    "losses": ("vv", "pix", "fra"),
    "weights.vv": 2, "weights.vd": 2, "weights.pix": 2, "weights.fra": 2,
    "clip.frames": 12, "clip.stride": 2, "clip.gap": 12,
    "augment.size": 20, "augment.scale_min": 0.9, "augment.scale_max": 0.3, "augment.flip": 1, "augment.grayscale": 1,
    "augment.jitter": 0, "augment.brightness": 0.1, "augment.contrast": 0.1, "augment.saturation": 0.1,
    "augment.hue": 0.5, "augment.blur": 0, "augment.blur_min": 1, "augment.blur_max": 1, "augment.difference": "raw",
    "augment.static": 0.9, "augment.kept": 0.4,
    "backbone.name": "r3d", "backbone.weights": "weights.pt",
    "projector.hidden": 7, "projector.width": 4,
    "decoder.depth": 1, "decoder.width": 12, "decoder.heads": 4, "decoder.shared": False, "decoder.dropout": 0.5,
    "decoder.init": "identity", "decoder.position": 0, "decoder.memory_norm": True,
    "foreground.beta": 0.8, "foreground.source": "rgb", "foreground.position": "target",
    "pixel.decoder": False, "pixel.threshold": 1.5, "pixel.negatives": "batch", "pixel.group": 1, "pixel.queue": 30,
    "pixel.average": "pixel",
    "frame.type": "infonce", "frame.margin": 0.2, "frame.queue": 9,
    "contrast.temperature": 0.3, "contrast.momentum": 0.5, "contrast.queue": 9, "contrast.shuffled": True,
    "compute.precision": "bfloat16", "compute.channels_last": False, "compute.compile": True, "compute.recompute": True,
    **{f"optim.{name}": value for name, value in OPTIM.items()},
}  # fmt: skip
# Losses and choices under which much is idle.
CONTEXTS: dict[str, dict[str, Any]] = {
    "everything": {},
    "vv": {"losses": ["vv"]},
    "vd": {"losses": ["vd"]},
    "vv, vd": {"losses": ["vv", "vd"], "augment.jitter": 0},
    "DC": {"losses": ["pix"], "pixel.decoder": False, "foreground.position": "none", "pixel.negatives": "video"},
    "DC, FS": {"losses": ["vv", "pix"], "pixel.decoder": False, "pixel.negatives": "batch"},
    "DC, MD": {"losses": ["vv", "pix"], "foreground.position": "none", "augment.blur": 0},
    "all is foreground": {"losses": ["vv", "pix"], "foreground.beta": 1},
    "infonce": {"losses": ["vv", "fra"], "frame.type": "infonce"},
    "triplet": {"losses": ["fra"]},
    "mse": {"losses": ["fra"], "frame.type": "mse"},
    "DC beside fra": {"losses": ["pix", "fra"], "pixel.decoder": False, "decoder.shared": False},
}


def trained(chosen: Settings, folder: Path) -> list[Any]:
    pretrain.run(chosen, DATA, 0, folder, every=1, checkpoint_seconds=1e9)
    return left(folder)


@pytest.fixture(scope="module")
def plain() -> dict[str, list[Any]]:
    """What each context leaves, run once."""
    return {}


def of_context(name: str, plain: dict[str, list[Any]], folder: Path) -> list[Any]:
    if name not in plain:
        plain[name] = trained(changed(EVERYTHING, CONTEXTS[name]), folder / "plain")
    return plain[name]


def valued(name: str, folder: Path) -> Any:
    if name != "backbone.weights":
        return OTHERS[name]
    torch.manual_seed(1)
    torch.save(Tiny().state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def test_every_setting_has_another_value() -> None:
    assert set(OTHERS) == leaves(Settings)


@pytest.mark.parametrize("name", sorted({*OTHERS} - {"compute.recompute"}))  # which saves memory and alters nothing
def test_every_setting_acts(
    name: str, plain: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed(EVERYTHING, {name: valued(name, tmp_path)})
    assert other.active() != EVERYTHING.active()
    if name == "backbone.name":  # a large one: its size is enough
        with torch.device("meta"):
            assert FIMA(other).count_parameters() != FIMA(EVERYTHING).count_parameters()
        return
    if name == "compute.compile":  # takes minutes; what is compiled is enough
        compiled: list[Tiny] = []
        monkeypatch.setattr(Tiny, "compile", lambda self: compiled.append(self))
        model = FIMA(other)
        assert compiled == [model.query.backbone, model.key.backbone]
        return
    assert trained(other, tmp_path) != of_context("everything", plain, tmp_path)


@pytest.mark.parametrize("context", CONTEXTS)
def test_idle_settings_change_nothing_at_all(context: str, plain: dict[str, list[Any]], tmp_path: Path) -> None:
    chosen, before = changed(EVERYTHING, CONTEXTS[context]), of_context(context, plain, tmp_path)
    values = {name: valued(name, tmp_path) for name in OTHERS}
    idle = {name: v for name, v in values.items() if changed(chosen, {name: v}).active() == chosen.active()}
    assert (context == "everything") == (set(idle) == {"compute.recompute"})
    together = changed(chosen, idle)
    assert together.active() == chosen.active()
    if trained(together, tmp_path / "idle") != before:
        alone = [name for name in idle if trained(changed(chosen, {name: idle[name]}), tmp_path / name) != before]
        pytest.fail(f"under {context}, settings said to be idle act: {', '.join(alone) or 'some together'}")


@pytest.mark.parametrize("context", CONTEXTS)
def test_active_settings_alone_are_the_whole_experiment(
    context: str, plain: dict[str, list[Any]], tmp_path: Path
) -> None:
    chosen = changed(EVERYTHING, CONTEXTS[context])
    rebuilt = Settings.model_validate(chosen.active())
    assert rebuilt.active() == chosen.active()
    assert trained(rebuilt, tmp_path / "rebuilt") == of_context(context, plain, tmp_path)


@pytest.mark.parametrize("context", [name for name in CONTEXTS if name != "everything"])
def test_whatever_is_active_acts(context: str, plain: dict[str, list[Any]], tmp_path: Path) -> None:
    """The reverse of idle: two rows that cannot differ are one experiment. Optimiser and augmentation always act."""
    chosen, before = changed(EVERYTHING, CONTEXTS[context]), of_context(context, plain, tmp_path)
    method = ("losses", "weights", "projector", "decoder", "foreground", "pixel", "frame", "contrast")
    others = {name: changed(chosen, {name: OTHERS[name]}) for name in OTHERS if name.split(".")[0] in method}
    active = {name: other for name, other in others.items() if other.active() != chosen.active()}
    assert active
    assert [name for name, other in active.items() if trained(other, tmp_path / name) == before] == []


def test_the_order_of_losses_changes_nothing(plain: dict[str, list[Any]], tmp_path: Path) -> None:
    other = changed(EVERYTHING, {"losses": ("fra", "pix", "vd", "vv")})
    assert other.active() == EVERYTHING.active()
    assert trained(other, tmp_path) == of_context("everything", plain, tmp_path)


# --- evaluation ---


class Counting(Tiny):
    """Tells how many clips it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.clips = 0

    def forward(self, clips: Tensor) -> Tensor:
        self.clips += len(clips)
        out: Tensor = super().forward(clips)
        return out


EVALUATED = changed(EVERYTHING, {"losses": ("vv",)})
SHORT = {"batch": 2, "epochs": 2, "lr": 0.1, "schedule": "steps", "milestones": (0.6,)}
PROBE = Linear.model_validate({"clips": 2, "optim": {**SHORT, "weight_decay": 0}})
TUNED = Finetune.model_validate({"clips": 2, "dropout": 0.2, "optim": {**SHORT, "weight_decay": 0}})
NESTED = {f"optim.{name}": value for name, value in OPTIM.items()}
PROBE_OTHERS = {"protocol": "logistic", "clips": 3, "normalise": False, **NESTED}
TUNED_OTHERS = {"clips": 3, "dropout": 0.5, "augment": False, **NESTED}


def evaluated(chosen: Linear | Finetune, folder: Path) -> list[Any]:
    torch.manual_seed(0)
    backbone = Counting()
    if isinstance(chosen, Linear):
        linear.sgd(backbone, EVALUATED, chosen, DATA, 0, folder)
    else:
        finetune.run(backbone, EVALUATED, chosen, DATA, 0, folder)
    return [backbone.clips, *left(folder)]


def test_every_setting_of_evaluation_has_another_value() -> None:
    assert set(PROBE_OTHERS) == leaves(Linear)
    assert set(TUNED_OTHERS) == leaves(Finetune)
    assert leaves(Retrieval) == {"clips"}


@pytest.mark.parametrize("name", sorted(set(PROBE_OTHERS) - {"protocol"}))
def test_every_setting_of_the_probe_acts(name: str, tmp_path: Path) -> None:
    other = changed(PROBE, {name: PROBE_OTHERS[name]})
    assert evaluated(other, tmp_path / "other") != evaluated(PROBE, tmp_path / "plain")


@pytest.mark.parametrize("name", sorted(TUNED_OTHERS))
def test_every_setting_of_fine_tuning_acts(name: str, tmp_path: Path) -> None:
    other = changed(TUNED, {name: TUNED_OTHERS[name]})
    assert evaluated(other, tmp_path / "other") != evaluated(TUNED, tmp_path / "plain")


def test_clips_of_retrieval_act(tmp_path: Path) -> None:
    found = []
    for clips_per_video in (Retrieval().clips, 3):
        folder = tmp_path / str(clips_per_video)
        features.extract(Tiny().eval(), EVALUATED, DATA, clips_per_video, folder)
        found.append(features.read(folder))
    assert found[0].test.shape[1] == 10 and found[1].test.shape[1] == 3
    assert retrieval.run(found[0])["protocol"] != retrieval.run(found[1])["protocol"]


@pytest.mark.parametrize(("protocol", "runs"), [("sgd", "sgd"), ("logistic", "logistic")])
def test_protocol_of_the_probe_acts(protocol: str, runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite reads it: one protocol trains through the encoder, the other takes features extracted once."""
    from ablations import stages
    from ablations.uids import Stage

    class Store:
        def folder(self, uid: str) -> Path:
            return Path(uid)

    monkeypatch.setattr(linear, "sgd", lambda *a, **k: {"ran": "sgd"})
    monkeypatch.setattr(linear, "logistic", lambda *a, **k: {"ran": "logistic"})
    monkeypatch.setattr(features, "read", lambda folder: None)
    monkeypatch.setattr(pretrain, "load_backbone", lambda settings, path: None)
    data = {"where": {"data": DATA.model_dump(mode="json")}, "settings": EVALUATED.active()}
    stage = Stage("linear", "uid", {"linear": {"protocol": protocol}, **data}, 0, ("upstream",), "a probe")
    assert stages.execute(stage, Store(), 0, lambda *a: None)["ran"] == runs  # type: ignore[arg-type]


# --- data ---

EMBEDDED = Embedded(train=2, test=1)
EMBEDDED_OTHERS: dict[str, Any] = {
    "set": "stationary", "domain": "transfer", "train": 1, "test": 2, "seed": 1, "size": 48, "frames": 88,
    "figure": 0.7, "jitter": 0.2, "distractors": 2, "redraw": False, "background_class_correlation": 1,
}  # fmt: skip


def rendered(embedded: Embedded, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Pixels and records."""
    drawn: list[Any] = []
    monkeypatch.setattr(video, "write", lambda path, pixels, **options: drawn.append(np.asarray(pixels).tobytes()))
    folder = synthetic.render(embedded, root)
    return [*drawn, (folder / "records.csv").read_text()]


@pytest.fixture(scope="module")
def as_it_is(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        return rendered(EMBEDDED, tmp_path_factory.mktemp("embedded"), patch)


def test_every_setting_of_embedded_videos_has_another_value() -> None:
    assert set(EMBEDDED_OTHERS) == leaves(Embedded)


@pytest.mark.parametrize("name", EMBEDDED_OTHERS)
def test_every_setting_of_embedded_videos_acts(
    name: str, as_it_is: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed(EMBEDDED, {name: EMBEDDED_OTHERS[name]})
    assert synthetic.fingerprint(other) != synthetic.fingerprint(EMBEDDED)
    assert rendered(other, tmp_path, monkeypatch) != as_it_is


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Four videos under train/ and test/, the last one broken; beside them UCF101's layout; the same again as "two"."""
    root, random = tmp_path / "one", np.random.default_rng(0)
    for place in ("train/a/v1", "train/b/v2", "train/a/v3", "test/a/v4"):
        path = root / f"{place}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        video.write(path, random.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8))
    path.write_bytes(b"broken")
    (root / "UCF-101/a").mkdir(parents=True)
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 a\n")
    for number in (1, 2, 3):
        (root / f"UCF-101/a/v_a_g0{number}_c01.avi").touch()
        (lists / f"trainlist0{number}.txt").write_text(f"a/v_a_g0{number}_c01.avi 1\n")
        (lists / f"testlist0{number}.txt").write_text(f"a/v_a_g0{number % 3 + 1}_c01.avi\n")
    (tmp_path / "two").symlink_to(root)
    return root


def records(data: Data) -> Any:
    loaded = datasets.load(data)
    return loaded.title, [(record.path.name, record.label, record.split) for record in loaded.records]


def survivors(data: Data) -> Any:
    try:
        return len(datasets.readable(data, list(datasets.load(data).records), span=9)[0])  # videos have 8 frames
    except datasets.DataError as error:
        return str(error)


def footage(data: Data) -> Any:
    """What a clip looks like, and how many times its file was decoded whole for it."""
    record, whole = datasets.load(data).records[0], 0

    def counted(path: Path) -> Tensor:
        nonlocal whole
        whole += 1
        return original(path)

    original = video.read_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "read_all", counted)
        read = Footage(data)
        for _ in range(2):
            clip = read.read(record, [np.arange(4)], [augment.centre_crop(16, 16)], 8)[0]
    return tuple(clip.shape), whole


def test_every_setting_of_data_acts(videos: Path) -> None:
    plain = Data(name="folder", root=videos)
    memory, ucf101 = changed(plain, {"decoded": "memory"}), changed(plain, {"name": "ucf101"})
    seen: dict[str, tuple[Callable[[Data], Any], Data, Any]] = {
        "name": (records, plain, "ucf101"),
        "root": (lambda data: datasets.load(data).records[0].path, plain, videos.with_name("two")),
        "fold": (records, ucf101, 2),
        "limit": (records, plain, 1),
        "held_out": (records, plain, 2),
        "broken": (survivors, plain, "fatal"),
        "short": (survivors, plain, "skip"),
        "decoded": (footage, plain, "memory"),
        "memory_gib": (footage, changed(memory, {"cache_gib": 0}), 1e-9),
        "cache_gib": (lambda data: (footage(data), footage(data))[1], memory, 0),
    }
    assert set(seen) | {f"embedded.{name}" for name in EMBEDDED_OTHERS} == leaves(Data)
    for name, (observe, base, value) in seen.items():
        assert observe(changed(base, {name: value})) != observe(base), name
