"""Around every call: the operationID in and out, who asks, what went wrong, one line in the log."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from service.api import auth
from service.api.parts import PROCESS
from service.api.problems import problem_of, respond
from service.api.refusals import InvalidOperationId, UnknownPath
from service.domain.author import Author
from service.domain.errors import StoreUnavailable
from service.domain.ids import OperationId, is_operation_id
from service.observe.context import new_operation_id, operation_id, working_on
from service.observe.events import RequestCrashed, RequestServed, StoreTroubled
from service.observe.logging import emit
from service.store.errors import RolledBack

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPERATION_ID = "operationID"
OPEN = frozenset({"/healthz", "/readyz"})
"""The routes that need no token."""

_PRINCIPAL = web.RequestKey("principal", str)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "sitepair",
    "X-Content-Type-Options": "nosniff",
}


@web.middleware
async def accompanied(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: no response leaves without an operationID, and no error as anything but a
    problem."""
    started = time.perf_counter()
    known = _sent_operation_id(request)
    with working_on(operation_id=known or new_operation_id()):
        response = await _answer(request, handler)
        mark(response, operation_id())
        emit(
            RequestServed(
                method=request.method,
                route=_route(request),
                status=response.status,
                ms=round((time.perf_counter() - started) * 1000, 1),
                user=request.get(_PRINCIPAL),
            )
        )
        return response


@web.middleware
async def admitted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets nobody further without a fit operationID and, except to what is open, the token."""
    if OPERATION_ID in request.headers and _sent_operation_id(request) is None:
        raise InvalidOperationId
    if _route(request) not in OPEN:
        request[_PRINCIPAL] = auth.principal(
            request.headers.getall("Authorization", []), request.app[PROCESS].admin_token
        )
    if "%" in request.rel_url.raw_path:
        raise UnknownPath  # one spelling of a path, so that no two mean the same thing
    return await handler(request)


def author_of(request: web.Request) -> Author:
    """On whose behalf, and under which operationID, `request` is served."""
    return Author(request[_PRINCIPAL], operation_id())


def mark(response: web.StreamResponse, known_as: OperationId) -> None:
    """Put on `response` what every response carries."""
    response.headers[OPERATION_ID] = known_as
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 - the edge: what ends here would end as a bare 500
        problem = problem_of(error)
        if isinstance(error, StoreUnavailable) and not isinstance(error, RolledBack):
            emit(StoreTroubled(doing="answering a request", error=str(error)))
        if problem.status == 500:
            emit(RequestCrashed(method=request.method, route=_route(request)), error=error)
        response = respond(problem, operation_id())
    if not request.content.is_eof():
        # What is left of the body is not worth reading, and who held it back may never send it.
        response.force_close()
    return response


def _sent_operation_id(request: web.Request) -> OperationId | None:
    """The caller's operationID; None without one that is valid."""
    values = request.headers.getall(OPERATION_ID, [])
    if len(values) == 1 and is_operation_id(values[0]):
        return OperationId(values[0])
    return None


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"
