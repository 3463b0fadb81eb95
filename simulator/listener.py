"""One TLS port: opens, closes, slams, and knows every connection on it.

A listener is closed for good when `close` returns: no connection, no request, no timer is left.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from simulator.truth import Counts

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_GRACE_S = 0.05
_LAST_S = 0.5


class _Server(web.Server):
    """aiohttp's server, with its connections counted and at hand."""

    def __init__(
        self, handler: Handler, counts: Callable[[], Counts], keep_alive_s: Callable[[], float]
    ) -> None:
        # A hung handler has to end when its client has gone.
        super().__init__(handler, handler_cancellation=True)
        self._counts = counts
        self._keep_alive_s = keep_alive_s
        self.live: dict[web.RequestHandler, asyncio.Transport] = {}
        self._greeting: set[asyncio.Task[object]] = set()
        """asyncio's own, each in a handshake: nobody else has the connection until that is over."""
        self.is_closed = False
        self.is_empty = asyncio.Event()
        self.is_empty.set()

    def __call__(self) -> web.RequestHandler:
        self._counts().connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)
        return web.RequestHandler(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to switch it off
            keepalive_timeout=self._keep_alive_s(),
            lingering_time=0,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._counts().handshakes += 1
        self.live[handler] = transport
        self.is_empty.clear()
        if self.is_closed:
            # Its handshake had begun before the port was closed.
            transport.abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self.live.pop(handler, None)
        if not self.live:
            self.is_empty.set()

    def cut_all(self) -> None:
        for task in self._greeting:
            task.cancel()
        for transport in list(self.live.values()):
            transport.abort()


class Listener:
    """A port that stays the same over every down and up."""

    def __init__(
        self,
        *,
        sock: socket.socket,
        context: ssl.SSLContext,
        handler: Handler,
        counts: Callable[[], Counts],
        keep_alive_s: Callable[[], float],
    ) -> None:
        self._sock = sock
        self._context = context
        self._web = _Server(handler, counts, keep_alive_s)
        self._counts = counts
        self._server: asyncio.Server | None = None
        self._timer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False
        self.port = int(sock.getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._web.live)

    async def open(self) -> None:
        """Listen, on the socket that it was made with."""
        await self._serve()

    async def down(self, mode: str = "refuse", ms: int = 0) -> None:
        """Cut every connection and take no more; slam: take and cut. Up again after `ms`, if any.

        May be called from a request on this very port: its own connection goes last, as nothing of
        the request runs on after that.
        """
        async with self._turn:
            if self._is_closed:
                return
            self._stop_listening()
            self._web.is_closed = True
            # Held even if nobody listens: no other socket may take the port meanwhile.
            self._sock = bound(self.port)
            if ms:
                self._timer = asyncio.create_task(self._up_after(ms))
            try:
                if mode == "slam":
                    await self._listen(self._slammed)
            finally:
                # Also for a caller who has gone meanwhile.
                self._web.cut_all()

    async def up(self) -> None:
        """Serve again, whatever was before."""
        async with self._turn:
            if self._is_closed:
                return
            self._stop_listening()
            self._web.is_closed = False
            self._sock = bound(self.port)
            await self._serve()

    def cut_all(self) -> None:
        """Cut every connection; new ones are welcome."""
        self._web.cut_all()

    async def close(self) -> None:
        """Cut everything, hung requests too, and wait until it is gone: well under a second."""
        async with self._turn:
            self._is_closed = True
            timer = self._timer
            self._stop_listening()
        if timer is not None:
            await asyncio.gather(timer, return_exceptions=True)
        self._web.is_closed = True
        self._web.pre_shutdown()
        await self._web.shutdown(_GRACE_S)
        self._web.cut_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await self._web.is_empty.wait()

    async def _serve(self) -> None:
        await self._listen(
            self._web,
            ssl=self._context,
            backlog=1024,
            ssl_handshake_timeout=5,
            ssl_shutdown_timeout=0.2,
        )

    async def _listen(self, protocol: Callable[[], asyncio.Protocol], **options: Any) -> None:
        # Known before it listens: who is cancelled while that begins leaves none behind.
        self._server = await asyncio.get_running_loop().create_server(
            protocol, sock=self._sock, start_serving=False, **options
        )
        await self._server.start_serving()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._sock.close()
        if self._timer is not None and self._timer is not asyncio.current_task():
            self._timer.cancel()
        self._timer = None

    def _slammed(self) -> asyncio.Protocol:
        self._counts().connections += 1
        return _Slam()

    async def _up_after(self, ms: int) -> None:
        await asyncio.sleep(ms / 1000)
        await self.up()


class _Slam(asyncio.Protocol):
    """Takes a connection and cuts it at once, before a handshake can begin."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


def bound(port: int) -> socket.socket:
    """A socket on 127.0.0.1 that holds its port, not yet listening."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(0)
    try:
        sock.bind(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock
