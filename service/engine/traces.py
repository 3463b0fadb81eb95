"""What a pairing leaves on purpose is to be seen before it is over: whoever comes next believes the
lists, and must not take it for their own making."""

import asyncio
import itertools

from service.domain.decisions import Absent, Present, Sighting
from service.domain.errors import ApplianceClosed, ApplianceError, Rejected, UnknownAppliance
from service.domain.pairing import Phase, SideState, SiteCall
from service.engine.case import Case
from service.engine.defects import defect
from service.engine.policy import Policy
from service.engine.ports import Appliance
from service.engine.site import Site


async def until_listed(case: Case, here: Appliance, there: Appliance, policy: Policy) -> None:
    """Wait until both lists show what this job did there, but no longer than a list may be behind,
    nor for an appliance that is closed, or not registered any more, or shows its list to nobody."""
    if case.pairing.phase is Phase.VERIFYING and not case.pairing.is_canceling:
        return  # They had that time.
    async with asyncio.TaskGroup() as both_sides:
        both_sides.create_task(_until_listed(case, here, policy))
        both_sides.create_task(_until_listed(case, there, policy))


async def _until_listed(case: Case, appliance: Appliance, policy: Policy) -> None:
    site = Site(case, appliance, policy)
    call = site.side.call
    if site.side.state is not SideState.SUCCEEDED or call is None or site.moved() is not None:
        return
    clock = asyncio.get_running_loop().time
    until = min(clock() + policy.verify_timeout_s, case.deadline)
    for look in itertools.count(1):
        try:
            if _shows(await site.look(), call):
                return
        except (ApplianceClosed, Rejected, TimeoutError, UnknownAppliance):
            return
        except ApplianceError:
            pass  # Nothing was seen.
        except Exception as crash:  # noqa: BLE001 - it has failed, for a reason of its own
            defect(crash)
            return
        left_s = until - clock()
        if left_s <= 0:
            return
        await case.pause(min(policy.pause_s(look), left_s))


def _shows(sighting: Sighting, call: SiteCall) -> bool:
    match call:
        case SiteCall.PAIR:
            return not isinstance(sighting, Absent)
        case SiteCall.REPAIR:
            return isinstance(sighting, Present)
        case SiteCall.UNPAIR:
            return isinstance(sighting, Absent)
