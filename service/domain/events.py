"""What can happen to a pairing. Each event is one line of the audit trail."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import cast
from uuid import UUID

from service.domain.appliance import ApiError, Json
from service.domain.ids import ApplianceName, OperationId, TaskId
from service.domain.pairing import OnFailure
from service.domain.thumbprint import Thumbprint


@dataclass(frozen=True, slots=True)
class PairingAccepted:
    """A caller was promised an end to this pairing."""

    appliances: tuple[ApplianceName, ApplianceName]
    operation: str
    description: str
    timeout_s: int
    priority: int
    on_failure: str = OnFailure.ROLLBACK.value
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class PairingStarted:
    """A worker took the pairing, for the first time or from another one."""

    worker: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PairingHandedBack:
    """A worker that shuts down left the pairing to the next one."""

    worker: str


@dataclass(frozen=True, slots=True)
class PairingParked:
    """Nothing can be done until the breaker of `appliance` closes; a worker then goes on."""

    appliance: ApplianceName
    error: ApiError


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A caller wants no more of it: no new step begins, what was done is undone."""

    user: str
    operation_id: OperationId


@dataclass(frozen=True, slots=True)
class VerificationStarted:
    """Both sides are through; now to see whether it works from both ends."""


@dataclass(frozen=True, slots=True)
class RollbackStarted:
    """The pairing will not succeed, because of `error`: what it did is undone."""

    error: ApiError
    timeout_s: int


@dataclass(frozen=True, slots=True)
class PairingSucceeded:
    """Both appliances were seen to be as the operation wants them."""


@dataclass(frozen=True, slots=True)
class PairingFailed:
    """The pairing is over, and the two appliances are not known to be as it wanted them."""

    error: ApiError


@dataclass(frozen=True, slots=True)
class PairingCanceled:
    """The pairing is over because a caller wanted it to be."""


@dataclass(frozen=True, slots=True)
class PairingRetried:
    """A caller wants it again: from the start, or what is left of its rollback."""

    user: str
    operation_id: OperationId
    timeout_s: int


@dataclass(frozen=True, slots=True)
class PeerFound:
    """The appliance lists its peer, with the expected thumbprint, and not by this job's doing."""

    side: ApplianceName
    result: Json


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The appliance does not list its peer, and not by this job's doing: nothing to unpair."""

    side: ApplianceName


@dataclass(frozen=True, slots=True)
class PairRequested:
    """The intent to call `POST /sites`, on record before the call, and what it will tell."""

    side: ApplianceName
    attempt: int
    thumbprint: Thumbprint | None = None


@dataclass(frozen=True, slots=True)
class RepairRequested:
    """The intent to call `PUT /sites/{id}`, on record before the call, likewise."""

    side: ApplianceName
    attempt: int
    thumbprint: Thumbprint | None = None


