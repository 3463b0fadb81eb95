"""Values as rows and back."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from service.domain.appliance import ApiError, Json
from service.domain.events import Entry
from service.domain.ids import ApplianceName, OperationId, PairingId, TaskId
from service.domain.pairing import (
    ChainPosition,
    Operation,
    Pairing,
    PairingState,
    Phase,
    Side,
    SideState,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_json(value: object) -> str:
    """`value` for a `json` column: ASCII only, so that no character can be refused."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def to_text(value: str) -> str:
    """`value` for a `text` column, which takes neither NUL nor half a surrogate pair."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def error_to_json(error: ApiError | None) -> str | None:
    """An error as stored, stack trace included."""
    if error is None:
        return None
    kept = {"code": error.code, "msg": error.msg, "args": error.args}
    return to_json(kept | {"stacktrace": error.stacktrace} if error.stacktrace else kept)


def result_to_json(result: Json | None) -> str | None:
    """An appliance's record, as it was sent."""
    return None if result is None else to_json(dict(result))


def to_time(ms: int) -> datetime:
    """Milliseconds since the epoch as a timestamp; exact."""
    return _EPOCH + ms * _MILLISECOND


def pairing_from(row: Row[Any]) -> Pairing:
    """A row with the columns of `pairing`, and those of its sides as `a_…` and `b_…`."""
    fields = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return Pairing(
        id=PairingId(fields["id"]),
        operation=Operation(fields["operation"]),
        sides=(_side_from(fields, "a_"), _side_from(fields, "b_")),
        operation_id=OperationId(fields["operation_id"]),
        user=fields["user_name"],
        start_time=fields["start_time"],
        last_updated=fields["last_updated"],
        timeout_s=fields["timeout_s"],
        state=PairingState(fields["state"]),
        phase=Phase(fields["phase"]) if fields["phase"] else None,
        description=fields["description"],
        priority=fields["priority"],
        end_time=fields["end_time"],
        error=_error_from(fields["error"]),
        epoch=fields["epoch"],
        position=ChainPosition(fields["seq"], fields["head"]),
    )


def _side_from(fields: Mapping[Any, Any], prefix: str) -> Side:
    task_id = fields[prefix + "task_id"]
    return Side(
        appliance=ApplianceName(fields[prefix + "appliance"]),
        peer=ApplianceName(fields[prefix + "peer"]),
        state=SideState(fields[prefix + "state"]),
        task_id=TaskId(task_id) if task_id is not None else None,
        start_time=fields[prefix + "start_time"],
        end_time=fields[prefix + "end_time"],
        result=fields[prefix + "result"],
        error=_error_from(fields[prefix + "error"]),
        attempts=fields[prefix + "attempts"],
    )


def _error_from(stored: Mapping[str, Any] | None) -> ApiError | None:
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
