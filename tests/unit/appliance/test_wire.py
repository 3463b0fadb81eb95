"""Reading and writing H4's JSON."""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.appliance.wire import (
    MAX_ID,
    MAX_TEXT,
    MAX_VALUES,
    PeerList,
    Unreadable,
    error_of,
    login_body,
    pair_body,
    peer_of,
    poll_body,
    read_error,
    read_json,
    read_object,
    read_peers,
    read_task,
    read_task_page,
    task_of,
)
from service.domain.appliance import ApiError, Endpoint, read_sent
from service.domain.events import SidePaired, detail_of
from service.domain.ids import ApplianceName
from service.domain.registration import LocalUser, SsoUser
from service.domain.thumbprint import parse_thumbprint
from tests.unit.appliance.values import a_task_id, as_json, sample

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = """
    id state workflowInfo progress startTime endTime result error user site apiUrl apiPublicUrl
    apiThumbprint isLocal code msg args stacktrace items total
"""


def test_the_vendors_sample_answer_is_read_as_it_stands() -> None:
    task = read_task(sample("pair_sites_accepted.json"))
    assert task.id == "f61d60d2-698a-46dc-a266-88df27644956"
    assert task.state == "string"
    assert not task.is_over
    assert (task.start_time, task.end_time) == (1499929548951, 1499929558827)
    assert task.type is None
    assert task.error is not None
    assert (task.error.code, task.error.msg) == ("Forbidden", "Permission denied.")
    assert task.result is not None
    assert task.result.id == "5fd06dbd-ccab-4db8-9067-39575137028c"
    assert task.result.site == "site1-7z"
    assert task.result.api_public_url == "https://10.71.248.18:8048/"
    assert task.result.api_thumbprint is not None
    assert task.result.api_thumbprint.startswith("SHA-256:43:1D:24:8E")
    assert task.result.incoming_error is not None
    assert task.result.outgoing_error is not None
    assert task.result.outgoing_error.stacktrace is not None
    assert read_sent(task.result.sent)["apiVersion"] == "4.6"


def test_the_vendors_sample_error_is_read_as_it_stands() -> None:
    error = read_error(sample("api_error.json"))
    assert error is not None
    assert (error.code, error.msg, error.args) == ("Forbidden", "Permission denied.", ())


def test_what_we_post_is_what_the_vendor_shows() -> None:
    peer = Endpoint(
        ApplianceName("peer"),
        "https://10.71.248.18:8048/",
        parse_thumbprint(json.loads(sample("pair_sites_request.json"))["apiThumbprint"]),
    )
    body = json.loads(pair_body(peer, "some description"))
    assert body == json.loads(sample("pair_sites_request.json"))


def test_a_local_user_logs_in_as_the_appliances_own() -> None:
    assert json.loads(login_body(LocalUser("root", 'p"w'))) == {
        "type": "localUser",
        "localUser": "root",
        "localPassword": 'p"w',
    }


def test_an_sso_user_logs_in_by_username_and_password() -> None:
    assert json.loads(login_body(SsoUser("me@vsphere.local", "pw"))) == {
        "type": "ssoCredentials",
        "username": "me@vsphere.local",
        "password": "pw",
        "principal": None,
    }


def test_the_bulk_poll_asks_with_a_bare_array() -> None:
    assert json.loads(poll_body([a_task_id(1), a_task_id(2)])) == [a_task_id(1), a_task_id(2)]


def test_a_task_needs_nothing_but_its_id() -> None:
    task = read_task(b'{"id": "x"}')
    assert (task.state, task.result, task.error) == ("UNKNOWN", None, None)
    assert not task.is_over


