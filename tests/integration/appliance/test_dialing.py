"""The way to a connection: names, addresses, time, and who is at the other end."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from service.appliance.connection import Connection
from service.appliance.dialing import Dialer
from service.appliance.egress import EgressPolicy, parse_networks
from service.appliance.exchange import Answer, Failure, FailureKind, Outcome, Request, granted
from service.appliance.http import HttpsChannel
from service.appliance.limits import CallTimeouts, Limits
from service.appliance.resolving import resolved
from service.appliance.tls import Trust, trust_of, unverified
from service.appliance.tlssocket import TlsSocket
from service.domain.thumbprint import thumbprint_of
from service.observe.events import DialingFailed, LogEvent
from service.observe.logging import listening
from tests.integration.appliance.raw_server import (
    Arrival,
    RawServer,
    raw_server,
    response,
    server_context,
)
from tests.integration.appliance.rigs import LOOPBACK, QUICK, channel_to
from tests.support.descriptors import at_most, next_descriptor
from tests.support.ipv6 import has_ipv6

LOOK = Request("GET", "/look")
CHANGE = Request("POST", "/change", body=b"{}", mutating=True)
NAME = "appliance.example.test"
PATIENT = CallTimeouts(connect_s=1.5, answer_s=3.0, total_s=6.0)
"""Long enough for a busy machine to tell one address's share of the time from all of it."""

MANY_NAMES = 100
"""More than asyncio's own threads for such things."""


async def echo(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
    """Answers with the path."""
    writer.write(response(arrival.path.encode()))


@contextmanager
def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> Iterator[list[str]]:
    """The system's resolver knows `NAME` under these; what it was asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> Sequence[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield asked


@contextmanager
def dead(address: str, port: int) -> Iterator[None]:
    """An address that does not even refuse: nobody takes connections from its full queue."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex((address, port))
        yield


async def send(
    server: RawServer,
    trust: Trust | None = None,
    egress: EgressPolicy = LOOPBACK,
    timeouts: CallTimeouts = QUICK,
    host: str = NAME,
) -> Outcome:
    """One call over a channel of its own."""
    url = f"https://{host}:{server.port}"
    trust = trust or trust_of(server.thumbprint)
    channel = HttpsChannel(url, trust, egress, timeouts, Limits())
    try:
        return await channel.send(CHANGE, {}, granted)
    finally:
        await channel.close()


def failed(outcome: Outcome) -> Failure:
    """It, if it is one."""
    assert isinstance(outcome, Failure)
    return outcome


async def test_that_no_descriptor_is_left_is_nobody_elses_fault_and_told_once() -> None:
    told: list[LogEvent] = []
    async with raw_server(echo) as server, channel_to(server) as channel:
        limit = next_descriptor()
        with listening(told.append), at_most(limit):
            for _ in range(3):
                outcome = failed(await channel.send(CHANGE, {}, granted))
                assert outcome.kind is FailureKind.USED_UP
        assert told == [DialingFailed(error="[Errno 24] Too many open files", limit=limit)]
        assert isinstance(await channel.send(CHANGE, {}, granted), Answer)


async def test_a_refused_address_leads_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(echo) as server:
        with resolving(monkeypatch, "127.0.0.3", "127.0.0.2", "127.0.0.1"):
            assert isinstance(await send(server), Answer)
        assert server.count("POST") == 1


async def test_a_dead_address_leaves_time_for_the_next_and_is_tried_last_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        raw_server(echo) as server,
        channel_to(server, NAME, PATIENT, Limits(keep_alive_s=0.0)) as channel,
    ):
        with dead("127.0.0.2", server.port), resolving(monkeypatch, "127.0.0.2", "127.0.0.1"):
            began = loop.time()
            assert isinstance(await channel.send(LOOK, {}, granted), Answer)
            assert PATIENT.connect_s / 2 <= loop.time() - began < PATIENT.connect_s
            began = loop.time()
            assert isinstance(await channel.send(LOOK, {}, granted), Answer)
            assert loop.time() - began < PATIENT.connect_s / 2
            assert server.connections == 2


