"""A JSON object whose last field is a list too long to be held: it is sent as it is read."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import msgspec
from aiohttp import web

from service.api.middleware import mark
from service.api.streaming import STALLED_S
from service.observe.context import operation_id


class PiecewiseResponse:
    """The response to one request."""

    def __init__(
        self,
        request: web.Request,
        content: Mapping[str, object],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`content` is what comes before the list."""
        self._request = request
        self._content = content
        self._response = web.StreamResponse(status=status, headers=headers)
        self._response.content_type = "application/json"

    async def send(self, field: str, arrays: AsyncIterator[bytes]) -> web.StreamResponse:
        """Send it, with all of `arrays`, as one list in `field`; none of them is empty, but there
        may be none. Raises what comes instead of an array: the response is cut short then, unless
        it was the first."""
        array = await anext(arrays, b"[]")
        mark(self._response, operation_id())
        try:
            await self._response.prepare(self._request)
            await self._write(msgspec.json.encode({**self._content, field: []})[:-2])
            await self._write(array[1:-1])
            async for array in arrays:
                await self._write(b"," + array[1:-1])
            await self._write(b"]}")
            await self._response.write_eof()
        except (ConnectionError, TimeoutError):
            self._abort()  # The client takes it no more.
        except BaseException:
            self._abort()  # So that the client does not take it for a whole answer.
            raise
        return self._response

    async def _write(self, content: bytes) -> None:
        async with asyncio.timeout(STALLED_S):
            await self._response.write(content)

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
