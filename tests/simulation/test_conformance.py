"""The database of the simulation is held to the real one: the same operations, the same answers."""

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from service.domain import events as e
from service.domain.advance import Change, advance
from service.domain.appliance import ApiError
from service.domain.author import Author
from service.domain.errors import IllegalTransition, SitepairError
from service.domain.events import Entry, PairingAccepted
from service.domain.ids import ApplianceName, OperationId, PairingId, TaskId, WorkerId
from service.domain.pairing import Assignment, OnFailure, Operation, Pairing, Side
from service.domain.registration import LoginEnd, LoginOutcome, LoginRefusal
from service.store.cancels import Cancels
from service.store.claims import Claims
from service.store.database import Database
from service.store.health import Health
from service.store.intake import Intake, PairingRequest
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.pairings import Pairings
from service.store.retries import Retries
from service.store.statements import statement
from tests.integration.store.values import as_stored, gates_on, real_now, registry, running, spec
from tests.simulation.callers import reopened
from tests.simulation.tables import Tables

NAMES = tuple(ApplianceName(each) for each in "abcd")
CALLER = Author("caller", OperationId("op"))
LEASE_S = 1_000.0
LONG_AGO_S = 5_000.0
ERROR = ApiError("Broken", "It broke.", ("x",))

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # Generic in the stubs only.


class ModelLane:
    """The journal's statements, carried out on the model."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def run(self, asked: object, given: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Implements `store.journal.Statements.run`."""
        is_journal = asked is statement("journal")
        return (self._tables.journal if is_journal else self._tables.journal_standing)(given or {})

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Twins:
    """The real store and its model, and what a random walk over both knows."""

    database: Database
    sql: "Connection"
    tables: Tables
    rng: random.Random
    workers: list[WorkerId] = field(default_factory=list)
    held: dict[PairingId, Pairing] = field(default_factory=dict)
    """As claimed last, or as written since."""
    stale: list[Pairing] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    async def walk(self, steps: int) -> None:
        """So many operations, each on both; after every few, both are in the same state."""
        journal, model = Journal(self.database.lane()), Journal(ModelLane(self.tables))
        intake = Intake(self.database, real_now)
        async with running(journal), running(model), running(intake):
            walk = _Walk(self, journal, model, intake)
            for step in range(1, steps + 1):
                operation = self.rng.choice(walk.operations)
                self.done.append(operation.__name__)
                await operation()
                if step % 20 == 0:
                    await self.compare()

    async def same(self, real: Callable[[], Awaitable[Any]], model: Callable[[], Any]) -> Any:
        """What both answer, which is the same; None if both refuse alike."""
        answers: list[Any] = []
        for ask in (real, model):
            try:
                answer = ask()
                answers.append(await answer if isinstance(answer, Awaitable) else answer)
            except SitepairError as refusal:
                answers.append(type(refusal))
        answers = [as_stored(each) if isinstance(each, Pairing) else each for each in answers]
        assert answers[0] == answers[1], self.done
        return None if isinstance(answers[0], type) else answers[0]

    async def compare(self) -> None:
        """Every row of both."""
        rows = await self.sql.fetch("select * from pairing")
        assert len(rows) == len(self.tables.pairings), self.done
        for row in rows:
            ours = self.tables.pairings[row["id"]]
            wish = ours.cancel and (ours.cancel.user, ours.cancel.operation_id)
            theirs = (row["worker"], row["waits_for"])
            assert (ours.worker, ours.waits_for) == theirs, self.done
            assert (wish or (None, None)) == (row["cancel_user"], row["cancel_operation_id"])
            stored = await Pairings(self.database).get(row["id"])
            assert as_stored(ours.pairing) == as_stored(stored), self.done
            assert ours.entries == await Pairings(self.database).events(row["id"]), self.done
        workers = {row["id"] for row in await self.sql.fetch("select id from worker")}
        assert workers == self.tables.workers.keys(), self.done


