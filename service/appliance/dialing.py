"""Opens connections to one appliance: to permitted addresses, in time, to whom we trust."""

import asyncio
import errno
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from math import inf

from service.appliance.connection import Connection
from service.appliance.egress import EgressForbidden, EgressPolicy, addresses_of
from service.appliance.exchange import Failure, FailureKind
from service.appliance.tls import PinMismatch, Trust
from service.appliance.tlssocket import TlsSocket
from service.observe.events import DialingFailed
from service.observe.logging import emit

Make = Callable[[TlsSocket], Connection]

_USED_UP = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, socket.EAI_MEMORY}
)
"""EAGAIN: of threads."""
_SILENT_S = 60.0


class Dialer:
    """Knows the way to one host and port."""

    def __init__(
        self, host: str, port: int, trust: Trust, egress: EgressPolicy, unheard_s: float
    ) -> None:
        """What the other side does not confirm for `unheard_s` is given up by the kernel."""
        self._host = host
        self._port = port
        self._trust = trust
        self._egress = egress
        self._unheard_ms = round(unheard_s * 1000)
        self._proven = ""
        """The address that led to a connection last; it is tried first."""
        self._silent_until = -inf

    async def dial(self, by: float, make: Make) -> Connection | Failure:
        """A new connection, made by `make`, whose certificate was checked; why there is none by
        then, otherwise: that of the last address tried."""
        try:
            async with asyncio.timeout_at(by):
                return await self._dial(by, make)
        except TimeoutError:
            return Failure(FailureKind.CONNECT_TIMEOUT, f"'{self._host}', port {self._port}")
        except PinMismatch as found:
            kind = FailureKind.PIN_MISMATCH
            return Failure(kind, "", expected=found.expected, presented=found.presented)
        except (OSError, ValueError, MemoryError) as error:
            words = str(error).strip() or type(error).__name__
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in _USED_UP:
                self._tell_used_up(words[:300])
                return Failure(FailureKind.USED_UP, words[:300])
            kind = next(kind for known, kind in _KINDS if isinstance(error, known))
            return Failure(kind, words[:300])

    def _tell_used_up(self, error: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + _SILENT_S
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            emit(DialingFailed(error=error, limit=limit))

    async def _dial(self, by: float, make: Make) -> Connection:
        found = await addresses_of(self._host, self._egress)
        addresses = sorted(found, key=lambda address: address != self._proven)
        clock = asyncio.get_running_loop().time
        trouble: OSError = OSError(f"'{self._host}' has no address")
        for nth, address in enumerate(addresses):
            # A dead address leaves the others their share of the time; so does one that is mute.
            open_by = clock() + (by - clock()) / (len(addresses) - nth)
            try:
                async with asyncio.timeout_at(open_by):
                    connection = make(await self._open(address))
            except OSError as error:
                trouble = error
            else:
                self._proven = address
                return connection
        try:
            raise trouble
        finally:
            del trouble  # Its traceback leads here: a circle that holds sockets.

    async def _open(self, address: str) -> TlsSocket:
        sock = await self._reach(address)
        try:
            secured = TlsSocket(sock, self._trust.context, self._host.rstrip("."))
            await _shake_hands(secured)
            self._trust.check(secured.tls)
        except BaseException:
            sock.close()
            raise
        return secured

    async def _reach(self, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)  # noqa: FBT003 - the library's own
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                # By itself the kernel would send again for minutes what a broken network has kept
                # from arriving, also when we are stopped, or killed, and can give up nothing.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._unheard_ms)
            await asyncio.get_running_loop().sock_connect(sock, (address, self._port))
        except BaseException:
            sock.close()
            raise
        return sock


async def _shake_hands(secured: TlsSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            await _until_ready(secured, loop.add_reader, loop.remove_reader)
        except ssl.SSLWantWriteError:
            await _until_ready(secured, loop.add_writer, loop.remove_writer)
        else:
            return


async def _until_ready(
    sock: TlsSocket, watch: Callable[..., object], leave: Callable[[TlsSocket], object]
) -> None:
    ready = asyncio.Event()
    watch(sock, ready.set)
    try:
        await ready.wait()
    finally:
        leave(sock)


_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (EgressForbidden, FailureKind.FORBIDDEN),
    (ssl.SSLCertVerificationError, FailureKind.UNTRUSTED),
    (ssl.SSLEOFError, FailureKind.UNREACHABLE),
    (ssl.SSLError, FailureKind.TLS_FAILED),
    (OSError, FailureKind.UNREACHABLE),
    (ValueError, FailureKind.INVALID_URL),
)
"""The order matters, for these errors inherit from one another."""
