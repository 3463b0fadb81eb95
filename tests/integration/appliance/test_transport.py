"""What goes over the wire, seen by a server that counts: nothing twice, nothing unasked for."""

import asyncio
import json
import uuid
from dataclasses import replace

import pytest

from service.appliance.client import ApplianceClient
from service.appliance.exchange import Answer, Request, granted
from service.appliance.http import HttpsChannel
from service.appliance.limits import CallTimeouts, Limits
from service.domain.appliance import Endpoint
from service.domain.errors import Ambiguous, NotSent, Rejected
from service.domain.ids import ApplianceName
from service.domain.pairing import SiteCall
from service.domain.thumbprint import thumbprint_of
from tests.integration.appliance.raw_server import (
    LOGIN,
    Arrival,
    accepted,
    raw_server,
    response,
)
from tests.integration.appliance.rigs import QUICK, client_of, until

PEER = Endpoint(ApplianceName("b"), "https://b.example.test:8048/", thumbprint_of(b"b"))
MUTATING = [("POST", b"{}"), ("PUT", b"{}"), ("DELETE", None)]


async def hang_up_on_reuse(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
    """Answers the first two requests of a connection, then reads the third and hangs up."""
    if arrival.nth <= 2:
        writer.write(response())
    else:
        writer.transport.abort()


def open_connections(client: ApplianceClient) -> int:
    """Kept connections that the client takes for open."""
    assert isinstance(client._channel, HttpsChannel)
    return sum(each.is_open for each in client._channel._pool._idle)


@pytest.mark.parametrize(("method", "body"), MUTATING)
async def test_a_mutating_call_is_sent_once_when_a_kept_connection_drops_under_it(
    method: str, body: bytes | None
) -> None:
    async with raw_server(hang_up_on_reuse) as server, client_of(server.spec()) as client:
        await client.about()
        with pytest.raises(Ambiguous) as caught:
            await client.ask(Request(method, "/sites/1", body=body, mutating=True))
        assert caught.value.error.code == "ConnectionLost"
        assert server.count(method, "/sites/1") == 1
        assert server.connections == 1


async def test_a_call_that_only_looks_is_sent_once_more_and_no_oftener() -> None:
    async with raw_server(hang_up_on_reuse) as server, client_of(server.spec()) as client:
        await client.about()
        assert (await client.ask(Request("GET", "/sites"))).status == 200
        assert server.count("GET", "/sites") == 2

    async def always_hang_up(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with raw_server(always_hang_up) as server, client_of(server.spec()) as client:
        with pytest.raises(NotSent):
            await client.peers()
        assert server.count("GET", "/sites") == 2


@pytest.mark.parametrize(("method", "body"), MUTATING)
async def test_a_connection_that_the_appliance_closed_while_idle_is_not_used(
    method: str, body: bytes | None
) -> None:
    closed = asyncio.Event()

    async def close_after_two(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response())
        if arrival.nth == 2:
            await writer.drain()
            writer.close()
            closed.set()

    async with raw_server(close_after_two) as server, client_of(server.spec()) as client:
        await client.about()
        await closed.wait()
        await until(lambda: open_connections(client) == 0)
        answer = await client.ask(Request(method, "/sites/1", body=body, mutating=True))
        assert answer.status == 200
        assert server.count(method, "/sites/1") == 1
        assert server.connections == 2


async def test_idle_connections_are_not_kept_longer_than_told() -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response())

    limits = Limits(keep_alive_s=0.0)
    async with raw_server(answer) as server, client_of(server.spec(), limits=limits) as client:
        for _ in range(3):
            await client.about()
        assert server.connections == 4


async def test_a_request_carries_what_it_has_to_and_nothing_else() -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(accepted().split(b"\r\n\r\n")[1], set_cookie="a=b"))

    async with raw_server(answer) as server, client_of(server.spec()) as client:
        for _ in range(2):
            await client.pair(PEER, "two words", granted)
        login, first, second = server.arrivals
    assert set(login.headers) == {
        "host", "user-agent", "accept-encoding", "content-type", "content-length", "operationid",
    }  # fmt: skip
    expected = {*login.headers, "accept", "x-vcav-auth"}
    assert set(first.headers) == set(second.headers) == expected
    assert first.headers["x-vcav-auth"] == "dG9rZW4="
    assert first.headers["content-type"] == "application/json"
    assert json.loads(first.body) == {
        "apiUrl": PEER.api_url,
        "apiThumbprint": PEER.api_thumbprint,
        "description": "two words",
    }


