"""Options of `python -m fima.pretrain` and `python -m fima.figures`."""

from __future__ import annotations

import argparse


def whole(text: str) -> int:
    """A number of a command line, 1 at least (a `type` of argparse).

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text}")
    return int(text)
