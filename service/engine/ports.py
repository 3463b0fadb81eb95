"""What the engine needs from the world. Each port has two implementations: real, and simulated."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from service.domain.appliance import Endpoint, Peer, Task
from service.domain.events import Entry
from service.domain.ids import ApplianceName, PairingId, TaskId
from service.domain.pairing import Assignment, Pairing


@dataclass(frozen=True, slots=True)
class Change:
    """A pairing as it is after `entries`, which were appended to its chain one after another.

    `release` gives the pairing up: any worker may claim it from then on.
    """

    pairing: Pairing
    entries: tuple[Entry, ...]
    release: bool = False


class Journal(Protocol):
    """The only writer of pairing state."""

    async def append(self, change: Change) -> None:
        """Make `change` durable: entries and state in one transaction, then return.

        Changes of one pairing take effect in the order in which they were handed over. Raises
        LeaseLost when the pairing's epoch is no longer the change's, StoreUnavailable when the
        outcome is not known.
        """


class Claims(Protocol):
    """Where work comes from."""

    async def claim(self, limit: int) -> Sequence[Assignment]:
        """Own up to `limit` due pairings, oldest of the highest priority first; each with a
        raised epoch. Raises StoreUnavailable."""

    async def release(self, pairing_ids: Sequence[PairingId]) -> None:
        """Give up what this worker owns of these without a word in their chains: for pairings
        whose stored state is not known here. Raises StoreUnavailable."""


class Wakeups(Protocol):
    """Tells that something may be due."""

    async def wait(self, timeout_s: float) -> None:
        """Return when work was announced since the last call, or after `timeout_s`."""


class Appliance(Protocol):
    """One appliance, as a saga sees it. All but `start_pairing` only look.

    Every call may raise NotSent, Ambiguous or Rejected (LoginRefused among them).
    """

    name: ApplianceName

    async def peers(self) -> Sequence[Peer]:
        """Its peers as of a moment after this call began. Shared by all who ask at once."""

    async def start_pairing(self, peer: Endpoint, description: str) -> Task:
        """`POST /sites`, sent at most once by this call. Waits its turn if many are under way."""

    async def finished(self, task_id: TaskId) -> Task:
        """The task once it is SUCCEEDED or FAILED, however long that takes.

        Raises TaskForgotten when the appliance no longer knows it. Shared rounds of polling.
        """

    async def pair_tasks(self, since_ms: int) -> Sequence[Task]:
        """Its tasks of type `pair` started after `since_ms` on its clock, finished or not."""


class Fleet(Protocol):
    """The appliances, connected when needed."""

    def use(self, endpoint: Endpoint) -> AbstractAsyncContextManager[Appliance]:
        """The appliance behind `endpoint`, kept connected for whoever comes next.

        Entering raises UnknownAppliance when it is no longer registered.
        """


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a worker meets the world through."""

    claims: Claims
    journal: Journal
    fleet: Fleet
    wakeups: Wakeups
