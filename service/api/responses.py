"""From values to what callers see, in the spelling of the contract."""

import io
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from service.appliance.check import CheckReport
from service.domain.appliance import ApiError, SentJson, read_sent
from service.domain.batch import Batch
from service.domain.chain import is_about_registration
from service.domain.events import Entry
from service.domain.ids import ApplianceName
from service.domain.pairing import Pairing, PairingState, Side
from service.domain.registration import ApplianceHealth, Credentials, LocalUser, Registration
from service.store.batchrecord import BatchAcceptance

NOT_YET = -1
"""A time that has not come (h4-api 3.1, `endTime`)."""

_LARGE = 1024 * 1024

Wire = dict[str, object]


def respond(
    content: Wire, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`content` as a JSON response."""
    body = msgspec.json.encode(content)
    return web.Response(
        status=status,
        # What is bytes is handed over at once, to be copied for as long as the client is slow.
        body=body if len(body) < _LARGE else io.BytesIO(body),
        content_type="application/json",
        headers=headers,
    )


def appliance(registration: Registration, known: ApplianceHealth) -> Wire:
    """A registration without its secrets, and what is known of how the appliance answers."""
    spec = registration.spec
    return {
        "name": spec.name,
        "managementUrl": spec.management_url,
        "apiUrl": spec.api_url,
        "thumbprint": spec.thumbprint,
        "apiThumbprint": spec.api_thumbprint,
        "credentials": None if registration.is_sealed else _user(spec.credentials),
        "description": spec.description,
        "maxInFlight": spec.max_in_flight,
        "version": registration.version,
        "created": registration.created,
        "lastUpdated": registration.last_updated,
        "health": _health(known),
    }


def _user(credentials: Credentials) -> Wire:
    kind = "localUser" if isinstance(credentials, LocalUser) else "ssoCredentials"
    return {"type": kind, "user": credentials.user}


def _health(known: ApplianceHealth) -> Wire:
    refused = known.refused
    return {
        "breaker": "open" if known.closed_since is not None else "closed",
        "since": _time(known.closed_since),
        "lastError": _error(known.error),
        "lastContact": _time(known.last_contact),
        "login": "refused" if refused is not None else "ok",
        "loginError": _error(refused.error) if refused is not None else None,
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
        "onFailure": value.on_failure,
        "canceling": value.is_being_canceled,
        "batch": str(value.batch) if value.batch is not None else None,
        "startTime": value.start_time,
        "lastUpdated": value.last_updated,
        "endTime": _time(value.end_time),
        "error": _error(value.error),
        "warnings": [_error(warning) for warning in value.warnings],
        "sides": [_side(side) for side in value.sides],
    }


def pairings(page: Sequence[Pairing], next_cursor: str | None) -> Wire:
    """One page of pairings."""
    return {"items": [pairing(value) for value in page], "nextCursor": next_cursor}


def batch(value: Batch) -> Wire:
    """A batch as it stands."""
    counts = value.counts
    return {
        "id": str(value.id),
        "total": value.total,
        "accepted": value.accepted,
        "counts": {state: getattr(counts, state.lower()) for state in PairingState},
        "progress": value.progress,
        "operationID": value.operation_id,
        "user": value.user,
        "startTime": value.start_time,
        "endTime": _time(value.end_time),
    }


def batch_accepted(acceptance: BatchAcceptance) -> Wire:
    """What became of the items of a batch, but for those that were not accepted."""
    return {
        "id": str(acceptance.id),
        "total": acceptance.total,
        "accepted": acceptance.accepted,
    }


def events(entries: Sequence[Entry]) -> Wire:
    """The audit trail of a pairing."""
    return {"items": [_entry(entry) for entry in entries]}


def audit_event(event_id: str, entry: Entry) -> Wire:
    """One event of the whole audit trail."""
    pairing_of_it = {} if is_about_registration(entry) else {"pairing": str(entry.chain)}
    return {"id": event_id, **pairing_of_it, **_entry(entry)}


def audit_events(page: Sequence[Wire], next_after: str | None) -> Wire:
    """One page of the whole audit trail."""
    return {"items": page, "nextAfter": next_after}


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


def _result(result: SentJson | None) -> object:
    return without_stacktraces(read_sent(result)) if result is not None else None


def _side(side: Side) -> Wire:
    return {
        "appliance": side.appliance,
        "peer": side.peer,
        "state": side.state,
        "taskId": side.task_id,
        "progress": side.progress,
        "startTime": _time(side.start_time),
        "endTime": _time(side.end_time),
        "result": _result(side.result),
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
        "detail": msgspec.Raw(entry.detail.encode()),
        "hash": entry.hash.hex(),
    }


def _error(error: ApiError | None) -> Wire | None:
    return error.shown if error is not None else None


def _time(at: int | None) -> int:
    return at if at is not None else NOT_YET
