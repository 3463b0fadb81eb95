"""File descriptors: all that may be had are taken, and it is told once when there are none."""

import asyncio
import errno
import io
import json
import resource
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from service.descriptors import AcceptWatch, take_all
from service.observe.events import AcceptFailed, LogEvent
from service.observe.logging import listening
from tests.support.descriptors import KIND, at_most, next_descriptor
from tests.support.logs import captured_logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged."""
    with captured_logs() as stream:
        yield stream


@pytest.fixture
def told() -> Iterator["asyncio.Queue[LogEvent]"]:
    """Our own events."""
    events = asyncio.Queue[LogEvent]()
    with listening(events.put_nowait):
        yield events


@pytest.fixture
async def watched() -> AsyncIterator[asyncio.AbstractEventLoop]:
    """The running loop, watched as `serve` has it watched."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(AcceptWatch())
    yield loop
    loop.set_exception_handler(before)


def test_all_that_the_hard_limit_allows_are_taken() -> None:
    _, hard = resource.getrlimit(KIND)
    with at_most(max(next_descriptor() + 1, 256)):
        take_all()
        assert resource.getrlimit(KIND) == (hard, hard)


async def test_callers_that_cannot_be_accepted_are_told_once_and_by_nobody_else(
    watched: asyncio.AbstractEventLoop, told: "asyncio.Queue[LogEvent]", log: io.StringIO
) -> None:
    reached = asyncio.Event()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        with socket.socket() as caller:
            caller.settimeout(0)
            limit = next_descriptor()
            with at_most(limit):
                await watched.sock_connect(caller, server.sockets[0].getsockname())
                first = await told.get()
            await reached.wait()
    assert first == AcceptFailed(error="Too many open files", limit=limit)
    assert len(log.getvalue().splitlines()) == 1


@pytest.mark.parametrize("used_up", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_so_is_whatever_else_an_accept_may_be_short_of(
    watched: asyncio.AbstractEventLoop, told: "asyncio.Queue[LogEvent]", used_up: int
) -> None:
    error = OSError(used_up, "there is none")
    watched.call_exception_handler({"message": "odd", "exception": error, "socket": None})
    assert isinstance(told.get_nowait(), AcceptFailed)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"exception": ValueError("no OSError"), "socket": None},
        {"exception": OSError(errno.EBADF, "closed"), "socket": None},
        {"exception": OSError(errno.EMFILE, "met by somebody else")},
    ],
)
async def test_what_else_the_loop_has_to_tell_is_told(
    watched: asyncio.AbstractEventLoop, log: io.StringIO, about: dict[str, object]
) -> None:
    watched.call_exception_handler({"message": "something odd", **about})
    (line,) = log.getvalue().splitlines()
    assert json.loads(line)["event"].startswith("something odd")
