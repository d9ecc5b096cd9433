"""What a step costs: parameters of the paper's scale, FLOPs against sums by hand, and the command."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ablations.cli import app
from fima import cost
from fima.config import Settings

SMALL = {
    "backbone": {"name": "small"},
    "clip": {"frames": 8},
    "augment": {"size": 32},
    "projector": {"hidden": 16, "width": 8},
    "contrast": {"queue": 10},
    "optim": {"batch": 4},
}


def entries(*words: str) -> list[dict[str, float]]:
    result = CliRunner().invoke(app, ["cost", *words, "--json"])
    assert result.exit_code == 0, result.output
    found: list[dict[str, float]] = json.loads(result.output)
    return found


def test_parameters_of_the_paper_come_out() -> None:
    """Tables 8 and 11: 12.3, 14.4 and 16.5 million; with attention, norms and class token 16.494 and 20.700."""
    shared, different = entries("table8_shared_decoder", "--profile", "ucf101-i3d")
    assert [round(e["parameters_paper_millions"], 1) for e in (shared, different)] == [14.4, 16.5]
    assert [round(e["parameters_millions"], 3) for e in (shared, different)] == [16.494, 20.700]
    rows = entries("table11_cost", "--profile", "ucf101-i3d")
    assert [round(row["parameters_paper_millions"], 1) for row in rows] == [12.3, 12.3, 12.3, 14.4]
    relative = [row["gflop_relative"] for row in rows]
    assert relative[0] == 1 and relative == sorted(relative) and relative[-1] < 1.102


def test_flops_of_vv_are_those_of_its_passes() -> None:
    """By hand: queries forward and backward (the first layer sends no gradient on), keys forward."""
    settings = Settings.model_validate({**SMALL, "losses": ["vv"]})
    shapes = [(3, 16, 8, 16), (16, 32, 4, 8), (32, 64, 2, 4), (64, 128, 2, 4)]  # in, out, T and H = W of the output
    convs = [2 * i * o * 27 * t * h * h for i, o, t, h in shapes]
    head = 2 * (128 * 16 + 16 * 8)
    clips = 2 * 4
    encoder = clips * (4 * sum(convs) - convs[0])
    heads = clips * (3 * head + head)
    logits = clips * 10 * 8 * 2 * 2  # with the queue, forward and to the query
    assert cost.sizes(settings)["gflop_per_step"] == pytest.approx((encoder + heads + logits) / 1e9, rel=1e-6)


def test_flops_are_linear_in_the_batch_and_grow_with_losses() -> None:
    def flops(batch: int, *losses: str) -> float:
        tree = {**SMALL, "losses": list(losses), "optim": {"batch": batch}, "pixel": {"group": 2}}
        return cost.sizes(Settings.model_validate(tree))["gflop_per_step"]

    assert flops(8, "vv", "pix", "fra") == pytest.approx(2 * flops(4, "vv", "pix", "fra"))
    assert flops(4, "vv") < flops(4, "vv", "vd") < flops(4, "vv", "pix") < flops(4, "vv", "pix", "fra")


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"recompute": True}, {"compile": True}])
def test_arithmetic_alters_no_count(change: dict[str, object]) -> None:
    plain = Settings.model_validate(SMALL)
    assert cost.sizes(Settings.model_validate({**SMALL, "compute": change})) == cost.sizes(plain)


def test_steps_are_timed_in_turns() -> None:
    rows = [Settings.model_validate({**SMALL, "losses": losses}) for losses in (["vv"], ["vv", "pix", "fra"])]
    first, second = cost.measure(rows, 2)
    assert 0 < first < second


def test_the_command_for_people_says_what_the_paper_printed() -> None:
    result = CliRunner().invoke(app, ["cost", "table11_cost", "--measure", "1", "optim.batch=8"])
    assert result.exit_code == 0, result.output
    assert "1.102" in result.output and "device-days" in result.output and "DC + FS + MD (default)" in result.output
