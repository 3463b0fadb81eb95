"""What may pass for JSON in a request."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.faults import MOST, Fault, more
from service.api.strictjson import DEPTH, NotJson, parse

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(ANY_JSON)
def test_what_has_one_meaning_is_read_as_the_standard_library_reads_it(value: object) -> None:
    parsed = parse(json.dumps(value))

    assert parsed.value == value
    assert parsed.faults == ()


@given(st.text())
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    with suppress(NotJson):
        assert parse(text).faults == ()


def test_every_repeated_key_is_named_where_it_is() -> None:
    parsed = parse('{"a": 1, "b": [{"c/d": 1, "c/d": 2}], "a": 3}')

    assert parsed.faults == (
        Fault("comes more than once", "/b/0/c~1d"),
        Fault("comes more than once", "/a"),
    )


@pytest.mark.parametrize("fault", ['"a": 1', r'"b": "\ud800"'])
def test_of_very_many_faults_some_are_named_and_that_there_are_more(fault: str) -> None:
    faults = parse("{" + ", ".join([fault] * 5_000) + "}").faults
    assert len(faults) == MOST + 1
    assert faults[-1] == more()


def test_an_unpaired_surrogate_is_named_and_replaced_so_that_the_rest_can_be_judged() -> None:
    parsed = parse(r'{"a": ["\ud800", "\ud83d\ude00"], "\udc00": 1}')

    assert parsed.value == {"a": ["?", "😀"], "?": 1}
    assert [fault.pointer for fault in parsed.faults] == ["/a/0", ""]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(NotJson):
        parse(text)


def test_a_number_of_thousands_of_digits_is_refused_before_it_is_computed() -> None:
    with pytest.raises(NotJson, match="too large"):
        parse("9" * 60_000)


@pytest.mark.parametrize(("text", "whole"), [("4.0", 4), ("1e2", 100), ("-0.0", 0)])
def test_a_whole_number_is_an_int_however_it_is_spelt(text: str, whole: int) -> None:
    value = parse(text).value

    assert value == whole
    assert type(value) is int


def test_nesting_is_allowed_up_to_the_limit_and_no_deeper() -> None:
    assert parse("[" * DEPTH + "]" * DEPTH).faults == ()
    for depth in (DEPTH + 1, 500, 30_000):
        with pytest.raises(NotJson, match="deeper than 32"):
            parse("[" * depth + "]" * depth)


@pytest.mark.parametrize("text", ["", " ", "{", "{'a': 1}", '{"a": 1,}', '{"a": hunter2}', "[1] 2"])
def test_a_syntax_error_is_placed_but_nothing_is_repeated(text: str) -> None:
    with pytest.raises(NotJson, match=r"line \d+, column \d+") as caught:
        parse(text)

    assert "hunter2" not in str(caught.value)
