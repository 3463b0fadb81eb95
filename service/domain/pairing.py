"""A pairing and its two sides, as values."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from service.domain.appliance import ApiError, Endpoint, SentJson, id_sent
from service.domain.author import Author
from service.domain.ids import ApplianceName, BatchId, OperationId, PairingId, TaskId
from service.domain.thumbprint import Thumbprint


class Operation(StrEnum):
    """What a pairing does."""

    PAIR = "pair"
    REPAIR = "repair"
    UNPAIR = "unpair"


class OnFailure(StrEnum):
    """What becomes of what a pairing did, if it comes to no good end."""

    ROLLBACK = "rollback"
    KEEP = "keep"


class SiteCall(StrEnum):
    """The calls that change an appliance's peers (h4-api 2.1): POST, PUT and DELETE."""

    PAIR = "pair"
    REPAIR = "repair"
    UNPAIR = "unpair"


class PairingState(StrEnum):
    """Where a pairing stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


class Phase(StrEnum):
    """What a running pairing is busy with."""

    PAIRING = "PAIRING"
    VERIFYING = "VERIFYING"
    ROLLING_BACK = "ROLLING_BACK"


class SideState(StrEnum):
    """Where one half of a pairing stands."""

    PENDING = "PENDING"
    REQUESTED = "REQUESTED"
    ACCEPTED = "ACCEPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ALREADY_PAIRED = "ALREADY_PAIRED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"


OVER = frozenset({PairingState.SUCCEEDED, PairingState.FAILED, PairingState.CANCELED})
STANDING = frozenset({SideState.SUCCEEDED, SideState.ALREADY_PAIRED})
"""States of a side that has reached what its operation wants."""

UNDER_WAY = frozenset({SideState.REQUESTED, SideState.ACCEPTED})
"""States of a side whose appliance may be acting at this moment."""

SIDE_OVER = frozenset(SideState) - UNDER_WAY - {SideState.PENDING}

ROLLBACK_S = 300
"""How long undoing what was done may take, by default; each time that it is taken up."""

_INVERSE: Mapping[SiteCall | None, SiteCall] = {
    SiteCall.PAIR: SiteCall.UNPAIR,
    SiteCall.UNPAIR: SiteCall.PAIR,
}
"""What undoes a call. A record that was repaired was there before, and stays."""


class ChainPosition(Struct, frozen=True):
    """The last event of a chain: its number and hash. The next event is built on it."""

    seq: int = 0
    hash: bytes = bytes(32)


class Side(Struct, frozen=True):
    """One half of a pairing: what happens on `appliance` about `peer`.

    `call` is the last call of this pairing that may have taken effect there; None as long as
    none may have. `losses` counts the calls of which it was never learnt what they did.
    `asked_thumbprint` and `asked_url` (normalized) are what the appliance was last told about its
    peer: by then others may be registered, and a record that has them is of this job's making all
    the same. `called_url` (normalized) is where it was called itself: its name may mean another
    machine by then.
    `is_verified` is not stored: what was seen counts only for who saw it.
    """

    appliance: ApplianceName
    peer: ApplianceName
    state: SideState = SideState.PENDING
    task_id: TaskId | None = None
    start_time: int | None = None
    end_time: int | None = None
    result: SentJson | None = None
    error: ApiError | None = None
    attempts: int = 0
    call: SiteCall | None = None
    losses: int = 0
    asked_thumbprint: Thumbprint | None = None
    asked_url: str | None = None
    called_url: str | None = None
    is_verified: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens on this side, unless it has to be undone."""
        return self.state in SIDE_OVER

    @property
    def is_between_tries(self) -> bool:
        """Whether a call is to be made again that may have taken effect, or may do so late."""
        return self.state is SideState.PENDING and self.call is not None

    @property
    def undo(self) -> SiteCall | None:
        """The call that would undo what this pairing may have done here; None if there is none."""
        return _INVERSE.get(self.call)

    @property
    def peer_id(self) -> str | None:
        """The id under which the appliance lists its peer, once it told."""
        return id_sent(self.result) if self.result is not None else None

    @property
    def progress(self) -> int:
        """Percent of this side's way."""
        return _SIDE_PROGRESS[self.state]


