"""Follows a pairing to its end, from outside."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

from cyclopts import Parameter

from service.cli.remote import Refused, Remote, Unreachable, is_passing
from service.cli.status import Terminal, say, tell
from service.cli.watching import told_end, watching

P = ParamSpec("P")
Answer = TypeVar("Answer")

_WAIT_S = 1
_PATIENCE_S = 60.0
_QUEUED_S = 10.0
"""A worker that is free takes up what is queued at once."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How a pairing is followed."""

    wait: bool = True
    """Wait for the end. With --no-wait exit status 0 means accepted."""

    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Print the pairing as JSON."""


async def followed(service: Remote, pairing: Any, how: Following) -> Any:
    """Show `pairing` until it is over, then how it ended; as it is then. Raises Unreachable."""
    if how.wait:
        with breaking_off(f"Pairing {pairing['id']} goes on without being watched."):
            pairing = await _watched(service, pairing, Terminal(stderr=how.as_json))
    say(json.dumps(pairing, indent=2) if how.as_json else "\n".join(told_end(pairing)))
    return pairing


async def _watched(service: Remote, pairing: Any, console: Terminal) -> Any:
    queue = Queue("both appliances")
    async with watching(console) as watch:
        watch.show([pairing])
        while pairing["endTime"] == -1:
            path = f"/v1/pairings/{pairing['id']}?waitSeconds={_WAIT_S}"
            pairing = await patiently(service.call, "GET", path)
            watch.show([pairing])
            queue.see(is_queued=pairing["state"] == "QUEUED")
    return pairing


@contextmanager
def breaking_off(told: str) -> Iterator[None]:
    """Tells so much to who does not hear the end of the block: it is stopped, or the service does
    not answer, or not of use."""
    try:
        yield
    except (asyncio.CancelledError, Unreachable, Refused) as end:
        if not (isinstance(end, Refused) and end.is_final):
            tell(told)
        raise


class Queue:
    """Tells whoever watches, once, what is waited for if nothing is taken up for a while."""

    def __init__(self, whose: str) -> None:
        """`whose` are the appliances that it is about."""
        self._whose = whose
        self._explain_at: float | None = asyncio.get_running_loop().time() + _QUEUED_S

    def see(self, *, is_queued: bool) -> None:
        """Whether all of it is queued."""
        now = asyncio.get_running_loop().time()
        if is_queued and self._explain_at is not None and now >= self._explain_at:
            self._explain_at = None
            tell(
                "Nothing has begun: it waits for a worker. Is one running (sitepair serve)? Do "
                f"{self._whose} answer (sitepair appliance list)?"
            )


async def patiently(ask: Callable[P, Awaitable[Answer]], *what: P.args, **how: P.kwargs) -> Answer:
    """The answer when `ask` is called with the rest, and called again as long as the service, or
    its database, is away for a moment: so it must be something that is done but once. Whoever waits
    is told why. Raises Unreachable, Refused."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _PATIENCE_S
    is_told = False
    while True:
        try:
            return await ask(*what, **how)
        except (Unreachable, Refused) as error:
            if not is_passing(error) or loop.time() >= give_up:
                raise
            if not is_told:
                tell(f"{error} (asking again for {_PATIENCE_S:.0f} seconds)")
                is_told = True
            await asyncio.sleep(1)
