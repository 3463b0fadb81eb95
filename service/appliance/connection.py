"""One TLS connection to an appliance, over which one call at a time is made."""

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from service.appliance.answer import AnswerReader
from service.appliance.exchange import Failure, FailureKind, Outcome, Permit

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """A connection that was made, and is closed for good by whatever goes wrong on it.

    What comes unasked is never taken for an answer: 1. between two calls it closes the connection
    as it comes in; 2. what has come in by then and was not read yet shows in `is_fit`, which is to
    be looked at before a kept connection is used again; 3. what follows upon an answer at once
    closes the connection, too.

    Not an `asyncio.BufferedProtocol`: with one of those, `sslproto` may put off the rest of what it
    has decrypted, where 2. cannot see it.
    """

    def __init__(self, max_body: int, on_lost: Callable[["Connection"], None]) -> None:
        """`on_lost` is called when the connection has come to its end, however it did."""
        self.lost = asyncio.Event()
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._reader = AnswerReader(max_body)
        self._transport: asyncio.Transport
        self._socket: socket.socket
        self._poll = select.poll()
        self._waiter: asyncio.Future[Outcome] | None = None
        self._answer_s = 0.0
        self._until = 0.0
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether something can be sent, as far as is known."""
        return not self._transport.is_closing()

    @property
    def is_fit(self) -> bool:
        """Whether it is open and nothing has come in since the last answer, not even its end."""
        return not self._transport.is_closing() and not self._poll.poll(0)

    async def exchange(
        self, request: bytes, permit: Permit, answer_s: float, until: float
    ) -> Outcome:
        """Send `request`, if `permit` does not raise, and read the answer to its end.

        The other side may be silent for `answer_s`, and take until `until` for all of it.
        """
        if self._transport.is_closing():
            return Failure(FailureKind.UNREACHABLE, "closed before the call left")
        permit()
        waiter: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiter = waiter
        self._reader.begin()
        self._heard = now = self._loop.time()
        self._answer_s, self._until = answer_s, until
        self._wake_at(min(now + answer_s, until))
        self._transport.write(request)
        try:
            return await waiter
        finally:
            if self._waiter is not None:  # Cancelled.
                self._waiter = None
                self._withdraw()

    def close(self) -> None:
        """Close it at once, also under a call."""
        if self._waiter is not None:
            self._give_up(Failure(FailureKind.CUT, "closed on this side"))
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type alone
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._poll.register(self._socket.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._waiter is None:
            self._transport.abort()
            return
        self._heard = self._loop.time()
        outcome = self._reader.feed(data)
        if outcome is not None:
            self._finish(outcome)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        if self._waiter is not None and exc is None:
            self._finish(self._reader.end())
        elif self._waiter is not None:
            words = str(exc).strip() or type(exc).__name__
            self._give_up(Failure(FailureKind.CUT, words[:300]))
        if self._timer is not None:
            self._timer.cancel()
        self.lost.set()
        self._on_lost(self)

    def _wake_at(self, due: float) -> None:
        """Look after the call at `due` or before. A timer is left alone when its call is over:
        mostly it serves the next ones, so that calls cost none each."""
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        now, silent_at = self._loop.time(), self._heard + self._answer_s
        if now < min(silent_at, self._until):
            self._wake_at(min(silent_at, self._until))
        elif self._until <= now:
            self._give_up(Failure(FailureKind.SILENT, "the time of the call is over"))
        else:
            self._give_up(Failure(FailureKind.SILENT, f"nothing came for {self._answer_s:g} s"))

    def _give_up(self, failure: Failure) -> None:
        self._finish(self._reader.give_up(failure))

    def _finish(self, outcome: Outcome) -> None:
        waiter, self._waiter = self._waiter, None
        if isinstance(outcome, Failure):
            self._withdraw()
        elif not self._reader.is_keepable:
            self._transport.abort()
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)

    def _withdraw(self) -> None:
        """Nothing more of a call that was not answered leaves from now on.

        Not even the kernel sends again what a broken network has kept from arriving: later it
        would meet an appliance that another worker looks after.
        """
        with suppress(OSError):  # It may be closed by now.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
