"""The database of a run: transactions on a node of their own, and the ways to it.

What is asked leaves the caller's node and takes effect on the database's, whatever becomes of the
caller meanwhile. The ports that the engine, the journal and the fleet use are implemented on it.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from service.domain.appliance import ApiError
from service.domain.author import Author
from service.domain.errors import SitepairError, StoreUnavailable
from service.domain.ids import ApplianceName, PairingId, WorkerId
from service.domain.pairing import Claimed
from service.domain.registration import LoginOutcome, LoginRefusal, Registration
from service.store.errors import RolledBack
from service.store.notify import Signal
from service.store.statements import statement
from tests.simulation.clockwork import Clockwork, Node
from tests.simulation.tables import Tables
from tests.simulation.weather import StoreFault, Weather

Result = TypeVar("Result")

LINGERS_S = 8.0
"""How long a statement may go on by itself after its connection was lost."""


@dataclass(slots=True)
class Listening:
    """The hints that one process gets."""

    node: Node
    due: Signal = field(default_factory=Signal)
    cancels: Signal = field(default_factory=Signal)


class Database:
    """The tables, behind a wire. `cut` holds the names of nodes that do not reach it."""

    def __init__(
        self, loop: Clockwork, node: Node, tables: Tables, rng: random.Random, weather: Weather
    ) -> None:
        self.loop = loop
        self.node = node
        self.tables = tables
        self.cut: set[str] = set()
        self.is_down = False
        self.tell: Callable[[str, str], None] = lambda *_: None
        self._rng = rng
        self._weather = weather
        self._listeners: list[Listening] = []

    def listen(self, node: Node) -> Listening:
        """The hints for a process."""
        listening = Listening(node)
        self._listeners.append(listening)
        return listening

    async def ask(
        self, node: Node, doing: str, do: Callable[[], Result], *, in_steps: bool = False
    ) -> Result:
        """`do` as one transaction. Raises what it raises, or StoreUnavailable.

        `in_steps`: it takes several statements, so it cannot begin without its caller. When it
        lingers it is its commit that does, and its locks hold up whoever would notice.
        """
        fault = StoreFault.REFUSED if self.is_lost(node) else self._weather.store_fault(self._rng)
        if in_steps and fault is StoreFault.LINGERS:
            fault = StoreFault.ANSWER_LOST
        answer: asyncio.Future[Result] = self.loop.create_future()
        trip = _Trip(self, node, answer, doing, fault)
        self.loop.at(self.loop.instant + self.way_s(), lambda: trip.arrive(do))
        return await answer

    def is_lost(self, node: Node) -> bool:
        """Whether a process does not reach the database now."""
        return self.is_down or node.name in self.cut

    def way_s(self) -> float:
        """How long one way takes this time."""
        return self._rng.uniform(0.2, 1.0) * self._weather.store_way_s

    def lingers_s(self) -> float:
        """How long a statement goes on after its connection was lost."""
        return self._rng.uniform(0.0, LINGERS_S)

    def heal(self) -> None:
        """It is up, and everybody reaches it again. Hints may have been missed."""
        self.is_down = False
        self.cut.clear()
        self.tables.notices += ["due", "cancel"]
        self.settle()

    def settle(self) -> None:
        """Pass on what was announced by the transactions so far."""
        notices, self.tables.notices = set(self.tables.notices), []
        for listening in self._listeners:
            if self.is_lost(listening.node):
                continue
            for channel, signal in (("due", listening.due), ("cancel", listening.cancels)):
                if channel in notices:
                    self.loop.post(listening.node, self.way_s(), signal.announce)


class _Trip:
    """One transaction on its way there and back. Does not depend on who asked."""

    def __init__(
        self,
        database: Database,
        node: Node,
        answer: asyncio.Future[Any],
        doing: str,
        fault: StoreFault | None,
    ) -> None:
        self._database = database
        self._node = node
        self._answer = answer
        self._doing = doing
        self._fault = fault

    def arrive(self, do: Callable[[], Any]) -> None:
        """Take effect, or not."""
        fault = self._fault
        if fault is not None:
            self._database.tell("database", f"{self._doing} by {self._node.name}: {fault}")
        if fault is StoreFault.REFUSED or self._database.is_lost(self._node):
            self._back(StoreUnavailable("simulated: not connected"))
        elif fault is StoreFault.ROLLED_BACK:
            self._back(RolledBack("simulated: deadlock"))
        elif fault is StoreFault.LINGERS:
            self._back(StoreUnavailable("simulated: connection lost"))
            loop = self._database.loop
            loop.at(loop.instant + self._database.lingers_s(), lambda: self._commit_alone(do))
        else:
            self._back(self._commit(do), StoreUnavailable("simulated: answer lost"))

    def _commit(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except SitepairError as refusal:
            return refusal
        finally:
            self._database.settle()

    def _commit_alone(self, do: Callable[[], Any]) -> None:
        if not self._database.is_down:
            self._database.tell("database", f"{self._doing} by {self._node.name}: late")
            self._commit(do)

    def _back(self, outcome: Any, loss: StoreUnavailable | None = None) -> None:
        loop = self._database.loop
        loop.at(loop.instant + self._database.way_s(), lambda: self._deliver(outcome, loss))

    def _deliver(self, outcome: Any, loss: StoreUnavailable | None) -> None:
        if self._answer.done():
            return
        is_lost = self._fault is StoreFault.ANSWER_LOST or self._database.is_lost(self._node)
        if loss is not None and is_lost:
            outcome = loss
        if isinstance(outcome, Exception):
            self._answer.set_exception(outcome)
        else:
            self._answer.set_result(outcome)


class Lane:
    """Implements `store.journal.Statements` for the journal of one process."""

    def __init__(self, database: Database, node: Node) -> None:
        self._database = database
        self._node = node

    async def run(
        self, asked: object, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Any]:
        """A statement of the journal's."""
        tables, given = self._database.tables, parameters or {}
        do = tables.journal if asked is statement("journal") else tables.journal_standing
        return await self._database.ask(self._node, do.__name__, lambda: do(given))

    async def close(self) -> None:
        """Nothing is kept open."""


