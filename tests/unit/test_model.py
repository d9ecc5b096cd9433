"""The model around its losses: who learns, what follows, what is counted, and what a loss that is off costs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fima import backbones, distributed, loop, losses, model
from fima.config import Loss, Settings, Weights
from fima.model import FIMA

B, PARTS = 3, 2
ON = ("vv", "vd", "pix", "fra")
SUBSETS = [c for n in range(1, 5) for c in itertools.combinations(ON, n)]


class Stub(nn.Module):
    """A linear map of blocks and BatchNorm; keeps the shape of every batch it is given."""

    channels = 6
    block = (2, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, self.channels, self.block, self.block)
        self.norm = nn.BatchNorm3d(self.channels)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.seen.append(tuple(clips.shape))
        out: Tensor = self.norm(self.conv(clips))
        return out


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.CONSTRUCTORS, "small", Stub)


def tree(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "losses": ON,
        "backbone": {"name": "small"},
        "projector": {"hidden": 7, "width": 5},
        "decoder": {"width": 8, "heads": 2, "dropout": 0},
        "pixel": {"negatives": "queue", "queue": 7, "group": 2},
        "frame": {"queue": 7},
        "contrast": {"queue": 7},
    }
    for name, value in changes.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return base


def built(**changes: Any) -> FIMA:
    return FIMA(Settings.model_validate(tree(**changes)))


def drawn(parts: int = PARTS, height: int = 2, width: int = 2, videos: int = B) -> dict[str, Tensor]:
    t, h, w = Stub.block
    shape = (3, parts * t, height * h, width * w)
    views = {"source_box": torch.rand(videos, 4).sort()[0], "target_box": torch.rand(videos, 4).sort()[0]}
    for side in ("source", "target"):
        views[f"{side}_box"] = torch.tensor([0.1, 0.1, 0.8, 0.9]) + 0.1 * torch.rand(videos, 4)
        views[side] = torch.randn(videos, *shape)
        views[f"{side}_difference"] = torch.randn(videos, *shape)
        views[f"{side}_parts"] = torch.randn(videos, parts, *shape)
    return views


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def queues(net: FIMA) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.queues.named_buffers()}


# --- who learns ---


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_reach_the_query_side_and_never_the_keys(chosen: tuple[str, ...], shared: bool) -> None:
    net = built(losses=chosen, decoder={"shared": shared})
    terms, keys = net(drawn())
    losses.total(terms, dict.fromkeys(ON, 1.0)).backward()
    trained = {id(parameter) for parameter in net.trained()}
    for name, parameter in net.named_parameters():
        idle = name == "decoders.shared.cls" and "fra" not in chosen  # only the frame loss asks for it
        idle |= name == "decoders.pix.cls"
        learns = not name.startswith("key.") and not idle
        assert (id(parameter) in trained) == learns, name
        assert (parameter.grad is not None) == learns, name  # as DDP wants it
    assert not any(key.requires_grad for key in keys.values())
    assert set(keys) == set(terms) == set(chosen)


def test_each_term_alone_is_the_term_among_others() -> None:
    net, views = built(), drawn()
    together = values(net(views)[0])
    for name in ON:
        alone = built(losses=[name])
        alone.load_state_dict(net.state_dict(), strict=False)
        assert values(alone(views)[0]) == pytest.approx({name: together[name]}, rel=1e-5)


def test_key_encoder_starts_as_the_query_and_follows_with_its_momentum() -> None:
    net = built(contrast={"momentum": 0.9})
    pairs = [(net.query.get_parameter(name), key) for name, key in net.key.named_parameters()]
    assert pairs and all(torch.equal(query, key) for query, key in pairs)
    with torch.no_grad():
        for query, _ in pairs:
            query.add_(torch.randn_like(query))
    statistics = {name: buffer.clone() for name, buffer in net.key.named_buffers()}
    expected = [0.9 * key + 0.1 * query for query, key in pairs]
    net.update_key_encoder()
    for (_, key), wanted in zip(pairs, expected, strict=True):
        torch.testing.assert_close(key.detach(), wanted.detach())
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in net.key.named_buffers())


# --- queues ---


def test_forward_reads_queues_and_enqueue_alone_changes_them_after_all_losses() -> None:
    net, views = built(), drawn()
    before = queues(net)
    first, keys = net(views)
    again, _ = net(views)
    assert values(first) == values(again)  # nothing that a forward leaves behind alters the next one
    assert all(torch.equal(buffer, before[name]) for name, buffer in queues(net).items())
    losses.total(first, dict.fromkeys(ON, 1.0)).backward()
    net.enqueue(keys)
    for name in ON:
        assert not torch.equal(queues(net)[f"{name}.keys"], before[f"{name}.keys"]), name
    for name, value in values(net(views)[0]).items():
        assert value != values(first)[name], name


@pytest.mark.parametrize("size", [1, 4, 7, 12, 50])
def test_queues_of_any_size_hold_the_last_keys(size: int) -> None:
    net = built(pixel={"queue": size}, frame={"queue": size}, contrast={"queue": size})
    arrived: dict[str, list[Tensor]] = {name: [net.queues[name].keys.clone()] for name in ON}
    for _ in range(3):
        _, keys = net(drawn())
        net.enqueue(keys)
        for name in ON:
            arrived[name].append(keys[name])
    for name in ON:
        queue = net.queues[name]
        in_order = torch.roll(queue.keys, -int(queue.pointer), dims=0)
        assert torch.equal(in_order, torch.cat(arrived[name])[-size:]), name


def test_queues_take_the_keys_of_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    net = built(contrast={"queue": 50}, pixel={"queue": 500}, frame={"queue": 50})
    _, keys = net(drawn())
    monkeypatch.setattr(distributed, "gather", lambda own: torch.cat([own, -own]))  # of two devices
    net.enqueue(keys)
    for name, key in keys.items():
        assert torch.equal(net.queues[name].keys[: 2 * len(key)], torch.cat([key, -key])), name


def test_keys_are_unit_vectors_of_both_views() -> None:
    _, keys = built()(drawn())
    pixels = PARTS * 2 * 2
    assert {name: len(key) for name, key in keys.items()} == {
        "vv": 2 * B, "vd": 2 * B, "fra": 2 * B * PARTS, "pix": 2 * B * pixels,
    }  # fmt: skip
    for key in keys.values():
        torch.testing.assert_close(key.norm(dim=-1), torch.ones(len(key)))


# --- arithmetic ---


@pytest.fixture
def _types(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[torch.dtype, bool]]]:
    """(type, whether autocast is on) of all that losses and normalisation are given."""
    seen: list[tuple[torch.dtype, bool]] = []

    def watch(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            floats = [a.dtype for a in arguments if isinstance(a, Tensor) and a.is_floating_point()]
            seen.extend((kind, torch.is_autocast_enabled("cpu")) for kind in floats)
            return inner(*arguments, **named)

        monkeypatch.setattr(module, name, watched)

    for name in ("instance_loss", "pixel_loss", "frame_infonce"):
        watch(losses, name)
    watch(model.F, "normalize")
    yield seen


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("pixel_decoder", [True, False])
def test_losses_and_normalisation_are_float32_under_autocast(
    precision: str, pixel_decoder: bool, _types: list[tuple[torch.dtype, bool]]
) -> None:
    net, views = built(pixel={"decoder": pixel_decoder}), drawn()
    plain = values(net(views)[0])
    other = built(pixel={"decoder": pixel_decoder}, compute={"precision": precision})
    other.load_state_dict(net.state_dict())
    _types.clear()
    networks: list[torch.dtype] = []
    other.query.backbone.conv.register_forward_hook(lambda m, i, out: networks.append(out.dtype))
    other.key.backbone.conv.register_forward_hook(lambda m, i, out: networks.append(out.dtype))
    terms, keys = other(views)
    assert set(networks) == {getattr(torch, precision)}  # autocast is on where it should be
    assert set(_types) == {(torch.float32, False)}
    assert {t.dtype for t in (*terms.values(), *keys.values())} == {torch.float32}
    assert values(terms) == pytest.approx(plain, rel=0.05)
    assert values(terms) != plain
    losses.total(terms, dict.fromkeys(ON, 1.0)).backward()
    for name, parameter in other.query.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert parameter.grad.any() and parameter.grad.isfinite().all(), name


def test_projections_are_float32_under_an_autocast_of_the_caller_too() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert built().query.project(torch.randn(2, Stub.channels)).dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_low_temperature_stays_finite(precision: str) -> None:
    net, views = built(contrast={"temperature": 0.01}, compute={"precision": precision}), drawn()
    terms, _ = net(views)
    losses.total(terms, dict.fromkeys(ON, 1.0)).backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_without_any_positive_pair_pix_is_an_exact_differentiable_zero() -> None:
    net, views = built(losses=["pix"]), drawn()
    views["target_box"] = views["source_box"] + 3  # two views that see nothing in common
    terms, _ = net(views)
    assert terms["pix"].item() == 0
    terms["pix"].backward()
    grads = [parameter.grad for parameter in net.trained() if parameter.grad is not None]
    assert grads and not any(grad.any() for grad in grads)


# --- cost ---


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
@pytest.mark.parametrize("source", ["rgb", "diff", "both", "none"])
def test_a_loss_that_is_off_costs_nothing(chosen: tuple[str, ...], source: str) -> None:
    masks = {"position": "none"} if source == "none" else {"source": source}
    net, views = built(losses=chosen, foreground=masks), drawn()
    rgb = "vv" in chosen or ("pix" in chosen and source in ("rgb", "both"))
    motion, parts = "vd" in chosen or "pix" in chosen, "fra" in chosen
    if not motion:
        del views["source_difference"], views["target_difference"]
    if not parts:
        del views["source_parts"], views["target_parts"]
    net(views)
    # Both views go through in one pass: BatchNorm sees 2B clips.
    assert [shape[0] for shape in net.query.backbone.seen] == [2 * B]
    assert [shape[0] for shape in net.key.backbone.seen] == [2 * B] * rgb + [2 * B] * motion + [2 * B * PARTS] * parts
    assert set(net.queues) == set(chosen)
    assert set(net.decoders) == ({"shared"} if "pix" in chosen or parts else set())


@pytest.mark.parametrize(
    ("changes", "decoders", "queued"),
    [
        ({}, {"shared"}, set(ON)),
        ({"decoder": {"shared": False}}, {"pix", "fra"}, set(ON)),
        ({"decoder": {"shared": False}, "pixel": {"decoder": False}}, {"fra"}, set(ON)),
        ({"losses": ["pix"], "pixel": {"decoder": False}}, set(), {"pix"}),
        ({"pixel": {"negatives": "batch"}}, {"shared"}, {"vv", "vd", "fra"}),
        ({"pixel": {"negatives": "video"}, "frame": {"type": "mse"}}, {"shared"}, {"vv", "vd"}),
    ],
)
def test_only_what_is_used_exists(changes: dict[str, Any], decoders: set[str], queued: set[str]) -> None:
    net = built(**changes)
    assert (set(net.decoders), set(net.queues)) == (decoders, queued)
    _, keys = net(drawn())
    net.enqueue(keys)


def test_a_portion_of_one_masks_nothing_and_encodes_nothing_for_it() -> None:
    whole, unmasked = built(foreground={"beta": 1}), built(foreground={"position": "none"})
    unmasked.load_state_dict(whole.state_dict())
    views = drawn()
    assert values(whole(views)[0]) == values(unmasked(views)[0])
    alone = built(losses=["pix"], foreground={"beta": 1})
    alone(views)
    assert len(alone.key.backbone.seen) == 1


# --- laws ---


def test_both_views_share_one_batch_norm_pass() -> None:
    """The paper's code normalises each view by itself; here a view's features depend on the other view's."""
    net, views = built(losses=["vv"]), drawn()
    net(views)
    mean = net.query.backbone.conv(torch.cat([views["source"], views["target"]])).mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(net.query.backbone.norm.running_mean, 0.1 * mean)
    assert int(net.query.backbone.norm.num_batches_tracked) == 1


