"""The appliances, each kept connected for whoever comes next."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Self

from service.appliance.breakers import Breakers
from service.appliance.client import ApplianceClient
from service.appliance.conditions import Conditions
from service.appliance.gate import LoginGate, OwnGate
from service.concurrency.expiry import Expiry
from service.domain.appliance import ApiError, Endpoint
from service.domain.ids import ApplianceName
from service.domain.registration import Registration
from service.observe.events import UpkeepCrashed
from service.observe.logging import emit


def own_gate(_: Registration) -> LoginGate:
    """A gate that knows of no other worker."""
    return OwnGate()


@dataclass(slots=True, eq=False)
class Kept:
    """A client, and how many use it. One that was replaced is closed by its last user."""

    client: ApplianceClient
    endpoint: Endpoint
    is_sealed: bool
    users: int = 0
    is_replaced: bool = False

    def serves(self, endpoint: Endpoint) -> bool:
        """Whether it is of the same registration as `endpoint`, and as new: a name that was
        removed and registered again counts from 1 again. One whose credentials could not be opened
        serves nobody for long: they may be sealed with another key by now."""
        same = self.endpoint.registration == endpoint.registration
        return same and self.endpoint.version >= endpoint.version and not self.is_sealed

    def is_as_good_as(self, registration: Registration) -> bool:
        """Whether a client of `registration` could do no more."""
        is_same = self.endpoint == registration.endpoint
        return is_same and (registration.is_sealed or not self.is_sealed)

    async def close(self) -> None:
        """Log out, and close the connections. Raises nothing: all others would suffer."""
        try:
            await self.client.close()
        except Exception as defect:  # noqa: BLE001 - as the docstring says
            emit(UpkeepCrashed(doing=f"leaving '{self.endpoint.name}'"), error=defect)


class ApplianceFleet:
    """Implements `engine.ports.Fleet` and `engine.ports.Breakers`.

    Within `async with`, it owns the clients' tasks; at the end it logs out everywhere, within a
    deadline, and closes all connections.
    """

    def __init__(
        self,
        registration_of: Callable[[ApplianceName], Awaitable[Registration]],
        conditions: Conditions,
        gate_of: Callable[[Registration], LoginGate] = own_gate,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        """`registration_of` may raise UnknownAppliance. Each client gets a gate of its own.
        `on_open` is told when a breaker opens here."""
        self._registration_of = registration_of
        self._conditions = conditions
        self._gate_of = gate_of
        self._breakers = Breakers(conditions.limits, on_open)
        self._kept: dict[ApplianceName, Kept] = {}
        self._replaced: set[Kept] = set()
        """Those that somebody uses still."""
        self._idle: dict[Kept, float] = {}
        """Those that nobody uses, and until when (loop time) they stay; the next to go first."""
        self._expiry = Expiry(self._dismiss_idle)
        self._workers = 1
        self._loading: defaultdict[ApplianceName, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._close_all()
        except BaseException as trouble:
            await self._group.__aexit__(type(trouble), trouble, trouble.__traceback__)
            raise
        # Nothing is left in it, and the caller's own error is not to become a group.
        await self._group.__aexit__(None, None, None)

    def use(self, endpoint: Endpoint) -> AbstractAsyncContextManager[ApplianceClient]:
        """The client of the appliance behind `endpoint`, of this version of its registration or
        a newer one. Entering raises UnknownAppliance and what else `registration_of` raises."""
        return _Use(self, endpoint)

    async def take(self, endpoint: Endpoint) -> Kept:
        """What `use` enters with: to be given back by `leave`."""
        kept = await self._current(endpoint)
        self._enter(kept)
        return kept

    def leave(self, kept: Kept) -> None:
        """One user less."""
        kept.users -= 1
        if kept.users:
            return
        if kept.is_replaced:
            self._dismiss(kept)
        else:
            until = asyncio.get_running_loop().time() + self._conditions.limits.idle_s
            self._idle[kept] = until
            self._expiry.heed(until)

    def share(self, workers: int) -> None:
        """Implements `Fleet.share`."""
        if workers != self._workers:
            self._workers = workers
            for kept in (*self._kept.values(), *self._replaced):
                kept.client.share(workers)

    def opened(self) -> Mapping[ApplianceName, ApiError]:
        """The breakers that opened here and that `impose` has not named since, and why."""
        return self._breakers.opened()

    def impose(self, open_elsewhere: Mapping[ApplianceName, ApiError]) -> None:
        """Open the breakers of these, and close all others but those that opened here a moment
        ago."""
        self._breakers.impose(open_elsewhere)

    async def probe(self, name: ApplianceName) -> ApiError | None:
        """One look at an appliance through its open breaker, which is closed here if it answers:
        then None is returned. Raises what `registration_of` raises, and
        OutOfResources."""
        async with self._loading[name]:
            kept = await self._load(name)
        self._enter(kept)
        try:
            error = await kept.client.probe()
        finally:
            self.leave(kept)
        if error is None:
            kept.client.breaker.close()
        return error

    def _enter(self, kept: Kept) -> None:
        kept.users += 1
        self._idle.pop(kept, None)

    async def _current(self, endpoint: Endpoint) -> Kept:
        kept = self._kept.get(endpoint.name)
        if kept is not None and kept.serves(endpoint):
            return kept
        async with self._loading[endpoint.name]:
            kept = self._kept.get(endpoint.name)
            if kept is not None and kept.serves(endpoint):
                return kept
            return await self._load(endpoint.name)

    async def _load(self, name: ApplianceName) -> Kept:
        registration = await self._registration_of(name)
        before = self._kept.get(name)
        if before is not None and before.is_as_good_as(registration):
            return before
        breakers = self._breakers
        breaker = breakers.of(name) if before is None else breakers.renew(name)
        gate = self._gate_of(registration)
        client = ApplianceClient(registration, self._conditions, self._group, gate, breaker)
        client.share(self._workers)
        self._kept[name] = Kept(client, registration.endpoint, registration.is_sealed)
        if before is not None:
            before.is_replaced = True
            if before.users:
                self._replaced.add(before)
            else:
                self._dismiss(before)
        return self._kept[name]

    def _dismiss(self, kept: Kept) -> None:
        self._replaced.discard(kept)
        self._idle.pop(kept, None)
        self._group.create_task(kept.close())

    def _dismiss_idle(self, now: float) -> float:
        """Let go of those whom nobody has used for long; when the next one's time is over."""
        for kept, until in list(self._idle.items()):
            if until > now:
                return until
            del self._kept[kept.endpoint.name]
            self._dismiss(kept)
        return inf

    async def _close_all(self) -> None:
        self._expiry.stop()
        all_kept = list(self._kept.values())
        self._kept.clear()
        async with asyncio.TaskGroup() as closing:
            for kept in all_kept:
                closing.create_task(kept.close())


class _Use:
    """One use of a client."""

    # A class, for a pairing holds two all its time: a generator takes five times the room. Without
    # the base class, which has a `__dict__`.
    __slots__ = ("_endpoint", "_fleet", "_kept")

    def __init__(self, fleet: ApplianceFleet, endpoint: Endpoint) -> None:
        self._fleet = fleet
        self._endpoint = endpoint

    async def __aenter__(self) -> ApplianceClient:
        self._kept = await self._fleet.take(self._endpoint)
        return self._kept.client

    async def __aexit__(self, *_: object) -> None:
        self._fleet.leave(self._kept)
