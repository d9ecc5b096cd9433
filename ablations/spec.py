"""A study (what is compared) and a profile (how large), read from YAML; and both resolved into settings.

Layers, later ones win: defaults of `fima.config` < profile < study's base < row < overrides of the command line.
Values that a study states on the paper's scale are multiplied by the profile's rule; overrides are taken literally.
Importing this module imports neither torch nor any model. The parts: `located` (YAML with line numbers), `dotted`
(settings by name), `study`, `profile`, `resolve`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ablations.located import SpecError
from ablations.profile import Profile, apply_roots, load_profile, profile_files
from ablations.resolve import Resolved, Scaled, parse_overrides, resolve
from ablations.study import (
    COSTS,
    METRICS,
    ROLES,
    TESTED,
    Cited,
    Claim,
    Row,
    Study,
    embedded_studies,
    find_studies,
    find_study,
    load_study,
    study_files,
)

__all__ = [
    "COSTS",
    "METRICS",
    "ROLES",
    "TESTED",
    "Cited",
    "Claim",
    "Profile",
    "Resolved",
    "Row",
    "Scaled",
    "SpecError",
    "Study",
    "apply_roots",
    "embedded_studies",
    "find_studies",
    "find_study",
    "load_profile",
    "load_study",
    "parse_overrides",
    "profile_files",
    "resolve",
    "study_files",
    "told_apart",
]


def told_apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names and overrides among the words of a command; a file may have "=" in its name, a row in its label."""
    overrides = [word for word in words if re.match(r"[\w.]*\s*=", word) and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides
