"""Names to addresses, each looked up by a thread of its own."""

import asyncio
import errno
import socket
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import Any

_Found = list[Any] | OSError | ValueError


async def resolved(host: str) -> tuple[str, ...]:
    """The addresses of a name, in the resolver's order; a literal is its own. Raises OSError, and
    ValueError (UnicodeError) for what can be no name.

    A name whose servers are mute keeps a thread for as long as the system's resolver has patience,
    half a minute mostly: in a pool of few, as asyncio has one, a few such names would hold up all
    others. Nobody waits for such a thread, not even at the end.
    """
    with suppress(ValueError):
        return (str(ip_address(host.strip("[]"))),)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Found] = loop.create_future()

    def tell(found: _Found) -> None:
        if not answer.done():
            answer.set_result(found)

    def look_up() -> None:
        found = _look_up(host)
        with suppress(RuntimeError):  # The loop is closed: nobody wants to know any more.
            loop.call_soon_threadsafe(tell, found)

    try:
        Thread(target=look_up, name=f"resolver of {host}", daemon=True).start()
    except RuntimeError as error:  # The system has no more threads for us now.
        raise OSError(errno.EAGAIN, str(error)) from error
    found = await answer
    if isinstance(found, Exception):
        raise found
    return tuple(dict.fromkeys([_spelt(address) for _, _, _, _, address in found]))


def _look_up(host: str) -> _Found:
    try:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, ValueError) as error:
        return error


def _spelt(address: tuple[object, ...]) -> str:
    """An address of `getaddrinfo`, with the scope of a link-local one."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope else str(address[0])
