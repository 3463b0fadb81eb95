"""The items of a batch: each judged by itself, as a request for a pairing."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.api import strictjson
from service.api.bodies import decode
from service.api.contract import Schema
from service.api.faults import Fault
from service.api.refusals import InvalidRequest, MalformedBody
from service.api.requests import DEFAULTS, pairing_request
from service.api.validation import Asked
from service.domain.ids import ApplianceName, is_appliance_name
from service.domain.pairing import OnFailure, Operation
from service.store.bulk import Item, Unacceptable
from service.store.intake import PairingRequest

_LONGEST_DETAIL = 200
"""Characters. There may be a hundred thousand of them in one answer."""
_MOST_FAULTS = 20
"""More do not fit into so many."""
_KNOWN_NAMES = 10_000


class _QuickItem(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """What most items look like."""

    appliances: tuple[str, str]
    operation: Operation | UnsetType = UNSET
    on_failure: OnFailure | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET
    timeout_seconds: Annotated[int, Meta(ge=1, le=86400)] | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-100, le=100)] | UnsetType = UNSET


_QUICK = msgspec.json.Decoder(_QuickItem)


class Judge:
    """Judges items by the contract.

    Nearly all are without fault, and that is seen in a tenth of the time that it takes to find all
    faults of one: what is not plainly right is judged thoroughly, as any request is. So the quick
    way may doubt what it likes, but must let nothing pass that the thorough one would not.
    """

    def __init__(self, schema: Schema) -> None:
        """`schema` is the contract's for a request for a pairing."""
        self._schema = schema
        self._names: set[str] = set()

    def judge(self, text: bytes) -> Item:
        """The request that `text` is, or what is wrong with it."""
        return self._quickly(text) or self.thoroughly(text)

    def _quickly(self, text: bytes) -> PairingRequest | None:
        try:
            item = _QUICK.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        fields = (
            item.operation, item.on_failure, item.description, item.timeout_seconds, item.priority
        )  # fmt: skip
        # Each field that was read has a colon. If there are more, one came twice, or stands in a
        # text; what an escape stands for may be no character.
        if text.count(b":") != 6 - fields.count(UNSET) or b"\\" in text:
            return None
        one, other = item.appliances
        if one == other or not (self._is_name(one) and self._is_name(other)):
            return None
        return _request(item)

    def _is_name(self, text: str) -> bool:
        if text in self._names:
            return True
        if is_appliance_name(text):
            if len(self._names) < _KNOWN_NAMES:
                self._names.add(text)
            return True
        return False

    def thoroughly(self, text: bytes) -> Item:
        """The same, whatever `text` looks like."""
        try:
            parsed = strictjson.parse(decode(text.rstrip(b"\r\n")))
            faults = [*parsed.faults, *self._schema.faults(parsed.value, _MOST_FAULTS)]
            return pairing_request(Asked({}, parsed.value, tuple(faults)))
        except (strictjson.NotJson, MalformedBody) as error:
            told = str(error).replace("The body", "The item", 1)
            return Unacceptable(MalformedBody.__name__, told)
        except InvalidRequest as error:
            return unfit(error.faults)


def _request(item: _QuickItem) -> PairingRequest:
    one, other = item.appliances
    return PairingRequest(
        (ApplianceName(one), ApplianceName(other)),
        DEFAULTS.operation if item.operation is UNSET else item.operation,
        DEFAULTS.description if item.description is UNSET else item.description,
        DEFAULTS.timeout_seconds if item.timeout_seconds is UNSET else item.timeout_seconds,
        DEFAULTS.priority if item.priority is UNSET else item.priority,
        DEFAULTS.on_failure if item.on_failure is UNSET else item.on_failure,
    )


def unfit(faults: Sequence[Fault]) -> Unacceptable:
    """An item that has these."""
    told = "; ".join(
        f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail for fault in faults
    )
    is_short = len(told) <= _LONGEST_DETAIL
    return Unacceptable(
        "InvalidBody",
        told if is_short else told[: _LONGEST_DETAIL - 1] + "\N{HORIZONTAL ELLIPSIS}",
    )
