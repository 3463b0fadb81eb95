"""`python -m bench.history`: what a million finished pairings cost those that are not.

Two databases in one PostgreSQL, with the same appliances and the same backlog: one has a long past,
the other as much of one as fills each page. Each statement is carried out on both in turns, as the
service does it.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.figures import Row, Target, ratio
from bench.options import Options
from bench.past import fill
from bench.report import command, tell
from bench.subject import Subject, subject
from service.domain.ids import ApplianceName, OperationId
from service.domain.pairing import PairingState
from service.store.audit import AuditFilter
from service.store.embedded import embedded_postgres
from service.store.migrate import upgrade
from service.store.pairings import PairingFilter

DEFAULTS = Options(rounds=7, appliances=128, pairings=2000)
"""`pairings` is the backlog."""

_PAST = 1_000_000
_PAST_OF_A_PAGE = 20_000
_CHURN = 300
"""Claims given back beforehand: what a busy service leaves between two vacuums."""

_REPEATS = 7
_PAGE = 50
_TARGET = Target(2.0, 1.2)
# Nothing has to outlive this, and a disk that is waited for would hide what is compared.
_SETTINGS = {
    "fsync": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
}

Deed = Callable[[Subject], Awaitable[object]]


def _lists() -> dict[str, Deed]:
    """What is listed, as the API does it."""
    some, batch = ApplianceName("bench-0007"), OperationId("batch-3")
    filters = {
        "all": PairingFilter(),
        **{state.value: PairingFilter(state=state) for state in PairingState},
        "an appliance's": PairingFilter(appliance=some),
        **{
            f"an appliance's {state.value}": PairingFilter(appliance=some, state=state)
            for state in PairingState
        },
        "an operation's": PairingFilter(operation_id=batch),
        "an operation's, on an appliance": PairingFilter(appliance=some, operation_id=batch),
    }

    def listing(narrowed: PairingFilter) -> Deed:
        return lambda subject: subject.pairings.page(narrowed, _PAGE)

    return {f"list {name}": listing(narrowed) for name, narrowed in filters.items()}


def _trails() -> dict[str, Deed]:
    """What is read of the audit trail; the live stream asks for what is behind the last event."""
    some, batch = ApplianceName("bench-0007"), OperationId("batch-3")

    def trail(narrowed: AuditFilter) -> Deed:
        return lambda subject: subject.audit.page(narrowed, _PAGE)

    return {
        "read the trail": trail(AuditFilter()),
        "read the trail of an operation": trail(AuditFilter(operation_id=batch)),
        "read the trail of an appliance": trail(AuditFilter(appliance=some)),
        "read what is new in the trail": Subject.follow,
    }


_DEEDS: dict[str, Deed] = {
    "claim 100": Subject.claim,
    "accept": Subject.accept,
    "accept again, by key": Subject.accept_again,
    "write a change": Subject.write,
    "bury, free, unpark": lambda subject: subject.heartbeat.bury(),
    "beat": lambda subject: subject.heartbeat.beat(),
    "look for wishes": lambda subject: subject.claims.wishes(),
    "get": lambda subject: subject.pairings.get(subject.some),
    "get its events": lambda subject: subject.pairings.events(subject.some),
    **_lists(),
    **_trails(),
}


async def measure(options: Options) -> list[Row]:
    """Each deed in ms."""
    async with AsyncExitStack() as stack:
        empty, full = await stack.enter_async_context(_both(options))
        for each in (empty, full):
            await _churn(each)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in _DEEDS}
        for number in range(options.rounds):
            for name, deed in _DEEDS.items():
                times[name].append(await _round(deed, empty, full, number))
        return [ratio(f"ms to {name}", "empty", pairs, _TARGET) for name, pairs in times.items()]


async def measure_in_short(options: Options) -> list[Row]:
    """The claim, and of the lists the one that is furthest from what it is with no past."""
    rows = await measure(options)
    lists = [row for row in rows if row.figure.startswith("ms to list")]
    return [rows[0], max(lists, key=lambda row: row.median)]


@asynccontextmanager
async def _both(options: Options) -> AsyncIterator[tuple[Subject, Subject]]:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sitepair-bench-"))
        # PostgreSQL runs as another account when we are root.
        await asyncio.to_thread(Path(directory).chmod, 0o755)
        server = embedded_postgres(Path(directory) / "data", settings=_SETTINGS)
        url = await stack.enter_async_context(server)
        made = []
        for name, pairings in (("empty", _PAST_OF_A_PAGE), ("full", _PAST)):
            own = await _database(url, name)
            seconds = await fill(own, pairings, options.appliances)
            tell(f"{name}: {pairings} finished pairings in {seconds:.1f} s")
            couples = itertools.combinations(range(options.appliances), 2)
            made.append(
                await stack.enter_async_context(subject(name, own, couples, options.pairings))
            )
        empty, full = made
        yield empty, full


async def _churn(on: Subject) -> None:
    for _ in range(_CHURN):
        await on.claim()
        await on.tidy()


async def _database(server_url: str, name: str) -> str:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    await upgrade(url)
    return url


async def _round(deed: Deed, empty: Subject, full: Subject, number: int) -> tuple[float, float]:
    """The medians, in ms, of some times on each in turns; with a past first."""
    times: dict[str, list[float]] = {empty.name: [], full.name: []}
    for repeat in range(_REPEATS):
        # Who goes first changes from time to time.
        for each in (empty, full) if (number + repeat) % 2 else (full, empty):
            began = time.perf_counter()
            await deed(each)
            times[each.name].append(1000 * (time.perf_counter() - began))
            await each.tidy()
    return median(times[full.name]), median(times[empty.name])


if __name__ == "__main__":
    command("bench.history", __doc__, measure, DEFAULTS)
