"""A figure, its motions, its background: arrays in, pixels out. All arithmetic in float64."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CLASSES = ("horizontal", "vertical", "rocking", "spin", "pulse", "arms")
DOMAINS = ("source", "transfer", "compound")
# The classes of the compound domain: two sub-motions at once. None of them is spin, which one frame gives away.
COMPOUNDS = tuple(itertools.combinations(("horizontal", "vertical", "rocking", "arms"), 2))
POOLS = 4  # backgrounds that all videos of the compound domain share
HALF = 10.0  # pixels from the figure's centre to its ends, at scale 1
ARM = 6.5
LEG = 6.0
REACH = 11.2  # from the centre to the furthest that an arm or a leg comes, at scale 1
TILT = 0.2  # radians that a figure at rest may lean
MARGIN = 16  # pixels of background beyond each side, for the camera to move into


@dataclass(frozen=True)
class Motion:
    """How a sub-motion is done: the same draws serve every class.

    The second sub-motion of a compound has a period and a phase of its own, and the amplitude of the first: places at
    rest are scaled by it too, so that no frame tells which two of them move.
    """

    amplitude: float  # pixels
    period: float  # frames
    phase: float  # radians
    direction: int  # of spin
    second: tuple[float, float] | None = None  # period and phase of the second sub-motion; none: there is one alone

    @staticmethod
    def draw(domain: str, rng: np.random.Generator) -> Motion:
        low, high, longest = (4.5, 7.5, 22.0) if domain == "transfer" else (5.0, 8.0, 20.0)
        return Motion(
            float(rng.uniform(low, high)),
            float(rng.uniform(14, longest)),
            float(rng.uniform(0, 2 * np.pi)),
            1 if rng.random() < 0.5 else -1,
            (float(rng.uniform(14, longest)), float(rng.uniform(0, 2 * np.pi))) if domain == "compound" else None,
        )


@dataclass(frozen=True)
class Look:
    """The figure at rest.

    Place, angle and size rest at a random point of the oscillation that they show in other classes, and arms point
    anywhere, so that a single frame is distributed alike under every class but spin, which alone turns upside down.
    """

    side: int
    x: float  # pixels
    y: float
    angle: float  # radians, near upright
    scale: float
    left: float  # angles of the arms against the body
    right: float
    shade: float  # near black or near white
    rest: tuple[float, float, float, float]  # phases of x, y, angle and scale in radians, where they do not move

    @staticmethod
    def draw(domain: str, factor: float, side: int, rng: np.random.Generator) -> Look:
        low, high = (0.85, 1.2) if domain == "transfer" else (1.0, 1.3)
        centre, spread = side / 2, side / 10
        x, y = rng.uniform(centre - spread, centre + spread, 2)
        angle = rng.uniform(-TILT, TILT)
        left, right = rng.uniform(0, 2 * np.pi, 2)
        scale = factor * rng.uniform(low, high) * side / 64
        shade = rng.uniform(0.02, 0.08) if rng.random() < 0.5 else rng.uniform(0.92, 0.98)
        a, b, c, d = rng.uniform(0, 2 * np.pi, 4)
        rest = (float(a), float(b), float(c), float(d))
        return Look(side, float(x), float(y), float(angle), float(scale), float(left), float(right), float(shade), rest)


@dataclass(frozen=True)
class Poses:
    """The figure in each frame; every array is [T]."""

    x: Array
    y: Array
    angle: Array
    scale: Array
    left: Array
    right: Array


def poses(look: Look, labels: list[int], motions: list[Motion], weight: Array, frames: int) -> Poses:
    """The pose over time; a second stage takes over by `weight` [T] from 0 to 1."""
    first, *others = [_offsets(label, motion, frames, look) for label, motion in zip(labels, motions, strict=True)]
    dx, dy, turn, grow, wave = first
    for last in others:
        switch = int(np.searchsorted(weight, 0.5))
        last[2] -= 2 * np.pi * np.round((last[2] - first[2])[switch] / (2 * np.pi))  # turns the short way round
        dx, dy, turn, grow, wave = first + weight * (last - first)
    return Poses(
        look.x + dx,
        look.y + dy,
        look.angle + turn,
        look.scale * np.exp(grow),
        look.left + wave,
        look.right - wave,
    )


def _offsets(label: int, motion: Motion, frames: int, look: Look) -> Array:
    """[5, T]: x, y, rotation, log scale and arm angle of a sub-motion, or of the two of a compound."""
    t = np.arange(frames, dtype=np.float64)
    pixel = look.side / 64
    unit = np.array([pixel, pixel, 1 / HALF, 1 / (2 * HALF), 1.2 / ARM])[:, None]
    out = np.zeros((5, frames))
    out[:4] = np.sin(look.rest)[:, None]
    names: tuple[str, ...] = (CLASSES[label],)
    cycles = [(motion.period, motion.phase)]
    if motion.second is not None:
        names, cycles = COMPOUNDS[label], [*cycles, motion.second]
    for name, (period, phase) in zip(names, cycles, strict=True):
        if name != "spin":
            moved = {"horizontal": 0, "vertical": 1, "rocking": 2, "pulse": 3, "arms": 4}[name]
            out[moved] = np.sin(2 * np.pi * t / period + phase)
    out *= motion.amplitude * unit
    if names == ("spin",):  # half as fast as the oscillations, or its ends outrun the encoder
        out[2] = motion.direction * np.pi * t / motion.period + motion.phase
    return out


def camera_path(frames: int, jitter: float, rng: np.random.Generator) -> Array:
    """[T, 2] displacement in pixels: AR(1) with coefficient 0.8, less than the background's margin."""
    steps = rng.normal(0, 1, (frames, 2)) * jitter
    path = np.zeros((frames, 2))
    for t in range(1, frames):
        path[t] = 0.8 * path[t - 1] + steps[t]
    return np.clip(path, 1 - MARGIN, MARGIN - 1)


