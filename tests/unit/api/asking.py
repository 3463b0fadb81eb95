"""Requests as these tests make them."""

import json
from typing import Any

from service.api import contract
from service.api.contract import Operation
from service.api.validation import Asked, read_body, read_parameters

CONTRACT = contract.load()
THUMBPRINT = "SHA-256" + ":AB" * 32
SECRET = "correct-horse-battery"


def operation(method: str, path: str) -> Operation:
    """One of the contract's calls."""
    return CONTRACT.operations[method, path]


PUT = operation("PUT", "/v1/appliances/{name}")
POST = operation("POST", "/v1/pairings")
LIST = operation("GET", "/v1/pairings")
GET = operation("GET", "/v1/pairings/{id}")
BATCH = operation("POST", "/v1/batches")


def spec_body(**changes: Any) -> dict[str, Any]:
    """A registration without fault, but for `changes`."""
    body: dict[str, Any] = {
        "managementUrl": "https://prague.example.com",
        "apiUrl": "https://prague.example.com:8048/",
        "apiThumbprint": THUMBPRINT,
        "credentials": {"type": "localUser", "localUser": "root", "localPassword": SECRET},
    }
    return body | changes


def asked(
    call: Operation,
    body: object = None,
    *,
    query: str = "",
    key: list[str] | None = None,
) -> Asked:
    """What `call` with this body, query and Idempotency-Key headers asks for."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    parameters, faults = read_parameters(call, query, headers)
    if call.body is None:
        return Asked(parameters, None, tuple(faults))
    value, more = read_body(call, body if isinstance(body, str) else json.dumps(body))
    return Asked(parameters, value, (*faults, *more))


def places(wanted: Asked) -> dict[str | None, str]:
    """What is wrong, by pointer or parameter."""
    return {
        fault.pointer if fault.pointer is not None else fault.parameter: fault.detail
        for fault in wanted.faults
    }
