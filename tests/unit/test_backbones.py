"""The encoders: their shapes and sizes, public weights, and gradients that can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fima import backbones
from fima.backbones import i3d
from fima.backbones.conv import Conv3d, trusted
from fima.config import Backbone

NAMES = tuple(backbones.CONSTRUCTORS)
RESNETS = ("r2plus1d", "r3d")


def meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return backbones.CONSTRUCTORS[name]()


def build(name: str, **settings: Any) -> nn.Module:
    return backbones.build(Backbone.model_validate({"name": name, **settings}))


@pytest.mark.parametrize(
    ("name", "frames", "size", "shape"),
    [
        ("i3d", 16, 224, (1024, 2, 7, 7)),
        ("r2plus1d", 16, 112, (512, 2, 7, 7)),
        ("r3d", 16, 112, (512, 2, 7, 7)),
        ("small", 8, 48, (128, 2, 6, 6)),
    ],
)
def test_feature_maps_have_the_size_of_the_paper(name: str, frames: int, size: int, shape: tuple[int, ...]) -> None:
    assert backbones.feature_grid(Backbone.model_validate({"name": name}), frames, size) == shape[1:]
    assert meta(name).channels == shape[0]


@pytest.mark.parametrize("name", NAMES)
def test_feature_maps_of_any_clip_have_the_size_that_is_foretold(name: str) -> None:
    network = meta(name).eval()
    for frames, size in [(2, 8), (5, 33), (9, 85), (15, 161), (17, 97), (16, 112), (31, 224)]:
        with torch.device("meta"):
            features = network(torch.empty(1, 3, frames, size, size))
        grid = backbones.feature_grid(Backbone.model_validate({"name": name}), frames, size)
        assert features.shape[2:] == grid, (frames, size)


@pytest.mark.parametrize(
    ("name", "millions"), [("i3d", 12.287), ("r2plus1d", 31.300), ("r3d", 33.166), ("small", 0.292)]
)
def test_sizes(name: str, millions: float) -> None:
    size = sum(parameter.numel() for parameter in meta(name).parameters())
    assert round(size / 1e6, 3) == pytest.approx(millions)


@pytest.mark.parametrize("size", [(3, 9, 11), (2, 8, 13)])
@pytest.mark.parametrize("name", NAMES)
def test_clips_need_not_be_square(name: str, size: tuple[int, int, int]) -> None:
    network = build(name).eval()
    with torch.no_grad():
        features = network(torch.randn(2, 3, *size))
    time, space = backbones.STRIDES[name]
    assert features.shape[2:] == tuple(math.ceil(n / by) for n, by in zip(size, (time, space, space), strict=True))
    assert features.isfinite().all()


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_i3d_pads_as_tensorflow_does_the_larger_half_behind(kernel: int, stride: int) -> None:
    for n in range(1, 12):
        total = max((math.ceil(n / stride) - 1) * stride + kernel - n, 0)
        front, behind = total // 2, math.ceil(total / 2)
        pads = i3d.same((n, 5, 1), (kernel, 1, 1), (stride, 1, 1))  # the last axis comes first
        assert pads == [0, 0, 0, 0, front, behind]


# --- weights of a file ---


@pytest.mark.parametrize("name", RESNETS)
def test_public_weights_load(tmp_path: Path, name: str) -> None:
    from torchvision.models import video

    public = getattr(video, f"{name}_18")(weights=None, num_classes=5).eval()
    torch.save(public.state_dict(), tmp_path / "public.pt")
    loaded = build(name, weights=tmp_path / "public.pt").eval()
    clips = torch.randn(1, 3, 3, 16, 16)
    with torch.no_grad():
        pooled = loaded(clips).mean(dim=(2, 3, 4))
        torch.testing.assert_close(public.fc(pooled), public(clips), rtol=1e-4, atol=1e-5)


def test_own_weights_load_and_a_classifier_is_left_out(tmp_path: Path) -> None:
    state = build("small").state_dict()
    torch.save({**state, "head.weight": torch.zeros(5, 128), "fc.bias": torch.zeros(5)}, tmp_path / "w.pt")
    loaded = build("small", weights=tmp_path / "w.pt").state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def broken(state: dict[str, Any], what: str) -> Any:
    first = next(iter(state))
    if what == "missing":
        return {name: tensor for name, tensor in state.items() if name != first}
    if what == "unexpected":
        return {**state, "layer9.weight": torch.zeros(1)}
    if what == "misshapen":
        return {**state, first: torch.zeros(2, 3)}
    if what == "all":
        return {f"module.{name}": tensor for name, tensor in state.items()}
    return {"numbers": {**state, first: 3}, "list": list(state), "tensor": state[first], "keys": {0: 1}}[what]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("missing", "is no small: missing 0.weight"),
        ("unexpected", "is no small: unexpected layer9.weight"),
        ("misshapen", "is no small: 0.weight is (2, 3), not (16, 3, 3, 3, 3)"),
        ("all", "is no small: missing 0.weight, missing 1.weight, missing 1.bias and 45 more"),
        ("numbers", "holds no state_dict (names to tensors)"),
        ("list", "holds no state_dict (names to tensors)"),
        ("tensor", "holds no state_dict (names to tensors)"),
        ("keys", "holds no state_dict (names to tensors)"),
    ],
)
def test_other_weights_are_refused_in_one_line(tmp_path: Path, what: str, line: str) -> None:
    path = tmp_path / "w.pt"
    torch.save(broken(build("small").state_dict(), what), path)
    with pytest.raises(ValueError) as refusal:
        build("small", weights=path)
    assert str(refusal.value).startswith(f"backbone.weights {path}: {line}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x02}q\x00", b"PK\x03\x04", b"\x80", None, "folder"])
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(ValueError) as refusal:
        build("small", weights=path)
    assert str(refusal.value).startswith(f"backbone.weights {path}: cannot be read (")
    assert "\n" not in str(refusal.value)


# --- arithmetic ---


def gap(one: Tensor, other: Tensor) -> float:
    """Distance relative to length."""
    one, other = one.double(), other.double()
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", NAMES)
def test_memory_format_alters_nothing_and_bfloat16_little(name: str) -> None:
    network, clips = build(name).eval(), torch.randn(2, 3, 4, 24, 24)
    with torch.no_grad():
        plain = network(clips)
        with torch.autocast("cpu", torch.bfloat16):
            assert gap(network(clips), plain) < 0.05
        network = network.to(memory_format=torch.channels_last_3d)
        assert gap(network(clips.contiguous(memory_format=torch.channels_last_3d)), plain) < 1e-5


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (1, 1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_convolution_and_its_bfloat16_gradient(
    depth: int, kernel: tuple[int, int, int], stride: int, channels_last: bool
) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layer = Conv3d(32, 48, kernel, stride, padding, bias=False)
    clips = torch.randn(2, 32, depth, 5, 5)
    plain = F.conv3d(clips, layer.weight, None, stride, padding)
    torch.testing.assert_close(layer(clips), plain)
    (expected,) = torch.autograd.grad(plain.square().sum(), layer.weight)
    if channels_last:
        layer, clips = layer.to(memory_format=torch.channels_last_3d), clips.to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(clips)
    (found,) = torch.autograd.grad(out.float().square().sum(), layer.weight)
    assert gap(found, expected) < 0.02


@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [*(("i3d", frames, size) for frames in (9, 16) for size in (33, 40)), ("r2plus1d", 5, 33), ("r2plus1d", 8, 24)],
)
def test_the_fast_ways_are_the_same_function(
    name: str, frames: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, outputs and all gradients of plain convolutions and of pooling that pads with zeros by hand."""
    network = build(name).double().to(memory_format=torch.channels_last_3d)
    clips = torch.randn(2, 3, frames, size, size, dtype=torch.float64)

    def found() -> list[Tensor]:
        features = network(clips)
        weight = torch.linspace(-1, 1, features[0].numel(), dtype=torch.float64).view_as(features[0])
        return [features, *torch.autograd.grad((features * weight).sum(), list(network.parameters()))]

    fast = found()
    with monkeypatch.context() as patch:
        patch.setattr(Conv3d, "forward", nn.Conv3d.forward)
        patch.setattr(i3d.Pool, "forward", lambda self, x: F.max_pool3d(
            F.pad(x, i3d.same(x.shape[2:], self.kernel, self.stride)), self.kernel, self.stride))  # fmt: skip
        patch.setattr(i3d.PooledUnit, "forward", lambda self, x: self.pool(i3d.Unit.forward(self, x)))
        plain = found()
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_stem_keeps_what_it_convolved_and_nothing_after(precision: torch.dtype) -> None:
    """The same to the last bit as layer after layer: output, gradients and running statistics; half is remembered."""

    def found(pooled: Callable[[i3d.PooledUnit, Tensor], Tensor]) -> tuple[list[Tensor], int]:
        torch.manual_seed(0)
        unit = i3d.PooledUnit(3, 8, 3, 1, i3d.Pool((1, 3, 3), (1, 2, 2))).to(memory_format=torch.channels_last_3d)
        clips = torch.randn(2, 3, 4, 13, 13).to(precision, memory_format=torch.channels_last_3d)
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.shape == (2, 8, 4, 13, 13):
                kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16),
        ):
            out = pooled(unit, clips)
        gradients = torch.autograd.grad(out.float().square().sum(), list(unit.parameters()))
        return [out, *gradients, *unit.buffers()], len(kept)

    (fused, few), (plain, many) = found(i3d.PooledUnit.forward), found(lambda u, x: u.pool(i3d.Unit.forward(u, x)))
    assert all(torch.equal(one, other) for one, other in zip(fused, plain, strict=True))
    assert (few, many) == (1, 2)