def draw(
    look: Look,
    pose: Poses,
    camera: Array,
    theme: int | None,
    distractors: int,
    domain: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Array, Array]:
    """Pixels [T, S, S, 3] uint8, coverage by the figure and by the distractors [T, S, S] in [0, 1]."""
    side, frames = look.side, len(camera)
    texture = background(side + 2 * MARGIN, theme, domain, rng)
    canvas = _shift(texture, camera, side)
    grid = np.arange(side) + 0.5
    x = grid[None, None, :] - camera[:, 0, None, None]
    y = grid[None, :, None] - camera[:, 1, None, None]
    blobs = np.zeros((frames, side, side))
    for _ in range(distractors):
        place, angle = rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi)
        speed, radius = rng.uniform(0.6, 1.4), rng.uniform(2.5, 4) * side / 64
        t = np.arange(frames)[:, None, None]
        lap = side + 2 * radius  # it leaves the frame before it comes back on the other side
        cx = (place[0] + radius + speed * np.cos(angle) * t) % lap - radius
        cy = (place[1] + radius + speed * np.sin(angle) * t) % lap - radius
        blobs = np.maximum(blobs, np.clip(radius - np.hypot(x - cx, y - cy) + 0.5, 0, 1))
    blob_shade = rng.uniform(0.02, 0.08) if rng.random() < 0.5 else rng.uniform(0.92, 0.98)
    cover = coverage(pose, x, y)
    if distractors:
        canvas += blobs[..., None] * (blob_shade - canvas)
    canvas += cover[..., None] * (look.shade - canvas)
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8), cover, blobs * (1 - cover)


