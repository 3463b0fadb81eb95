"""The few connections to one appliance, kept for whoever comes next."""

import asyncio

from service.appliance.connection import Connection
from service.appliance.dialing import Dialer
from service.appliance.exchange import Failure, FailureKind
from service.appliance.limits import Limits
from service.appliance.tlssocket import TlsSocket

_CLOSED = Failure(FailureKind.UNREACHABLE, "the channel was closed")
_UNFIT = Failure(FailureKind.UNREACHABLE, "the other side speaks unasked, or is gone")


class Pool:
    """Opens one whenever none is idle: `Calls` limits how many are taken at once. Each is kept idle
    for at most `limits.keep_alive_s`."""

    def __init__(self, dialer: Dialer, limits: Limits, connect_s: float) -> None:
        self._dialer = dialer
        self._connect_s = connect_s
        self._keep_alive_s = limits.keep_alive_s
        self._max_body = limits.max_body
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        """Those longest idle first."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def take(self, until: float) -> Connection | Failure:
        """A connection that is fit for a call, to be given back; why there is none, otherwise."""
        now = asyncio.get_running_loop().time()
        return self._kept(now) or await self._dial(min(now + self._connect_s, until))

    def give_back(self, connection: Connection) -> None:
        """The call is over. What is still open is kept."""
        if not connection.is_open:
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(self._keep_alive_s, self._sweep)

    def close(self) -> None:
        """Close all connections, also under a call."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._open):
            connection.close()

    def _kept(self, now: float) -> Connection | None:
        eldest = now - self._keep_alive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > eldest and connection.is_fit:
                return connection
            connection.close()
        return None

    async def _dial(self, by: float) -> Connection | Failure:
        connection = _CLOSED if self._is_closed else await self._dialer.dial(by, self._make)
        if isinstance(connection, Failure) or (connection.is_fit and not self._is_closed):
            return connection
        connection.close()
        return _CLOSED if self._is_closed else _UNFIT

    def _make(self, sock: TlsSocket) -> Connection:
        connection = Connection(sock, self._max_body, self._lost)
        self._open.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _sweep(self) -> None:
        """One timer for all: it comes back for those that were not idle long enough yet."""
        loop = asyncio.get_running_loop()
        self._timer = None
        eldest = loop.time() - self._keep_alive_s
        while self._idle and self._idle[0].idle_since <= eldest:
            self._idle.pop(0).close()
        if self._idle:
            self._timer = loop.call_at(self._idle[0].idle_since + self._keep_alive_s, self._sweep)
