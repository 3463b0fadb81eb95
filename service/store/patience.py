"""Trying again, for a while, what the database could not be asked."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from service.domain.backoff import backoff_s
from service.domain.errors import StoreUnavailable
from service.observe.events import StoreTroubled
from service.observe.logging import emit
from service.store.errors import Locked, RolledBack

CALLERS_S = 5.0
"""How long callers, who wait for an answer, are kept waiting for what the database could not be
asked."""

TRIES = 5
"""How often the database may undo something to help somebody else, without a pause in between."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0

Result = TypeVar("Result")


class Patience:
    """Of one writer, for what does no harm when it is done again. `repeats` counts what was done
    again because the database had undone it."""

    def __init__(
        self, doing: str, patience_s: float, jitter: Callable[[], float] = random.random
    ) -> None:
        """`doing` is for the log. `jitter` gives [0, 1)."""
        self.repeats = 0
        self._doing = doing
        self._patience_s = patience_s
        self._jitter = jitter

    async def see_through(
        self,
        attempt: Callable[[], Awaitable[Result]],
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> Result:
        """What `attempt` returns in the end. `on_trouble` is told why it is in doubt, once.

        Raises StoreUnavailable when patience, which begins with the trouble, is over.
        """
        clock = asyncio.get_running_loop().time
        until: float | None = None
        for failures in count(1):
            try:
                return await attempt()
            except RolledBack as undone:
                undone.in_doubt |= until is not None
                if isinstance(undone, Locked) or failures >= TRIES:
                    raise
                self.repeats += 1
            except StoreUnavailable as trouble:
                if until is None:
                    until = clock() + self._patience_s
                    on_trouble(str(trouble))
                if clock() >= until:
                    raise
                emit(StoreTroubled(doing=self._doing, error=str(trouble)))
                await asyncio.sleep(min(self._pause_s(failures), until - clock()))
        raise AssertionError("counting never ends")

    def _pause_s(self, failures: int) -> float:
        return backoff_s(failures, self._jitter(), base_s=_FIRST_PAUSE_S, cap_s=_LONGEST_PAUSE_S)
