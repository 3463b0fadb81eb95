"""How two appliances are paired, as the vendor tells it: call both, poll both, then look."""

import asyncio

from service.domain.events import PairingFailed, PairingStarted
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.ports import Fleet
from service.engine.side import SideSaga
from service.engine.verification import verify


async def drive(case: Case, fleet: Fleet, policy: Policy, worker: str) -> None:
    """Bring a pairing from wherever it stands to its end. Every step may be entered again.

    Raises, in an exception group, LeaseLost or StoreUnavailable when the case has to be dropped.
    """
    await case.record(PairingStarted(worker=worker, epoch=case.pairing.epoch))
    one, other = (case.endpoint(side.appliance) for side in case.pairing.sides)

    async with fleet.use(one) as here, fleet.use(other) as there:
        async with asyncio.TaskGroup() as both_sides:
            both_sides.create_task(SideSaga(case, here, policy).run())
            both_sides.create_task(SideSaga(case, there, policy).run())

        failed = case.pairing.failed_side
        if failed is not None and failed.error is not None:
            await case.record(PairingFailed(failed.error))
        else:
            await verify(case, here, there, policy)
