"""The losses as pure functions of tensors: Eqs. (1)-(3), (5), (8), (10), and the other two forms of Table 9.

Features come in normalised to unit length and in float32; every similarity is a cosine. No function changes a queue.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast(logits: Tensor, positive: Tensor, candidates: Tensor | None = None) -> Tensor:
    """Minus log of the softmax mass on the positive keys, per query.

    Eqs. (1)-(3), (5), (8) and (10) are this function; they differ only in which keys are positive.

    Args:
        logits: [..., Q, K] cosine similarity / temperature to every key.
        positive: [..., Q, P] bool; a row may hold none, one (InfoNCE) or many (pixel loss).
        candidates: [..., Q, P] the part of `logits` that may be positive; all of them by default.

    Returns:
        [..., Q] nats, >= 0; exactly 0 with zero gradient where a row has no positive.
    """
    candidates = logits if candidates is None else candidates
    valid = positive.any(-1)
    # A row without positives keeps finite numbers (all its candidates) and is then left out by `where`.
    numerator = candidates.masked_fill(~(positive | ~valid[..., None]), -torch.inf).logsumexp(-1)
    loss = (logits.logsumexp(-1) - numerator).clamp_min(0)
    return torch.where(valid, loss, torch.zeros_like(loss))


def instance_loss(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """L_VV (Eq. 1) and L_VD (Eq. 2): InfoNCE against a queue.

    Args:
        query: [B, D] unit vectors.
        key: [B, D] unit vectors, the positive of each query.
        negatives: [K, D] unit vectors.
        temperature: > 0.

    Returns:
        Scalar mean over the B queries, nats.
    """
    own = (query * key).sum(-1, keepdim=True)
    logits = torch.cat([own, query @ negatives.T], dim=-1) / temperature
    return contrast(logits, torch.ones_like(own, dtype=torch.bool), logits[:, :1]).mean()


def pixel_loss(
    prediction: Tensor,
    key: Tensor,
    positive: Tensor,
    temperature: float,
    group: int,
    queue: Tensor | None = None,
    average: str = "clip",
) -> Tensor:
    """L_Pix (Eqs. 3, 5, 8), one direction.

    The denominator of a query holds every pixel of every frame of the target motion maps of the `group` consecutive
    videos that its own belongs to, and the queue. A group of 1 is Table 10's "same video only".

    Args:
        prediction: [B, T', S, D] unit vectors, one per source pixel (S = H'W').
        key: [B, T', S, D] unit vectors, pixels of the target motion maps.
        positive: [B, S, S] bool, source pixel by target pixel, the same for all frames.
        temperature: > 0.
        group: videos whose pixels are each other's negatives, >= 1; the last group may be smaller.
        queue: [K, D] further negatives.
        average: "clip": mean over a clip's pixels that have a positive, then over the clips that have any (published
            code); "pixel": mean over all such pixels (paper).

    Returns:
        Scalar, nats; exactly 0 and differentiable if no pixel has a positive.

    Raises:
        ValueError: `average` is neither of the two.
    """
    own = torch.einsum("btsd,btud->btsu", prediction, key) / temperature  # [B, T', S, S], same video, same frame
    rows = []
    for i, (queries, keys, candidates) in enumerate(
        zip(prediction.split(group), key.split(group), own.split(group), strict=True)
    ):
        negatives = keys.flatten(0, 2) if queue is None else torch.cat([keys.flatten(0, 2), queue])
        logits = (queries.flatten(0, 2) @ negatives.T / temperature).view(*queries.shape[:3], -1)
        part = positive[i * group : i * group + len(queries), None].expand_as(candidates)
        rows.append(contrast(logits, part, candidates))
    loss = torch.cat(rows)  # [B, T', S]
    valid = positive.any(-1)[:, None].expand_as(loss).to(loss.dtype)
    if average == "pixel":
        return loss.sum() / valid.sum().clamp_min(1)
    if average == "clip":
        pixels = valid.sum((1, 2))
        return (loss.sum((1, 2)) / pixels.clamp_min(1)).sum() / (pixels > 0).sum().clamp_min(1)
    raise ValueError(f"average must be clip or pixel, got {average}")


def _frame_negatives(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """The sub-clips [B, 2P, D] of both views and which of them [P, 2P] is the positive of frame i."""
    clips = torch.cat([target, source], dim=1)
    parts = target.shape[1]
    return clips, torch.eye(parts, 2 * parts, dtype=torch.bool, device=target.device)


def frame_infonce(prediction: Tensor, target: Tensor, source: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """L_Fra (Eq. 10): frame i of the target view against the motion of the target view's sub-clip i.

    Args:
        prediction: [B, T', D] unit vectors, the class token's output for each frame.
        target: [B, T', D] unit vectors, sub-clips of the target view: i is positive, the others are negatives.
        source: [B, T', D] unit vectors, sub-clips of the source view: all negatives.
        queue: [K, D] sub-clips of other videos.
        temperature: > 0.

    Returns:
        Scalar mean over B T' predictions, nats.
    """
    clips, positive = _frame_negatives(target, source)
    logits = torch.cat([prediction @ clips.mT, prediction @ queue.T], dim=-1) / temperature
    own = logits[..., : clips.shape[1]]
    return contrast(logits, positive.expand_as(own), own).mean()


def frame_triplet(prediction: Tensor, target: Tensor, source: Tensor, queue: Tensor, margin: float) -> Tensor:
    """L_Fra as a triplet loss (Table 9): hinge on cosine distance, mean over all negatives of `frame_infonce`.

    The paper does not spell it out; negatives and margin are our reading.

    Args:
        prediction, target, source, queue: as in `frame_infonce`.
        margin: in cosine distance, 0 to 2.

    Returns:
        Scalar >= 0.
    """
    clips, positive = _frame_negatives(target, source)
    similarity = torch.cat([prediction @ clips.mT, prediction @ queue.T], dim=-1)  # [B, T', 2T' + K]
    own = (prediction * target).sum(-1, keepdim=True)
    hinge = (similarity - own + margin).clamp_min(0)  # d(positive) - d(negative) + margin
    negative = ~F.pad(positive, (0, len(queue)))
    return (hinge * negative).sum(-1).div(negative.sum(-1)).mean()


def frame_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """L_Fra as squared distance of unit vectors (Table 9; our reading): [B, T', D] twice to a scalar in [0, 4]."""
    return (prediction - target).square().sum(-1).mean()


def total(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Eq. (11): the weighted sum of the terms that are on."""
    parts: Iterable[Tensor] = (weights[name] * term for name, term in terms.items())
    return torch.stack(list(parts)).sum()
