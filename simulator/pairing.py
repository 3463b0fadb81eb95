"""Pair, repair, unpair (h4-api 2.1): what is refused at once, and what a task does at its end.

The same objections are raised twice. Those that a knob calls `rejected` are judged when the call
arrives, all others when the task ends, by the state of the world at that instant.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from simulator import errors
from simulator.appliance import Appliance, Peer
from simulator.peers import interoperate, posted_as, same_thumbprint, show, touch
from simulator.tasks import Outcome
from simulator.wire import ApiError, ManagerPeerInfo, UpdateSiteRequest

if TYPE_CHECKING:
    from simulator.world import World

_THUMBPRINT = re.compile(r"SHA-256(:[0-9A-F]{2}){32}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that is not even accepted."""

    status: int
    error: ApiError


@dataclass(frozen=True, slots=True)
class Wish:
    """What a record shall say: an UpdateSiteRequest without gaps."""

    url: str
    thumbprint: str
    description: str


@dataclass(frozen=True, slots=True)
class Pair:
    """POST /sites on `holder`."""

    world: "World"
    holder: Appliance
    wish: Wish

    def refusal(self) -> Refusal | None:
        """Why the call is refused at once, if it is."""
        return _first_rejected(self._objections())

    def effect(self, now: int) -> Outcome:
        """Create the record, or say why not."""
        for policy, refusal in self._objections():
            if policy != "succeeds":
                return Outcome(error=refusal.error)
        peer = self._peer()
        before = self.holder.peers.get(peer.id)
        self.holder.peers[peer.id] = peer
        self.holder.former.discard(peer.id)
        touch(self.holder, self._target(), now)
        return Outcome(show(self.holder, peer, now), changed=_differs(before, peer))

    def _target(self) -> Appliance | None:
        return self.world.resolve(self.wish.url)

    def _objections(self) -> Iterator[tuple[str, Refusal]]:
        knobs, target, wish = self.holder.knobs, self._target(), self.wish
        for is_so, word in ((knobs.licensed, "licensed"), (knobs.configured, "configured")):
            if not is_so:
                yield knobs.unready, Refusal(500, errors.unready(word))
        if target is self.holder:
            error = errors.bad_user_input("A site can not be paired with itself.", target.name)
            yield knobs.self_pairing, Refusal(400, error)
        elif self._peer().id in self.holder.peers:
            yield knobs.already_paired, Refusal(400, errors.already_paired(self._peer().site))
        yield from _connection_objections(self.holder, target, wish)

    def _peer(self) -> Peer:
        """The record. Name and id are learnt from the peer; where nobody is they are made up."""
        target, wish = self._target(), self.wish
        url = posted_as(wish.url, self.holder.knobs)
        site_id = target.site_id if target else str(uuid5(NAMESPACE_URL, address_of(wish.url)))
        site = target.name if target else (urlsplit(wish.url).hostname or "unknown")
        return Peer(site_id, site, wish.description, url, wish.thumbprint)


@dataclass(frozen=True, slots=True)
class Repair:
    """PUT /sites/{id} on `holder`. What the request leaves out stays as it is."""

    world: "World"
    holder: Appliance
    peer_id: str
    request: UpdateSiteRequest

    def refusal(self) -> Refusal | None:
        """Why the call is refused at once, if it is."""
        return _first_rejected(self._objections())

    def effect(self, now: int) -> Outcome:
        """Replace the record, or say why not."""
        for policy, refusal in self._objections():
            if policy != "succeeds":
                return Outcome(error=refusal.error)
        before = self.holder.peers[self.peer_id]
        wish = self._wish(before)
        url = posted_as(wish.url, self.holder.knobs)
        peer = Peer(before.id, before.site, wish.description, url, wish.thumbprint)
        self.holder.peers[peer.id] = peer
        touch(self.holder, self.holder.neighbours.get(peer.id), now)
        return Outcome(show(self.holder, peer, now), changed=_differs(before, peer))

    def _wish(self, peer: Peer) -> Wish:
        request = self.request
        return Wish(
            url=peer.url if request.api_url is None else request.api_url,
            thumbprint=(
                peer.thumbprint if request.api_thumbprint is None else request.api_thumbprint
            ),
            description=peer.description if request.description is None else request.description,
        )

    def _objections(self) -> Iterator[tuple[str, Refusal]]:
        peer = self.holder.peers.get(self.peer_id)
        if peer is None:
            yield _unknown(self.holder, self.peer_id)
            return
        wish = self._wish(peer)
        target = self.world.resolve(wish.url)
        if target is not None and target.site_id != self.peer_id:
            error = errors.bad_user_input(f"{wish.url} is another site.", target.name)
            yield "task_fails", Refusal(400, error)
        yield from _connection_objections(self.holder, target, wish)


