"""What can happen to a pairing. Each event is one line of the audit trail."""

from functools import cache
from uuid import UUID

from msgspec import Struct

from service.domain.appliance import ApiError, SentJson, read_sent
from service.domain.ids import ApplianceName, OperationId, TaskId
from service.domain.pairing import OnFailure
from service.domain.thumbprint import Thumbprint


class PairingAccepted(Struct, frozen=True):
    """A caller was promised an end to this pairing."""

    appliances: tuple[ApplianceName, ApplianceName]
    operation: str
    description: str
    timeout_s: int
    priority: int
    on_failure: str = OnFailure.ROLLBACK.value
    batch: str | None = None


class PairingStarted(Struct, frozen=True):
    """A worker took the pairing, for the first time or from another one."""

    worker: str
    epoch: int


class PairingHandedBack(Struct, frozen=True):
    """A worker that shuts down left the pairing to the next one."""

    worker: str


class PairingParked(Struct, frozen=True):
    """Nothing can be done until the breaker of `appliance` closes; a worker then goes on."""

    appliance: ApplianceName
    error: ApiError


class CancelRequested(Struct, frozen=True):
    """A caller wants no more of it: no new step begins, what was done is undone."""

    user: str
    operation_id: OperationId


class VerificationStarted(Struct, frozen=True):
    """Both sides are through; now to see whether it works from both ends."""


class RollbackStarted(Struct, frozen=True):
    """The pairing will not succeed, because of `error`: what it did is undone."""

    error: ApiError
    timeout_s: int


class PairingSucceeded(Struct, frozen=True):
    """Both appliances were seen to be as the operation wants them."""


class PairingFailed(Struct, frozen=True):
    """The pairing is over, and the two appliances are not known to be as it wanted them."""

    error: ApiError


class PairingCanceled(Struct, frozen=True):
    """The pairing is over because a caller wanted it to be."""


class PairingRetried(Struct, frozen=True):
    """A caller wants it again: from the start, or what is left of its rollback."""

    user: str
    operation_id: OperationId
    timeout_s: int


class OnSide(Struct, frozen=True):
    """Happened on one of its appliances."""

    side: ApplianceName


class PeerFound(OnSide, frozen=True):
    """The appliance lists its peer, with the expected thumbprint, and not by this job's doing."""

    result: SentJson


class PeerGone(OnSide, frozen=True):
    """The appliance does not list its peer, and not by this job's doing: nothing to unpair."""


class PairRequested(OnSide, frozen=True):
    """The intent to call `POST /sites`, on record before the call, where, and what it will tell."""

    attempt: int
    thumbprint: Thumbprint | None = None
    api_url: str | None = None
    management_url: str | None = None


class RepairRequested(OnSide, frozen=True):
    """The intent to call `PUT /sites/{id}`, on record before the call, likewise."""

    attempt: int
    thumbprint: Thumbprint | None = None
    api_url: str | None = None
    management_url: str | None = None


class UnpairRequested(OnSide, frozen=True):
    """The intent to call `DELETE /sites/{id}`, on record before the call, and where."""

    attempt: int
    management_url: str | None = None


class AnswerLost(OnSide, frozen=True):
    """The call was sent and no readable answer came: what it did has to be found out."""

    error: ApiError


class RequestDeferred(OnSide, frozen=True):
    """Nothing was asked of the appliance, or it did not act; the next try follows after a pause."""

    error: ApiError
    delay_ms: int


class CallLost(OnSide, frozen=True):
    """The call, or its task, left no trace on the appliance; it is made again after a pause."""

    error: ApiError
    delay_ms: int


class TaskAccepted(OnSide, frozen=True):
    """The appliance answered with a task."""

    task_id: TaskId


class SidePaired(OnSide, frozen=True):
    """The appliance holds the record: its task says so, or its list of peers."""

    result: SentJson


class SideUnpaired(OnSide, frozen=True):
    """The appliance holds no record of its peer any more."""


class SideFailed(OnSide, frozen=True):
    """This side will not get where the operation wants it. `refused`: the appliance said no to
    the call, at once or in its task, and it therefore had no effect."""

    error: ApiError
    refused: bool = False


class PeerVerified(OnSide, frozen=True):
    """The record on this side works in both directions."""

    result: SentJson


class AbsenceVerified(OnSide, frozen=True):
    """This side was seen to list its peer no more."""


class RollbackRequested(OnSide, frozen=True):
    """The intent to undo what was done on this side by `call`, on record before the call."""

    call: str
    attempt: int


class RollbackDelayed(OnSide, frozen=True):
    """The appliance could not be asked to undo it; the next try follows after a pause."""

    error: ApiError
    delay_ms: int


class SideRolledBack(OnSide, frozen=True):
    """The appliance is as it was before this job, as far as its peer goes."""


class NothingToUndo(OnSide, frozen=True):
    """The call on this side, whose effect was not known, was seen to have had none."""


class RollbackFailed(OnSide, frozen=True):
    """What this job did on this side could not be undone, or is not known to be."""

    error: ApiError


class SideReopened(OnSide, frozen=True):
    """This side begins anew."""


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


class ApplianceRegistered(Struct, frozen=True):
    """An appliance was registered, or registered anew (`version` > 1). Never with credentials."""

    name: ApplianceName
    version: int
    management_url: str
    api_url: str
    thumbprint: str | None
    api_thumbprint: str
    credentials_changed: bool


class ApplianceRemoved(Struct, frozen=True):
    """An appliance was taken out of the registry."""

    name: ApplianceName


ApplianceEvent = ApplianceRegistered | ApplianceRemoved


class Entry(Struct, frozen=True):
    """An event in its chain, as it is stored and shown.

    `chain` is the id of the pairing, or of the appliance's registration. `detail` is what its event
    says besides its name, a JSON object as text: what was hashed is what is stored and shown.
    """

    chain: UUID
    seq: int
    at: int
    type: str
    appliance: ApplianceName | None
    actor: str
    operation_id: OperationId
    detail: str
    hash: bytes


def type_of(event: Event | ApplianceEvent) -> str:
    """The event's name in the audit trail."""
    return type(event).__name__


def appliance_of(event: Event | ApplianceEvent) -> ApplianceName | None:
    """The appliance an event happened on, if it happened on one."""
    if isinstance(event, OnSide):
        return event.side
    return event.name if isinstance(event, ApplianceRegistered | ApplianceRemoved) else None


def detail_of(event: Event | ApplianceEvent) -> dict[str, object]:
    """What the audit trail keeps of an event besides its name, as JSON with camelCase keys."""
    return {key: _plain(getattr(event, name)) for name, key in _told_of(type(event))}


@cache
def _told_of(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    """The fields that are told of such events, and under which key."""
    names = [name for name in kind.__struct_fields__ if name not in {"side", "name"}]
    return tuple([(name, _camel(name)) for name in names])


_NOT_IN_THE_TRAIL = frozenset({"peertunnelcert", "stacktrace"})
"""What is long, or not for everybody's eyes, stays with the side, where it is kept once. Left out
here rather than when shown: who reads an event must be able to compute its hash."""


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _plain(value: object) -> object:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        return {
            key: inner if type(inner) in _SCALARS else _plain(inner)
            for key, inner in value.items()
            if key.lower() not in _NOT_IN_THE_TRAIL
        }
    if isinstance(value, bytes):
        return _plain(read_sent(value))
    if isinstance(value, ApiError):
        return value.shown
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
