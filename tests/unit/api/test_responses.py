"""What callers see, and what they never see."""

import json
from dataclasses import replace
from uuid import UUID

from service.api import responses
from service.appliance.check import CheckReport
from service.domain.appliance import ApiError
from service.domain.events import Entry
from service.domain.ids import ApplianceName, OperationId, PairingId, TaskId
from service.domain.pairing import Operation, Pairing, PairingState, Phase, Side, SideState
from service.domain.registration import ApplianceSpec, LocalUser, Registration, SsoUser
from service.domain.thumbprint import Thumbprint

A, B = ApplianceName("a"), ApplianceName("b")
ID = UUID("019a3f5e-7c1d-7a52-9a55-3c0d7e6f2b10")
FRESH = Pairing(
    id=PairingId(ID),
    operation=Operation.PAIR,
    sides=(Side(A, B), Side(B, A)),
    operation_id=OperationId("order-4711"),
    user="admin",
    start_time=1000,
    last_updated=2000,
    timeout_s=900,
    description="Ticket",
)
TRACE = {"code": "C", "msg": "m", "args": [], "stacktrace": "at com.vmware.Internal"}


def test_a_fresh_pairing_has_every_field_of_the_contract() -> None:
    side = {
        "state": "PENDING",
        "taskId": None,
        "progress": 0,
        "startTime": -1,
        "endTime": -1,
        "result": None,
        "error": None,
        "attempts": 0,
    }

    assert responses.pairing(FRESH) == {
        "id": str(ID),
        "operation": "pair",
        "appliances": ["a", "b"],
        "state": "QUEUED",
        "phase": None,
        "progress": 0,
        "operationID": "order-4711",
        "user": "admin",
        "description": "Ticket",
        "batch": None,
        "startTime": 1000,
        "lastUpdated": 2000,
        "endTime": -1,
        "error": None,
        "warnings": [],
        "sides": [{"appliance": "a", "peer": "b", **side}, {"appliance": "b", "peer": "a", **side}],
    }


def test_stack_traces_of_appliances_stay_inside() -> None:
    error = ApiError("C", "m", ("x",), "at com.vmware.Internal")
    result = {"id": "1", "state": {"incomingCommError": TRACE, "outgoingCommError": [TRACE]}}
    failed = Side(
        A,
        B,
        SideState.FAILED,
        task_id=TaskId("t"),
        start_time=0,
        end_time=5,
        result=result,
        error=error,
        attempts=2,
    )
    pairing = replace(
        FRESH,
        state=PairingState.FAILED,
        phase=Phase.VERIFYING,
        sides=(failed, Side(B, A)),
        error=error,
        end_time=5,
    )
    shown = json.dumps(responses.pairing(pairing))

    assert "vmware" not in shown
    assert "stacktrace" not in shown
    assert responses.pairing(pairing)["error"] == {"code": "C", "msg": "m", "args": ["x"]}


def test_an_event_names_its_side_only_if_it_has_one() -> None:
    entry = Entry(ID, 1, 7, "PairingStarted", None, "w", OperationId("o"), {"epoch": 1}, b"\0" * 32)

    assert responses.events([entry, replace(entry, appliance=A)]) == {
        "items": [
            {
                "seq": 1,
                "at": 7,
                "type": "PairingStarted",
                "actor": "w",
                "operationID": "o",
                "detail": {"epoch": 1},
                "hash": "00" * 32,
            },
            {
                "seq": 1,
                "at": 7,
                "type": "PairingStarted",
                "side": "a",
                "actor": "w",
                "operationID": "o",
                "detail": {"epoch": 1},
                "hash": "00" * 32,
            },
        ]
    }


def test_of_credentials_only_the_kind_and_the_user_are_shown() -> None:
    thumbprint = Thumbprint("SHA-256" + ":AB" * 32)
    spec = ApplianceSpec(A, "https://m", "https://a", thumbprint, LocalUser("root", "hunter2"))
    registration = Registration(ID, spec, 3, 10, 20)
    sso = replace(registration, spec=replace(spec, credentials=SsoUser("x@y", "hunter2")))

    assert responses.appliance(registration) == {
        "name": "a",
        "managementUrl": "https://m",
        "apiUrl": "https://a",
        "thumbprint": None,
        "apiThumbprint": thumbprint,
        "credentials": {"type": "localUser", "user": "root"},
        "description": "",
        "maxInFlight": 4,
        "version": 3,
        "created": 10,
        "lastUpdated": 20,
    }
    assert responses.appliance(sso)["credentials"] == {"type": "ssoCredentials", "user": "x@y"}


def test_a_report_without_checks_has_none_that_failed() -> None:
    assert responses.check_report(A, CheckReport(())) == {
        "appliance": "a",
        "ok": True,
        "checks": [],
    }
