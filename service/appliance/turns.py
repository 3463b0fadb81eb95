"""A few at once, and who asked for much waits no less than who asked for little."""

import asyncio
from collections import OrderedDict, deque

from service.domain.ids import OperationId
from service.observe.context import operation_id


class Turns:
    """So many turns at once. Who waits for one stands in the line of its operation, and the lines
    are served one after the other: what a caller asks for alone passes a batch of thousands.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._free = at_once
        self._lines: OrderedDict[OperationId, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self) -> None:
        """Wait for a turn. Raises what `turn_away` is given."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(operation_id(), deque()).append(turn)
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
        lines, self._lines = self._lines, OrderedDict()
        for line in lines.values():
            for turn in line:
                if not turn.done():
                    turn.set_exception(error)

    def release(self) -> None:
        """Give a turn back: to who is next."""
        while self._lines and self._free >= 0:
            operation, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[operation] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
