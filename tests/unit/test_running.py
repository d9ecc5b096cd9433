"""From the command line to the tables: what is said on the way."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from test_records import planned

from ablations import engine, prepare, publish, running


def test_a_failure_is_said_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets are markup to rich: a library's message would vanish, or end the command."""
    plan = planned(seeds=(0,))
    uid = next(iter(plan.stages))
    message = "[enforce fail at alloc_cpu.cpp:114] of [vv]; [/pytorch/pair.cc:534] closed"
    failed = engine.Outcome(failed={uid: message}, titles={uid: "pre-training"})
    monkeypatch.setattr(engine, "run", lambda *_, **__: failed)
    monkeypatch.setattr(publish, "write_studies", lambda *_: {})
    monkeypatch.setattr(prepare, "render", lambda *_: None)
    out = io.StringIO()
    asked = running.Asked(1, None, 1, "local", None, (), 0, False, 0, tmp_path / "runs", tmp_path, False, "fima-ablate")
    assert not running.conduct(asked, plan, Console(file=out, width=300))
    assert message in out.getvalue()
