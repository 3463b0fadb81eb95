"""What the first event of a pairing says, spelt at once."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain import chain
from service.domain.author import Author
from service.domain.events import PairingAccepted
from service.domain.ids import ApplianceName, OperationId
from service.domain.pairing import ChainPosition, OnFailure, Operation
from service.store.intake import PairingRequest, _candidate
from service.store.rows import to_text

AUTHOR = Author("admin", OperationId("order-1"))


@given(st.text(), st.sampled_from(Operation), st.sampled_from(OnFailure), st.integers(0, 2**53))
def test_a_pairing_begins_its_chain_as_its_event_would(
    description: str, operation: Operation, on_failure: OnFailure, now: int
) -> None:
    couple = ApplianceName("a"), ApplianceName('"b\\')
    request = PairingRequest(couple, operation, description, 60, -1, on_failure)
    candidate = _candidate(request, AUTHOR, None, now)
    event = PairingAccepted(couple, str(operation), to_text(description), 60, -1, str(on_failure))
    pairing = candidate.pairing
    entry = chain.append(
        event,
        ChainPosition(),
        chain=pairing.id,
        at=now,
        actor=AUTHOR.user,
        operation_id=AUTHOR.operation_id,
    )
    assert (pairing.position.seq, pairing.position.hash) == (entry.seq, entry.hash)
    assert candidate.detail == entry.detail
