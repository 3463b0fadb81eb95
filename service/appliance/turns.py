"""A few at once, and who asked for much waits no less than who asked for little."""

import asyncio
import itertools
from heapq import heappop, heappush
from math import inf

from service.domain.ids import OperationId
from service.observe.context import operation_id


class Turns:
    """So many turns at once. Each round of those who wait serves every operation once: what a
    caller asks for alone passes a batch of thousands.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._free = at_once
        self._arrivals = itertools.count()
        self._line: list[tuple[int, int, OperationId, asyncio.Future[None]]] = []
        """A heap, by round and then by arrival."""
        self._last: dict[OperationId, int] = {}
        """The last round that an operation has somebody waiting for."""
        self._round = 0

    @property
    def waiting(self) -> int:
        """How many wait, or have gone away without having been called."""
        return len(self._line)

    async def acquire(self, until: float = inf) -> None:
        """Wait for a turn. Raises what `turn_away` is given, and TimeoutError at `until` (loop
        time)."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        operation = operation_id()
        in_round = max(self._round, self._last.get(operation, 0)) + 1
        self._last[operation] = in_round
        heappush(self._line, (in_round, next(self._arrivals), operation, turn))
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
        line, self._line, self._last = self._line, [], {}
        for *_, turn in line:
            if not turn.done():
                turn.set_exception(error)

    def release(self) -> None:
        """Give a turn back: to who is next."""
        while self._line and self._free >= 0:
            self._round, _, operation, turn = heappop(self._line)
            if self._last[operation] == self._round:
                del self._last[operation]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
