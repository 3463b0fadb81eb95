"""POST /tasks/poll: a table of tasks with dotted columns, in any order (h4-api 3.5)."""

import random
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Struct

from simulator.knobs import Knobs
from simulator.tasks import Look, Task

_COLUMNS = (
    "id",
    "user",
    "workflowInfo.type",
    "workflowInfo.resourceType",
    "workflowInfo.resourceId",
    "workflowInfo.resourceName",
    "progress",
    "state",
    "lastUpdated",
    "startTime",
    "endTime",
    "resultType",
    "result",
    "error",
    "warnings",
    "site",
)
_SPLIT = ("result", "error")
_WHOLE = tuple(name for name in _COLUMNS if name not in _SPLIT)
_whole = itemgetter(*map(_COLUMNS.index, _WHOLE))


class TasksPollResponse(Struct, rename="camel", gc=False):
    """The answer: one inner array per task, or with the other layout one per property."""

    property_names: Sequence[str]
    values: Sequence[Sequence[Any]]


def table(tasks: Sequence[Task], look: Look, rng: random.Random) -> TasksPollResponse:
    """The table of `tasks`, shaped as the knobs say."""
    rows: list[tuple[Any, ...]] = [_row(task, look) for task in tasks]
    columns: tuple[str, ...] = _COLUMNS
    match look.knobs.poll_cells:
        case "flattened":
            columns, rows = _flattened(rows)
        case "omitted":
            columns, rows = _WHOLE, list(map(_whole, rows))
        case "nested":
            pass
    columns, rows = _shuffled(columns, rows, look.knobs, rng)
    if look.knobs.poll_layout == "columns":
        return TasksPollResponse(columns, list(zip(*rows, strict=True)) or [()] * len(columns))
    return TasksPollResponse(columns, rows)


def _row(task: Task, look: Look) -> tuple[Any, ...]:
    outcome, workflow, offset = task.outcome, task.workflow, look.offset_ms
    result = outcome.result if outcome and look.knobs.task_result == "told" else None
    ended = -1 if outcome is None else task.end_ms + offset
    updated = -1
    if look.knobs.last_updated == "real":
        updated = ended if outcome else look.now + offset
    return (
        task.id,
        task.user,
        workflow.type,
        workflow.resource_type,
        workflow.resource_id,
        workflow.resource_name,
        task.progress(look.now),
        task.state(look.now, look.knobs.extra_states),
        updated,
        task.start_ms + offset,
        ended,
        None if result is None else type(result).__name__,
        result,
        outcome.error if outcome else None,
        (),
        look.site,
    )


def _shuffled(
    columns: tuple[str, ...], rows: list[tuple[Any, ...]], knobs: Knobs, rng: random.Random
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    if knobs.poll_order == "fixed":
        return columns, rows
    pick = itemgetter(*rng.sample(range(len(columns)), len(columns)))
    rng.shuffle(rows)
    return pick(columns), [pick(row) for row in rows]


def _flattened(rows: list[tuple[Any, ...]]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """No cell holds an object: members of results and errors get columns of their own."""
    flat = [_leaves(dict(zip(_COLUMNS, row, strict=True))) for row in rows]
    extra = sorted({name for row in flat for name in row if name not in _WHOLE})
    columns = (*_WHOLE, *extra)
    return columns, [tuple(row.get(name) for name in columns) for row in flat]


def _leaves(row: Mapping[str, Any]) -> dict[str, Any]:
    leaves = {name: value for name, value in row.items() if name not in _SPLIT}
    for name in _SPLIT:
        if row[name] is not None:
            _spread(name, msgspec.to_builtins(row[name]), leaves)
    return leaves


def _spread(prefix: str, value: object, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            _spread(f"{prefix}.{name}", member, into)
    else:
        into[prefix] = value