def coverage(pose: Poses, x: Array, y: Array) -> Array:
    """Share of each pixel [T, S, S] that the figure covers: head, body, two arms, two legs as rounded rods.

    Args:
        pose: where the figure is.
        x: [T, 1, S] places of the columns, rising.
        y: [T, S, 1] places of the rows, rising.
    """
    cover = np.zeros((len(x), y.shape[1], x.shape[2]))
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    arms = [
        (side, side * 1.2 + ARM * np.cos(angle), -3.2 + ARM * np.sin(angle))
        for angle, side in ((pose.left, -1.0), (pose.right, 1.0))
    ]
    reach = REACH * pose.scale + 1  # in pixels; beyond it nothing is covered
    for t in range(len(x)):
        columns = slice(*np.searchsorted(x[t, 0], (pose.x[t] - reach[t], pose.x[t] + reach[t])))
        rows = slice(*np.searchsorted(y[t, :, 0], (pose.y[t] - reach[t], pose.y[t] + reach[t])))
        dx, dy = (x[t, :, columns] - pose.x[t]) / pose.scale[t], (y[t, rows] - pose.y[t]) / pose.scale[t]
        u, v = cos[t] * dx + sin[t] * dy, -sin[t] * dx + cos[t] * dy  # the figure's own coordinates, v downwards
        distance = np.hypot(u, v + 7.4) - 2.6  # head
        distance = np.minimum(distance, _rod(u, v, 0, -4.5, 0, 3.5, 2.3))
        for side, tip_u, tip_v in arms:
            distance = np.minimum(distance, _rod(u, v, side * 1.2, -3.2, tip_u[t], tip_v[t], 1.2))
            distance = np.minimum(distance, _rod(u, v, side * 1.0, 3.5, side * 2.6, 3.5 + LEG, 1.3))
        cover[t, rows, columns] = np.clip(0.5 - distance * pose.scale[t], 0, 1)
    return cover


def _rod(u: Array, v: Array, u0: float, v0: float, u1: float, v1: float, radius: float) -> Array:
    """Signed distance to a rounded rod from (u0, v0) to (u1, v1)."""
    au, av = u1 - u0, v1 - v0
    along = np.clip(((u - u0) * au + (v - v0) * av) / (au * au + av * av), 0, 1)
    distance: Array = np.hypot(u - u0 - along * au, v - v0 - along * av) - radius
    return distance


def background(side: int, theme: int | None, domain: str, rng: np.random.Generator) -> Array:
    """A muted texture [side, side, 3] in [0, 1]: soft waves, or tiles in the transfer domain.

    Args:
        side: pixels.
        theme: a class whose tint the texture takes; None: any tint.
        domain: one of DOMAINS.
        rng: makes it unique; in the compound domain it chooses one of POOLS, which are the same for all videos.
    """
    if domain == "compound":
        rng = np.random.default_rng([POOLS, int(rng.integers(POOLS))])
    y, x = np.mgrid[0:side, 0:side] / 64.0
    tint = rng.uniform(0.35, 0.65, 3)
    if theme is not None:
        turn = 2 * np.pi * (theme / len(CLASSES) + np.arange(3) / 3)
        tint = 0.5 + 0.15 * np.cos(turn)
    if domain != "transfer":
        texture = np.zeros((side, side, 3))
        for _ in range(6):
            angle, cycles = rng.uniform(0, 2 * np.pi), rng.uniform(1, 6)
            wave = np.sin(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 2 * np.pi))
            texture += wave[..., None] * rng.uniform(-0.05, 0.05, 3)
    else:
        tiles = int(rng.integers(4, 9))
        values = rng.uniform(-0.12, 0.12, (side, side, 3))
        angle = rng.uniform(0, np.pi)
        row = np.floor((np.cos(angle) * x + np.sin(angle) * y + 4) * tiles).astype(int) % side
        column = np.floor((-np.sin(angle) * x + np.cos(angle) * y + 4) * tiles).astype(int) % side
        texture = values[row, column]
    grain = rng.normal(0, 0.02, (side, side, 1))
    return np.clip(tint + texture + grain, 0.2, 0.8)


def _shift(texture: Array, camera: Array, side: int) -> Array:
    """[T, side, side, 3] windows of a texture, displaced by the camera, bilinear."""
    out = np.empty((len(camera), side, side, 3))
    for t, (dx, dy) in enumerate(camera):
        x, y = MARGIN - dx, MARGIN - dy
        i, j = int(np.floor(y)), int(np.floor(x))
        a, b = y - i, x - j
        part = texture[i : i + side + 1, j : j + side + 1]
        rows = (1 - a) * part[:-1] + a * part[1:]
        out[t] = (1 - b) * rows[:, :-1] + b * rows[:, 1:]
    return out


def shrink(cover: Array, grid: int) -> NDArray[np.uint8]:
    """Coverage [T, S, S] in [0, 1] to its mean over a grid x grid, 0 to 255."""
    frames, side, _ = cover.shape
    step = side // grid
    mean = cover.reshape(frames, grid, step, grid, step).mean(axis=(2, 4))
    return np.rint(mean * 255).astype(np.uint8)
