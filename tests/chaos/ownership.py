"""Watches who owns the pairings: how long those of a killed worker wait for the next one."""

import asyncio
import time
from dataclasses import dataclass, field

import asyncpg

from tests.chaos.database import OwnDatabase, connected
from tests.chaos.processes import Process

POLL_S = 0.2
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

# A worker's name stands in the trail of each pairing that it started, and its process has logged
# which those were. Another worker may have started some of them too, but hardly the same ones; and
# a process that was declared dead goes on under another name, so the last ones count.
_NAMED = """
select detail ->> 'worker' as worker from event
where chain = any($1::uuid[]) and type = 'PairingStarted'
group by 1 order by count(distinct chain) desc, max(at) desc limit 1
"""
_LAST = 8
_OWNED = """
select id::text from pairing where worker = $1::uuid and state in ('QUEUED', 'RUNNING')
"""
_ORPHANS = """
select id::text from pairing where id = any($1::uuid[]) and state in ('QUEUED', 'RUNNING')
and (worker is null or worker = $2::uuid)
"""


@dataclass(slots=True)
class Bereavement:
    """A worker that was killed at `at`, by the monotonic clock, and what it left. `orphans` is
    None until the database could be asked, `owned_s` until all have an owner again or are over."""

    process: Process
    at: float
    worker: str | None = None
    left: list[str] = field(default_factory=list)
    orphans: list[str] | None = None
    owned_s: float | None = None
    was_database_down: bool | None = None


class Watch:
    """Follows every killed worker until nothing of its pairings is left to be taken over."""

    def __init__(self, database: OwnDatabase) -> None:
        self.bereavements: list[Bereavement] = []
        self._database = database
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    def killed(self, process: Process) -> None:
        """To be told at once."""
        self.bereavements.append(Bereavement(process, time.monotonic()))

    async def run(self) -> None:
        """Watch until cancelled, whatever becomes of the database."""
        try:
            while True:
                try:
                    await self._look()
                except _LOST:
                    self._hang_up()
                await asyncio.sleep(POLL_S)
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _look(self) -> None:
        if self._connection is None:
            self._connection = await connected(self._database.url)
        for each in self.bereavements:
            if each.process.is_over and each.owned_s is None:
                await self._follow(each, self._connection)

    async def _follow(
        self, each: Bereavement, connection: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        if each.orphans is None:
            each.worker = each.worker or await _worker_of(each.process, connection)
            rows = await connection.fetch(_OWNED, each.worker) if each.worker else []
            each.left = each.orphans = [row["id"] for row in rows]
        elif each.orphans:
            rows = await connection.fetch(_ORPHANS, each.orphans, each.worker)
            each.orphans = [row["id"] for row in rows]
        if not each.orphans:
            each.owned_s = time.monotonic() - each.at
            each.was_database_down = self._database.was_down(each.at)


async def _worker_of(
    process: Process, connection: "asyncpg.Connection[asyncpg.Record]"
) -> str | None:
    """The id under which the worker in `process` owned pairings; None if it started none."""
    started = await asyncio.to_thread(_started_by, process)
    named = await connection.fetchval(_NAMED, started[-_LAST:]) if started else None
    return str(named).removeprefix("worker-") if named is not None else None


def _started_by(process: Process) -> list[str]:
    return [
        line["pairing"]
        for line in process.lines()
        if line.get("event") == "pairing_moved"
        and any(move["type"] == "PairingStarted" for move in line["moves"])
    ]
