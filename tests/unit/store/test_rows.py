"""Values as rows."""

import json
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from service.store.rows import to_json, to_text, to_time

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)


@given(ANY_JSON)
def test_json_comes_back_as_it_was_and_is_pure_ascii(value: object) -> None:
    written = to_json(value)
    assert written.isascii()
    assert json.loads(written) == value


@given(st.text(st.characters()))
@example("\0")
@example("half a pair: \ud83d")
def test_text_is_never_what_postgresql_refuses(text: str) -> None:
    written = to_text(text)
    assert "\0" not in written
    assert written.encode().decode() == written


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_text_that_is_fine_stays_as_it_is(text: str) -> None:
    assert to_text(text) == text


@given(st.integers(0, 4_102_444_800_000))
def test_times_are_exact_to_the_millisecond(ms: int) -> None:
    whole, rest = divmod(ms, 1000)
    assert to_time(ms) == datetime.fromtimestamp(whole, UTC).replace(microsecond=rest * 1000)
