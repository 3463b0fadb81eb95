"""Values for the tests of the store."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from msgspec import structs

from service.domain import chain, transitions
from service.domain.advance import Change
from service.domain.appliance import ApiError
from service.domain.author import Author
from service.domain.events import (
    PairingEvent,
    PairingFailed,
    PairingStarted,
    PairingSucceeded,
    PairRequested,
    PeerVerified,
    SideEvent,
    SidePaired,
    TaskAccepted,
    VerificationStarted,
)
from service.domain.ids import ApplianceName, OperationId, TaskId, WorkerId
from service.domain.pairing import Assignment, ChainPosition, Operation, Pairing, Side
from service.domain.registration import ApplianceSpec, LocalUser, Registration
from service.domain.thumbprint import Thumbprint
from service.store.appliances import Appliances
from service.store.claims import Claims
from service.store.database import Database
from service.store.intake import Intake, PairingRequest
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.logins import LoginGates
from service.store.vault import Vault

AUTHOR = Author("tester", OperationId("test-1"))
NOW = int(time.time() * 1000)
"""Of a month that has its partition, whenever that is."""
KEY = bytes(range(32))


def now() -> int:
    """The time that the stores of these tests stamp."""
    return NOW


def real_now() -> int:
    """The time that it is, for what compares it with the database's."""
    return time.time_ns() // 1_000_000


def name(text: str) -> ApplianceName:
    """An appliance's name."""
    return ApplianceName(text)


def thumbprint(byte: int = 0xAB) -> Thumbprint:
    """A thumbprint of the right shape."""
    return Thumbprint("SHA-256:" + ":".join([f"{byte:02X}"] * 32))


def spec(appliance: str, **changes: Any) -> ApplianceSpec:
    """What registers `appliance`."""
    plain = ApplianceSpec(
        name=name(appliance),
        management_url=f"https://{appliance}.example:8441",
        api_url=f"https://{appliance}.example:8048",
        api_thumbprint=thumbprint(),
        credentials=LocalUser("root", f"secret-of-{appliance}"),
    )
    return replace(plain, **changes)


def request(one: str = "a", other: str = "b", **changes: Any) -> PairingRequest:
    """A request to pair two appliances."""
    plain = PairingRequest(
        appliances=(name(one), name(other)),
        operation=Operation.PAIR,
        description="",
        timeout_s=600,
        priority=0,
    )
    return replace(plain, **changes)


def registry(database: Database) -> Appliances:
    """The registry with the tests' key and clock."""
    return Appliances(database, Vault([KEY]), now)


async def register(database: Database, *names: str) -> list[Registration]:
    """Register appliances under these names."""
    appliances = registry(database)
    return [(await appliances.put(spec(each), AUTHOR))[0] for each in names]


@asynccontextmanager
async def running(part: Intake | Journal) -> AsyncIterator[None]:
    """`part` at work; stopped at the end, as the application does it."""
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        tasks.create_task(part.run(ready))
        await ready.wait()
        try:
            yield
        finally:
            await part.stop()


@asynccontextmanager
async def intake_on(
    database: Database, clock: Callable[[], int] = now, patience_s: float = 15
) -> AsyncIterator[Intake]:
    """An intake at work."""
    intake = Intake(database, clock, patience_s=patience_s)
    async with running(intake):
        yield intake


@asynccontextmanager
async def journal_on(database: Database) -> AsyncIterator[Journal]:
    """A journal at work."""
    journal = Journal(database.lane())
    async with running(journal):
        yield journal


@asynccontextmanager
async def gates_on(
    database: Database, owner: Callable[[], WorkerId | None] = lambda: None
) -> AsyncIterator[LoginGates]:
    """The gates before all appliances, at work."""
    gates = LoginGates(database, now, owner)
    async with in_background(gates.run()):
        yield gates


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` runs within the block, and is cancelled at its end, as the application does it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()


def worker() -> WorkerId:
    """A worker that nobody has heard of yet."""
    return WorkerId(uuid4())


async def accepted(
    database: Database, *couples: tuple[str, str], clock: Callable[[], int] = now
) -> list[Pairing]:
    """Pairings of these couples, whose appliances are registered for them."""
    await register(database, *sorted({each for couple in couples for each in couple}))
    async with intake_on(database, clock) as intake:
        requests = [intake.accept(request(*couple), AUTHOR) for couple in couples]
        return [acceptance.pairing for acceptance in await asyncio.gather(*requests)]


async def claimed(database: Database, *couples: tuple[str, str]) -> list[Pairing]:
    """Pairings of these couples, owned by a worker."""
    await accepted(database, *couples)
    return [each.pairing for each in await claim(database, len(couples))]


async def claims_on(database: Database, worker_id: WorkerId | None = None) -> Claims:
    """The claims of a worker that lives."""
    worker_id = worker_id or worker()
    await Heartbeat(database, worker_id).join(60)
    return Claims(database, worker_id)


async def claim(database: Database, limit: int = 1) -> list[Assignment]:
    """What a new worker claims."""
    return list((await (await claims_on(database)).claim(limit)).assignments)


def step(pairing: Pairing, *events: PairingEvent | SideEvent, release: bool = False) -> Change:
    """The change that `events` make of `pairing`."""
    entries = []
    for event in events:
        at = max(int(time.time() * 1000), pairing.last_updated)
        entry = chain.append(
            event,
            pairing.position,
            chain=pairing.id,
            at=at,
            actor="worker-test",
            operation_id=pairing.operation_id,
        )
        after = transitions.apply(pairing, event, at)
        pairing = after.at_position(ChainPosition(entry.seq, entry.hash))
        entries.append(entry)
    return Change(pairing, tuple(entries), release)


def started(pairing: Pairing) -> Change:
    """A worker took it."""
    return step(pairing, PairingStarted("worker-test", pairing.epoch))


def failed(pairing: Pairing) -> Change:
    """It came to nothing."""
    failure = PairingFailed(ApiError("Nope", "No.", ("x",), "at Nope.java:1"))
    return step(pairing, PairingStarted("worker-test", pairing.epoch), failure)


def as_stored(pairing: Pairing) -> Pairing:
    """What all know of it: what was seen of its sides counts only for who saw it, and a wish to
    cancel is shown before its worker knows."""
    one, other = [structs.replace(side, is_verified=False) for side in pairing.sides]
    return structs.replace(pairing, sides=(one, other), is_unwanted=False)


def _record(side: Side) -> bytes:
    """What an appliance says of its peer."""
    return f'{{"id": "peer-{side.peer}"}}'.encode()


def way_to_success(pairing: Pairing) -> list[Change]:
    """Each step of a pairing that goes well."""
    events: list[PairingEvent | SideEvent] = [PairingStarted("worker-test", pairing.epoch)]
    for side in pairing.sides:
        task = TaskId(str(UUID(int=side.attempts + 1)))
        events.append(PairRequested(side.appliance, 1))
        events.append(TaskAccepted(side.appliance, task))
        events.append(SidePaired(side.appliance, _record(side)))
    changes = []
    seen = [PeerVerified(side.appliance, _record(side)) for side in pairing.sides]
    for event in [*events, VerificationStarted(), *seen, PairingSucceeded()]:
        changes.append(step(pairing, event))
        pairing = changes[-1].pairing
    return changes