class _Walk:
    """The operations."""

    def __init__(self, twins: Twins, journal: Journal, model: Journal, intake: Intake) -> None:
        self._twins = twins
        self._tables = twins.tables
        self._rng = twins.rng
        self._database = twins.database
        self._journal = journal
        self._model = model
        self._intake = intake
        self._health = Health(twins.database)
        seldom = [
            self.join,
            self.leave,
            self.age,
            self.bury,
            self.disown,
            self.hurry,
            self.register,
        ]
        about = [self.report, self.probe, self.reopen, self.log_in]
        often = [self.accept, self.claim, self.claim, *[self.write] * 8]
        self.operations = [*seldom, *about, *often, self.beat, self.cancel, self.wishes, self.retry]

    async def accept(self) -> None:
        """A pairing comes in."""
        one, other = self._rng.sample(NAMES, 2)
        operation = self._rng.choice(list(Operation))
        on_failure = self._rng.choice(list(OnFailure))
        priority = self._rng.randrange(3)
        request = PairingRequest((one, other), operation, "", 600, priority, on_failure=on_failure)
        accepted: list[Pairing] = []

        async def really() -> None:
            accepted.append((await self._intake.accept(request, CALLER)).pairing)

        def as_model() -> None:
            pairing = accepted[0] if accepted else _like(one, other)
            event = PairingAccepted((one, other), operation, "", 600, priority, on_failure)
            self._tables.accept(pairing, event)

        await self._twins.same(really, as_model)

    async def join(self) -> None:
        """A worker begins to live."""
        worker = WorkerId(UUID(int=self._rng.getrandbits(128)))
        self._twins.workers.append(worker)
        heartbeat = Heartbeat(self._database, worker)
        await self._twins.same(
            lambda: heartbeat.join(LEASE_S), lambda: self._tables.join(worker, LEASE_S)
        )

    async def beat(self) -> None:
        """A worker still lives, or was buried."""
        if (worker := self._worker()) is not None:
            heartbeat = Heartbeat(self._database, worker)
            await self._twins.same(heartbeat.beat, lambda: self._tables.beat(worker))

    async def bury(self) -> None:
        """A worker buries the others, if it may."""
        if (worker := self._worker()) is not None:
            heartbeat = Heartbeat(self._database, worker)

            async def bury() -> object:
                next_s = await heartbeat.bury()
                return None if next_s is None else pytest.approx(next_s, abs=LEASE_S / 10)

            await self._twins.same(bury, lambda: self._tables.bury(worker))

    async def leave(self) -> None:
        """A worker lives no more."""
        if (worker := self._worker()) is not None:
            heartbeat = Heartbeat(self._database, worker)
            await self._twins.same(heartbeat.leave, lambda: self._tables.leave(worker))

    async def age(self) -> None:
        """It is long ago that some worker beat, or that another one began to beat steadily."""
        if (worker := self._worker()) is None:
            return
        column = self._rng.choice(("seen", "steady_since"))
        await self._twins.sql.execute(
            f"update worker set {column} = {column} - make_interval(secs => $2) where id = $1",  # noqa: S608
            worker,
            LONG_AGO_S,
        )
        if (life := self._tables.workers.get(worker)) is not None:
            if column == "seen":
                life.seen_s -= LONG_AGO_S
            else:
                life.steady_since_s -= LONG_AGO_S

    async def hurry(self) -> None:
        """The time of some pairing is over."""
        if not self._tables.pairings:
            return
        id_ = self._rng.choice(list(self._tables.pairings))
        row = self._tables.pairings[id_]
        row.pairing = replace(row.pairing, deadline=row.pairing.start_time + 1)
        await self._twins.sql.execute(
            "update pairing set deadline = start_time + 1 where id = $1", id_
        )
        if id_ in self._twins.held:
            held = self._twins.held[id_]
            self._twins.held[id_] = replace(held, deadline=row.pairing.deadline)

    async def claim(self) -> None:
        """A worker claims."""
        if (worker := self._worker()) is None:
            return
        limit = self._rng.choice((1, 2, 100))
        claims = Claims(self._database, worker)
        real = await claims.claim(limit)
        model = self._tables.claim(worker, limit)
        assert real.has_more == model.has_more, self._twins.done
        pairs = zip(real.assignments, model.assignments, strict=True)
        for theirs, ours in pairs:
            assert abs(theirs.remaining_s - ours.remaining_s) < 5, self._twins.done
            assert _as_claimed(theirs, 0.0) == _as_claimed(ours, 0.0), self._twins.done
            before = self._twins.held.get(ours.pairing.id)
            self._twins.stale += [before] if before is not None else []
            self._twins.held[ours.pairing.id] = ours.pairing

    async def disown(self) -> None:
        """A worker gives up all but some of what it holds."""
        if (worker := self._worker()) is None:
            return
        driven = {id_ for id_ in self._twins.held if self._rng.random() < 0.5}
        claims = Claims(self._database, worker)
        await self._twins.same(
            lambda: claims.disown(driven), lambda: self._tables.disown(worker, driven)
        )

    async def wishes(self) -> None:
        """A worker asks what is to be canceled."""
        if (worker := self._worker()) is not None:
            claims = Claims(self._database, worker)
            await self._twins.same(claims.wishes, lambda: self._tables.wishes(worker))

    async def write(self) -> None:
        """A change by whoever holds a pairing, held it once, or skips what was before."""
        if not self._twins.held:
            return
        held = self._rng.choice(list(self._twins.held.values()))
        if self._twins.stale and self._rng.random() < 0.15:
            held = self._rng.choice(self._twins.stale)
        after, entries = self._moved(held)
        if entries and self._rng.random() < 0.1:
            after, more = self._moved(after)
            entries = more[-1:]
        if not entries:
            return
        release = self._rng.random() < 0.1
        may_wait = release and not after.is_over
        waits_for = self._rng.choice((None, held.sides[0].appliance)) if may_wait else None
        change = Change(after, tuple(entries), release, waits_for)
        answer = await self._twins.same(
            lambda: _told(self._journal.append(change)), lambda: _told(self._model.append(change))
        )
        if answer is not None:
            self._twins.held[after.id] = after

    def _moved(self, pairing: Pairing) -> tuple[Pairing, list[Entry]]:
        """`pairing` after a few events that fit."""
        entries: list[Entry] = []
        candidates = _candidates(pairing)
        self._rng.shuffle(candidates)
        for event in candidates:
            with suppress(IllegalTransition):
                pairing, entry = advance(pairing, event, at=real_now(), actor="worker")
                entries.append(entry)
            if len(entries) == 4:
                break
        return pairing, entries

    async def cancel(self) -> None:
        """A caller wants one canceled."""
        if not self._tables.pairings:
            return
        id_ = self._rng.choice(list(self._tables.pairings))
        cancels = Cancels(self._database)

        def as_model() -> bool:
            self._tables.cancel(id_, Author(CALLER.user, CALLER.operation_id))
            return True

        await self._twins.same(
            lambda: _told(cancels.request(id_, CALLER)),
            as_model,
        )

    async def retry(self) -> None:
        """A caller wants one tried again."""
        if not self._tables.pairings:
            return
        id_ = self._rng.choice(list(self._tables.pairings))
        now = real_now()
        retries = Retries(self._database, self._journal, lambda: now)

        async def as_model() -> bool:
            change = reopened(self._tables.may_retry(id_), CALLER, now)
            await self._model.append(change)
            return True

        await self._twins.same(lambda: _told(retries.retry(id_, CALLER)), as_model)

    async def register(self) -> None:
        """An appliance is registered anew, as it was or otherwise."""
        name = self._rng.choice(NAMES)
        wanted = spec(name, description=self._rng.choice(("", "another")))
        registration, _ = await registry(self._database).put(wanted, CALLER)
        if registration != self._tables.registrations.get(name):
            self._tables.register(registration)

    async def report(self) -> None:
        """An appliance does not answer."""
        opened = {self._rng.choice(NAMES): ERROR}
        await self._twins.same(
            lambda: self._health.report(opened), lambda: self._tables.report(opened)
        )
        await self._twins.same(self._health.closed, self._tables.closed)

    async def probe(self) -> None:
        """Whoever's turn it is tries closed appliances again."""
        if self._rng.random() < 0.7:
            ripe = "update appliance_health set probe_time = probe_time - interval '1 hour'"
            await self._twins.sql.execute(ripe)
            for standing in self._tables.health.values():
                standing.probe_s -= 3_600
        await self._twins.same(
            lambda: _sorted(self._health.take_probes()),
            lambda: sorted(self._tables.take_probes()),
        )

    async def reopen(self) -> None:
        """An appliance answers again."""
        name = self._rng.choice(NAMES)
        await self._twins.same(lambda: self._health.reopen(name), lambda: self._tables.reopen(name))
        await self._twins.same(self._health.closed, self._tables.closed)

    async def log_in(self) -> None:
        """Somebody logs in, with whatever success, and tells it in time or never."""
        registration = self._tables.registrations[self._rng.choice(NAMES)]
        turn = UUID(int=self._rng.getrandbits(128))
        ours = self._tables.take_login(turn, registration)
        if ours is False:
            return  # The real one would wait.
        async with gates_on(self._database) as gates:
            gate = gates.of(registration)
            theirs = await gate.admit()
            assert (theirs if theirs is not None else True) == ours, self._twins.done
            outcomes: list[LoginOutcome | None]
            outcomes = [LoginEnd.ACCEPTED, LoginEnd.UNKNOWN, LoginRefusal(ERROR, 401), None]
            outcome = self._rng.choice(outcomes)
            if theirs is None and outcome is not None:
                await gate.tell(outcome)
                self._tables.end_login(turn, registration, outcome)

    def _worker(self) -> WorkerId | None:
        workers = self._twins.workers
        return self._rng.choice(workers) if workers else None


