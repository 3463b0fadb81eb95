"""Those of a batch may begin with a list that others read, from when the batch is known."""

import asyncio
from dataclasses import replace
from uuid import UUID

from msgspec.structs import replace as changed

from service.domain.ids import BatchId
from service.domain.pairing import ChainPosition, Pairing
from service.engine.batches import KnownBatches
from tests.support.virtual_time import run
from tests.unit.domain.values import a_pairing as an_accepted
from tests.unit.engine.scene import ONE, POLICY, a_pairing, scene

BATCH, ANOTHER = (BatchId(UUID(int=number, version=4)) for number in (1, 2))


def of(batch: BatchId | None, events: int = 1) -> Pairing:
    """One of the batch, with so many events so far."""
    return changed(an_accepted(), batch=batch, position=ChainPosition(events))


def test_the_batch_tells_since_when_it_was_quiet() -> None:
    async def scene() -> None:
        batches = KnownBatches()
        for moment in (0.0, 1.0, 2.0):
            assert batches.quiet_since(of(BATCH)) == 0.0
            assert batches.quiet_since(of(None)) == moment
            await asyncio.sleep(1.0)
        assert batches.quiet_since(of(ANOTHER)) == 3.0
        assert batches.quiet_since(of(BATCH)) == 0.0

    run(scene())


def test_who_was_begun_before_was_not_left_in_peace_since_then() -> None:
    """By a worker, or by somebody who had it canceled, and tried again after something else."""

    async def scene() -> None:
        batches = KnownBatches()
        batches.quiet_since(of(BATCH))
        await asyncio.sleep(1.0)
        assert batches.quiet_since(of(BATCH, events=2)) == 1.0
        assert batches.quiet_since(of(BATCH)) == 0.0

    run(scene())


def test_of_many_batches_the_first_ones_are_forgotten() -> None:
    async def scene() -> None:
        batches = KnownBatches()
        many = [BatchId(UUID(int=number, version=4)) for number in range(10, 10_010)]
        for batch in many:
            batches.quiet_since(of(batch))
        await asyncio.sleep(1.0)
        assert batches.quiet_since(of(many[-1])) == 0.0
        assert batches.quiet_since(of(many[0])) == 1.0

    run(scene())


def looks(batch: int | None) -> int:
    """How often the list of an appliance is read that is to be paired with each other one."""
    policy = replace(POLICY, window=4, lot_size=1)
    spokes = [replace(a_pairing(0, other), batch=batch) for other in range(1, 12)]
    with scene(*spokes, policy=policy, appliances=12, task_ms=(300, 600)) as here:
        here.until_over()
        return here.calls(ONE, "GET")


def test_who_waited_with_others_begins_with_the_list_that_they_read() -> None:
    assert looks(batch=1) < looks(batch=None)