@pytest.mark.parametrize("changes", [{}, {"decoder": {"shared": False}}, {"frame": {"type": "triplet"}}])
def test_source_and_target_may_be_swapped(changes: dict[str, Any]) -> None:
    net, views = built(**changes), drawn()
    swapped = {
        name.replace("source", "?").replace("target", "source").replace("?", "target"): view
        for name, view in views.items()
    }
    assert values(net(swapped)[0]) == pytest.approx(values(net(views)[0]), rel=1e-5)


def test_videos_may_be_permuted_where_all_are_in_one_group() -> None:
    net, views = built(pixel={"group": 8}), drawn()
    order = torch.tensor([2, 0, 1])
    permuted = {name: view[order] for name, view in views.items()}
    assert values(net(permuted)[0]) == pytest.approx(values(net(views)[0]), rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (1, 5, 2), (4, 1, 3)])
@pytest.mark.parametrize("kind", ["infonce", "triplet", "mse"])
def test_feature_maps_of_any_size(shape: tuple[int, int, int], kind: str) -> None:
    net = built(frame={"type": kind}, pixel={"threshold": 3})
    parts, height, width = shape
    terms, keys = net(drawn(*shape))
    losses.total(terms, dict.fromkeys(ON, 1.0)).backward()
    assert all(term.isfinite() and term > 0 for term in terms.values())
    assert len(keys["pix"]) == 2 * B * parts * height * width
    assert len(keys.get("fra", torch.empty(2 * B * parts))) == 2 * B * parts
    net.enqueue(keys)


