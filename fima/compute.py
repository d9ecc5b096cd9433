"""How networks compute on the device at hand: precision, memory format, recomputation, compilation (config.Compute)."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fima.config import Compute

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8  # of glibc's malloc.h
PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(compute: Compute, device: torch.device) -> AbstractContextManager[object]:
    """The networks' precision; losses are computed outside of it, in float32."""
    precision = PRECISION[compute.precision]
    return nullcontext() if precision is torch.float32 else torch.autocast(device.type, precision)


def channels_last(compute: Compute, device: torch.device, network: nn.Module | None = None) -> bool:
    """Whether clips and kernels lie in channels_last_3d: as set, or where it is faster.

    On a CPU it is, but for R(2+1)D in float32 without AVX-512: oneDNN's weight gradient of a 1 x k x k kernel takes
    5 times as long there in that layout, and a step of that encoder twice (tests/benchmarks/NOTES.md).
    """
    if compute.channels_last is not None:
        return compute.channels_last
    if device.type == "cuda" or compute.precision != "float32":
        return compute.precision != "float32"
    if network is None or torch.backends.cpu.get_cpu_capability() != "AVX2":
        return True
    return not any(_of_pictures(layer) for layer in network.modules())


def _of_pictures(layer: nn.Module) -> bool:
    """Whether it is a convolution within frames, not over time."""
    return isinstance(layer, nn.Conv3d) and layer.kernel_size[0] == 1 < layer.kernel_size[1]


def placed(network: nn.Module, compute: Compute, device: torch.device) -> nn.Module:
    """The network on its device and in its memory format."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last_3d) if channels_last(compute, device, network) else network


def cast(clips: Tensor, compute: Compute, network: nn.Module | None = None) -> Tensor:
    """Clips [..., 3, T, H, W] as the first layer of a network takes them; of clips that are so already, the same.

    Autocast would cast them anyway: before padding, joining and keeping them it is half the bytes.
    """
    last = channels_last(compute, clips.device, network)
    layout = torch.channels_last_3d if last else torch.contiguous_format
    flat = clips.flatten(0, -5).to(PRECISION[compute.precision], memory_format=layout)
    return flat.unflatten(0, clips.shape[:-4])


def cast_views(views: Mapping[str, Tensor], compute: Compute) -> dict[str, Tensor]:
    """Views as `fima.model.FIMA` takes them: clips as of `cast`, boxes as they are."""
    return {name: view if view.ndim < 5 else cast(view, compute) for name, view in views.items()}


def encode(backbone: nn.Module, clips: Tensor, compute: Compute) -> Tensor:
    """Feature map [N, C, T', H', W'] of clips [N, 3, T, H, W], in the networks' precision."""
    with autocast(compute, clips.device):
        clips = cast(clips, compute, backbone)
        if not (compute.recompute and torch.is_grad_enabled()):
            features: Tensor = backbone(clips)
            return features
        for part in backbone.children():  # every encoder here is the chain of its children
            twice = partial(_first_and_second, part)
            clips = checkpoint(part, clips, use_reentrant=False, preserve_rng_state=False, context_fn=twice)
        return clips


def _first_and_second(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _without_statistics(part)


@contextmanager
def _without_statistics(part: nn.Module) -> Iterator[None]:
    """The second forward of the same clips must not move BatchNorm's running statistics a second time."""
    norms = [module for module in part.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)


def keep_memory(precision: str = "float32") -> bool:
    """Have this process keep the memory that it frees, for its next step; alters no result.

    glibc gives large blocks back to the system at once and gets them anew, page by page, in every step: 60,000 page
    faults and a sixth of the time of a step of the small encoder. In float32 all is kept, and the process of a large
    model grows by up to 15 %. Who asks for less than float32 is short of memory: blocks from 16 MiB, the first maps of
    a large encoder, then go back all the same, or they would leave holes that nothing else fits into.
    It is for the owner of a process to ask for, not for `FIMA` to do. Who sets glibc's MALLOC_* variables keeps them.

    Args:
        precision: of `config.Compute`.

    Returns:
        Whether it was done; False without glibc and beside such a variable.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    large = 0 if precision == "float32" else 65536  # how many may be the system's; glibc's own number
    options = {M_MMAP_MAX: large, M_MMAP_THRESHOLD: 2**24, M_TRIM_THRESHOLD: 2**31 - 1, M_ARENA_MAX: 1}
    return all(mallopt(option, value) for option, value in options.items())


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or on a CPU the most that this process, libraries and all, held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; ru_maxrss would start with the parent's
        held = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if held is not None:
            return int(held.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
