"""Reading the table of the bulk poll, however an appliance lays it out."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.appliance.polltable import read_poll_table
from service.appliance.wire import Unreadable
from service.domain.ids import TaskId
from tests.unit.appliance.values import a_table, a_task_id, as_json, sample

ONE, TWO, THREE = a_task_id(1), a_task_id(2), a_task_id(3)


def states(body: bytes, *asked: str) -> dict[str, str]:
    """What the table says about these tasks."""
    tasks = read_poll_table(body, [TaskId(task_id) for task_id in asked])
    return {task_id: task.state for task_id, task in tasks.items()}


def test_rows_are_matched_by_id_and_columns_by_name() -> None:
    table = a_table(
        ["state", "new", "id"], ["RUNNING", 1, TWO], ["SUCCEEDED", None, ONE], ["FAILED", 2, THREE]
    )
    assert states(table, ONE, TWO, THREE) == {ONE: "SUCCEEDED", TWO: "RUNNING", THREE: "FAILED"}


def test_rows_may_be_missing_or_not_asked_for() -> None:
    table = a_table(["id", "state"], [THREE, "RUNNING"], [ONE, "RUNNING"])
    assert states(table, ONE, TWO) == {ONE: "RUNNING"}


def test_an_empty_table_says_nothing() -> None:
    assert states(a_table(["id", "state"]), ONE) == {}


def test_short_rows_and_rows_without_an_id_do_no_harm() -> None:
    table = a_table(["id", "state", "user"], [ONE], [None, "FAILED", "x"], [], [TWO, "FAILED"])
    assert states(table, ONE, TWO) == {ONE: "UNKNOWN", TWO: "FAILED"}


def test_dotted_columns_become_members_again() -> None:
    names = ["workflowInfo.type", "result.state.outgoingCommError.code", "id", "result.id", "state"]
    table = a_table(names, ["pair", "CertificateMismatch", ONE, "peer", "SUCCEEDED"])
    task = read_poll_table(table, [ONE])[ONE]
    assert task.type == "pair"
    assert task.result is not None
    assert task.result.id == "peer"
    assert task.result.incoming_error is None
    assert task.result.outgoing_error is not None
    assert task.result.outgoing_error.code == "CertificateMismatch"


def test_a_flattened_null_is_null_again() -> None:
    names = ["id", "state", "error.code", "error.msg", "error.args", "result.id", "result.state"]
    task = read_poll_table(a_table(names, [ONE, "RUNNING", None, None, [], None, None]), [ONE])[ONE]
    assert task.error is None
    assert task.result is None


def test_nested_cells_and_dotted_columns_may_overlap() -> None:
    names = ["result.site", "id", "result", "state"]
    table = a_table(names, ["b", ONE, {"id": "peer"}, "SUCCEEDED"])
    task = read_poll_table(table, [ONE])[ONE]
    assert task.result is not None
    assert (task.result.id, task.result.site) == ("peer", "b")


def test_many_members_of_one_object_are_put_together_once_not_for_each() -> None:
    """For each, it would take longer than the time limit of any test."""
    names = [f"result.{number}" for number in range(250_000)]
    tasks = read_poll_table(a_table([*names, "id", "state"], [*names, ONE, "RUNNING"]), [ONE])
    assert tasks[ONE].state == "RUNNING"


def test_a_table_of_columns_is_recognised() -> None:
    table = as_json(
        {
            "propertyNames": ["state", "id"],
            "values": [["RUNNING", "FAILED", "X"], [ONE, TWO, THREE]],
        }
    )
    assert states(table, ONE, TWO, THREE) == {ONE: "RUNNING", TWO: "FAILED", THREE: "X"}


@pytest.mark.parametrize("names", [["id", "state"], ["state", "id"]])
def test_a_square_table_is_read_by_where_its_ids_are(names: list[str]) -> None:
    columns = {"id": [ONE, TWO], "state": ["RUNNING", "FAILED"]}
    by_rows = [list(row) for row in zip(*(columns[name] for name in names), strict=True)]
    by_columns = [columns[name] for name in names]
    for values in (by_rows, by_columns):
        table = as_json({"propertyNames": names, "values": values})
        assert states(table, ONE, TWO) == {ONE: "RUNNING", TWO: "FAILED"}


def test_a_table_that_could_be_read_both_ways_is_not_read() -> None:
    table = a_table(["id", "state"], [ONE, TWO], [THREE, "RUNNING"])
    with pytest.raises(Unreadable):
        read_poll_table(table, [ONE, TWO, THREE])


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b"<html>",
        b'{"propertyNames": ["id", "state"]}',
        b'{"propertyNames": "id", "values": []}',
        b'{"propertyNames": ["id"], "values": []}',
        b'{"propertyNames": ["state"], "values": []}',
        b'{"propertyNames": ["id", "id", "state"], "values": []}',
        b'{"propertyNames": ["id", 3, "state"], "values": []}',
        b'{"propertyNames": ["id", "state", "result%s"], "values": []}' % (b".x" * 1000),
        b'{"propertyNames": ["id", "state", "%s"], "values": []}' % (b"x" * 1000),
        b'{"propertyNames": ["id", "state"], "values": [{}]}',
        b'{"propertyNames": ["id", "state"], "values": [["RUNNING", "FAILED"]]}',
        b'{"propertyNames": ["id", "state"], "values": [["x", "y", "z"]]}',
    ],
)
def test_what_is_no_such_table_is_left_to_the_single_calls(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_poll_table(body, [ONE])


def test_rows_that_are_longer_than_their_names_are_not_read() -> None:
    with pytest.raises(Unreadable):
        read_poll_table(a_table(["id", "state"], [ONE, "RUNNING", "what?"]), [ONE])


def test_ids_that_are_no_uuids_are_found_when_asked_for() -> None:
    assert states(a_table(["id", "state"], ["task-7", "FAILED"]), "task-7") == {"task-7": "FAILED"}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """`value` with its members as dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_documented_layout_tells_the_same(data: st.DataObject) -> None:
    """Rows or columns, in any order, nested or dotted: the same tasks come out."""
    task = json.loads(sample("pair_sites_accepted.json"))
    count = data.draw(st.integers(1, 5))
    words = st.sampled_from(["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "ODD"])
    expected = {a_task_id(number): data.draw(words) for number in range(count)}
    shape = flat if data.draw(st.booleans()) else dict
    rows = [shape({**task, "id": task_id, "state": state}) for task_id, state in expected.items()]
    names = data.draw(st.permutations(list(rows[0])))
    values = [[row[name] for name in names] for row in data.draw(st.permutations(rows))]
    if data.draw(st.booleans()):
        values = [list(column) for column in zip(*values, strict=True)]
    tasks = read_poll_table(as_json({"propertyNames": names, "values": values}), list(expected))
    assert {task_id: found.state for task_id, found in tasks.items()} == expected
    for found in tasks.values():
        assert found.result is not None
        assert found.result.site == "site1-7z"
        assert found.result.outgoing_error is not None
        assert found.result.outgoing_error.code == "Forbidden"
