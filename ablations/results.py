"""What the store holds for a table: results, why one is missing, what was left out, where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.uids import with_needs

if TYPE_CHECKING:
    from ablations.plan import Plan
    from ablations.records import Records
    from ablations.store import Store

NAMES = {"ucf101": "UCF101", "hmdb51": "HMDB51", "kinetics400": "Kinetics-400", "diving48": "Diving48 V2"}


class Results:
    """What records beside the reports, or else the store, hold for the cells of a plan; each result read once.

    `Records.take` has made the records those of the store where it has others.
    """

    def __init__(self, plan: Plan, store: Store, records: Records | None = None) -> None:
        self.plan, self.store, self.records = plan, store, records
        self._read: dict[str, dict[str, Any] | None] = {}
        self._given: dict[str, None] = {}  # uids of results that somebody asked for and got
        self._failures: dict[str, str] = {}

    def get(self, uid: str) -> dict[str, Any] | None:
        """The result of a stage, from then on one of those that the table comes from; None if there is none."""
        found = self._find(uid)
        if found is not None:
            self._given[uid] = None
        return found

    def _find(self, uid: str) -> dict[str, Any] | None:
        if uid not in self._read:
            found = None if self.records is None else self.records.result(uid)
            self._read[uid] = self.store.result(uid) if found is None else found
        return self._read[uid]

    def why(self, uid: str) -> str:
        """Why a stage has no result; "failed" also when one that it needs did."""
        status = self.store.status(uid)
        if status.state == "failed":
            self._failures[uid] = f"{self.plan.stages[uid].title} ({uid}): {status.error or 'no reason was recorded'}"
            return "failed"
        reasons = [self.why(need) for need in self.plan.stages[uid].needs if self._find(need) is None]
        # Of one that runs or was interrupted too: a table must not depend on the instant at which it is written.
        return "failed" if "failed" in reasons else "not run"

    @property
    def failures(self) -> list[str]:
        return [self._failures[uid] for uid in self.plan.stages if uid in self._failures]

    @property
    def partial(self) -> list[str]:
        """Data sets of which listed videos are missing, as the stages found them."""
        found: dict[str, None] = {}
        for uid, result in self._used():
            if result.get("missing"):
                there, listed = result["listed"] - result["missing"], result["listed"]
                name = self.plan.stages[uid].config["where"]["data"]["name"]
                found[f"partial copy of {NAMES.get(name, name)}: {there:,} of {listed:,} listed videos"] = None
        return list(found)

    def videos(self, kind: str) -> list[str]:
        """One line per video that the stages found "broken" or "short"."""
        return list({line: None for _, result in self._used() for line in result.get(kind, [])})

    def _used(self) -> list[tuple[str, dict[str, Any]]]:
        """Results that were given so far and those of what these stages need, in the order of the plan."""
        used = with_needs(self.plan.stages, self._given)
        return [(uid, result) for uid in used if (result := self._find(uid))]

    @property
    def devices(self) -> dict[str, int]:
        """Of each stage that the table's numbers come from, on how many devices it ran."""
        return {uid: int(result.get("devices", 1)) for uid, result in self._used()}

    @property
    def environments(self) -> list[Mapping[str, Any]]:
        """The distinct machines and versions that the results came from, pre-trainings among them."""
        found: list[Mapping[str, Any]] = []
        for _, result in self._used():
            environment = result.get("environment")
            if environment and environment not in found:
                found.append(environment)
        return found
