"""/tasks: one, many, and the bulk poll (h4-api 3.3 to 3.5)."""

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from simulator import errors
from simulator.polltable import table
from simulator.reply import Refused, Reply
from simulator.taskquery import BadQuery, page_of, parse_query
from simulator.tasks import Task, view

if TYPE_CHECKING:
    from simulator.world import Visit, World


def one_task(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /tasks/{id}. Whatever the caller may not see is unknown to them."""
    _check_site(visit)
    try:
        UUID(visit.argument)
    except ValueError as fault:
        error = errors.bad_user_input(f"Invalid task id: {visit.argument}", "taskId")
        raise Refused(400, error) from fault
    task = _visible(visit, visit.argument, now)
    if task is None:
        knobs = visit.appliance.knobs
        error = errors.lenient(knobs.unknown_task_code, f"Task {visit.argument} was not found")
        raise Refused(knobs.unknown_task_status, error)
    return Reply(200, view(task, visit.appliance.look(now), with_site=True))


def list_tasks(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /tasks."""
    _check_site(visit)
    appliance = visit.appliance
    look = appliance.look(now)
    tasks = (
        task for task in appliance.tasks.newest_first(now, appliance.knobs) if _may_see(visit, task)
    )
    try:
        page = page_of(tasks, parse_query(visit.call.query, look), look)
    except BadQuery as fault:
        raise Refused(400, errors.bad_user_input(f"Invalid parameter {fault}")) from fault
    items = [view(task, look, with_site=True) for task in page.tasks]
    body = {"items": items, "offset": page.offset, "limit": page.limit, "total": page.total}
    return Reply(200, body)


def poll(world: "World", visit: "Visit", now: int) -> Reply:
    """POST /tasks/poll: what is hidden or unknown is left out, or an error by the knob."""
    knobs = visit.appliance.knobs
    if knobs.bulk_poll != "yes":
        # A method that is not allowed and a path that does not exist are both plausible.
        raise Refused(int(knobs.bulk_poll), errors.not_found(visit.call.path))
    _check_site(visit)
    try:
        ids = msgspec.json.decode(visit.call.body, type=list[str])
    except (msgspec.DecodeError, RecursionError) as fault:
        raise Refused(400, errors.bad_request("The request body can not be read.")) from fault
    if knobs.poll_max_ids and len(ids) > knobs.poll_max_ids:
        raise Refused(400, errors.bad_user_input(f"More than {knobs.poll_max_ids} ids."))
    found = [task for id_ in dict.fromkeys(ids) if (task := _visible(visit, id_, now))]
    if knobs.poll_unknown_ids == "error" and len(found) < len(set(ids)):
        raise Refused(400, errors.bad_user_input("There are unknown ids."))
    return Reply(200, table(found, visit.appliance.look(now), world.rng))


def _visible(visit: "Visit", task_id: str, now: int) -> Task | None:
    appliance = visit.appliance
    task = appliance.tasks.get(task_id, now, appliance.knobs)
    return task if task is not None and _may_see(visit, task) else None


def _may_see(visit: "Visit", task: Task) -> bool:
    return task.user == visit.user or visit.appliance.knobs.tasks_of_others == "visible"


def _check_site(visit: "Visit") -> None:
    """Another site's tasks need credentials for that site, which this session has not."""
    site = visit.call.query.get("site")
    if site is not None and site != visit.appliance.name:
        raise Refused(401, errors.REMOTE_AUTHENTICATION)
