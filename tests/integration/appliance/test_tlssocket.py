"""TLS of which the other side cannot make us do as much at once as it likes."""

import select
import socket
import ssl
from contextlib import suppress

from service.appliance.tls import unverified
from service.appliance.tlssocket import TlsSocket
from tests.integration.appliance.raw_server import server_context

PIECE = 16 * 1024
HELLO_REQUESTS = b"\x16\x03\x03" + PIECE.to_bytes(2) + bytes(PIECE)
"""A record of what a client passes over as long as it shakes hands (RFC 5246, 7.4.1.1)."""


def test_what_concerns_tls_alone_is_dealt_with_a_piece_at_a_time() -> None:
    with server_context() as context:
        context.num_tickets = 1_000  # A quarter of a megabyte, and nothing for us in it.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(incoming, outgoing, server_side=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - the library's own
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        secured = TlsSocket(ours, unverified(), "raw.example.test")
        with suppress(ssl.SSLWantReadError):
            secured.do_handshake()
        sent = b""
        for go_on in (secured.do_handshake, None):
            incoming.write(theirs.recv(PIECE))
            with suppress(ssl.SSLWantReadError):
                server.do_handshake()
            sent = outgoing.read()
            theirs.sendall(sent)
            if go_on is not None:
                go_on()
        pieces = 0
        with suppress(ssl.SSLWantReadError):
            while True:
                secured.take_in()
                pieces += 1
                with suppress(ssl.SSLWantReadError):
                    assert not secured.recv(PIECE)
        assert len(sent) > 10 * PIECE
        assert pieces >= len(sent) // PIECE


def test_a_handshake_goes_on_by_a_piece_at_a_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - the library's own
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        theirs.sendall(10 * HELLO_REQUESTS)
        secured = TlsSocket(ours, unverified(), "raw.example.test")
        incoming = select.poll()
        incoming.register(ours, select.POLLIN)
        pieces = 0
        while incoming.poll(0):
            with suppress(ssl.SSLWantReadError):
                secured.do_handshake()
            pieces += 1
        assert pieces > 10