def _candidates(pairing: Pairing) -> list[Any]:
    """Events of which some fit any state that is not over."""
    one, other = (side.appliance for side in pairing.sides)
    about_both = [
        make(name)
        for name in (one, other)
        for make in (
            lambda name: e.PeerFound(name, b'{"id": "1"}'),
            e.PeerGone,
            lambda name: e.PairRequested(name, 1, None),
            lambda name: e.RepairRequested(name, 1, None),
            lambda name: e.UnpairRequested(name, 1),
            lambda name: e.AnswerLost(name, ERROR),
            lambda name: e.RequestDeferred(name, ERROR, 100),
            lambda name: e.CallLost(name, ERROR, 100),
            lambda name: e.TaskAccepted(name, TaskId("t-1")),
            lambda name: e.SidePaired(name, b'{"id": "1"}'),
            e.SideUnpaired,
            lambda name: e.SideFailed(name, ERROR),
            lambda name: e.PeerVerified(name, b'{"id": "1"}'),
            e.AbsenceVerified,
            lambda name: e.RollbackRequested(name, "unpair", 1),
            e.SideRolledBack,
            lambda name: e.RollbackFailed(name, ERROR),
        )
    ]
    about_all = [
        e.PairingStarted("worker", pairing.epoch),
        e.CancelRequested("caller", OperationId("op-2")),
        e.VerificationStarted(),
        e.RollbackStarted(ERROR, 60),
        e.PairingSucceeded(),
        e.PairingFailed(ERROR),
        e.PairingCanceled(),
        e.PairingHandedBack("worker"),
    ]
    return [*about_both, *about_all, *about_all]


