"""TLS on a socket that does not block, read in pieces, so that no peer can keep the loop busy."""

import socket
import ssl
from contextlib import suppress

_PIECE = 16 * 1024
_MOST_UNHEARD = 256 * 1024


class TlsSocket:
    """Like an `ssl.SSLSocket` that does not block, but takes in a piece at a time.

    OpenSSL itself, when it reads from a socket, goes on until it has something for us or the socket
    has nothing more: whoever sends what concerns TLS alone (new keys, tickets), as fast as that is
    dealt with, would keep everybody else from being served for as long as they like.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = b""
        self._written = 0
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def fileno(self) -> int:
        """For the event loop, to wait until there is something to read or room to write."""
        return self._socket.fileno()

    def do_handshake(self) -> None:
        """Go on with it, by a piece of what has come. Raises SSLWantReadError, SSLWantWriteError,
        OSError."""
        with suppress(ssl.SSLWantReadError):
            self.take_in()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            raise
        except ssl.SSLError:
            with suppress(OSError):
                self._flush()  # The other side hears why.
            raise
        self._flush()

    def send(self, data: bytes) -> int:
        """Hand over all of `data` to the kernel. Raises SSLWantWriteError when it takes no more: it
        has to be called again with the same; OSError."""
        if not self._written:
            self._written = self.tls.write(data)
        self._flush()
        written, self._written = self._written, 0
        return written

    def take_in(self) -> None:
        """Take in a piece of what has come, to be read by `recv`. Raises SSLWantReadError when
        nothing has, OSError."""
        try:
            data = self._socket.recv(_PIECE)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def recv(self, size: int) -> bytes:
        """What was taken in, nothing at the end. Raises SSLWantReadError, OSError."""
        try:
            return self.tls.read(size)
        finally:
            if self._outgoing.pending:  # TLS answers by itself.
                with suppress(ssl.SSLWantWriteError):
                    self._flush()
                if len(self._unsent) > _MOST_UNHEARD and not self._written:
                    raise OSError("the other side wants answers of TLS, and takes none")

    def pending(self) -> bool:
        """Whether something was taken in and not read."""
        return bool(self._incoming.pending or self.tls.pending())

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        """As that of the socket."""
        self._socket.setsockopt(level, name, value)

    def close(self) -> None:
        """Without a good-bye."""
        self._socket.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            raise ssl.SSLWantWriteError from None
