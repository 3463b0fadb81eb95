"""From the body of a batch to the requests in it."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from service.api.bodies import LIMIT, decode
from service.api.contract import Operation
from service.api.faults import Fault
from service.api.items import Judge, unfit
from service.api.refusals import BodyTooLarge, InvalidRequest, MalformedBody
from service.api.requests import pairing_request
from service.api.uploads import MOST_ITEMS, Spool
from service.api.validation import Asked, read_body
from service.store.bulk import BatchRequest, Item, Unacceptable
from service.store.intake import PairingRequest

_LARGEST_OTHERS = 1024 * 1024
_OF_AN_ITEM = re.compile(r"/items/([0-9]+)(/.*)?")
_TOO_LONG = Unacceptable(BodyTooLarge.__name__, str(BodyTooLarge(LIMIT, "A line")))


class _ItemsAlone(msgspec.Struct, forbid_unknown_fields=True):
    items: list[msgspec.Raw]


def of_lines(spool: Spool, total: int, judge: Judge, *, is_atomic: bool) -> BatchRequest:
    """The batch that has an item on each line that is not empty, `total` of them."""

    def items() -> Iterator[Item]:
        for line in spool.lines():
            yield judge.judge(line) if line is not None else _TOO_LONG

    return BatchRequest(items, total, is_atomic)


def of_json(spool: Spool, operation: Operation, judge: Judge, *, is_atomic: bool) -> BatchRequest:
    """The batch that this JSON asks for; while it waits for its turn, little of it is in memory.
    Raises MalformedBody, InvalidRequest."""
    content = spool.content()
    alone = _items_alone(content)
    if alone is not None:

        def taken_apart() -> Iterator[Item]:
            for each in _items_alone(spool.content()) or ():
                yield judge.judge(bytes(each))

        return BatchRequest(taken_apart, len(alone), is_atomic)
    if len(content) > _LARGEST_OTHERS:
        raise MalformedBody(
            f'A body of more than {_LARGEST_OTHERS} bytes has to be {{"items": [...]}}, in JSON, '
            "without unpaired surrogates."
        )
    body, faults = read_body(operation, decode(content))
    asked_for: Mapping[str, Any] = body if isinstance(body, dict) else {}
    unjudged, faulty = _by_item(faults)
    Asked({}, body, tuple(unjudged)).insist(*_hub_faults(asked_for.get("topology")))
    if "items" in asked_for:
        texts = [json.dumps(item).encode() for item in asked_for["items"]]

        def listed() -> Iterator[Item]:
            for index, text in enumerate(texts):
                yield faulty.get(index) or judge.judge(text)

        return BatchRequest(listed, len(texts), is_atomic)
    topology = asked_for["topology"]
    rest = {name: value for name, value in asked_for.items() if name != "topology"}

    def items() -> Iterator[PairingRequest]:
        for couple in _couples(topology):
            yield pairing_request(Asked({}, {**rest, "appliances": couple}, ()))

    return BatchRequest(items, sum(1 for _ in _couples(topology)), is_atomic)


def _items_alone(content: bytes) -> list[msgspec.Raw] | None:
    """The items, unread, if the body has nothing else. Raises InvalidRequest."""
    try:
        items = msgspec.json.decode(content, type=_ItemsAlone).items
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(items) > MOST_ITEMS:  # Before each is looked at, for they may be millions.
        raise InvalidRequest([Fault(f"must have at most {MOST_ITEMS} items", "/items")])
    # Of two fields of the same name the last one is read: then there are more colons.
    if content.count(b":") != 1 + sum([bytes(each).count(b":") for each in items]):
        return None
    if not items:
        raise InvalidRequest([Fault("must have at least 1 items", "/items")])
    return items


def _by_item(faults: Sequence[Fault]) -> tuple[list[Fault], Mapping[int, Unacceptable]]:
    """Those that are not about an item, and what is wrong with each item that others are about."""
    others: list[Fault] = []
    of_items: defaultdict[int, list[Fault]] = defaultdict(list)
    for fault in faults:
        found = _OF_AN_ITEM.fullmatch(fault.pointer or "")
        if found is None:
            others.append(fault)
        else:
            of_items[int(found[1])].append(Fault(fault.detail, found[2] or ""))
    return others, {index: unfit(about) for index, about in of_items.items()}


def _couples(topology: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who is to be paired with whom, in the contract's order."""
    if "mesh" in topology:
        return combinations(topology["mesh"], 2)
    return ((topology["hub"], spoke) for spoke in topology["spokes"])


def _hub_faults(topology: object) -> Iterator[Fault]:
    """What no schema can say: that the hub is none of its spokes."""
    match topology:
        case {"hub": str(hub), "spokes": [*spokes]} if hub in spokes:
            yield Fault("must not be the hub", f"/topology/spokes/{spokes.index(hub)}")
