"""The ground truth: what the appliances really did, whatever they answered.

Tests compare with this. `accepted` holds every mutating call that was taken, also when its answer
was lost; two for the same peer are two entries. `log` holds the latest calls of any kind.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["pair", "repair", "unpair"]


@dataclass(slots=True, eq=False)
class Accepted:
    """One mutating call that an appliance took. `peer` is a site's name, if the world knows it."""

    seq: int
    appliance: str
    method: str
    kind: Kind
    peer: str | None
    peer_id: str | None
    user: str
    operation_id: str | None
    task_id: str
    accepted_ms: int
    effect_ms: int | None = None
    outcome: Literal["SUCCEEDED", "FAILED", "ABANDONED"] | None = None
    changed: bool = False
    """Whether the appliance's peers were other ones before its effect than after."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One call as it arrived. `status` is None when no answer was given."""

    at_ms: int
    appliance: str
    method: str
    path: str
    user: str | None
    operation_id: str | None
    status: int | None


@dataclass(slots=True)
class Counts:
    """What one appliance counted since the last reset."""

    requests: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    without_operation_id: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    logins_accepted: int = 0
    logins_refused: int = 0
    connections: int = 0
    handshakes: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the control endpoint."""
        answers: dict[str, dict[str, int]] = {}
        for (template, status), count in self.answers.items():
            answers.setdefault(template, {})[str(status)] = count
        return {
            "requests": dict(self.requests),
            "answers": answers,
            "withoutOperationID": dict(self.without_operation_id),
            "faults": dict(self.faults),
            "loginsAccepted": self.logins_accepted,
            "loginsRefused": self.logins_refused,
            "connections": self.connections,
            "handshakes": self.handshakes,
        }


_LOG_SIZE = 20_000


class Truth:
    """The world's memory of what happened to it."""

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []
        self.log: deque[Logged] = deque(maxlen=_LOG_SIZE)
        self._counts: dict[str, Counts] = {}
        self._seq = 0

    def counts(self, appliance: str) -> Counts:
        """The counters of one appliance."""
        counts = self._counts.get(appliance)
        if counts is None:
            counts = self._counts[appliance] = Counts()
        return counts

    def next_seq(self) -> int:
        """Numbers acceptances in their order over all appliances."""
        self._seq += 1
        return self._seq

    def of(
        self,
        appliance: str | None = None,
        operation_id: str | None = None,
        kind: str | None = None,
    ) -> Iterator[Accepted]:
        """The accepted calls that fit every filter given."""
        for entry in self.accepted:
            if (
                appliance in {None, entry.appliance}
                and operation_id in {None, entry.operation_id}
                and kind in {None, entry.kind}
            ):
                yield entry

    def reset(self) -> None:
        """Forget all; tasks under way still take effect, unrecorded. Numbers go on."""
        self.accepted.clear()
        self.log.clear()
        self._counts.clear()


def entry_json(entry: Accepted) -> dict[str, Any]:
    """An accepted call for the control endpoint."""
    return {_camel(name): value for name, value in asdict(entry).items()}


def call_json(call: Logged) -> dict[str, Any]:
    """A logged call for the control endpoint."""
    return {_camel(name): value for name, value in asdict(call).items()}


def _camel(name: str) -> str:
    if name == "operation_id":
        return "operationID"
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
