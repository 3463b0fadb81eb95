"""What of a batch is not accepted, as text from the moment that it arises.

It may be a hundred thousand items, of which the row, the answer and its replay need the text alone.
"""

from collections.abc import Sequence

from service.domain.batch import Rejection
from service.domain.errors import LISTED_REJECTIONS
from service.store.rows import to_json


class Rejections:
    """Those of one batch."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[Rejection] = []
        """As many as a refusal of the whole lists."""
        self._text = bytearray(b"[")

    def add(self, rejections: Sequence[Rejection]) -> None:
        """Those of items that come after all that were added before."""
        if not rejections:
            return
        self.first += rejections[: LISTED_REJECTIONS - len(self.first)]
        self._text += b"," if self.count else b""
        listed = [
            {"index": each.index, "code": each.code, "detail": each.detail} for each in rejections
        ]
        self._text += to_json(listed)[1:-1].encode()
        self.count += len(rejections)

    def spelt(self) -> bytearray:
        """All of them as a JSON array, in ASCII; nothing is to be added any more."""
        self._text += b"]"
        return self._text