@pytest.mark.parametrize("depth", [400, 600, 900, 1100, 100_000])
@pytest.mark.parametrize("leaf", [b"1", b'"\\u0000"'])
def test_what_is_nested_too_deeply_is_read_or_cannot_be_read(depth: int, leaf: bytes) -> None:
    """Nothing else: whoever reads an answer expects no other error of it."""
    body = b'{"id": "x", "code": "C", "more": ' + b"[" * depth + leaf + b"]" * depth + b"}"
    with suppress(Unreadable):
        read_task(body)
    read_error(body)


@pytest.mark.parametrize("body", [b"{}", b'{"id": null}', b'{"id": ""}', b"[]", b'"x"', b"", b"{"])
def test_a_task_without_an_id_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_task(body)


def test_times_of_minus_one_mean_not_yet() -> None:
    task = read_task(b'{"id": "x", "endTime": -1, "startTime": 5, "lastUpdated": -1}')
    assert (task.start_time, task.end_time) == (5, None)


def test_times_of_more_than_64_bits_are_none() -> None:
    task = read_task(
        b'{"id": "x", "startTime": 9223372036854775807, "endTime": 1%s}' % (b"0" * 400)
    )
    assert (task.start_time, task.end_time) == (2**63 - 1, None)


@pytest.mark.parametrize("word", ["QUEUED", "RUNNING", "PAUSED", "succeeded", "CANCELED"])
def test_only_two_words_end_a_task(word: str) -> None:
    assert not read_task(as_json({"id": "x", "state": word})).is_over


def test_peers_come_as_a_bare_array() -> None:
    peers = read_peers(b'[{"id": "1", "isLocal": true}, {"id": "2", "unheardOf": {"a": [1]}}]')
    assert [(peer.id, peer.is_local) for peer in peers] == [("1", True), ("2", False)]


def test_peers_in_a_page_are_read_too() -> None:
    assert len(read_peers(b'{"items": [{"id": "1"}], "total": 1}')) == 1


@pytest.mark.parametrize(
    "body", [b"{}", b'[{"id": "1"}, 7]', b'{"items": [{"id": "1"}], "total": 2}', b"<html>", b""]
)
def test_a_list_of_peers_that_may_lack_one_is_not_believed(body: bytes) -> None:
    """An absent peer may be paired again, so absence has to be certain."""
    with pytest.raises(Unreadable):
        read_peers(body)


def test_no_comm_errors_are_no_errors() -> None:
    peer = peer_of({"state": {"incomingCommError": None, "outgoingCommError": None}})
    assert peer is not None
    assert (peer.incoming_error, peer.outgoing_error) == (None, None)


@pytest.mark.parametrize("strange", [{}, "refused", {"text": "no"}, True, 7, []])
def test_a_comm_error_of_unknown_shape_is_an_error_still(strange: object) -> None:
    peer = peer_of({"state": {"incomingCommError": strange}})
    assert peer is not None
    assert peer.incoming_error is not None
    assert peer.outgoing_error is None


def test_a_state_that_is_no_object_is_an_error() -> None:
    peer = peer_of({"state": "BROKEN"})
    assert peer is not None
    assert peer.outgoing_error == ApiError("UnknownError", "BROKEN")


def test_arguments_keep_their_positions() -> None:
    error = error_of({"code": "C", "msg": "m", "args": ["a", None, 3]})
    assert error == ApiError("C", "m", ("a", "", "3"))


def test_endless_texts_are_cut() -> None:
    error = error_of({"code": "c" * 999, "msg": "m" * 99_999, "stacktrace": "s" * 99_999})
    assert error is not None
    assert len(error.code) == 200
    assert len(error.msg) == 4_000
    assert error.stacktrace is not None
    assert len(error.stacktrace) == 32_000


def test_a_body_without_a_code_is_no_error_of_the_appliances() -> None:
    assert read_error(b'{"status": 404, "error": "Not Found"}') is None
    assert read_error(b"<html>") is None
    assert read_error(b"[1]") is None


def test_a_page_of_tasks_counts_rows_that_have_no_id() -> None:
    page = read_task_page(b'{"items": [{"id": "1"}, {"state": "RUNNING"}, 3], "total": 40}')
    assert ([task.id for task in page.tasks], page.count, page.total) == (["1"], 3, 40)