@pytest.mark.parametrize("name", ["i3d", "r2plus1d", "small"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_layer_leaves_channels_last(name: str, precision: torch.dtype) -> None:
    """One that does makes all that follow slow; and under autocast pooling stays in the precision it is given.

    A processor without AVX-512 has no convolution in bfloat16: PyTorch's own, which it falls back to, has one layout.
    """
    kept = precision is torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    network = build(name).to(memory_format=torch.channels_last_3d)
    odd: list[str] = []

    def look(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if out.dtype != precision or (kept and not out.is_contiguous(memory_format=torch.channels_last_3d)):
            odd.append(f"{layer}: {out.shape}, {out.stride()}, {out.dtype}")

    for layer in network.modules():
        layer.register_forward_hook(look)
    frames, size = (16, 48) if kept else (4, 16)  # slow there
    clips = torch.randn(2, 3, frames, size, size).to(precision, memory_format=torch.channels_last_3d)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # where PyTorch's choice is the worst
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            network(clips)
    finally:
        torch.set_num_threads(threads)
    assert odd == []


def test_bfloat16_gradients_of_an_encoder_are_close() -> None:
    """All convolutions of the small one, whose last two see two frames: its batch norms are the only other weights."""
    network, clips = build("small"), torch.randn(4, 3, 8, 24, 24)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            features = network(clips)
        weight = torch.linspace(-1, 1, features[0].numel()).view_as(features[0])
        gradients.append(torch.autograd.grad((features.float() * weight).sum(), list(network.parameters())))
    for (name, _), plain, half in zip(network.named_parameters(), *gradients, strict=True):
        assert gap(half, plain) < 0.25, name  # rounding adds up over the layers; what is not initialised is far off


@pytest.mark.parametrize("name", NAMES)
def test_every_convolution_is_the_trusted_one(name: str) -> None:
    network = meta(name)
    found = [child for child in network.modules() if isinstance(child, nn.Conv3d)]
    assert found and all(isinstance(child, Conv3d) for child in found)


def test_trusting_keeps_weights_and_names() -> None:
    plain = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(3, 2, 1))
    state, clips = plain.state_dict(), torch.randn(1, 2, 2, 4, 4)
    before = plain(clips)
    after = trusted(plain)
    assert all(torch.equal(tensor, state[name]) for name, tensor in after.state_dict().items())
    torch.testing.assert_close(after(clips), before)


def test_every_encoder_that_settings_name_is_there() -> None:
    names = set(get_args(Backbone.model_fields["name"].annotation))
    assert names == set(backbones.CONSTRUCTORS) == set(backbones.STRIDES)
