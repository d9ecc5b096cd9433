"""Reference rows: a random encoder, frame differences without an encoder, motion keys of other videos."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ablations import plan as planning
from ablations import report, spec, stages
from ablations.store import Store
from fima import pretrain
from fima.config import Settings
from fima.datasets import Data
from fima.evaluate import features
from fima.evaluate.energy import Energy
from fima.model import FIMA

SMALL = {
    "backbone": {"name": "small"},
    "clip": {"frames": 8},
    "augment": {"size": 32},
    "projector": {"hidden": 16, "width": 8},
    "decoder": {"width": 16},
    "contrast": {"queue": 10},
    "frame": {"queue": 10},
    "pixel": {"group": 2},
    "optim": {"batch": 4, "steps": 1},
}


def views(settings: Settings) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    found = {}
    for side in ("source", "target"):
        found[f"{side}_box"] = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(4, 1)
        found[side] = torch.randn(4, 3, 8, 32, 32)
        found[f"{side}_difference"] = torch.randn(4, 3, 8, 32, 32)
        found[f"{side}_parts"] = torch.randn(4, 2, 3, 8, 32, 32)
    return found


def test_energy_is_the_mean_of_absolute_differences_in_each_cell() -> None:
    settings = Settings.model_validate(SMALL)
    clips = torch.randn(2, 3, 8, 32, 32)
    found = Energy(settings)(clips)
    pixels = clips * torch.tensor([0.22803, 0.22145, 0.216989]).view(1, 3, 1, 1, 1)
    grid = Energy(settings).grid
    assert found.shape == (2, grid[0] * grid[1] * grid[2], 1, 1, 1)
    moved = (pixels[:, :, 1:] - pixels[:, :, :-1]).abs().mean(1)
    first = moved[:, : -(-7 // grid[0]), : 32 // grid[1], : 32 // grid[2]].mean(dim=(1, 2, 3))
    assert torch.allclose(found[:, 0, 0, 0, 0], first, atol=1e-6)
    assert Energy(settings)(clips[:, :, :1].expand(-1, -1, 8, -1, -1)).abs().max() == 0  # what stands still has none


def test_a_random_encoder_is_where_pre_training_starts(tmp_path: Path) -> None:
    settings = Settings.model_validate({**SMALL, "losses": ["vv"]})
    pretrain.untrained(settings, 5, tmp_path)
    backbone = pretrain.load_backbone(settings, tmp_path / "checkpoint.pt")
    torch.manual_seed(5)
    other = FIMA(Settings.model_validate({**SMALL, "losses": ["vv", "pix", "fra"]})).query.backbone
    for (name, ours), theirs in zip(backbone.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("loss", ["vd", "pix", "fra"])
def test_shuffled_keys_are_the_next_videos(loss: str) -> None:
    """The keys that are pushed belong to the next video of the batch; L_VV and the foreground are left alone."""
    torch.manual_seed(0)
    plain = FIMA(Settings.model_validate({**SMALL, "losses": ["vv", loss]})).eval()
    control = FIMA(
        Settings.model_validate({**SMALL, "losses": ["vv", loss], "contrast": {"queue": 10, "shuffled": True}})
    )
    control.load_state_dict(plain.state_dict())
    terms, keys = plain(views(plain.settings))
    other, moved = control.eval()(views(plain.settings))
    assert torch.equal(terms["vv"], other["vv"]) and torch.equal(keys["vv"], moved["vv"])
    assert terms[loss] != other[loss]
    each = keys[loss].unflatten(0, (2, 4, -1))  # view, video, what there is of each
    assert torch.equal(moved[loss].unflatten(0, (2, 4, -1)), each.roll(-1, 1).roll(2, 1))


def test_every_reference_runs_and_stands_below_the_table(tmp_path: Path) -> None:
    profile = tmp_path / "tiny.yaml"
    profile.write_text(
        "profile: tiny\nextends: debug\ntitle: t\nscale: reduced\nreferences: [random, energy, shuffled, supervised]\n"
    )
    study = tmp_path / "one.yaml"
    study.write_text(
        "study: one\ntitle: t\nbase: {losses: [vv, pix]}\nmetrics: [lin/ucf101, ft/ucf101, R1/ucf101]\n"
        "rows: [{label: all, default: true}]\n"
    )
    made = planning.build([spec.load_study(study)], spec.load_profile(str(profile)))
    store = Store(tmp_path / "runs")
    for stage in made.stages.values():
        store.prepare(stage)
        store.finish(stage.uid, stages.execute(stage, store, 0, lambda *_: None))
    (table,) = report.build(made, store)
    measured = {row.label: {metric for metric, cell in row.cells.items() if cell.n} for row in table.references}
    every = {"lin/ucf101", "ft/ucf101", "R1/ucf101"}
    names = planning.REFERENCES
    assert measured == {
        names["random"]: every,
        names["energy"]: {"lin/ucf101", "R1/ucf101"},
        names["shuffled"]: every,
        names["supervised"]: {"lin/ucf101", "ft/ucf101"},
    }
    assert sum("“supervised from scratch, twice the steps” trains all weights" in note for note in table.notes) == 1
    assert not any(cell.best for row in table.references for cell in row.cells.values())
    assert [row.label for row in table.rows] == ["all"]


@pytest.mark.parametrize("metric", ["ft/ucf101", "lin/ucf101"])
def test_studies_of_other_losses_share_the_random_encoder(metric: str) -> None:
    """A setting of pre-training alone starts nothing anew of an encoder that nobody trained."""
    studies = [spec.load_study(name) for name in ("table1_losses", "table2_components", "table9_frame_loss")]
    made = planning.build(
        studies, spec.load_profile("mini"), ["linear.protocol=sgd", "augment.static=0.3"], (0, 1), (metric,)
    )
    label = planning.REFERENCES["random"]
    uids = [{cell.uid for cell in one.cells[metric].values()} for one in made.references if one.label == label]
    assert len(uids) > 1 and all(one == uids[0] for one in uids)
    trained = {cell.uid for row in made.rows if metric in row.cells for cell in row.cells[metric].values()}
    assert len(trained) > 10 and not trained & uids[0]


def test_features_of_energy_are_read_like_any(tmp_path: Path) -> None:
    settings = Settings.model_validate(SMALL)
    data = Data.model_validate({"name": "embedded", "embedded": {"train": 8, "test": 4, "size": 48}})
    result = features.extract(Energy(settings), settings, data, 2, tmp_path)
    found = features.read(tmp_path)
    assert found.train.shape == (16, 2, result["channels"]) and found.train.min() >= 0 and found.train.max() <= 1
    assert len(found.test_groups) == len(found.test)
