"""What the database tells us unasked: that work is due, that pairings are over.

A hint only: whoever waits looks for itself afterwards. When the connection was lost hints may have
been missed, so everybody is woken.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

from service.domain.backoff import backoff_s
from service.domain.errors import StoreUnavailable
from service.domain.ids import PairingId
from service.observe.events import StoreTroubled
from service.observe.logging import emit
from service.store.errors import translated
from service.store.sessions import CONNECT_TIMEOUT_S, open_session, part
from service.store.urls import DatabaseUrl

if TYPE_CHECKING:
    from service.store.sessions import Session

DUE = "sitepair_due"
OVER = "sitepair_over"
CANCEL = "sitepair_cancel"
_PROBE_S = 30.0
"""How often the connection is asked whether it still stands: TCP does not tell."""


class Signal:
    """Tells its one waiter that there may be something to do. Implements `engine.ports.Wakeups`."""

    def __init__(self) -> None:
        self._raised = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return when something was announced since the last call, or after `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._raised.wait()
        self._raised.clear()

    def announce(self) -> None:
        """Wake the waiter, or the next one."""
        self._raised.set()


class Bell:
    """Tells any number of waiters that something happened.

    Nothing is missed by whoever hears first and looks then::

        ring = bell.hear()
        found = await audit.page(narrowed, limit, after)
        if not found:
            await ring.wait()
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def hear(self) -> asyncio.Event:
        """What is set at the next ring."""
        return self._next

    def ring(self) -> None:
        """Something happened."""
        self._next.set()
        self._next = asyncio.Event()


class Announcements:
    """Who waits for the end of which pairing.

    Nothing is missed by whoever expects first and reads then::

        with announcements.expect(pairing_id) as over:
            pairing = await pairings.get(pairing_id)
            if not pairing.is_over:
                await over.wait()
    """

    def __init__(self) -> None:
        self._expected: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def expect(self, pairing_id: PairingId) -> Iterator[asyncio.Event]:
        """What is set when the pairing is over, or may be; it is heard of within the block only."""
        over = asyncio.Event()
        self._expected[pairing_id].add(over)
        try:
            yield over
        finally:
            self._expected[pairing_id].discard(over)
            if not self._expected[pairing_id]:
                del self._expected[pairing_id]

    def announce(self, pairing_id: UUID) -> None:
        """The pairing is over."""
        for over in self._expected.get(pairing_id, ()):
            over.set()

    def announce_all(self) -> None:
        """Any of them may be over."""
        for pairing_id in self._expected:
            self.announce(pairing_id)


class Listener:
    """The one connection of this process that listens. Behind a PgBouncer in transaction mode there
    is none: what was asked to be told would be told to somebody else."""

    def __init__(self, url: str) -> None:
        self.due = Signal()
        self.over = Announcements()
        self.cancels = Signal()
        self.anything = Bell()
        self._url = DatabaseUrl.parse(url)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Listen until cancelled, connecting anew when the connection is lost. `ready` is set when
        it listens for the first time. Returns at once where that is of no use."""
        if self._url.pgbouncer:
            return
        failures = 0
        while True:
            try:
                async with self._listening() as (connection, lost):
                    failures = 0
                    if ready is not None:
                        ready.set()
                    self.due.announce()
                    self.cancels.announce()
                    self.over.announce_all()
                    self.anything.ring()
                    await _stand(connection, lost)
            except StoreUnavailable as trouble:
                emit(StoreTroubled(doing="listening", error=str(trouble)))
            failures += 1
            await asyncio.sleep(backoff_s(failures, 0.5))

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator["tuple[Session, asyncio.Event]"]:
        lost = asyncio.Event()
        with translated("listening"):
            connection = await open_session(self._url)
            connection.add_termination_listener(lambda _: lost.set())
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await connection.add_listener(DUE, self._hear_of_work)
                    await connection.add_listener(CANCEL, lambda *_: self.cancels.announce())
                    await connection.add_listener(OVER, self._hear_of_ends)
                yield connection, lost
            finally:
                await part(connection)

    def _hear_of_work(self, *_: object) -> None:
        self.due.announce()
        self.anything.ring()

    def _hear_of_ends(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for pairing_id in str(payload).split(","):
            self.over.announce(UUID(pairing_id))
        self.anything.ring()


async def _stand(connection: "Session", lost: asyncio.Event) -> None:
    """Return when the connection is lost. Raises what asking it raises."""
    while not lost.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_S):
                await lost.wait()
        if not lost.is_set():
            await connection.execute("select 1", timeout=CONNECT_TIMEOUT_S)
