"""From values to what callers see, in the spelling of the contract."""

from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from service.appliance.check import CheckReport
from service.domain.appliance import ApiError
from service.domain.events import Entry
from service.domain.ids import ApplianceName
from service.domain.pairing import Pairing, Side
from service.domain.registration import LocalUser, Registration

NOT_YET = -1
"""A time that has not come (h4-api 3.1, `endTime`)."""

Wire = dict[str, object]


def respond(
    content: Wire, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`content` as a JSON response."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(content),
        content_type="application/json",
        headers=headers,
    )


def appliance(registration: Registration) -> Wire:
    """A registration without its secrets."""
    spec = registration.spec
    kind = "localUser" if isinstance(spec.credentials, LocalUser) else "ssoCredentials"
    return {
        "name": spec.name,
        "managementUrl": spec.management_url,
        "apiUrl": spec.api_url,
        "thumbprint": spec.thumbprint,
        "apiThumbprint": spec.api_thumbprint,
        "credentials": {"type": kind, "user": spec.credentials.user},
        "description": spec.description,
        "maxInFlight": spec.max_in_flight,
        "version": registration.version,
        "created": registration.created,
        "lastUpdated": registration.last_updated,
    }


def check_report(name: ApplianceName, report: CheckReport) -> Wire:
    """What a preflight found."""
    return {
        "appliance": name,
        "ok": report.ok,
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "detail": check.detail,
                "data": without_stacktraces(check.data),
            }
            for check in report.checks
        ],
    }


def pairing(value: Pairing) -> Wire:
    """A pairing, shaped like the appliance's own task."""
    return {
        "id": str(value.id),
        "operation": value.operation,
        "appliances": [side.appliance for side in value.sides],
        "state": value.state,
        "phase": value.phase,
        "progress": value.progress,
        "operationID": value.operation_id,
        "user": value.user,
        "description": value.description,
        "batch": None,
        "startTime": value.start_time,
        "lastUpdated": value.last_updated,
        "endTime": _time(value.end_time),
        "error": _error(value.error),
        "warnings": [],
        "sides": [_side(side) for side in value.sides],
    }


def pairings(page: Sequence[Pairing], next_cursor: str | None) -> Wire:
    """One page of pairings."""
    return {"items": [pairing(value) for value in page], "nextCursor": next_cursor}


def events(entries: Sequence[Entry]) -> Wire:
    """An audit trail."""
    return {"items": [_entry(entry) for entry in entries]}


def without_stacktraces(value: object) -> object:
    """JSON without the stack traces that appliances put into it (h4-api 7)."""
    match value:
        case Mapping():
            return {
                name: without_stacktraces(item)
                for name, item in value.items()
                if str(name).lower() != "stacktrace"
            }
        case list() | tuple():
            return [without_stacktraces(item) for item in value]
        case _:
            return value


def _side(side: Side) -> Wire:
    return {
        "appliance": side.appliance,
        "peer": side.peer,
        "state": side.state,
        "taskId": side.task_id,
        "progress": side.progress,
        "startTime": _time(side.start_time),
        "endTime": _time(side.end_time),
        "result": without_stacktraces(side.result),
        "error": _error(side.error),
        "attempts": side.attempts,
    }


def _entry(entry: Entry) -> Wire:
    side = {"side": entry.appliance} if entry.appliance is not None else {}
    return {
        "seq": entry.seq,
        "at": entry.at,
        "type": entry.type,
        **side,
        "actor": entry.actor,
        "operationID": entry.operation_id,
        "detail": entry.detail,
        "hash": entry.hash.hex(),
    }


def _error(error: ApiError | None) -> Wire | None:
    if error is None:
        return None
    return {"code": error.code, "msg": error.msg, "args": list(error.args)}


def _time(at: int | None) -> int:
    return at if at is not None else NOT_YET
