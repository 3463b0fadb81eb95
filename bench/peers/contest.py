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
    _left: int = 0
    _began_s: float | None = None
    _all_over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def heard(cls) -> "Contest":
        """As told on stdin."""
        told = json.loads(sys.stdin.readline())
        return cls(**told, _left=len(told["couples"]))

    @contextmanager
    def pairing(self) -> Iterator[None]:
        """One pairing: begun, and verified when the block is left without an error."""
        if self._began_s is None:
            self._began_s = time.perf_counter()
        yield
        self._left -= 1
        if self._left == 0:
            self._all_over.set()

    @asynccontextmanager
    async def race(self) -> AsyncIterator[None]:
        """Say that all is prepared; the block, begun at the signal, starts those who work. At its
        end wait for the last pairing, and say what it took: the wall clock since the first began,
        the CPU's since the signal."""
        say({})
        await asyncio.to_thread(sys.stdin.readline)
        cpu_s = time.process_time()
        yield
        await self._all_over.wait()
        began_s = self._began_s or 0.0
        say({"wallS": time.perf_counter() - began_s, "cpuS": time.process_time() - cpu_s})

    def fleet(self) -> "list[Appliance]":
        """All appliances, not logged in yet."""
        return [Appliance(each) for each in self.appliances]


def say(told: object) -> None:
    """A line for the parent process."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
