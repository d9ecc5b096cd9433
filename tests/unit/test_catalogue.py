"""`fima-ablate list` leaves nothing out."""

from __future__ import annotations

from ablations import catalogue, code


def test_every_file_under_studies_is_listed() -> None:
    files = {path.stem for path in (code.ROOT / "studies").rglob("*.yaml")}
    found = catalogue.as_data()
    named = {one[key] for kind, key in KEYS.items() for one in found[kind]}
    assert named == files
    shown = {line.split()[0] for line in catalogue.lines() if line.startswith("  ")}
    assert shown == files


KEYS = {"studies": "study", "embedded": "study", "sweeps": "sweep", "profiles": "profile"}
