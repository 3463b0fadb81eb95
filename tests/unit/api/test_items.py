"""Items of batches: what is quickly seen to be right is what is thoroughly found to be so."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.api.items import Judge
from service.domain.pairing import OnFailure, Operation
from service.store.bulk import Unacceptable
from service.store.intake import PairingRequest
from tests.unit.api.asking import CONTRACT

JUDGE = Judge(CONTRACT.pairing_request)

names = st.sampled_from(["a", "b", "site-1", "A", "", "ä", "x" * 63, "x" * 64, "a:b", "a\\b"])
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-101, 101),
    st.integers(86399, 86401),
    st.floats(allow_nan=True),
    st.text(max_size=5),
    st.text(':\\"\0x', min_size=1, max_size=3),
    st.just("x" * 1024),
    st.just("ž" * 1025),
    st.sampled_from(["pair", "repair", "unpair", "keep", "rollback"]),
    st.lists(names, max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
fields = st.sampled_from(
    ["appliances", "operation", "onFailure", "description", "timeoutSeconds", "priority", "x", ":"]
)
pairs = st.lists(
    st.one_of(
        st.tuples(st.just("appliances"), st.lists(names, min_size=2, max_size=2)),
        st.tuples(st.just("operation"), st.sampled_from(["pair", "unpair"])),
        st.tuples(st.just("description"), st.text(max_size=5)),
        st.tuples(st.just("priority"), st.integers(-100, 100)),
        st.tuples(fields, values),
    ),
    max_size=6,
)


def spelt(members: list[tuple[str, Any]], *, ascii_only: bool) -> bytes:
    """An object, names twice if they are."""
    inside = ",".join(
        f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in members
    )
    return f"{{{inside}}}".encode(errors="surrogatepass")


@given(members=pairs, ascii_only=st.booleans())
@example(members=[("appliances", ["a", "b"]), ("priority", 5), ("priority", 6)], ascii_only=True)
@example(members=[("appliances", ["a", "b"]), ("description", "x: y")], ascii_only=True)
@example(members=[("appliances", ["a", "b"]), ("description", "\0")], ascii_only=True)
@example(members=[("appliances", ["a", "b"]), ("description", "\ud800")], ascii_only=True)
@example(members=[("appliances", ["a", "b"]), ("timeoutSeconds", 60.0)], ascii_only=True)
@example(members=[("appliances", ["a", "a"])], ascii_only=True)
def test_both_ways_say_the_same(members: list[tuple[str, Any]], ascii_only: bool) -> None:
    text = spelt(members, ascii_only=ascii_only)
    assert JUDGE.judge(text) == JUDGE.thoroughly(text)


@given(st.binary(max_size=40))
@example(b'\xef\xbb\xbf{"appliances":["a","b"]}')
@example(b'{"appliances":["a","b"],"description":"\xff"}')
@example(b"[" * 10_000)
def test_whatever_comes_is_judged(text: bytes) -> None:
    assert JUDGE.judge(text) == JUDGE.thoroughly(text)


def test_most_items_are_seen_quickly_to_be_right() -> None:
    text = spelt(
        [
            ("appliances", ["a", "b"]),
            ("operation", "repair"),
            ("onFailure", "keep"),
            ("description", "ž"),
            ("timeoutSeconds", 1),
            ("priority", -100),
        ],
        ascii_only=False,
    )
    plain = b' {"appliances" : ["a", "b"]} \r'
    assert JUDGE._quickly(text) == JUDGE.thoroughly(text)
    assert JUDGE._quickly(plain) == JUDGE.thoroughly(plain)
    request = JUDGE.judge(text)
    assert isinstance(request, PairingRequest)
    assert request.operation is Operation.REPAIR
    assert request.on_failure is OnFailure.KEEP


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        (b"{", "MalformedBody", "The item is not JSON"),
        (b'{"appliances":[\r\n', "MalformedBody", "(line 1, column 16)"),
        (b"\xff", "MalformedBody", "The item is not UTF-8: byte 0."),
        (b"{}", "InvalidBody", "/appliances: is required"),
        (b'{"appliances":["a","b"],"%s":1}' % (b"x" * 600), "InvalidBody", "is not a known field"),
    ],
)
def test_what_is_wrong_is_told(text: bytes, code: str, detail: str) -> None:
    told = JUDGE.judge(text)
    assert isinstance(told, Unacceptable)
    assert told.code == code
    assert detail in told.detail


def test_not_more_is_told_than_one_can_read() -> None:
    many = spelt([(f"unknown-{number}", 1) for number in range(200)], ascii_only=True)
    told = JUDGE.judge(many)
    assert isinstance(told, Unacceptable)
    assert len(told.detail) == 200
