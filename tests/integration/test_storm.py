"""Many pairings in a storm of faults: each comes to an end, and nothing is done twice."""

import asyncio
from collections import Counter
from itertools import combinations

from service.settings import Settings
from simulator import Fleet, Rule, fault
from tests.support.service import are_paired, fleet_of, holds, service_over

STORM: list[Rule] = [
    fault("lost_answer", method="POST", path="/sites", times=None, probability=0.15),
    fault("late", method="POST", path="/sites", times=None, probability=0.1, ms=30),
    fault("reset", method="POST", path="/sites", times=None, probability=0.1),
    fault("status", method="POST", path="/sites", times=None, probability=0.1, status=503),
    fault(
        "status",
        method="POST",
        path="/sites",
        times=None,
        probability=0.1,
        status=500,
        when="after",
    ),
    fault("garbage", path="/sites|/tasks.*", times=None, probability=0.03),
    fault("reset", method="GET", times=None, probability=0.03),
    fault("slow", times=None, probability=0.05, ms=100),
    fault("expire_sessions", times=None, probability=0.01),
    fault("status", path="/tasks.*", times=None, probability=0.03, status=500),
]


def effects(fleet: Fleet) -> Counter[tuple[str, str | None]]:
    """How often each appliance created a record of each peer, by the simulator's own account."""
    fleet.truth()
    return Counter(
        (call.appliance, call.peer)
        for call in fleet.world.truth.accepted
        if call.kind == "pair" and call.outcome != "FAILED"
    )


async def test_every_pairing_ends_and_no_side_is_created_twice(
    seed: int, settings: Settings
) -> None:
    async with fleet_of(6, seed=seed) as fleet, service_over(settings, fleet) as service:
        names = await service.register()
        couples = list(combinations(names, 2))
        for appliance in fleet.appliances:
            for rule in STORM:
                appliance.add_fault(rule)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(service.pair(*couple)) for couple in couples]
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(service.over(task.result())) for task in asked]

        pairings = [end.result() for end in ends]
        assert max(effects(fleet).values()) == 1
        for pairing in pairings:
            assert pairing["state"] in {"SUCCEEDED", "FAILED"}
            if pairing["state"] == "SUCCEEDED":
                assert are_paired(fleet, *pairing["appliances"])
            for side in pairing["sides"] if pairing["state"] == "FAILED" else ():
                is_reported = side["state"] == "ROLLBACK_FAILED"
                assert is_reported or not holds(fleet, side["appliance"], side["peer"]), pairing
        succeeded = sum(pairing["state"] == "SUCCEEDED" for pairing in pairings)
        assert succeeded >= len(couples) // 2, pairings
