"""Those who wait for tasks of an appliance in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.appliance.background import BackgroundTasks
from service.appliance.inquiry import TaskInquiry
from service.appliance.limits import Limits
from service.appliance.pace import Pace
from service.appliance.rounds import TaskRounds
from service.domain.ids import TaskId
from tests.unit.appliance.h4tasks import H4Tasks
from tests.unit.appliance.values import a_task_id

PATIENCE_S = 60.0


@asynccontextmanager
async def waiting(
    appliance: H4Tasks,
    limits: Limits | None = None,
    patience_s: float = PATIENCE_S,
    pace: Pace | None = None,
) -> AsyncIterator[tuple[TaskRounds, BackgroundTasks]]:
    """Rounds over `appliance`, and what they run in."""
    async with asyncio.TaskGroup() as group:
        tasks = BackgroundTasks(group)
        inquiry = TaskInquiry(appliance.ask, limits or Limits())
        pace = pace or Pace(lone_s=0.2, floor_s=0.2)
        yield TaskRounds(inquiry, tasks, pace, lambda: 0.0, patience_s), tasks
        await tasks.close()


def many(count: int, end_s: float) -> dict[TaskId, float]:
    """Tasks that all end at the same time."""
    return {a_task_id(number): end_s for number in range(count)}
