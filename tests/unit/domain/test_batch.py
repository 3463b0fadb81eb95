"""A batch as a value, and the first entries of its chains."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import chain
from service.domain.batch import Batch, Counts
from service.domain.chain import Openings
from service.domain.events import PairingAccepted
from service.domain.ids import ApplianceName, BatchId, OperationId
from service.domain.pairing import ChainPosition


def batch(counts: Counts, accepted: int, last_end: int = 0) -> Batch:
    return Batch(
        BatchId(uuid4()), OperationId("x"), "u", 1000, accepted, counts, 5, last_end=last_end
    )


@pytest.mark.parametrize(
    ("counts", "accepted", "progress", "end"),
    [
        (Counts(queued=3), 3, 0, None),
        (Counts(queued=1, running=1, succeeded=1), 3, 33, None),
        (Counts(running=1, succeeded=998), 999, 99, None),
        (Counts(succeeded=1, failed=1, canceled=1), 3, 100, 9),
        (Counts(), 0, 100, 9),
    ],
)
def test_it_is_over_when_all_of_it_is(
    counts: Counts, accepted: int, progress: int, end: int | None
) -> None:
    value = batch(counts, accepted, last_end=9)
    assert (value.progress, value.end_time) == (progress, end)


def test_one_with_nothing_in_it_ends_when_it_begins() -> None:
    assert batch(Counts(), 0).end_time == 5


@given(st.text(), st.text(), st.integers(0, 2**53))
def test_an_opening_hashes_as_an_entry_does(actor: str, description: str, at: int) -> None:
    one, other = ApplianceName("a"), ApplianceName("b")
    event = PairingAccepted((one, other), "pair", description, 60, -1, "keep", "batch-1")
    chain_id, operation_id = uuid4(), OperationId("order-1")
    entry = chain.append(
        event, ChainPosition(), chain=chain_id, at=at, actor=actor, operation_id=operation_id
    )
    openings = Openings("PairingAccepted", at=at, actor=actor, operation_id=operation_id)
    assert openings.hash(str(chain_id), entry.detail) == entry.hash
    assert openings.hash(str(uuid4()), entry.detail) != entry.hash
