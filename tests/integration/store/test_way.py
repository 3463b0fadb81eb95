"""A pairing's way through the store, from acceptance to its end."""

from service.domain.pairing import PairingState
from service.store.database import Database
from service.store.pairings import Pairings
from tests.integration.store.values import accepted, as_stored, claim, journal_on, way_to_success
from tests.support.chain import first_misfit


async def test_a_pairing_goes_from_acceptance_to_success_and_reads_back_as_it_was_written(
    database: Database,
) -> None:
    [pairing] = await accepted(database, ("a", "b"))
    pairings = Pairings(database)
    assert await pairings.get(pairing.id) == pairing

    [assignment] = await claim(database, 10)
    assert assignment.pairing.id == pairing.id
    assert [endpoint.name for endpoint in assignment.endpoints] == ["a", "b"]

    changes = way_to_success(assignment.pairing)
    async with journal_on(database) as journal:
        for change in changes:
            await journal.append(change)
            assert await pairings.get(pairing.id) == as_stored(change.pairing)

    stored = await pairings.get(pairing.id)
    assert stored.state is PairingState.SUCCEEDED
    chain = await pairings.events(pairing.id)
    assert [entry.seq for entry in chain] == list(range(1, len(changes) + 2))
    assert first_misfit(chain) is None
