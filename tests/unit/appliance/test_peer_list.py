"""A list of peers that is read again and again says what one that is read once says."""

import tracemalloc
from collections.abc import Sequence
from math import inf
from weakref import ref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.appliance.wire import PeerList, Unreadable, read_peers
from service.domain.appliance import Peer, read_sent
from tests.unit.appliance.test_wire import FIELDS, JSON
from tests.unit.appliance.values import as_json

BODIES = st.binary(max_size=40) | st.lists(
    JSON | st.dictionaries(st.sampled_from(FIELDS.split()), JSON, max_size=5), max_size=5
).map(as_json)
STRANGE = [
    b'[{"id": "1"}, 7]',
    b'{"items": [{"id": "1"}], "total": 2}',
    b'{"items": [{"id": "1"}], "total": 1}',
    b"<html>",
    b"",
    b"[" * 100_000,
    b'[{"site": "\xff"}]',
    b'[{"site": "\\ud800"}]',
    b'[{"site": "a\\u0000b"}]',
    b'[{"id": NaN}]',
    b'[{"id": "1"},]',
    b"[]",
    b" [ {} , {} ] ",
]


GOES_ON = [
    b"]",
    b" ]\n",
    b',{"id":"3"}]',
    b',{"id":"3"},{"id":"1"}]',
    b' , {"id": "3"} ]',
    b',{"id":"a\\u0000b"}]',
    b',{"id":"3"}],{}]',
    b",]",
    b"]]",
    b",7]",
    b"7]",
    b"x",
    b",",
    b"",
    b'{"id":"3"}]',
    b'5,{"id":"3"}]',
]
"""What may follow on rows that are known."""


def told(peers: Sequence[Peer]) -> list[tuple[Peer, object]]:
    """All that is known of them; not in which spelling it is kept."""
    return [(replace(peer, sent=b""), read_sent(peer.sent)) for peer in peers]


def agrees(peers: PeerList, body: bytes) -> None:
    """See that `peers` reads `body` as whoever reads it for the first time does."""
    try:
        expected = told(read_peers(body))
    except Unreadable:
        with pytest.raises(Unreadable):
            peers.read(body)
    else:
        assert told(peers.read(body)) == expected


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(BODIES, max_size=4))
def test_each_answer_is_read_as_if_it_were_the_first(bodies: list[bytes]) -> None:
    peers = PeerList(lambda: 0.0)
    for body in [*bodies, *bodies]:
        agrees(peers, body)


@pytest.mark.parametrize("body", STRANGE)
def test_strange_answers_too(body: bytes) -> None:
    peers = PeerList(lambda: 0.0)
    agrees(peers, b'[{"id": "1"}, {"id": "2"}]')
    agrees(peers, body)
    agrees(peers, b'[{"id": "1"}]')


@pytest.mark.parametrize("rest", GOES_ON)
@pytest.mark.parametrize("between", [b",", b" ,", b", ", b";", b""])
@pytest.mark.parametrize("known", [b"", b'{"id":"1"}', b'{"id":"1"}%s{"id":"2"}'])
def test_an_answer_that_begins_like_the_one_before(
    known: bytes, between: bytes, rest: bytes
) -> None:
    peers = PeerList(lambda: 0.0)
    agrees(peers, b"[" + known.replace(b"%s", b",") + b"]")
    agrees(peers, b"[" + known.replace(b"%s", between) + rest)
    agrees(peers, b"[" + known.replace(b"%s", b",") + b"]")


def test_a_row_that_was_there_before_is_not_read_again_and_one_that_is_gone_not_kept() -> None:
    peers = PeerList(lambda: 0.0)
    stays, goes = map(ref, peers.read(b'[{"id": "1"}, {"id": "2"}]'))
    (again,) = peers.read(b'[{"id": "1"}]')
    assert again is stays()
    assert goes() is None


def test_a_row_that_two_appliances_send_is_held_once() -> None:
    lists = [PeerList(lambda: 0.0) for _ in range(2)]
    (here,), (there,) = (each.read(b'[{"id": "1"}]') for each in lists)
    assert here is there


def test_it_is_known_since_when_an_id_is_listed_whatever_else_its_row_says() -> None:
    times = iter(range(1, 9))
    peers = PeerList(lambda: float(next(times)))
    assert peers.since("1") == inf
    peers.read(b'[{"id": "1"}]')
    peers.read(b'[{"id": "1"}, {"id": "2"}]')
    peers.read(b'[{"id": "1", "site": "anew"}, {"id": "2"}]')
    assert (peers.since("1"), peers.since("2")) == (1.0, 2.0)
    peers.read(b'[{"id": "2"}]')
    peers.read(b'[{"id": "2"}, {"id": "1"}]')
    assert (peers.since("1"), peers.since("2")) == (5.0, 2.0)
    peers.read(b'{"items": [{"id": "2"}, {"id": "3"}]}')  # As a page, which counts as well.
    assert (peers.since("1"), peers.since("2"), peers.since("3")) == (inf, 2.0, 6.0)
    with pytest.raises(Unreadable):
        peers.read(b"<html>")
    peers.read(b'[{"id":"2"}, {"id": "1"}]')
    assert (peers.since("1"), peers.since("2"), peers.since("3")) == (7.0, 2.0, inf)


def test_a_row_is_held_once_however_often_it_is_read() -> None:
    bodies = [as_json([{"id": str(each), "site": "x" * 9_000} for each in range(50)])] * 4
    peers = PeerList(lambda: 0.0)
    tracemalloc.start()
    try:
        for body in bodies:
            peers.read(body)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.1 * 50 * 9_000 * 2  # The row, and the site's name in it.


def test_a_row_whose_state_has_changed_is_another_one() -> None:
    peers = PeerList(lambda: 0.0)
    (before,) = peers.read(b'[{"id": "1", "state": {"outgoingCommError": {"code": "Down"}}}]')
    (after,) = peers.read(b'[{"id": "1", "state": {"outgoingCommError": null}}]')
    assert before.outgoing_error is not None
    assert after.outgoing_error is None
