"""What never becomes a request: heads that do not arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from service.api import serving
from tests.unit.api.conftest import Served

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that do not arrive are not waited for long."""
    monkeypatch.setattr(serving, "HEAD_ARRIVAL_S", 0.05)


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Connection]:
    """A connection to the service."""
    reader, writer = await asyncio.open_connection(served.host, served.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(connection: Connection, request: bytes) -> bytes:
    """The status line that `request` is answered with; the connection is kept."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
    await reader.readexactly(int(length.split()[1]))
    return head.split(b"\r\n")[0]


async def end(connection: Connection) -> bytes:
    """What comes before the service closes the connection."""
    async with asyncio.timeout(10):
        return await connection[0].read()


@pytest.mark.parametrize("sent", [b"", b"GET /hea", WHOLE[:-2]])
async def test_a_connection_on_which_no_head_arrives_is_closed(
    shared: Served, hurried: None, sent: bytes
) -> None:
    async with connected(shared) as connection:
        connection[1].write(sent)
        assert await end(connection) == b""


async def test_a_head_that_comes_byte_by_byte_gets_no_more_time(
    shared: Served, hurried: None
) -> None:
    """Nor an answer: it is not for its length that the connection ends."""
    async with connected(shared) as connection, asyncio.timeout(10):
        reader, writer = connection
        writer.write(b"GET /")
        for _ in range(serving._LINE_BYTES // 2):
            writer.write(b"x")
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.01):
                    assert await reader.read(1) == b""
            if reader.at_eof() or writer.transport.is_closing():
                return
        pytest.fail("it may take as long as it likes")


async def test_a_kept_connection_is_closed_when_the_next_head_does_not_arrive(
    shared: Served, hurried: None
) -> None:
    async with connected(shared) as connection:
        assert b" 200 " in await answer(connection, WHOLE)
        connection[1].write(b"GET /hea")
        assert await end(connection) == b""


async def test_who_sends_nothing_after_an_answer_keeps_the_connection(
    shared: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_ARRIVAL_S", 1.0)
    async with connected(shared) as idle, connected(shared) as later:
        assert b" 200 " in await answer(idle, WHOLE)
        idle[1].write(WHOLE[:9])
        assert b" 200 " in await answer(idle, WHOLE[9:])
        await end(later)
        async with connected(shared) as last:
            await end(last)
        assert b" 200 " in await answer(idle, WHOLE)
