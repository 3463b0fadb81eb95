"""What the database tells unasked, and what happens when it cannot."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from service.domain.events import PairingHandedBack
from service.domain.ids import PairingId
from service.store.database import Database
from service.store.intake import Intake
from service.store.notify import Announcements, Listener, Signal
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    claimed,
    claims_on,
    failed,
    intake_on,
    journal_on,
    register,
    request,
    started,
    step,
)
from tests.support.logs import captured_logs
from tests.support.virtual_time import run

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

NEVER_S = 60.0
"""Longer than a test may last: what returns was woken."""


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    """A listener that listens, its first wake-up taken."""
    listener = Listener(url)
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        running = tasks.create_task(listener.run(ready))
        await ready.wait()
        await listener.due.wait(NEVER_S)
        try:
            yield listener
        finally:
            running.cancel()


@asynccontextmanager
async def woken_within(seconds: float = 10) -> AsyncIterator[None]:
    """The block ends because something woke it, not because its time ran out."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


async def test_an_accepted_pairing_wakes_a_worker(database: Database, database_url: str) -> None:
    async with listening(database_url) as listener, woken_within():
        await accepted(database, ("a", "b"))
        await listener.due.wait(NEVER_S)


async def test_whoever_hears_the_bell_is_told_of_work_and_of_ends(
    database: Database, database_url: str
) -> None:
    async with listening(database_url) as listener, woken_within():
        several = [listener.anything.hear() for _ in range(3)]
        (pairing,) = await claimed(database, ("a", "b"))
        for ring in several:
            await ring.wait()
        await told_so_far(database, listener)
        end = listener.anything.hear()
        assert not end.is_set()
        async with journal_on(database) as journal:
            await journal.append(failed(pairing))
        await end.wait()


async def test_a_refused_request_wakes_nobody(database: Database, database_url: str) -> None:
    await accepted(database, ("a", "b"))
    async with listening(database_url) as listener, intake_on(database) as intake:
        await asyncio.gather(intake.accept(request(), AUTHOR), return_exceptions=True)
        await told_so_far(database, listener)
        assert not listener.due._raised.is_set()


async def told_so_far(database: Database, listener: Listener) -> None:
    """Return when all that was told until now has been heard: notifications keep their order."""
    mark = PairingId(UUID(int=1))
    tell = text("select pg_notify('sitepair_over', :mark)")
    with listener.over.expect(mark) as over:
        await database.run(tell, {"mark": str(mark)})
        await over.wait()


async def test_what_is_handed_back_or_released_wakes_a_worker(
    database: Database, database_url: str
) -> None:
    await accepted(database, ("a", "b"))
    claims = await claims_on(database)
    async with listening(database_url) as listener, journal_on(database) as journal:
        [assignment] = (await claims.claim(1)).assignments
        began = started(assignment.pairing)
        await journal.append(began)
        back = step(began.pairing, PairingHandedBack("worker-test"), release=True)
        async with woken_within():
            await journal.append(back)
            await listener.due.wait(NEVER_S)
        await claims.claim(1)
        async with woken_within():
            await claims.disown([])
            await listener.due.wait(NEVER_S)


async def test_a_group_of_requests_is_told_once(database: Database, database_url: str) -> None:
    names = [f"n{number}" for number in range(15)]
    couples = [(one, other) for one in names for other in names if one < other][:100]
    await register(database, *names)
    told: list[object] = []
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("sitepair_due", lambda *_: told.append(1))
    async with intake_on(database) as intake:
        await asyncio.gather(*[accept(intake, couple) for couple in couples])
    await listener.execute("select 1")
    await listener.close()
    assert 1 <= len(told) <= 3


async def accept(intake: Intake, couple: tuple[str, str]) -> None:
    """Accept a pairing of `couple`."""
    await intake.accept(request(*couple), AUTHOR)


