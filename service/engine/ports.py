"""What the engine needs from the world. Each port has two implementations: real, and simulated."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from math import inf
from typing import Protocol

from service.domain.advance import Change
from service.domain.appliance import ApiError, Endpoint, Peer, Task
from service.domain.author import Author
from service.domain.ids import ApplianceName, PairingId, TaskId
from service.domain.pairing import Claimed, SiteCall


class Journal(Protocol):
    """The only writer of pairing state."""

    async def append(self, change: Change, *, is_pressing: bool = False) -> None:
        """Make `change` durable: entries and state in one transaction, then return; soon, if it is
        pressing, because a call to an appliance waits for it.

        Changes of one pairing take effect in the order in which they were handed over. A commit
        whose outcome is not known is looked up. Raises LeaseLost when the pairing's epoch is no
        longer the change's, or it is to be canceled and this is another end; StoreUnavailable when
        the outcome could not be learnt.
        """


class Claims(Protocol):
    """Where this worker's pairings come from."""

    async def claim(self, limit: int) -> Claimed:
        """Own up to `limit` due pairings, each with a raised epoch: from each line its share, the
        oldest first. Those that wait for a closed appliance are set aside. Raises
        StoreUnavailable: what was claimed then, if anything was, is given up by `disown`."""

    async def disown(self, driven: Collection[PairingId]) -> None:
        """Give up whatever this worker owns besides `driven`. Raises StoreUnavailable."""

    async def wishes(self) -> Mapping[PairingId, Author]:
        """Which of the pairings that this worker owns are to be canceled, and who wants it. Raises
        StoreUnavailable."""


class Heartbeat(Protocol):
    """How a worker proves that it lives, by the database's clock."""

    async def join(self, lease_s: float) -> None:
        """Begin to live. Raises StoreUnavailable."""

    async def beat(self) -> int:
        """Still alive; how many workers are, with this one. Raises DeclaredDead,
        StoreUnavailable."""

    async def bury(self) -> float | None:
        """Declare those dead whose last beat is older than their lease, and make their pairings
        due, under a raised epoch. Returns in how many seconds the next lease ends, unless its
        worker beats; None: there is none. Raises StoreUnavailable."""

    async def leave(self) -> None:
        """Live no more; whatever is still owned becomes due. Raises StoreUnavailable."""


class Wakeups(Protocol):
    """Tells that something may have to be done."""

    async def wait(self, timeout_s: float) -> None:
        """Return when it was announced since the last call, or after `timeout_s`."""


Permit = Callable[[], None]
"""Asked at the last moment before a call that changes something is sent. Raises LeaseTooShort."""


class Appliance(Protocol):
    """One appliance, as a saga sees it.

    Every call may raise NotSent, Ambiguous or Rejected (LoginRefused among them); ApplianceClosed
    as long as the appliance does not answer anybody. Calls that change something are made at most
    once each, and wait their turn if many are under way.
    """

    name: ApplianceName
    url: str
    """Where it is called, normalized."""

    @property
    def is_refused(self) -> bool:
        """Whether it refused the credentials when they were last wanted. They may be right by now:
        only a call tells."""

    @property
    def closed(self) -> ApiError | None:
        """Why nobody calls it, as far as is known here; None unless it does not answer."""

    def peers(self, since: float = inf, until: float = inf) -> Awaitable[Sequence[Peer]]:
        """Its peers as of a moment after this call began or, if that was earlier, after `since`
        (loop time). Shared by all who ask at once. Raises TimeoutError at `until` (loop time)."""

    def listed_since(self, peer_id: str) -> float:
        """Since when at least (loop time) its list has had a peer with this id; infinite if the
        last one had none."""

    def line_up(self, until: float, *, first: bool = False) -> Awaitable[None]:
        """Wait until few are before the caller to change something, so that the intent to is not on
        record long before the call; `first` before who is in line otherwise. The place is to be
        left by `leave_line`. Raises TimeoutError at `until` (loop time)."""

    def leave_line(self) -> None:
        """The call is over, or not wanted any more."""

    async def pair(self, peer: Endpoint, description: str, permit: Permit) -> Task:
        """`POST /sites`."""

    async def repair(self, peer_id: str, peer: Endpoint, description: str, permit: Permit) -> Task:
        """`PUT /sites/{id}`."""

    async def unpair(self, peer_id: str, permit: Permit) -> Task:
        """`DELETE /sites/{id}`."""

    def finished(self, task_id: TaskId, until: float) -> Awaitable[Task]:
        """The task once it is SUCCEEDED or FAILED. Shared rounds of polling.

        Raises TaskUnfinished at `until` (loop time), TaskForgotten when the appliance no longer
        knows it, TaskUnreadable when nothing of use was heard about it for a good while.
        """

    async def site_tasks(self, call: SiteCall, since_ms: int) -> Sequence[Task]:
        """Its tasks that `call` may have started after `since_ms` on its clock, finished or not."""


class Fleet(Protocol):
    """The appliances, connected when needed."""

    def use(self, endpoint: Endpoint) -> AbstractAsyncContextManager[Appliance]:
        """The appliance behind `endpoint`, kept connected for whoever comes next.

        Entering raises UnknownAppliance when it is no longer registered.
        """

    def share(self, workers: int) -> None:
        """So many workers change something on these appliances: this one takes its share of what
        may be under way at once on each."""


class Breakers(Protocol):
    """One breaker for each appliance of a fleet; while it is open, nothing is sent."""

    def opened(self) -> Mapping[ApplianceName, ApiError]:
        """Those that opened here and that `impose` has not named since, and why."""

    def impose(self, open_elsewhere: Mapping[ApplianceName, ApiError]) -> None:
        """Open these, and close all others but those that opened here a moment ago."""

    async def probe(self, name: ApplianceName) -> ApiError | None:
        """One call through an open breaker; None when it was answered. Raises UnknownAppliance,
        OutOfResources."""


class Health(Protocol):
    """Which appliances are closed, as all workers know it."""

    async def report(self, opened: Mapping[ApplianceName, ApiError]) -> None:
        """These do not answer. Raises StoreUnavailable."""

    async def closed(self) -> Mapping[ApplianceName, ApiError]:
        """Those that are not to be called now, and why. Raises StoreUnavailable."""

    async def take_probes(self) -> Sequence[ApplianceName]:
        """Those that it is time to try again: this worker's to do, nobody else's. Raises
        StoreUnavailable."""

    async def reopen(self, name: ApplianceName) -> None:
        """It answers again: what waited for it is due. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a worker meets the world through."""

    claims: Claims
    journal: Journal
    heartbeat: Heartbeat
    fleet: Fleet
    breakers: Breakers
    health: Health
    due: Wakeups
    cancels: Wakeups
    openings: Wakeups
    """Of breakers, here."""
