"""What the rows of studies cost, without data and without training: `fima-ablate cost`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations import spec
from ablations.render import number
from ablations.uids import DAY

if TYPE_CHECKING:
    from fima.config import Settings
    from fima.datasets import Data

TRAIN = {"ucf101": 9_537}  # videos of split 1, for days without the data at hand


def rows(names: Sequence[str], profile: str, overrides: Sequence[str], measure: int = 0) -> list[dict[str, Any]]:
    """One entry per row of the studies.

    Args:
        names: studies; none, or `all`: every one of the repository.
        profile: how large.
        overrides: `KEY=VALUE`.
        measure: steps to time per row; 0: none.

    Returns:
        study, label, default, paper (the printed cost columns), parameters_paper_millions, parameters_millions,
        gflop_per_step, gflop_relative (to the study's first row), batch; if measured, seconds_per_step,
        seconds_relative, device, and where the number of steps is known steps and gpu_days.

    Raises:
        SpecError: a study, profile or override that is wrong.
    """
    from fima import cost

    paths = spec.find_studies(names)
    chosen = spec.load_profile(profile)
    found: list[dict[str, Any]] = []
    counted: dict[str, dict[str, float]] = {}
    for path in paths:
        study = spec.load_study(path)
        rows = [row for row in study.rows if row.encoder is None]  # what others trained cost them
        each = [spec.resolve(study, row, chosen, overrides) for row in rows]
        settings = [resolved.settings for resolved in each]
        timed = cost.measure(settings, measure) if measure else []
        first: dict[str, Any] = {}
        for number_, (row, own) in enumerate(zip(rows, settings, strict=True)):
            key = own.model_dump_json()
            if key not in counted:
                counted[key] = cost.sizes(own)
            entry: dict[str, Any] = {
                "study": study.study,
                "profile": chosen.profile,
                "label": row.label,
                "default": row.default,
                "paper": {name: value for name, value in row.paper.items() if name in spec.COSTS},
                **counted[key],
                "batch": own.optim.batch,
            }
            if timed:
                entry["seconds_per_step"], entry["device"] = timed[number_], cost.device_name()
                steps = _steps(own, each[number_].data["pretrain"])
                if steps is not None:
                    entry |= {"steps": steps, "gpu_days": steps * timed[number_] / DAY}
            first = first or entry
            entry["gflop_relative"] = entry["gflop_per_step"] / first["gflop_per_step"]
            if timed:
                entry["seconds_relative"] = entry["seconds_per_step"] / first["seconds_per_step"]
            found.append(entry)
    return found


def _steps(settings: Settings, data: Data) -> int | None:
    """Steps of a pre-training, as far as they are known without the data: videos are counted of whole first splits."""
    if settings.optim.steps is not None:
        return settings.optim.steps
    known = data.name in TRAIN and data.fold == 1 and data.limit is None
    return settings.optim.epochs * (TRAIN[data.name] // settings.optim.batch) if known else None


def text(found: Sequence[Mapping[str, Any]]) -> str:
    """For a terminal: a block per study."""
    out: list[str] = []
    for study in dict.fromkeys(entry["study"] for entry in found):
        own = [entry for entry in found if entry["study"] == study]
        head = ["", "parameters M", "in full M", "GFLOP/step", "relative"]
        lines = [
            [
                entry["label"] + (" (default)" if entry["default"] else ""),
                number(entry["parameters_paper_millions"], 3),
                number(entry["parameters_millions"], 3),
                number(entry["gflop_per_step"], 1),
                number(entry["gflop_relative"], 3),
            ]
            for entry in own
        ]
        if "seconds_per_step" in own[0]:
            head += ["s/step", "relative"]
            for line, entry in zip(lines, own, strict=True):
                line += [number(entry["seconds_per_step"], 3), number(entry["seconds_relative"], 3)]
            if any("gpu_days" in entry for entry in own):
                head.append("device-days")
                for line, entry in zip(lines, own, strict=True):
                    line.append(f"{entry['gpu_days']:.3g}" if "gpu_days" in entry else number(None, 0))
        if any("gpu_days" in entry["paper"] for entry in own):
            head += ["paper: GPU-days", "relative"]
            base = own[0]["paper"].get("gpu_days")
            for line, entry in zip(lines, own, strict=True):
                days = entry["paper"].get("gpu_days")
                line += [number(days, 2), number(days / base if days and base else None, 3)]
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
        device = f", on {own[0]['device']}" if "device" in own[0] else ""
        out.append(f"{study}, profile {own[0]['profile']}, batch {own[0]['batch']}{device}")
        for line in [head, *lines]:
            cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
            out.append("  ".join(cells).rstrip())
        out.append("")
    out.append(
        "parameters: the paper's count (encoder, the decoder's outer linear and feed-forward layers); in full: with "
        "attention, norms and class token. A multiplication and an addition are two FLOPs."
    )
    return "\n".join(out)
