"""An event loop whose clock goes on while the machine is suspended. All commands run on it, except
`simulate`, which has no lease."""

import asyncio
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SuspendAwareLoop(asyncio.SelectorEventLoop):
    """The clock of asyncio's own loop stands still during a suspension, the database's does not: a
    worker that wakes up would believe in a lease that is over (`engine/lease.py`).

    A timer that fell due meanwhile may fire late, because the wait that was under way goes on for
    what was left of it. Only Linux has such a clock; elsewhere it is asyncio's own.
    """

    def time(self) -> float:
        """Seconds since some moment; never set back."""
        return time.clock_gettime(_CLOCK)
