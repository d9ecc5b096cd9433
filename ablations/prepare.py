"""What a run needs before its first stage: places to write, embedded videos rendered, real ones indexed."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from ablations.plan import Plan
    from ablations.uids import Stage
    from fima.datasets import Data, Dataset


def writable(option: str, folder: Path) -> None:
    """Find out before hours of work that their results have no place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{option} {folder}: {error.strerror}; name a folder that can be written") from None


def progress_bar(console: Console) -> Progress:
    """A line that shows how far something is, and goes when it is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    )  # fmt: skip


def index(planned: Plan, console: Console) -> None:
    """Index real videos once, with all cores and in sight, before stages ask for them one by one."""
    from fima import datasets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", datasets.PartialCopy)  # said when the plan was made
        sets = {key: datasets.load(data) for key, data in _read(planned).items() if data.name != "embedded"}
    for stage in planned.stages.values():
        if (dataset := sets.get(_key(stage))) is not None:
            _enough(stage, dataset)
    paths = list(dict.fromkeys(record.path for dataset in sets.values() for record in dataset.records))
    if not paths:
        return
    unreadable: list[str] = []
    with progress_bar(console) as bar:
        task = bar.add_task("looking up videos, decoding new ones once", total=len(paths))
        for _, found in datasets.scan(paths, datasets.cores(), lambda done, _: bar.update(task, completed=done)):
            unreadable += [found] if isinstance(found, str) else []
    for line in unreadable[:3]:
        console.print(f"warning: {line}", highlight=False, markup=False, soft_wrap=True)
    if len(unreadable) > 3:
        console.print(f"warning: {len(unreadable) - 3} more cannot be read; the tables name them", highlight=False)


def _key(stage: Stage) -> str:
    """One for all stages that read the same videos; "" for a stage that reads none."""
    return json.dumps(stage.config["where"]["data"], sort_keys=True) if "data" in stage.config else ""


def _read(planned: Plan) -> dict[str, Data]:
    """The videos that stages read, by their key: a profile may name others, which need not be here."""
    from fima.datasets import Data

    keys = {_key(stage) for stage in planned.stages.values()} - {""}
    return {key: Data.model_validate_json(key) for key in sorted(keys)}


def _enough(stage: Stage, dataset: Dataset) -> None:
    """Refuse at once what a stage would find out after those before it have run for days."""
    if stage.kind == "pretrain":
        videos = len({record.path for record in dataset.split("train")})
        batch = stage.config["settings"]["optim"]["batch"]
        if batch > videos:
            raise ValueError(
                f"optim.batch must not exceed the {videos} training videos of {dataset.root}, got {batch}; "
                f"set optim.batch={videos or 1} or add videos"
            )
        return
    for split in ("train", "test"):
        if not any(record.label is not None for record in dataset.split(split)):
            raise ValueError(
                f"{dataset.root}: no labelled video in its {split} split, which the {stage.title} needs; add some, or "
                "leave the column out of --metrics"
            )


def devices(planned: Plan, count: int) -> None:
    """Refuse at once a number of devices that a pre-training cannot be spread over.

    Raises:
        ValueError: a batch, or its groups of pixel negatives, do not divide over them.
    """
    from fima import pretrain
    from fima.config import Settings

    asked = [(f"{row.study.study}, row {row.row.label}", row.resolved.settings) for row in planned.rows]
    for reference in planned.references:  # with the motion of other videos
        stages = [planned.stages[uid] for uid in reference.pretrain.values()]
        asked += [(stage.title, Settings.model_validate(stage.config["settings"])) for stage in stages[:1]]
    for name, settings in asked:
        try:
            pretrain.check_devices(settings, count)
        except ValueError as error:
            raise ValueError(f"--devices-per-run {count}: {name}: {error}") from None


def render(planned: Plan, console: Console) -> None:
    """Render embedded videos that are not there yet, once, before stages ask for them."""
    from fima import datasets, synthetic

    used = {data.embedded for data in _read(planned).values() if data.name == "embedded"}
    for embedded in sorted(used, key=str):
        if synthetic.folder(embedded).is_dir():
            continue
        console.print(
            f"rendering {synthetic.title(embedded)} videos into {synthetic.folder(embedded)}",
            highlight=False,
            soft_wrap=True,
        )
        with progress_bar(console) as bar:
            task = bar.add_task("videos", total=None)

            def show(done: int, total: int, bar: Progress = bar, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            synthetic.render(embedded, on_progress=show, jobs=datasets.cores())
