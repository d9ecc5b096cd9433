"""What `ablations.engine` asks of a place where stages execute: start them, hear of them, end them.

Order, caching, retries and failures are not its business, nor are results: those lie in the store, which every worker
reaches through a folder and locks while it runs a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from ablations.uids import Stage
    from ablations.worker import Job

Message = tuple[int, int, dict[str, float]]  # step, steps, metrics


@dataclass(frozen=True)
class End:
    """How the process of a stage ended; the store says what became of the stage."""

    how: Literal["over", "busy", "died"]  # by itself; at once, for another process has the stage; without a word
    error: str = ""  # if there is neither a result nor a reason in the store, why; one line


class Handle(Protocol):
    """A stage that was started."""

    stage: Stage

    def news(self) -> list[Message]:
        """Steps since the last call."""

    def ended(self) -> End | None:
        """How it ended; None while it runs, or waits for its turn. After an answer `news` has all that is left."""


class Engine(Protocol):
    """A place where stages execute."""

    def threads(self, side_by_side: int) -> int:
        """Threads for each of so many stages; 0: as many as the machine that it comes to gives it."""

    def start(self, jobs: Sequence[Job]) -> list[Handle]:
        """Start stages, none of which waits for another of them.

        Raises:
            ValueError, OSError: they cannot be started, in one line.
        """

    def wait(self, seconds: float) -> None:
        """Return as soon as something may have happened, and after so long at the latest."""

    def close(self) -> None:
        """End all that runs, with everything that it started. Nothing is lost but the steps since a checkpoint."""
