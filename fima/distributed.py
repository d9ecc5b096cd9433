"""The few places that know of ranks. Without torchrun every function is the single-device case."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# While one rank renders or indexes a data set, the others wait for hours; of a collective on the cards that would be
# given up after ten minutes.
PATIENCE = timedelta(days=2)
_waiting: list[Any] = []  # the group that barriers take: gloo, whatever the cards use


def active() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 alone."""
    return dist.get_rank() if active() else 0


def world() -> int:
    """How many processes train together, 1 alone."""
    return dist.get_world_size() if active() else 1


def start() -> torch.device:
    """Join the process group that torchrun describes, if any; returns the device of this process."""
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() and not active():
        dist.init_process_group("nccl" if cuda else "gloo")
        _waiting[:] = [dist.new_group(backend="gloo", timeout=PATIENCE)]
    if cuda:
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return torch.device("cpu")


def stop() -> None:
    """Leave the process group."""
    if active():
        dist.destroy_process_group()
        _waiting.clear()


def barrier() -> None:
    """Wait for all processes, up to PATIENCE."""
    if active():
        dist.barrier(_waiting[0] if _waiting else None)


@contextmanager
def first() -> Iterator[None]:
    """Rank 0 runs the block before the others do: what it leaves on the disk is there for them."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


@torch.no_grad()
def gather(batch: Tensor) -> Tensor:
    """Tensors [N, ...] of all ranks as [world * N, ...], without gradient."""
    if not active():
        return batch
    batch = batch.contiguous()  # NCCL copies raw memory: `parts` must not take over a channels_last_3d layout
    parts = [torch.empty_like(batch) for _ in range(world())]
    dist.all_gather(parts, batch)
    return torch.cat(parts)


@torch.no_grad()
def shuffled(encode: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Encode a batch with its samples dealt to other ranks, and bring the results home (MoCo's shuffling BN).

    Args:
        encode: [N, ...] to [N, ...], sample by sample but for BatchNorm statistics.
        batch: [N, ...] of this rank, the same N on every rank.
    """
    if not active():
        return encode(batch)
    everyone = gather(batch)
    order = torch.randperm(len(everyone), device=batch.device)
    dist.broadcast(order, src=0)
    mine = order.view(world(), -1)[rank()]
    encoded = gather(encode(everyone[mine]))
    home = torch.argsort(order).view(world(), -1)[rank()]
    return encoded[home]
