"""The terms that are the same for every peer, and how the parent process is answered."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
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
    _began_s: float | None = None
    _ended_s: list[float] = field(default_factory=list)
    _all_over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def heard(cls) -> "Contest":
        """As told on stdin."""
        return cls(**json.loads(sys.stdin.readline()))

    @contextmanager
    def pairing(self) -> Iterator[None]:
        """One pairing: begun, and verified when the block is left without an error."""
        if self._began_s is None:
            self._began_s = time.perf_counter()
        yield
        self._ended_s.append(time.perf_counter())
        if len(self._ended_s) == len(self.couples):
            self._all_over.set()

    @asynccontextmanager
    async def race(self) -> AsyncIterator[None]:
        """Say that all is prepared; the block, begun at the signal, starts those who work. At its
        end wait for the last pairing, and say when each ended since the first began, and what CPU
        it took since the signal."""
        say({})
        await asyncio.to_thread(sys.stdin.readline)
        cpu_s = time.process_time()
        yield
        await self._all_over.wait()
        began_s = self._began_s or 0.0
        ended_s = [each - began_s for each in self._ended_s]
        say({"endedS": ended_s, "cpuS": time.process_time() - cpu_s})

    def fleet(self) -> "list[Appliance]":
        """All appliances, not logged in yet."""
        return [Appliance(each) for each in self.appliances]


def say(told: object) -> None:
    """A line for the parent process."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
