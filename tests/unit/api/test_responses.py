"""What callers see, and what they never see."""

import json
from dataclasses import replace
from uuid import UUID

import msgspec
from msgspec import structs

from service.api import responses
from service.appliance.check import CheckReport
from service.domain.appliance import ApiError
from service.domain.events import Entry
from service.domain.ids import ApplianceName, OperationId, PairingId, TaskId
from service.domain.pairing import (
    OnFailure,
    Operation,
    Pairing,
    PairingState,
    Phase,
    Side,
    SideState,
)
from service.domain.registration import (
    ApplianceHealth,
    ApplianceSpec,
    LocalUser,
    LoginRefusal,
    Registration,
    SsoUser,
)
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
    deadline=901_000,
    description="Ticket",
)
THUMBPRINT = Thumbprint("SHA-256" + ":AB" * 32)
REGISTRATION = Registration(
    ID,
    ApplianceSpec(A, "https://m", "https://a", THUMBPRINT, LocalUser("root", "hunter2")),
    version=3,
    created=10,
    last_updated=20,
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
        "onFailure": "rollback",
        "canceling": False,
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
        result=json.dumps(result).encode(),
        error=error,
        attempts=2,
    )
    pairing = structs.replace(
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


def test_a_pairing_shows_what_it_warns_of_without_stack_traces() -> None:
    warning = ApiError("RollbackFailed", "left", ("a", "b"), "at com.vmware.Internal")

    shown = responses.pairing(
        structs.replace(FRESH, warnings=(warning,), on_failure=OnFailure.KEEP)
    )

    assert shown["warnings"] == [{"code": "RollbackFailed", "msg": "left", "args": ["a", "b"]}]
    assert shown["onFailure"] == "keep"


def test_a_pairing_shows_that_it_is_being_canceled_until_it_is_over() -> None:
    wanted = structs.replace(FRESH, is_unwanted=True)
    taken_up = structs.replace(
        wanted, state=PairingState.RUNNING, phase=Phase.PAIRING, is_canceling=True
    )
    over = structs.replace(taken_up, state=PairingState.CANCELED, phase=None, end_time=5)

    assert [responses.pairing(each)["canceling"] for each in (FRESH, wanted, taken_up, over)] == [
        False,
        True,
        True,
        False,
    ]


def test_an_event_names_its_side_only_if_it_has_one() -> None:
    detail, hash_ = '{"epoch":1}', b"\0" * 32
    entry = Entry(ID, 1, 7, "PairingStarted", None, "w", OperationId("o"), detail, hash_)

    assert responses.events([entry, structs.replace(entry, appliance=A)]) == {
        "items": [
            {
                "seq": 1,
                "at": 7,
                "type": "PairingStarted",
                "actor": "w",
                "operationID": "o",
                "detail": msgspec.Raw(b'{"epoch":1}'),
                "hash": "00" * 32,
            },
            {
                "seq": 1,
                "at": 7,
                "type": "PairingStarted",
                "side": "a",
                "actor": "w",
                "operationID": "o",
                "detail": msgspec.Raw(b'{"epoch":1}'),
                "hash": "00" * 32,
            },
        ]
    }


def test_of_credentials_only_the_kind_and_the_user_are_shown() -> None:
    sso = replace(
        REGISTRATION, spec=replace(REGISTRATION.spec, credentials=SsoUser("x@y", "hunter2"))
    )

    assert responses.appliance(REGISTRATION, ApplianceHealth()) == {
        "name": "a",
        "managementUrl": "https://m",
        "apiUrl": "https://a",
        "thumbprint": None,
        "apiThumbprint": THUMBPRINT,
        "credentials": {"type": "localUser", "user": "root"},
        "description": "",
        "maxInFlight": 4,
        "version": 3,
        "created": 10,
        "lastUpdated": 20,
        "health": {
            "breaker": "closed",
            "since": -1,
            "lastError": None,
            "lastContact": -1,
            "login": "ok",
            "loginError": None,
        },
    }
    shown = responses.appliance(sso, ApplianceHealth())
    assert shown["credentials"] == {"type": "ssoCredentials", "user": "x@y"}


def test_health_is_shown_without_stack_traces() -> None:
    error = ApiError("ConnectTimeout", "m", (), "at com.vmware.Internal")
    health = ApplianceHealth(5, error, 3, LoginRefusal(error, 401))
    shown = responses.appliance(REGISTRATION, health)["health"]

    assert shown == {
        "breaker": "open",
        "since": 5,
        "lastError": {"code": "ConnectTimeout", "msg": "m", "args": []},
        "lastContact": 3,
        "login": "refused",
        "loginError": {"code": "ConnectTimeout", "msg": "m", "args": []},
    }


def test_a_report_without_checks_has_none_that_failed() -> None:
    assert responses.check_report(A, CheckReport(())) == {
        "appliance": "a",
        "ok": True,
        "checks": [],
    }