@pytest.mark.parametrize("videos", [1, 2, 5])
def test_batches_of_any_size(videos: int) -> None:
    terms, _ = built()(drawn(videos=videos))
    assert all(term.isfinite() for term in terms.values())


def test_weights_load_into_a_copy_and_give_the_same_losses() -> None:
    net, views = built(), drawn()
    other = copy.deepcopy(net)
    assert values(other(views)[0]) == values(net(views)[0])


# --- size ---


@pytest.mark.parametrize(
    ("chosen", "shared", "paper", "everything"),
    [
        (("vv",), True, 12.3, 12.287),
        (("vv", "vd"), True, 12.3, 12.287),
        (("vv", "pix", "fra"), True, 14.4, 16.494),
        (("vv", "pix", "fra"), False, 16.5, 20.700),
        (("vv", "pix"), False, 14.4, 16.494),
    ],
)
def test_sizes_of_tables_8_and_11(chosen: tuple[str, ...], shared: bool, paper: float, everything: float) -> None:
    settings = Settings.model_validate({"losses": chosen, "decoder": {"shared": shared}})
    with torch.device("meta"):
        size = FIMA(settings).count_parameters()
    assert round(size["paper"] / 1e6, 1) == paper
    assert round(size["all"] / 1e6, 3) == everything


