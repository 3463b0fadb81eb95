"""How the application is served: what never reaches a handler is answered like the rest."""

import asyncio
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from service.api.middleware import mark
from service.api.problems import problem_of, respond, unreadable
from service.observe.context import new_operation_id, working_on
from service.observe.events import RequestCrashed, RequestServed
from service.observe.logging import emit


class ApiRunner(web.AppRunner):
    """`web.AppRunner` for the application of `routes.build`.

    Bytes that are no HTTP get a problem, and neither it nor the log repeats them: aiohttp's own
    text quotes them, tokens and passwords included. Compressed bodies are left as they are.
    """

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float) -> None:
        super().__init__(
            app, access_log=None, auto_decompress=False, shutdown_timeout=shutdown_timeout_s
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given = kwargs

    def __call__(self) -> RequestHandler:
        given = {key: value for key, value in self._given.items() if key != "request_factory"}
        return _Connection(self, loop=asyncio.get_running_loop(), **given)


class _Connection(RequestHandler):
    __slots__ = ()

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
                problem = unreadable()
                emit(RequestServed(method="-", route="unreadable", status=problem.status, ms=0.0))
            else:
                problem = problem_of(exc if isinstance(exc, Exception) else RuntimeError())
                emit(RequestCrashed(method=request.method, route="unmatched"), error=exc)
        response = respond(problem, known_as)
        mark(response, known_as)
        response.force_close()
        return response
