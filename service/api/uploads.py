"""Bodies that may be large: kept in a file while they arrive, so that memory stays flat."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from aiohttp import web

from service.api.bodies import ARRIVAL_S, LIMIT, welcome
from service.api.faults import Fault
from service.api.refusals import BodyTooLarge, BodyTooSlow, InvalidRequest, MalformedBody, NoRoom
from service.observe.events import BodyUnkept
from service.observe.logging import emit

MOST_ITEMS = 100_000
"""How many lines that are not empty a body may have."""

_TOTAL_S = 600.0
"""How long a body may take to arrive, if there is no longer pause in it than `ARRIVAL_S`."""
_IN_MEMORY = 1024 * 1024


class Spool:
    """A body. Writing and reading block for as long as it takes to copy from or to the system's
    own cache, which is less than handing that over to a thread would take."""

    def __init__(self, directory: Path, limit: int) -> None:
        """At most `limit` bytes; what does not fit into a little memory lies in `directory`. Raises
        NoRoom."""
        with _room_needed():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without a name, so that nothing is left of it whatever happens.
        self._file: tempfile.SpooledTemporaryFile[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY, dir=str(directory)
        )
        self._limit = limit
        self._size = 0
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was added."""
        return self._hash.digest()

    def add(self, content: bytes) -> None:
        """`content` comes next. Raises BodyTooLarge, NoRoom."""
        self._size += len(content)
        if self._size > self._limit:
            raise BodyTooLarge(self._limit)
        self._hash.update(content)
        with _room_needed():
            self._file.write(content)
            self._file.flush()  # Else it would be found out later, while it is read.

    def lines(self) -> Iterator[bytes | None]:
        """The lines that are items, from the first one on; None for one that is too long. For one
        reader at a time."""
        self._file.seek(0)
        while line := self._file.readline(LIMIT + 1):
            if len(line) > LIMIT and not line.endswith(b"\n"):
                while (rest := self._file.readline(LIMIT)) and not rest.endswith(b"\n"):
                    pass
                yield None
            elif not line.isspace():
                yield line

    def content(self) -> bytes:
        """All of it."""
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Forget it."""
        with suppress(OSError):  # What did not fit is tried once more.
            self._file.close()


class LineCount:
    """Counts the lines of a body that are items, as its pieces arrive."""

    def __init__(self) -> None:
        self.lines = 0
        self._rest = b""

    def see(self, content: bytes) -> None:
        """`content` comes next. Raises InvalidRequest."""
        *lines, rest = (self._rest + content).split(b"\n")
        self._rest = rest[: LIMIT + 1]  # Enough to see that it is too long.
        self._add(lines)

    def end(self) -> None:
        """There is no more of it. Raises InvalidRequest unless there was an item."""
        self._add([self._rest])
        if self.lines == 0:
            raise InvalidRequest([Fault("must have at least 1 items", "")])

    def _add(self, lines: list[bytes]) -> None:
        self.lines += sum([_is_item(line) for line in lines])
        if self.lines > MOST_ITEMS:
            raise InvalidRequest([Fault(f"must have at most {MOST_ITEMS} items", "")])


@asynccontextmanager
async def spooled(
    request: web.Request, directory: Path, limit: int, count: LineCount | None = None
) -> AsyncIterator[Spool]:
    """The body of `request`, arrived as a whole, within the block; `count` sees its lines.

    Raises BodyTooSlow, BodyTooLarge, NoRoom, MalformedBody if it broke off, and what `count`
    raises.
    """
    spool = Spool(directory, limit)
    try:
        await welcome(request)
        try:
            async with asyncio.timeout(_TOTAL_S):
                await _arrive(request, spool, count)
        except TimeoutError:
            raise BodyTooSlow(_TOTAL_S) from None
        yield spool
    finally:
        spool.close()


@contextmanager
def _room_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        emit(BodyUnkept(error=str(error)))
        raise NoRoom(error.strerror or type(error).__name__) from error


def _is_item(line: bytes) -> bool:
    """Not an empty line. One that is too long is an item whatever is in it: nobody keeps it."""
    return len(line) > LIMIT or bool(line and not line.isspace())


async def _arrive(request: web.Request, spool: Spool, count: LineCount | None) -> None:
    while content := await _piece(request):
        spool.add(content)
        if count is not None:
            count.see(content)
    if count is not None:
        count.end()


async def _piece(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(ARRIVAL_S):
            return await request.content.readany()
    except TimeoutError:
        raise BodyTooSlow(ARRIVAL_S) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise MalformedBody("The body broke off, or its chunks are malformed.") from error
