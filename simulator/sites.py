"""/sites: the peers of an appliance, and the three calls that change them (h4-api 2)."""

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from simulator import errors
from simulator.pairing import Change, Pair, Refusal, Repair, Unpair, complaint, wish_of
from simulator.peers import show, show_self
from simulator.reply import Refused, Reply
from simulator.tasks import view
from simulator.wire import ApiError, ManagerPeerInfo, UpdateSiteRequest

if TYPE_CHECKING:
    from simulator.world import Visit, World


def list_sites(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /sites: a bare array."""
    appliance = visit.appliance
    listed = [show(appliance, peer, now) for peer in appliance.listed(now)]
    if appliance.knobs.lists_local_site:
        listed.insert(0, show_self(appliance))
    return Reply(200, listed)


def one_site(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /sites/{id}, which may not exist at all (h4-api 2.1)."""
    if not visit.appliance.knobs.get_site:
        raise Refused(404, errors.not_found(visit.call.path))
    info = _find(visit, now)
    if info is None:
        raise Refused(404, errors.site_not_found(visit.argument))
    return Reply(200, info)


def pair(world: "World", visit: "Visit", now: int) -> Reply:
    """POST /sites."""
    request = _request(visit)
    wish = wish_of(request)
    if isinstance(wish, ApiError):
        raise Refused(400, wish)
    return _accept(world, visit, Pair(world, visit.appliance, wish), now)


def repair(world: "World", visit: "Visit", now: int) -> Reply:
    """PUT /sites/{id}."""
    change = Repair(world, visit.appliance, _peer_id(visit), _request(visit))
    return _accept(world, visit, change, now)


def unpair(world: "World", visit: "Visit", now: int) -> Reply:
    """DELETE /sites/{id}."""
    return _accept(world, visit, Unpair(visit.appliance, _peer_id(visit)), now)


def _accept(world: "World", visit: "Visit", change: Change, now: int) -> Reply:
    refusal: Refusal | None = change.refusal()
    if refusal is not None:
        raise Refused(refusal.status, refusal.error)
    task = world.start_change(visit, change, now)
    return Reply(202, view(task, visit.appliance.look(now), with_site=False))


def _request(visit: "Visit") -> UpdateSiteRequest:
    try:
        request = msgspec.json.decode(visit.call.body, type=UpdateSiteRequest)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise Refused(400, errors.bad_request("The request body can not be read.")) from fault
    error = complaint(request, visit.appliance)
    if error is not None:
        raise Refused(400, error)
    return request


def _peer_id(visit: "Visit") -> str:
    try:
        return str(UUID(visit.argument))
    except ValueError as fault:
        error = errors.bad_user_input(f"Invalid id: {visit.argument}", "id")
        raise Refused(400, error) from fault


def _find(visit: "Visit", now: int) -> ManagerPeerInfo | None:
    peer = visit.appliance.peers.get(_peer_id(visit))
    return None if peer is None else show(visit.appliance, peer, now)
