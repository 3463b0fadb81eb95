"""A TLS server that does on the wire exactly what a test says, and counts what came in."""

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.domain.ids import ApplianceName
from service.domain.registration import ApplianceSpec, LocalUser
from service.domain.thumbprint import Thumbprint, thumbprint_of


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it came in. `nth` counts the requests of its connection, from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    nth: int


Script = Callable[[Arrival, asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer as bytes; `content_encoding` becomes `content-encoding`."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{''.join(lines)}\r\n"
    return head.encode() + body


LOGIN = response(b'{"roles": [], "user": "root"}', x_vcav_auth="dG9rZW4=")


@dataclass(slots=True)
class RawServer:
    """What came in, and where it listens."""

    thumbprint: Thumbprint
    pem: str
    """Its certificate, which is valid for 127.0.0.1 and its own CA."""
    port: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    begun: int = 0
    """Requests of which at least a first byte came in."""
    connections: int = 0
    open: int = 0
    resets: int = 0
    """Connections that the other side cut off without a word."""
    login: bytes = LOGIN

    def spec(self) -> ApplianceSpec:
        """Its registration: changes come one by one, and need no more connections than reads."""
        return ApplianceSpec(
            name=ApplianceName("raw"),
            management_url=f"https://127.0.0.1:{self.port}/",
            api_url="https://raw.example.test:8048/",
            api_thumbprint=self.thumbprint,
            credentials=LocalUser("root", "pw"),
            thumbprint=self.thumbprint,
            max_in_flight=1,
        )

    def count(self, method: str, path: str = "") -> int:
        """How many such requests came in."""
        return sum(each.method == method and each.path.startswith(path) for each in self.arrivals)


def accepted() -> bytes:
    """The answer to `POST /sites`."""
    body = json.dumps({"id": str(uuid.uuid4()), "state": "RUNNING"}).encode()
    return response(body, "202 Accepted")


@asynccontextmanager
async def raw_server(script: Script, host: str = "127.0.0.1") -> AsyncIterator[RawServer]:
    """A server that logs everybody in and leaves every other request to `script`."""
    server = RawServer(thumbprint_of(_identity()[2]), _identity()[1].decode())
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        server.connections += 1
        server.open += 1
        try:
            await _converse(server, script, reader, writer)
        finally:
            handlers.discard(task)
            server.open -= 1
            writer.transport.abort()

    with server_context() as context:
        listener = await asyncio.start_server(serve, host, 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for handler in handlers:
            handler.cancel()
        if handlers:
            await asyncio.wait(list(handlers))
        await listener.wait_closed()


async def _converse(
    server: RawServer, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    nth = 0
    with _peace(server):
        while not writer.transport.is_closing():
            nth += 1
            first = await reader.readexactly(1)
            server.begun += 1
            arrival = await _read(first, reader, nth)
            server.arrivals.append(arrival)
            if (arrival.method, arrival.path) == ("POST", "/sessions"):
                writer.write(server.login)
            else:
                await script(arrival, writer)
            if not writer.transport.is_closing():
                await writer.drain()
        await reader.read()  # How it ended, which Python 3.14 tells nowhere else.


@contextmanager
def _peace(server: RawServer) -> Iterator[None]:
    """However a connection ends, the server goes on."""
    with suppress(
        asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError
    ):
        try:
            yield
        except ConnectionResetError:
            server.resets += 1
            raise


async def _read(first: bytes, reader: asyncio.StreamReader, nth: int) -> Arrival:
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
    request, *lines = head.split("\r\n")
    method, path, _ = request.split(" ")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Arrival(method, path, headers, body, nth)


@cache
def _identity() -> tuple[bytes, bytes, bytes]:
    """Key and certificate as PEM, the certificate as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "raw")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
        certificate.public_bytes(serialization.Encoding.DER),
    )


@contextmanager
def server_context() -> Iterator[ssl.SSLContext]:
    """TLS with the certificate of `RawServer`."""
    key, certificate, _ = _identity()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity.pem"
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)
        yield context
