"""What is looked up before the first stage: the videos that stages read, and no others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from ablations import plan as planning
from ablations import prepare, spec
from fima import datasets


@pytest.mark.parametrize(
    ("sets", "metrics"),
    [(("ucf101", "hmdb51"), None), (("ucf101",), ("lin/ucf101", "ft/ucf101", "R1/ucf101"))],
)
@pytest.mark.filterwarnings("ignore::fima.datasets.PartialCopy")
def test_a_data_set_that_no_stage_reads_need_not_be_here(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: Sequence[str], metrics: Sequence[str] | None
) -> None:
    """The profile names Diving48, too, and the README says how to do without HMDB51."""
    for name in sets:
        (tmp_path / name).symlink_to(clips / name)
    looked_up: list[Path] = []
    monkeypatch.setattr(datasets, "scan", lambda paths, *_: looked_up.extend(paths) or [])
    profile = spec.apply_roots(spec.load_profile("ucf101-i3d"), [str(tmp_path)])
    planned = planning.build([spec.load_study("table1_losses")], profile, ["optim.batch=8"], metrics=metrics)
    prepare.index(planned, Console(file=io.StringIO()))
    assert {path.relative_to(tmp_path).parts[0] for path in looked_up} == set(sets)


def test_only_videos_that_stages_read_are_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIMA_CACHE", str(tmp_path))
    planned = planning.build([spec.load_study("table9_frame_loss")], spec.load_profile("debug"), metrics=["lin/ucf101"])
    prepare.render(planned, Console(file=io.StringIO()))
    both = planning.build([spec.load_study("table1_losses")], spec.load_profile("debug"))
    news = io.StringIO()
    prepare.render(both, Console(file=news))
    assert news.getvalue().count("rendering") == 1  # those of the transfer set, for which there was no metric
