"""Values as rows and back."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import Any, overload

import msgspec
from sqlalchemy import Row

from service.domain.appliance import ApiError, SentJson, read_sent
from service.domain.events import Entry
from service.domain.ids import ApplianceName, BatchId, OperationId, PairingId, TaskId
from service.domain.pairing import (
    ChainPosition,
    OnFailure,
    Operation,
    Pairing,
    PairingState,
    Phase,
    Side,
    SideState,
    SiteCall,
)
from service.domain.thumbprint import Thumbprint

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ASCII = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_MILLISECOND = timedelta(milliseconds=1)


def to_json(value: object) -> str:
    """`value` for a `json` column: ASCII only, so that no character can be refused."""
    try:
        spelt = msgspec.json.encode(value)
    except UnicodeEncodeError:  # Half a surrogate pair.
        return _ASCII.encode(value)
    # In a fifth of the time, and mostly it is ASCII.
    return spelt.decode() if spelt.isascii() else _ASCII.encode(value)


def to_text(value: str) -> str:
    """`value` for a `text` column, which takes neither NUL nor half a surrogate pair."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def error_to_json(error: ApiError | None) -> str | None:
    """An error as stored, stack trace included."""
    return None if error is None else to_json(_kept(error))


def errors_to_json(errors: Sequence[ApiError]) -> str:
    """Errors as stored."""
    return to_json([_kept(error) for error in errors])


def _kept(error: ApiError) -> dict[str, object]:
    kept: dict[str, object] = {"code": error.code, "msg": error.msg, "args": error.args}
    return kept | {"stacktrace": error.stacktrace} if error.stacktrace else kept


def result_to_json(result: SentJson | None) -> str | None:
    """An appliance's record, as it was sent; ASCII only, like all of it."""
    if result is None:
        return None
    return result.decode() if result.isascii() else to_json(read_sent(result))


def to_time(ms: int) -> datetime:
    """Milliseconds since the epoch as a timestamp; exact."""
    return _EPOCH + ms * _MILLISECOND


def pairing_from(row: Row[Any]) -> Pairing:
    """A row with the columns of `pairing`, and those of its sides as `a_…` and `b_…`."""
    fields = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    deadline = fields["deadline"]
    return Pairing(
        id=PairingId(fields["id"]),
        operation=Operation(fields["operation"]),
        sides=(_side_from(fields, "a_"), _side_from(fields, "b_")),
        operation_id=OperationId(fields["operation_id"]),
        user=intern(fields["user_name"]),
        start_time=fields["start_time"],
        last_updated=fields["last_updated"],
        timeout_s=fields["timeout_s"],
        deadline=deadline or fields["start_time"] + fields["timeout_s"] * 1000,
        on_failure=OnFailure(fields["on_failure"]),
        state=PairingState(fields["state"]),
        phase=Phase(fields["phase"]) if fields["phase"] else None,
        description=fields["description"],
        priority=fields["priority"],
        end_time=fields["end_time"],
        error=error_from(fields["error"]),
        warnings=tuple([error_from(each) for each in fields["warnings"]]),
        is_canceling=fields["is_canceling"],
        is_unwanted=fields["cancel_user"] is not None,
        epoch=fields["epoch"],
        position=ChainPosition(fields["seq"], fields["head"]),
        batch=BatchId(fields["batch"]) if fields["batch"] is not None else None,
    )


def line_of(priority: int, whose: object) -> str:
    """Which line a pairing waits in: one for each priority of a batch, or, of those that were asked
    for by themselves, of a user."""
    return f"{priority:+04d}:{whose}"


def _side_from(fields: Mapping[Any, Any], prefix: str) -> Side:
    task_id, call = fields[prefix + "task_id"], fields[prefix + "call"]
    thumbprint, result = fields[prefix + "asked_thumbprint"], fields[prefix + "result"]
    return Side(
        # The same few names stand in thousands of rows.
        appliance=ApplianceName(intern(fields[prefix + "appliance"])),
        peer=ApplianceName(intern(fields[prefix + "peer"])),
        state=SideState(fields[prefix + "state"]),
        task_id=TaskId(task_id) if task_id is not None else None,
        start_time=fields[prefix + "start_time"],
        end_time=fields[prefix + "end_time"],
        result=result.encode() if result is not None else None,
        error=error_from(fields[prefix + "error"]),
        attempts=fields[prefix + "attempts"],
        call=SiteCall(call) if call is not None else None,
        losses=fields[prefix + "losses"],
        asked_thumbprint=Thumbprint(thumbprint) if thumbprint is not None else None,
        asked_url=fields[prefix + "asked_url"],
        called_url=fields[prefix + "called_url"],
    )


@overload
def error_from(stored: Mapping[str, Any]) -> ApiError: ...


@overload
def error_from(stored: Mapping[str, Any] | None) -> ApiError | None: ...


def error_from(stored: Mapping[str, Any] | None) -> ApiError | None:
    """What `error_to_json` stored."""
    if stored is None:
        return None
    return ApiError(stored["code"], stored["msg"], tuple(stored["args"]), stored.get("stacktrace"))


def entry_from(row: Row[Any]) -> Entry:
    """A row of `event`."""
    return Entry(
        chain=row.chain,
        seq=row.seq,
        at=(row.at - _EPOCH) // _MILLISECOND,
        type=row.type,
        appliance=row.appliance,
        actor=row.actor,
        operation_id=row.operation_id,
        detail=row.detail,
        hash=row.hash,
    )
