"""Keeps what this worker and the others know about closed appliances the same, and probes them."""

import asyncio

from service.domain.errors import OutOfResources, StoreUnavailable, UnknownAppliance
from service.domain.ids import ApplianceName
from service.engine.policy import Policy
from service.engine.ports import Ports
from service.observe.events import BreakerClosed, BreakerOpened, StoreTroubled, UpkeepCrashed
from service.observe.logging import emit

_PROBING_S = 1.0
"""How often one looks whether it is time for a probe, as long as any appliance is closed."""


class BreakerKeeper:
    """One loop. An appliance that does not answer this worker is closed to all; whoever's turn it
    is tries it again, alone."""

    def __init__(self, ports: Ports, policy: Policy) -> None:
        self._breakers = ports.breakers
        self._health = ports.health
        self._openings = ports.openings
        self._policy = policy
        self._known: set[ApplianceName] = set()
        self._probing: set[ApplianceName] = set()

    @property
    def closed(self) -> int:
        """How many appliances nobody calls, as far as this worker knows."""
        return len(self._known)

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as probes:
            while True:
                try:
                    await self._run_once(probes)
                except StoreUnavailable as trouble:
                    emit(StoreTroubled(doing="keeping breakers", error=str(trouble)))
                is_busy = self._known or self._breakers.opened()
                pause_s = _PROBING_S if is_busy else self._policy.beat_s
                await self._openings.wait(pause_s)

    async def _run_once(self, probes: asyncio.TaskGroup) -> None:
        opened = self._breakers.opened()
        fresh = {name: error for name, error in opened.items() if name not in self._known}
        if fresh:
            await self._health.report(fresh)
            for name, error in fresh.items():
                emit(BreakerOpened(name, error.code))
        closed = await self._health.closed()
        self._known = set(closed)
        self._breakers.impose(closed)
        if closed:
            for name in await self._health.take_probes():
                if name not in self._probing:
                    self._probing.add(name)
                    probes.create_task(self._probe(name))

    async def _probe(self, name: ApplianceName) -> None:
        try:
            error = await self._breakers.probe(name)
            if error is None:
                await self._health.reopen(name)
                emit(BreakerClosed(name))
            else:
                await self._health.report({name: error})
        except UnknownAppliance:
            pass  # It was removed just now.
        except OutOfResources:
            pass  # It tells nothing of the appliance, and the next turn to probe comes by itself.
        except StoreUnavailable as trouble:
            # Nobody is worse off: the next turn to probe comes by itself.
            emit(StoreTroubled(doing=f"probing '{name}'", error=str(trouble)))
        except Exception as defect:  # noqa: BLE001 - one appliance's answer must not end the worker
            emit(UpkeepCrashed(doing=f"probing '{name}'"), error=defect)
        finally:
            self._probing.discard(name)
