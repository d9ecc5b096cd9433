"""The motion decoder: source pixels ask the target view's pixels for its motion (section 3.2, appendix A.2)."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fima import config


@functools.lru_cache(maxsize=16)
def sinusoid(length: int, width: int, device: torch.device) -> Tensor:
    """1-D sinusoidal absolute positions [length, width] (Vaswani et al. 2017); width is even. Made once: never write.

    Computed on the CPU, for the same numbers everywhere; kept on the device, so that no step waits for their copy.
    """
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=-1).flatten(1).to(device)


class Block(nn.Module):
    """Pre-norm cross-attention, then pre-norm feed-forward. No self-attention: queries do not see each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.feedforward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, width)
        self.narrow = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Queries [N, Q, d] over memory [N, S, d] to [N, Q, d]."""
        found, _ = self.attention(self.attention_norm(query), memory, memory, need_weights=False)
        query = query + self.dropout(found)
        hidden = self.dropout(F.relu(self.widen(self.feedforward_norm(query))))
        return query + self.dropout(self.narrow(hidden))


class MotionDecoder(nn.Module):
    """MD(Q, K, V) of Eqs. (4), (7) and (9), placed before the projection head.

    Args:
        channels: C of the feature maps.
        settings: depth, width, heads, dropout, start.
    """

    def __init__(self, channels: int, settings: config.Decoder) -> None:
        super().__init__()
        width = settings.width
        self.position = settings.position
        self.enter = nn.Linear(channels, width)
        self.leave = nn.Linear(width, channels)
        self.cls = nn.Parameter(torch.zeros(width))
        self.memory_norm = nn.LayerNorm(width) if settings.memory_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(width, settings.heads, settings.dropout) for _ in range(settings.depth))
        if settings.init == "identity":
            self._start_as_identity()

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        for linear in (self.enter, self.leave):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.attention.out_proj.weight)
            nn.init.zeros_(block.narrow.weight)
            nn.init.zeros_(block.narrow.bias)

    def forward(self, pixels: Tensor | None, memory: Tensor, cls: bool) -> tuple[Tensor | None, Tensor | None]:
        """Reconstruct the target's motion for source pixels, for the class token, or for both in one call.

        Args:
            pixels: [N, S, C] pixels of source frame i, or None where only the class token asks.
            memory: [N, S, C] pixels of target frame i.
            cls: whether the class token asks.

        Returns:
            [N, S, C] for the pixels (None without them) and [N, C] for the class token (None unless asked).
        """
        query, keys = self._start(pixels, memory, cls)
        for block in self.blocks:
            query = block(query, keys)
        out = self.leave(query)
        return (None if pixels is None else out[:, int(cls) :]), (out[:, 0] if cls else None)

    def attention(self, pixels: Tensor, memory: Tensor) -> Tensor:
        """Where the last block looks, mean over its heads (Fig. 7).

        Args:
            pixels, memory: [N, S, C] pixels of source frame i and of target frame i.

        Returns:
            [N, S, S] weights of each source pixel over the target pixels; rows sum to 1 (with dropout off).
        """
        query, keys = self._start(pixels, memory, False)
        *others, last = (block for block in self.blocks if isinstance(block, Block))
        for block in others:
            query = block(query, keys)
        weights: Tensor = last.attention(last.attention_norm(query), keys, keys)[1]
        return weights

    def _start(self, pixels: Tensor | None, memory: Tensor, cls: bool) -> tuple[Tensor, Tensor]:
        """Queries [N, Q, d] of who asks, the class token first, and memory [N, S, d], as the first block takes them."""
        place = self.position * sinusoid(memory.shape[1], self.cls.shape[0], memory.device).to(memory)
        queries = [] if pixels is None else [self.enter(pixels) + place]
        if cls:
            queries.insert(0, self.cls.to(memory.dtype).expand(memory.shape[0], 1, -1))
        return torch.cat(queries, dim=1), self.memory_norm(self.enter(memory) + place)

    def paper_parameters(self) -> list[nn.Parameter]:
        """What the paper's parameter column counts: the outer linears and the feed-forward layers (Tables 8, 11)."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        linears = [self.enter, self.leave, *(m for block in blocks for m in (block.widen, block.narrow))]
        return [parameter for linear in linears for parameter in linear.parameters()]
