"""Claims pairings and drives each in a task of its own, as many at once as the window allows."""

import asyncio
from collections.abc import Callable, Sequence

from service.domain.appliance import ApiError
from service.domain.errors import LeaseLost, SitepairError, StoreUnavailable, UnknownAppliance
from service.domain.events import PairingFailed, PairingHandedBack
from service.domain.ids import PairingId, WorkerId
from service.domain.pairing import Assignment
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.ports import Ports
from service.engine.saga import drive
from service.observe.context import working_on
from service.observe.events import PairingCrashed, PairingDropped, StoreTroubled
from service.observe.logging import emit


class Worker:
    """One claiming loop. Cancelling `run` is the clean shutdown: what is driven is handed back.

    `trouble` says why the last claim failed, None when it went well; `handed_back` counts.
    """

    def __init__(
        self,
        worker_id: WorkerId,
        ports: Ports,
        *,
        clock: Callable[[], int],
        policy: Policy,
    ) -> None:
        """`clock` gives the time in ms for the record; waiting is the event loop's business."""
        self.handed_back = 0
        self.trouble: str | None = None
        self._name = f"worker-{worker_id}"
        self._claims = ports.claims
        self._journal = ports.journal
        self._fleet = ports.fleet
        self._wakeups = ports.wakeups
        self._clock = clock
        self._policy = policy
        self._driven = 0
        self._wants_slots = False
        self._dropped: list[PairingId] = []
        self._nudge = asyncio.Event()

    async def run(self) -> None:
        """Claim and drive until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear_of_work())
            while True:
                self._nudge.clear()
                if not await self._claim_into(tasks):
                    await self._nudge.wait()

    async def _hear_of_work(self) -> None:
        while True:
            await self._wakeups.wait(self._policy.idle_s)
            self._nudge.set()

    async def _claim_into(self, tasks: asyncio.TaskGroup) -> bool:
        """One claim; returns whether another one may find more at once."""
        free = self._policy.window - self._driven
        limit = min(free, self._policy.claim_size)
        claimed = await self._claim(limit) if free else ()
        for assignment in claimed:
            self._driven += 1
            tasks.create_task(self._drive(assignment))
        has_backlog = len(claimed) == limit
        self._wants_slots = has_backlog and limit == free
        return has_backlog and not self._wants_slots

    async def _claim(self, limit: int) -> Sequence[Assignment]:
        try:
            await self._release_dropped()
            claimed = await self._claims.claim(limit)
        except StoreUnavailable as trouble:
            self.trouble = str(trouble)
            emit(StoreTroubled(doing="claiming", error=self.trouble))
            return ()
        self.trouble = None
        return claimed

    async def _release_dropped(self) -> None:
        """Let go of what a fault of the database or of ours tore out of our hands, so that it is
        claimed again, from its stored state."""
        if self._dropped:
            await self._claims.release(self._dropped)
            self._dropped.clear()

    async def _drive(self, assignment: Assignment) -> None:
        pairing = assignment.pairing
        with working_on(operation_id=pairing.operation_id, pairing=str(pairing.id)):
            case = Case(assignment, self._journal, actor=self._name, clock=self._clock)
            try:
                await self._drive_to_its_end(case)
            except asyncio.CancelledError:
                await self._hand_back(case)
                raise
            finally:
                self._driven -= 1
                if self._wants_slots:
                    self._nudge.set()

    async def _drive_to_its_end(self, case: Case) -> None:
        try:
            await drive(case, self._fleet, self._policy, self._name)
        except* LeaseLost:
            emit(PairingDropped(reason="another worker owns it"))
        except* StoreUnavailable as troubles:
            self._drop(case, troubles)
        except* UnknownAppliance as gone:
            await self._give_up(case, ApiError("UnknownAppliance", str(gone.exceptions[0])))
        except* Exception as crash:  # noqa: BLE001 - a defect in one pairing must not stop the others
            emit(PairingCrashed(), error=crash)
            await self._give_up(case, ApiError("InternalError", "A defect of the service."))

    async def _give_up(self, case: Case, error: ApiError) -> None:
        try:
            await case.record(PairingFailed(error))
        except SitepairError as trouble:
            self._drop(case, trouble)

    def _drop(self, case: Case, cause: Exception) -> None:
        emit(PairingDropped(reason=str(cause)))
        self._dropped.append(case.pairing.id)
        self._nudge.set()

    async def _hand_back(self, case: Case) -> None:
        if case.pairing.is_over:
            return
        try:
            async with asyncio.timeout(self._policy.grace_s):
                await case.record(PairingHandedBack(self._name), release=True)
            self.handed_back += 1
        except (SitepairError, TimeoutError) as trouble:
            emit(PairingDropped(reason=f"not handed back: {trouble}"))
