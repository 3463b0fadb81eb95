"""What of a batch is not accepted, as text from the moment that it arises.

It may be a hundred thousand items. So what is long is stored in pieces, each a row of its own, and
neither who writes it nor who answers with it ever holds more than one of them.
"""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import text

from service.domain.batch import Rejection
from service.domain.errors import LISTED_REJECTIONS, StoreUnavailable
from service.domain.ids import BatchId
from service.store.database import Database
from service.store.rows import to_json

PIECE = 256 * 1024
"""So many bytes are a piece, with what else comes in the same lot. Fewer in all are stored with the
batch itself."""

# No row at all if the batch is gone: what was told of it by then is not the whole.
_NEXT = text(
    """
    select piece.place, convert_to(cast(piece.items as text), 'UTF8') as items
    from batch as b
    left join lateral (
      select r.place, r.items from batch_rejection as r
      where r.batch = b.id and r.place > :place
      order by r.place
      limit 1
    ) as piece on true
    where b.id = :batch
    """
)


class Rejections:
    """Those of one batch, as far as they are not stored yet."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[Rejection] = []
        """As many as a refusal of the whole lists."""
        self.pieces = 0
        """So many were taken."""
        self._text = bytearray(b"[")

    def add(self, rejections: Sequence[Rejection]) -> None:
        """Those of items that come after all that were added before."""
        if not rejections:
            return
        self.first += rejections[: LISTED_REJECTIONS - len(self.first)]
        self._text += b"," if len(self._text) > 1 else b""
        listed = [
            {"index": each.index, "code": each.code, "detail": each.detail} for each in rejections
        ]
        self._text += to_json(listed)[1:-1].encode()
        self.count += len(rejections)

    def take_piece(self, *, is_last: bool = False) -> str | None:
        """The next piece, a JSON array in ASCII, to be stored in its place; None as long as there
        is not enough for one, or, with the last one, if nothing is left."""
        if len(self._text) < (2 if is_last else PIECE):
            return None
        self.pieces += 1
        return self._take().decode()

    def spelt(self) -> bytes | None:
        """All of them as a JSON array, in ASCII; None if any were taken. Nothing is to be added any
        more."""
        return None if self.pieces else bytes(self._take())

    def _take(self) -> bytearray:
        taken, self._text = self._text, bytearray(b"[")
        taken += b"]"
        return taken


async def stored_pieces(database: Database, batch: BatchId) -> AsyncIterator[bytes]:
    """The pieces of a batch in their order, each a JSON array. Raises StoreUnavailable, also when
    the batch is removed meanwhile."""
    place = 0
    while rows := await database.run(_NEXT, {"batch": batch, "place": place}):
        [row] = rows
        if row.place is None:
            return
        place = row.place
        yield row.items
    raise StoreUnavailable("the batch was removed meanwhile")
