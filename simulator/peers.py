"""What an appliance says of its peers: comm errors follow from both sides' records (h4-api 2.3).

Outgoing is the holder calling its peer, incoming the peer calling the holder.
"""

from simulator import errors
from simulator.appliance import Appliance, Peer
from simulator.knobs import Knobs
from simulator.wire import ApiError, ManagerPeerInfo, PeerState


def show(holder: Appliance, peer: Peer, now: int) -> ManagerPeerInfo:
    """The element of GET /sites for `peer`, as fresh as `comm_refresh_ms` makes it."""
    if peer.shown is None or (peer.stale_ms is not None and now >= peer.stale_ms):
        peer.shown = _info(holder, peer)
        peer.stale_ms = None
    return peer.shown


def show_self(appliance: Appliance) -> ManagerPeerInfo:
    """The local site, for flavours that list it."""
    identity = appliance.identity
    return ManagerPeerInfo(
        id=identity.site_id,
        site=identity.name,
        description="",
        api_url=identity.api_url,
        api_public_url=identity.api_url,
        api_thumbprint=appliance.api_thumbprint,
        is_local=True,
        state=PeerState(),
        api_version=appliance.knobs.api_version,
        is_provider_deployment=False,
        peer_tunnel_cert=identity.tunnel_cert,
    )


def touch(one: Appliance, other: Appliance | None, now: int) -> None:
    """Something between the two changed: what each shows of the other is no longer true."""
    if other is None:
        return
    for holder, id_ in ((one, other.site_id), (other, one.site_id)):
        peer = holder.peers.get(id_)
        if peer is not None and peer.stale_ms is None:
            peer.stale_ms = now + holder.knobs.comm_refresh_ms


def touch_all(appliance: Appliance, now: int) -> None:
    """Something about `appliance` itself changed, for everybody who knows it."""
    for other in appliance.neighbours.values():
        touch(appliance, other, now)


def same_thumbprint(one: str, other: str, knobs: Knobs) -> bool:
    """Whether both name the same certificate, in the eyes of an appliance with these knobs."""
    return one == other or (knobs.thumbprint_case == "any" and one.upper() == other.upper())


def interoperate(one: Knobs, other: Knobs) -> bool:
    """Whether sites of these versions can be paired: up to N-2, as 4.7 with 4.5 (h4-api 4)."""
    (major, minor), (their_major, their_minor) = map(_release, (one.api_version, other.api_version))
    return major == their_major and abs(minor - their_minor) <= 2


def posted_as(url: str, knobs: Knobs) -> str:
    """The `apiPublicUrl` that a posted `apiUrl` becomes (h4-api 2.2)."""
    match knobs.public_url_slash:
        case "added":
            return url.rstrip("/") + "/"
        case "removed":
            return url.rstrip("/")
        case "kept":
            return url


def _info(holder: Appliance, peer: Peer) -> ManagerPeerInfo:
    other = holder.neighbours.get(peer.id)
    outgoing = _outgoing(holder, peer, other)
    # Whom it reaches it knows, whether it is let in or not: so the vendor's sample (h4-api 2.2).
    met = None if other is None or _is_cut(holder, peer, other) else other
    api_url = peer.url
    if met is not None and holder.knobs.api_url_rewritten:
        api_url = f"https://tn-{met.identity.tunnel_id}.tnexus.io:8048/"
    return ManagerPeerInfo(
        id=peer.id,
        site=peer.site,
        description=peer.description,
        api_url=api_url,
        api_public_url=peer.url,
        api_thumbprint=peer.thumbprint,
        is_local=False,
        state=PeerState(_incoming(holder, peer, other, outgoing), outgoing),
        api_version=met.knobs.api_version if met else None,
        is_provider_deployment=False,
        peer_tunnel_cert=met.identity.tunnel_cert if met else None,
    )


def _release(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)


def _is_cut(holder: Appliance, peer: Peer, other: Appliance) -> bool:
    """Whether not even a connection comes about."""
    return (
        peer.forced is not None
        or other.is_dark
        or not same_thumbprint(peer.thumbprint, other.api_thumbprint, holder.knobs)
    )


def _outgoing(holder: Appliance, peer: Peer, other: Appliance | None) -> ApiError | None:
    if peer.forced is not None:
        return peer.forced
    if other is None or other.is_dark:
        return errors.unreachable(peer.url)
    if _is_cut(holder, peer, other):
        return errors.CERTIFICATE_MISMATCH
    if holder.site_id not in other.peers and other is not holder:
        return _stranger(holder, other)
    return None


def _incoming(
    holder: Appliance, peer: Peer, other: Appliance | None, outgoing: ApiError | None
) -> ApiError | None:
    if other is None or other.is_dark or peer.forced is not None:
        return None
    theirs = other.peers.get(holder.site_id)
    if theirs is not None:
        return _outgoing(other, theirs, holder)
    # Without a record there the peer does not call; the vendor's sample shows the error both ways.
    is_refused = outgoing is not None and outgoing is not errors.CERTIFICATE_MISMATCH
    return outgoing if is_refused and holder.knobs.one_sided_incoming == "error" else None


def _stranger(caller: Appliance, host: Appliance) -> ApiError:
    """What `host` answers a caller it holds no record of."""
    known_once = caller.site_id in host.former
    word = host.knobs.unpaired_error if known_once else host.knobs.one_sided_error
    match word:
        case "Forbidden":
            return errors.FORBIDDEN
        case "NotAuthenticated":
            return errors.NOT_AUTHENTICATED
        case "SiteNotFound":
            return errors.site_not_found(caller.name)
