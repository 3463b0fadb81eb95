"""A chain shows what was changed, removed, inserted or moved."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain import chain
from service.domain.appliance import ApiError
from service.domain.chain import Misfit, Walk, Wrong
from service.domain.events import (
    ApplianceEvent,
    ApplianceRegistered,
    ApplianceRemoved,
    Entry,
    Event,
    PairingStarted,
    PeerFound,
    RequestDeferred,
    detail_of,
)
from service.domain.ids import OperationId
from service.domain.pairing import ChainPosition
from tests.support.chain import first_misfit
from tests.unit.domain.values import A, B

CHAIN = UUID("01890000-0000-7000-8000-000000000002")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def as_sent(record: dict[str, Any]) -> bytes:
    """As an appliance says it."""
    return json.dumps(record).encode()


EVENTS = st.one_of(
    st.builds(PairingStarted, worker=st.text(), epoch=st.integers(0)),
    st.builds(
        PeerFound, side=st.just(A), result=st.dictionaries(st.text(), JSON, max_size=3).map(as_sent)
    ),
    st.builds(
        RequestDeferred,
        side=st.just(A),
        error=st.builds(ApiError, code=st.text(), msg=st.text()),
        delay_ms=st.integers(0),
    ),
)


def chained(events: Sequence[Event | ApplianceEvent]) -> list[Entry]:
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
    assert first_misfit(chained(events)) is None


@given(st.lists(EVENTS, min_size=1, max_size=8))
def test_what_was_appended_still_fits_after_a_trip_through_json(events: list[Event]) -> None:
    stored = [
        replace(entry, detail=chain.spelt(json.loads(entry.detail))) for entry in chained(events)
    ]
    assert first_misfit(stored) is None


CHAINS = st.lists(EVENTS, min_size=1, max_size=8).map(chained)
FIELDS: list[dict[str, Any]] = [
    {"chain": UUID(int=1)},
    {"at": 99},
    {"type": "Other"},
    {"appliance": B},
    {"actor": "mallory"},
    {"operation_id": OperationId("other")},
    {"detail": '{"epoch":-1,"worker":"another"}'},
]
CHANGES = st.sampled_from([*FIELDS, {"hash": bytes(31) + b"x"}])


def head_of(entries: list[Entry]) -> ChainPosition:
    return ChainPosition(entries[-1].seq, entries[-1].hash)


def index_in(data: st.DataObject, entries: list[Entry]) -> int:
    return data.draw(st.integers(0, len(entries) - 1), label="index")


def rehashed(entry: Entry, before: list[Entry]) -> Entry:
    """`entry` with the hash that fits behind `before`, as somebody would forge it."""
    return replace(entry, hash=chain.entry_hash(entry, before[-1].hash if before else bytes(32)))


def forged(before: list[Entry], seq: int) -> Entry:
    """An event that never happened, as number `seq` behind `before`."""
    made_up = replace(chained([PairingStarted("mallory", 0)])[0], seq=seq, at=7)
    return rehashed(made_up, before)


@given(CHAINS, CHANGES, st.data())
def test_a_changed_event_is_named(
    entries: list[Entry], change: dict[str, Any], data: st.DataObject
) -> None:
    index = index_in(data, entries)
    changed = replace(entries[index], **change)
    stored = [*entries[:index], changed, *entries[index + 1 :]]

    assert first_misfit(stored, head_of(entries)) == Misfit(Wrong.CHANGED, changed)


@given(CHAINS, st.data())
def test_behind_a_removed_event_the_next_one_is_named_or_the_new_end(
    entries: list[Entry], data: st.DataObject
) -> None:
    index = index_in(data, entries)
    stored = entries[:index] + entries[index + 1 :]

    misfit = first_misfit(stored, head_of(entries))

    if index < len(entries) - 1:
        assert misfit == Misfit(Wrong.MISSING_BEFORE, entries[index + 1])
    elif stored:
        assert misfit == Misfit(Wrong.MISSING_AFTER, stored[-1])
    else:
        assert misfit == Misfit(Wrong.NO_EVENTS, None)


@given(CHAINS, st.data())
def test_of_a_chain_that_was_cut_off_the_last_event_left_is_named(
    entries: list[Entry], data: st.DataObject
) -> None:
    stored = entries[: index_in(data, entries)]

    misfit = first_misfit(stored, head_of(entries))

    assert misfit is not None
    assert misfit.entry == (stored[-1] if stored else None)
    assert misfit.wrong is (Wrong.MISSING_AFTER if stored else Wrong.NO_EVENTS)


@given(CHAINS, st.data())
def test_a_removed_event_is_missed_even_if_those_behind_it_are_numbered_anew(
    entries: list[Entry], data: st.DataObject
) -> None:
    index = index_in(data, entries)
    stored = [
        *entries[:index],
        *(replace(entry, seq=entry.seq - 1) for entry in entries[index + 1 :]),
    ]

    misfit = first_misfit(stored, head_of(entries))

    assert misfit is not None
    if index < len(entries) - 1:
        assert misfit == Misfit(Wrong.CHANGED, stored[index])


@given(CHAINS, st.data())
def test_an_inserted_event_is_named_or_the_one_whose_place_it_took(
    entries: list[Entry], data: st.DataObject
) -> None:
    index = index_in(data, entries)
    before, behind = entries[:index], entries[index:]
    inserted = forged(before, index + 1)
    unhashed = replace(inserted, hash=bytes(32))
    renumbered = [replace(entry, seq=entry.seq + 1) for entry in behind]
    head = head_of(entries)

    twice = first_misfit([*before, inserted, *behind], head)
    pushed = first_misfit([*before, inserted, *renumbered], head)
    rough = first_misfit([*before, unhashed, *behind], head)

    if index < len(entries) - 1:
        assert twice == Misfit(Wrong.CHANGED, behind[0])
        assert pushed == Misfit(Wrong.CHANGED, renumbered[0])
    else:
        assert twice == pushed == Misfit(Wrong.HEAD_DIFFERS, inserted)
    assert rough == Misfit(Wrong.CHANGED, unhashed)


@given(CHAINS)
def test_an_event_behind_the_head_is_named(entries: list[Entry]) -> None:
    appended = forged(entries, len(entries) + 1)

    misfit = first_misfit([*entries, appended], head_of(entries))

    assert misfit == Misfit(Wrong.HEAD_DIFFERS, appended)


@given(CHAINS.filter(lambda entries: len(entries) > 1), st.data())
def test_of_two_events_that_changed_places_the_first_is_named(
    entries: list[Entry], data: st.DataObject
) -> None:
    one = data.draw(st.integers(0, len(entries) - 2), label="one")
    other = data.draw(st.integers(one + 1, len(entries) - 1), label="other")
    stored = list(entries)
    stored[one] = replace(entries[other], seq=entries[one].seq)
    stored[other] = replace(entries[one], seq=entries[other].seq)

    misfit = first_misfit(stored, head_of(entries))

    assert misfit == Misfit(Wrong.CHANGED, stored[one])


@given(CHAINS, st.sampled_from(FIELDS), st.data())
def test_a_forgery_with_a_hash_that_fits_no_longer_fits_its_successor(
    entries: list[Entry], change: dict[str, Any], data: st.DataObject
) -> None:
    index = index_in(data, entries)
    forgery = rehashed(replace(entries[index], **change), entries[:index])
    stored = [*entries[:index], forgery, *entries[index + 1 :]]

    misfit = first_misfit(stored, head_of(entries))

    if index < len(entries) - 1:
        assert misfit == Misfit(Wrong.CHANGED, entries[index + 1])
    else:
        assert misfit == Misfit(Wrong.HEAD_DIFFERS, forgery)


@given(CHAINS, st.lists(st.integers(0, 7), max_size=8))
def test_whatever_of_a_chain_is_taken_in_whatever_order_only_the_whole_is_sound(
    entries: list[Entry], picked: list[int]
) -> None:
    stored = [entries[index] for index in picked if index < len(entries)]

    misfit = first_misfit(stored, head_of(entries))

    assert (misfit is None) == (stored == entries)


def walked(entries: list[Entry], head: ChainPosition | None) -> Walk:
    walk = Walk(head)
    for entry in entries:
        walk.step(entry)
    return walk


def test_a_chain_without_an_owner_ends_with_the_removal_of_its_appliance() -> None:
    registered = ApplianceRegistered(
        A, 1, "https://a", "https://a", None, "", credentials_changed=True
    )
    kept = chained([registered])
    removed = chained([registered, ApplianceRemoved(A)])

    assert walked(removed, None).end() is None
    assert walked(kept, None).end() == Misfit(Wrong.NO_HEAD, kept[-1])
    assert walked(kept, head_of(kept)).end() is None


def test_a_walk_counts_on_behind_the_first_misfit_but_names_no_other() -> None:
    entries = chained([PairingStarted("w", number) for number in range(4)])
    stored = [entries[0], *entries[2:], replace(entries[3], seq=9)]
    walk = walked(stored, head_of(entries))

    assert walk.steps == 4
    assert walk.end() == walk.misfit == Misfit(Wrong.MISSING_BEFORE, entries[2])


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
        assert first_misfit([other]) == Misfit(Wrong.CHANGED, other)


def test_certificates_and_stack_traces_of_appliances_are_not_in_the_trail() -> None:
    error = {"code": "Forbidden", "stacktrace": "com.vmware.h4..."}
    record = {"id": "1", "peerTunnelCert": "MIID", "state": {"incomingCommError": error}}
    detail = detail_of(PeerFound(A, as_sent(record)))
    assert detail == {"result": {"id": "1", "state": {"incomingCommError": {"code": "Forbidden"}}}}
