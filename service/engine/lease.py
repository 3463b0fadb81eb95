"""Who may write and who may call, and why two workers never do so for the same pairing.

A worker proves that it lives by a row that it beats every few seconds. The row's time is the
database's own, so no two clocks are ever compared. Another worker that finds the row older than
its lease removes it, frees the pairings of the dead one and raises their epochs, all in one
transaction. What is locked at that moment stays the dead one's until the next burial, so that no
lock of somebody else's keeps the living from beating.

*Who may write.* Every write of the journal is bound to the epoch under which its pairing was
claimed. Once it is freed, no write of the dead worker takes effect; it needs no clock for that.

*Who may call.* A call to an appliance cannot be fenced: the appliance knows no epochs. So a worker
calls only while nobody can have buried it, and until the call is over. It measures the lease from
the moment before it *sent* a beat that was confirmed, by its event loop's clock, which is never
set, and goes on while the machine is suspended (`eventloop.py`); the database noted that beat later
than that, so the worker's idea of its lease always ends before the database's. A call may take
`call_s`; it is sent only if the lease outlasts that, which is asked at the last moment before the
first byte leaves. For as long, and no longer, the kernel sends again what was lost on its way,
whatever has become of the worker (`appliance/dialing.py`).

What follows from each failure:

1. The worker is killed. Its row grows old, its pairings are claimed by others. What it asked of an
   appliance is on record as intended, and is looked for.
2. The worker is stopped for a while, or its machine suspended, then goes on. Its lease is over by
   its own clock: it calls nobody. Its next beat finds no row: all that it drives is dropped, and it
   begins anew under another id.
3. The worker cannot reach the database. It cannot beat, so it calls nobody once its lease is
   nearly over; the others bury it.
4. Nobody can reach the database. Nobody beats and nobody buries. When it is back every row is old,
   so nobody is buried before they have had the time of a lease to beat again.
5. The worker's clock runs slow by a share `s` of the lease. It may call for `s * lease_s` longer
   than it should; calls would have to take their longest for that to matter.
6. The machine stands still and none of its clocks tells (a virtual one that is frozen; any but
   Linux that is suspended). For up to `lease_s - call_s` after it goes on it may call for a pairing
   that is somebody else's. So may the kernel after any suspension, for what is left of `call_s` by
   its own clock, with a call that left just before and was lost on its way.
"""

import asyncio
from collections.abc import Callable
from math import inf

from service.domain.errors import LeaseTooShort, StoreUnavailable
from service.engine.policy import Policy
from service.engine.ports import Heartbeat
from service.observe.events import HeartbeatLate, StoreTroubled
from service.observe.logging import emit

_JUST_AFTER_S = 0.02


class Lease:
    """This worker's. `permit` is a `ports.Permit`."""

    def __init__(
        self, heartbeat: Heartbeat, policy: Policy, on_beat: Callable[[int], None] = lambda _: None
    ) -> None:
        """`on_beat` is told how many workers live, this one among them."""
        self._heartbeat = heartbeat
        self._on_beat = on_beat
        self._policy = policy
        self._until = -inf
        self._is_late = False
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def left_s(self) -> float:
        """Seconds for which nobody else can own what this worker claimed; negative: somebody
        may."""
        return self._until - asyncio.get_running_loop().time()

    def permit(self) -> None:
        """Return if a call that is sent now is over before the lease is. Raises LeaseTooShort."""
        if self.left_s < self._policy.call_s:
            raise LeaseTooShort

    async def begin(self) -> None:
        """Return when this worker is known to live, however long the database takes."""
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._heartbeat.join(self._policy.lease_s)
            except StoreUnavailable as trouble:
                failures += 1
                emit(StoreTroubled(doing="joining", error=str(trouble)))
                await asyncio.sleep(min(self._policy.pause_s(failures), self._policy.beat_s))
            else:
                self._until = began + self._policy.lease_s
                return

    async def keep(self) -> None:
        """Beat, and bury who does not, until cancelled. Raises DeclaredDead."""
        clock = asyncio.get_running_loop().time
        self._set_alarm()
        try:
            while True:
                began, next_s = clock(), None
                try:
                    living = await self._heartbeat.beat()
                    self._is_late = self._is_late and self.left_s < self._policy.lease_s / 2
                    self._until = began + self._policy.lease_s
                    self._set_alarm()
                    self._on_beat(living)
                    next_s = await self._heartbeat.bury()
                except StoreUnavailable as trouble:
                    emit(StoreTroubled(doing="beating", error=str(trouble)))
                rest_s = max(0.0, began + self._policy.beat_s - clock())
                # Whoever dies is buried on time, not up to a beat later.
                await asyncio.sleep(min(rest_s, inf if next_s is None else next_s + _JUST_AFTER_S))
        finally:
            self._stop_alarm()

    def _set_alarm(self) -> None:
        """For when half of the lease is gone: a database that hangs may not answer for longer."""
        self._stop_alarm()
        half_gone = self._until - self._policy.lease_s / 2
        self._alarm = asyncio.get_running_loop().call_at(half_gone, self._tell_late)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _tell_late(self) -> None:
        """Once, until a beat has got through again before half of the lease was gone."""
        if not self._is_late:
            self._is_late, left_s = True, self.left_s
            late_s = self._policy.lease_s - left_s - self._policy.beat_s
            emit(HeartbeatLate(late_s=round(late_s, 3), left_s=round(left_s, 3)))

    async def end(self) -> None:
        """Live no more: what is still owned is due for others. Raises StoreUnavailable."""
        self._until = -inf
        await self._heartbeat.leave()
