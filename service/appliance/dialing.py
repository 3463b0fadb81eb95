"""Opens connections to one appliance: to permitted addresses, in time, to whom we trust."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from service.appliance.connection import Connection
from service.appliance.egress import EgressForbidden, EgressPolicy, addresses_of
from service.appliance.exchange import Failure, FailureKind
from service.appliance.tls import PinMismatch, Trust


class Dialer:
    """Knows the way to one host and port."""

    def __init__(self, host: str, port: int, trust: Trust, egress: EgressPolicy) -> None:
        self._host = host
        self._port = port
        self._trust = trust
        self._egress = egress
        self._proven = ""
        """The address that led to a connection last; it is tried first."""

    async def dial(self, by: float, make: Callable[[], Connection]) -> Connection | Failure:
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
        except (OSError, ValueError) as error:
            kind = next(kind for known, kind in _KINDS if isinstance(error, known))
            words = str(error).strip() or type(error).__name__
            return Failure(kind, words[:300])

    async def _dial(self, by: float, make: Callable[[], Connection]) -> Connection:
        found = await addresses_of(self._host, self._egress)
        addresses = sorted(found, key=lambda address: address != self._proven)
        clock = asyncio.get_running_loop().time
        trouble: OSError = OSError(f"'{self._host}' has no address")
        for nth, address in enumerate(addresses):
            # A dead address leaves the others their share of the time.
            connect_by = clock() + (by - clock()) / (len(addresses) - nth)
            try:
                connection = await self._open(address, connect_by, make())
            except OSError as error:
                trouble = error
            else:
                self._proven = address
                return connection
        raise trouble

    async def _open(self, address: str, connect_by: float, connection: Connection) -> Connection:
        sock = await self._reach(address, connect_by)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._trust.context,
                server_hostname=self._host.rstrip("."),
            )
        except BaseException as error:
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                sock.close()  # Not even a name for TLS: nobody has it yet.
            # Else its transport has it, and closes it. If the handshake was just over, that would
            # wait half a minute for the other side's good-bye.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            raise
        try:
            self._trust.check(transport)
        except PinMismatch:
            connection.close()
            raise
        return connection

    async def _reach(self, address: str, by: float) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            async with asyncio.timeout_at(by):
                await asyncio.get_running_loop().sock_connect(sock, (address, self._port))
        except BaseException:
            sock.close()
            raise
        return sock


_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (EgressForbidden, FailureKind.FORBIDDEN),
    (ssl.SSLCertVerificationError, FailureKind.UNTRUSTED),
    (ssl.SSLError, FailureKind.TLS_FAILED),
    (OSError, FailureKind.UNREACHABLE),
    (ValueError, FailureKind.INVALID_URL),
)
"""The order matters, for these errors inherit from one another."""
