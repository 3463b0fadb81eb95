"""A way to PostgreSQL that loses messages on demand: after the statement took effect, or before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

_PARSE, _BIND, _READY = b"P", b"B", b"Z"
_WRITES = b"insert into event"


class Loss(Enum):
    """What is lost of the next statement that writes events; the client finds its connection
    closed."""

    QUESTION = "the server never hears of it"
    ANSWER = "the server has carried it out and said so"
    BOTH_FOR_A_WHILE = "the server hears of it later, when it is let go"


class Proxy:
    """Passes on what is said, except what it is told to lose. `lost` is set when it was; after
    that, nobody gets through as long as it `is_shut`. While it `is_silent` it swallows everything,
    like a host that has lost its power. `prepared` has the names that statements were given."""

    def __init__(self, server_socket: Path) -> None:
        self.lost = asyncio.Event()
        self.is_shut = False
        self.is_silent = False
        self.fell_silent = asyncio.Event()
        self.prepared: list[bytes] = []
        self._last_words: bytes | None = None
        self._server_socket = server_socket
        self._loss: Loss | None = None
        self._let_go = asyncio.Event()
        self._heard = asyncio.Event()

    def lose(self, loss: Loss) -> None:
        """Lose that of the next such statement, on whatever connection it comes."""
        self._loss = loss
        self.lost.clear()
        self._let_go.clear()
        self._heard.clear()

    def fall_silent_at(self, words: bytes) -> None:
        """Swallow everything from the message on that has these words."""
        self._last_words = words

    async def deliver(self) -> None:
        """Let go what is held back; return when the server has carried it out."""
        self._let_go.set()
        await self._heard.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, until either end closes it."""
        if self.is_shut and self.lost.is_set():
            writer.close()
            return
        away, back = await asyncio.open_unix_connection(self._server_socket)
        try:
            async with asyncio.TaskGroup() as tasks:
                answers = tasks.create_task(self._pass_on(away, writer))
                await self._ask(reader, away, back, writer, answers)
                answers.cancel()
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, back):
                end.close()

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        away: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        answers: "asyncio.Task[None]",
    ) -> None:
        back.write(await _untyped(reader))
        queries: dict[bytes, bytes] = {}
        while True:
            kind, message = await _typed(reader)
            if self._last_words is not None and self._last_words in message:
                self._last_words = None
                self.is_silent = True
                self.fell_silent.set()
            if self.is_silent:
                continue
            if kind == _PARSE:
                name, query, _ = message[5:].split(b"\0", 2)
                queries[name] = query
                self.prepared.append(name)
            if not (self._loss and kind == _BIND and _WRITES in queries[_bound(message)]):
                back.write(message)
                await back.drain()
                continue
            loss, self._loss = self._loss, None
            answers.cancel()
            await asyncio.wait([answers])
            if loss is not Loss.QUESTION:
                await self._carry_out(loss, message, reader, away, back, writer)
            self.lost.set()
            return

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self.is_silent:
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _carry_out(
        self,
        loss: Loss,
        bind: bytes,
        reader: asyncio.StreamReader,
        away: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        # Bind is followed by Execute and Sync.
        rest = [await _typed(reader) for _ in range(2)]
        if loss is Loss.BOTH_FOR_A_WHILE:
            self.lost.set()
            writer.close()
            await self._let_go.wait()
        back.write(bind + b"".join(message for _, message in rest))
        while (await _typed(away))[0] != _READY:
            pass
        self._heard.set()


def _bound(message: bytes) -> bytes:
    """The name of the statement that is bound: after that of the portal."""
    return message[5:].split(b"\0", 2)[1]


async def _untyped(reader: asyncio.StreamReader) -> bytes:
    """The first message of a connection has a length only."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length) - 4)


async def _typed(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    length = await reader.readexactly(4)
    return kind, kind + length + await reader.readexactly(int.from_bytes(length) - 4)


@asynccontextmanager
async def proxy_to(url: str, directory: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the server of `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    name = f".s.PGSQL.{query['port'][0]}"
    proxy = Proxy(Path(query["host"][0]) / name)
    server = await asyncio.start_unix_server(proxy.serve, directory / name)
    through = parts._replace(query=f"host={directory}&port={query['port'][0]}")
    async with server:
        yield proxy, urlunsplit(through)
