"""Server-sent events: a response that stays open, for as long as somebody takes what it has.

The client is gone when its connection is, or when it has taken nothing for a while; either way it
goes on from the last id that it was given, so nothing of the stream is kept here.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from service.api.middleware import mark
from service.observe.context import operation_id

RETRY_MS = 1000
"""How soon a client that was cut off is to come back."""
QUIET_S = 15.0
"""After so long without an event the client hears that the connection stands."""
STALLED_S = 30.0
"""A client that takes nothing for so long is gone."""
_CLOSE_S = 1.0


class ClientGone(Exception):
    """Nobody takes what is sent."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One message. `type` and `id` have no line breaks."""

    id: str
    type: str
    data: object

    def encoded(self) -> bytes:
        """It on the wire. JSON has no line breaks within strings, and none that matter outside."""
        data = msgspec.json.encode(self.data).decode().replace("\r", " ").replace("\n", " ")
        return f"id: {self.id}\nevent: {self.type}\ndata: {data}\n\n".encode()


class EventStream:
    """The response to one request."""

    def __init__(self, request: web.Request, after: str) -> None:
        """`after` is the id that it begins behind: who is cut off before the first event has no
        other to go on from."""
        self.response = web.StreamResponse(
            # What stands between must not gather what is meant to arrive at once.
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        self._request = request
        self._after = after
        self._last_sent: float | None = None

    async def open(self) -> None:
        """Begin the response: its headers go out with whatever is sent first."""
        mark(self.response, operation_id())
        await self.response.prepare(self._request)

    async def send(self, events: Sequence[ServerSentEvent]) -> None:
        """Send `events`. Without any, a sign of life at first and once in a while. Raises
        ClientGone."""
        if self._request.transport is None:
            raise ClientGone
        content = b"".join([event.encoded() for event in events])
        if self._last_sent is None:
            # An id without data is no event, but clients keep it.
            await self._write(f"id: {self._after}\nretry: {RETRY_MS}\n\n".encode() + content)
        elif content:
            await self._write(content)
        elif _now() - self._last_sent >= QUIET_S:
            await self._write(b": nothing new\n\n")

    async def until(self, stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
        """Return when `work`, which sends, is at its end, its client gone, or `stop` set. The
        response is over then. Raises what `work` raises, in a group."""
        try:
            async with asyncio.TaskGroup() as group:
                working = group.create_task(_while_taken(work))
                stopping = group.create_task(stop.wait())
                await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
                working.cancel()
                stopping.cancel()
        except BaseException:
            self._abort()  # Cut short, so that the client does not take it for a whole answer.
            raise
        await self._close()

    async def _write(self, content: bytes) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await self.response.write(content)
        except (ConnectionError, TimeoutError) as error:
            self._abort()
            raise ClientGone from error
        self._last_sent = _now()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.response.write_eof()
        except (ConnectionError, TimeoutError):
            self._abort()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


async def _while_taken(work: Coroutine[Any, Any, None]) -> None:
    with suppress(ClientGone):
        await work


def _now() -> float:
    return asyncio.get_running_loop().time()
