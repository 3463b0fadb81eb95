"""The store beneath the API, and a hand that does what a worker would."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from service.domain import chain, transitions
from service.domain.appliance import ApiError
from service.domain.events import PairingEvent, PairingFailed, PairingStarted
from service.domain.ids import WorkerId
from service.domain.pairing import ChainPosition, Pairing
from service.engine.ports import Change
from service.store.appliances import Appliances
from service.store.claims import Claims
from service.store.database import Database
from service.store.intake import Intake
from service.store.journal import Journal
from service.store.notify import Announcements, Listener
from service.store.pairings import Pairings
from service.store.vault import Vault


@dataclass(frozen=True, slots=True)
class Store:
    """What the API is built over, and what brings a pairing to its end."""

    appliances: Appliances
    intake: Intake
    pairings: Pairings
    claims: Claims
    journal: Journal

    async def fail(self, pairing_id: str) -> None:
        """Bring the pairing to its end, as a worker would whose appliance is gone."""
        claimed = {each.pairing.id: each.pairing for each in await self.claims.claim(100)}
        pairing = claimed.pop(next(one for one in claimed if one == UUID(pairing_id)))
        await self.claims.release(list(claimed))
        error = ApiError("Gone", "It is gone.", (), "at com.vmware.Internal")
        await self._record(pairing, PairingStarted("w", pairing.epoch), PairingFailed(error))

    async def _record(self, pairing: Pairing, *events: PairingEvent) -> None:
        entries = []
        for event in events:
            entry = chain.append(
                event,
                pairing.position,
                chain=pairing.id,
                at=_now_ms(),
                actor="worker",
                operation_id=pairing.operation_id,
            )
            entries.append(entry)
            moved = transitions.apply(pairing, event, entry.at)
            pairing = moved.at_position(ChainPosition(entry.seq, entry.hash))
        await self.journal.append(Change(pairing, tuple(entries)))


@asynccontextmanager
async def stored(url: str, over: Announcements) -> AsyncIterator[Store]:
    """The store of this database; ends of pairings are told to `over`."""
    listener, listening = Listener(url), asyncio.Event()
    listener.over = over
    async with Database.connect(url) as database, asyncio.TaskGroup() as tasks:
        store = Store(
            appliances=Appliances(database, Vault([bytes(32)]), _now_ms),
            intake=Intake(database, _now_ms),
            pairings=Pairings(database),
            claims=Claims(database, WorkerId(uuid4())),
            journal=Journal(database),
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
