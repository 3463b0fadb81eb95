"""A database under measurement, with the parts of the service that ask it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import uuid_utils.compat

from service.domain.advance import Change, advance
from service.domain.author import Author
from service.domain.events import (
    PairingEvent,
    PairingStarted,
    PairingSucceeded,
    PairRequested,
    PeerVerified,
    SideEvent,
    SidePaired,
    TaskAccepted,
    VerificationStarted,
)
from service.domain.ids import ApplianceName, OperationId, PairingId, TaskId, WorkerId
from service.domain.pairing import Operation, Pairing, Side
from service.domain.registration import ApplianceSpec, LocalUser
from service.domain.thumbprint import Thumbprint
from service.store.appliances import Appliances
from service.store.audit import Audit, AuditFilter
from service.store.claims import Claims
from service.store.database import Database
from service.store.intake import IdempotencyKey, Intake, PairingRequest
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.pairings import PairingFilter, Pairings
from service.store.vault import Vault

_AUTHOR = Author("bench", OperationId("bench"))
_KEY = IdempotencyKey("bench", b"bench")
_LEASE_S = 3600.0
Couples = Iterator[tuple[int, int]]


@dataclass(slots=True)
class Subject:
    """What can be asked of one database. The backlog stays as long as it was, more or less."""

    name: str
    database: Database
    couples: Couples
    """Those that are free."""
    intake: Intake
    journal: Journal
    claims: Claims
    heartbeat: Heartbeat
    pairings: Pairings
    audit: Audit
    some: PairingId
    """One that is over."""
    keyed: tuple[int, int]
    """Whose pairing was asked for with a key."""
    steps: Iterator[Change]
    held: bool = False

    async def claim(self) -> None:
        """100 of the backlog."""
        claimed = await self.claims.claim(100)
        if len(claimed.assignments) != 100:
            raise RuntimeError(f"only {len(claimed.assignments)} were there to be claimed")
        self.held = True

    async def tidy(self) -> None:
        """Give back what was claimed."""
        if self.held:
            await self.claims.disown([])
            self.held = False

    async def accept(self) -> None:
        """One more."""
        await self.intake.accept(_request(next(self.couples)), _AUTHOR)

    async def accept_again(self) -> None:
        """One that was accepted with a key before."""
        if not (await self.intake.accept(_request(self.keyed), _AUTHOR, _KEY)).replayed:
            raise RuntimeError("the key was not known")

    async def write(self) -> None:
        """The next step of a pairing that goes well."""
        await self.journal.append(next(self.steps))

    async def follow(self) -> None:
        """What the live stream asks for, again and again."""
        await self.audit.page(AuditFilter(), 200, await self.audit.now())


@asynccontextmanager
async def subject(
    name: str, url: str, couples: Iterable[tuple[int, int]], backlog: int
) -> AsyncIterator[Subject]:
    """The database at `url` with its appliances registered and so many pairings due."""
    free = iter(couples)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.connect(url))
        await _register(database)
        intake, journal = Intake(database, _now_ms), Journal(database.lane())
        await stack.enter_async_context(_running(intake))
        await stack.enter_async_context(_running(journal))
        (some,) = await Pairings(database).page(PairingFilter(), 1)
        keyed = next(free)
        await intake.accept(_request(keyed), _AUTHOR, _KEY)
        wanted = [_request(next(free)) for _ in range(backlog)]
        async with asyncio.TaskGroup() as tasks:
            for each in wanted:
                tasks.create_task(intake.accept(each, _AUTHOR))
        # Those that the journal writes about are another worker's.
        _, writer = await _worker(database)
        written = [each.pairing for each in (await writer.claim(backlog // 4)).assignments]
        heartbeat, claims = await _worker(database)
        yield Subject(
            name,
            database,
            free,
            intake,
            journal,
            claims,
            heartbeat,
            Pairings(database),
            Audit(database),
            some.id,
            keyed,
            _ways(written),
        )


async def _worker(database: Database) -> tuple[Heartbeat, Claims]:
    worker = WorkerId(uuid_utils.compat.uuid7())
    heartbeat = Heartbeat(database, worker)
    await heartbeat.join(_LEASE_S)
    return heartbeat, Claims(database, worker)


async def _register(database: Database) -> None:
    appliances = Appliances(database, Vault([bytes(32)]), _now_ms)
    rows = await Pairings(database).page(PairingFilter(), 1000)
    for name in sorted({side.appliance for pairing in rows for side in pairing.sides}):
        spec = ApplianceSpec(
            name=name,
            management_url=f"https://{name}.example:8441",
            api_url=f"https://{name}.example:8048",
            api_thumbprint=Thumbprint("SHA-256:" + ":".join(["AB"] * 32)),
            credentials=LocalUser("root", "secret"),
        )
        await appliances.put(spec, _AUTHOR)


@asynccontextmanager
async def _running(part: Intake | Journal) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(part.run())
        try:
            yield
        finally:
            await part.stop()


def _request(couple: tuple[int, int]) -> PairingRequest:
    one, other = [ApplianceName(f"bench-{number:04}") for number in couple]
    return PairingRequest(
        appliances=(one, other), operation=Operation.PAIR, description="", timeout_s=600, priority=0
    )


def _ways(pairings: Iterable[Pairing]) -> Iterator[Change]:
    """Every step of one after another."""
    for begun in pairings:
        pairing = begun
        for event in _way(pairing):
            pairing, entry = advance(pairing, event, at=_now_ms(), actor="bench")
            yield Change(pairing, (entry,), release=False)


def _record(side: Side) -> bytes:
    """What an appliance says of its peer."""
    return f'{{"id": "peer-{side.peer}"}}'.encode()


def _way(pairing: Pairing) -> Iterator[PairingEvent | SideEvent]:
    yield PairingStarted("bench", pairing.epoch)
    for side in pairing.sides:
        yield PairRequested(side.appliance, 1)
        yield TaskAccepted(side.appliance, TaskId(str(UUID(int=1))))
        yield SidePaired(side.appliance, _record(side))
    yield VerificationStarted()
    for side in pairing.sides:
        yield PeerVerified(side.appliance, _record(side))
    yield PairingSucceeded()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
