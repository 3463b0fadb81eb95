"""What the simulated appliances really did, as their control endpoint tells it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

Couple = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """One side's task on its appliance. Times in ms since the epoch."""

    accepted_ms: int
    over_ms: int

    @property
    def took_ms(self) -> int:
        """How long the appliance worked on it."""
        return self.over_ms - self.accepted_ms


@dataclass(frozen=True, slots=True)
class Truth:
    """All since the last reset: calls of any kind, and the pair tasks that succeeded, by appliance
    and peer."""

    calls: int
    tasks: dict[Couple, Task]

    def last_of(self, couple: Couple) -> Task:
        """Of the two tasks of a pairing the one that was over later."""
        one, other = couple
        return max((self.tasks[one, other], self.tasks[other, one]), key=lambda task: task.over_ms)

    def longest_ms(self, couple: Couple) -> int:
        """How long a pairing takes at least."""
        one, other = couple
        return max(self.tasks[one, other].took_ms, self.tasks[other, one].took_ms)

    def insist_on(self, couples: Iterable[Couple]) -> None:
        """Raises RuntimeError unless both sides of all `couples` were paired."""
        missing = [each for each in couples if not {each, each[::-1]} <= self.tasks.keys()]
        if missing:
            raise RuntimeError(f"{len(missing)} were never paired, {missing[0]} among them")


async def reset(fleet: dict[str, Any]) -> None:
    """Count from zero."""
    async with _control(fleet) as session:
        await session.delete("/truth")


async def read(fleet: dict[str, Any]) -> Truth:
    """All since the last reset."""
    async with _control(fleet) as session, session.get("/truth") as response:
        raw = await response.json()
    return Truth(
        calls=sum(
            count for each in raw["appliances"].values() for count in each["requests"].values()
        ),
        tasks={
            (entry["appliance"], entry["peer"]): Task(entry["acceptedMs"], entry["effectMs"])
            for entry in raw["accepted"]
            if entry["kind"] == "pair" and entry["outcome"] == "SUCCEEDED"
        },
    )


def names(fleet: dict[str, Any], couples: Iterable[tuple[int, int]]) -> list[Couple]:
    """`couples` of places in the fleet, by name."""
    appliances = fleet["appliances"]
    return [(appliances[one]["name"], appliances[other]["name"]) for one, other in couples]


def _control(fleet: dict[str, Any]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(fleet["controlUrl"], raise_for_status=True)
