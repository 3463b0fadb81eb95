"""The last moment before a change is sent: a refused permit keeps everything back."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from service.appliance.classify import judge_failure
from service.appliance.client import ApplianceClient
from service.appliance.exchange import Failure, FailureKind, Permit, Request, granted
from service.appliance.http import HttpsChannel
from service.appliance.limits import CallTimeouts, Limits
from service.appliance.tls import trust_of
from service.domain.appliance import Endpoint, Task
from service.domain.errors import Ambiguous, LeaseTooShort, NotSent
from service.domain.ids import ApplianceName
from service.domain.thumbprint import thumbprint_of
from service.observe.events import LogEvent
from service.observe.logging import listening
from simulator import fault
from tests.integration.appliance.raw_server import Arrival, accepted, raw_server, response
from tests.integration.appliance.rigs import LOOPBACK, channel_to, client_of, rig, until

PEER = Endpoint(ApplianceName("b"), "https://b.example.test:8048/", thumbprint_of(b"b"))
PEER_ID = "5fd1c8e5/../x y?#%"

Change = Callable[[ApplianceClient, Permit], Awaitable[Task]]

CHANGES: list[tuple[str, str, Change]] = [
    ("POST", "/sites", lambda client, permit: client.pair(PEER, "two words", permit)),
    (
        "PUT",
        "/sites/5fd1c8e5%2F..%2Fx%20y%3F%23%25",
        lambda client, permit: client.repair(PEER_ID, PEER, "two words", permit),
    ),
    (
        "DELETE",
        "/sites/5fd1c8e5%2F..%2Fx%20y%3F%23%25",
        lambda client, permit: client.unpair(PEER_ID, permit),
    ),
]
each_change = pytest.mark.parametrize(("method", "path", "change"), CHANGES, ids=lambda each: each)


async def take_it(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
    """Accepts every change."""
    writer.write(accepted() if arrival.path.startswith("/sites") else response())


async def hang(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
    """Never answers a change."""
    if arrival.path.startswith("/sites"):
        await asyncio.Event().wait()
    writer.write(response())


def refuse() -> None:
    """The permit of a worker that may be dead by now."""
    raise LeaseTooShort


def acquired(client: ApplianceClient) -> int:
    """Connections that some call has."""
    assert isinstance(client._channel, HttpsChannel)
    pool = client._channel._pool
    return len(pool._open) - len(pool._idle)


@each_change
async def test_a_change_is_sent_as_documented(method: str, path: str, change: Change) -> None:
    async with raw_server(take_it) as server, client_of(server.spec()) as client:
        assert (await change(client, granted)).id
        sent = server.arrivals[-1]
        assert (sent.method, sent.path) == (method, path)
        expected = {
            *("host", "user-agent", "accept", "accept-encoding"),
            *("content-length", "operationid", "x-vcav-auth"),
        }
        if method == "DELETE":
            assert sent.body == b""
            assert set(sent.headers) == expected
        else:
            assert json.loads(sent.body) == {
                "apiUrl": PEER.api_url,
                "apiThumbprint": PEER.api_thumbprint,
                "description": "two words",
            }
            assert set(sent.headers) == {*expected, "content-type"}


@each_change
async def test_a_refused_permit_keeps_the_change_back(
    method: str, path: str, change: Change
) -> None:
    told: list[LogEvent] = []
    async with raw_server(take_it) as server, client_of(server.spec()) as client:
        await client.log_in()
        for _ in range(3):
            with listening(told.append), pytest.raises(LeaseTooShort):
                await change(client, refuse)
            assert acquired(client) == 0
        assert not told  # For nobody was called.
        await change(client, granted)
        assert server.count(method, path) == 1
        assert len(server.arrivals) == 2
        assert server.begun == 2  # Not even a first byte of any other request.


@each_change
async def test_the_permit_is_asked_once_there_is_a_connection_and_no_earlier(
    method: str, path: str, change: Change
) -> None:
    asked: list[tuple[int, int]] = []
    async with raw_server(take_it) as server, client_of(server.spec()) as client:
        await change(client, lambda: asked.append((server.connections, len(server.arrivals))))
        assert asked == [(1, 1)]  # Connected, logged in, and not sent.
        await change(client, lambda: asked.append((server.connections, len(server.arrivals))))
        assert asked == [(1, 1), (1, 2)]
        assert server.connections == 1  # What was answered costs no connection.


async def test_a_change_that_waits_its_turn_is_asked_for_its_permit_after_that() -> None:
    go = asyncio.Event()

    async def slow(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.method == "GET":
            await go.wait()
        writer.write(accepted())

    limits = Limits(connections=1)
    async with raw_server(slow) as server, client_of(server.spec(), limits=limits) as client:
        first = asyncio.ensure_future(client.about())
        await until(lambda: server.count("GET") == 1)
        asked: list[bool] = []
        second = asyncio.ensure_future(client.pair(PEER, "", lambda: asked.append(first.done())))
        await asyncio.sleep(0.05)
        assert not asked
        go.set()
        await second
        assert asked == [True]


async def test_a_change_that_is_repeated_after_an_expired_session_asks_again() -> None:
    async with rig() as here:
        await here.client.about()
        here.here.expire_sessions()
        asked = 0

        def once() -> None:
            nonlocal asked
            asked += 1
            if asked > 1:
                raise LeaseTooShort

        with pytest.raises(LeaseTooShort):
            await here.client.pair(here.there, "", once)
        assert asked == 2
        assert here.requests("POST /sites") == 1
        assert here.accepted == 0


async def test_whatever_a_permit_raises_comes_out() -> None:
    def crash() -> None:
        raise ZeroDivisionError

    async with raw_server(take_it) as server, client_of(server.spec()) as client:
        with pytest.raises(ZeroDivisionError):
            await client.unpair(PEER_ID, crash)
        assert len(server.arrivals) == 1


async def test_calls_that_only_look_need_no_permit() -> None:
    async with raw_server(take_it) as server, client_of(server.spec()) as client:
        answer = await client.ask(Request("GET", "/config"), permit=refuse)
        assert answer.status == 200


@each_change
async def test_a_change_is_sent_once_when_a_kept_connection_drops_under_it(
    method: str, path: str, change: Change
) -> None:
    """aiohttp by itself would send PUT and DELETE again."""

    async def hang_up_on_reuse(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.nth <= 2:
            writer.write(response())
        else:
            writer.transport.abort()

    async with raw_server(hang_up_on_reuse) as server, client_of(server.spec()) as client:
        await client.about()
        asked: list[None] = []
        with pytest.raises(Ambiguous) as caught:
            await change(client, lambda: asked.append(None))
        assert caught.value.error.code == "ConnectionLost"
        assert server.count(method, path) == 1
        assert server.connections == 1
        assert len(asked) == 1


@each_change
async def test_a_change_has_its_own_time(method: str, path: str, change: Change) -> None:
    """Less than a second, so that rounding up to a whole one would be seen."""
    timeouts = CallTimeouts(connect_s=5.0, answer_s=9.0, total_s=9.0, change_s=0.3)
    loop = asyncio.get_running_loop()
    async with raw_server(hang) as server, client_of(server.spec(), timeouts=timeouts) as client:
        await client.about()
        began = loop.time()
        with pytest.raises(Ambiguous) as caught:
            await change(client, granted)
        assert caught.value.error.code == "AnswerTimeout"
        assert 0.3 <= loop.time() - began < 0.9
        assert server.count(method, path) == 1
        assert acquired(client) == 0


async def test_a_time_out_that_strikes_before_the_change_is_sent_left_it_unsent() -> None:
    """The total strikes while the handshake is still on."""
    over = asyncio.Event()

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.transport.abort()

    timeouts = CallTimeouts(connect_s=5.0, answer_s=9.0, total_s=9.0, change_s=0.2)
    asked: list[None] = []
    async with await asyncio.start_server(silence, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        channel = HttpsChannel(
            f"https://127.0.0.1:{port}", trust_of(PEER.api_thumbprint), LOOPBACK, timeouts, Limits()
        )
        request = Request("DELETE", "/sites/1", mutating=True)
        outcome = await channel.send(request, {}, lambda: asked.append(None))
        assert isinstance(outcome, Failure)
        assert outcome.kind is FailureKind.CONNECT_TIMEOUT
        assert isinstance(judge_failure(outcome, mutating=True), NotSent)
        assert not asked
        over.set()
        await channel.close()


async def test_what_was_given_up_does_not_leave_later() -> None:
    """1. The appliance stops reading. 2. The call fills all buffers on the way. 3. It is given up.
    4. The appliance reads on: what it gets must be no whole request."""
    resume = asyncio.Event()

    async def stop_reading(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response())
        if arrival.method == "GET":
            await writer.drain()
            await resume.wait()

    timeouts = CallTimeouts(connect_s=5.0, answer_s=9.0, total_s=9.0, change_s=0.5)
    body = bytes(32 * 1024 * 1024)
    async with (
        raw_server(stop_reading) as server,
        client_of(server.spec(), timeouts=timeouts) as client,
    ):
        await client.about()
        with pytest.raises(Ambiguous):
            await client.ask(Request("PUT", "/sites/1", body=body, mutating=True))
        resume.set()
        await until(lambda: server.open == 0)
        assert server.count("PUT") == 0
        assert server.begun == 3
        assert server.resets == 1  # The kernel has thrown away what it still held.


async def test_what_nobody_gives_up_the_kernel_gives_up() -> None:
    """Whoever is stopped in the midst of a change can give up nothing, nor can who is killed. Here
    it is a call that is waited for longer than a change is."""
    over = asyncio.Event()

    async def stop_reading(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response())
        await writer.drain()
        await over.wait()

    timeouts = CallTimeouts(connect_s=5.0, answer_s=9.0, total_s=9.0, change_s=0.5)
    loop = asyncio.get_running_loop()
    async with raw_server(stop_reading) as server, channel_to(server, timeouts=timeouts) as channel:
        await channel.send(Request("GET", "/"), {}, granted)
        began = loop.time()
        outcome = await channel.send(Request("PUT", "/", body=bytes(2**25)), {}, granted)
        over.set()
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.CUT
    assert loop.time() - began < 5


async def test_a_change_that_is_cancelled_before_it_left_does_not_leave() -> None:
    """However many turns of the loop it had."""
    async with raw_server(take_it) as server, client_of(server.spec()) as client:
        await client.about()
        asked: list[None] = []
        for turns in range(12):
            call = asyncio.ensure_future(client.pair(PEER, "", lambda: asked.append(None)))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
            await client.about()  # By now whatever was written has come in.
            assert server.count("POST", "/sites") <= len(asked)
        assert asked


async def test_a_change_that_hangs_is_given_up_while_calls_that_look_are_waited_for() -> None:
    timeouts = CallTimeouts(connect_s=5.0, answer_s=9.0, total_s=9.0, change_s=0.2)
    async with rig(timeouts=timeouts) as here:
        here.here.add_fault(fault("slow", path="/sites", ms=600, times=None))
        with pytest.raises(Ambiguous):
            await here.client.pair(here.there, "", granted)
        await here.client.peers()