def test_a_bare_list_of_tasks_is_a_page_of_unknown_total() -> None:
    page = read_task_page(b'[{"id": "1"}]')
    assert (page.count, page.total) == (1, None)


def test_characters_that_the_database_refuses_are_replaced() -> None:
    peer = peer_of(read_json(b'{"site": "a\\u0000b", "list": ["\\u0000"], "k\\u0000": 1}'))
    assert peer is not None
    assert peer.site == "a\ufffdb"
    assert read_sent(peer.sent) == {"site": "a\ufffdb", "list": ["\ufffd"], "k\ufffd": 1}


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'"\xff"', b'"\\ud800"', b"NaN", b"1e999", b"{}x"]
)
def test_nothing_that_is_not_json_gets_through(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_json(body)


def test_what_is_unreadable_is_not_quoted() -> None:
    with pytest.raises(Unreadable) as caught:
        read_object(b'"a secret"')
    assert "secret" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS.split()), JSON))
def test_no_object_breaks_a_reading(value: dict[str, object]) -> None:
    """Whatever the fields hold, they are read or left out."""
    error_of(value)
    peer_of(value)
    task = task_of(value)
    assert (task is None) or task.id


@pytest.mark.parametrize("value", [b"0", b"{}", b"[]", b'{"id":"1"}'])
def test_an_answer_of_too_many_small_values_is_not_taken_apart(value: bytes) -> None:
    many = b",".join([value] * (MAX_VALUES + 1))
    for read in (read_peers, read_task_page, PeerList(lambda: 0.0).read):
        with pytest.raises(Unreadable, match="more than"):
            read(b"[" + many + b"]")
    assert read_error(b'{"code": "Full", "args": [' + many + b"]}") is None


def test_a_list_of_all_the_peers_that_a_hub_may_have_is_read() -> None:
    row = as_json(json.loads(sample("pair_sites_accepted.json"))["result"])
    body = b"[" + b",".join([row] * 20_000) + b"]"
    assert len(PeerList(lambda: 0.0).read(body)) == 20_000


@pytest.mark.parametrize(
    "more",
    [b'"' + b"x" * 100_000 + b'"', b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b"1" + b"}" * 500],
    ids=["long", "deep list", "deep object"],
)
def test_words_about_a_peer_that_are_long_or_deep_are_kept_in_short(more: bytes) -> None:
    known = b'"id": "1", "site": "a", "apiUrl": "https://a.test", "apiThumbprint": "SHA-256:00"'
    row = b"{" + known + b', "more": ' + more + b"}"
    task = read_task(b'{"id": "7", "result": ' + row + b"}")
    assert task.result is not None
    peers = PeerList(lambda: 0.0)
    for peer in (task.result, *peers.read(b"[" + row + b"]"), *peers.read(b"[" + row + b"]")):
        assert peer.id == "1"
        assert read_sent(peer.sent) == json.loads(b"{" + known + b"}")
        detail_of(SidePaired(ApplianceName("a"), peer.sent))


def test_numbers_in_place_of_texts_are_spelt_out() -> None:
    task = read_task(b'{"id": 7, "state": "FAILED", "error": {"code": 12, "msg": 1.5}}')
    assert task.id == "7"
    assert task.error == ApiError("12", "1.5")
    with pytest.raises(Unreadable, match="no id"):
        read_task(b'{"id": true}')


def test_what_is_longer_than_any_id_is_none() -> None:
    long = "7" * (MAX_ID + 1)
    with pytest.raises(Unreadable, match="no id"):
        read_task(as_json({"id": long}))
    (peer,) = read_peers(as_json([{"id": long, "apiUrl": "https://a.test/" + "a" * 10_000}]))
    assert peer.id is None
    assert len(peer.api_url or "") == MAX_TEXT
