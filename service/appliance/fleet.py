"""The appliances, each kept connected for whoever comes next."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import Self

from service.appliance.client import ApplianceClient, Conditions
from service.appliance.egress import EgressPolicy
from service.appliance.limits import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, CallTimeouts, Limits
from service.appliance.pace import Pace
from service.appliance.tls import system_ca
from service.domain.appliance import Endpoint
from service.domain.ids import ApplianceName
from service.domain.registration import Registration


@dataclass(slots=True, eq=False)
class _Kept:
    """A client, and how many use it. One that was replaced is closed by its last user."""

    client: ApplianceClient
    endpoint: Endpoint
    users: int = 0
    is_replaced: bool = False

    def serves(self, endpoint: Endpoint) -> bool:
        """Whether it is of the same registration as `endpoint`, and as new: a name that was
        removed and registered again counts from 1 again."""
        same = self.endpoint.registration == endpoint.registration
        return same and self.endpoint.version >= endpoint.version


class ApplianceFleet:
    """Implements `engine.ports.Fleet`. Within `async with`, it owns the clients' tasks; at the
    end it logs out everywhere, within a deadline, and closes all connections."""

    def __init__(
        self,
        registration_of: Callable[[ApplianceName], Awaitable[Registration]],
        egress: EgressPolicy,
        timeouts: CallTimeouts = DEFAULT_TIMEOUTS,
        limits: Limits = DEFAULT_LIMITS,
        ca: SSLContext | None = None,
        pace: Callable[[], Pace] = Pace,
    ) -> None:
        """`registration_of` may raise UnknownAppliance. `ca` verifies appliances without a pin,
        the system's if None; each client gets a `pace` of its own."""
        self._registration_of = registration_of
        self._conditions = Conditions(egress, timeouts, limits, ca or system_ca(), pace)
        self._kept: dict[ApplianceName, _Kept] = {}
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

    @asynccontextmanager
    async def use(self, endpoint: Endpoint) -> AsyncIterator[ApplianceClient]:
        """The client of the appliance behind `endpoint`, of this version of its registration or
        a newer one. Raises UnknownAppliance and what else `registration_of` raises."""
        kept = await self._current(endpoint)
        kept.users += 1
        try:
            yield kept.client
        finally:
            kept.users -= 1
            self._dismiss_if_left(kept)

    async def _current(self, endpoint: Endpoint) -> _Kept:
        kept = self._kept.get(endpoint.name)
        if kept is not None and kept.serves(endpoint):
            return kept
        async with self._loading[endpoint.name]:
            kept = self._kept.get(endpoint.name)
            if kept is not None and kept.serves(endpoint):
                return kept
            return await self._load(endpoint.name)

    async def _load(self, name: ApplianceName) -> _Kept:
        registration = await self._registration_of(name)
        before = self._kept.get(name)
        if before is not None and before.endpoint == registration.endpoint:
            return before
        client = ApplianceClient(registration, self._conditions, self._group)
        self._kept[name] = _Kept(client, registration.endpoint)
        if before is not None:
            before.is_replaced = True
            self._dismiss_if_left(before)
        return self._kept[name]

    def _dismiss_if_left(self, kept: _Kept) -> None:
        if kept.is_replaced and kept.users == 0:
            self._group.create_task(kept.client.close())

    async def _close_all(self) -> None:
        clients = [kept.client for kept in self._kept.values()]
        self._kept.clear()
        async with asyncio.TaskGroup() as closing:
            for client in clients:
                closing.create_task(client.close())
