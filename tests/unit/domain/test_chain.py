"""A chain shows what was changed, removed, inserted or moved."""

import json
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from service.domain import chain
from service.domain.appliance import ApiError
from service.domain.events import (
    Entry,
    Event,
    PairingStarted,
    PeerFound,
    RequestDeferred,
    detail_of,
)
from service.domain.ids import OperationId
from service.domain.pairing import ChainPosition
from tests.unit.domain.values import A

CHAIN = UUID("01890000-0000-7000-8000-000000000002")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.one_of(
    st.builds(PairingStarted, worker=st.text(), epoch=st.integers(0)),
    st.builds(PeerFound, side=st.just(A), result=st.dictionaries(st.text(), JSON, max_size=3)),
    st.builds(
        RequestDeferred,
        side=st.just(A),
        error=st.builds(ApiError, code=st.text(), msg=st.text()),
        delay_ms=st.integers(0),
    ),
)


def chained(events: list[Event]) -> list[Entry]:
    position, entries = ChainPosition(), []
    for at, event in enumerate(events):
        entry = chain.append(
            event, position, chain=CHAIN, at=at, actor="admin", operation_id=OperationId("op")
        )
        entries.append(entry)
        position = ChainPosition(entry.seq, entry.hash)
    return entries


@given(st.lists(EVENTS, max_size=8))
def test_what_was_appended_fits(events: list[Event]) -> None:
    assert chain.first_misfit(chained(events)) is None


@given(st.lists(EVENTS, min_size=1, max_size=8))
def test_what_was_appended_still_fits_after_a_trip_through_json(events: list[Event]) -> None:
    stored = [
        replace(entry, detail=json.loads(json.dumps(entry.detail))) for entry in chained(events)
    ]
    assert chain.first_misfit(stored) is None


@given(st.lists(EVENTS, min_size=2, max_size=8), st.data())
def test_the_first_event_that_does_not_fit_is_named(
    events: list[Event], data: st.DataObject
) -> None:
    entries = chained(events)
    index = data.draw(st.integers(0, len(entries) - 2))
    changed = list(entries)
    changed[index] = replace(entries[index], at=entries[index].at + 1)
    removed = entries[:index] + entries[index + 1 :]
    inserted = [*entries[:index], entries[index], *entries[index:]]
    swapped = list(entries)
    swapped[index], swapped[index + 1] = entries[index + 1], entries[index]

    assert chain.first_misfit(changed) is changed[index]
    assert chain.first_misfit(removed) is entries[index + 1]
    assert chain.first_misfit(inserted) is entries[index]
    assert chain.first_misfit(swapped) is entries[index + 1]


def test_each_field_of_an_entry_is_part_of_its_hash() -> None:
    (entry,) = chained([PairingStarted("worker-1", 1)])
    others = [
        replace(entry, chain=UUID(int=1)),
        replace(entry, at=99),
        replace(entry, type="Other"),
        replace(entry, appliance=A),
        replace(entry, actor="mallory"),
        replace(entry, operation_id=OperationId("other")),
        replace(entry, detail={"worker": "worker-2", "epoch": 1}),
    ]
    for other in others:
        assert chain.first_misfit([other]) is other


def test_certificates_and_stack_traces_of_appliances_are_not_in_the_trail() -> None:
    error = {"code": "Forbidden", "stacktrace": "com.vmware.h4..."}
    record = {"id": "1", "peerTunnelCert": "MIID", "state": {"incomingCommError": error}}
    detail = detail_of(PeerFound(A, record))
    assert detail == {"result": {"id": "1", "state": {"incomingCommError": {"code": "Forbidden"}}}}
