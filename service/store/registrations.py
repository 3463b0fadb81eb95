"""Registrations, as a worker asks for them: one that begins wants many at the same moment."""

from collections.abc import Sequence

from service.domain.errors import UnknownAppliance
from service.domain.ids import ApplianceName
from service.domain.registration import Registration
from service.store.appliances import Appliances
from service.store.group import GroupCommit


class Registrations:
    """What is asked for while the last question is under way shares the next one; one that hangs
    holds up all."""

    def __init__(self, appliances: Appliances) -> None:
        self._appliances = appliances
        self._group: GroupCommit[ApplianceName, Registration] = GroupCommit(self._read)

    async def of(self, name: ApplianceName) -> Registration:
        """How it is registered after this call began, sealed or not. Raises UnknownAppliance,
        StoreUnavailable."""
        return await self._group.submit(name)

    async def run(self) -> None:
        """Ask until cancelled: whoever waits then gets StoreUnavailable."""
        await self._group.run()

    async def _read(self, names: Sequence[ApplianceName]) -> Sequence[Registration | Exception]:
        found = await self._appliances.named(names)
        return [found.get(name) or UnknownAppliance(name) for name in names]
