"""The terms that are the same for every peer, and how the parent process is answered."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.peers.appliance import Appliance


@dataclass(slots=True)
class Contest:
    """Which couples are to be paired, how many at once, and the database to do it with."""

    database_url: str = field(repr=False)
    in_flight: int
    couples: list[tuple[int, int]]
    appliances: list[dict[str, Any]]
    _left: int = 0
    _all_over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def heard(cls) -> "Contest":
        """As told on stdin."""
        told = json.loads(sys.stdin.readline())
        return cls(**told, _left=len(told["couples"]))

    def over(self) -> None:
        """One more is paired and verified."""
        self._left -= 1
        if self._left == 0:
            self._all_over.set()

    async def all_over(self) -> None:
        """Return when the last one is."""
        await self._all_over.wait()

    async def begin(self) -> "Race":
        """Say that all is prepared, wait for the signal; the clocks run from then on."""
        say({})
        await asyncio.to_thread(sys.stdin.readline)
        return Race(time.perf_counter(), time.process_time())

    def fleet(self) -> "list[Appliance]":
        """All appliances, not logged in yet."""
        return [Appliance(each) for each in self.appliances]


@dataclass(frozen=True, slots=True)
class Race:
    """The clocks at the start."""

    wall_s: float
    cpu_s: float

    def finish(self) -> None:
        """Say what it took."""
        say(
            {
                "wallS": time.perf_counter() - self.wall_s,
                "cpuS": time.process_time() - self.cpu_s,
            }
        )


def say(told: object) -> None:
    """A line for the parent process."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
