"""What an appliance's list of peers says."""

import pytest
from msgspec.structs import replace

from service.domain.appliance import ApiError, Endpoint, Peer, find_peer, normalized_url
from service.domain.decisions import (
    Absent,
    Different,
    Present,
    deadline_exceeded,
    doubt,
    says_paired,
    sight,
    verification_failed,
)
from service.domain.ids import ApplianceName
from service.domain.thumbprint import thumbprint_of
from tests.unit.domain.values import ENDPOINT_B, ERROR, PRINT_A, PRINT_B, A, a_peer, with_errors


@pytest.mark.parametrize(
    ("error", "says_so"),
    [
        (ApiError("BadUserInput", "Site 'b' is already paired."), True),
        (ApiError("SiteAlreadyPaired", "No."), True),
        (ApiError("BadUserInput", "The peer has already been registered."), True),
        (ApiError("GeneralServerFailure", "bind: Address already in use"), False),
        (ApiError("GeneralServerFailure", "Cannot connect to https://b.example.test:8048/"), False),
    ],
)
def test_that_the_peer_is_there_already_is_read_from_the_text(
    error: ApiError, says_so: bool
) -> None:
    assert says_paired(error) is says_so


@pytest.mark.parametrize(
    "listed",
    [
        "https://b.example.test:8048/",
        "https://b.example.test:8048",
        "HTTPS://B.Example.Test:8048/",
    ],
)
def test_a_peer_is_known_by_its_public_url_however_it_is_spelt(listed: str) -> None:
    assert find_peer([a_peer(listed)], ENDPOINT_B) is not None


def test_the_default_port_may_be_left_out() -> None:
    assert normalized_url("https://h") == normalized_url("https://h:443/")
    assert normalized_url("https://h") != normalized_url("https://h:8048")


def test_a_peer_whose_url_was_rewritten_is_known_by_its_id() -> None:
    peer = replace(a_peer("https://elsewhere.example.test/"), id="the-id")
    assert find_peer([peer], ENDPOINT_B) is None
    assert find_peer([peer], ENDPOINT_B, "the-id") is peer


def test_a_peer_without_public_url_is_known_by_the_url_in_use() -> None:
    peer = replace(a_peer(), api_public_url=None, api_url=ENDPOINT_B.api_url)
    assert find_peer([peer], ENDPOINT_B) is peer


def test_the_local_site_is_no_peer() -> None:
    assert find_peer([replace(a_peer(), is_local=True)], ENDPOINT_B) is None


@pytest.mark.parametrize("url", [None, "", "https://[", "not a url", "https://b:99999/"])
def test_a_listed_url_that_is_none_matches_nothing(url: str | None) -> None:
    strange = replace(a_peer(), api_public_url=url, api_url=url)
    assert find_peer([strange, a_peer()], ENDPOINT_B) == a_peer()


def test_one_of_many_peers_is_told_from_the_others() -> None:
    others = [a_peer(f"https://c{i}.example.test:8048/") for i in range(5)]
    wanted = a_peer()
    assert find_peer([*others, wanted], ENDPOINT_B) is wanted


def test_a_peer_that_is_not_listed_is_absent() -> None:
    assert sight([], ENDPOINT_B) == Absent()


def test_a_peer_listed_with_the_expected_thumbprint_is_present_in_any_case_of_letters() -> None:
    peer = replace(a_peer(), api_thumbprint=PRINT_B.lower())
    assert sight([peer], ENDPOINT_B) == Present(peer)


@pytest.mark.parametrize("thumbprint", [PRINT_A, None, ""])
def test_a_peer_listed_with_another_thumbprint_is_different_and_says_what_to_do(
    thumbprint: str | None,
) -> None:
    seen = sight([replace(a_peer(), api_thumbprint=thumbprint)], ENDPOINT_B)
    assert isinstance(seen, Different)
    assert seen.error.code == "PeerThumbprintDiffers"
    assert "repair" in seen.error.msg


@pytest.mark.parametrize(
    ("peers", "code"),
    [
        ([], "PeerNotListed"),
        ([a_peer(thumbprint=PRINT_A)], "PeerThumbprintDiffers"),
        ([with_errors(a_peer(), incoming=ERROR)], "Forbidden"),
        ([with_errors(a_peer(), outgoing=ERROR)], "Forbidden"),
    ],
)
def test_a_record_that_does_not_work_is_doubted(peers: list[Peer], code: str) -> None:
    reason = doubt(peers, ENDPOINT_B, None)
    assert isinstance(reason, ApiError)
    assert reason.code == code


def test_a_record_without_errors_in_either_direction_is_not_doubted() -> None:
    assert doubt([a_peer()], ENDPOINT_B, None) == a_peer()


def test_the_outgoing_error_is_told_before_the_incoming_one() -> None:
    both = with_errors(a_peer(), incoming=ERROR, outgoing=ApiError("CertificateMismatch", "x"))
    reason = doubt([both], ENDPOINT_B, None)
    assert isinstance(reason, ApiError)
    assert reason.code == "CertificateMismatch"


def test_a_failed_verification_keeps_the_appliances_code_and_names_the_side() -> None:
    error = verification_failed(A, ERROR, 60.0)
    assert (error.code, error.args) == ("Forbidden", (A, "arg"))
    assert "site-a" in error.msg
    assert "60 s" in error.msg


def test_a_deadline_says_which_step_it_cut_off_and_what_had_failed_before() -> None:
    error = deadline_exceeded("waiting for task t-1", 900)
    assert error.msg == "Gave up waiting for task t-1: the pairing's 900 s are over."
    assert deadline_exceeded("waiting for task t-1", 900, ERROR.msg).msg.endswith(ERROR.msg)


def test_endpoints_with_equal_hosts_and_other_ports_are_told_apart() -> None:
    other = Endpoint(ApplianceName("b2"), "https://b.example.test:9048/", thumbprint_of(b"b2"))
    assert find_peer([a_peer()], other) is None