async def test_the_query_of_the_task_list_is_as_documented() -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b'{"items": [], "offset": 0, "limit": 100, "total": 0}'))

    async with raw_server(answer) as server, client_of(server.spec()) as client:
        assert await client.site_tasks(SiteCall.PAIR, -5) == []
        assert server.arrivals[-1].path == "/tasks?type=pair&startTimeAfter=0&limit=100&offset=0"


async def test_pages_that_are_smaller_than_asked_for_are_read_to_the_last() -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(35)]

    async def page(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        offset = int(arrival.path.rpartition("offset=")[2])
        items = [{"id": each} for each in ids[offset : offset + 10]]
        body = {"items": items, "offset": offset, "limit": 10, "total": len(ids)}
        writer.write(response(json.dumps(body).encode()))

    async with raw_server(page) as server, client_of(server.spec()) as client:
        assert [task.id for task in await client.site_tasks(SiteCall.PAIR, 0)] == ids
        assert server.count("GET", "/tasks") == 4


async def test_a_list_that_never_ends_is_left() -> None:
    async def page(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b'{"items": [{"id": "1"}], "total": 1000000}'))

    async with raw_server(page) as server, client_of(server.spec()) as client:
        assert [task.id for task in await client.site_tasks(SiteCall.PAIR, 0)] == ["1"]
        assert server.count("GET", "/tasks") == 100


async def test_tasks_are_filtered_again_for_an_appliance_that_ignores_the_filter() -> None:
    items = [
        {"id": "ours", "workflowInfo": {"type": "pair"}, "startTime": 2_000},
        {"id": "perhaps"},
        {"id": "another kind", "workflowInfo": {"type": "health"}, "startTime": 2_000},
        {"id": "too old", "workflowInfo": {"type": "pair"}, "startTime": 1_000},
    ]

    async def page(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(json.dumps({"items": items, "total": 4}).encode()))

    async with raw_server(page) as server, client_of(server.spec()) as client:
        assert [task.id for task in await client.site_tasks(SiteCall.PAIR, 1_000)] == [
            "ours",
            "perhaps",
        ]


async def test_a_late_word_of_an_old_session_does_not_end_the_new_one() -> None:
    """1. Two calls are under way. 2. One is told that the session ended, and logs in again.
    3. Then the other is told the same: of the old session, for it was sent in that."""
    renewed = asyncio.Event()
    ended = response(b"", "401 Unauthorized", www_authenticate="Authentication Token Required")

    async def expire(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.headers["x-vcav-auth"] == "new":
            renewed.set()
            writer.write(response())
            return
        server.login = response(x_vcav_auth="new")
        if arrival.path == "/slow":
            await renewed.wait()
        writer.write(ended)

    async with raw_server(expire) as server, client_of(server.spec()) as client:
        slow = asyncio.ensure_future(client.ask(Request("GET", "/slow")))
        await until(lambda: server.count("GET", "/slow") == 1)
        assert (await client.ask(Request("GET", "/quick"))).status == 200
        assert (await slow).status == 200
        assert server.count("POST", "/sessions") == 2


async def test_the_language_of_the_login_is_spoken_afterwards() -> None:
    vendor = "application/vnd.vmware.h4-v4.6+json;charset=UTF-8"

    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"[]"))

    async with raw_server(answer) as server, client_of(server.spec()) as client:
        server.login = response(x_vcav_auth="t", content_type=vendor)
        await client.peers()
        assert server.arrivals[-1].headers["accept"] == vendor


