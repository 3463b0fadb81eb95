"""What an error means in HTTP: the only place that knows statuses (RFC 9457)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from aiohttp import web

from service.api import refusals as r
from service.api.faults import Fault
from service.domain import errors as e
from service.domain.batch import Rejection
from service.domain.ids import OperationId
from service.store.errors import RolledBack
from service.store.vault import Sealed

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal or failure, ready to be answered."""

    status: int
    code: str
    title: str
    detail: str
    faults: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    rejected: Sequence[Rejection] = ()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all problems of one error class have in common. `code` is the class's name if None."""

    status: int
    title: str
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_KINDS: Mapping[type[e.SitepairError], _Kind] = {
    r.HeadTooLong: _Kind(400, "The request cannot be read", "MalformedRequest"),
    r.MalformedBody: _Kind(400, "The body cannot be read"),
    r.InvalidOperationId: _Kind(400, "The operationID is not valid", "InvalidOperationID"),
    r.NotAuthenticated: _Kind(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"}),
    r.UnknownPath: _Kind(404, "Not found", "NotFound"),
    e.UnknownAppliance: _Kind(404, "Unknown appliance"),
    e.UnknownBatch: _Kind(404, "Unknown batch"),
    e.UnknownPairing: _Kind(404, "Unknown pairing"),
    r.BodyTooSlow: _Kind(408, "The body came too slowly"),
    e.ApplianceBusy: _Kind(409, "The appliance is busy"),
    e.ApplianceExists: _Kind(409, "The apiUrl is taken"),
    e.NotRetryable: _Kind(409, "The pairing cannot be tried again"),
    e.PairingActive: _Kind(409, "The pairing is under way"),
    e.PairingOver: _Kind(409, "The pairing is over"),
    e.Superseded: _Kind(409, "Another pairing succeeded since"),
    r.ApplianceGone: _Kind(409, "Unknown appliance", "UnknownAppliance"),
    r.BodyTooLarge: _Kind(413, "The body is too large"),
    r.UnsupportedMediaType: _Kind(415, "Unsupported media type"),
    r.UnsupportedEncoding: _Kind(
        415, "Unsupported encoding", headers={"Accept-Encoding": "identity"}
    ),
    r.UnknownAppliances: _Kind(422, "Unknown appliance", "UnknownAppliance"),
    e.BatchRejected: _Kind(422, "Not all items can be accepted"),
    e.IdempotencyKeyReused: _Kind(422, "The Idempotency-Key was used before"),
    r.NoRoom: _Kind(503, "No room for the body", headers=_RETRY_AFTER),
    r.NotReady: _Kind(503, "Not ready", headers=_RETRY_AFTER),
}
_PARAMETERS = _Kind(400, "The parameters are not valid", "InvalidParameters")
_BODY = _Kind(422, "The body is not valid", "InvalidBody")
_STORE = Problem(
    503,
    "StoreUnavailable",
    "The database is not available",
    "The database does not answer. Whether a change took effect is not known.",
    headers=_RETRY_AFTER,
)
_UNDONE = replace(
    _STORE,
    detail="Another transaction holds a lock that this needs. Nothing was changed; ask again.",
)
_SEALED = Problem(
    409,
    "CredentialsSealed",
    "The credentials cannot be opened",
    "No key of this service opens the appliance's credentials; register it again.",
)
_DEFECT = Problem(
    500,
    "InternalError",
    "Internal error",
    "This is a defect of the service. Search its log for the operationID.",
)
UNREADABLE = Problem(
    400, "MalformedRequest", "The request cannot be read", "The request is not valid HTTP."
)
"""What to answer when the bytes were no HTTP."""

_NOT_ALLOWED = Problem(405, "MethodNotAllowed", "Method not allowed", "See Allow for the methods.")


def problem_of(error: Exception) -> Problem:
    """What to answer when `error` ended a request; a defect (500) if it was none of ours."""
    match error:
        case web.HTTPMethodNotAllowed(headers=headers):
            return replace(_NOT_ALLOWED, headers={"Allow": headers["Allow"]})
        case web.HTTPNotFound():
            return _of_request(r.UnknownPath())
        case e.StoreUnavailable():
            is_undone = isinstance(error, RolledBack) and not error.in_doubt
            return _UNDONE if is_undone else _STORE
        case Sealed():
            return _SEALED
        case e.RequestError():
            return _of_request(error)
        case _:
            return _DEFECT


def codes() -> frozenset[str]:
    """Every code that a problem may have."""
    named = {kind.code or error.__name__ for error, kind in _KINDS.items()}
    others = {problem.code for problem in (_STORE, _SEALED, _DEFECT, UNREADABLE, _NOT_ALLOWED)}
    return frozenset(named | others | {str(kind.code) for kind in (_PARAMETERS, _BODY)})


def respond(problem: Problem, operation_id: OperationId) -> web.Response:
    """`problem` as a response."""
    content: dict[str, object] = {
        "type": f"urn:sitepair:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "operationID": operation_id,
    }
    if problem.faults:
        content["errors"] = [_fault(fault) for fault in problem.faults]
    if problem.rejected:
        content["rejected"] = problem.rejected
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(content),
        content_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def _of_request(error: e.RequestError) -> Problem:
    kind = _KINDS.get(type(error))
    if kind is None and isinstance(error, r.InvalidRequest):
        kind = _BODY if error.is_about_body else _PARAMETERS
    if kind is None:
        return _DEFECT
    return Problem(
        kind.status,
        kind.code or type(error).__name__,
        kind.title,
        str(error),
        _faults(error),
        {**kind.headers, **_location(error)},
        error.rejected if isinstance(error, e.BatchRejected) else (),
    )


def _faults(error: e.RequestError) -> Sequence[Fault]:
    match error:
        case r.InvalidRequest(faults=faults):
            return faults
        case e.ApplianceExists():
            return [Fault("is taken", "/apiUrl")]
        case e.IdempotencyKeyReused():
            return [Fault("was used for another request", parameter="Idempotency-Key")]
        case _:
            return ()


def _location(error: e.RequestError) -> dict[str, str]:
    match error:
        case e.PairingActive(pairing_id=other) | e.Superseded(by=other):
            return {"Location": f"/v1/pairings/{other}"}
        case _:
            return {}


def _fault(fault: Fault) -> dict[str, str]:
    if fault.parameter is not None:
        return {"parameter": fault.parameter, "detail": fault.detail}
    return {"pointer": fault.pointer or "", "detail": fault.detail}
