"""A pairing's state made anew from nothing but its audit trail."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from msgspec.structs import replace

from service.domain import events, transitions
from service.domain.appliance import ApiError
from service.domain.events import Entry, Event, PairingAccepted
from service.domain.pairing import ChainPosition, OnFailure, Operation, Pairing, Side
from tests.support.chain import first_misfit

_EVENTS = {kind.__name__: kind for kind in get_args(Event)}


def misfits(stored: Pairing, entries: Sequence[Entry]) -> list[str]:
    """What of `stored` does not follow from its events; and the first event that does not fit."""
    broken = first_misfit(entries, stored.position)
    if broken is not None:
        return [f"its chain breaks: {broken}"]
    replayed = _first(stored, entries[0])
    for entry in entries[1:]:
        try:
            replayed = transitions.apply(replayed, _event(entry), entry.at)
        except Exception as error:  # noqa: BLE001 - whatever it is, the trail does not fit
            return [f"event {entry.seq}, {entry.type}, does not follow: {error!r}"]
        replayed = replayed.at_position(ChainPosition(entry.seq, entry.hash))
    pairs = ((name, getattr(stored, name), getattr(replayed, name)) for name in _COMPARED)
    found = [f"{name} is {a!r}, its events say {b!r}" for name, a, b in pairs if a != b]
    for one, other in zip(stored.sides, replayed.sides, strict=True):
        found += [
            f"{name} of '{one.appliance}' is {getattr(one, name)!r}, its events say "
            f"{getattr(other, name)!r}"
            for name in _COMPARED_OF_SIDES
            if getattr(one, name) != getattr(other, name)
        ]
    return found + _other_errors(stored, replayed)


_COMPARED = (
    "state",
    "phase",
    "last_updated",
    "deadline",
    "end_time",
    "is_canceling",
    "position",
)
_COMPARED_OF_SIDES = (
    "state",
    "task_id",
    "start_time",
    "end_time",
    "attempts",
    "call",
    "losses",
    "asked_thumbprint",
    "asked_url",
    "called_url",
    "peer_id",
)


def _other_errors(stored: Pairing, replayed: Pairing) -> list[str]:
    """Errors are compared without their stack traces, which the trail does not keep."""
    pairs = [("error", stored.error, replayed.error)]
    pairs += [
        (f"error of '{one.appliance}'", one.error, other.error)
        for one, other in zip(stored.sides, replayed.sides, strict=True)
    ]
    found = [f"{n} is {a!r}, its events say {b!r}" for n, a, b in pairs if _bare(a) != _bare(b)]
    if [_bare(each) for each in stored.warnings] != [_bare(each) for each in replayed.warnings]:
        found.append(f"warnings are {stored.warnings!r}, its events say {replayed.warnings!r}")
    return found


def _bare(error: ApiError | None) -> ApiError | None:
    return replace(error, stacktrace=None) if error is not None else None


def _first(stored: Pairing, entry: Entry) -> Pairing:
    accepted = _event(entry)
    assert isinstance(accepted, PairingAccepted)
    one, other = accepted.appliances
    return Pairing(
        id=stored.id,
        operation=Operation(accepted.operation),
        sides=(Side(one, other), Side(other, one)),
        operation_id=entry.operation_id,
        user=entry.actor,
        start_time=entry.at,
        last_updated=entry.at,
        timeout_s=accepted.timeout_s,
        deadline=entry.at + accepted.timeout_s * 1000,
        on_failure=OnFailure(accepted.on_failure),
        description=accepted.description,
        priority=accepted.priority,
        position=ChainPosition(entry.seq, entry.hash),
    )


def _event(entry: Entry) -> Any:
    kind = _EVENTS[entry.type]
    detail = json.loads(entry.detail)
    values = {
        name: _value(detail[_camel(name)]) for name in kind.__struct_fields__ if name != "side"
    }
    return kind(**values, **({"side": entry.appliance} if issubclass(kind, _ON_A_SIDE) else {}))


_ON_A_SIDE = get_args(events.SideEvent)


def _value(plain: object) -> object:
    if isinstance(plain, Mapping) and set(plain) == {"code", "msg", "args"}:
        return ApiError(str(plain["code"]), str(plain["msg"]), tuple(plain["args"]))
    if isinstance(plain, Mapping):
        return json.dumps(plain).encode()  # As an appliance sent it.
    if isinstance(plain, list):
        return tuple(plain)
    return plain


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
