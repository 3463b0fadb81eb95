"""The store beneath the API, and a hand that does what a worker would."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import update

from service.domain.advance import Change, advance
from service.domain.appliance import ApiError
from service.domain.events import PairingEvent, PairingFailed, PairingStarted, SideEvent
from service.domain.ids import ApplianceName, WorkerId
from service.domain.pairing import Pairing
from service.domain.registration import LoginRefusal
from service.store.appliances import Appliances
from service.store.audit import Audit, AuditFilter, Place, Recorded
from service.store.batches import Batches
from service.store.bulk import BulkIntake
from service.store.cancels import Cancels
from service.store.claims import Claims
from service.store.database import Database
from service.store.health import Health
from service.store.intake import Intake
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.notify import Announcements, Bell, Listener
from service.store.pairings import Pairings
from service.store.retries import Retries
from service.store.tables import appliance
from service.store.vault import Vault
from tests.integration.store.values import gates_on


class WatchedAudit(Audit):
    """The audit trail, and a signal for the test that somebody looked."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._looks = 0
        self._looked = asyncio.Condition()

    async def page(
        self, narrowed: AuditFilter, limit: int, after: Place | None = None
    ) -> Sequence[Recorded]:
        found = await super().page(narrowed, limit, after)
        async with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return found

    async def until_looked(self) -> None:
        """Return when somebody has looked who began to after this was called."""
        async with self._looked:
            enough = self._looks + 2
            await self._looked.wait_for(lambda: self._looks >= enough)


@dataclass(frozen=True, slots=True)
class Store:
    """What the API is built over, and what brings a pairing to its end."""

    database: Database
    appliances: Appliances
    health: Health
    intake: Intake
    bulk: BulkIntake
    batches: Batches
    pairings: Pairings
    audit: WatchedAudit
    anything: Bell
    cancels: Cancels
    retries: Retries
    claims: Claims
    journal: Journal

    async def refuse(self, name: ApplianceName, refusal: LoginRefusal) -> None:
        """Refuse the credentials of `name`, as the appliance would."""
        async with gates_on(self.database) as gates:
            gate = gates.of(await self.appliances.get(name))
            assert await gate.admit() is None
            await gate.tell(refusal)

    async def lose_key_of(self, name: ApplianceName) -> None:
        """Have the credentials of `name` sealed with a key that is no more."""
        registration = await self.appliances.get(name)
        sealed = Vault([b"k" * 32]).seal(registration.spec.credentials, registration.id)
        change = update(appliance).where(appliance.c.name == name).values(credentials=sealed)
        async with self.database.transaction() as connection:
            await connection.execute(change)

    async def fail(self, pairing_id: str) -> None:
        """Bring the pairing to its end, as a worker would whose appliance is gone."""
        error = ApiError("Gone", "It is gone.", (), "at com.vmware.Internal")
        await self.drive(pairing_id, PairingFailed(error))

    async def drive(self, pairing_id: str, *events: PairingEvent | SideEvent) -> Pairing:
        """Claim the pairing and put `events` on record, as a worker would; as it is then."""
        claimed = {each.pairing.id: each for each in (await self.claims.claim(100)).assignments}
        pairing = next(each.pairing for one, each in claimed.items() if one == UUID(pairing_id))
        await self.claims.disown([pairing.id])
        entries = []
        for event in (PairingStarted("w", pairing.epoch), *events):
            pairing, entry = advance(pairing, event, at=_now_ms(), actor="worker")
            entries.append(entry)
        await self.journal.append(Change(pairing, tuple(entries)))
        return pairing


@asynccontextmanager
async def stored(url: str, over: Announcements) -> AsyncIterator[Store]:
    """The store of this database; ends of pairings are told to `over`."""
    listener, listening = Listener(url), asyncio.Event()
    listener.over = over
    worker_id = WorkerId(uuid4())
    async with Database.connect(url) as database, asyncio.TaskGroup() as tasks:
        await Heartbeat(database, worker_id).join(lease_s=3600)
        journal = Journal(database.lane())
        store = Store(
            database=database,
            appliances=Appliances(database, Vault([bytes(32)]), _now_ms),
            health=Health(database),
            intake=Intake(database, _now_ms),
            bulk=BulkIntake(database, _now_ms),
            batches=Batches(database),
            pairings=Pairings(database),
            audit=WatchedAudit(database),
            anything=listener.anything,
            cancels=Cancels(database),
            retries=Retries(database, journal, _now_ms),
            claims=Claims(database, worker_id),
            journal=journal,
        )
        tasks.create_task(store.intake.run())
        tasks.create_task(store.journal.run())
        heard = tasks.create_task(listener.run(listening))
        await listening.wait()
        try:
            yield store
        finally:
            async with asyncio.timeout(10):
                await store.intake.stop()
                await store.journal.stop()
            heard.cancel()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