@dataclass(frozen=True, slots=True)
class Unpair:
    """DELETE /sites/{id} on `holder`. The other side keeps its record (h4-api 2.3)."""

    holder: Appliance
    peer_id: str

    def refusal(self) -> Refusal | None:
        """Why the call is refused at once, if it is."""
        return _first_rejected(self._objections())

    def effect(self, now: int) -> Outcome:
        """Remove the record, or say why not."""
        for _, refusal in self._objections():
            return Outcome(error=refusal.error)
        other = self.holder.neighbours.get(self.peer_id)
        _remove(self.holder, self.peer_id)
        if other is not None and self.holder.knobs.unpair_removes_both:
            _remove(other, self.holder.site_id)
        touch(self.holder, other, now)
        return Outcome(changed=True)

    def _objections(self) -> Iterator[tuple[str, Refusal]]:
        peer = self.holder.peers.get(self.peer_id)
        if peer is None:
            yield _unknown(self.holder, self.peer_id)
        elif self.holder.knobs.replications != "none":
            refusal = Refusal(400, errors.replications_exist(peer.site))
            yield self.holder.knobs.replications, refusal


Change = Pair | Repair | Unpair


def belied(change: Change, error: ApiError, now: int) -> Outcome:
    """Failure of what is done all the same: nothing says that a FAILED task did nothing."""
    outcome = change.effect(now)
    return outcome if outcome.error is not None else Outcome(None, error, outcome.changed)


def mismatched(change: Pair | Repair, now: int) -> Outcome:
    """Success with a dead pairing (h4-api 10, "green task, dead pairing")."""
    outcome = change.effect(now)
    if not isinstance(outcome.result, ManagerPeerInfo):
        return outcome
    peer = change.holder.peers[outcome.result.id]
    peer.forced = errors.CERTIFICATE_MISMATCH
    peer.shown = None
    return replace(outcome, result=show(change.holder, peer, now))


def wish_of(request: UpdateSiteRequest) -> Wish | ApiError:
    """The request of a POST, checked; there nothing may be missing but the description."""
    if not request.api_url:
        return errors.bad_user_input("apiUrl is missing.", "apiUrl")
    if not request.api_thumbprint:
        return errors.bad_user_input("apiThumbprint is missing.", "apiThumbprint")
    return Wish(request.api_url, request.api_thumbprint, request.description or "")


def complaint(request: UpdateSiteRequest, holder: Appliance) -> ApiError | None:
    """What is wrong with the form of what a request does say."""
    if request.api_url is not None and not is_address(request.api_url):
        return errors.bad_user_input(f"Invalid apiUrl: {request.api_url}", "apiUrl")
    thumbprint = request.api_thumbprint
    if thumbprint is not None:
        any_case = holder.knobs.thumbprint_case == "any"
        if not _THUMBPRINT.fullmatch(thumbprint.upper() if any_case else thumbprint):
            return errors.bad_user_input(f"Invalid thumbprint: {thumbprint}", "apiThumbprint")
    return None


@lru_cache(maxsize=16_384)
def is_address(url: str) -> bool:
    """Whether it can be an API endpoint."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


@lru_cache(maxsize=16_384)
def address_of(url: str) -> str:
    """`host:port` of a URL: what two spellings of one endpoint have in common."""
    parts = urlsplit(url)
    return f"{(parts.hostname or '').lower()}:{parts.port or 443}"


def _first_rejected(objections: Iterator[tuple[str, Refusal]]) -> Refusal | None:
    return next((refusal for policy, refusal in objections if policy == "rejected"), None)


def _connection_objections(
    holder: Appliance, target: Appliance | None, wish: Wish
) -> Iterator[tuple[str, Refusal]]:
    knobs = holder.knobs
    if target is None or target.is_dark:
        yield knobs.unreachable_peer, Refusal(500, errors.unreachable(wish.url))
    elif not same_thumbprint(wish.thumbprint, target.api_thumbprint, knobs):
        yield knobs.wrong_thumbprint, Refusal(400, errors.CERTIFICATE_MISMATCH)
    elif not interoperate(knobs, target.knobs):
        yield knobs.version_skew, Refusal(400, errors.too_far_apart(target.knobs.api_version))


def _unknown(holder: Appliance, peer_id: str) -> tuple[str, Refusal]:
    return holder.knobs.unknown_peer_id, Refusal(404, errors.site_not_found(peer_id))


def _remove(holder: Appliance, peer_id: str) -> None:
    if holder.peers.pop(peer_id, None) is not None:
        holder.former.add(peer_id)


def _differs(before: Peer | None, after: Peer) -> bool:
    return before is None or (before.url, before.thumbprint, before.description) != (
        after.url,
        after.thumbprint,
        after.description,
    )
