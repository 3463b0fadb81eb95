"""Since when the batches are known of which a worker claims one lot after the other."""

import asyncio

from service.domain.ids import BatchId
from service.domain.pairing import Pairing

_MOST = 1000


class KnownBatches:
    """A batch is accepted as a whole: when the first of it was claimed the others were there
    already, and no other pairing of their appliances was. The last thousand are remembered."""

    def __init__(self) -> None:
        self._known_since: dict[BatchId, float] = {}

    def quiet_since(self, pairing: Pairing) -> float:
        """Since when (loop time) nobody has called an appliance for the two that are to be paired:
        since their batch is known, unless somebody began with this one; else since now."""
        now = asyncio.get_running_loop().time()
        if pairing.batch is None:
            return now
        known_since = self._known_since.setdefault(pairing.batch, now)
        if len(self._known_since) > _MOST:
            del self._known_since[next(iter(self._known_since))]
        return known_since if pairing.is_untouched else now
