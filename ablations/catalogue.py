"""What there is to run: studies, sweeps and profiles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ablations import spec
from ablations import sweep as sweeps


def as_data() -> dict[str, Any]:
    """All of it, as plain JSON data."""
    return {
        "studies": _studies(spec.study_files()),
        "embedded": _studies(spec.embedded_studies()),
        "sweeps": [
            {"sweep": found.sweep, "title": found.title, "trials": found.trials}
            for found in map(sweeps.load_sweep, sweeps.sweep_files())
        ],
        "profiles": [
            {"profile": found.profile, "title": found.title, "scale": found.scale}
            for found in (spec.load_profile(str(path)) for path in spec.profile_files())
        ],
    }


def _studies(paths: Iterable[Path]) -> list[dict[str, Any]]:
    found = map(spec.load_study, paths)
    return [{"study": study.study, "title": study.title, "rows": len(study.rows)} for study in found]


def lines() -> list[str]:
    """All of it, for people."""
    found = as_data()

    def studies(kind: str) -> list[str]:
        return [f"  {study['study']:24} {study['rows']:>2} rows  {study['title']}" for study in found[kind]]

    return [
        "Studies, one per table of the paper (fima-ablate run NAME, or all)",
        *studies("studies"),
        "",
        "Studies of embedded videos, no tables of the paper (fima-ablate run NAME)",
        *studies("embedded"),
        "",
        "Sweeps (fima-ablate sweep NAME)",
        *(f"  {sweep['sweep']:24} {_trials(sweep['trials']):9}  {sweep['title']}" for sweep in found["sweeps"]),
        "",
        "Profiles (--profile NAME)",
        *(f"  {profile['profile']:24} {profile['title']}" for profile in found["profiles"]),
    ]


def _trials(count: int | None) -> str:
    return "grid" if count is None else f"{count} trials"
