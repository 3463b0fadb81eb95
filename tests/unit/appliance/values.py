"""Values that the tests of the appliance's room begin with."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from service.appliance.exchange import Answer
from service.domain.ids import TaskId

SAMPLES = Path(__file__).parents[2] / "samples"


def sample(name: str) -> bytes:
    """The vendor's own words, as documented."""
    return (SAMPLES / name).read_bytes()


def a_task_id(number: int) -> TaskId:
    """An id as appliances give them."""
    return TaskId(str(UUID(int=number + 1, version=4)))


def as_json(value: Any) -> bytes:
    """`value` as a body."""
    return json.dumps(value).encode()


def an_answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer; `retry_after` becomes `retry-after`."""
    return Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def a_table(names: list[str], *rows: list[Any]) -> bytes:
    """An answer of the bulk poll."""
    return as_json({"propertyNames": names, "values": list(rows)})
