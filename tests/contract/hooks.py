"""Lets generated calls meet things that exist, and wait for nothing. Loaded by Schemathesis.

Only values that the contract allows are exchanged, for others that it allows: a call that was
generated to be refused stays one.
"""

import json
import os
import re
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

NAMES = ("prague", "brno", "zlin")
BATCH_VARIABLE = "SITEPAIR_CONTRACT_BATCH"
PAIRING_VARIABLE = "SITEPAIR_CONTRACT_PAIRING"
EVENT_VARIABLE = "SITEPAIR_CONTRACT_EVENT"

_NAME = re.compile(r"[a-z0-9-]{1,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_EVENT = re.compile(r"[A-Za-z0-9_-]{1,100}")
_LONGEST_WAIT_S = 0.01


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Text as it is; of what is none, its JSON is a line."""
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace")


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """The last word before a call is made, in every phase."""
    _exchange_path(case.path_parameters)
    _exchange_wait(case.query)
    _exchange_after(case.query)
    if case.operation.label == "POST /v1/pairings":
        _exchange_appliances(case.body)
    if case.operation.label == "POST /v1/batches" and isinstance(case.body, dict):
        items = case.body.get("items")
        for item in items if isinstance(items, list) else ():
            _exchange_appliances(item)


def _exchange_path(path: Any) -> None:
    """Names that are registered, and mostly an id that exists."""
    if not path:
        return
    name, pairing_id, batch = path.get("name"), path.get("id"), path.get("batch")
    if isinstance(name, str) and _NAME.fullmatch(name):
        path["name"] = NAMES[len(name) % len(NAMES)]
    if isinstance(pairing_id, str) and _UUID.fullmatch(pairing_id) and pairing_id[-1] > "4":
        path["id"] = os.environ[PAIRING_VARIABLE]
    if isinstance(batch, str) and _UUID.fullmatch(batch) and batch[-1] > "4":
        path["batch"] = os.environ[BATCH_VARIABLE]


def _exchange_after(query: Any) -> None:
    """The id of an event that exists."""
    after = query.get("after") if query else None
    if isinstance(after, str) and _EVENT.fullmatch(after):
        query["after"] = os.environ[EVENT_VARIABLE]


def _exchange_wait(query: Any) -> None:
    """No wait that is allowed takes long."""
    try:
        wait_s = float(query["waitSeconds"])
    except (KeyError, TypeError, ValueError):
        return
    if _LONGEST_WAIT_S < wait_s <= 60:
        query["waitSeconds"] = _LONGEST_WAIT_S


def _exchange_appliances(body: Any) -> None:
    """Pairings of appliances that are registered."""
    pair = body.get("appliances") if isinstance(body, dict) else None
    if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
        return
    if all(isinstance(name, str) and _NAME.fullmatch(name) for name in pair):
        first = len(pair[0]) % len(NAMES)
        body["appliances"] = [NAMES[first], NAMES[(first + 1) % len(NAMES)]]
