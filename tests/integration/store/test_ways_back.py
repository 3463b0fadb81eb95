"""What the journal keeps of parking, canceling, rolling back and trying again."""

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
from msgspec import structs

from service.domain.appliance import ApiError
from service.domain.events import (
    CallLost,
    CancelRequested,
    PairingCanceled,
    PairingEvent,
    PairingParked,
    PairingStarted,
    PairRequested,
    RollbackFailed,
    RollbackRequested,
    RollbackStarted,
    SideEvent,
    SideFailed,
    SidePaired,
    SideRolledBack,
    TaskAccepted,
)
from service.domain.ids import OperationId, TaskId
from service.domain.pairing import OnFailure, Pairing, PairingState, SideState, SiteCall
from service.store.cancels import Cancels
from service.store.database import Database
from service.store.health import Health
from service.store.intake import IdempotencyKey
from service.store.notify import Listener
from service.store.pairings import Pairings
from service.store.retries import Retries
from tests.integration.store.test_notify import listening
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    claim,
    intake_on,
    journal_on,
    name,
    real_now,
    register,
    request,
    step,
    thumbprint,
)
from tests.support.chain import first_misfit

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

A, B = name("a"), name("b")
ERROR = ApiError("Forbidden", "Permission denied.", ("x",), "at Nope.java:1")


async def claimed_now(database: Database) -> Pairing:
    """A pairing of `a` and `b` whose time is not over, in a worker's hands."""
    await accepted(database, ("a", "b"), clock=real_now)
    [assignment] = await claim(database)
    return assignment.pairing


def asked(side: str, attempt: int = 1) -> PairRequested:
    """The intent to pair."""
    peer, itself = "https://peer.example:8048", f"https://{side}.example:8441"
    return PairRequested(name(side), attempt, thumbprint(), peer, itself)


def canceled_way() -> list[PairingEvent | SideEvent]:
    """One side was paired; then somebody wanted no more of it, and it could be undone."""
    return [
        PairingStarted("worker-test", 1),
        asked("a"),
        CallLost(A, ERROR, 500),
        asked("a", 2),
        TaskAccepted(A, TaskId("t-1")),
        SidePaired(A, b'{"id": "peer-b"}'),
        CancelRequested("eve", OperationId("op-9")),
        RollbackStarted(ERROR, 300),
        RollbackRequested(A, "unpair", 3),
        TaskAccepted(A, TaskId("t-2")),
        SideRolledBack(A),
        PairingCanceled(),
    ]


async def test_each_step_of_a_way_back_reads_back_as_it_was_written(database: Database) -> None:
    pairing = await claimed_now(database)
    seen: list[Pairing] = []
    async with journal_on(database) as journal:
        for event in canceled_way():
            change = step(pairing, event)
            await journal.append(change)
            pairing = await Pairings(database).get(pairing.id)
            assert pairing == change.pairing
            seen.append(pairing)
    assert {side.call for each in seen for side in each.sides} == {None, SiteCall.PAIR}
    assert max(side.losses for each in seen for side in each.sides) == 1
    assert seen[1].side(A).asked_url == "https://peer.example:8048"
    assert seen[1].side(A).called_url == "https://a.example:8441"
    assert [each.is_canceling for each in seen].index(True) == 6
    assert seen[7].deadline > seen[6].deadline - 600_000
    assert seen[-1].state is PairingState.CANCELED
    assert seen[-1].side(A).state is SideState.ROLLED_BACK
    assert first_misfit(await Pairings(database).events(pairing.id)) is None


async def test_what_could_not_be_undone_is_kept_as_a_warning(database: Database) -> None:
    pairing = await claimed_now(database)
    change = step(pairing, *canceled_way()[:8], RollbackFailed(A, ERROR), PairingCanceled())
    async with journal_on(database) as journal:
        await journal.append(change)
    stored = await Pairings(database).get(pairing.id)
    assert stored == change.pairing
    assert [each.code for each in stored.warnings] == ["RollbackFailed"]
    assert stored.side(A).error == ERROR


