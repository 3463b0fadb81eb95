"""Pairings of long ago, written as the store writes them, at times of the test's choosing."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from service.domain import chain
from service.domain.advance import Change, advance
from service.domain.appliance import ApiError
from service.domain.events import PairingAccepted, PairingEvent, PairingFailed, PairingStarted
from service.domain.ids import PairingId
from service.domain.pairing import ChainPosition, Operation, Pairing, Side
from service.store.database import Database
from service.store.intake import IdempotencyKey
from service.store.intake import _Candidate as Candidate
from service.store.intake import _parameters as accept_parameters
from service.store.partitions import make_partitions
from service.store.statements import statement
from tests.integration.store.values import AUTHOR, journal_on, name


def ms(year: int, month: int, day: int = 1) -> int:
    """The beginning of a day."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


def id_at(at: int) -> PairingId:
    """An id that was given out then."""
    return PairingId(UUID(int=(at << 80) | (uuid4().int & (2**80 - 1))))


async def make_months(database: Database, year: int, month: int) -> None:
    """The months from this one on."""
    async with database.transaction() as connection:
        await make_partitions(connection, datetime(year, month, 15, tzinfo=UTC))


async def begun(
    database: Database, couple: tuple[str, str], at: int, key: IdempotencyKey | None = None
) -> Pairing:
    """A pairing of this couple, whose appliances are registered, accepted then."""
    one, other = map(name, couple)
    pairing = Pairing(
        id=id_at(at),
        operation=Operation.PAIR,
        sides=(Side(one, other), Side(other, one)),
        operation_id=AUTHOR.operation_id,
        user=AUTHOR.user,
        start_time=at,
        last_updated=at,
        timeout_s=600,
        deadline=at + 600_000,
    )
    entry = chain.append(
        PairingAccepted((one, other), "pair", "", 600, 0),
        pairing.position,
        chain=pairing.id,
        at=at,
        actor=AUTHOR.user,
        operation_id=AUTHOR.operation_id,
    )
    pairing = pairing.at_position(ChainPosition(entry.seq, entry.hash))
    parameters = accept_parameters([Candidate(pairing, entry.detail, key)])
    (row,) = await database.run(statement("accept"), parameters)
    assert row.is_made
    return pairing


async def over(
    database: Database,
    couple: tuple[str, str],
    at: int,
    ended: int | None = None,
    key: IdempotencyKey | None = None,
) -> Pairing:
    """One that was accepted then, and failed at once or at `ended`: three events."""
    pairing = await begun(database, couple, at, key)
    events: list[PairingEvent] = [
        PairingStarted("worker-test", 0),
        PairingFailed(ApiError("Nope", "No.", ())),
    ]
    entries = []
    for event in events:
        pairing, entry = advance(pairing, event, at=ended or at, actor="worker-test")
        entries.append(entry)
    async with journal_on(database) as journal:
        await journal.append(Change(pairing, tuple(entries), release=True))
    return pairing