class WorkerPorts:
    """Implements `Claims`, `Heartbeat` and `Health` for one worker."""

    def __init__(self, database: Database, node: Node, worker: WorkerId) -> None:
        self._database = database
        self._tables = database.tables
        self._node = node
        self._worker = worker

    async def claim(self, limit: int) -> Claimed:
        """Implements `Claims.claim`."""
        return await self._ask("claim", lambda: self._tables.claim(self._worker, limit))

    async def disown(self, driven: Collection[PairingId]) -> None:
        """Implements `Claims.disown`."""
        kept = set(driven)
        await self._ask("disown", lambda: self._tables.disown(self._worker, kept), in_steps=True)

    async def wishes(self) -> Mapping[PairingId, Author]:
        """Implements `Claims.wishes`."""
        return await self._ask("wishes", lambda: self._tables.wishes(self._worker))

    async def join(self, lease_s: float) -> None:
        """Implements `Heartbeat.join`."""
        await self._ask("join", lambda: self._tables.join(self._worker, lease_s))

    async def beat(self) -> int:
        """Implements `Heartbeat.beat`."""
        return await self._ask("beat", lambda: self._tables.beat(self._worker))

    async def bury(self) -> float | None:
        """Implements `Heartbeat.bury`."""
        return await self._ask("bury", lambda: self._tables.bury(self._worker), in_steps=True)

    async def leave(self) -> None:
        """Implements `Heartbeat.leave`."""
        await self._ask("leave", lambda: self._tables.leave(self._worker), in_steps=True)

    async def report(self, opened: Mapping[ApplianceName, ApiError]) -> None:
        """Implements `Health.report`."""
        news = dict(opened)
        await self._ask("report", lambda: self._tables.report(news))

    async def closed(self) -> Mapping[ApplianceName, ApiError]:
        """Implements `Health.closed`."""
        return await self._ask("closed", self._tables.closed)

    async def take_probes(self) -> Sequence[ApplianceName]:
        """Implements `Health.take_probes`."""
        return await self._ask("take probes", self._tables.take_probes)

    async def reopen(self, name: ApplianceName) -> None:
        """Implements `Health.reopen`."""
        await self._ask("reopen", lambda: self._tables.reopen(name))

    async def _ask(self, doing: str, do: Callable[[], Result], *, in_steps: bool = False) -> Result:
        return await self._database.ask(self._node, doing, do, in_steps=in_steps)


class Gate:
    """Implements `appliance.gate.LoginGate`, across all workers."""

    def __init__(
        self, database: Database, node: Node, rng: random.Random, registration: Registration
    ) -> None:
        self._database = database
        self._node = node
        self._rng = rng
        self._registration = registration
        self._turn: UUID | None = None

    async def admit(self) -> LoginRefusal | None:
        """Implements `LoginGate.admit`."""
        self._turn = turn = UUID(int=self._rng.getrandbits(128))
        while True:
            answer = await self._database.ask(
                self._node,
                "take the turn to log in",
                lambda: self._database.tables.take_login(turn, self._registration),
            )
            if isinstance(answer, LoginRefusal):
                return answer
            if answer:
                return None
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))

    async def tell(self, outcome: LoginOutcome) -> None:
        """Implements `LoginGate.tell`."""
        turn, self._turn = self._turn, None
        await self._database.ask(
            self._node,
            "end a login",
            lambda: self._database.tables.end_login(turn, self._registration, outcome),
        )
