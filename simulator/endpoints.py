"""The appliance's API: which call does what, and in whose words it is answered (h4-api 1 to 8)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator import errors, health, logins, sites, taskcalls
from simulator.reply import Refused, Reply
from simulator.wire import (
    OPERATION_HEADER,
    PLAIN_JSON,
    Answer,
    ApiError,
    accepted_version,
    encode,
    vendor_type,
)

if TYPE_CHECKING:
    from simulator.world import Visit, World

Handler = Callable[["World", "Visit", int], Reply]


@dataclass(frozen=True, slots=True)
class Route:
    """One call of the API. `template` is how it is counted."""

    template: str
    handler: Handler
    is_open: bool = False


def _no_such_path(_world: "World", visit: "Visit", _now: int) -> Reply:
    raise Refused(404, errors.not_found(visit.call.path))


def _no_such_method(_world: "World", visit: "Visit", _now: int) -> Reply:
    raise Refused(405, errors.bad_request(f"{visit.call.method} is not allowed here."))


_ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/sessions": {"POST": logins.log_in, "GET": logins.who_am_i, "DELETE": logins.log_out},
    "/sites": {"GET": sites.list_sites, "POST": sites.pair},
    "/sites/{id}": {"GET": sites.one_site, "PUT": sites.repair, "DELETE": sites.unpair},
    "/tasks": {"GET": taskcalls.list_tasks},
    "/tasks/poll": {"POST": taskcalls.poll},
    "/tasks/{id}": {"GET": taskcalls.one_task},
    "/diagnostics/about": {"GET": health.about},
    "/diagnostics/health": {"POST": health.check, "GET": health.check},
    "/config": {"GET": health.config},
    "/config/is-configured": {"GET": health.is_configured},
    "/config/certificate": {"GET": health.own_certificate},
    "/config/remote-certificate": {"GET": health.remote_certificate},
    "/license": {"GET": health.license_},
    "/docs/api-guide.html": {"GET": health.guide},
}
_OPEN = frozenset({"POST /sessions", "GET /docs/api-guide.html", "GET /diagnostics/about"})
_KNOWN = {
    f"{method} {path}": Route(f"{method} {path}", handler, f"{method} {path}" in _OPEN)
    for path, methods in _ROUTES.items()
    for method, handler in methods.items()
}
_UNKNOWN = Route("unknown", _no_such_path)


def find(method: str, path: str) -> tuple[Route, str]:
    """The route of a call and the id in its path, empty if it has none."""
    route = _KNOWN.get(f"{method} {path}")
    if route is not None:
        return route, ""
    head, _, last = path.rpartition("/")
    if head in {"/sites", "/tasks"} and last and path not in _ROUTES:
        path, argument = f"{head}/{{id}}", last
        route = _KNOWN.get(f"{method} {path}")
        if route is not None:
            return route, argument
    if path in _ROUTES:
        return Route(f"{method} {path}", _no_such_method), ""
    return _UNKNOWN, ""


def answer(world: "World", visit: "Visit", now: int) -> Answer:
    """Do what the call asks and word the answer."""
    knobs, call = visit.appliance.knobs, visit.call
    version = accepted_version(call.accept, knobs.api_version)
    headers: dict[str, str] = {}
    if visit.appliance.offset_ms:
        headers["Date"] = formatdate((now + visit.appliance.offset_ms) / 1000, usegmt=True)
    try:
        _check(visit, version, now)
        reply = visit.route.handler(world, visit, now)
    except Refused as refused:
        reply = Reply(refused.status, refused.error, refused.headers)
    content_type = reply.content_type or _media_type(visit, version, reply)
    if reply.body is not None:
        headers["Content-Type"] = content_type
    if knobs.operation_id_echoed and call.operation_id:
        headers[OPERATION_HEADER] = call.operation_id
    headers.update(reply.headers)
    return Answer(reply.status, _encoded(reply.body), headers)


def _check(visit: "Visit", version: str | None, now: int) -> None:
    """What every call has to pass before its handler. Raises Refused."""
    knobs, call = visit.appliance.knobs, visit.call
    if knobs.operation_id_max and len(call.operation_id or "") > knobs.operation_id_max:
        raise Refused(400, errors.bad_user_input("operationID is too long.", OPERATION_HEADER))
    if version is None and knobs.unknown_accept == "406":
        raise Refused(406, errors.bad_request(f"Cannot answer as {call.accept}"))
    if not visit.route.is_open:
        logins.admit(visit, now)


def _media_type(visit: "Visit", version: str | None, reply: Reply) -> str:
    knobs, call = visit.appliance.knobs, visit.call
    if knobs.media_type == "plain":
        return PLAIN_JSON
    # Errors are vendor-typed even where the 200 is plain JSON (h4-api 4).
    if isinstance(reply.body, ApiError):
        return _vendor_type(version or knobs.api_version)
    if version is None or (call.accept or "").startswith("application/json"):
        return PLAIN_JSON
    return _vendor_type(version)


_vendor_type = lru_cache(maxsize=16)(vendor_type)


def _encoded(body: object) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else encode(body)
