"""Which CUDA cards the stages of a run are given: `--devices` and `--devices-per-run`."""

from __future__ import annotations

from pathlib import Path


def chosen(text: str) -> tuple[int, ...]:
    """Numbers of cards from a list with commas, as torch counts them (after CUDA_VISIBLE_DEVICES).

    Raises:
        ValueError: it is no such list, names a card twice or one that is not there, or there is no CUDA.
    """
    import torch

    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--devices takes numbers of CUDA cards with commas, such as 0,1; got {text}") from None
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--devices names each card once, got {text}; more --jobs than cards share them in turns")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ValueError(f"--devices {text}: this machine has no CUDA card that torch sees; leave --devices out")
    for number in numbers:
        if not 0 <= number < count:
            there = "only card 0" if count == 1 else f"cards 0 to {count - 1}"
            raise ValueError(f"--devices {text}: there is no card {number}; torch sees {there}")
    return numbers


def driver() -> bool:
    """Whether there is a driver of cards (NVIDIA's, WSL's, AMD's); without one nobody need load torch to ask it."""
    return any(Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "kfd"))


def all_of_them() -> tuple[int, ...]:
    """Numbers of the CUDA cards of this machine; none where it has none."""
    import torch

    return tuple(range(torch.cuda.device_count())) if torch.cuda.is_available() else ()


def check(cards: tuple[int, ...], jobs: int, per_run: int) -> None:
    """Stages that are trained on several cards must not share one; on the CPU they may.

    Raises:
        ValueError: there are fewer cards than the stages side by side need.
    """
    if per_run > 1 and cards and jobs * per_run > len(cards):
        has = f"there {'is' if len(cards) == 1 else 'are'} {len(cards)}"
        raise ValueError(
            f"--jobs {jobs} x --devices-per-run {per_run} need {jobs * per_run} cards, and {has}: lower one"
        )
