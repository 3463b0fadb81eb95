"""The database's tables and transactions as plain values: what the SQL does, in its own words.

Nothing here waits. Every method is one transaction, at the database's own time.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from service.domain import chain
from service.domain.appliance import ApiError, Endpoint
from service.domain.author import Author
from service.domain.errors import (
    DeclaredDead,
    NotRetryable,
    PairingActive,
    PairingOver,
    Superseded,
    UnknownAppliance,
)
from service.domain.events import Entry, PairingAccepted
from service.domain.ids import ApplianceName, PairingId, TaskId, WorkerId
from service.domain.pairing import (
    Assignment,
    ChainPosition,
    Claimed,
    Pairing,
    PairingState,
    Phase,
    Side,
    SideState,
    SiteCall,
)
from service.domain.registration import LoginEnd, LoginOutcome, LoginRefusal, Registration
from service.domain.thumbprint import Thumbprint
from service.store.claims import LINES
from service.store.leases import NOBODY
from service.store.rows import line_of
from tests.support.arrays import elements

ACTIVE = frozenset({PairingState.QUEUED, PairingState.RUNNING})
LOGIN_LASTS_S = 45.0
BACK_S = 15.0
"""An appliance that answers for less than that counts as away all along."""


@dataclass(slots=True)
class Row:
    """A row of `pairing` with its sides, and its chain."""

    pairing: Pairing
    worker: WorkerId | None = None
    waits_for: ApplianceName | None = None
    cancel: Author | None = None
    entries: list[Entry] = field(default_factory=list)

    @property
    def is_due(self) -> bool:
        """Whether any worker may claim it."""
        return self.worker is None and self.waits_for is None and self.pairing.state in ACTIVE

    @property
    def wish(self) -> Author | None:
        """A wish to cancel that its chain does not know of yet."""
        is_news = self.cancel is not None and not self.pairing.is_canceling
        return self.cancel if is_news and self.pairing.state in ACTIVE else None


@dataclass(frozen=True, slots=True)
class Written:
    """A change of a pairing's state: what it was, its row by now, why, and under which epoch."""

    before: Pairing
    row: Row
    entries: Sequence[Entry]
    epoch: int


@dataclass(slots=True)
class Life:
    """A row of `worker`."""

    seen_s: float
    lease_s: float
    steady_since_s: float


@dataclass(slots=True)
class Standing:
    """A row of `appliance_health`."""

    closed_since_s: float | None = None
    closed_error: ApiError | None = None
    probe_s: float = 0.0
    away_since_s: float | None = None
    back_since_s: float = float("-inf")
    login_turn: UUID | None = None
    login_until_s: float = 0.0
    refused_version: int = 0
    refusal: LoginRefusal | None = None


