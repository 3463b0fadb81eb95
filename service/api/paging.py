"""Cursors: where a page ended, so that only we can have said it.

A cursor is the id of the last item and a MAC over that id and the filters, so neither an edited
one nor one that is carried over to other filters is taken.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from service.domain.ids import PairingId
from service.store.pairings import PairingFilter

_ID_BYTES = 16
_MAC_BYTES = 16


class ForeignCursor(ValueError):
    """The cursor was not made here, or for other filters."""


@dataclass(frozen=True, slots=True)
class Cursors:
    """Makes and reads cursors. Processes that share `key` take each other's."""

    key: bytes = field(repr=False)

    def after(self, last: PairingId, filters: PairingFilter) -> str:
        """The cursor of the page behind `last`."""
        return _encoded(last.bytes + self._mac(last.bytes, filters))

    def position(self, cursor: str, filters: PairingFilter) -> PairingId:
        """The id that `cursor` stands behind. Raises ForeignCursor."""
        try:
            content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError) as error:
            raise ForeignCursor from error
        last, mac = content[:_ID_BYTES], content[_ID_BYTES:]
        if not hmac.compare_digest(mac, self._mac(last, filters)):
            raise ForeignCursor
        if cursor != _encoded(content):
            raise ForeignCursor  # the last character has bits to spare: one cursor, one spelling
        return PairingId(UUID(bytes=last))

    def _mac(self, last: bytes, filters: PairingFilter) -> bytes:
        content = msgspec.json.encode(msgspec.to_builtins(filters), order="sorted")
        return hmac.digest(self.key, b"pairings\0" + last + content, "sha256")[:_MAC_BYTES]


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
