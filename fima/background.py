"""What two peers do to the background of a view, so that contrast cannot rest on it: augmentations, used with L_VV.

BE (Wang et al., CVPR 2021, "Removing the Background by Adding the Background") blends a frame of a clip over all of it;
FAME (Ding et al., CVPR 2022, "Motion-aware Contrastive Video Representation Learning via Foreground-background
Merging") cuts the moving foreground out and lays it over another clip. Read beside the authors' public code:
FingerRec/BE, augment/basic_augmentation/mixup_methods.py; Mark12Ding/FAME, moco/loader.py.

As in both, one of the two views is changed and the loss is symmetric. Frame differences are taken before: motion is not
what these methods alter. What differs is said at each function; both recipes around them (BE: negatives with broken
motion; FAME: 200 epochs, no frame twice) are ours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fima.augment import blur_matrix
from fima.config import Augment

LEVELS = 10  # of each of three colour coordinates
MOVING, RESTING = 0.5, 0.1  # portions of pixels, by frame difference, whose colours stand for foreground and background
EPSILON = 1e-8


def draw_static(augment: Augment, frames: int, rng: np.random.Generator) -> tuple[float, int]:
    """Weight in [0, `augment.static`] and number of the frame that BE blends over a clip of so many frames.

    The published code draws one weight a batch; here each clip has its own, as the paper's text reads.
    """
    return float(rng.uniform(0, augment.static)), int(rng.integers(frames))


def blend(clips: Tensor, weight: Tensor, frame: Tensor) -> Tensor:
    """BE: x'_t = (1 - weight) x_t + weight x_frame.

    The published code blends what is normalised already; here it comes before photometry, which is affine and the same
    for all frames of a clip, so that only contrast's mean and clamping can tell the two apart.

    Args:
        clips: [N, 3, T, H, W] in [0, 1].
        weight: [N] in [0, 1].
        frame: [N] numbers in [0, T).

    Returns:
        [N, 3, T, H, W] in [0, 1].
    """
    still = clips[torch.arange(len(clips)), :, frame].unsqueeze(2)  # [N, 3, 1, H, W]
    return torch.lerp(clips, still, weight.to(clips)[:, None, None, None, None])


def merge(clips: Tensor, kept: float) -> Tensor:
    """FAME: the moving foreground of each clip over the next clip of the batch, and the last one's over the first.

    The published code permutes the batch at random, which leaves a clip with its own background now and then; the order
    of a batch is random here too, and no clip keeps its own.

    Args:
        clips: [N, 3, T, H, W] in [0, 1], of N >= 2 videos.
        kept: portion of pixels that are foreground, in (0, 1]; 1 changes nothing.

    Returns:
        [N, 3, T, H, W].

    Raises:
        ValueError: there is no other clip.
    """
    if len(clips) < 2:
        raise ValueError("augment.kept shows each clip on another one of the batch, got a batch of one clip")
    return torch.where(moving(clips, kept)[:, None, None], clips, clips.roll(-1, 0))


def moving(clips: Tensor, kept: float) -> Tensor:
    """FAME's foreground: what moves, and what has the colours of what moves.

    Frame differences, blurred, are the seed: the colours of the half of pixels that moves most against those of the
    tenth that moves least say of each pixel how likely it is foreground; blurred again, the highest are kept. Colour is
    10 x 10 x 10 bins of (saturation cos hue, saturation sin hue, value) of the mean frame. Hue is an angle here; the
    published code multiplies one in radians by 2 pi again. Halves and tenths are fixed there too.

    Args:
        clips: [N, 3, T, H, W] in [0, 1].
        kept: portion of pixels kept, in (0, 1].

    Returns:
        [N, H, W] bool with floor(kept H W) pixels each, at least one.
    """
    n, _, _, height, width = clips.shape
    pixels = height * width
    seed = blurred((clips[:, :, 1:] - clips[:, :, :-1]).abs().sum(1).mean(1)).flatten(1)  # [N, HW]
    colours = binned(clips.mean(2)).flatten(1)  # [N, HW]
    fore = _frequencies(colours.gather(1, seed.topk(int(MOVING * pixels)).indices), 0)
    back = _frequencies(colours.gather(1, seed.topk(int(RESTING * pixels), largest=False).indices), 1)
    likely, unlikely = fore.gather(1, colours), back.gather(1, colours)
    level = blurred((likely / (likely + unlikely)).view(n, height, width)).flatten(1)
    chosen = level.topk(max(1, int(kept * pixels))).indices
    mask = torch.zeros(n, pixels, dtype=torch.bool, device=clips.device)
    return mask.scatter_(1, chosen, True).view(n, height, width)


def blurred(maps: Tensor) -> Tensor:
    """FAME's Gaussian blur of maps [N, H, W]: kernel a tenth of the side and odd, its deviation a third of that."""

    def along(size: int) -> Tensor:
        kernel = 2 * max(1, size // 20) + 1
        return blur_matrix(torch.tensor([kernel / 3]), size)[0].to(maps, non_blocking=True)

    return along(maps.shape[1]) @ maps @ along(maps.shape[2]).mT


def binned(frames: Tensor) -> Tensor:
    """[N, H, W] colour bins in [0, 1000) of frames [N, 3, H, W] in [0, 1]."""
    value, least = frames.amax(1), frames.amin(1)
    spread = value - least
    red, green, blue = frames.unbind(1)
    safe = spread.clamp_min(EPSILON)
    sector = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue, saturation = sector * (math.pi / 3), spread / value.clamp_min(EPSILON)
    coordinates = ((saturation * hue.cos() + 1) / 2, (saturation * hue.sin() + 1) / 2, value)
    first, second, third = ((c * (LEVELS - 1)).round().long() for c in coordinates)
    return first + LEVELS * second + LEVELS**2 * third


def _frequencies(colours: Tensor, more: int) -> Tensor:
    """[N, 1000] share of each bin among colours [N, K], after `more` is added to every count."""
    counts = torch.zeros(len(colours), LEVELS**3, dtype=torch.long, device=colours.device)
    counts = counts.scatter_add_(1, colours, torch.ones_like(colours)).float() + more
    return counts / counts.sum(1, keepdim=True)
