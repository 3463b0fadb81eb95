"""GET /tasks: filters, order and pages (h4-api 3.4)."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.tasks import Look, Task

_TIMES = ("startTimeBefore", "startTimeAfter", "endTimeBefore", "endTimeAfter")
_STATES = ("RUNNING", "SUCCEEDED", "FAILED")
_DEFAULT_LIMIT = 100


class BadQuery(ValueError):
    """A parameter that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """The parameters, read. `words` maps a filter to the values that pass it."""

    words: Mapping[str, frozenset[str]]
    times: Mapping[str, int]
    sort: tuple[tuple[str, bool], ...]
    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page of tasks and how many there are in all."""

    tasks: list[Task]
    offset: int
    limit: int
    total: int


def parse_query(query: Mapping[str, str], look: Look) -> TaskQuery:
    """Read the query. Raises BadQuery; parameters that are not documented are ignored."""
    words = {
        name: frozenset(query[name].split(",")) for name in ("ids", "resourceType") if name in query
    }
    names = ["user", "state", "type", "resourceId", "resourceName"]
    if look.knobs.operation_id_filter:
        names.append("operationID")
    words.update({name: frozenset([query[name]]) for name in names if name in query})
    if "state" in query and query["state"] not in _STATES:
        raise BadQuery(f"state: {query['state']}")
    limit = _whole(query, "limit", _DEFAULT_LIMIT)
    most = look.knobs.list_limit_max or limit
    return TaskQuery(
        words=words,
        times={name: _whole(query, name, 0) for name in _TIMES if name in query},
        sort=_sorting(query.get("sort", "")),
        # Above the limit it does not answer the limit but the default.
        limit=limit if 0 < limit <= most else _DEFAULT_LIMIT,
        offset=_whole(query, "offset", 0),
    )


def page_of(tasks: Iterable[Task], query: TaskQuery, look: Look) -> Page:
    """The page that `query` asks for. `tasks` come newest first."""
    after = query.times.get("startTimeAfter")
    if after is not None:
        # Ends the walk through a long history early: all that follow are older still.
        tasks = itertools.takewhile(lambda task: task.start_ms + look.offset_ms > after, tasks)
    found = [task for task in tasks if _passes(task, query, look)]
    for field, descending in reversed(query.sort):
        found.sort(key=_sort_key(field, look), reverse=descending)
    chosen = found[query.offset : query.offset + query.limit]
    return Page(chosen, query.offset, query.limit, len(found))


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        raise BadQuery(f"{name}: {text}") from None
    if name == "offset" and number < 0:
        raise BadQuery(f"{name}: {text}")
    return number


def _sorting(text: str) -> tuple[tuple[str, bool], ...]:
    fields = [(word.rstrip("-"), word.endswith("-")) for word in text.split(",") if word]
    for field, _ in fields:
        if field not in _SORTABLE:
            raise BadQuery(f"sort: {field}")
    return tuple(fields)


_SORTABLE: dict[str, Callable[[Task, Look], int | str]] = {
    "id": lambda task, _: task.id,
    "user": lambda task, _: task.user,
    "state": lambda task, look: task.state(look.now, look.knobs.extra_states),
    "progress": lambda task, look: task.progress(look.now),
    "startTime": lambda task, _: task.start_ms,
    "endTime": lambda task, _: _end(task),
    "type": lambda task, _: task.workflow.type,
    "resourceType": lambda task, _: task.workflow.resource_type,
    "resourceId": lambda task, _: task.workflow.resource_id or "",
    "resourceName": lambda task, _: task.workflow.resource_name or "",
}


_WORDS: dict[str, Callable[[Task, Look], str | None]] = {
    "ids": lambda task, _: task.id,
    "user": lambda task, _: task.user,
    "state": lambda task, look: task.state(look.now, look.knobs.extra_states),
    "type": lambda task, _: task.workflow.type,
    "resourceType": lambda task, _: task.workflow.resource_type,
    "resourceId": lambda task, _: task.workflow.resource_id,
    "resourceName": lambda task, _: task.workflow.resource_name,
    "operationID": lambda task, _: task.operation_id,
}


def _sort_key(field: str, look: Look) -> Callable[[Task], Any]:
    read = _SORTABLE[field]
    return lambda task: read(task, look)


def _passes(task: Task, query: TaskQuery, look: Look) -> bool:
    return all(_WORDS[name](task, look) in words for name, words in query.words.items()) and all(
        _passes_time(task, name, bound, look) for name, bound in query.times.items()
    )


def _passes_time(task: Task, name: str, bound: int, look: Look) -> bool:
    instant = task.start_ms if name.startswith("start") else _end(task)
    if instant == -1:
        # A task without an end has ended neither before nor after anything.
        return False
    instant += look.offset_ms
    return instant < bound if name.endswith("Before") else instant > bound


def _end(task: Task) -> int:
    return -1 if task.outcome is None else task.end_ms