async def test_an_address_that_takes_calls_and_says_nothing_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeouts = CallTimeouts(connect_s=0.6, answer_s=1.0, total_s=2.0)
    called: list[asyncio.StreamWriter] = []
    async with (
        raw_server(echo) as server,
        channel_to(server, NAME, timeouts, Limits(keep_alive_s=0.0)) as channel,
        await asyncio.start_server(
            lambda _, writer: called.append(writer), "127.0.0.2", server.port
        ),
    ):
        with resolving(monkeypatch, "127.0.0.2", "127.0.0.1"):
            assert isinstance(await channel.send(LOOK, {}, granted), Answer)
            assert isinstance(await channel.send(LOOK, {}, granted), Answer)
        (mute,) = called
        mute.close()


async def test_addresses_that_are_all_dead_are_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    async with raw_server(echo) as server:
        with ExitStack() as stack:
            for address in ("127.0.0.2", "127.0.0.3"):
                stack.enter_context(dead(address, server.port))
            stack.enter_context(resolving(monkeypatch, "127.0.0.2", "127.0.0.3"))
            began = loop.time()
            failure = failed(await send(server, timeouts=PATIENT))
        assert failure.kind is FailureKind.CONNECT_TIMEOUT
        assert PATIENT.connect_s <= loop.time() - began < 2 * PATIENT.connect_s


async def test_of_several_addresses_only_the_permitted_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_server(echo, "127.0.0.2") as server:
        only = EgressPolicy(parse_networks("127.0.0.1"))
        with resolving(monkeypatch, "127.0.0.2", "127.0.0.1"):
            # Whoever may listen there.
            assert failed(await send(server, egress=only)).kind is not FailureKind.FORBIDDEN
        with resolving(monkeypatch, "127.0.0.2"):
            assert failed(await send(server, egress=only)).kind is FailureKind.FORBIDDEN
        assert server.connections == 0


