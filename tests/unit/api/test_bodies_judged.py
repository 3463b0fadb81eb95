"""What is wrong with a body: everything, with its place, in words that repeat nothing of it."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.contract import Operation
from service.api.faults import MOST, more
from service.api.refusals import InvalidRequest, MalformedBody
from service.api.requests import appliance_spec, pairing_request
from tests.unit.api.asking import (
    BATCH,
    CONTRACT,
    POST,
    PUT,
    SECRET,
    THUMBPRINT,
    asked,
    places,
    spec_body,
)

NOTHING_FORBIDDEN: Any = lambda _host: None  # noqa: E731 - a value to pass


def test_every_fault_of_a_body_comes_at_once() -> None:
    wanted = asked(
        PUT,
        {
            "managementUrl": "http://prague.example.com",
            "apiUrl": 3,
            "thumbprint": "SHA-1:AB",
            "credentials": {"type": "localUser", "localUser": "", "password": SECRET},
            "description": "x" * 1025,
            "maxInFlight": 65,
            "color": "blue",
        },
    )

    assert places(wanted) == {
        "/managementUrl": "must begin with https://",
        "/apiUrl": "must be a string",
        "/apiThumbprint": "is required",
        "/thumbprint": "must be SHA-256: and 32 pairs of hexadecimal digits joined by colons",
        "/credentials/localUser": "must not be empty",
        "/credentials/localPassword": "is required",
        "/credentials/password": "is not a known field",
        "/description": "must have at most 1024 characters",
        "/maxInFlight": "must be at most 64",
        "/color": "is not a known field",
    }


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"managementUrl": "https://a:0"}, "/managementUrl", "port"),
        ({"apiUrl": "https://u:p@a"}, "/apiUrl", "credentials"),
        ({"apiThumbprint": "SHA-256" + ":AB" * 31}, "/apiThumbprint", "32 pairs"),
        ({"apiThumbprint": "SHA-256" + ":AB" * 33}, "/apiThumbprint", "32 pairs"),
        ({"apiThumbprint": "SHA-256" + ":AG" * 32}, "/apiThumbprint", "32 pairs"),
        ({"apiThumbprint": THUMBPRINT + "\n"}, "/apiThumbprint", "32 pairs"),
        ({"apiThumbprint": None}, "/apiThumbprint", "a string"),
        ({"thumbprint": 5}, "/thumbprint", "a string or null"),
        ({"thumbprint": ""}, "/thumbprint", "32 pairs"),
        ({"credentials": None}, "/credentials", "an object"),
        ({"credentials": {}}, "/credentials/type", "is required"),
        ({"credentials": {"type": "x"}}, "/credentials/type", "localUser or ssoCredentials"),
        (
            {"credentials": {"type": "ssoCredentials", "username": "a\0", "password": "b"}},
            "/credentials/username",
            "control characters",
        ),
        (
            {"credentials": {"type": "ssoCredentials", "username": "a", "password": "b\0"}},
            "/credentials/password",
            "U+0000",
        ),
        ({"description": "a\0b"}, "/description", "U+0000"),
        ({"description": None}, "/description", "a string"),
        ({"description": "\ud800"}, "/description", "surrogates"),
        ({"maxInFlight": "4"}, "/maxInFlight", "an integer"),
        ({"maxInFlight": 1.5}, "/maxInFlight", "an integer"),
        ({"maxInFlight": True}, "/maxInFlight", "an integer"),
        ({"maxInFlight": 0}, "/maxInFlight", "at least 1"),
    ],
)
def test_each_fault_of_a_registration_is_placed(
    changes: dict[str, Any], place: str, words: str
) -> None:
    found = places(asked(PUT, spec_body(**changes)))

    assert list(found) == [place]
    assert words in found[place]


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        ({}, "/appliances", "is required"),
        ({"appliances": "a"}, "/appliances", "an array"),
        ({"appliances": ["a"]}, "/appliances", "at least 2"),
        ({"appliances": ["a", "b", "c"]}, "/appliances", "at most 2"),
        ({"appliances": ["a", "a"]}, "/appliances", "the same item twice"),
        ({"appliances": ["a", "B"]}, "/appliances/1", "a-z"),
        ({"appliances": ["a" * 64, "b"]}, "/appliances/0", "1 to 63"),
        ({"appliances": ["", "b"]}, "/appliances/0", "1 to 63"),
        ({"appliances": ["a\n", "b"]}, "/appliances/0", "1 to 63"),
        ({"appliances": ["a", "b"], "operation": "join"}, "/operation", "one of pair"),
        ({"appliances": ["a", "b"], "timeoutSeconds": 0}, "/timeoutSeconds", "at least 1"),
        ({"appliances": ["a", "b"], "timeoutSeconds": 86401}, "/timeoutSeconds", "at most 86400"),
        ({"appliances": ["a", "b"], "priority": 101}, "/priority", "at most 100"),
        ({"appliances": ["a", "b"], "priority": -101}, "/priority", "at least -100"),
        ({"appliances": ["a", "b"], "priority": 1e19}, "/priority", "at most 100"),
        ({"appliances": ["a", "b"], "onFailure": "undo"}, "/onFailure", "one of rollback"),
        ({"appliances": ["a", "b"], "batch": "x"}, "/batch", "known field"),
        ([], "", "an object"),
        ("null", "", "an object"),
        ('{"appliances": ["a", "b"], "priority": 1, "priority": 1}', "/priority", "once"),
    ],
)
def test_each_fault_of_a_pairing_is_placed(body: object, place: str, words: str) -> None:
    found = places(asked(POST, body))

    assert list(found) == [place]
    assert words in found[place]


SPOKES = {"topology": {"hub": "a", "spokes": [*range(5_000)]}}
DUPLICATES = "{" + ",".join(['"x": 1'] * 5_000) + "}"


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (BATCH, SPOKES),
        (POST, {f"x{number}": number for number in range(5_000)}),
        (POST, DUPLICATES),
    ],
    ids=["items", "fields", "duplicates"],
)
def test_of_very_many_faults_some_are_told_and_that_there_are_more(
    call: Operation, body: object
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        asked(call, body, query="color=red").insist()
    told = refusal.value.faults
    assert len(told) == MOST + 1
    assert told[-1] == more()
    assert more() not in told[:-1]


def test_of_one_thing_that_is_wrong_in_many_places_no_more_are_told_than_asked_for() -> None:
    told = CONTRACT.pairing_request.faults({f"x{number}": number for number in range(9)}, 5)
    assert (len(told), told[-1]) == (6, more())


@pytest.mark.parametrize(
    ("call", "body", "place"),
    [
        (POST, {"appliances": ["a", "b", "C"]}, "/appliances"),
        (BATCH, {"topology": {"mesh": [*range(448)]}}, "/topology/mesh"),
    ],
)
def test_the_items_of_a_list_that_has_too_many_are_not_looked_at(
    call: Operation, body: object, place: str
) -> None:
    assert list(places(asked(call, body))) == [place]


def test_the_faults_of_name_parameters_and_body_come_together() -> None:
    wanted = asked(PUT, spec_body(color=1), query="force=yes")

    with pytest.raises(InvalidRequest) as caught:
        appliance_spec(wanted, "Prague", NOTHING_FORBIDDEN)

    assert [fault.pointer or fault.parameter for fault in caught.value.faults] == [
        "force",
        "/color",
        "name",
    ]


def test_a_host_that_egress_forbids_is_a_fault_like_any_other() -> None:
    wanted = asked(PUT, spec_body(managementUrl="https://[::1]:443", maxInFlight=0))

    with pytest.raises(InvalidRequest) as caught:
        appliance_spec(wanted, "prague", lambda host: f"{host} is forbidden")

    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [
        ("/maxInFlight", "must be at least 1"),
        ("/managementUrl", "::1 is forbidden"),
    ]


def test_egress_is_not_asked_about_what_is_no_url() -> None:
    wanted = asked(PUT, spec_body(managementUrl="https://u@169.254.169.254"))

    with pytest.raises(InvalidRequest) as caught:
        appliance_spec(wanted, "prague", lambda _host: "asked")

    assert "asked" not in [fault.detail for fault in caught.value.faults]


@pytest.mark.parametrize(
    "body",
    [
        spec_body(credentials={"type": "localUser", "localUser": "r", "localPassword": [SECRET]}),
        spec_body(credentials={"type": "localUser", "localUser": SECRET + "\n", "x": SECRET}),
        spec_body(credentials={"type": SECRET, "localPassword": SECRET}),
        spec_body(credentials=SECRET),
        spec_body(apiThumbprint=SECRET, managementUrl=f"https://root:{SECRET}@a"),
        json.dumps(spec_body())[:-1] + f', "x": {SECRET}}}',
        json.dumps(spec_body()) + SECRET,
    ],
)
def test_no_word_of_a_refusal_repeats_a_value(body: object) -> None:
    try:
        wanted = asked(PUT, body)
    except MalformedBody as error:
        words = str(error)
    else:
        assert wanted.faults
        words = str(wanted.faults)

    assert SECRET not in words


def test_a_name_made_up_by_the_caller_comes_back_short_and_printable() -> None:
    (place,) = places(asked(POST, {"appliances": ["a", "b"], "x\r\n\x00" + "y" * 500: 1}))

    assert place is not None
    assert len(place) < 80
    assert place.isprintable()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "appliances", "priority", "localUser", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FIELDS = ["appliances", "operation", "description", "timeoutSeconds", "priority", "zzz"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), JUNK | st.just(["a", "b"]) | st.integers(-9, 9)))
def test_whatever_passes_the_contract_becomes_a_pairing_request(body: dict[str, object]) -> None:
    try:
        wanted = asked(POST, body)
    except MalformedBody:
        return
    if not wanted.faults:
        assert pairing_request(wanted).appliances == ("a", "b")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([*spec_body(), "thumbprint", "description", "maxInFlight"]), JUNK)
def test_whatever_passes_the_contract_becomes_a_registration(field: str, value: object) -> None:
    try:
        wanted = asked(PUT, spec_body(**{field: value}))
    except MalformedBody:
        return
    if not wanted.faults:
        assert appliance_spec(wanted, "prague", NOTHING_FORBIDDEN).name == "prague"