async def test_a_parked_pairing_is_due_when_its_appliance_opens_and_not_before(
    database: Database, sql: "Connection"
) -> None:
    pairing = await claimed_now(database)
    await Health(database).report({B: ERROR})
    began = step(pairing, PairingStarted("worker-test", 1), PairingParked(B, ERROR))
    async with journal_on(database) as journal:
        await journal.append(structs.replace(began, release=True, waits_for=B))
    row = await sql.fetchrow("select worker, waits_for from pairing")
    assert row is not None
    assert tuple(row) == (None, "b")
    assert await claim(database) == []
    await Health(database).reopen(B)
    [again] = await claim(database)
    assert again.pairing == structs.replace(began.pairing, epoch=2)


async def test_a_pairing_that_somebody_wants_canceled_is_not_parked(
    database: Database, database_url: str
) -> None:
    """Its worker did not know yet; the row does."""
    pairing = await claimed_now(database)
    parked = step(pairing, PairingStarted("worker-test", 1), PairingParked(B, ERROR))
    async with journal_on(database) as journal:
        await Cancels(database).request(pairing.id, AUTHOR)
        async with listening(database_url) as listener:
            await journal.append(structs.replace(parked, release=True, waits_for=B))
            await woken(listener)
    [again] = await claim(database)
    assert again.cancel is not None


async def test_a_wish_to_cancel_wakes_who_drives_and_frees_what_waits(
    database: Database, database_url: str
) -> None:
    pairing = await claimed_now(database)
    parked = step(pairing, PairingStarted("worker-test", 1), PairingParked(B, ERROR))
    async with journal_on(database) as journal:
        await journal.append(structs.replace(parked, release=True, waits_for=B))
    async with listening(database_url) as listener:
        await listener.cancels.wait(60)
        await Cancels(database).request(pairing.id, AUTHOR)
        began = time.monotonic()
        await listener.cancels.wait(60)
        assert time.monotonic() - began < 10
        await woken(listener)
    assert len(await claim(database)) == 1


async def woken(listener: Listener) -> None:
    """Return when it was told that something is due."""
    began = time.monotonic()
    await listener.due.wait(60)
    assert time.monotonic() - began < 10


async def test_a_wish_to_cancel_does_not_outlive_the_attempt_that_it_was_for(
    database: Database, sql: "Connection"
) -> None:
    pairing = await claimed_now(database)
    await Cancels(database).request(pairing.id, AUTHOR)
    failed_side = SideFailed(A, ERROR, refused=True)
    async with journal_on(database) as journal:
        await journal.append(step(pairing, PairingStarted("w", 1), failed_side))
        stored = await Pairings(database).get(pairing.id)
        await journal.append(
            step(stored, CancelRequested("tester", OperationId("test-1")), PairingCanceled())
        )
        await Retries(database, journal, real_now).retry(pairing.id, AUTHOR)
    row = await sql.fetchrow("select cancel_user, cancel_operation_id, is_canceling from pairing")
    assert row is not None
    assert tuple(row) == (None, None, False)
    [again] = await claim(database)
    assert again.cancel is None
    assert again.remaining_s > 500


async def test_an_answer_to_an_old_request_is_what_was_accepted_however_far_it_has_gone(
    database: Database,
) -> None:
    await register(database, "a", "b")
    asked_for = request(on_failure=OnFailure.KEEP, timeout_s=70)
    key = IdempotencyKey("key", b"print")
    async with intake_on(database, real_now) as intake:
        first = await intake.accept(asked_for, AUTHOR, key)
        assert await Pairings(database).get(first.pairing.id) == first.pairing
        [entry] = await Pairings(database).events(first.pairing.id)
        assert json.loads(entry.detail)["onFailure"] == "keep"
        [assignment] = await claim(database)
        async with journal_on(database) as journal:
            way = [*canceled_way()[:7], PairingCanceled()]
            await journal.append(step(assignment.pairing, *way))
        again = await intake.accept(asked_for, AUTHOR, key)
    assert again == replace(first, replayed=True)