@dataclass(frozen=True, slots=True)
class UnpairRequested:
    """The intent to call `DELETE /sites/{id}`, on record before the call."""

    side: ApplianceName
    attempt: int


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The call was sent and no readable answer came: what it did has to be found out."""

    side: ApplianceName
    error: ApiError


@dataclass(frozen=True, slots=True)
class RequestDeferred:
    """Nothing was asked of the appliance, or it did not act; the next try follows after a pause."""

    side: ApplianceName
    error: ApiError
    delay_ms: int


@dataclass(frozen=True, slots=True)
class CallLost:
    """The call, or its task, left no trace on the appliance; it is made again after a pause."""

    side: ApplianceName
    error: ApiError
    delay_ms: int


@dataclass(frozen=True, slots=True)
class TaskAccepted:
    """The appliance answered with a task."""

    side: ApplianceName
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class SidePaired:
    """The appliance holds the record: its task says so, or its list of peers."""

    side: ApplianceName
    result: Json


@dataclass(frozen=True, slots=True)
class SideUnpaired:
    """The appliance holds no record of its peer any more."""

    side: ApplianceName


@dataclass(frozen=True, slots=True)
class SideFailed:
    """This side will not get where the operation wants it. `refused`: the appliance said no to
    the call, which therefore had no effect."""

    side: ApplianceName
    error: ApiError
    refused: bool = False


@dataclass(frozen=True, slots=True)
class PeerVerified:
    """The record on this side works in both directions."""

    side: ApplianceName
    result: Json


@dataclass(frozen=True, slots=True)
class AbsenceVerified:
    """This side was seen to list its peer no more."""

    side: ApplianceName


@dataclass(frozen=True, slots=True)
class RollbackRequested:
    """The intent to undo what was done on this side by `call`, on record before the call."""

    side: ApplianceName
    call: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RollbackDelayed:
    """The appliance could not be asked to undo it; the next try follows after a pause."""

    side: ApplianceName
    error: ApiError
    delay_ms: int


@dataclass(frozen=True, slots=True)
class SideRolledBack:
    """The appliance is as it was before this job, as far as its peer goes."""

    side: ApplianceName


@dataclass(frozen=True, slots=True)
class NothingToUndo:
    """The call on this side, whose effect was not known, was seen to have had none."""

    side: ApplianceName


@dataclass(frozen=True, slots=True)
class RollbackFailed:
    """What this job did on this side could not be undone, or is not known to be."""

    side: ApplianceName
    error: ApiError


@dataclass(frozen=True, slots=True)
class SideReopened:
    """This side begins anew."""

    side: ApplianceName


PairingEvent = (
    PairingStarted
    | PairingHandedBack
    | PairingParked
    | CancelRequested
    | VerificationStarted
    | RollbackStarted
    | PairingSucceeded
    | PairingFailed
    | PairingCanceled
    | PairingRetried
)
CallRequested = PairRequested | RepairRequested | UnpairRequested
RollbackEvent = (
    RollbackRequested | RollbackDelayed | SideRolledBack | NothingToUndo | RollbackFailed
)
SideEvent = (
    PeerFound
    | PeerGone
    | CallRequested
    | AnswerLost
    | RequestDeferred
    | CallLost
    | TaskAccepted
    | SidePaired
    | SideUnpaired
    | SideFailed
    | PeerVerified
    | AbsenceVerified
    | RollbackEvent
    | SideReopened
)
Event = PairingAccepted | PairingEvent | SideEvent


@dataclass(frozen=True, slots=True)
class ApplianceRegistered:
    """An appliance was registered, or registered anew (`version` > 1). Never with credentials."""

    name: ApplianceName
    version: int
    management_url: str
    api_url: str
    thumbprint: str | None
    api_thumbprint: str
    credentials_changed: bool


@dataclass(frozen=True, slots=True)
class ApplianceRemoved:
    """An appliance was taken out of the registry."""

    name: ApplianceName


ApplianceEvent = ApplianceRegistered | ApplianceRemoved


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its chain, as it is stored and shown.

    `chain` is the id of the pairing, or of the appliance's registration.
    """

    chain: UUID
    seq: int
    at: int
    type: str
    appliance: ApplianceName | None
    actor: str
    operation_id: OperationId
    detail: Mapping[str, object]
    hash: bytes


def type_of(event: Event | ApplianceEvent) -> str:
    """The event's name in the audit trail."""
    return type(event).__name__


def appliance_of(event: Event | ApplianceEvent) -> ApplianceName | None:
    """The appliance an event happened on, if it happened on one."""
    if isinstance(event, SideEvent):
        return event.side
    if isinstance(event, ApplianceEvent):
        return event.name
    return None


def detail_of(event: Event | ApplianceEvent) -> dict[str, object]:
    """What the audit trail keeps of an event besides its name, as JSON with camelCase keys."""
    return {key: _plain(getattr(event, name)) for name, key in _keys(cast("Hashable", type(event)))}


@cache
def _keys(kind: Hashable) -> tuple[tuple[str, str], ...]:
    """The fields that a detail has, and how it spells them."""
    names = [
        field.name
        for field in fields(cast("type[Event]", kind))
        if field.name not in {"side", "name"}
    ]
    return tuple([(name, _camel(name)) for name in names])


_NOT_IN_THE_TRAIL = frozenset({"peertunnelcert", "stacktrace"})
"""What is long, or not for everybody's eyes, stays with the side, where it is kept once. Left out
here rather than when shown: who reads an event must be able to compute its hash."""


def _plain(value: object) -> object:
    # Most are, and to find that one is no Mapping takes longer than all the rest.
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, ApiError):
        return {"code": value.code, "msg": value.msg, "args": list(value.args)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: _plain(item)
            for key, item in value.items()
            if str(key).lower() not in _NOT_IN_THE_TRAIL
        }
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