def _like(one: ApplianceName, other: ApplianceName) -> Pairing:
    """A pairing of the two that is not accepted anyway."""
    return Pairing(
        id=PairingId(UUID(int=1)),
        operation=Operation.PAIR,
        sides=(Side(one, other), Side(other, one)),
        operation_id=OperationId("op"),
        user="caller",
        start_time=1,
        last_updated=1,
        timeout_s=1,
        deadline=2,
    )


async def _told(work: Awaitable[object]) -> bool:
    await work
    return True


async def _sorted(work: Awaitable[Sequence[ApplianceName]]) -> list[ApplianceName]:
    return sorted(await work)


def _as_claimed(assignment: Assignment, remaining_s: float) -> Assignment:
    return replace(assignment, pairing=as_stored(assignment.pairing), remaining_s=remaining_s)


@pytest.mark.parametrize("seed", range(5))
async def test_random_operations_have_the_same_answers_and_effects(
    database: Database, sql: "Connection", seed: int
) -> None:
    tables = Tables(clock=time.time, wall=real_now)
    for name in NAMES:
        registration, _ = await registry(database).put(spec(name), CALLER)
        tables.register(registration)
    twins = Twins(database, sql, tables, random.Random(seed))
    await twins.walk(250)
    seen = {entry.type for row in tables.pairings.values() for entry in row.entries}
    assert len(seen) >= 8  # It was not one long refusal.
