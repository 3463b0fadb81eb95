"""Values that the tests of the domain begin with."""

from uuid import UUID

from msgspec.structs import replace

from service.domain.appliance import ApiError, Endpoint, Peer
from service.domain.ids import ApplianceName, OperationId, PairingId
from service.domain.pairing import Operation, Pairing, PairingState, Phase, Side, SideState
from service.domain.thumbprint import Thumbprint, thumbprint_of

A, B = ApplianceName("site-a"), ApplianceName("site-b")
PRINT_A, PRINT_B = thumbprint_of(b"certificate of a"), thumbprint_of(b"certificate of b")
ENDPOINT_A = Endpoint(A, "https://a.example.test:8048/", PRINT_A)
ENDPOINT_B = Endpoint(B, "https://b.example.test:8048/", PRINT_B)
ERROR = ApiError("Forbidden", "Permission denied.", ("arg",))


def a_pairing(*states: SideState, state: PairingState = PairingState.RUNNING) -> Pairing:
    """A pairing of A and B whose sides are in `states`."""
    one, other = states or (SideState.PENDING, SideState.PENDING)
    return Pairing(
        id=PairingId(UUID("01890000-0000-7000-8000-000000000001")),
        operation=Operation.PAIR,
        sides=(Side(A, B, state=one), Side(B, A, state=other)),
        operation_id=OperationId("op-1"),
        user="admin",
        start_time=1_000,
        last_updated=1_000,
        timeout_s=900,
        deadline=901_000,
        state=state,
        phase=Phase.PAIRING if state is PairingState.RUNNING else None,
    )


def a_peer(
    url: str = "https://b.example.test:8048/", thumbprint: Thumbprint | None = PRINT_B
) -> Peer:
    """B as A lists it, working in both directions."""
    return Peer(
        id="5fd06dbd-ccab-4db8-9067-39575137028c",
        site="site-b",
        api_url="https://tn-1.tnexus.io:8048/",
        api_public_url=url,
        api_thumbprint=thumbprint,
    )


def with_errors(
    peer: Peer, *, incoming: ApiError | None = None, outgoing: ApiError | None = None
) -> Peer:
    """`peer` with communication errors."""
    return replace(peer, incoming_error=incoming, outgoing_error=outgoing)
