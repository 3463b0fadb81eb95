"""Cursors: where a page ended, so that only we can have said it.

A cursor is the place of the last item and a MAC. That of a page of pairings is over the filters as
well, so it is not taken for others. That of an audit event is the event's id, whatever the filters:
one order holds for all of them. That of a page of appliances is the last one's name.
"""

import base64
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from service.domain.ids import ApplianceName, PairingId
from service.store.audit import Place
from service.store.pairings import PairingFilter

_MAC_BYTES = 16
_PLACE = struct.Struct(">Q16sQ")


class ForeignCursor(ValueError):
    """The cursor was not made here, or for other filters."""


@dataclass(frozen=True, slots=True)
class Cursors:
    """Makes cursors with the first of `keys`, and reads those of all. Processes that share a key
    take each other's."""

    keys: Sequence[bytes] = field(repr=False)

    def after(self, last: PairingId, filters: PairingFilter) -> str:
        """The cursor of the page behind `last`."""
        return self._sealed(last.bytes, _kind_of(filters))

    def position(self, cursor: str, filters: PairingFilter) -> PairingId:
        """The id that `cursor` stands behind. Raises ForeignCursor."""
        return PairingId(UUID(bytes=self._opened(cursor, _kind_of(filters))))

    def after_appliance(self, last: ApplianceName) -> str:
        """The cursor of the page of appliances behind `last`."""
        return self._sealed(last.encode(), _APPLIANCES)

    def appliance(self, cursor: str) -> ApplianceName:
        """The name that `cursor` stands behind. Raises ForeignCursor."""
        return ApplianceName(self._opened(cursor, _APPLIANCES).decode())

    def event_id(self, place: Place) -> str:
        """The id of the audit event at `place`."""
        return self._sealed(_PLACE.pack(place.xid, place.chain.bytes, place.seq), _EVENTS)

    def place(self, event_id: str) -> Place:
        """Where the event with this id stands. Raises ForeignCursor."""
        xid, chain, seq = _PLACE.unpack(self._opened(event_id, _EVENTS))
        return Place(xid, UUID(bytes=chain), seq)

    def _sealed(self, content: bytes, kind: bytes) -> str:
        return _encoded(content + _mac(self.keys[0], content, kind))

    def _opened(self, cursor: str, kind: bytes) -> bytes:
        try:
            decoded = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError as error:
            raise ForeignCursor from error
        content, mac = decoded[:-_MAC_BYTES], decoded[-_MAC_BYTES:]
        ours = [_mac(key, content, kind) for key in self.keys]
        if not any(hmac.compare_digest(mac, each) for each in ours):
            raise ForeignCursor
        if cursor != _encoded(decoded):
            raise ForeignCursor  # the last character has bits to spare: one cursor, one spelling
        return content


def _mac(key: bytes, content: bytes, kind: bytes) -> bytes:
    return hmac.digest(key, kind + content, "sha256")[:_MAC_BYTES]


_EVENTS = b"events\0"
_APPLIANCES = b"appliances\0"


def _kind_of(filters: PairingFilter) -> bytes:
    spelt = msgspec.json.encode(msgspec.to_builtins(filters), order="sorted")
    return b"pairings\0" + spelt + b"\0"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
