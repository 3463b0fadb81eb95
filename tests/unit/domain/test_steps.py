"""What is done next on a side, by what its appliance lists and by what was done before."""

import pytest
from msgspec.structs import replace

from service.domain import events as e
from service.domain.appliance import ApiError, Endpoint, Peer, find_peer, normalized_url
from service.domain.decisions import (
    Absent,
    Call,
    Different,
    Present,
    Sighting,
    Step,
    lingering,
    moved,
    next_step,
    next_undoing,
    sight,
)
from service.domain.pairing import Operation, Side, SideState, SiteCall
from tests.unit.domain.values import ENDPOINT_B, ERROR, PRINT_A, A, B, a_peer, with_errors

PEER = replace(a_peer(), sent=b'{"id": "as-sent"}')
ID = str(PEER.id)
NAMELESS = replace(PEER, id=None)
BROKEN = with_errors(PEER, outgoing=ERROR)
DEAF = with_errors(PEER, incoming=ERROR)
FRESH = Side(A, B)
OLD_URL = "https://old.example.test:8048/"
FORMER = replace(ENDPOINT_B, former_api_urls=("https://older:1", normalized_url(OLD_URL)))


def asked(call: SiteCall, state: SideState = SideState.REQUESTED) -> Side:
    return Side(A, B, state=state, call=call)


@pytest.mark.parametrize(
    ("sent", "peer_id"),
    [
        (b'{"id": ""}', None),
        (b'{"id":"p"}', "p"),
        (b'{"id":7}', "7"),
        (b'{"id":true}', None),
        (b'{"id":null}', None),
        (b"{}", None),
    ],
)
def test_the_record_is_known_by_the_id_that_was_sent(sent: bytes, peer_id: str | None) -> None:
    assert Side(A, B, result=sent).peer_id == peer_id


@pytest.mark.parametrize(
    ("operation", "side", "sighting", "step"),
    [
        (Operation.PAIR, FRESH, Absent(), Call(SiteCall.PAIR)),
        (Operation.PAIR, FRESH, Present(PEER), e.PeerFound(A, PEER.sent)),
        (Operation.PAIR, FRESH, Present(BROKEN), e.PeerFound(A, PEER.sent)),
        (Operation.PAIR, asked(SiteCall.PAIR), Present(PEER), e.SidePaired(A, PEER.sent)),
        (Operation.PAIR, FRESH, Different(PEER, ERROR), e.SideFailed(A, ERROR)),
        (Operation.REPAIR, FRESH, Absent(), Call(SiteCall.PAIR)),
        (Operation.REPAIR, FRESH, Different(PEER, ERROR), Call(SiteCall.REPAIR, ID)),
        (Operation.REPAIR, FRESH, Present(BROKEN), Call(SiteCall.REPAIR, ID)),
        (Operation.REPAIR, FRESH, Present(PEER), e.PeerFound(A, PEER.sent)),
        (Operation.REPAIR, FRESH, Present(DEAF), e.PeerFound(A, PEER.sent)),
        (Operation.REPAIR, asked(SiteCall.REPAIR), Present(BROKEN), e.SidePaired(A, PEER.sent)),
        (Operation.UNPAIR, FRESH, Absent(), e.PeerGone(A)),
        (Operation.UNPAIR, asked(SiteCall.UNPAIR), Absent(), e.SideUnpaired(A)),
        (Operation.UNPAIR, FRESH, Present(BROKEN), Call(SiteCall.UNPAIR, ID)),
        (Operation.UNPAIR, FRESH, Different(PEER, ERROR), Call(SiteCall.UNPAIR, ID)),
    ],
)
def test_what_is_seen_decides_the_next_step(
    operation: Operation, side: Side, sighting: Sighting, step: Step
) -> None:
    assert next_step(operation, side, sighting) == step


@pytest.mark.parametrize(
    ("operation", "sighting"),
    [
        (Operation.REPAIR, Different(NAMELESS, ERROR)),
        (Operation.UNPAIR, Present(NAMELESS)),
        (Operation.UNPAIR, Different(NAMELESS, ERROR)),
    ],
)
def test_a_record_without_an_id_cannot_be_changed(operation: Operation, sighting: Sighting) -> None:
    step = next_step(operation, FRESH, sighting)
    assert isinstance(step, e.SideFailed)
    assert step.error.code == "PeerWithoutId"


@pytest.mark.parametrize(
    ("side", "sighting", "step"),
    [
        (asked(SiteCall.PAIR), Present(PEER), Call(SiteCall.UNPAIR, ID)),
        (asked(SiteCall.PAIR), Absent(), None),
        # What was told is not known.
        (asked(SiteCall.PAIR), Different(PEER, ERROR), None),
        (asked(SiteCall.UNPAIR), Absent(), Call(SiteCall.PAIR)),
        (asked(SiteCall.UNPAIR), Present(PEER), None),
        (asked(SiteCall.UNPAIR), Different(PEER, ERROR), None),
        (asked(SiteCall.REPAIR), Present(PEER), None),
        (asked(SiteCall.REPAIR), Absent(), None),
        (FRESH, Present(PEER), None),
        (FRESH, Absent(), None),
    ],
)
def test_only_what_this_job_did_is_undone(
    side: Side, sighting: Sighting, step: Step | None
) -> None:
    assert next_undoing(side, sighting) == step