class Tables:
    """All tables. `clock` gives the database's time in seconds, `wall` in ms since the epoch."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], int]) -> None:
        self.pairings: dict[PairingId, Row] = {}
        self.workers: dict[WorkerId, Life] = {}
        self.registrations: dict[ApplianceName, Registration] = {}
        self.health: dict[ApplianceName, Standing] = {}
        self.notices: list[str] = []
        """Channels that were told something since the last look."""
        self.watch: Callable[[Written], None] = lambda _: None
        """Sees each change of a pairing's state."""
        self._clock = clock
        self._wall = wall

    # Where pairings come in, and what callers want of them.

    def accept(self, pairing: Pairing, accepted: PairingAccepted) -> None:
        """A new pairing. Raises UnknownAppliance, PairingActive."""
        self._need_appliances(pairing)
        self._refuse_rival(pairing)
        entry = chain.append(
            accepted,
            ChainPosition(),
            chain=pairing.id,
            at=pairing.start_time,
            actor=pairing.user,
            operation_id=pairing.operation_id,
        )
        row = Row(pairing.at_position(ChainPosition(entry.seq, entry.hash)), entries=[entry])
        self.pairings[pairing.id] = row
        self.notices.append("due")

    def cancel(self, pairing_id: PairingId, wish: Author) -> None:
        """Somebody wants it canceled. Raises PairingOver."""
        row = self.pairings[pairing_id]
        if row.pairing.state in {PairingState.SUCCEEDED, PairingState.FAILED}:
            raise PairingOver(pairing_id, row.pairing.state)
        if row.cancel is None and row.pairing.state in ACTIVE:
            row.cancel = wish
            row.waits_for = None
            self.notices += ["due", "cancel"]

    def may_retry(self, pairing_id: PairingId) -> Pairing:
        """What a retry builds on. Raises NotRetryable, UnknownAppliance, Superseded,
        PairingActive."""
        pairing = self.pairings[pairing_id].pairing
        if pairing.state not in {PairingState.FAILED, PairingState.CANCELED}:
            raise NotRetryable(pairing_id, pairing.state)
        self._need_appliances(pairing)
        for later in self._of_couple(pairing) if pairing.left_behind else ():
            is_later = (later.pairing.end_time or 0) >= (pairing.end_time or 0)
            if later.pairing.state is PairingState.SUCCEEDED and is_later:
                raise Superseded(pairing_id, later.pairing.id)
        self._refuse_rival(pairing)
        return pairing

    def _refuse_rival(self, pairing: Pairing) -> None:
        for row in self._of_couple(pairing):
            if row.pairing.state in ACTIVE:
                raise PairingActive(row.pairing.id)

    def _need_appliances(self, pairing: Pairing) -> None:
        unknown = [s.appliance for s in pairing.sides if s.appliance not in self.registrations]
        if unknown:
            raise UnknownAppliance(*unknown)

    def _of_couple(self, pairing: Pairing) -> list[Row]:
        names = {side.appliance for side in pairing.sides}
        return [
            row
            for row in self.pairings.values()
            if {side.appliance for side in row.pairing.sides} == names
        ]

    # Claims.

    def claim(self, worker: WorkerId, limit: int) -> Claimed:
        """Own due pairings; those that wait for a closed appliance are set aside."""
        if worker not in self.workers:
            return Claimed((), has_more=False)
        due, is_more = self._next_due(limit)
        taken: list[Assignment] = []
        for row in due:
            if (closed := self._has_to_wait_for(row)) is not None:
                row.waits_for = closed
                continue
            row.worker = worker
            row.pairing = replace(row.pairing, epoch=row.pairing.epoch + 1)
            taken.append(self._assignment(row))
        return Claimed(taken, has_more=is_more)

    def _next_due(self, limit: int) -> tuple[list[Row], bool]:
        """From each line its share, the oldest first; whether there is more. Not of so many lines
        that they would have to take turns between claims."""
        lines: dict[str, list[Row]] = defaultdict(list)
        for row in self.pairings.values():
            if row.is_due:
                whose = row.pairing.batch or row.pairing.user
                lines[line_of(row.pairing.priority, whose)].append(row)
        served = sorted(lines)[: min(limit, LINES)]
        weights = {line: 2 ** (int(line[:4]) / 10) for line in served}
        found: list[Row] = []
        is_more = len(served) == min(limit, LINES)  # Each of them has one at least.
        for line in served:
            share = 1 + int((limit - len(served)) * weights[line] / sum(weights.values()))
            oldest = sorted(lines[line], key=lambda row: row.pairing.id)[:share]
            is_more |= len(oldest) == share
            found += oldest
        return sorted(found, key=lambda row: row.pairing.id), is_more

    def disown(self, worker: WorkerId, driven: Collection[PairingId]) -> None:
        """Give up all but `driven`."""
        for row in self.pairings.values():
            if row.worker == worker and row.pairing.id not in driven:
                row.worker = None
                self.notices.append("due")

    def wishes(self, worker: WorkerId) -> Mapping[PairingId, Author]:
        """Which of its pairings are to be canceled."""
        return {
            id_: row.wish
            for id_, row in self.pairings.items()
            if row.worker == worker and row.wish is not None
        }

    def _has_to_wait_for(self, row: Row) -> ApplianceName | None:
        pairing, closed = row.pairing, self.closed().keys()
        if row.wish is not None or self._wall() >= pairing.deadline:
            return None
        if pairing.phase is Phase.ROLLING_BACK or pairing.left_behind:
            left = {side.appliance for side in pairing.sides if side.undo is not None}
            return min(left, default=None) if left <= closed else None
        is_doomed = pairing.is_canceling or pairing.failed_side is not None
        if pairing.phase is not None and is_doomed:
            return None
        return min({side.appliance for side in pairing.sides} & closed, default=None)

    def _assignment(self, row: Row) -> Assignment:
        one, other = (self._endpoint(side) for side in row.pairing.sides)
        remaining_s = (row.pairing.deadline - self._wall()) / 1000
        return Assignment(row.pairing, (one, other), remaining_s, row.wish)

    def _endpoint(self, side: Side) -> Endpoint:
        registration = self.registrations.get(side.appliance)
        if registration is None:
            return Endpoint(side.appliance, "", Thumbprint(""), 0, None)
        return registration.endpoint

    # Workers.

    def join(self, worker: WorkerId, lease_s: float) -> None:
        """Begin to live; again, if it is not known whether it did."""
        now = self._clock()
        self.workers[worker] = Life(now, lease_s, now)

    def beat(self, worker: WorkerId) -> int:
        """`beat.sql`. Raises DeclaredDead."""
        life, now = self.workers.get(worker), self._clock()
        if life is None:
            raise DeclaredDead
        witnesses = [each for each in self.workers.values() if _is_fresh(each, now)]
        life.steady_since_s = min((each.steady_since_s for each in witnesses), default=now)
        life.seen_s = now
        others = [each for id_, each in self.workers.items() if id_ not in (worker, NOBODY)]
        return 1 + sum(now - each.seen_s <= each.lease_s for each in others)

    def bury(self, worker: WorkerId) -> float | None:
        """`bury.sql`, `free.sql`, `unpark.sql`."""
        judge, now = self.workers.get(worker), self._clock()
        if judge is not None and _may_judge(judge, now):
            dead = [
                id_
                for id_, life in self.workers.items()
                if id_ != worker and abs(now - life.seen_s) > life.lease_s
            ]
            for id_ in dead:
                del self.workers[id_]
        self._free_orphans()
        self._unpark()
        others = [life for id_, life in self.workers.items() if id_ != worker]
        left_s = [life.seen_s + life.lease_s - now for life in others]
        return min((each for each in left_s if each >= 0), default=None)

    def leave(self, worker: WorkerId) -> None:
        """`leave.sql`, `free.sql`."""
        now = self._clock()
        if fresh := [each for each in self.workers.values() if _is_fresh(each, now)]:
            lease_s = min(each.lease_s for each in fresh)
            steady_since_s = min(each.steady_since_s for each in fresh)
            self.workers[NOBODY] = Life(now, lease_s, steady_since_s)
        self.workers.pop(worker, None)
        self._free_orphans()

    def lease_left_s(self, worker: WorkerId) -> float:
        """How long nobody may bury this worker."""
        life = self.workers.get(worker)
        return -1.0 if life is None else life.seen_s + life.lease_s - self._clock()

    def _free_orphans(self) -> None:
        for row in self.pairings.values():
            if row.worker is not None and row.worker not in self.workers:
                row.worker = None
                row.pairing = replace(row.pairing, epoch=row.pairing.epoch + 1)
                self.notices.append("due")

    def _unpark(self) -> None:
        for row in self.pairings.values():
            if row.waits_for is None:
                continue
            is_open = self.standing(row.waits_for).closed_since_s is None
            is_over = row.pairing.deadline <= self._wall()
            if is_open or is_over or self._is_turned_back(row.pairing, row.waits_for):
                row.waits_for = None
                self.notices.append("due")

    def _is_turned_back(self, pairing: Pairing, waits_for: ApplianceName) -> bool:
        other = next(side for side in pairing.sides if side.appliance != waits_for)
        standing = self.standing(other.appliance)
        is_back = standing.closed_since_s is None and self._clock() - standing.back_since_s < 20.0
        is_refused = other.state is SideState.ROLLBACK_FAILED and pairing.phase is not None
        is_left = other.undo is not None and not is_refused
        return is_back and is_left and _goes_back_to(pairing, other.appliance)

    # Appliances.

    def standing(self, name: ApplianceName) -> Standing:
        """What is known of an appliance's health."""
        return self.health.setdefault(name, Standing())

    def report(self, opened: Mapping[ApplianceName, ApiError]) -> None:
        """These do not answer; names that are not registered say nothing."""
        now = self._clock()
        for name, error in opened.items():
            if name not in self.registrations:
                continue
            standing = self.standing(name)
            since = standing.closed_since_s
            if since is None and now - standing.back_since_s < BACK_S:
                since = standing.away_since_s
            since = now if since is None else since
            standing.probe_s = now + 1.0 + min(14.0, (now - since) / 4)
            standing.closed_since_s = since
            standing.closed_error = error

    def closed(self) -> Mapping[ApplianceName, ApiError]:
        """Those that are not to be called."""
        return {name: each.closed_error for name, each in self.health.items() if each.closed_error}

    def take_probes(self) -> Sequence[ApplianceName]:
        """Those that it is time to try again."""
        now = self._clock()
        ripe = [n for n, each in self.health.items() if each.closed_error and each.probe_s <= now]
        for name in ripe:
            self.health[name].probe_s = now + 20.0
        return ripe

    def reopen(self, name: ApplianceName, *, is_answering: bool = True) -> None:
        """It answers again, or is registered anew."""
        standing = self.standing(name)
        if standing.closed_since_s is not None:
            standing.away_since_s, standing.back_since_s = standing.closed_since_s, self._clock()
        if not is_answering:
            standing.away_since_s = None
        standing.closed_since_s = standing.closed_error = None
        for row in self.pairings.values():
            if row.waits_for is None:
                continue
            is_closed = self.standing(row.waits_for).closed_since_s is not None
            if row.waits_for == name or (is_closed and _goes_back_to(row.pairing, name)):
                row.waits_for = None
                self.notices.append("due")

    def register(self, registration: Registration) -> None:
        """A registration, or a new version of it, which reopens the appliance."""
        name = registration.spec.name
        self.registrations[name] = registration
        self.reopen(name, is_answering=False)

    def remove(self, name: ApplianceName) -> None:
        """A registration, and what is known of the appliance, is gone."""
        self.registrations.pop(name, None)
        self.health.pop(name, None)

    def registration(self, name: ApplianceName) -> Registration:
        """How an appliance is registered. Raises UnknownAppliance."""
        if name not in self.registrations:
            raise UnknownAppliance(name)
        return self.registrations[name]

    # Logins.

    def take_login(self, turn: UUID, registration: Registration) -> LoginRefusal | bool:
        """`take_logins.sql`: a refusal; or whether the turn was taken, which here always lasts for
        its time. Raises UnknownAppliance."""
        if not self._is_known(registration):
            raise UnknownAppliance(registration.spec.name)
        standing, now = self.standing(registration.spec.name), self._clock()
        if standing.refused_version >= registration.credentials_version and standing.refusal:
            return standing.refusal
        if standing.login_turn is not None and now <= standing.login_until_s:
            return False
        standing.login_turn, standing.login_until_s = turn, now + LOGIN_LASTS_S
        return True

    def end_login(
        self, turn: UUID | None, registration: Registration, outcome: LoginOutcome
    ) -> None:
        """`end_logins.sql`."""
        if not self._is_known(registration):
            return
        standing = self.standing(registration.spec.name)
        if standing.login_turn == turn:
            standing.login_turn = None
        if registration.credentials_version < standing.refused_version:
            return
        if isinstance(outcome, LoginRefusal):
            standing.refusal, standing.refused_version = outcome, registration.credentials_version
        elif outcome is LoginEnd.ACCEPTED:
            standing.refusal, standing.refused_version = None, 0

    def _is_known(self, registration: Registration) -> bool:
        known = self.registrations.get(registration.spec.name)
        return known is not None and known.id == registration.id

    # The journal's statements, by their parameters.

    def journal(self, given: Mapping[str, Any]) -> Sequence[Any]:
        """`journal.sql`: what is granted."""
        granted: list[Any] = []
        given = {
            name: elements(value) if isinstance(value, str) else value
            for name, value in given.items()
        }
        for at, (spelt_id, epoch) in enumerate(zip(given["ids"], given["epochs"], strict=True)):
            id_ = PairingId(UUID(spelt_id))
            row = self.pairings.get(id_)
            if row is None or row.pairing.epoch != epoch:
                continue
            if row.pairing.position.seq != given["followed"][at]:
                continue
            is_end = given["end_times"][at] is not None and not given["cancelings"][at]
            if is_end and row.cancel is not None:
                continue
            self._write(row, given, at)
            granted.append(SimpleNamespace(id=id_, epoch=epoch))
        return granted

    def journal_standing(self, given: Mapping[str, Any]) -> Sequence[Any]:
        """`journal_standing.sql`."""
        asked = zip(*(given[name] for name in ("ids", "epochs", "seqs", "heads")), strict=True)
        return [
            SimpleNamespace(
                id=id_,
                asked_epoch=epoch,
                epoch=self.pairings[id_].pairing.epoch,
                seq=self.pairings[id_].pairing.position.seq,
                is_unwanted=self.pairings[id_].wish is not None,
                is_recorded=any(
                    entry.seq == seq and entry.hash == head for entry in self.pairings[id_].entries
                ),
            )
            for id_, epoch, seq, head in asked
            if id_ in self.pairings
        ]

    def _write(self, row: Row, given: Mapping[str, Any], at: int) -> None:
        before = row.pairing
        if before.is_over and given["end_times"][at] is None:
            self._refuse_rival(before)
        row.pairing = replace(
            before,
            state=PairingState(given["states"][at]),
            phase=Phase(given["phases"][at]) if given["phases"][at] else None,
            last_updated=given["last_updated"][at],
            end_time=given["end_times"][at],
            error=_error(given["errors"][at]),
            position=ChainPosition(given["seqs"][at], given["heads"][at]),
            deadline=given["deadlines"][at],
            warnings=tuple([_error_of(each) for each in json.loads(given["warnings"][at])]),
            is_canceling=given["cancelings"][at],
            sides=_sides(before, given, at + 1),
        )
        entries = _entries(before, given, at + 1)
        row.entries.extend(entries)
        self.watch(Written(before, row, entries, given["epochs"][at]))
        if given["given_up"][at]:
            row.waits_for = given["waits_for"][at] if row.wish is None else None
            row.worker = None
        if row.pairing.state is PairingState.QUEUED:
            row.cancel = None
        if row.is_due:
            self.notices.append("due")


