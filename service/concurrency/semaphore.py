"""A few turns at once, shared out fairly among the operations that wait for them."""

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from service.concurrency.expiry import Expiry, turn_away
from service.domain.ids import OperationId
from service.observe.context import operation_id

_FIRST = 0
"""The round before all others."""


class _Place(NamedTuple):
    """One who waits. In the order in which the turns come: by round, then by arrival."""

    in_round: int
    arrival: int
    turn: asyncio.Future[None]
    until: float


@dataclass(slots=True)
class _Party:
    """Those of one operation who wait: how many, and the round of the last one who came."""

    waiting: int = 0
    last: int = 0


class FairSemaphore:
    """A semaphore with `at_once` turns. Whoever waits is served in rounds, each operation once a
    round: a single request does not stand behind a batch of thousands."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._free = at_once
        self._arrivals = itertools.count()
        self._line: list[_Place] = []
        """A heap."""
        self._parties: defaultdict[OperationId | None, _Party] = defaultdict(_Party)
        """By operation. All who come `first` are one party, whose key is None."""
        self._round = 0
        self._expiry = Expiry(self._expire)

    async def acquire(self, until: float = inf, *, first: bool = False) -> None:
        """Wait for a turn; with `first`, before all who wait without it. Raises what `turn_away` is
        given, and TimeoutError at `until` (loop time)."""
        if self._free > 0:
            self._free -= 1
            return
        operation = None if first else operation_id()
        party = self._parties[operation]
        party.last = _FIRST if first else max(self._round, party.last) + 1
        party.waiting += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._line, _Place(party.last, next(self._arrivals), turn, until))
        self._expiry.heed(until)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # It came at the very moment, and nobody is there to take it.
            raise
        finally:
            # Who goes away unserved is not to count against those who come later.
            party.waiting -= 1
            if not party.waiting:
                del self._parties[operation]
            if not self._parties:
                self._expiry.stop()

    def resize(self, at_once: int) -> None:
        """Have so many turns from now on. Those that are taken stay so, even if they are too many
        for a while."""
        more, self._at_once = at_once - self._at_once, at_once
        self._free += min(more, 0)
        for _ in range(more):
            self.release()

    def turn_away(self, error: Exception) -> None:
        """Raise `error` in whoever waits."""
        line, self._line = self._line, []
        for place in line:
            turn_away(place.turn, error)

    def release(self) -> None:
        """Give a turn back: to who is next."""
        while self._line and self._free >= 0:
            place = heappop(self._line)
            self._round = max(self._round, place.in_round)
            if not place.turn.done():
                place.turn.set_result(None)
                return
        self._free += 1

    def _expire(self, now: float) -> float:
        """Turn away who has waited long enough; when the next one has."""
        for place in self._line:
            if place.until <= now:
                turn_away(place.turn, TimeoutError())
        return min([each.until for each in self._line if not each.turn.done()], default=inf)
