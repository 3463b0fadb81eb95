"""What to do next, decided from what an appliance said. Values in, values out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from service.domain.appliance import ApiError, Endpoint, Peer, find_peer
from service.domain.events import (
    PeerFound,
    PeerGone,
    RollbackFailed,
    SideEvent,
    SideFailed,
    SidePaired,
    SideUnpaired,
)
from service.domain.ids import ApplianceName
from service.domain.pairing import Operation, Side, SiteCall
from service.domain.thumbprint import same_thumbprint


@dataclass(frozen=True, slots=True)
class Absent:
    """The appliance does not list the peer."""


@dataclass(frozen=True, slots=True)
class Present:
    """The appliance lists the peer, with the expected thumbprint."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Different:
    """The appliance lists the peer otherwise than registered: by thumbprint or URL."""

    peer: Peer
    error: ApiError


Sighting = Absent | Present | Different


@dataclass(frozen=True, slots=True)
class Call:
    """Something has to be asked of the appliance; `peer_id` is for the calls that take one."""

    call: SiteCall
    peer_id: str = ""


Step = Call | SideEvent
"""What a look leads to: a call, or an event that needs none."""


def next_step(operation: Operation, side: Side, sighting: Sighting) -> Step:
    """What brings `side` nearer to what `operation` wants, after its list was seen.

    As long as no call of this job may have taken effect, whatever is there was there before.
    """
    match operation:
        case Operation.PAIR:
            return _to_pair(side, sighting)
        case Operation.REPAIR:
            return _to_repair(side, sighting)
        case Operation.UNPAIR:
            return _to_unpair(side, sighting)
        case _:
            assert_never(operation)


def next_undoing(side: Side, sighting: Sighting) -> Step | None:
    """What brings `side` nearer to how it was before this job; None if it is there.

    A record counts as made by this job if it has the id that this job's own task told, or the URL
    or the thumbprint that this job told. Where no id is known, any other record of the peer may be
    of this job's making, or somebody else's, or from before: it stays, and is said.
    """
    match side.undo, sighting:
        case SiteCall.UNPAIR, Present(peer=peer) if _is_as_told(side, peer):
            return _with_id(SiteCall.UNPAIR, peer) or RollbackFailed(side.appliance, _no_id(side))
        case SiteCall.UNPAIR, Different(peer=peer) if _is_made_by(side, peer):
            return _with_id(SiteCall.UNPAIR, peer) or RollbackFailed(side.appliance, _no_id(side))
        case SiteCall.UNPAIR, Present() if side.peer_id is None:
            return RollbackFailed(side.appliance, _unknown_maker(side))
        case SiteCall.UNPAIR, Different(error=error) if side.asked_thumbprint and not side.peer_id:
            return RollbackFailed(side.appliance, error)
        case SiteCall.PAIR, Absent():
            return Call(SiteCall.PAIR)
        case _:
            return None


def _is_as_told(side: Side, peer: Peer) -> bool:
    if side.asked_url is not None:
        return side.asked_url in peer.known_at or _has_id_of(side, peer)
    return side.asked_thumbprint is None or _is_made_by(side, peer)


def _is_made_by(side: Side, peer: Peer) -> bool:
    is_as_told = same_thumbprint(peer.api_thumbprint, side.asked_thumbprint)
    return is_as_told or _has_id_of(side, peer)


def _has_id_of(side: Side, peer: Peer) -> bool:
    return side.peer_id is not None and peer.id == side.peer_id


def _to_pair(side: Side, sighting: Sighting) -> Step:
    match sighting:
        case Absent():
            return Call(SiteCall.PAIR)
        case Present(peer=peer):
            return _listed(side, peer)
        case Different(error=error):
            return SideFailed(side.appliance, error)
        case _:
            assert_never(sighting)


def _to_repair(side: Side, sighting: Sighting) -> Step:
    """A record that is as registered is left alone, unless its calls to the peer fail: then the
    vendor's guides call for a re-pair too (h4-api 10). Errors of incoming calls are the other
    side's to repair."""
    match sighting:
        case Absent():
            return Call(SiteCall.PAIR)
        case Present(peer=peer):
            if side.call is not None or peer.outgoing_error is None:
                return _listed(side, peer)
        case Different(peer=peer):
            pass
        case _:
            assert_never(sighting)
    return _with_id(SiteCall.REPAIR, peer) or SideFailed(side.appliance, _no_id(side))


def _to_unpair(side: Side, sighting: Sighting) -> Step:
    match sighting:
        case Absent():
            gone = PeerGone if side.call is None else SideUnpaired
            return gone(side.appliance)
        case Present(peer=peer) | Different(peer=peer):
            return _with_id(SiteCall.UNPAIR, peer) or SideFailed(side.appliance, _no_id(side))
        case _:
            assert_never(sighting)


def _listed(side: Side, peer: Peer) -> SideEvent:
    if side.call is None:
        return PeerFound(side.appliance, peer.sent)
    if not _is_as_told(side, peer):
        return SideFailed(side.appliance, _unknown_maker(side))
    return SidePaired(side.appliance, peer.sent)


def _with_id(call: SiteCall, peer: Peer) -> Call | None:
    return Call(call, peer.id) if peer.id else None


