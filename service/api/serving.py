"""How the application is served: what never reaches a handler is answered like the rest."""

import asyncio
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from service.api.bodies import AWAITS_WELCOME
from service.api.middleware import mark
from service.api.problems import UNREADABLE, problem_of, respond
from service.api.refusals import HeadTooLong
from service.observe.context import new_operation_id, working_on
from service.observe.events import RequestCrashed, RequestServed
from service.observe.logging import emit

HEAD_ARRIVAL_S = 30.0
"""How long the head of a request may take to arrive: counted from the connection's beginning, on a
kept one from the first byte that comes while nothing is asked."""

_LAST_WORD_S = 1.0
"""How long a handler that is cut off has for its answer."""

_LINE_BYTES = 8190
_HEADERS = 128


class ApiRunner(web.AppRunner):
    """`web.AppRunner` for the application of `routes.build`.

    Bytes that are no HTTP get a problem, and neither it nor the log repeats them: aiohttp's own
    text quotes them, tokens and passwords included. Compressed bodies are left as they are.
    """

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float) -> None:
        super().__init__(
            app,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=shutdown_timeout_s,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADERS,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()

        def request_of(message: RawRequestMessage, *parts: Any) -> web.BaseRequest:
            request = made.request_factory(_without_expectation(message), *parts)
            request[AWAITS_WELCOME] = _asks_for_welcome(message)
            return request

        return _Server(made.request_handler, request_factory=request_of, **self._kwargs)


class _Server(web.Server):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given = kwargs

    def __call__(self) -> RequestHandler:
        given = {key: value for key, value in self._given.items() if key != "request_factory"}
        return _Connection(self, loop=asyncio.get_running_loop(), **given)


class _Connection(RequestHandler):
    """Ends, without a word, when a head does not arrive: nobody needs a token to send half of one,
    and each connection takes a file descriptor."""

    # Mostly a head comes in one piece, so that a kept connection mostly has no timer.
    __slots__ = ("_head_timer",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._head_timer: asyncio.TimerHandle | None = None
        self._await_head()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._forget_head()
            if isinstance(self._messages[-1][0], _ErrInfo):
                self._break_off()
        elif self._head_timer is None and self._waiter is not None and not self._waiter.done():
            self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """aiohttp waits for the handler, tells it that no more of its body comes, and waits as long
        again: in vain if it is the database that the handler waits for."""
        within_s = None if timeout is None else timeout + _LAST_WORD_S
        try:
            async with asyncio.timeout(within_s):
                await super().shutdown(timeout)
        except TimeoutError:
            if self._task_handler is not None:
                self._task_handler.cancel()
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp keeps a response until the connection's next one, which may never come."""
        finished, is_reset = await super().finish_response(request, resp, start_time)
        if isinstance(finished, web.Response):
            finished.body = None
        return finished, is_reset

    def _break_off(self) -> None:
        """What came was no HTTP. A handler that waits for more of its body would not be told."""
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError())
            self._lingering_time = 0.0  # No rest of it comes that would have to be read.

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(HEAD_ARRIVAL_S, self.force_close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes what was received
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response is sent already")
        known_as = new_operation_id()
        with working_on(operation_id=known_as):
            if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                too_long = HeadTooLong(_LINE_BYTES, _HEADERS)
                problem = problem_of(too_long) if _is_too_long(exc) else UNREADABLE
                emit(RequestServed(method="-", route="unreadable", status=problem.status, ms=0.0))
            else:
                problem = problem_of(exc if isinstance(exc, Exception) else RuntimeError())
                emit(RequestCrashed(method=request.method, route="unmatched"), error=exc)
        response = respond(problem, known_as)
        mark(response, known_as)
        response.force_close()
        return response


def _asks_for_welcome(message: RawRequestMessage) -> bool:
    """Whether the client holds its body back. Other expectations may be ignored (RFC 9110, 10.1.1),
    and those of HTTP/1.0 have to be."""
    expected = message.headers.get("Expect", "")
    return message.version >= HttpVersion11 and expected.lower() == "100-continue"


def _without_expectation(message: RawRequestMessage) -> RawRequestMessage:
    """aiohttp would welcome a body before anybody was let in, and refuse in words of its own what
    it does not know."""
    if "Expect" not in message.headers:
        return message
    headers = message.headers.copy()
    del headers["Expect"]
    return message._replace(headers=type(message.headers)(headers))


def _is_too_long(error: BaseException | None) -> bool:
    # aiohttp has no class of its own for the number of headers.
    return isinstance(error, LineTooLong) or (
        isinstance(error, BadHttpMessage) and error.message.startswith("Too many headers")
    )
