"""Cursors: only what was made here, for these filters, is taken."""

import string
from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.api.paging import Cursors, ForeignCursor
from service.domain.ids import ApplianceName, PairingId
from service.domain.pairing import PairingState
from service.store.audit import Place
from service.store.pairings import PairingFilter

CURSORS = Cursors([b"k" * 32])
LAST = PairingId(UUID("019a3f5e-7c1d-7a52-9a55-3c0d7e6f2b10"))
FILTERS = PairingFilter(state=PairingState.FAILED)


@given(st.uuids())
def test_a_cursor_leads_back_to_its_place(last: UUID) -> None:
    cursor = CURSORS.after(PairingId(last), FILTERS)

    assert CURSORS.position(cursor, FILTERS) == last


@given(st.data())
def test_a_cursor_with_any_other_character_is_refused(data: st.DataObject) -> None:
    cursor = CURSORS.after(LAST, FILTERS)
    at = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_"))
    assume(cursor[at] != other)

    with pytest.raises(ForeignCursor):
        CURSORS.position(cursor[:at] + other + cursor[at + 1 :], FILTERS)


@given(st.text(string.ascii_letters + string.digits + "-_"))
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.position(cursor, FILTERS)


@pytest.mark.parametrize(
    "filters",
    [
        PairingFilter(),
        PairingFilter(state=PairingState.RUNNING),
        PairingFilter(state=PairingState.FAILED, appliance=ApplianceName("a")),
    ],
)
def test_a_cursor_of_other_filters_is_refused(filters: PairingFilter) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.position(CURSORS.after(LAST, FILTERS), filters)


def test_a_cursor_of_another_service_is_refused() -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.position(Cursors([b"other"]).after(LAST, FILTERS), FILTERS)


def test_a_cursor_stays_good_while_its_key_is_there_and_new_ones_are_of_the_newest() -> None:
    rotated = Cursors([b"new", *CURSORS.keys])
    assert rotated.position(CURSORS.after(LAST, FILTERS), FILTERS) == LAST
    place = Place(3, UUID(int=1), 1)
    assert rotated.place(CURSORS.event_id(place)) == place
    assert Cursors([b"new"]).place(rotated.event_id(place)) == place


@pytest.mark.parametrize("shorter", [1, 2, 5, 22])
def test_a_cursor_that_was_cut_off_is_refused(shorter: int) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.position(CURSORS.after(LAST, FILTERS)[:-shorter], FILTERS)


PLACES = st.builds(
    Place,
    xid=st.integers(0, 2**64 - 1),
    chain=st.uuids(),
    seq=st.integers(0, 2**63 - 1),
)


@given(PLACES)
def test_the_id_of_an_event_leads_back_to_its_place(place: Place) -> None:
    event_id = CURSORS.event_id(place)

    assert CURSORS.place(event_id) == place
    assert len(event_id) <= 100


@given(PLACES, st.data())
def test_an_event_id_with_any_other_character_is_refused(place: Place, data: st.DataObject) -> None:
    event_id = CURSORS.event_id(place)
    at = data.draw(st.integers(0, len(event_id) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_"))
    assume(event_id[at] != other)

    with pytest.raises(ForeignCursor):
        CURSORS.place(event_id[:at] + other + event_id[at + 1 :])


@given(st.text(string.ascii_letters + string.digits + "-_"))
def test_a_made_up_event_id_is_refused(event_id: str) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.place(event_id)


@given(st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True))
def test_a_cursor_leads_back_to_its_appliance(name: str) -> None:
    cursor = CURSORS.after_appliance(ApplianceName(name))

    assert CURSORS.appliance(cursor) == name
    assert len(cursor) <= 200


def test_each_list_takes_its_own_cursors_alone() -> None:
    takers: list[tuple[str, Callable[[str], object]]] = [
        (CURSORS.after(LAST, FILTERS), lambda cursor: CURSORS.position(cursor, FILTERS)),
        (CURSORS.event_id(Place(1, LAST, 1)), CURSORS.place),
        (CURSORS.after_appliance(ApplianceName("a" * 16)), CURSORS.appliance),
    ]
    for mine, _ in takers:
        for other, take in takers:
            if other != mine:
                with pytest.raises(ForeignCursor):
                    take(mine)