def _goes_back_to(pairing: Pairing, name: ApplianceName) -> bool:
    phase = pairing.phase or (Phase.ROLLING_BACK if pairing.error is not None else None)
    return phase is Phase.ROLLING_BACK and name in {side.appliance for side in pairing.sides}


def _may_judge(life: Life, now: float) -> bool:
    return _is_fresh(life, now) and now - life.steady_since_s > life.lease_s


def _is_fresh(life: Life, now: float) -> bool:
    return 0 <= now - life.seen_s <= life.lease_s / 2


def _sides(pairing: Pairing, given: Mapping[str, Any], place: int) -> tuple[Side, Side]:
    sides = list(pairing.sides)
    for at in _of_place(given["side_places"], place):
        ordinal, task = given["side_ordinals"][at], given["side_tasks"][at]
        result, call = given["side_results"][at], given["side_calls"][at]
        sides[ordinal] = replace(
            sides[ordinal],
            state=SideState(given["side_states"][at]),
            task_id=TaskId(task) if task is not None else None,
            attempts=given["side_attempts"][at],
            start_time=given["side_starts"][at],
            end_time=given["side_ends"][at],
            result=result.encode() if result is not None else None,
            error=_error(given["side_errors"][at]),
            call=SiteCall(call) if call is not None else None,
            losses=given["side_losses"][at],
            asked_thumbprint=given["side_thumbprints"][at],
            asked_url=given["side_urls"][at],
            called_url=given["side_called"][at],
        )
    return sides[0], sides[1]


def _entries(pairing: Pairing, given: Mapping[str, Any], place: int) -> list[Entry]:
    return [
        Entry(
            chain=pairing.id,
            seq=given["entry_seqs"][at],
            at=given["ats"][at],
            type=given["types"][at],
            appliance=given["appliances"][at],
            actor=given["actors"][at],
            operation_id=given["operation_ids"][at],
            detail=given["details"][at],
            hash=given["hashes"][at],
        )
        for at in _of_place(given["entry_places"], place)
    ]


def _of_place(places: Sequence[int], place: int) -> list[int]:
    return [at for at, each in enumerate(places) if each == place]


def _error(stored: str | None) -> ApiError | None:
    return None if stored is None else _error_of(json.loads(stored))


def _error_of(stored: Mapping[str, Any]) -> ApiError:
    return ApiError(stored["code"], stored["msg"], tuple(stored["args"]), stored.get("stacktrace"))