async def refuse_vendor_types(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
    """An appliance that answers 406 to the media type that its own login had."""
    if "vnd.vmware" in arrival.headers.get("accept", ""):
        writer.write(response(b"", "406 Not Acceptable"))
    else:
        writer.write(accepted() if arrival.method == "POST" else response(b"[]"))


async def test_an_appliance_that_does_not_know_its_media_type_is_spoken_to_plainly() -> None:
    async with raw_server(refuse_vendor_types) as server, client_of(server.spec()) as client:
        server.login = response(x_vcav_auth="t", content_type="application/vnd.vmware.h4-v9+json")
        assert await client.peers() == ()
        assert await client.peers() == ()
        assert server.count("GET", "/sites") == 3
        assert server.arrivals[-1].headers["accept"] == "application/json"


async def test_a_406_to_a_mutating_call_is_looked_into_before_it_is_repeated() -> None:
    async with raw_server(refuse_vendor_types) as server, client_of(server.spec()) as client:
        server.login = response(x_vcav_auth="t", content_type="application/vnd.vmware.h4-v9+json")
        with pytest.raises(Ambiguous):
            await client.pair(PEER, "", granted)
        assert server.count("POST", "/sites") == 1
        await client.pair(PEER, "", granted)


async def meet_a_406_after_another_call_met_one(request: Request) -> Answer:
    """The answer to `request`, which is under way as the client begins to speak plainly."""
    plain = asyncio.Event()

    async def refuse_late(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.path == request.path and "vnd.vmware" in arrival.headers["accept"]:
            await plain.wait()
        await refuse_vendor_types(arrival, writer)

    async with raw_server(refuse_late) as server, client_of(server.spec()) as client:
        server.login = response(x_vcav_auth="t", content_type="application/vnd.vmware.h4-v9+json")
        late = asyncio.ensure_future(client.ask(request))
        await until(lambda: server.count(request.method, request.path) == 1)
        assert (await client.ask(Request("GET", "/quick"))).status == 200
        plain.set()
        return await late


async def test_a_look_is_made_again_plainly_even_if_another_call_has_met_a_406_before() -> None:
    assert (await meet_a_406_after_another_call_met_one(Request("GET", "/slow"))).status == 200


async def test_a_406_to_a_change_is_no_refusal_even_if_another_call_has_met_one_before() -> None:
    with pytest.raises(Ambiguous):
        await meet_a_406_after_another_call_met_one(Request("DELETE", "/slow", mutating=True))


async def test_an_appliance_that_had_to_be_spoken_to_plainly_is_so_in_its_next_session() -> None:
    async def expire(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.path == "/expire" and server.count("POST", "/sessions") == 1:
            writer.write(
                response(b"", "401 Unauthorized", www_authenticate="Authentication Token Required")
            )
        else:
            await refuse_vendor_types(arrival, writer)

    async with raw_server(expire) as server, client_of(server.spec()) as client:
        server.login = response(x_vcav_auth="t", content_type="application/vnd.vmware.h4-v9+json")
        await client.peers()
        assert (await client.ask(Request("DELETE", "/expire", mutating=True))).status == 200
        assert server.count("POST", "/sessions") == 2


async def test_a_406_that_plain_json_does_not_help_is_a_rejection() -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"", "406 Not Acceptable"))

    async with raw_server(answer) as server, client_of(server.spec()) as client:
        with pytest.raises(Rejected) as caught:
            await client.peers()
        assert caught.value.error.code == "Http406"
        with pytest.raises(Rejected):
            await client.pair(PEER, "", granted)


SPOILT = [
    (response(b"\x1f\x8b", "202 Accepted", content_encoding="gzip"), "AnswerEncoded"),
    (b"HTTP/1.1 202 Accepted\r\ncontent-length: 99\r\n\r\n{", "ConnectionLost"),
    (b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "UnreadableAnswer"),
    (b"\x16\x03\x01 this is not HTTP\r\n\r\n", "UnreadableAnswer"),
    (b"HTTP/1.1 202 Accepted\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", "UnreadableAnswer"),
    (b"HTTP/1.1 202 Accepted\r\n" + b"x: y\r\n" * 500 + b"\r\n", "UnreadableAnswer"),
    (response(b" " * 70_000, "202 Accepted"), "AnswerTooLarge"),
    (response(b"null", "202 Accepted"), "UnreadableAnswer"),
    (response(b"{}", "202 Accepted"), "UnreadableAnswer"),
    (response(b"", "204 No Content"), "UnreadableAnswer"),
    (response(b"[" * 9_000, "202 Accepted"), "UnreadableAnswer"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, "AnswerTimeout"),
    (b"HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n", "AnswerTimeout"),
]


@pytest.mark.parametrize(("answer", "code"), SPOILT, ids=[str(n) for n in range(len(SPOILT))])
async def test_a_mutating_call_whose_answer_is_spoilt_is_ambiguous_and_sent_once(
    answer: bytes, code: str
) -> None:
    async def spoil(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if code == "ConnectionLost":
            writer.close()

    timeouts = CallTimeouts(connect_s=0.4, answer_s=0.2, total_s=0.5)
    limits = Limits(max_body=64_000)
    async with (
        raw_server(spoil) as server,
        client_of(server.spec(), timeouts=timeouts, limits=limits) as client,
    ):
        with pytest.raises(Ambiguous) as caught:
            await client.pair(PEER, "", granted)
        assert caught.value.error.code == code
        assert server.count("POST", "/sites") == 1


@pytest.mark.parametrize(
    "answer",
    [
        response(b"\x1f\x8b", "404 Not Found", content_encoding="gzip"),
        response(b" " * 70_000, "404 Not Found"),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 99\r\n\r\n{",
    ],
)
async def test_a_refusal_whose_words_cannot_be_read_is_a_refusal_still(answer: bytes) -> None:
    async def refuse(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    limits = Limits(max_body=64_000)
    async with raw_server(refuse) as server, client_of(server.spec(), limits=limits) as client:
        with pytest.raises(Rejected) as caught:
            await client.pair(PEER, "", granted)
        assert (caught.value.status, caught.value.error.code) == (404, "Http404")


async def test_after_a_spoilt_answer_the_next_one_is_read_afresh() -> None:
    """What is left of an answer over the limit must not be taken for the next one."""

    async def flood(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        is_first = server.count("GET", "/sites") == 1
        writer.write(response(b" " * 70_000 if is_first else b"[]"))

    limits = Limits(max_body=64_000)
    async with raw_server(flood) as server, client_of(server.spec(), limits=limits) as client:
        with pytest.raises(NotSent):
            await client.peers()
        assert await client.peers() == ()


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"", "307 Temporary Redirect", location="/elsewhere"))

    async with raw_server(redirect) as server, client_of(server.spec()) as client:
        with pytest.raises(Rejected) as caught:
            await client.pair(PEER, "", granted)
        assert caught.value.error.code == "UnexpectedRedirect"
        assert server.count("POST", "/elsewhere") == 0


@pytest.mark.parametrize("login", [response(b"{}"), response(b"", "302 Found", location="/sso")])
async def test_a_login_that_gives_no_token_is_no_login(login: bytes) -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response())

    async with raw_server(answer) as server, client_of(server.spec()) as client:
        server.login = login
        with pytest.raises((NotSent, Rejected)):
            await client.pair(PEER, "", granted)
        assert server.count("POST", "/sites") == 0
        server.login = LOGIN


async def test_a_call_that_is_cancelled_frees_its_connection_for_the_next_ones() -> None:
    arrived = asyncio.Event()

    async def hang(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.method == "POST":
            arrived.set()
            await asyncio.Event().wait()
        writer.write(response(b"[]"))

    limits = Limits(connections=1)
    async with raw_server(hang) as server, client_of(server.spec(), limits=limits) as client:
        call = asyncio.ensure_future(client.pair(PEER, "", granted))
        await arrived.wait()
        call.cancel()
        assert await client.peers() == ()
        assert call.cancelled()


async def test_there_are_never_more_connections_than_allowed() -> None:
    most = 0

    async def count(_: Arrival, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, server.open)
        await asyncio.sleep(0)
        writer.write(response())

    async with raw_server(count) as server, client_of(server.spec()) as client:
        await asyncio.gather(*(client.ask(Request("GET", f"/{n}")) for n in range(20)))
        assert (most, server.connections) == (2, 2)


async def test_a_call_that_is_cancelled_while_it_waits_for_its_turn_takes_none() -> None:
    go = asyncio.Event()

    async def hold(_: Arrival, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(response())

    async with (
        raw_server(hold) as server,
        client_of(server.spec(), limits=Limits(connections=1)) as client,
    ):
        first = asyncio.ensure_future(client.ask(Request("GET", "/first")))
        await until(lambda: server.count("GET", "/first") == 1)
        second = asyncio.ensure_future(client.ask(Request("GET", "/second")))
        await asyncio.sleep(0)
        second.cancel()
        go.set()
        await first
        await client.ask(Request("GET", "/third"))
        assert second.cancelled()
        assert [each.path for each in server.arrivals] == ["/sessions", "/first", "/third"]
        assert server.connections == 1


async def test_a_call_that_waits_for_its_turn_has_its_whole_time_after_that() -> None:
    async def slow(_: Arrival, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(response())

    timeouts = CallTimeouts(connect_s=0.15, answer_s=0.2, total_s=0.3)
    limits = Limits(connections=1)
    async with (
        raw_server(slow) as server,
        client_of(server.spec(), timeouts=timeouts, limits=limits) as client,
    ):
        answers = await asyncio.gather(
            *(client.ask(Request("GET", "/config")) for _ in range(6)), return_exceptions=True
        )
        assert [answer.status for answer in answers if isinstance(answer, Answer)] == [200] * 6
        assert server.connections == 1


async def test_the_good_bye_does_not_hold_anybody_up() -> None:
    async def hang(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.method == "DELETE":
            await asyncio.Event().wait()
        writer.write(response(b"[]"))

    timeouts = replace(QUICK, logout_s=0.1)
    loop = asyncio.get_running_loop()
    async with raw_server(hang) as server:
        async with client_of(server.spec(), timeouts=timeouts) as client:
            await client.peers()
            began = loop.time()
        assert loop.time() - began < 0.9
        assert server.count("DELETE", "/sessions") == 1
