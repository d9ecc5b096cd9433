"""How networks compute: memory format by device, one cast, and recomputing that alters nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from fima import backbones, compute
from fima.config import Backbone, Compute

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "precision", "chosen", "expected"),
    [
        ("cpu", "float32", None, True),
        ("cuda", "float32", None, False),
        ("cuda", "bfloat16", None, True),
        ("cuda", "float16", None, True),
        ("cpu", "float32", False, False),
        ("cuda", "float32", True, True),
    ],
)
def test_memory_format_is_the_faster_one_unless_set(
    device: str, precision: Any, chosen: bool | None, expected: bool
) -> None:
    assert compute.channels_last(Compute(precision=precision, channels_last=chosen), torch.device(device)) is expected


@pytest.mark.parametrize(
    ("name", "precision", "instructions", "expected"),
    [
        ("r2plus1d", "float32", "AVX2", False),
        ("r2plus1d", "float32", "AVX512", True),
        ("r2plus1d", "bfloat16", "AVX2", True),
        ("i3d", "float32", "AVX2", True),
        ("small", "float32", "AVX2", True),
    ],
)
def test_without_avx_512_convolutions_within_frames_are_left_contiguous(
    name: Any, precision: Any, instructions: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network, and the clips that reach its first layer, which would hand their own format on."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    chosen = Compute(precision=precision)
    with torch.device("meta"):
        network = compute.placed(backbones.build(Backbone(name=name)), chosen, torch.device("meta"))
        clips = torch.empty(2, 3, 8, 32, 32)
    kernels = [kernel for kernel in network.parameters() if kernel.ndim == 5 and kernel[0, 0].numel() > 1]
    found = {kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels}
    reached: list[Tensor] = []
    next(network.children()).register_forward_pre_hook(lambda _, given: reached.append(given[0]))
    if precision == "float32":  # autocast knows no tensors without content
        compute.encode(network, clips, chosen)
        found.add(reached[0].is_contiguous(memory_format=torch.channels_last_3d))
    assert found == {expected}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("leading", [(2,), (2, 3)])
def test_a_cast_keeps_values_and_shape_and_is_done_once(
    precision: Any, channels_last: bool, leading: tuple[int, ...]
) -> None:
    chosen = Compute(precision=precision, channels_last=channels_last)
    clips = torch.randn(*leading, 3, 4, 6, 6)
    cast = compute.cast(clips, chosen)
    assert cast.shape == clips.shape and cast.dtype == compute.PRECISION[precision]
    assert torch.equal(cast, clips.to(cast.dtype))
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    assert cast.flatten(0, -5).is_contiguous(memory_format=layout)
    assert compute.cast(cast, chosen).data_ptr() == cast.data_ptr()


@pytest.mark.parametrize("name", list(backbones.CONSTRUCTORS))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recomputing_changes_no_bit(name: Any, precision: Any) -> None:
    """Neither features, nor gradients, nor what BatchNorm remembers."""
    clips = torch.randn(2, 3, 4, 16, 16)

    def found(recompute: bool) -> list[Tensor]:
        torch.manual_seed(0)
        network = compute.placed(backbones.build(Backbone(name=name)), Compute(precision=precision), CPU)
        features = compute.encode(network, clips, Compute(precision=precision, recompute=recompute))
        gradients = torch.autograd.grad(features.float().square().sum(), list(network.parameters()))
        return [features, *gradients, *network.buffers()]

    for one, other in zip(found(False), found(True), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library")
def test_float32_keeps_all_memory_and_bfloat16_gives_blocks_from_16_mib_back() -> None:
    """In a process of its own: what a test run does with its memory stays as it was."""
    code = """
import resource, sys
import torch
from fima import compute
def faults(numbers):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(numbers)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
found = [faults(2**24)]  # 64 MiB
for precision in ("bfloat16", "float32"):
    assert compute.keep_memory(precision)
    found += [faults(2**21), faults(2**24)]
print(*found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    otherwise, few, given_back, still_few, kept = map(int, done.stdout.split())
    assert given_back > otherwise / 2
    assert max(few, still_few, kept) < otherwise / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library")
def test_who_sets_mallocs_variables_keeps_them() -> None:
    code = "from fima import compute; print(compute.keep_memory())"
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1048576"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
