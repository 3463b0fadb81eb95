"""Wishes to cancel. A wish is noted beside a pairing; who drives it takes it into the chain."""

from sqlalchemy import text

from service.domain.author import Author
from service.domain.errors import PairingOver
from service.domain.ids import PairingId
from service.domain.pairing import Pairing, PairingState
from service.store.database import Database
from service.store.pairings import Pairings

# Whoever asks again, or when it is over, changes nothing. A pairing that is set aside becomes due.
_WISH = text(
    """
    with wanted as (
      update pairing
      set cancel_user = :user, cancel_operation_id = :operation_id, waits_for = null
      where id = :id and end_time is null and cancel_user is null
      returning id
    )
    select pg_notify(channel, '')
    from unnest(array['sitepair_due', 'sitepair_cancel']) as channel
    where exists (select from wanted)
    """
)


class Cancels:
    """Takes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pairings = Pairings(database)

    async def request(self, pairing_id: PairingId, author: Author) -> Pairing:
        """Have the pairing canceled, as soon as may be; the pairing as it stands.

        Asking again changes nothing. Raises UnknownPairing, PairingOver if it succeeded or failed,
        StoreUnavailable.
        """
        wish = {"id": pairing_id, "user": author.user, "operation_id": author.operation_id}
        await self._database.run(_WISH, wish)
        pairing = await self._pairings.get(pairing_id)
        if pairing.state in {PairingState.SUCCEEDED, PairingState.FAILED}:
            raise PairingOver(pairing_id, pairing.state.value)
        return pairing
