"""Reading pairings, page by page."""

from itertools import combinations, product
from uuid import UUID

import pytest

from service.domain.author import Author
from service.domain.errors import UnknownPairing
from service.domain.ids import ApplianceName, OperationId, PairingId
from service.domain.pairing import Pairing, PairingState
from service.store.database import Database
from service.store.pairings import PairingFilter, Pairings
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    claim,
    failed,
    intake_on,
    journal_on,
    name,
    register,
    registry,
    request,
    spec,
    way_to_success,
)

NOBODY = PairingId(UUID(int=0))


@pytest.fixture
async def history(database: Database) -> list[Pairing]:
    """Pairings in all states but CANCELED, on five appliances, of two operationIDs."""
    couples = list(combinations("abcde", 2))
    await register(database, *"abcde")
    async with intake_on(database) as intake:
        for number, couple in enumerate(couples):
            author = Author("tester", OperationId(f"op-{number % 2}"))
            await intake.accept(request(*couple), author)
    async with journal_on(database) as journal:
        for number, assignment in enumerate(await claim(database, 8)):
            ways = [
                way_to_success(assignment.pairing),
                [failed(assignment.pairing)],
                way_to_success(assignment.pairing)[:4],
            ]
            for change in ways[number % 3]:
                await journal.append(change)
    everything = await Pairings(database).page(PairingFilter(), 1000)
    assert {pairing.state for pairing in everything} == set(PairingState) - {PairingState.CANCELED}
    return sorted(everything, key=lambda pairing: pairing.id, reverse=True)


async def test_pages_hold_what_fits_newest_first_each_once(
    database: Database, history: list[Pairing]
) -> None:
    states = (None, *PairingState)
    appliances = (None, "a", "e", "nobody")
    operation_ids = (None, "op-1", "op-x")
    for state, appliance, operation_id in product(states, appliances, operation_ids):
        narrowed = PairingFilter(
            state,
            ApplianceName(appliance) if appliance else None,
            OperationId(operation_id) if operation_id else None,
        )
        seen = await all_pages(Pairings(database), narrowed)
        assert seen == [pairing for pairing in history if fits(pairing, narrowed)], narrowed


async def all_pages(pairings: Pairings, narrowed: PairingFilter) -> list[Pairing]:
    """Page after page of three."""
    seen: list[Pairing] = []
    while page := await pairings.page(narrowed, 3, seen[-1].id if seen else None):
        assert len(page) <= 3
        seen += page
    return seen


def fits(pairing: Pairing, narrowed: PairingFilter) -> bool:
    """What the filter means."""
    return (
        narrowed.state in {None, pairing.state}
        and narrowed.appliance in {None, *(side.appliance for side in pairing.sides)}
        and narrowed.operation_id in {None, pairing.operation_id}
    )


async def test_an_id_that_nobody_has_is_refused(database: Database) -> None:
    with pytest.raises(UnknownPairing):
        await Pairings(database).get(NOBODY)
    with pytest.raises(UnknownPairing):
        await Pairings(database).events(NOBODY)


async def test_the_chain_of_an_appliance_is_no_pairings(database: Database) -> None:
    registration, _ = await registry(database).put(spec("a"), AUTHOR)
    with pytest.raises(UnknownPairing):
        await Pairings(database).events(PairingId(registration.id))


async def test_history_outlives_its_appliances(database: Database) -> None:
    [pairing] = await accepted(database, ("a", "b"))
    [assignment] = await claim(database, 1)
    async with journal_on(database) as journal:
        await journal.append(failed(assignment.pairing))
    await registry(database).delete(name("a"), AUTHOR)
    assert (await Pairings(database).get(pairing.id)).sides[0].appliance == "a"
    assert len(await Pairings(database).events(pairing.id)) == 3


async def test_a_page_of_what_few_are_is_no_longer_than_any_other(
    database: Database, history: list[Pairing]
) -> None:
    failures = PairingFilter(state=PairingState.FAILED, appliance=name("c"))
    all_of_it = await Pairings(database).page(failures, 10)
    assert len(all_of_it) == 3
    assert await Pairings(database).page(failures, 1) == all_of_it[:1]
