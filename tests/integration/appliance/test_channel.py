"""The channel by itself: what it keeps, what it waits for, and whose answer it takes."""

import asyncio
import gc
import socket
import struct
import warnings
from collections.abc import Awaitable
from contextlib import suppress

import pytest

from service.appliance.exchange import (
    AFTER_SENDING,
    Answer,
    Failure,
    FailureKind,
    Outcome,
    Request,
    granted,
)
from service.appliance.http import HttpsChannel
from service.appliance.limits import CallTimeouts, Limits
from service.domain.errors import LeaseTooShort
from tests.integration.appliance.raw_server import Arrival, raw_server, response, server_context
from tests.integration.appliance.rigs import channel_to, until

LOOK = Request("GET", "/look")
CHANGE = Request("POST", "/change", body=b"{}", mutating=True)
FORGED = response(b"forged")
PATIENT = CallTimeouts(connect_s=5.0, answer_s=5.0, total_s=9.0, change_s=9.0)


async def echo(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
    """Answers with the path."""
    writer.write(response(arrival.path.encode()))


async def body(call: Awaitable[Outcome]) -> bytes:
    """The body of a good answer."""
    outcome = await call
    assert isinstance(outcome, Answer)
    assert outcome.status == 200
    return outcome.body


def look(channel: HttpsChannel, path: str = "/look") -> Awaitable[Outcome]:
    """A call that only looks."""
    return channel.send(Request("GET", path), {}, granted)


def kind_of(outcome: Outcome) -> FailureKind:
    """How it failed."""
    assert isinstance(outcome, Failure)
    return outcome.kind


def in_use(channel: HttpsChannel) -> int:
    """Connections that some call has."""
    return len(channel._pool._open) - len(channel._pool._idle)


class Lines:
    """The server's ends of its connections, to be written to out of turn."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        """The script: remembers the connection, answers with the path."""
        self.writers.append(writer)
        await echo(arrival, writer)


async def test_what_follows_an_answer_at_once_is_not_taken_for_the_next_one() -> None:
    async def two_for_one(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        await echo(arrival, writer)
        if arrival.path == "/1":
            writer.write(FORGED)

    async with raw_server(two_for_one) as server, channel_to(server) as channel:
        assert [await body(look(channel, path)) for path in ("/1", "/2", "/3")] == [
            b"/1",
            b"/2",
            b"/3",
        ]
        assert server.connections == 2


async def test_what_comes_between_two_calls_ends_the_connection() -> None:
    lines = Lines()
    async with raw_server(lines) as server, channel_to(server) as channel:
        await body(look(channel))
        lines.writers[0].write(FORGED)
        await until(lambda: server.open == 0)
        assert await body(look(channel, "/2")) == b"/2"
        assert server.connections == 2


@pytest.mark.parametrize("request_", [LOOK, CHANGE], ids=["look", "change"])
async def test_what_has_come_in_and_was_not_read_yet_is_no_answer_either(request_: Request) -> None:
    """No turn of the loop lies between the forged answer and the next request."""
    lines = Lines()
    async with raw_server(lines) as server, channel_to(server) as channel:
        await body(look(channel))
        lines.writers[0].write(FORGED)
        assert await body(channel.send(request_, {}, granted)) == request_.path.encode()
        assert server.connections == 2


async def test_an_end_that_was_not_read_yet_costs_no_call() -> None:
    lines = Lines()
    async with raw_server(lines) as server, channel_to(server) as channel:
        await body(look(channel))
        lines.writers[0].transport.close()  # Says good-bye at once.
        asked: list[None] = []
        outcome = await channel.send(CHANGE, {}, lambda: asked.append(None))
        assert isinstance(outcome, Answer)
        assert (server.connections, server.count("POST"), len(asked)) == (2, 1, 1)


@pytest.mark.parametrize("keeps", [b"HTTP/1.1 200 OK\r\nconnection: close", b"HTTP/1.0 200 OK"])
async def test_a_connection_that_is_announced_to_end_is_not_used_again(keeps: bytes) -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(keeps + b"\r\ncontent-length: 1\r\n\r\na")

    async with raw_server(answer) as server, channel_to(server) as channel:
        assert [await body(look(channel)) for _ in range(2)] == [b"a", b"a"]
        assert server.connections == 2


async def test_an_answer_may_end_with_its_connection() -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nab")
        await writer.drain()
        writer.write(b"cd")
        writer.close()

    async with raw_server(answer) as server, channel_to(server) as channel:
        assert await body(channel.send(CHANGE, {}, granted)) == b"abcd"
        assert server.count("POST") == 1


async def test_an_answer_does_not_end_with_a_connection_that_breaks() -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nab")
        await until(lambda: all(each._reader._has_head for each in channel._pool._open))
        lingering = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        writer.transport.abort()

    async with raw_server(answer) as server, channel_to(server) as channel:
        assert kind_of(await channel.send(CHANGE, {}, granted)) is FailureKind.CUT


async def test_what_is_too_long_for_the_kernel_to_take_at_once_arrives_whole() -> None:
    asked = b"x" * 20_000_000

    async def measure(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(str(len(arrival.body)).encode()))

    async with raw_server(measure) as server, channel_to(server, timeouts=PATIENT) as channel:
        long = Request("POST", "/change", body=asked, mutating=True)
        assert await body(channel.send(long, {}, granted)) == str(len(asked)).encode()
        assert await body(look(channel)) == b"0"
        assert (server.connections, server.arrivals[0].body) == (1, asked)


async def test_an_answer_that_comes_before_the_request_is_through_ends_the_connection() -> None:
    """What is left of the request would be taken for the next one."""
    reading = asyncio.Event()

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(response(b"enough"))
        await reading.wait()
        writer.transport.abort()

    async with raw_server(echo) as server:
        with server_context() as context:
            listener = await asyncio.start_server(answer_early, "127.0.0.1", 0, ssl=context)
        async with listener:
            server.port = listener.sockets[0].getsockname()[1]
            async with channel_to(server) as channel:
                long = Request("POST", "/change", body=b"x" * 20_000_000, mutating=True)
                assert await body(channel.send(long, {}, granted)) == b"enough"
                assert not channel._pool._open
                reading.set()


async def test_interim_answers_are_skipped() -> None:
    async def answer(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await writer.drain()
        await echo(arrival, writer)

    async with raw_server(answer) as server, channel_to(server) as channel:
        assert [await body(look(channel, path)) for path in ("/1", "/2")] == [b"/1", b"/2"]
        assert server.connections == 1


async def test_a_head_without_end_is_hung_up_on() -> None:
    async def flood(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        with suppress(ConnectionError):
            while True:
                writer.write(b"y" * 1000)
                await writer.drain()

    async with raw_server(flood) as server, channel_to(server, timeouts=PATIENT) as channel:
        assert kind_of(await look(channel)) is FailureKind.GARBLED
        await until(lambda: server.open == 0)


async def drip(_: Arrival, writer: asyncio.StreamWriter) -> None:
    """Twelve bytes, one every tenth of a second: slowness is what these calls are about."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
    for _nth in range(12):
        await asyncio.sleep(0.1)
        writer.write(b"x")


@pytest.mark.parametrize("request_", [LOOK, CHANGE], ids=["look", "change"])
async def test_an_answer_that_drips_is_waited_for_until_the_time_is_over(request_: Request) -> None:
    """It is never silent for long, so the total decides."""
    quick = CallTimeouts(connect_s=0.5, answer_s=0.6, total_s=0.8, change_s=0.7)
    slow = CallTimeouts(connect_s=0.5, answer_s=1.0, total_s=30.0, change_s=30.0)
    async with raw_server(drip) as server:
        async with channel_to(server, timeouts=quick) as channel:
            outcome = await channel.send(request_, {}, granted)
            assert outcome == Failure(FailureKind.SILENT, "the time of the call is over")
        async with channel_to(server, timeouts=slow) as channel:
            assert await body(channel.send(request_, {}, granted)) == b"x" * 12


async def test_each_call_on_a_connection_has_its_own_time() -> None:
    """A call's timer outlives it: it must neither end a later call nor hide its shorter time."""

    async def answer(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        if arrival.path == "/slow":
            await asyncio.sleep(1.3 * timeouts.change_s)  # No condition: the time is the point.
        if arrival.path != "/change" or arrival.nth == 2:
            await echo(arrival, writer)

    timeouts = CallTimeouts(connect_s=1.0, answer_s=5.0, total_s=5.0, change_s=0.3)
    loop = asyncio.get_running_loop()
    async with raw_server(answer) as server, channel_to(server, timeouts=timeouts) as channel:
        await body(look(channel))
        await body(channel.send(CHANGE, {}, granted))
        assert await body(look(channel, "/slow")) == b"/slow"
        assert server.connections == 1
        began = loop.time()
        assert kind_of(await channel.send(CHANGE, {}, granted)) is FailureKind.SILENT
        assert timeouts.change_s <= loop.time() - began < timeouts.total_s
        assert server.connections == 1


async def test_a_change_that_is_cancelled_is_cut_off() -> None:
    resume = asyncio.Event()

    async def hang(_: Arrival, writer: asyncio.StreamWriter) -> None:
        await resume.wait()

    async with raw_server(hang) as server, channel_to(server) as channel:
        call = asyncio.ensure_future(channel.send(CHANGE, {}, granted))
        await until(lambda: server.count("POST") == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        resume.set()
        await until(lambda: server.open == 0)
        assert server.resets == 1


async def test_a_call_that_is_cancelled_leaves_nothing_behind_whenever_that_is() -> None:
    """At every turn of the loop, from the beginning to the answer."""
    asked: list[None] = []
    done, turns = 0, 0
    async with raw_server(echo) as server:
        while done < 3:
            async with channel_to(server, timeouts=PATIENT) as channel:
                call = asyncio.ensure_future(channel.send(CHANGE, {}, lambda: asked.append(None)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                done += call.done()
                call.cancel()
                with suppress(asyncio.CancelledError):
                    await call
                assert in_use(channel) == 0
            turns += 1
        await until(lambda: server.open == 0)
        assert server.count("POST") <= len(asked)
        assert done < len(asked) < turns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


async def test_a_call_that_is_cancelled_while_the_name_is_resolved_is_not_made() -> None:
    async with raw_server(echo) as server, channel_to(server, "localhost", PATIENT) as channel:
        call = asyncio.ensure_future(channel.send(CHANGE, {}, granted))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert in_use(channel) == 0
        await body(look(channel))
        assert server.count("POST") == 0


async def test_idle_connections_are_closed_in_time_by_themselves() -> None:
    async with (
        raw_server(echo) as server,
        channel_to(server, limits=Limits(keep_alive_s=0.05)) as channel,
    ):
        await asyncio.gather(look(channel), look(channel))
        assert server.open == 2
        await until(lambda: server.open == 0)
        assert not channel._pool._idle
        assert await body(look(channel)) == b"/look"


async def test_a_refused_permit_leaves_the_connection_to_others() -> None:
    def refuse() -> None:
        raise LeaseTooShort

    async with raw_server(echo) as server, channel_to(server) as channel:
        for _ in range(3):
            with pytest.raises(LeaseTooShort):
                await channel.send(CHANGE, {}, refuse)
        await body(look(channel))
        assert (server.connections, server.begun) == (1, 1)


async def test_a_header_that_would_break_out_of_its_line_is_not_sent() -> None:
    async with raw_server(echo) as server, channel_to(server) as channel:
        await body(look(channel))
        with pytest.raises(ValueError, match="operationID"):
            await channel.send(LOOK, {"operationID": "a\r\nX: y"}, granted)
        await body(look(channel))
        assert (server.connections, server.begun) == (1, 2)


@pytest.mark.parametrize("request_", [LOOK, CHANGE], ids=["look", "change"])
async def test_closing_ends_calls_and_allows_no_more(request_: Request) -> None:
    async def hang(_: Arrival, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with raw_server(hang) as server, channel_to(server) as channel:
        call = asyncio.ensure_future(channel.send(request_, {}, granted))
        await until(lambda: len(server.arrivals) == 1)
        await channel.close()
        assert kind_of(await call) is FailureKind.CUT
        late = asyncio.ensure_future(look(channel))
        await asyncio.sleep(0)
        assert late.done()  # It does not even try.
        assert kind_of(await late) is FailureKind.UNREACHABLE
        assert server.connections == 1


async def test_closing_ends_no_answer() -> None:
    """Though it is one that ends with its connection."""

    async def begin(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nab")
        await writer.drain()
        await asyncio.Event().wait()

    async with raw_server(begin) as server, channel_to(server) as channel:
        call = asyncio.ensure_future(channel.send(CHANGE, {}, granted))
        await until(lambda: any(each._reader._has_head for each in channel._pool._open))
        await channel.close()
        assert kind_of(await call) is FailureKind.CUT


async def test_closing_sees_the_connections_gone() -> None:
    async with raw_server(echo) as server, channel_to(server) as channel:
        await asyncio.gather(look(channel), look(channel))
        assert len(channel._pool._open) == 2
        await channel.close()
        assert not channel._pool._open
        await until(lambda: server.open == 0)


async def test_closing_does_not_let_a_connection_through_that_is_still_being_made() -> None:
    asked: list[None] = []
    async with raw_server(echo) as server, channel_to(server) as channel:
        call = asyncio.ensure_future(channel.send(CHANGE, {}, lambda: asked.append(None)))
        await asyncio.sleep(0)
        await channel.close()
        outcome = await call
        assert kind_of(outcome) not in AFTER_SENDING
        assert not asked
        assert not server.begun
