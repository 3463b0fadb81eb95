"""One worker process of a run: the real journal, fleet and worker, wired as the service does it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from service.appliance.conditions import Conditions
from service.appliance.egress import EgressPolicy
from service.appliance.fleet import ApplianceFleet
from service.appliance.limits import CallTimeouts
from service.domain.ids import ApplianceName, WorkerId
from service.domain.registration import Registration
from service.engine.policy import Policy
from service.engine.ports import Ports
from service.engine.succession import Succession
from service.engine.worker import Worker
from service.store.journal import Journal
from service.store.notify import Signal
from tests.simulation.appliances import BEGINNING_MS, Air
from tests.simulation.clockwork import Node
from tests.simulation.database import Database, Gate, Lane, WorkerPorts

DRAIN_S = 10.0


@dataclass(slots=True)
class Process:
    """What runs on one node. `workers` are the ids under which it has lived so far."""

    node: Node
    database: Database
    air: Air
    policy: Policy
    rng: random.Random
    workers: list[WorkerId] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    succession: Succession | None = None

    @property
    def is_up(self) -> bool:
        """Whether it neither crashed nor ended."""
        is_running = self.task is not None and not self.task.done()
        return is_running and not self.node.is_crashed

    def now_ms(self) -> int:
        """The time of day as this process has it."""
        return BEGINNING_MS + int(self.air.loop.instant * 1000) + self.node.clock.skew_ms

    async def run(self) -> None:
        """Work until cancelled, then hand back."""
        listening = self.database.listen(self.node)
        openings = Signal()
        journal = Journal(Lane(self.database, self.node), jitter=self.rng.random)
        async with _drained(journal), self._fleet(openings) as fleet:

            def born() -> Worker:
                worker = self._new_id()
                here = WorkerPorts(self.database, self.node, worker)
                ports = Ports(
                    claims=here,
                    journal=journal,
                    heartbeat=here,
                    fleet=fleet,
                    breakers=fleet,
                    health=here,
                    due=listening.due,
                    cancels=listening.cancels,
                    openings=openings,
                )
                return Worker(worker, ports, clock=self.now_ms, policy=self.policy)

            self.succession = Succession(born)
            await self.succession.run()

    def _fleet(self, openings: Signal) -> ApplianceFleet:
        conditions = Conditions(
            EgressPolicy(),
            timeouts=CallTimeouts(connect_s=4.0, change_s=self.policy.call_s),
            jitter=self.rng.random,
            clock=self.now_ms,
            connect=self.air.connect,
        )

        async def registration_of(name: ApplianceName) -> Registration:
            tables = self.database.tables
            return await self.database.ask(
                self.node, "registration", lambda: tables.registration(name)
            )

        def gate_of(registration: Registration) -> Gate:
            return Gate(self.database, self.node, self.rng, registration)

        return ApplianceFleet(registration_of, conditions, gate_of, openings.announce)

    def _new_id(self) -> WorkerId:
        worker = WorkerId(UUID(int=self.rng.getrandbits(128)))
        self.workers.append(worker)
        return worker


@asynccontextmanager
async def _drained(journal: Journal) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        try:
            yield
        finally:
            async with asyncio.timeout(DRAIN_S):
                await journal.stop()
