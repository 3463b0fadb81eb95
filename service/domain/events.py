"""What can happen to a pairing. Each event is one line of the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from uuid import UUID

from service.domain.appliance import ApiError, Json
from service.domain.ids import ApplianceName, OperationId, TaskId


@dataclass(frozen=True, slots=True)
class PairingAccepted:
    """A caller was promised an end to this pairing."""

    appliances: tuple[ApplianceName, ApplianceName]
    operation: str
    description: str
    timeout_s: int
    priority: int


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
class VerificationStarted:
    """Both appliances hold a record; now to see whether the records work."""


@dataclass(frozen=True, slots=True)
class PairingSucceeded:
    """Both directions were seen to work."""


@dataclass(frozen=True, slots=True)
class PairingFailed:
    """The pairing is over and the two appliances are not known to be paired."""

    error: ApiError


@dataclass(frozen=True, slots=True)
class PeerFound:
    """The appliance lists its peer, with the expected thumbprint, and not by this job's doing."""

    side: ApplianceName
    result: Json


@dataclass(frozen=True, slots=True)
class PairRequested:
    """The intent to call `POST /sites`, on record before the call."""

    side: ApplianceName
    attempt: int


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The call was sent and no readable answer came: what it did has to be found out."""

    side: ApplianceName
    error: ApiError


@dataclass(frozen=True, slots=True)
class RequestDeferred:
    """There was no effect, as far as the appliance shows; the next try follows after a pause."""

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
class SideFailed:
    """This side will not be paired."""

    side: ApplianceName
    error: ApiError


@dataclass(frozen=True, slots=True)
class PeerVerified:
    """The record on this side works in both directions."""

    side: ApplianceName
    result: Json


PairingEvent = (
    PairingStarted | PairingHandedBack | VerificationStarted | PairingSucceeded | PairingFailed
)
SideEvent = (
    PeerFound
    | PairRequested
    | AnswerLost
    | RequestDeferred
    | TaskAccepted
    | SidePaired
    | SideFailed
    | PeerVerified
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
    return {
        _camel(field.name): _plain(getattr(event, field.name))
        for field in fields(event)
        if field.name not in {"side", "name"}
    }


_NOT_IN_THE_TRAIL = frozenset({"peertunnelcert", "stacktrace"})
"""What is long, or not for everybody's eyes, stays with the side, where it is kept once. Left out
here rather than when shown: who reads an event must be able to compute its hash."""


def _plain(value: object) -> object:
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
