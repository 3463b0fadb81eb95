"""Names, thumbprints, and how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.backoff import backoff_s
from service.domain.ids import is_appliance_name, is_operation_id
from service.domain.thumbprint import parse_thumbprint, same_thumbprint, thumbprint_of


@given(st.binary())
def test_a_thumbprint_is_read_back_whatever_its_case(der: bytes) -> None:
    thumbprint = thumbprint_of(der)
    assert parse_thumbprint(thumbprint.lower()) == thumbprint
    assert same_thumbprint(thumbprint.lower(), thumbprint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SHA-256:",
        "SHA-1:" + ":".join(["AA"] * 20),
        "SHA-256:" + ":".join(["AA"] * 31),
        "SHA-256:" + ":".join(["AA"] * 33),
        "SHA-256:" + ":".join(["GG"] * 32),
        ":".join(["AA"] * 32),
    ],
)
def test_what_is_no_thumbprint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        parse_thumbprint(text)


def test_a_missing_thumbprint_equals_nothing() -> None:
    assert not same_thumbprint(None, None)
    assert not same_thumbprint("", thumbprint_of(b""))


@pytest.mark.parametrize("name", ["a", "site-1", "0", "-", "a" * 63])
def test_names_of_appliances(name: str) -> None:
    assert is_appliance_name(name)


@pytest.mark.parametrize("name", ["", "A", "a" * 64, "a.b", "a/b", "a\n", "ä", "a b"])
def test_names_that_no_appliance_may_have(name: str) -> None:
    assert not is_appliance_name(name)


@pytest.mark.parametrize("text", ["a", "UI-1_2.3:4", "x" * 64])
def test_operation_ids(text: str) -> None:
    assert is_operation_id(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a\n", "a b", "a,b", "é", "a\r\nX: y"])
def test_what_may_not_travel_as_an_operation_id(text: str) -> None:
    assert not is_operation_id(text)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_up_to_the_cap_and_never_vanish(attempt: int, jitter: float) -> None:
    pause = backoff_s(attempt, jitter, base_s=0.25, cap_s=30)
    assert 0.125 <= pause <= 30
    assert backoff_s(attempt + 1, jitter) >= backoff_s(attempt, jitter)
