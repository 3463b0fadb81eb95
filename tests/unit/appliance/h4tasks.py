"""An appliance's tasks in memory, as far as questions about them go: the other side of `Ask`."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.appliance.calls import Callers
from service.appliance.classify import judge_failure
from service.appliance.exchange import Answer, Failure, FailureKind, Request
from service.domain.ids import OperationId, TaskId
from tests.unit.appliance.values import an_answer, as_json

Spoil = Callable[[Request], Answer | None]

SILENCE_S = 20.0
"""After so long a call that is not answered is given up."""


@dataclass(slots=True)
class H4Tasks:
    """Tasks end at `ends` (loop time). `spoil` may answer in place of the appliance, which does not
    answer what `hangs`."""

    ends: dict[TaskId, float] = field(default_factory=dict)
    state: str = "SUCCEEDED"
    max_ids: int = 0
    too_many: int = 400
    latency_s: float = 0.0
    spoil: Spoil | None = None
    hangs: Callable[[Request], bool] = lambda _: False
    asked: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    callers: list[list[OperationId]] = field(default_factory=list)

    async def ask(self, request: Request, callers: Callers | None = None) -> Answer:
        """Implements `Ask`."""
        assert callers is not None
        self.callers.append(list(callers()))
        self.asked["bulk" if request.method == "POST" else "single"] += 1
        self.times.append(asyncio.get_running_loop().time())
        if self.hangs(request):
            await asyncio.sleep(SILENCE_S)
            raise judge_failure(Failure(FailureKind.SILENT, "no answer"), mutating=False)
        await asyncio.sleep(self.latency_s)
        spoilt = self.spoil(request) if self.spoil is not None else None
        if spoilt is not None:
            return spoilt
        if request.method == "POST":
            return self._bulk(json.loads(request.body or b""))
        return self._single(TaskId(request.path.removeprefix("/tasks/")))

    def _bulk(self, ids: list[TaskId]) -> Answer:
        self.sizes.append(len(ids))
        if self.max_ids and len(ids) > self.max_ids:
            return an_answer(self.too_many, as_json({"code": "BadUserInput", "msg": "too many"}))
        known = [task_id for task_id in reversed(ids) if task_id in self.ends]
        rows = [[self._state(task_id), task_id] for task_id in known]
        return an_answer(200, as_json({"propertyNames": ["state", "id"], "values": rows}))

    def _single(self, task_id: TaskId) -> Answer:
        if task_id not in self.ends:
            return an_answer(404, as_json({"code": "NotFound", "msg": "no such task"}))
        task: dict[str, Any] = {"id": task_id, "state": self._state(task_id)}
        if task["state"] == "FAILED":
            task["error"] = {"code": "CertificateMismatch", "msg": "differs", "args": []}
        return an_answer(200, as_json(task))

    def _state(self, task_id: TaskId) -> str:
        is_over = asyncio.get_running_loop().time() >= self.ends[task_id]
        return self.state if is_over else "RUNNING"
