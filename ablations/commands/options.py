"""Options that several commands have, and the plan that they ask for."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ablations.plan import Plan

FAILED = 1  # exit code

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY|KEY=VALUE",
        help="Study files or names (table3d_beta; `all`: every study), and settings that override profile and study: "
        "optim.steps=50, data.name=ucf101, linear.clips=3. fima/config.py declares them; a misspelt one is told.",
        show_default=False,
    ),
]
ProfileName = Annotated[
    str, typer.Option("--profile", "-p", help="How large: a name in studies/profiles, or a file.", show_default=True)
]
DataRoot = Annotated[
    list[str] | None,
    typer.Option(
        "--data-root",
        metavar="[ROLE=]DIR",
        help="Folder of the real videos, for all roles, or ROLE=DIR for one (ucf101, hmdb51, ...). Repeatable.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="0,1,2", help="Default: the study's, else the profile's.", show_default=False),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAME,NAME",
        help="lin (linear probe), ft (fine-tuning) or R1, R5, R10, R20 (retrieval) /ucf101 or /hmdb51; parameters, "
        "gpu_days. Default: what both study and profile name.",
        show_default=False,
    ),
]
StoreRoot = Annotated[Path, typer.Option("--store", help="Folder of runs; the truth about what is done.")]
Reports = Annotated[Path, typer.Option("--reports", help="Folder of tables and plots.")]
Workers = Annotated[
    int,
    typer.Option("--workers", min=0, metavar="N", help="Processes per stage that read videos ahead; alters no result."),
]
Track = Annotated[
    bool, typer.Option("--mlflow/--no-mlflow", help="Mirror into MLflow (MLFLOW_TRACKING_URI, else mlflow.db).")
]
PlannedJobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Stages that will run side by side. Default: 2 without a card, else 1.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def planned_by(
    words: list[str] | None,
    profile: str,
    roots: list[str] | None,
    seeds: str | None,
    metrics: str | None,
    embedded: bool = False,
) -> Plan:
    """Studies and overrides of a command line, planned. `embedded`: no name means those of embedded videos too."""
    from ablations import plan as planning
    from ablations import spec

    names, overrides = spec.told_apart(words or [])
    paths = spec.find_studies(names)
    if embedded and not names:
        paths += spec.embedded_studies()
    chosen = spec.apply_roots(spec.load_profile(profile), roots or [])
    studies = [spec.load_study(path) for path in paths]
    studies = studies if names and names != ["all"] else planning.measured(studies, chosen)
    return planning.build(studies, chosen, overrides, _seeds(seeds), metrics.split(",") if metrics else None)


def _seeds(text: str | None) -> list[int] | None:
    from ablations.study import LARGEST_SEED

    if text is None:
        return None
    try:
        found = sorted({int(part) for part in text.split(",")})
        if found[0] < 0 or found[-1] > LARGEST_SEED:
            raise ValueError
        return found
    except ValueError:
        raise ValueError(
            f"--seeds takes whole numbers from 0 to {LARGEST_SEED} with commas, such as 0,1,2; got {text}"
        ) from None


def command_line() -> str:
    return shlex.join(["fima-ablate", *sys.argv[1:]])
