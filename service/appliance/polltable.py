"""The table that `POST /tasks/poll` answers with (h4-api 3.5).

`{"propertyNames": [...], "values": [[...], ...]}`: documented are dotted names for nested members
and an array of arrays. That an inner array is a task and not a column is likely, not said. So
columns are found by name, rows by id, and the direction by where the ids are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from service.appliance.wire import MAX_ID, Unreadable, read_object, task_of
from service.domain.appliance import Task
from service.domain.ids import TaskId, uuid_from

_MAX_DEPTH = 16
"""Of a name: those of documented members have four steps."""


def read_poll_table(body: bytes, asked: Collection[TaskId]) -> Mapping[TaskId, Task]:
    """The tasks in the table that were asked about, by id; some may be missing, in any order.

    Raises Unreadable when it is no such table, lacks ids or states, or could be read both ways.
    """
    table = read_object(body)
    names, values = table.get("propertyNames"), table.get("values")
    if not isinstance(names, list) or not isinstance(values, list):
        raise Unreadable("the answer is not a table of tasks")
    if not all(map(_is_name, names)) or len(set(names)) != len(names):
        raise Unreadable("the table's columns are not named")
    if not {"id", "state"} <= set(names):
        raise Unreadable("the table has no column for the id or the state")
    if not all(isinstance(line, list) for line in values):
        raise Unreadable("the table's values are not an array of arrays")
    paths = [name.split(".") for name in names]
    tasks = (task_of(_nested(paths, row)) for row in _rows(names, values, set(asked)))
    return {task.id: task for task in tasks if task is not None and task.id in asked}


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= MAX_ID and name.count(".") < _MAX_DEPTH


def _rows(
    names: Sequence[str], values: Sequence[Sequence[object]], asked: set[TaskId]
) -> Iterable[Sequence[object]]:
    """The rows of the table, whichever way it is laid out."""
    at = names.index("id")
    down = [row[at] for row in values if len(row) > at]
    by_rows = _are_ids(down, asked) and all(len(row) <= len(names) for row in values)
    by_columns = _is_column_major(names, values) and _are_ids(values[at], asked)
    if by_rows and by_columns:
        raise Unreadable("the table could be read both ways")
    if by_columns:
        return zip(*values, strict=True)
    if by_rows or not any(values):
        return values
    raise Unreadable("the table has no ids where they should be")


def _is_column_major(names: Sequence[str], values: Sequence[Sequence[object]]) -> bool:
    return len(values) == len(names) and len({len(column) for column in values}) == 1


def _are_ids(cells: Sequence[object], asked: set[TaskId]) -> bool:
    """Whether the cells are ids, some perhaps missing, but not all."""
    present = [cell for cell in cells if cell is not None]
    return bool(present) and all(
        isinstance(cell, str) and (cell in asked or uuid_from(cell) is not None) for cell in present
    )


def _nested(paths: Sequence[Sequence[str]], row: Sequence[object]) -> dict[str, object]:
    """One row as the object it was: dotted columns become members again, also of cells.

    Empty cells of dotted columns say nothing: a flattened null is null again.
    """
    task: dict[str, object] = {}
    dotted: list[tuple[Sequence[str], object]] = []
    for path, cell in zip(paths, row, strict=False):
        if len(path) == 1:
            task[path[0]] = cell
        elif cell is not None and cell != []:
            dotted.append((path, cell))
    for (*path, last), cell in dotted:
        _member(task, path)[last] = cell
    return task


def _member(task: dict[str, object], path: Iterable[str]) -> dict[str, object]:
    """The object at `path`, made if it is not there."""
    here = task
    for step in path:
        inner = here.get(step)
        if not isinstance(inner, dict):
            inner = here[step] = {}
        here = inner
    return here
