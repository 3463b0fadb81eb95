"""The event loop of the commands, but `simulate`, which has no lease: its clock goes on while the
machine is suspended."""

import asyncio
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SuspendAwareLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop has a clock that stands still meanwhile, while the database's goes on: a
    worker that woke up would take its lease for as long as it was before (`engine/lease.py`).

    What was due while the machine slept may come later than at once, by what was left of it.
    Elsewhere than on Linux it is asyncio's own.
    """

    def time(self) -> float:
        """Seconds since some moment; never set back."""
        return time.clock_gettime(_CLOCK)
