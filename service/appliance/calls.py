"""Sends calls to one appliance: a few at a time, each with its operationID and its log line."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from service.appliance.classify import error_in, judge_failure
from service.appliance.exchange import Failure, Outcome, Request
from service.appliance.http import HttpsChannel
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

    def __init__(self, name: ApplianceName, channel: HttpsChannel, connections: int) -> None:
        self.name = name
        self._channel = channel
        # Waiting for a connection here, not in aiohttp's pool, so that one knows when it ended.
        self._turns = asyncio.Semaphore(connections)

    async def send(
        self, request: Request, headers: Mapping[str, str], callers: Callers | None = None
    ) -> Outcome:
        """Wait for a free connection, then send `request` once."""
        async with self._turns:
            served = callers() if callers is not None else (operation_id(),)
            first, *others = dict.fromkeys(served)
            with working_on(operation_id=first):
                return await self._send(
                    request, {**headers, "operationID": first}, tuple(others[:MAX_ALSO])
                )

    async def _send(
        self, request: Request, headers: Mapping[str, str], also: tuple[OperationId, ...]
    ) -> Outcome:
        clock = asyncio.get_running_loop().time
        began = clock()
        outcome: Outcome | None = None
        try:
            outcome = await self._channel.send(request, headers)
        finally:
            emit(
                ApplianceCalled(
                    appliance=self.name,
                    method=request.method,
                    path=request.path,
                    status=None
                    if outcome is None or isinstance(outcome, Failure)
                    else outcome.status,
                    ms=round((clock() - began) * 1000, 1),
                    error=_error_code(outcome),
                    also=also,
                )
            )
        return outcome


def _error_code(outcome: Outcome | None) -> str | None:
    if outcome is None:
        return "Cancelled"
    if isinstance(outcome, Failure):
        return judge_failure(outcome, mutating=False).error.code
    return error_in(outcome).code if outcome.status >= 300 else None
