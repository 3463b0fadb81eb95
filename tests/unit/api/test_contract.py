"""The contract and the code are one."""

import yaml

import service
from service.api import contract, requests
from service.api.problems import codes
from service.api.routes import OPERATIONS
from service.domain.pairing import OnFailure, Operation, PairingState, Phase, SideState
from service.resources import resource
from tests.unit.api.asking import POST, PUT, asked, spec_body

TEXT = resource("openapi.yaml").read_text()
SCHEMAS = yaml.safe_load(TEXT)["components"]["schemas"]


def test_every_call_of_the_contract_is_served_and_no_other() -> None:
    ids = [operation.id for operation in contract.load().operations.values()]

    assert sorted(ids) == sorted(OPERATIONS)


def test_the_contract_is_of_this_version() -> None:
    assert yaml.safe_load(TEXT)["info"]["version"] == service.__version__


def test_every_word_for_a_state_is_in_the_contract() -> None:
    assert SCHEMAS["PairingState"]["enum"] == list(PairingState)
    assert SCHEMAS["Operation"]["enum"] == list(Operation)
    assert SCHEMAS["OnFailure"]["enum"] == list(OnFailure)
    assert SCHEMAS["Side"]["properties"]["state"]["enum"] == list(SideState)
    assert SCHEMAS["Pairing"]["properties"]["phase"]["enum"] == [*Phase, None]


def test_the_defaults_of_the_contract_are_those_of_the_code() -> None:
    wanted = requests.pairing_request(asked(POST, {"appliances": ["a", "b"]}))
    spec = requests.appliance_spec(asked(PUT, spec_body()), "a", lambda _host: None)
    properties = SCHEMAS["PairingRequest"]["properties"]
    limit = contract.load().operations["GET", "/v1/pairings"].parameters["query", "limit"]

    assert properties["timeoutSeconds"]["default"] == wanted.timeout_s
    assert properties["priority"]["default"] == wanted.priority
    assert properties["operation"]["default"] == wanted.operation
    assert properties["onFailure"]["default"] == wanted.on_failure
    assert SCHEMAS["ApplianceSpec"]["properties"]["maxInFlight"]["default"] == spec.max_in_flight
    assert limit.parse(str(requests.DEFAULT_LIMIT)) == requests.DEFAULT_LIMIT
    assert f"default: {requests.DEFAULT_LIMIT}" in TEXT


def test_every_code_of_a_problem_is_in_the_contract() -> None:
    missing = {code for code in codes() if f"`{code}`" not in TEXT}

    assert missing == set()
