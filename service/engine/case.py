"""One pairing in a worker's hands: its current value, and the only way to change it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from msgspec import Struct

from service.domain.advance import Change, advance
from service.domain.appliance import ApiError, Endpoint
from service.domain.author import Author
from service.domain.errors import LeaseLost, StoreUnavailable
from service.domain.events import (
    CallRequested,
    CancelRequested,
    Entry,
    PairingEvent,
    PairingParked,
    RollbackFailed,
    RollbackStarted,
    SideEvent,
)
from service.domain.ids import ApplianceName
from service.domain.pairing import Assignment, Pairing, Side
from service.engine.ports import Journal, Permit
from service.observe.events import Move, PairingEnded, PairingMoved, RollbackIncomplete
from service.observe.logging import emit

FRESH_S = 1.0
"""A list that is older is read again: somebody may have changed something by hand meanwhile."""


@dataclass(frozen=True, slots=True)
class Driver:
    """Who drives a case: the worker's name, its clock (ms), and what it has to ask before it
    changes anything on an appliance."""

    name: str
    clock: Callable[[], int]
    permit: Permit


class Note(Struct, frozen=True):
    """An entry that is not durable yet, and what will be told of it."""

    entry: Entry
    move: Move


class Case:
    """Both sides of a saga share one case, so that their events form one chain.

    `record` changes the value at once and returns when the change is durable. `note` changes it
    only: what was noted becomes durable together with what is recorded next, in its order, or by
    `write_notes`. If either raises LeaseLost or StoreUnavailable, the value is ahead of the store
    and the case must not be used any more.
    """

    # Tens of thousands are in flight, each with two of `SideSaga` and of `Site`.
    __slots__ = (
        "_called_at",
        "_canceled_by",
        "_driver",
        "_hopeless",
        "_journal",
        "_noted_at",
        "_notes",
        "_quiet_since",
        "_written",
        "closed",
        "deadline",
        "endpoints",
        "pairing",
        "permit",
    )

    def __init__(
        self, assignment: Assignment, journal: Journal, driver: Driver, quiet_since: float = inf
    ) -> None:
        """Since `quiet_since` (loop time), or since now if that is earlier, nobody but who drives
        this case has called an appliance for these two."""
        now = asyncio.get_running_loop().time()
        self.pairing: Pairing = assignment.pairing
        self._quiet_since = min(quiet_since, now)
        self.endpoints = assignment.endpoints
        """In the order of its sides."""
        self.deadline: float = now + assignment.remaining_s
        self.closed: dict[ApplianceName, ApiError] = {}
        """Which of its appliances were found closed, and why."""
        self.permit = driver.permit
        self._called_at = (-inf, -inf)
        self._journal = journal
        self._driver = driver
        self._written = self.pairing
        self._notes: tuple[Note, ...] = ()
        self._noted_at = inf
        self._canceled_by = assignment.cancel
        self._hopeless: asyncio.Event | None = None

    def side(self, appliance: ApplianceName) -> Side:
        """The side that runs on `appliance`, as it is now."""
        return self.pairing.side(appliance)

    def peer_of(self, appliance: ApplianceName) -> Endpoint:
        """The endpoint that `appliance` is to be paired with."""
        one, other = self.endpoints
        return other if one.name == appliance else one

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; negative when it is over."""
        return self.deadline - asyncio.get_running_loop().time()

    @property
    def fresh_since(self) -> float:
        """A list that was asked for after this moment (loop time) will do for the first look,
        before any call: what others did for these two is in it, and it is not old."""
        return max(self._quiet_since, asyncio.get_running_loop().time() - FRESH_S)

    @property
    def is_promising(self) -> bool:
        """Whether it may still succeed: no side failed, and nobody wants it canceled."""
        is_wanted = self._canceled_by is None and not self.pairing.is_canceling
        return is_wanted and self.pairing.failed_side is None

    def first_called_at(self, appliance: ApplianceName) -> float:
        """When (loop time) the first call of this try was made there; minus infinity if none was,
        or if another worker made it."""
        here, there = self._called_at
        return here if self.pairing.sides[0].appliance == appliance else there

    def want_canceled(self, by: Author) -> None:
        """Begin no new step any more; whoever pauses before one goes on at once."""
        self._canceled_by = by
        self._wake_the_hopeless()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past the deadline."""
        if seconds > 0:  # Else not even a turn of the loop: most steps follow on one another.
            await asyncio.sleep(min(seconds, self.left_s))

    async def pause_while_promising(self, seconds: float) -> None:
        """Sleep, but not past the deadline, nor longer than the pairing may still succeed."""
        if seconds <= 0 or not self.is_promising:
            return
        # Made when it is needed: few pause here, and it is a tenth of the memory of a case.
        self._hopeless = self._hopeless or asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, self.left_s)):
                await self._hopeless.wait()

    def _wake_the_hopeless(self) -> None:
        if self._hopeless is not None and not self.is_promising:
            self._hopeless.set()

    async def heed_cancel(self) -> None:
        """Take a wish to cancel into the chain. Raises like `record`."""
        by = self._canceled_by
        if by is not None and not self.pairing.is_canceling:
            await self.record(CancelRequested(by.user, by.operation_id))

    async def record(self, *events: PairingEvent | SideEvent, release: bool = False) -> None:
        """Apply `events` in their order and wait until they are durable, together.

        Raises LeaseLost, StoreUnavailable, IllegalTransition.
        """
        intents = [event for event in events if isinstance(event, CallRequested)]
        for intent in intents:
            self._remember(intent)
        self.note(*events)
        await self._write(release=release, is_pressing=bool(intents))

    async def let_go(self) -> None:
        """Write the end of the pairing or, if it is not over, give it up until the appliance in
        `closed` answers again. Raises like `record`."""
        if self.pairing.is_over:
            await self.write_notes()
            return
        name, error = next(iter(self.closed.items()))
        self.note(PairingParked(name, error))
        await self._write(release=True, waits_for=name)

    def note(self, *events: PairingEvent | SideEvent) -> None:
        """Apply `events` in their order. Only for what another worker would find out again by
        looking, never for the intent to make a call, nor for its answer.

        Raises IllegalTransition.
        """
        before = self.pairing
        try:
            notes = tuple([self._enter(event) for event in events])
        except Exception:
            self.pairing = before
            raise
        if not self._notes:
            self._noted_at = asyncio.get_running_loop().time()
        self._notes += notes
        self._wake_the_hopeless()

    def has_notes(self, before: float) -> bool:
        """Whether something that was noted before then (loop time) is still to be written. Never
        once the pairing is over: whoever drives it writes its end, to hear what becomes of that."""
        return self._noted_at <= before and not self.pairing.is_over

    async def write_notes(self) -> None:
        """Make durable what was only noted. Raises like `record`."""
        if self._notes:
            await self._write()

    async def _write(
        self,
        *,
        release: bool = False,
        waits_for: ApplianceName | None = None,
        is_pressing: bool = False,
    ) -> None:
        before, after = self._written, self.pairing
        self._written = after
        notes, self._notes = self._notes, ()
        self._noted_at = inf
        entries = tuple([note.entry for note in notes])
        try:
            await self._journal.append(
                Change(after, entries, release, waits_for), is_pressing=is_pressing
            )
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception:
            # A defect, and nothing of it is stored: what is recorded next builds on what was.
            self.pairing = self._written = before
            self._notes = ()
            raise
        _tell(notes)
        if after.is_over:
            emit(ended(after))

    def _remember(self, intent: CallRequested) -> None:
        if self.side(intent.side).start_time is None:  # A try, the first or a later one, begins.
            now, (here, there) = asyncio.get_running_loop().time(), self._called_at
            is_here = self.pairing.sides[0].appliance == intent.side
            self._called_at = (now, there) if is_here else (here, now)

    def _enter(self, event: PairingEvent | SideEvent) -> Note:
        driver = self._driver
        self.pairing, entry = advance(self.pairing, event, at=driver.clock(), actor=driver.name)
        if isinstance(event, RollbackStarted):
            self.deadline = asyncio.get_running_loop().time() + event.timeout_s
        name = entry.appliance
        state = self.pairing.state if name is None else self.side(name).state
        error: ApiError | None = getattr(event, "error", None)
        return Note(entry, Move(entry.type, state, name, error.code if error else None))


def _tell(notes: Sequence[Note]) -> None:
    moves = tuple([note.move for note in notes])
    emit(PairingMoved(moves))
    for move in moves:
        if move.type == RollbackFailed.__name__ and move.side is not None:
            emit(RollbackIncomplete(move.side, str(move.code)))


def ended(pairing: Pairing) -> PairingEnded:
    """What is told of a pairing that is over."""
    return PairingEnded(
        operation=pairing.operation,
        state=pairing.state,
        seconds=round(((pairing.end_time or 0) - pairing.start_time) / 1000, 3),
        code=pairing.error.code if pairing.error is not None else None,
    )
