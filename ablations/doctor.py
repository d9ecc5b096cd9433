"""Everything that a run depends on, looked at: `fima-ablate doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ablations import health, machine, mirrored
from ablations.finding import Finding
from fima import indices

if TYPE_CHECKING:
    from ablations.store import Store


def examine(store: Store, fix: bool = False) -> Iterator[Finding]:
    """What is well, what is not and the way out, finding by finding as they are made.

    Args:
        store: whose results; it need not exist yet.
        fix: put right first what loses nothing: damaged files are set aside, drafts of dead processes removed, stages
            of dead processes marked, MLflow brought up to the store and its dead runs ended. No result is deleted.
    """
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = []
    if fix and store.root.is_dir():
        checks += [("files", lambda: health.fix(store)), ("mlflow", lambda: mirrored.fix(store))]
    checks += [
        ("versions", machine.versions),
        ("devices", machine.devices),
        ("codecs", machine.codecs),
        ("cache", machine.cache),
        ("disk", lambda: [machine.room("store", store.root), machine.room("cache", indices.cache_folder())]),
    ]
    if store.root.is_dir():
        looks = {"stages": health.stages, "files": health.files, "drafts": health.drafts,
                 "checkpoints": health.checkpoints, "mlflow": mirrored.check}  # fmt: skip
        checks += [(about, partial(look, store)) for about, look in looks.items()]
    else:
        checks.append(("stages", lambda: [Finding("ok", "stages", f"{store.root}: no store yet; a run makes it")]))
    for about, check in checks:
        try:
            yield from check()
        except Exception as error:  # a doctor must not fall ill: the other checks may say why this one did
            what = f"the check of {about} broke off: {type(error).__name__}: {' '.join(str(error).split())}"
            yield Finding("problem", about, what, "see the other findings")
