"""What a call waits for is pressing; what nobody waits for shares its transaction with others."""

import pytest
from msgspec.structs import replace

from service.domain.advance import Change
from service.domain.events import (
    PairRequested,
    RepairRequested,
    SideEvent,
    SideFailed,
    TaskAccepted,
    UnpairRequested,
)
from service.domain.ids import TaskId
from service.domain.pairing import Assignment, Operation
from service.engine.case import Case, Driver
from tests.support.virtual_time import now, run
from tests.unit.domain.values import ENDPOINT_A, ENDPOINT_B, ERROR, A, B, a_pairing

INTENTS: dict[Operation, SideEvent] = {
    Operation.PAIR: PairRequested(A, 1),
    Operation.REPAIR: RepairRequested(A, 1),
    Operation.UNPAIR: UnpairRequested(A, 1),
}


class Heard:
    """A journal that keeps how it was asked."""

    def __init__(self) -> None:
        self.pressing: list[bool] = []

    async def append(self, _: Change, *, is_pressing: bool = False) -> None:
        self.pressing.append(is_pressing)


@pytest.mark.parametrize("operation", Operation)
def test_an_intent_is_pressing(operation: Operation) -> None:
    accepted, failed = TaskAccepted(A, TaskId("1")), SideFailed(B, ERROR)
    told = asked_for(operation, INTENTS[operation], accepted, failed)
    assert told == [True, False, False]


def asked_for(operation: Operation, *events: SideEvent) -> list[bool]:
    """Whether each of them, recorded by itself, was pressing."""

    async def record() -> list[bool]:
        heard = Heard()
        assignment = Assignment(
            replace(a_pairing(), operation=operation), (ENDPOINT_A, ENDPOINT_B), 900.0
        )
        case = Case(assignment, heard, Driver("worker", lambda: int(now()), lambda: None))
        for event in events:
            await case.record(event)
        return heard.pressing

    return run(record())