ASKED_OF_OLD = replace(asked(SiteCall.PAIR), asked_url=normalized_url(OLD_URL))
WITH_ID = replace(ASKED_OF_OLD, result=b'{"id": "of-our-own"}')
TAKEN_BY_ANOTHER = replace(asked(SiteCall.PAIR), asked_thumbprint=PRINT_A)
"""The URL that was told is another appliance's by now."""


@pytest.mark.parametrize(
    ("side", "sighting", "code"),
    [
        (ASKED_OF_OLD, Present(PEER), "PeerRegisteredAnew"),
        (WITH_ID, Present(PEER), None),
        (TAKEN_BY_ANOTHER, Present(PEER), "PeerRegisteredAnew"),
        (TAKEN_BY_ANOTHER, Different(PEER, ERROR), ERROR.code),
        (replace(TAKEN_BY_ANOTHER, result=WITH_ID.result), Different(PEER, ERROR), None),
    ],
)
def test_a_record_that_is_not_as_this_job_told_stays_and_is_said_unless_ours_is_known(
    side: Side, sighting: Sighting, code: str | None
) -> None:
    step = next_undoing(side, sighting)
    assert (step.error.code if isinstance(step, e.RollbackFailed) else step) == code


@pytest.mark.parametrize("side", [ASKED_OF_OLD, WITH_ID, TAKEN_BY_ANOTHER])
def test_a_record_that_is_not_as_this_job_told_is_not_taken_for_its_work(side: Side) -> None:
    step = next_step(Operation.PAIR, side, Present(PEER))
    assert isinstance(step, e.SideFailed)
    assert step.error.code == "PeerRegisteredAnew"


def test_of_two_records_the_one_that_this_job_told_is_its_own() -> None:
    ours = replace(listed(OLD_URL), id="ours")
    peers = [listed(ENDPOINT_B.api_url), ours]
    assert find_peer(peers, ENDPOINT_B, None, ASKED_OF_OLD.asked_url) is ours
    assert find_peer(peers, ENDPOINT_B) is peers[0]


@pytest.mark.parametrize(
    ("side", "url", "is_moved"),
    [
        (replace(asked(SiteCall.PAIR), called_url="https://h:1"), "https://h:1", False),
        (replace(asked(SiteCall.PAIR), called_url="https://h:1"), "https://other:1", True),
        (replace(asked(SiteCall.UNPAIR), called_url="https://h:1"), "https://other:1", True),
        (asked(SiteCall.PAIR), "https://other:1", False),
        (replace(FRESH, called_url="https://h:1"), "https://other:1", False),
    ],
)
def test_an_appliance_has_moved_if_what_was_done_was_done_elsewhere(
    side: Side, url: str, *, is_moved: bool
) -> None:
    error = moved(side, url)
    assert (error is not None) is is_moved
    if error is not None:
        assert error.code == "ApplianceMoved"
        assert error.args == (A, "https://h:1", url)


def test_a_record_that_this_jobs_own_task_told_of_is_its_to_remove_whatever_became_of_it() -> None:
    told = replace(asked(SiteCall.PAIR), result=f'{{"id": "{ID}"}}'.encode())
    assert next_undoing(told, Different(PEER, ERROR)) == Call(SiteCall.UNPAIR, ID)


def test_a_record_without_an_id_cannot_be_removed_and_that_is_said() -> None:
    step = next_undoing(asked(SiteCall.PAIR), Present(NAMELESS))
    assert isinstance(step, e.RollbackFailed)
    assert step.error.code == "PeerWithoutId"


def listed(url: str) -> Peer:
    return replace(a_peer(url), api_url=url)


@pytest.mark.parametrize(
    ("url", "endpoint", "kind"),
    [
        (OLD_URL, FORMER, Different),
        (FORMER.api_url, FORMER, Present),
        (OLD_URL, ENDPOINT_B, Absent),
    ],
)
def test_a_peer_that_moved_is_known_where_it_was_and_differs(
    url: str, endpoint: Endpoint, kind: type[Sighting]
) -> None:
    seen = sight([listed(url)], endpoint)
    assert isinstance(seen, kind)
    if isinstance(seen, Different):
        assert seen.error.code == "PeerUrlDiffers"
        assert "Repair" in seen.error.msg


def test_what_was_asked_for_is_known_where_it_was_told_to_be_and_is_undone() -> None:
    side = Side(A, B, call=SiteCall.PAIR, asked_url=normalized_url(OLD_URL))
    side = replace(side, asked_thumbprint=ENDPOINT_B.api_thumbprint)
    seen = sight([listed(OLD_URL)], ENDPOINT_B, side.peer_id, side.asked_url)
    assert isinstance(seen, Different)
    assert seen.error.code == "PeerUrlDiffers"
    assert next_undoing(side, seen) == Call(SiteCall.UNPAIR, ID)


def test_an_unpaired_side_lists_its_peer_no_more_whatever_its_thumbprint() -> None:
    assert lingering([], ENDPOINT_B) is None
    for peer in (PEER, replace(PEER, api_thumbprint=None)):
        left = lingering([peer], ENDPOINT_B)
        assert isinstance(left, ApiError)
        assert left.code == "PeerStillListed"


@pytest.mark.parametrize("peers", [(), (replace(PEER, is_local=True),)])
def test_nobody_is_found_where_nobody_is_listed_whatever_the_url_was_before(
    peers: tuple[Peer, ...],
) -> None:
    former = normalized_url("https://[fd00::1]:8443/x")
    assert find_peer(peers, replace(ENDPOINT_B, former_api_urls=(former,))) is None
