"""A pairing and its two sides, as values."""

from dataclasses import dataclass, replace
from enum import StrEnum

from service.domain.appliance import ApiError, Endpoint, Json
from service.domain.ids import ApplianceName, OperationId, PairingId, TaskId


class Operation(StrEnum):
    """What a pairing does."""

    PAIR = "pair"


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


class SideState(StrEnum):
    """Where one half of a pairing stands."""

    PENDING = "PENDING"
    REQUESTED = "REQUESTED"
    ACCEPTED = "ACCEPTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ALREADY_PAIRED = "ALREADY_PAIRED"


OVER = frozenset({PairingState.SUCCEEDED, PairingState.FAILED, PairingState.CANCELED})
STANDING = frozenset({SideState.SUCCEEDED, SideState.ALREADY_PAIRED})
"""States of a side whose appliance holds the record of its peer."""


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """The last event of a chain: its number and hash. The next event is built on it."""

    seq: int = 0
    hash: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class Side:
    """One half of a pairing: what happens on `appliance` about `peer`."""

    appliance: ApplianceName
    peer: ApplianceName
    state: SideState = SideState.PENDING
    task_id: TaskId | None = None
    start_time: int | None = None
    end_time: int | None = None
    result: Json | None = None
    error: ApiError | None = None
    attempts: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens on this side before verification."""
        return self.state in STANDING or self.state is SideState.FAILED

    @property
    def peer_id(self) -> str | None:
        """The id under which the appliance lists its peer, once it told."""
        known = self.result.get("id") if self.result is not None else None
        return known if isinstance(known, str) else None

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
}


@dataclass(frozen=True, slots=True)
class Pairing:
    """One job over two appliances. `epoch` says under which claim it may be written."""

    id: PairingId
    operation: Operation
    sides: tuple[Side, Side]
    operation_id: OperationId
    user: str
    start_time: int
    last_updated: int
    timeout_s: int
    state: PairingState = PairingState.QUEUED
    phase: Phase | None = None
    description: str = ""
    priority: int = 0
    end_time: int | None = None
    error: ApiError | None = None
    epoch: int = 0
    position: ChainPosition = ChainPosition()

    @property
    def is_over(self) -> bool:
        """Whether this is the end of it."""
        return self.state in OVER

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
        return next((side for side in self.sides if side.state is SideState.FAILED), None)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A pairing handed to a worker: the endpoints as registered at that moment, in the order of
    its sides, and how long it still has."""

    pairing: Pairing
    endpoints: tuple[Endpoint, Endpoint]
    remaining_s: float
