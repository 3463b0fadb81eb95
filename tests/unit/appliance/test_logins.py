"""How often an appliance is logged in to."""

import asyncio
from contextlib import suppress

from service.appliance.client import ApplianceClient
from service.appliance.exchange import Outcome, Request
from service.domain.errors import TaskForgotten, TaskUnreadable
from service.domain.ids import TaskId
from tests.support.virtual_time import run
from tests.unit.appliance.scripted import a_registration, all_is_well, world
from tests.unit.appliance.values import an_answer, as_json

MINUTES = 10


def test_one_task_that_always_meets_a_401_costs_few_logins() -> None:
    async def refuse_one(request: Request) -> Outcome:
        if request.path == "/tasks/poll":
            return an_answer(404)
        if request.path == "/tasks/hidden":
            return an_answer(401, as_json({"code": "NotAuthenticated", "msg": "no"}))
        return await all_is_well(request)

    async def wait_for(client: ApplianceClient, task: str) -> None:
        while True:
            with suppress(TaskForgotten, TaskUnreadable):
                await client.finished(TaskId(task))

    async def scene() -> None:
        async with (
            world() as here,
            here.fleet.use(a_registration().endpoint) as client,
            asyncio.TaskGroup() as waiters,
        ):
            here.channel.play = refuse_one
            names = ["hidden", *(f"task-{number}" for number in range(20))]
            waiting = [waiters.create_task(wait_for(client, each)) for each in names]
            await asyncio.sleep(MINUTES * 60.0)
            calls = here.channel.calls
            # The first one, and then one a minute, or two if no other is answered in between.
            assert calls["POST /sessions"] <= 1 + 2 * MINUTES
            assert calls["GET /tasks/hidden"] > 6 * MINUTES
            assert all(calls[f"GET /tasks/{name}"] > 6 * MINUTES for name in names)
            for each in waiting:
                each.cancel()

    run(scene())
