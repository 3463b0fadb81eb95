"""`python -m bench.history`: what a million finished pairings cost those that are not.

Two databases in one PostgreSQL, with the same appliances and the same backlog: one has a long past,
the other
as much of one as fills each page. Each statement is carried out on both in turns, as the
service does it; ratios are taken round by round.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.past import fill
from bench.subject import Subject, subject
from service.domain.ids import ApplianceName, OperationId
from service.domain.pairing import PairingState
from service.store.audit import AuditFilter
from service.store.embedded import embedded_postgres
from service.store.migrate import upgrade
from service.store.pairings import PairingFilter

_PAST_OF_A_PAGE = 20_000
_REPEATS = 7
_PAGE = 50
# Nothing has to outlive this, and a disk that is waited for would hide what is compared.
_SETTINGS = {
    "fsync": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
}

Deed = Callable[[Subject], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    options = _options()
    rows = asyncio.run(_measure(options))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{'':34}{'empty ms':>10}{'full ms':>10}{'ratio':>8}{'worst':>8}")
    for row in rows:
        print(
            f"{row.deed:34}{row.empty_ms:10.2f}{row.full_ms:10.2f}"
            f"{row.ratio:8.2f}{row.worst_ratio:8.2f}"
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One deed over all rounds: medians in ms, and the ratio of full to empty."""

    deed: str
    empty_ms: float
    full_ms: float
    ratio: float
    worst_ratio: float


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
        "audit, its beginning": trail(AuditFilter()),
        "audit, an operation's": trail(AuditFilter(operation_id=batch)),
        "audit, an appliance's": trail(AuditFilter(appliance=some)),
        "audit, what is new": Subject.follow,
    }


_DEEDS: dict[str, Deed] = {
    "claim 100": Subject.claim,
    "accept": Subject.accept,
    "accept again, by key": Subject.accept_again,
    "journal, one change": Subject.write,
    "bury, free, unpark": lambda subject: subject.heartbeat.bury(),
    "beat": lambda subject: subject.heartbeat.beat(),
    "wishes": lambda subject: subject.claims.wishes(),
    "get": lambda subject: subject.pairings.get(subject.some),
    "get its events": lambda subject: subject.pairings.events(subject.some),
    **_lists(),
    **_trails(),
}


async def _measure(options: argparse.Namespace) -> list[Row]:
    async with AsyncExitStack() as stack:
        empty, full = await stack.enter_async_context(_both(options))
        for each in (empty, full):
            await _churn(each, options.churn)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in _DEEDS}
        for number in range(options.rounds):
            for name, deed in _DEEDS.items():
                times[name].append(await _round(deed, empty, full, number))
        return [_row(name, pairs) for name, pairs in times.items()]


@asynccontextmanager
async def _both(options: argparse.Namespace) -> AsyncIterator[tuple[Subject, Subject]]:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sitepair-bench-"))
        # PostgreSQL runs as another account when we are root.
        await asyncio.to_thread(Path(directory).chmod, 0o755)
        server = embedded_postgres(Path(directory) / "data", settings=_SETTINGS)
        url = await stack.enter_async_context(server)
        made = []
        for name, pairings in (("empty", _PAST_OF_A_PAGE), ("full", options.pairings)):
            own = await _database(url, name)
            seconds = await fill(own, pairings, options.appliances)
            sys.stderr.write(f"{name}: {pairings} finished pairings in {seconds:.1f} s\n")
            couples = itertools.combinations(range(options.appliances), 2)
            made.append(
                await stack.enter_async_context(subject(name, own, couples, options.backlog))
            )
        empty, full = made
        yield empty, full


async def _churn(on: Subject, times: int) -> None:
    """Leave behind what a busy service leaves between two vacuums."""
    for _ in range(times):
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
    """The medians, in ms, of some times on each in turns."""
    times: dict[str, list[float]] = {empty.name: [], full.name: []}
    for repeat in range(_REPEATS):
        # Who goes first changes from time to time.
        for each in (empty, full) if (number + repeat) % 2 else (full, empty):
            began = time.perf_counter()
            await deed(each)
            times[each.name].append(1000 * (time.perf_counter() - began))
            await each.tidy()
    return median(times[empty.name]), median(times[full.name])


def _row(deed: str, pairs: Sequence[tuple[float, float]]) -> Row:
    ratios = [full / empty for empty, full in pairs]
    return Row(
        deed,
        median(empty for empty, _ in pairs),
        median(full for _, full in pairs),
        median(ratios),
        max(ratios),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.history", description=__doc__)
    parser.add_argument("--pairings", type=int, default=1_000_000)
    parser.add_argument("--backlog", type=int, default=2000)
    parser.add_argument("--appliances", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--churn", type=int, default=300, help="claims given back beforehand")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
