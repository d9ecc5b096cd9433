"""First-in, first-out queues of keys (MoCo)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Queue(nn.Module):
    """A ring of unit vectors that starts random, as in MoCo.

    Args:
        size: vectors held.
        width: D.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, width), dim=-1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest vectors by keys [N, D]; of more than the queue holds the last ones stay.

        The pointer lives on the device, so pushing never waits for it.
        """
        size = len(self.keys)
        offset = max(0, len(keys) - size)
        places = (self.pointer + offset + torch.arange(len(keys) - offset, device=keys.device)) % size
        self.keys[places] = keys[offset:].to(self.keys.dtype)
        self.pointer.copy_((self.pointer + len(keys)) % size)
