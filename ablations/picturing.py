"""Pictures of finished pre-trainings: rows of a study, stages of the store, or folders, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import plan as planning
from ablations import spec
from ablations.located import SpecError, guess
from ablations.profile import folder_of

if TYPE_CHECKING:
    from ablations.store import Store
    from fima.datasets import Data
    from fima.figures.picture import Picture

KINDS = ("pretrain", "untrained", "given")  # stages that can be drawn


@dataclass(frozen=True)
class Run:
    """What one word of the command names: a folder, and the label of the row if it is one ("": its losses)."""

    folder: Path
    label: str = ""


def find(word: str, store: Store, profile: spec.Profile, overrides: Sequence[str], seed: int) -> Run:
    """The run that a word names.

    Args:
        word: `STUDY:ROW`, the uid of a stage in the store (or how it begins or ends), or a folder of one.
        store: of finished stages.
        profile, overrides: under which a study's row was trained.
        seed: of the row's pre-training.

    Raises:
        SpecError: nothing is named so, several are, or the row is not trained; one line with the way out.
    """
    if Path(word).is_dir():
        return Run(Path(word))
    name, colon, label = word.partition(":")
    if not colon:
        return Run(_stage(word, store))
    study = spec.load_study(name)
    labels = [row.label for row in study.rows]
    if label not in labels:
        raise SpecError(
            f"{word}: {study.study} has no row {label}; rows are {', '.join(labels)}.{guess(label, labels)}"
        )
    planned = planning.build([study], profile, overrides, [seed], ["parameters"])
    (row,) = (row for row in planned.rows if row.row.label == label)
    if seed not in row.pretrain:
        raise SpecError(f"{word}: {planned.absent[0]}")
    uid = row.pretrain[seed]
    if store.result(uid) is None or not (store.folder(uid) / "checkpoint.pt").is_file():
        raise SpecError(
            f"{word}: is not trained with seed {seed} in {store.root} ({uid}); fima-ablate run {name} "
            f"--profile {profile.profile} --seeds {seed} trains it"
        )
    return Run(store.folder(uid), label)


def _stage(word: str, store: Store) -> Path:
    known = [uid for uid in store.uids() if uid.partition("-")[0] in KINDS]
    found = [uid for uid in known if uid == word] or [u for u in known if u.startswith(word) or u.endswith(word)]
    if len(found) != 1:
        what = "no stage" if not found else f"{len(found)} stages"
        hint = guess(word, known) if not found else f" Such as {found[0]}."
        raise SpecError(
            f"{word}: {what} of that name in {store.root}; a figure takes STUDY:ROW, a stage of kind "
            f"{' or '.join(KINDS)}, or its folder.{hint}"
        )
    return store.folder(found[0])


def videos(text: str) -> Data:
    """Real videos to draw: `DIR`, whose layout is seen from its files, or `NAME=DIR` for that of a data set.

    Raises:
        SpecError: no such folder, or no such data set.
    """
    from pydantic import ValidationError

    from fima.check import detect
    from fima.datasets import Data

    name, folder = folder_of(text)
    if not folder.is_dir():
        raise SpecError(f"--videos {folder}: no such folder; give one of videos, or NAME=DIR for a data set's layout")
    try:
        return Data.model_validate({"name": name or detect(folder), "root": folder})
    except ValidationError as error:
        raise SpecError(f"--videos {text}: {error.errors(include_url=False)[0]['msg']}") from None


def draw(
    runs: Sequence[Run], names: Sequence[str], data: Data | None, count: int, seed: int, out: Path
) -> Iterator[tuple[Path, Picture]]:
    """Draw figures of the runs side by side and write each with its numbers, arrays and caption.

    Args:
        runs: of equal view and feature size.
        names: of `fima.figures.gallery.FIGURES`; none: all.
        data: whose test videos are drawn; None: those of the first run.
        count: videos that numbers are averaged over.
        seed: of what is chosen to be drawn.
        out: folder of NAME.png, .pdf, .npz and .json.

    Raises:
        ValueError: a run is unfinished, or sizes differ.
    """
    from fima.figures import gallery
    from fima.figures.stage import load_all, told_apart

    stages = load_all([run.folder for run in runs])
    labels = [run.label or stage.label for run, stage in zip(runs, stages, strict=True)]
    stages = [
        replace(stage, label=label if labels.count(label) == 1 else stage.label, data=data or stages[0].data)
        for stage, label in zip(stages, labels, strict=True)
    ]
    told_apart(stages)
    for picture in gallery.draw(stages, names or list(gallery.FIGURES), gallery.Choice(videos=count, seed=seed)):
        yield picture.save(out)[0], picture


def named(only: str | None) -> list[str]:
    """The figures of a comma-separated list; none: all.

    Raises:
        SpecError: no figure of that name.
    """
    from fima.figures import gallery

    names, known = only.split(",") if only else [], list(gallery.FIGURES)
    for name in names:
        if name not in known:
            raise SpecError(
                f"--only {name}: there is no such figure; there are {', '.join(known)}.{guess(name, known)}"
            )
    return names


def command(
    words: Sequence[str],
    profile: str,
    roots: Sequence[str],
    seed: int,
    only: str | None,
    real: str | None,
    count: int,
    store: Path,
    out: Path,
) -> Iterator[tuple[Path, Picture]]:
    """What `fima-ablate figures` draws, from its arguments as they are typed.

    Raises:
        SpecError, ValueError: as `named`, `find`, `videos` and `draw`.
    """
    from ablations.store import Store

    runs, overrides = spec.told_apart(words)
    if not runs:
        raise SpecError("a figure takes STUDY:ROW, a stage of the store, or its folder; none is named")
    names = named(only)
    chosen, truth = spec.apply_roots(spec.load_profile(profile), roots), Store(store.resolve())
    found = [find(word, truth, chosen, overrides, seed) for word in runs]
    yield from draw(found, names, videos(real) if real else None, count, seed, out)
