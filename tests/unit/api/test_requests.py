"""What parameters and bodies without fault become."""

from typing import Any

import pytest

from service.api import requests
from service.api.refusals import InvalidRequest
from service.domain.ids import ApplianceName, OperationId
from service.domain.pairing import OnFailure, Operation, PairingState
from service.domain.registration import LocalUser, SsoUser
from service.store.intake import IdempotencyKey, PairingRequest
from service.store.pairings import PairingFilter
from tests.unit.api.asking import GET, LIST, POST, PUT, SECRET, THUMBPRINT, asked, places, spec_body

FINGERPRINT = "9092dfc38f64d8a04186bde4a4f3baa42421b0a60696c6bd2f43e368d108a7d7"
"""Of the pairing of a and b, as it was kept before `onFailure` was."""


def spec(**changes: Any) -> Any:
    return requests.appliance_spec(asked(PUT, spec_body(**changes)), "prague", lambda _host: None)


def test_a_registration_gets_its_defaults() -> None:
    registered = spec()

    assert registered.name == "prague"
    assert registered.credentials == LocalUser("root", SECRET)
    assert (registered.thumbprint, registered.description, registered.max_in_flight) == (
        None,
        "",
        4,
    )


def test_no_thumbprint_and_null_are_the_same() -> None:
    assert spec(thumbprint=None) == spec()


def test_a_thumbprint_in_lower_case_is_registered_in_upper_case() -> None:
    lower = "SHA-256" + ":ab" * 32

    registered = spec(thumbprint=lower, apiThumbprint=lower)

    assert (registered.thumbprint, registered.api_thumbprint) == (THUMBPRINT, THUMBPRINT)


def test_single_sign_on_credentials_are_told_apart() -> None:
    registered = spec(credentials={"type": "ssoCredentials", "username": "a@b", "password": "c"})

    assert registered.credentials == SsoUser("a@b", "c")


def test_a_pairing_gets_its_defaults() -> None:
    wanted = requests.pairing_request(asked(POST, {"appliances": ["b", "a"]}))

    appliances = (ApplianceName("b"), ApplianceName("a"))
    assert wanted == PairingRequest(appliances, Operation.PAIR, "", 900, 0, OnFailure.ROLLBACK)


def test_a_pairing_may_be_another_operation_and_be_kept() -> None:
    body = {"appliances": ["b", "a"], "operation": "unpair", "onFailure": "keep"}
    wanted = requests.pairing_request(asked(POST, body))

    assert (wanted.operation, wanted.on_failure) == (Operation.UNPAIR, OnFailure.KEEP)


def test_a_key_from_before_one_could_ask_to_keep_stays_good() -> None:
    kept = key_of({"appliances": ["a", "b"]})

    assert kept is not None
    assert kept.fingerprint.hex() == FINGERPRINT


def key_of(body: object) -> IdempotencyKey | None:
    wanted = asked(POST, body, key=["k"])
    return requests.idempotency_key(wanted, requests.pairing_request(wanted))


def test_a_fingerprint_is_of_what_is_asked_not_of_its_spelling() -> None:
    first = key_of('{"appliances": ["a", "b"]}')

    assert first is not None
    assert first.key == "k"
    assert first == key_of('{"priority":0.0,"operation":"pair","appliances":["a","\\u0062"]}')
    assert first != key_of({"appliances": ["b", "a"]})
    assert first != key_of({"appliances": ["a", "b"], "priority": 1})
    assert first == key_of({"appliances": ["a", "b"], "onFailure": "rollback"})
    assert first != key_of({"appliances": ["a", "b"], "onFailure": "keep"})
    assert first != key_of({"appliances": ["a", "b"], "operation": "unpair"})


def test_without_the_header_there_is_no_key() -> None:
    wanted = asked(POST, {"appliances": ["a", "b"]})

    assert requests.idempotency_key(wanted, requests.pairing_request(wanted)) is None


def test_filters_and_limit_are_read() -> None:
    wanted = asked(LIST, query="state=FAILED&appliance=a&operationID=x%3A1&limit=%37")

    chosen = PairingFilter(PairingState.FAILED, ApplianceName("a"), OperationId("x:1"))
    assert requests.pairing_filter(wanted) == chosen
    assert requests.limit_of(wanted) == 7
    assert requests.limit_of(asked(LIST)) == 100


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("60", 60), ("0.25", 0.25), ("1e1", 10)])
def test_seconds_may_be_decimal(text: str, seconds: float) -> None:
    assert requests.wait_s(asked(GET, query=f"waitSeconds={text}")) == seconds


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e999", "-1", "60.001", "61", "", "5s", "+5", "٣", "0x1", "1_0"]
)
def test_seconds_are_a_number_from_0_to_60(text: str) -> None:
    assert list(places(asked(GET, query=f"waitSeconds={text}"))) == ["waitSeconds"]


@pytest.mark.parametrize("text", ["0", "-1", "1001", "1.5", "ten", "", "9" * 50, "nan"])
def test_a_limit_is_an_integer_from_1_to_1000(text: str) -> None:
    assert list(places(asked(LIST, query=f"limit={text}"))) == ["limit"]


def test_every_fault_of_a_query_comes_at_once() -> None:
    wanted = asked(
        LIST, query="state=queued&appliance=A&operationID=%0A&cursor=%3D&limit=1&limit=1&x=1"
    )

    assert places(wanted) == {
        "state": "must be one of QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELED",
        "appliance": "must be 1 to 63 characters out of a-z, 0-9 and -",
        "operationID": "must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', ':' and '-'",
        "cursor": "must be a nextCursor as it was given",
        "limit": "comes more than once",
        "x": "is not a known parameter",
    }
    with pytest.raises(InvalidRequest):
        requests.pairing_filter(wanted)


@pytest.mark.parametrize("query", ["limit", "%ff=1", "a=%ff", "&&", "=;&"])
def test_a_query_that_cannot_be_read_is_a_fault(query: str) -> None:
    assert len(asked(LIST, query=query).faults) == 1


def test_a_header_is_no_query_parameter() -> None:
    body = {"appliances": ["a", "b"]}

    assert places(asked(POST, body, query="Idempotency-Key=k")) == {
        "Idempotency-Key": "is not a known parameter"
    }
    assert places(asked(GET, query="operationID=x")) == {"operationID": "is not a known parameter"}


@pytest.mark.parametrize(
    "values", [["a b"], [""], ["x" * 256], ["é"], ["\udcff"], ["a\tb"], ["k", "k"]]
)
def test_an_idempotency_key_is_one_word_of_printable_ascii(values: list[str]) -> None:
    found = places(asked(POST, {"appliances": ["a", "b"]}, key=values))

    assert list(found) == ["Idempotency-Key"]
