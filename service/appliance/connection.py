"""One TLS connection to an appliance, over which one call at a time is made."""

import asyncio
import select
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress

from service.appliance.answer import AnswerReader
from service.appliance.exchange import Failure, FailureKind, Outcome, Permit
from service.appliance.tlssocket import TlsSocket

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PIECE = 16 * 1024
"""As much as one record of TLS holds."""


class Connection:
    """A connection that was made, and is closed for good by whatever goes wrong on it.

    On the socket itself, without a transport in between: a request is handed to the kernel at the
    moment of its permit, whatever the event loop would do with it, and nothing that was read waits
    anywhere but in the kernel or in `TlsSocket`.

    What comes unasked is never taken for an answer: between two calls it closes the connection as
    it comes in; what has come in by then and was not read yet shows in `is_fit`, which is to be
    looked at before a connection is used; and what follows upon an answer at once closes it, too.
    """

    def __init__(
        self, sock: TlsSocket, max_body: int, on_lost: Callable[["Connection"], None]
    ) -> None:
        """`sock` does not block, is past its handshake, and is the connection's from now on.
        `on_lost` is called when the connection has come to its end, however it did."""
        self.idle_since = 0.0
        self.is_open = True
        """Whether something can be sent, as far as is known."""
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._reader = AnswerReader(max_body)
        self._unsent = b""
        self._waiter: asyncio.Future[Outcome] | None = None
        self._answer_s = 0.0
        self._until = 0.0
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._incoming = select.poll()
        self._incoming.register(sock, select.POLLIN)
        self._loop.add_reader(sock, self._read)

    @property
    def is_fit(self) -> bool:
        """Whether it is open and nothing has come in since the last answer, not even its end. What
        TLS had to say meanwhile does not count."""
        if not self.is_open:
            return False
        if not self._incoming.poll(0) and not self._socket.pending():
            return True  # The usual case, and ten times as quick as to ask TLS.
        try:
            with suppress(ssl.SSLWantReadError):
                self._socket.take_in()
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            pass
        return False

    async def exchange(
        self, request: bytes, permit: Permit, answer_s: float, until: float
    ) -> Outcome:
        """Send `request`, if `permit` does not raise, and read the answer to its end.

        The other side may be silent for `answer_s`, and take until `until` for all of it.
        """
        if not self.is_open:
            return Failure(FailureKind.UNREACHABLE, "closed before the call left")
        permit()
        waiter: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiter = waiter
        self._reader.begin()
        self._heard = now = self._loop.time()
        self._answer_s, self._until = answer_s, until
        self._wake_at(min(now + answer_s, until))
        self._unsent = request
        self._write()
        try:
            return await waiter
        finally:
            if self._waiter is not None:  # Cancelled.
                self._waiter = None
                self._withdraw()

    def close(self) -> None:
        """Close it at once, also under a call, without a good-bye."""
        if self._waiter is not None:
            self._give_up(Failure(FailureKind.CUT, "closed on this side"))
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    def _write(self) -> None:
        """Hand over what is not sent yet, as far as the kernel takes it."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except ssl.SSLWantReadError:
            pass  # TLS has to hear something first; `_read` comes back here then.
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._socket, self._go_on)
        except OSError as error:
            self._lose(error)

    def _go_on(self) -> None:
        """The kernel takes more."""
        self._loop.remove_writer(self._socket)
        self._write()
        if self.is_open:
            self._read()

    def _read(self) -> None:
        """Take in a piece of what has come, and read all of it: the event loop only tells of what
        is still in the kernel."""
        try:
            self._socket.take_in()
            self._take(self._socket.recv(_PIECE))
            while self.is_open and self._socket.pending():
                self._take(self._socket.recv(_PIECE))
        except ssl.SSLWantReadError:
            if self._unsent:
                self._write()
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._socket, self._go_on)
        except OSError as error:
            self._lose(error)

    def _take(self, data: bytes) -> None:
        if self._waiter is None:
            self.close()
        elif not data:
            self._finish(self._reader.end())
        else:
            self._heard = self._loop.time()
            outcome = self._reader.feed(data)
            if outcome is not None:
                self._finish(outcome)

    def _lose(self, error: OSError) -> None:
        if self._waiter is not None:
            words = str(error).strip() or type(error).__name__
            self._give_up(Failure(FailureKind.CUT, words[:300]))
        self.close()

    def _wake_at(self, due: float) -> None:
        """Look after the call at `due` or before. A timer is left running when its call is over: it
        mostly serves the next ones, so that not every call costs one."""
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
        elif self._unsent or not self._reader.is_keepable:
            self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)

    def _withdraw(self) -> None:
        """Nothing more of a call that was not answered leaves from now on.

        Closed by a reset, so that the kernel does not send again what a broken network has kept
        from arriving: by then another worker may be at work on that appliance.
        """
        with suppress(OSError):  # It may be closed by now.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()
