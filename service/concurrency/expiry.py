"""Thousands who wait, each until a time of their own: one timer does for all of them."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

_REST_S = 0.05
"""The timer rings no more often than this, so who has waited long enough may be told so much later:
one look at all who wait does for all whose time was over by then."""


def turn_away(waiting: asyncio.Future[Any], error: Exception) -> None:
    """Raise `error` in who waits, unless that is over."""
    if not waiting.done():
        waiting.set_exception(error)


class Expiry:
    """One timer for all who wait, set for the first of them."""

    def __init__(self, expire: Callable[[float], float]) -> None:
        """`expire` turns away whose time is over by the time given (loop time), and returns when
        that of the next one is; inf if there is none."""
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    def heed(self, until: float) -> None:
        """Somebody waits until then (loop time), inf for ever."""
        if until == inf or (self._timer is not None and self._timer.when() <= until):
            return
        self.stop()
        self._timer = asyncio.get_running_loop().call_at(until, self._ring)

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        self.heed(max(self._expire(now), now + _REST_S))