_SIDE_PROGRESS = {
    SideState.PENDING: 0,
    SideState.REQUESTED: 20,
    SideState.ACCEPTED: 40,
    SideState.SUCCEEDED: 100,
    SideState.FAILED: 100,
    SideState.ALREADY_PAIRED: 100,
    SideState.ROLLED_BACK: 100,
    SideState.ROLLBACK_FAILED: 100,
}


class Pairing(Struct, frozen=True):
    """One job over two appliances. `epoch` says under which claim it may be written.

    `deadline` (ms) is when the present attempt, or its rollback, has to be over. While it is
    being canceled `is_canceling`; `error` is then, and in a rollback, why it will not succeed.
    `is_unwanted` tells a reader that somebody asked for that, maybe before its worker knows.
    `batch` is what it was asked for with, if it was not by itself.
    """

    id: PairingId
    operation: Operation
    sides: tuple[Side, Side]
    operation_id: OperationId
    user: str
    start_time: int
    last_updated: int
    timeout_s: int
    deadline: int
    on_failure: OnFailure = OnFailure.ROLLBACK
    state: PairingState = PairingState.QUEUED
    phase: Phase | None = None
    description: str = ""
    priority: int = 0
    end_time: int | None = None
    error: ApiError | None = None
    warnings: tuple[ApiError, ...] = ()
    is_canceling: bool = False
    is_unwanted: bool = False
    epoch: int = 0
    position: ChainPosition = ChainPosition()
    batch: BatchId | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether nothing came of it since it was accepted: no appliance was called for it."""
        return self.position.seq <= 1

    @property
    def is_over(self) -> bool:
        """Whether this is the end of it."""
        return self.state in OVER

    @property
    def is_being_canceled(self) -> bool:
        """Whether it is on its way to its end because somebody wants it to be."""
        return (self.is_canceling or self.is_unwanted) and not self.is_over

    @property
    def progress(self) -> int:
        """Percent done: the sides are nine tenths of the way, verification is the last."""
        if self.is_over:
            return 100
        return sum(side.progress for side in self.sides) * 45 // 100

    def side(self, appliance: ApplianceName) -> Side:
        """The side that runs on `appliance`."""
        one, other = self.sides
        return one if one.appliance == appliance else other

    def at_position(self, position: ChainPosition) -> "Pairing":
        """The same pairing, its chain one event longer."""
        return replace(self, position=position)

    @property
    def failed_side(self) -> Side | None:
        """The first side that failed, if any did."""
        one, other = self.sides
        if one.state is SideState.FAILED:
            return one
        return other if other.state is SideState.FAILED else None

    @property
    def is_to_be_undone(self) -> bool:
        """Whether something that this pairing did, or may have done, has to be undone if it does
        not succeed."""
        is_done = any(side.undo is not None for side in self.sides)
        return is_done and self.on_failure is OnFailure.ROLLBACK

    @property
    def left_behind(self) -> tuple[Side, ...]:
        """The sides whose rollback could not be completed."""
        return tuple([side for side in self.sides if side.state is SideState.ROLLBACK_FAILED])


class Assignment(Struct, frozen=True):
    """A pairing handed to a worker: the endpoints as registered at that moment, in the order of
    its sides, how long it still has by the database's clock, and who wants it canceled, if
    anybody does."""

    pairing: Pairing
    endpoints: tuple[Endpoint, Endpoint]
    remaining_s: float
    cancel: Author | None = None


class Claimed(Struct, frozen=True):
    """What a claim brought. `has_more`: another one would find more at once."""

    assignments: Sequence[Assignment]
    has_more: bool
