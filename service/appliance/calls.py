"""Sends calls to one appliance: a few at a time, each with its operationID and its log line."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from service.appliance.breaker import Breaker
from service.appliance.classify import error_in, judge_failure
from service.appliance.exchange import Channel, Failure, Outcome, Permit, Request, granted
from service.concurrency.semaphore import FairSemaphore
from service.domain.errors import ApplianceClosed, NotSent
from service.domain.ids import ApplianceName, OperationId
from service.observe.context import operation_id, working_on
from service.observe.events import ApplianceCalled
from service.observe.logging import emit

MAX_ALSO = 32

Callers = Callable[[], Sequence[OperationId]]
"""Asked at the moment of sending: on whose behalf a call is made. The first one's operationID
travels, the others are named in the log line."""


class Calls:
    """All calls to one appliance pass here, whatever they are for."""

    def __init__(
        self, name: ApplianceName, channel: Channel, connections: int, breaker: Breaker
    ) -> None:
        """`breaker` learns from every call, and is asked before each."""
        self.name = name
        self._channel = channel
        self._breaker = breaker
        # The only place where a call waits for a connection, so one knows when the wait is over.
        self._turns = FairSemaphore(connections)

    async def send(
        self,
        request: Request,
        headers: Mapping[str, str],
        callers: Callers | None = None,
        permit: Permit = granted,
    ) -> Outcome:
        """Wait for a free connection, then send `request` once. Raises ApplianceClosed, and what
        `permit` raises: then nothing was sent."""
        self._breaker.check()
        await self._turns.acquire()
        try:
            self._breaker.check()  # It may have opened meanwhile.
            served = callers() if callers is not None else (operation_id(),)
            first, *others = dict.fromkeys(served)
            with working_on(operation_id=first):
                headers = {**headers, "operationID": first}
                return await self._send(request, headers, tuple(others[:MAX_ALSO]), permit)
        finally:
            self._turns.release()

    def resize(self, connections: int) -> None:
        """Have so many connections from now on; a call that is under way keeps its own."""
        self._turns.resize(connections)

    def turn_away(self, closed: ApplianceClosed) -> None:
        """Raise `closed` in whoever waits for a connection."""
        self._turns.turn_away(closed)

    async def _send(
        self,
        request: Request,
        headers: Mapping[str, str],
        also: tuple[OperationId, ...],
        permit: Permit,
    ) -> Outcome:
        clock = asyncio.get_running_loop().time
        began = clock()

        def tell(status: int | None, error: str | None) -> None:
            ms = round((clock() - began) * 1000, 1)
            method, path = request.method, request.path
            emit(ApplianceCalled(self.name, method, path, status, ms, error, also))

        try:
            outcome = await self._channel.send(request, headers, permit)
        except NotSent:
            raise  # The permit's: nothing was called.
        except BaseException:
            tell(None, "Cancelled")
            raise
        status = None if isinstance(outcome, Failure) else outcome.status
        tell(status, _error_code(outcome))
        self._breaker.saw(outcome)
        return outcome


def _error_code(outcome: Outcome) -> str | None:
    if isinstance(outcome, Failure):
        return judge_failure(outcome, mutating=False).error.code
    return error_in(outcome).code if outcome.status >= 300 else None
