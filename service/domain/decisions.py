"""What to do next, decided from what an appliance said. Values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.appliance import ApiError, Endpoint, Peer, find_peer
from service.domain.ids import ApplianceName


@dataclass(frozen=True, slots=True)
class Absent:
    """The appliance does not list the peer."""


@dataclass(frozen=True, slots=True)
class Present:
    """The appliance lists the peer, with the expected thumbprint."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Different:
    """The appliance lists the peer, with another thumbprint than the registered one."""

    error: ApiError


Sighting = Absent | Present | Different


def sight(peers: Sequence[Peer], endpoint: Endpoint, peer_id: str | None = None) -> Sighting:
    """What an appliance's list of peers says about `endpoint`."""
    peer = find_peer(peers, endpoint, peer_id)
    if peer is None:
        return Absent()
    if peer.trusts(endpoint):
        return Present(peer)
    return Different(
        ApiError(
            "PeerThumbprintDiffers",
            f"The appliance already lists '{endpoint.name}' with thumbprint "
            f"{peer.api_thumbprint}, but {endpoint.api_thumbprint} is registered. If the "
            "registered one is right, repair the pairing instead.",
            (endpoint.name, peer.api_thumbprint or "", endpoint.api_thumbprint),
        )
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


def verification_failed(side: ApplianceName, cause: ApiError, after_s: float) -> ApiError:
    """The error of a pairing whose records do not work, in the appliance's own code."""
    return ApiError(
        cause.code,
        f"'{side}' still reports after {after_s:.0f} s: {cause.msg}",
        (side, *cause.args),
        cause.stacktrace,
    )


def deadline_exceeded(what: str, timeout_s: int) -> ApiError:
    """The error of a step that the pairing's time ran out on."""
    return ApiError(
        "DeadlineExceeded",
        f"Gave up {what}: the pairing's {timeout_s} s are over.",
        (what, str(timeout_s)),
    )