async def test_whoever_expected_an_end_is_told_of_it_and_nobody_else(
    database: Database, database_url: str
) -> None:
    ended, other = await claimed(database, ("a", "b"), ("a", "c"))
    async with listening(database_url) as listener, journal_on(database) as journal:
        with listener.over.expect(ended.id) as over, listener.over.expect(other.id) as patient:
            async with woken_within():
                await journal.append(started(other))
                await journal.append(failed(ended))
                await over.wait()
            await told_so_far(database, listener)
            assert not patient.is_set()


async def test_more_ends_than_fit_into_one_message_are_all_told(
    database: Database, database_url: str, sql: "Connection"
) -> None:
    names = [f"n{number}" for number in range(34)]
    couples = [(one, other) for one in names for other in names if one < other][:450]
    pairings = await claimed(database, *couples)
    async with listening(database_url) as listener, journal_on(database) as journal:
        with ExitStack() as expecting:
            expected = [
                expecting.enter_context(listener.over.expect(pairing.id)) for pairing in pairings
            ]
            async with woken_within(), asyncio.TaskGroup() as tasks:
                for over in expected:
                    tasks.create_task(over.wait())
                for pairing in pairings:
                    tasks.create_task(journal.append(failed(pairing)))


async def test_a_cut_connection_is_replaced_and_wakes_everybody(
    database: Database, database_url: str, sql: "Connection"
) -> None:
    [pairing] = await accepted(database, ("a", "b"))
    async with listening(database_url) as listener:
        with listener.over.expect(pairing.id) as over:
            async with woken_within():
                await cut(sql)
                await over.wait()
                await listener.due.wait(NEVER_S)
        async with woken_within():
            await register(database, "c")
            async with intake_on(database) as intake:
                await intake.accept(request("a", "c"), AUTHOR)
            await listener.due.wait(NEVER_S)


async def cut(sql: "Connection") -> None:
    """Terminate whoever listens."""
    await sql.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        " and application_name = 'sitepair' and query ilike 'listen%'"
    )


def test_a_database_that_cannot_be_reached_is_tried_again_until_cancelled_ever_more_seldom() -> (
    None
):
    async def listen_for_an_hour() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await Listener("postgresql:///nowhere?host=/nowhere&user=nobody").run()

    with captured_logs() as logs:
        run(listen_for_an_hour())
    assert 100 < logs.getvalue().count('"doing":"listening"') < 200


async def test_behind_a_pgbouncer_nobody_listens(database_url: str) -> None:
    """What LISTEN leaves on a server there is the next client's: the name of a statement, too, over
    which a process ended that listened in its turn."""
    async with asyncio.timeout(10):
        await Listener(f"{database_url}&pgbouncer=true").run()


async def test_a_signal_keeps_what_was_announced_before_the_call_and_tells_it_once() -> None:
    signal = Signal()
    signal.announce()
    signal.announce()
    async with woken_within():
        await signal.wait(NEVER_S)
    await signal.wait(0)
    assert not signal._raised.is_set()


def test_a_signal_that_nobody_announced_is_waited_for_to_the_end() -> None:
    async def waited_s() -> float:
        await Signal().wait(NEVER_S)
        return asyncio.get_running_loop().time()

    assert run(waited_s()) == NEVER_S


async def test_nothing_is_kept_of_those_who_have_left() -> None:
    announcements = Announcements()
    pairing_id = PairingId(UUID(int=3))
    with announcements.expect(pairing_id), announcements.expect(pairing_id):
        announcements.announce(pairing_id)
    assert announcements._expected == {}


async def test_who_listens_is_not_sent_away_for_saying_nothing(
    database_url: str, sql: "Connection"
) -> None:
    mine = str(await sql.fetchval("select quote_ident(current_database())"))
    await sql.execute(f"alter database {mine} set idle_session_timeout = '300ms'")
    listens = (
        "select pid from pg_stat_activity"
        " where application_name = 'sitepair' and datname = current_database()"
    )
    async with listening(database_url):
        before = await sql.fetchval(listens)
        another, gone = await asyncpg.connect(database_url), asyncio.Event()
        another.add_termination_listener(lambda _: gone.set())
        await gone.wait()  # Who came later and says nothing either.
        assert await sql.fetchval(listens) == before
