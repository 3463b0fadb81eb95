"""Answers read from bytes, good ones and bad ones."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.appliance.answer import MAX_HEAD, MAX_HEADERS, AnswerReader
from service.appliance.exchange import Answer, Failure, FailureKind, Outcome

LIMIT = 50_000
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"content-length: 0\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def reader() -> AnswerReader:
    """A reader that waits for an answer."""
    return AnswerReader(LIMIT)


def read(*data: bytes) -> Outcome | None:
    """What comes of these pieces."""
    reading = reader()
    outcome = None
    for piece in data:
        assert outcome is None
        outcome = reading.feed(piece)
    return outcome


def kind_of(outcome: Outcome | None) -> FailureKind:
    """How it failed."""
    assert isinstance(outcome, Failure)
    return outcome.kind


def test_an_answer_is_read_to_its_end() -> None:
    reading = reader()
    assert reading.feed(OK + b"Content-Length: 4\r\nX-A:  1 \r\nx-a: 2\r\n\r\nab") is None
    assert not reading.is_keepable
    headers = {"content-length": "4", "x-a": "1, 2"}
    assert reading.feed(b"cd") == Answer(200, headers, b"abcd")
    assert reading.is_keepable


def test_header_values_are_bytes_that_come_back_as_they_were() -> None:
    outcome = read(OK + b"x-vcav-auth: \xc3\xa9\xff\r\ncontent-length: 0\r\n\r\n")
    assert isinstance(outcome, Answer)
    assert outcome.headers["x-vcav-auth"].encode("latin-1") == b"\xc3\xa9\xff"


WHOLE = [
    (EMPTY, b""),
    (OK + b"content-length: 3\r\n\r\nabc", b"abc"),
    (CHUNKED + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: z\r\n\r\n", b"abcde"),
    (b"HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b""),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nlink: y\r\n\r\n" + EMPTY, b""),
    (OK + b"upgrade: h2\r\nconnection: upgrade\r\ncontent-length: 1\r\n\r\na", b"a"),
]


@pytest.mark.parametrize(("data", "body"), WHOLE)
def test_whole_answers_may_be_followed_by_others(data: bytes, body: bytes) -> None:
    reading = reader()
    for _ in range(3):
        reading.begin()
        outcome = reading.feed(data)
        assert isinstance(outcome, Answer)
        assert outcome.body == body
        assert "x-trailer" not in outcome.headers
        assert "link" not in outcome.headers
        assert reading.is_keepable


@given(st.sampled_from(WHOLE), st.data())
def test_it_does_not_matter_in_which_pieces_an_answer_comes(
    case: tuple[bytes, bytes], data: st.DataObject
) -> None:
    whole, _ = case
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    pieces = [whole[i:j] for i, j in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*pieces) == read(whole)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"connection: close\r\ncontent-length: 1\r\n\r\na",
        OK + b"connection: x, Close\r\ncontent-length: 1\r\n\r\na",
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na",
    ],
)
def test_after_some_answers_the_connection_is_over(data: bytes) -> None:
    reading = reader()
    outcome = reading.feed(data)
    assert isinstance(outcome, Answer)
    assert outcome.body == b"a"
    assert not reading.is_keepable


def test_some_answers_end_with_the_connection() -> None:
    reading = reader()
    assert reading.feed(OK + b"x: y\r\n\r\nab") is None
    assert reading.feed(b"cd") is None
    assert reading.end() == Answer(200, {"x": "y"}, b"abcd")
    assert not reading.is_keepable


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 20",
        OK + b"x: y\r\n",
        OK + b"content-length: 3\r\n\r\nab",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_others_are_cut_when_it_ends(data: bytes) -> None:
    reading = reader()
    assert reading.feed(data) is None
    assert kind_of(reading.end()) is FailureKind.CUT


@pytest.mark.parametrize("surplus", [EMPTY, b"H", b"x", b"\x00", b"HTTP/1.1 100 C\r\n\r\n"])
@pytest.mark.parametrize("closing", [b"", b"connection: close\r\n"])
def test_what_follows_an_answer_at_once_ends_the_connection_and_is_not_read(
    surplus: bytes, closing: bytes
) -> None:
    reading = reader()
    outcome = reading.feed(OK + closing + b"content-length: 2\r\n\r\nab" + surplus)
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body) == (200, b"ab")
    assert not reading.is_keepable


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/3.7 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 99999999999999999999999\r\n\r\n",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked, identity\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"2\r\nabc\r\n",
        OK + b"x: a\r\n folded\r\n\r\n",
        OK + b"x: a\nb: c\r\n\r\n",
        OK + b"x: a\rb: c\r\n\r\n",
        OK + b"x : a\r\n\r\n",
        OK + b"x: \x00\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_garbled(data: bytes) -> None:
    reading = reader()
    assert kind_of(reading.feed(data)) is FailureKind.GARBLED
    assert not reading.is_keepable


def test_a_connection_that_changes_its_protocol_is_told_of() -> None:
    outcome = read(b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc")
    assert outcome == Failure(FailureKind.GARBLED, "status 101")


def test_a_head_has_its_limits() -> None:
    line = b"x: " + b"y" * (MAX_HEAD // 2)
    assert isinstance(read(OK + line + b"\r\ncontent-length: 0\r\n\r\n"), Answer)
    bombs = [
        OK + b"x: " + b"y" * MAX_HEAD + b"\r\n\r\n",
        OK + (line + b"\r\n") * 2 + b"\r\n",
        OK + b"x: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"HTTP/1.1 200 " + b"O" * MAX_HEAD,
        OK + b"x" * MAX_HEAD,
        OK + b"x: " + b"y" * MAX_HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ]
    for bomb in bombs:
        assert kind_of(reader().feed(bomb)) is FailureKind.GARBLED


def endless(start: bytes, more: bytes) -> FailureKind:
    """How `start` ends, with no end of `more`."""
    reading = reader()
    outcome = reading.feed(start)
    for _ in range(10 * LIMIT // len(more)):
        if outcome is not None:
            return kind_of(outcome)
        outcome = reading.feed(more)
    raise AssertionError


@pytest.mark.parametrize(
    ("start", "more", "kind"),
    [
        (OK, b"x: y\r\n", FailureKind.GARBLED),
        (OK + b"x: ", b"y" * 100, FailureKind.GARBLED),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", FailureKind.GARBLED),
        (OK + b"\r\n", b"y" * 100, FailureKind.TOO_LARGE),
        (CHUNKED, b"2\r\nab\r\n", FailureKind.TOO_LARGE),
        (CHUNKED + b"1;", b"x" * 100, FailureKind.TOO_LARGE),
        (CHUNKED + b"0\r\nx: ", b"y" * 100, FailureKind.TOO_LARGE),
        (CHUNKED + b"0\r\n", b"x: y\r\n", FailureKind.TOO_LARGE),
    ],
)
def test_nothing_goes_on_for_ever(start: bytes, more: bytes, kind: FailureKind) -> None:
    assert endless(start, more) is kind


def test_a_body_has_its_limit_to_the_byte() -> None:
    def sized(size: int) -> bytes:
        return OK + b"content-length: %d\r\n\r\n" % size + b"x" * size

    outcome = read(sized(LIMIT))
    assert isinstance(outcome, Answer)
    assert len(outcome.body) == LIMIT
    assert kind_of(read(sized(LIMIT + 1))) is FailureKind.TOO_LARGE


@pytest.mark.parametrize("coding", [b"identity", b" Identity ", b""])
def test_a_plain_body_may_say_that_it_is_plain(coding: bytes) -> None:
    data = OK + b"content-encoding: " + coding + b"\r\ncontent-length: 1\r\n\r\na"
    assert isinstance(read(data), Answer)


@pytest.mark.parametrize("status", [404, 500, 301])
@pytest.mark.parametrize(
    "rest",
    [
        b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\n",
        b"transfer-encoding: gzip\r\n\r\n",
        b"content-length: 60000\r\n\r\n" + b"x" * 60_000,
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_bad_status_says_enough_without_its_body(status: int, rest: bytes) -> None:
    reading = reader()
    outcome = reading.feed(b"HTTP/1.1 %d X\r\n" % status + rest)
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body) == (status, b"")
    assert not reading.is_keepable
    assert isinstance(reader().feed(OK + rest), Failure)


def test_an_encoded_body_is_not_looked_at() -> None:
    assert kind_of(read(OK + b"content-encoding: gzip\r\n\r\n")) is FailureKind.ENCODED


def test_a_connection_that_rests_holds_nothing_of_what_it_brought() -> None:
    reading = AnswerReader(10_000_000)
    outcome = reading.feed(OK + b"content-length: 5000000\r\n\r\n")
    piece = bytes(50_000)
    tracemalloc.start()
    try:
        for _ in range(100):
            outcome = reading.feed(piece)
        assert isinstance(outcome, Answer)
        del outcome
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