def test_every_part_of_the_paper_s_column() -> None:
    with torch.device("meta"):
        net = FIMA(Settings(losses=("vv", "pix", "fra")))
    decoder = net.decoders["shared"]
    outer = sum(p.numel() for linear in (decoder.enter, decoder.leave) for p in linear.parameters())
    feedforward = sum(p.numel() for b in decoder.blocks for linear in (b.widen, b.narrow) for p in linear.parameters())
    assert (round(outer / 1e6, 3), round(feedforward / 1e6, 3)) == (1.050, 1.051)


# --- devices that run behind ---


class Asked(TorchDispatchMode):
    """Names of operations whose result the host must wait for: values, and shapes that depend on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "repeat_interleave", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name.startswith(self.WAITS):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("chosen", [ON, ("vv", "vd"), ("vv", "pix")])
@pytest.mark.parametrize("negatives", ["batch", "queue"])
@pytest.mark.parametrize("kind", ["infonce", "triplet", "mse"])
def test_no_step_waits_for_its_device(chosen: tuple[str, ...], negatives: str, kind: str) -> None:
    """A GPU is given the next step before it has done this one, unless something asks it for a value."""
    found = built(losses=chosen, pixel={"negatives": negatives}, frame={"type": kind})
    optimizer = loop.build_optimizer(found.settings.optim, list(found.trained()))
    views = drawn()
    with Asked() as asked:
        found.update_key_encoder()
        terms, keys = found(views)
        loss = losses.total(terms, dict.fromkeys(terms, 1.0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        found.enqueue(keys)
        assert asked.waits == []
        loss.item()
    assert asked.waits == ["_local_scalar_dense"]  # what asks is seen


def test_every_loss_has_a_weight_and_one_that_is_not_implemented_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_args(Loss) == tuple(Weights.model_fields)
    network = built(losses=("vv", "pix"))
    named = network.settings.model_copy(update={"losses": ("vv", "pix", "new")})
    monkeypatch.setattr(network, "settings", named)
    with pytest.raises(AssertionError, match=r"of \('vv', 'pix', 'new'\) only \['vv', 'pix'\] are implemented"):
        network(drawn())
