"""A few at once, and who asked for much waits no less than who asked for little."""

import asyncio
import itertools
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from service.domain.ids import OperationId
from service.observe.context import operation_id

_FIRST = 0
"""The round before all others."""


@dataclass(slots=True)
class _Party:
    """Those of one operation who wait: how many, and the round of the last one who came."""

    waiting: int = 0
    last: int = 0


class Turns:
    """So many turns at once. Each round of those who wait serves every operation once: what a
    caller asks for alone passes a batch of thousands.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._free = at_once
        self._arrivals = itertools.count()
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap, by round and then by arrival."""
        self._parties: dict[OperationId, _Party] = {}
        self._round = 0

    async def acquire(self, until: float = inf, *, first: bool = False) -> None:
        """Wait for a turn, `first` before all others but those who came so too. Raises what
        `turn_away` is given, and TimeoutError at `until` (loop time)."""
        if self._free > 0:
            self._free -= 1
            return
        if first:
            await self._called(_FIRST, until)
            return
        operation = operation_id()
        party = self._parties.setdefault(operation, _Party())
        party.last = max(self._round, party.last) + 1
        party.waiting += 1
        try:
            await self._called(party.last, until)
        finally:
            # Who goes away unserved is not to count against those who come later.
            party.waiting -= 1
            if not party.waiting:
                del self._parties[operation]

    async def _called(self, in_round: int, until: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._line, (in_round, next(self._arrivals), turn))
        async with asyncio.timeout_at(until if until < inf else None):
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and turn.exception() is None:
                    self.release()  # It came at the very moment, and nobody is there to take it.
                raise

    def resize(self, at_once: int) -> None:
        """So many from now on. Who has a turn keeps it, though there be too many for a while."""
        more, self._at_once = at_once - self._at_once, at_once
        self._free += min(more, 0)
        for _ in range(more):
            self.release()

    def turn_away(self, error: Exception) -> None:
        """Raise `error` in whoever waits."""
        line, self._line = self._line, []
        for *_, turn in line:
            if not turn.done():
                turn.set_exception(error)

    def release(self) -> None:
        """Give a turn back: to who is next."""
        while self._line and self._free >= 0:
            in_round, _, turn = heappop(self._line)
            self._round = max(self._round, in_round)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
