"""Accepting pairings: promises, keys, couples, groups."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import Engine, event

from service.domain.author import Author
from service.domain.errors import (
    IdempotencyKeyReused,
    PairingActive,
    SitepairError,
    StoreUnavailable,
    UnknownAppliance,
)
from service.domain.ids import OperationId
from service.domain.pairing import PairingState
from service.store.database import Database
from service.store.intake import LOCK_S, Acceptance, IdempotencyKey, Intake, PairingRequest
from service.store.pairings import Pairings
from tests.integration.store.values import (
    AUTHOR,
    NOW,
    claim,
    failed,
    intake_on,
    journal_on,
    name,
    register,
    request,
)
from tests.integration.store.watching import insert_rival, transactions, until_blocked
from tests.support.chain import first_misfit

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

KEY = IdempotencyKey("key-1", b"fingerprint")


async def outcome(
    intake: Intake,
    asked: PairingRequest,
    key: IdempotencyKey | None = None,
    author: Author = AUTHOR,
) -> Acceptance | SitepairError:
    """What the caller is told."""
    try:
        return await intake.accept(asked, author, key)
    except SitepairError as error:
        return error


async def finish_all(database: Database) -> None:
    """Bring what was accepted to its end."""
    async with journal_on(database) as journal:
        for assignment in await claim(database, 1000):
            await journal.append(failed(assignment.pairing))


async def test_an_accepted_pairing_is_stored_as_answered_with_its_first_event(
    database: Database,
) -> None:
    await register(database, "a", "b")
    author = Author("alice", OperationId("op-7"))
    asked = request("b", "a", description="düe", timeout_s=90, priority=3)
    async with intake_on(database) as intake:
        answer = await intake.accept(asked, author)
    pairing = answer.pairing
    assert not answer.replayed
    assert await Pairings(database).get(pairing.id) == pairing
    assert [side.appliance for side in pairing.sides] == ["b", "a"]
    assert (pairing.user, pairing.operation_id) == ("alice", "op-7")
    assert (pairing.description, pairing.timeout_s, pairing.priority) == ("düe", 90, 3)
    assert (pairing.start_time, pairing.last_updated) == (NOW, NOW)
    chain = await Pairings(database).events(pairing.id)
    assert [(entry.type, entry.actor) for entry in chain] == [("PairingAccepted", "alice")]
    assert json.loads(chain[0].detail)["appliances"] == ["b", "a"]
    assert first_misfit(chain) is None


async def test_ids_grow_in_the_order_of_the_calls(database: Database) -> None:
    await register(database, *"abcdef")
    async with intake_on(database) as intake:
        answers = await asyncio.gather(
            *[intake.accept(request("a", other), AUTHOR) for other in "bcdef"]
        )
    ids = [answer.pairing.id for answer in answers]
    assert ids == sorted(ids)
    assert {pairing_id.version for pairing_id in ids} == {7}


async def test_unknown_appliances_are_all_named_and_nothing_is_kept(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a")
    async with intake_on(database) as intake:
        one = await outcome(intake, request("a", "x"), KEY)
        other = await outcome(intake, request("x", "a"), KEY)
        both = await outcome(intake, request("x", "y"), KEY)
    assert isinstance(one, UnknownAppliance)
    assert isinstance(other, UnknownAppliance)
    assert isinstance(both, UnknownAppliance)
    assert (one.names, other.names, both.names) == (("x",), ("x",), ("x", "y"))
    kept = "select from pairing union all select from side union all select from idempotency"
    assert await sql.fetch(kept) == []


async def test_a_second_pairing_of_the_same_couple_is_refused_with_the_id_of_the_first(
    database: Database,
) -> None:
    await register(database, "a", "b")
    async with intake_on(database) as intake:
        first = await intake.accept(request("a", "b"), AUTHOR)
        with pytest.raises(PairingActive) as refusal:
            await intake.accept(request("b", "a"), AUTHOR)
        assert refusal.value.pairing_id == first.pairing.id
        await finish_all(database)
        again = await intake.accept(request("b", "a"), AUTHOR)
    assert again.pairing.id != first.pairing.id


async def test_a_couple_that_is_claimed_is_still_active(database: Database) -> None:
    await register(database, "a", "b")
    async with intake_on(database) as intake:
        await intake.accept(request("a", "b"), AUTHOR)
        await claim(database, 1)
        assert isinstance(await outcome(intake, request("a", "b")), PairingActive)


async def test_duplicates_within_one_group_are_told_of_the_first_and_the_others_go_through(
    database: Database,
) -> None:
    await register(database, *"abc")
    asked = [
        request("a", "b"),
        request("b", "a"),
        request("a", "c"),
        request("a", "b"),
        request("a", "nobody"),
    ]
    async with intake_on(database) as intake:
        answers = await asyncio.gather(*[outcome(intake, each) for each in asked])
    first, second, other, third, unknown = answers
    assert isinstance(first, Acceptance)
    assert isinstance(other, Acceptance)
    assert isinstance(unknown, UnknownAppliance)
    for refused in (second, third):
        assert isinstance(refused, PairingActive)
        assert refused.pairing_id == first.pairing.id


async def test_the_same_key_and_request_get_the_first_answer_however_far_the_pairing_is(
    database: Database,
) -> None:
    await register(database, "a", "b")
    async with intake_on(database) as intake:
        first = await intake.accept(request(description="x"), AUTHOR, KEY)
        queued = await intake.accept(request(description="x"), AUTHOR, KEY)
        await finish_all(database)
        assert (await Pairings(database).get(first.pairing.id)).state is PairingState.FAILED
        over = await intake.accept(request(description="x"), AUTHOR, KEY)
    assert queued == over == replace(first, replayed=True)


async def test_the_same_key_with_another_request_is_refused(database: Database) -> None:
    await register(database, *"abc")
    async with intake_on(database) as intake:
        await intake.accept(request("a", "b"), AUTHOR, KEY)
        with pytest.raises(IdempotencyKeyReused):
            await intake.accept(request("a", "c"), AUTHOR, replace(KEY, fingerprint=b"other"))


async def test_a_key_counts_within_its_user_only(database: Database) -> None:
    await register(database, *"abc")
    bob = Author("bob", AUTHOR.operation_id)
    async with intake_on(database) as intake:
        one = await intake.accept(request("a", "b"), AUTHOR, KEY)
        other = await intake.accept(request("a", "c"), bob, KEY)
    assert not one.replayed
    assert not other.replayed


async def test_a_key_of_a_refused_request_is_free_again(database: Database) -> None:
    await register(database, *"abc")
    async with intake_on(database) as intake:
        await intake.accept(request("a", "b"), AUTHOR)
        assert isinstance(await outcome(intake, request("a", "b"), KEY), PairingActive)
        other = await intake.accept(request("a", "c"), AUTHOR, KEY)
    assert not other.replayed


async def test_the_same_key_many_times_at_once_makes_one_pairing(database: Database) -> None:
    """In one process they meet in a group, from several processes in the database."""
    await register(database, "a", "b")
    async with intake_on(database) as one, intake_on(database) as two, intake_on(database) as three:
        answers = await asyncio.gather(
            *[
                intake.accept(request(), AUTHOR, KEY)
                for _ in range(20)
                for intake in (one, two, three)
            ]
        )
    assert len({answer.pairing.id for answer in answers}) == 1
    assert len({answer.pairing for answer in answers if answer.pairing.position.hash}) == 1
    assert sum(not answer.replayed for answer in answers) == 1


async def test_keys_that_differ_in_their_request_meet_in_one_group(database: Database) -> None:
    await register(database, *"abc")
    reused = replace(KEY, fingerprint=b"other")
    async with intake_on(database) as intake:
        answers = await asyncio.gather(
            outcome(intake, request("a", "b"), KEY),
            outcome(intake, request("a", "c"), reused),
            outcome(intake, request("a", "b"), KEY),
            outcome(intake, request("a", "c")),
        )
    assert [type(answer) for answer in answers] == [
        Acceptance,
        IdempotencyKeyReused,
        Acceptance,
        Acceptance,
    ]


async def test_a_key_whose_first_request_is_refused_goes_to_the_next_one_in_the_group(
    database: Database,
) -> None:
    await register(database, *"abc")
    async with intake_on(database) as intake:
        answers = await asyncio.gather(
            outcome(intake, request("a", "nobody"), KEY),
            outcome(intake, request("a", "b"), KEY),
            outcome(intake, request("a", "b"), KEY),
        )
    assert isinstance(answers[0], UnknownAppliance)
    assert isinstance(answers[1], Acceptance)
    assert answers[2] == replace(answers[1], replayed=True)


async def test_whoever_meets_another_process_waits_for_its_commit_and_is_told_of_it(
    database: Database, sql: "Connection"
) -> None:
    await register(database, *"abc")
    async with intake_on(database) as intake:
        await intake.accept(request("a", "c"), AUTHOR)
        async with asyncio.TaskGroup() as tasks:
            transaction = sql.transaction()
            await transaction.start()
            # What another process would do at the same moment: the same couple, not committed.
            theirs = await insert_rival(sql, "a", "b")
            late = tasks.create_task(outcome(intake, request("a", "b"), KEY))
            await until_blocked(sql)
            await transaction.commit()
            answer = await late
    assert isinstance(answer, PairingActive)
    assert answer.pairing_id == theirs


async def test_five_hundred_requests_at_once_are_a_handful_of_transactions(
    database: Database, sql: "Connection"
) -> None:
    names = [f"n{i}" for i in range(33)]
    await register(database, *names)
    couples = [(one, other) for one in names for other in names if one < other][:500]
    before = await transactions(sql)
    async with intake_on(database) as intake:
        answers = await asyncio.gather(
            *[intake.accept(request(*couple), AUTHOR) for couple in couples]
        )
    assert len({answer.pairing.id for answer in answers}) == 500
    assert await transactions(sql) - before <= 5
    assert await sql.fetchval("select count(*) from side") == 1000


async def test_many_who_want_the_same_at_once_are_answered_in_a_handful_of_statements(
    database: Database,
) -> None:
    await register(database, *"abc")
    asked = [request("a", "b"), request("b", "c"), request("a", "nobody")] * 50
    with statements_counted() as sent:
        async with intake_on(database) as intake:
            answers = await asyncio.gather(*[outcome(intake, each) for each in asked])
    assert 1 <= sum("insert into pairing" in each for each in sent) <= 4
    assert [type(answer) for answer in answers[:3]] == [Acceptance, Acceptance, UnknownAppliance]
    assert {type(answer) for answer in answers[3:]} == {PairingActive, UnknownAppliance}


@contextmanager
def statements_counted() -> Iterator[list[str]]:
    """The statements that are sent within."""
    sent: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", count)


async def test_descriptions_that_postgresql_refuses_are_mended_before_they_are_hashed(
    database: Database,
) -> None:
    await register(database, "a", "b")
    async with intake_on(database) as intake:
        answer = await intake.accept(request(description="a\0b\ud800c"), AUTHOR)
    stored = await Pairings(database).get(answer.pairing.id)
    assert stored == answer.pairing
    assert stored.description == "a\ufffdb?c"
    assert first_misfit(await Pairings(database).events(stored.id)) is None


async def test_a_request_that_the_tables_refuse_fails_alone(database: Database) -> None:
    await register(database, *"abc")
    async with intake_on(database) as intake:
        bad, good = await asyncio.gather(
            intake.accept(request("a", "b", timeout_s=0), AUTHOR),
            intake.accept(request("a", "c"), AUTHOR),
            return_exceptions=True,
        )
    assert "ck_pairing_timeout" in str(bad)
    assert isinstance(good, Acceptance)


async def test_patience_has_an_end_and_the_next_request_goes_through(
    database: Database, sql: "Connection"
) -> None:
    await register(database, *"abc")
    async with intake_on(database, patience_s=0) as intake, asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from appliance where name = 'b' for update")
            cut = tasks.create_task(outcome(intake, request("a", "b")))
            await until_blocked(sql)
            await sql.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            assert isinstance(await cut, StoreUnavailable)
        assert isinstance(await outcome(intake, request("a", "b")), Acceptance)


async def test_names_order_a_couple_the_same_way_here_and_in_the_database(
    database: Database,
) -> None:
    """Most collations put the hyphen elsewhere than its byte."""
    await register(database, "a-b", "aa", "a--", "a0")
    async with intake_on(database) as intake:
        for couple in (("a-b", "aa"), ("a--", "a-b"), ("a0", "a--")):
            first = await intake.accept(request(*couple), AUTHOR)
            refused = await outcome(intake, request(*reversed(couple)))
            assert isinstance(refused, PairingActive)
            assert refused.pairing_id == first.pairing.id
    assert name("a-b") < name("aa")


async def test_a_couple_that_a_batch_is_about_to_take_holds_up_nobody_who_wants_another(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b", "c", "d")
    async with intake_on(database) as intake, asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            rival = await insert_rival(sql, "a", "b")
            waiting = tasks.create_task(outcome(intake, request("a", "b")))
            await until_blocked(sql)
            async with asyncio.timeout(10 * LOCK_S):
                both = await asyncio.gather(
                    intake.accept(request("c", "d"), AUTHOR),
                    intake.accept(request("b", "c"), AUTHOR),
                )
            assert not waiting.done()
        told = await waiting
    assert [each.replayed for each in both] == [False, False]
    assert isinstance(told, PairingActive)
    assert told.pairing_id == rival


async def test_many_who_want_what_a_batch_is_about_to_take_do_not_hold_up_others_one_by_one(
    database: Database, sql: "Connection"
) -> None:
    names = [f"n{number}" for number in range(10)]
    couples = list(combinations(names, 2))
    await register(database, *names, "x", "y")
    async with intake_on(database) as intake, asyncio.TaskGroup() as tasks, sql.transaction():
        for low, high in couples:
            await insert_rival(sql, low, high)
        waiting = [tasks.create_task(outcome(intake, request(low, high))) for low, high in couples]
        await until_blocked(sql)
        async with asyncio.timeout(len(couples) * LOCK_S / 2):
            await intake.accept(request("x", "y"), AUTHOR)
        assert not any(each.done() for each in waiting)
    assert {type(each.result()) for each in waiting} == {PairingActive}