def _no_id(side: Side) -> ApiError:
    return ApiError(
        "PeerWithoutId",
        f"'{side.appliance}' lists '{side.peer}' without an id, which the call needs.",
        (side.peer,),
    )


def _unknown_maker(side: Side) -> ApiError:
    return ApiError(
        "PeerRegisteredAnew",
        f"'{side.appliance}' lists '{side.peer}' as it is registered now, not as this pairing told "
        "it. The record may be older than this pairing, so it stays.",
        (side.peer,),
    )


def moved(side: Side, url: str) -> ApiError | None:
    """Why what a call did on `side` is not to be looked for at `url` (normalized), where its
    appliance is registered now: another machine may have nothing of it, or the like from before.
    None if the call was made there, or it is not known where, or none has done anything."""
    if side.call is None or side.called_url is None or side.called_url == url:
        return None
    return ApiError(
        "ApplianceMoved",
        f"'{side.appliance}' was called at {side.called_url} and is registered at {url} now, which "
        "may be another machine: nothing is looked for or undone there.",
        (side.appliance, side.called_url, url),
    )


def sight(
    peers: Sequence[Peer],
    endpoint: Endpoint,
    peer_id: str | None = None,
    asked_url: str | None = None,
) -> Sighting:
    """What an appliance's list of peers says about `endpoint`, which it may know as it was told:
    by this id, at this URL (normalized)."""
    peer = find_peer(peers, endpoint, peer_id, asked_url)
    if peer is None:
        return Absent()
    if not peer.trusts(endpoint):
        return Different(peer, _other_thumbprint(peer, endpoint))
    for former in (*endpoint.former_api_urls, asked_url):
        if former in peer.known_at and not peer.is_known_at(endpoint.api_url):
            return Different(peer, _other_url(endpoint, former))
    return Present(peer)


def _other_thumbprint(peer: Peer, endpoint: Endpoint) -> ApiError:
    return ApiError(
        "PeerThumbprintDiffers",
        f"The appliance already lists '{endpoint.name}' with thumbprint {peer.api_thumbprint}, but "
        f"{endpoint.api_thumbprint} is registered. If the registered one is right, repair the "
        "pairing instead.",
        (endpoint.name, peer.api_thumbprint or "", endpoint.api_thumbprint),
    )


def _other_url(endpoint: Endpoint, former: str) -> ApiError:
    return ApiError(
        "PeerUrlDiffers",
        f"The appliance lists '{endpoint.name}' at {former}, but "
        f"{endpoint.api_url} is registered now. Repair the pairing instead.",
        (endpoint.name, former, endpoint.api_url),
    )


def doubt(peers: Sequence[Peer], endpoint: Endpoint, peer_id: str | None) -> ApiError | Peer:
    """The verified record of `endpoint`, or the reason why it does not count as paired yet.

    A record counts when it pins the registered thumbprint and has no communication error in
    either direction (h4-api 2.3: a task that succeeded proves neither).
    """
    match sight(peers, endpoint, peer_id):
        case Absent():
            return ApiError(
                "PeerNotListed",
                f"The appliance does not list '{endpoint.name}'.",
                (endpoint.name,),
            )
        case Different(error=error):
            return error
        case Present(peer=peer):
            return peer.outgoing_error or peer.incoming_error or peer


_GONE = frozenset({"SiteNotFound", "Http404"})
"""The latter is of an answer without a code."""


def says_gone(error: ApiError) -> bool:
    """Whether an appliance that was to unpair says that there is no such peer, which counts as done
    once its list agrees (h4-api 7, where the code that goes with the text is unknown)."""
    return error.code in _GONE or "was not found" in error.msg


_PAIRED = re.compile(r"already[ _-]?(been )?(paired|exist|registered)", re.IGNORECASE)
"""Not the mere word: what is already in use, closed or expired may have stopped a call half-way."""


def says_paired(error: ApiError) -> bool:
    """Whether an appliance that was to pair says that the peer is there already: then the call has
    not made the record. The code is unknown (h4-api 7), the words are near the one text there is.
    """
    return _PAIRED.search(f"{error.code} {error.msg}") is not None


def lingering(peers: Sequence[Peer], endpoint: Endpoint) -> ApiError | None:
    """Why an unpaired side does not count as such yet; None if it lists the peer no more."""
    if isinstance(sight(peers, endpoint), Absent):
        return None
    return ApiError(
        "PeerStillListed",
        f"The appliance still lists '{endpoint.name}'.",
        (endpoint.name,),
    )


def verification_failed(side: ApplianceName, cause: ApiError, after_s: float) -> ApiError:
    """The error of a pairing whose records do not work, in the appliance's own code."""
    return ApiError(
        cause.code,
        f"'{side}' still reports after {after_s:.0f} s: {cause.msg}",
        (side, *cause.args),
        cause.stacktrace,
    )


def deadline_exceeded(what: str, timeout_s: int, heard: str = "") -> ApiError:
    """The error of a step that the pairing's time ran out on; `heard` is what was heard about it
    last, a failure mostly."""
    text = f"Gave up {what}: the pairing's {timeout_s} s are over."
    if heard:
        text += f" Heard last: {heard}"
    return ApiError("DeadlineExceeded", text, (what, str(timeout_s)))
