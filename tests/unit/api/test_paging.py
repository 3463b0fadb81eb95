"""Cursors: only what was made here, for these filters, is taken."""

import string
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.api.paging import Cursors, ForeignCursor
from service.domain.ids import ApplianceName, PairingId
from service.domain.pairing import PairingState
from service.store.pairings import PairingFilter

CURSORS = Cursors(b"k" * 32)
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
        CURSORS.position(Cursors(b"other").after(LAST, FILTERS), FILTERS)


@pytest.mark.parametrize("shorter", [1, 2, 5, 22])
def test_a_cursor_that_was_cut_off_is_refused(shorter: int) -> None:
    with pytest.raises(ForeignCursor):
        CURSORS.position(CURSORS.after(LAST, FILTERS)[:-shorter], FILTERS)
