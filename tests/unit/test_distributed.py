"""Several processes: samples come home in order, and no rank encodes its own batch together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fima import distributed

WORLD, EACH = 2, 6


def test_alone_everything_is_the_identity() -> None:
    batch, seen = torch.randn(4, 3), []

    def encode(part: Tensor) -> Tensor:
        seen.append(part)
        return 2 * part

    assert not distributed.active()
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert distributed.gather(batch) is batch
    assert torch.equal(distributed.shuffled(encode, batch), 2 * batch)
    assert torch.equal(seen[0], batch)
    assert not distributed.shuffled(encode, batch.requires_grad_()).requires_grad
    distributed.barrier()
    distributed.stop()
    if not torch.cuda.is_available():
        assert distributed.start() == torch.device("cpu")


def test_gather_hands_over_one_memory_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL copies raw memory, so what is sent and what receives it must be laid out alike."""

    def raw(parts: list[Tensor], batch: Tensor) -> None:
        assert batch.is_contiguous()
        for part in parts:
            part.as_strided((part.numel(),), (1,)).copy_(batch.flatten())

    monkeypatch.setattr(distributed, "active", lambda: True)
    monkeypatch.setattr(distributed, "world", lambda: WORLD)
    monkeypatch.setattr(distributed.dist, "all_gather", raw)
    batch = torch.randn(2, 3, 4, 5, 6)
    for form in (torch.contiguous_format, torch.channels_last_3d):
        assert torch.equal(distributed.gather(batch.contiguous(memory_format=form)), torch.cat([batch, batch]))


def own(rank: int, shape: tuple[int, ...] = (3,)) -> Tensor:
    """Samples that say whose they are and which: rank * EACH + number."""
    number = torch.arange(rank * EACH, (rank + 1) * EACH, dtype=torch.float32)
    return number.view(-1, *[1] * len(shape)).expand(EACH, *shape).clone()


def laws(rank: int) -> dict[str, object]:
    """What one process sees; compared in the parent, where a failure can be read."""
    everyone = torch.cat([own(r) for r in range(WORLD)])
    seen: list[list[int]] = []

    def encode(batch: Tensor) -> Tensor:
        seen.append(batch[:, 0].int().tolist())
        return batch[:, :1] ** 2

    torch.manual_seed(rank)  # ranks need not agree on their generators
    home = [torch.equal(distributed.shuffled(encode, own(rank)), own(rank)[:, :1] ** 2) for _ in range(4)]

    def formatted(kind: torch.dtype, form: torch.memory_format) -> Callable[[Tensor], Tensor]:
        return lambda batch: batch.to(kind).contiguous(memory_format=form)

    # Maps [N, C, T, H, W] whose values differ at every place, in each format that an encoder returns.
    place = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5) / 8
    maps = own(rank, (2, 3, 4, 5)) + place
    for kind in (torch.float32, torch.bfloat16):
        for form in (torch.contiguous_format, torch.channels_last_3d):
            home.append(torch.equal(distributed.shuffled(formatted(kind, form), maps), maps.to(kind)))
    weight = torch.ones(1, requires_grad=True)
    return {
        "rank": (distributed.rank(), distributed.world(), distributed.active()),
        "gathered": torch.equal(distributed.gather(own(rank)), everyone),
        "whole numbers": torch.equal(distributed.gather(own(rank).long()), everyone.long()),
        "home": home,
        "seen": seen,
        "gradient": distributed.shuffled(lambda batch: batch * weight, own(rank)).requires_grad
        or distributed.gather(own(rank) * weight).requires_grad,
    }


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=WORLD)
    try:
        torch.save(laws(rank), f"{folder}/{rank}.pt")
        distributed.barrier()
    finally:
        distributed.stop()
    assert not distributed.active()


@pytest.fixture(scope="module")
def seen_by_each(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_each_process_knows_its_place(seen_by_each: list[dict[str, object]]) -> None:
    assert [laws["rank"] for laws in seen_by_each] == [(rank, WORLD, True) for rank in range(WORLD)]


def test_gather_keeps_the_order_of_ranks(seen_by_each: list[dict[str, object]]) -> None:
    assert all(laws["gathered"] and laws["whole numbers"] for laws in seen_by_each)


def test_samples_come_home_in_order_in_every_type_and_memory_format(seen_by_each: list[dict[str, object]]) -> None:
    assert [laws["home"] for laws in seen_by_each] == [[True] * 8] * WORLD


def test_each_sample_is_encoded_once_by_a_rank_that_chance_picks(seen_by_each: list[dict[str, object]]) -> None:
    rounds = list(zip(*(laws["seen"] for laws in seen_by_each), strict=True))  # type: ignore[call-overload]
    assert len(rounds) == 4
    for parts in rounds:
        assert [len(part) for part in parts] == [EACH] * WORLD
        assert sorted(number for part in parts for number in part) == list(range(WORLD * EACH))
    strangers = [sum(number // EACH != rank for rank, part in enumerate(parts) for number in part) for parts in rounds]
    assert sum(strangers) > 0 and len({str(parts) for parts in rounds}) > 1


def test_keys_carry_no_gradient(seen_by_each: list[dict[str, object]]) -> None:
    assert not any(laws["gradient"] for laws in seen_by_each)