async def test_names_whose_servers_are_mute_hold_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    all_asked, release = asyncio.Event(), threading.Event()
    loop, known = asyncio.get_running_loop(), socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Sequence[object]:
        if host == NAME:
            return known("127.0.0.1", *args, **options)
        asked.append(host)
        if len(asked) == MANY_NAMES:
            loop.call_soon_threadsafe(all_asked.set)
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with raw_server(echo) as server:
        mute = [asyncio.ensure_future(resolved(f"mute-{number}")) for number in range(MANY_NAMES)]
        try:
            async with asyncio.timeout(10):
                await all_asked.wait()
            assert isinstance(await send(server), Answer)
        finally:
            release.set()
            outcomes = await asyncio.gather(*mute, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {socket.gaierror}


async def test_a_link_local_address_is_told_with_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> Sequence[object]:
        found = [("fe80::1", 0, 0, 7), ("2001:db8::1", 0, 0, 0)]
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", each) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolved(NAME) == ("fe80::1%7", "2001:db8::1")


async def test_where_no_thread_can_be_begun_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with raw_server(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            failure = failed(await send(server))
        assert failure.kind is FailureKind.USED_UP
        assert server.count("POST") == 0


async def test_a_name_is_resolved_once_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(echo) as server:
        with resolving(monkeypatch, "127.0.0.1") as asked:
            await send(server)
        assert asked == [NAME]


async def test_a_name_with_no_address_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(echo) as server:
        with resolving(monkeypatch):
            assert failed(await send(server)).kind is FailureKind.UNREACHABLE


async def test_a_name_that_can_be_none_is_no_url() -> None:
    async with raw_server(echo) as server:
        failure = failed(await send(server, host=f"{'x' * 64}.test"))
        assert failure.kind is FailureKind.INVALID_URL


async def test_an_impostor_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(echo) as server:
        other = trust_of(thumbprint_of(b"another"))
        with resolving(monkeypatch, "127.0.0.1"):
            failure = failed(await send(server, other))
        assert (failure.kind, failure.presented) == (FailureKind.PIN_MISMATCH, server.thumbprint)
        assert failure.expected == thumbprint_of(b"another")
        assert server.begun == 0


async def test_a_server_is_told_a_name_but_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str | None] = []

    class Silent(asyncio.Protocol):
        """Hangs up at once."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    with server_context() as context:
        context.sni_callback = lambda _, name, __: names.append(name)
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(Silent, "127.0.0.1", 0, ssl=context)
    async with listener:
        server = RawServer(thumbprint_of(b""), "", listener.sockets[0].getsockname()[1])
        for host in (NAME, f"{NAME}.", "127.0.0.1"):
            with resolving(monkeypatch, "127.0.0.1"):
                await send(server, host=host)
    assert names == [NAME, NAME, None]


async def test_what_is_said_before_anything_was_asked_ends_the_connection() -> None:
    """In TLS 1.2 the server has the last word of the handshake, and may go on at once."""

    class Hasty(asyncio.Protocol):
        """Answers what nobody asked."""

        heard = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(response(b"forged"))

        def data_received(self, data: bytes) -> None:
            Hasty.heard += data

    asked: list[None] = []
    async with raw_server(echo) as server:
        with server_context() as context:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            loop = asyncio.get_running_loop()
            listener = await loop.create_server(Hasty, "127.0.0.1", 0, ssl=context)
        async with listener:
            server.port = listener.sockets[0].getsockname()[1]
            async with channel_to(server) as channel:
                outcome = await channel.send(CHANGE, {}, lambda: asked.append(None))
    assert failed(outcome).kind is FailureKind.UNREACHABLE
    assert not asked
    assert not Hasty.heard


async def test_a_call_that_is_cancelled_in_the_handshake_hangs_up_at_once() -> None:
    def listen() -> bool:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(1)  # It begins.
            loop.call_soon_threadsafe(dialing.cancel)
            while accepted.recv(4096):
                pass
            return True

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listening = asyncio.create_task(asyncio.to_thread(listen))
        trust = Trust(unverified(), thumbprint_of(b""))
        dialer = Dialer("127.0.0.1", listener.getsockname()[1], trust, LOOPBACK, 12.0)
        dialing = asyncio.create_task(dialer.dial(loop.time() + 60, never))
        with pytest.raises(asyncio.CancelledError):
            await dialing
        assert await listening


async def test_who_is_not_trusted_is_hung_up_on_at_once() -> None:
    """Though the other side does not answer the good-bye."""

    def shake_hands_and_listen() -> bytes:
        accepted, _ = listener.accept()
        secured = context.wrap_socket(accepted, server_side=True)
        with socket.socket(fileno=secured.detach()) as plain:
            plain.settimeout(5)
            said = b"something"
            with suppress(ConnectionResetError):
                while said:
                    said = plain.recv(4096)
            return b""

    loop = asyncio.get_running_loop()
    with server_context() as context, socket.create_server(("127.0.0.1", 0)) as listener:
        listening = asyncio.create_task(asyncio.to_thread(shake_hands_and_listen))
        trust = Trust(unverified(), thumbprint_of(b""))
        dialer = Dialer("127.0.0.1", listener.getsockname()[1], trust, LOOPBACK, 12.0)
        outcome = await dialer.dial(loop.time() + 60, never)
        assert isinstance(outcome, Failure)
        assert outcome.kind is FailureKind.PIN_MISMATCH
        assert await listening == b""


def never(sock: TlsSocket) -> Connection:
    raise AssertionError(f"{sock} was taken for good")


async def test_an_ipv6_literal_is_called_and_where_there_is_no_ipv6_it_is_out_of_reach() -> None:
    host = "::1" if has_ipv6() else "127.0.0.1"
    async with raw_server(echo, host) as server, channel_to(server, "[::1]") as channel:
        outcome = await channel.send(LOOK, {}, granted)
        if has_ipv6():
            assert isinstance(outcome, Answer)
            assert server.arrivals[0].headers["host"] == f"[::1]:{server.port}"
        else:
            assert isinstance(outcome, Failure)
            assert outcome.kind is FailureKind.UNREACHABLE
            assert not server.connections
