"""Claims pairings and drives each in a task of its own, as many at once as the window allows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from math import inf

from service.concurrency.leisure import leisure
from service.concurrency.semaphore import FairSemaphore
from service.domain.appliance import ApiError
from service.domain.author import Author
from service.domain.errors import (
    LeaseLost,
    SitepairError,
    StoreUnavailable,
    UnknownAppliance,
    Unwanted,
)
from service.domain.events import PairingHandedBack
from service.domain.ids import PairingId, WorkerId
from service.domain.pairing import Assignment, Claimed, PairingState
from service.engine.batches import KnownBatches
from service.engine.breakers import BreakerKeeper
from service.engine.case import Case, Driver
from service.engine.defects import DEFECT
from service.engine.lease import Lease
from service.engine.policy import Policy
from service.engine.ports import Ports
from service.engine.saga import drive
from service.engine.surrender import surrender
from service.observe.context import WorkContext, context_for
from service.observe.events import (
    PairingCrashed,
    PairingDropped,
    StoreTroubled,
)
from service.observe.figures import WorkerFigures
from service.observe.logging import emit

_NOTHING = Claimed((), has_more=False)
_BEGUN_AT_ONCE = 64
_WRITTEN_AT_ONCE = 1000
"""Of thousands that are claimed, or noted, at one moment, each would hold what a step takes until
all had come through it."""

_PART = 8
"""A lot adds so small a part to what is driven, where that is much."""

_BUSY_S = 0.5
"""However busy the worker's process is, another lot is begun after this."""


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
        self.lease = Lease(ports.heartbeat, policy, self._heard_of)
        self.id = worker_id
        self._driver = Driver(f"worker-{worker_id}", clock, self.lease.permit)
        self._ports = ports
        self._policy = policy
        self._breakers = BreakerKeeper(ports, policy)
        self._cases: dict[PairingId, Case] = {}
        self._batches = KnownBatches()
        self._slots = FairSemaphore(policy.window)
        self._driven = 0
        self._is_full = False
        self._is_more_due = False
        self._is_alone = False
        self._doubts_until = -inf
        self._nudge = asyncio.Event()

    @property
    def _room(self) -> int:
        # What others could drive at once is left to them.
        ahead = self._policy.ahead if self._is_alone else 0
        return self._policy.window + ahead - len(self._cases)

    @property
    def _lot(self) -> int:
        # Of many that are driven, most wait for tasks that take long: there is time for more.
        return max(self._policy.lot, min(self._driven // _PART, self._policy.claim_size))

    @property
    def figures(self) -> WorkerFigures:
        """How it is doing."""
        return WorkerFigures(self._driven, self.lease.left_s, self._breakers.closed)

    async def run(self) -> None:
        """Claim and drive until cancelled. Raises DeclaredDead, in an exception group."""
        await self.lease.begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.lease.keep())
                tasks.create_task(self._breakers.run())
                tasks.create_task(self._hear_of_work())
                tasks.create_task(self._hear_of_wishes())
                tasks.create_task(self._write_notes())
                while True:
                    self._nudge.clear()
                    for number, case in enumerate(await self._claim_all(), start=1):
                        tasks.create_task(self._drive(case), name="pairing", context=_on(case))
                        if number % _BEGUN_AT_ONCE == 0:
                            await asyncio.sleep(0)  # Those before get on first.
                    if self._is_more_due:
                        await leisure(_BUSY_S)
                    else:
                        await self._nudge.wait()
        finally:
            await self._leave()

    def _heard_of(self, living: int) -> None:
        """So many workers live, this one among them."""
        self._ports.fleet.share(living)
        if self._is_alone != (living == 1):
            self._is_alone = living == 1
            self._nudge.set()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._policy.grace_s):
                await self.lease.end()
        except (StoreUnavailable, TimeoutError) as trouble:
            emit(StoreTroubled(doing="leaving", error=str(trouble) or "no answer in time"))

    async def _hear_of_work(self) -> None:
        while True:
            await self._ports.due.wait(self._policy.idle_s)
            self._nudge.set()

    async def _hear_of_wishes(self) -> None:
        while True:
            await self._ports.cancels.wait(self._policy.idle_s)
            for pairing_id, author in (await self._wishes()).items():
                case = self._cases.get(pairing_id)
                if case is not None:
                    case.want_canceled(author)

    async def _wishes(self) -> Mapping[PairingId, Author]:
        try:
            return await self._ports.claims.wishes()
        except StoreUnavailable as trouble:
            emit(StoreTroubled(doing="looking for what is to be canceled", error=str(trouble)))
            return {}

    async def _write_notes(self) -> None:
        """One round for all: what a pairing waits with, because it waits itself, is written."""
        while True:
            await asyncio.sleep(self._policy.note_s)
            before = asyncio.get_running_loop().time() - self._policy.note_s
            late = [case for case in self._cases.values() if case.has_notes(before)]
            for first in range(0, len(late), _WRITTEN_AT_ONCE):
                async with asyncio.TaskGroup() as writing:
                    for case in late[first : first + _WRITTEN_AT_ONCE]:
                        writing.create_task(self._write_notes_of(case), context=_on(case))

    async def _write_notes_of(self, case: Case) -> None:
        try:
            await case.write_notes()
        except SitepairError:
            pass  # Who drives it meets the same at the next step.
        except Exception as crash:  # noqa: BLE001 - as in `_drive`
            emit(PairingCrashed(), error=crash)

    async def _claim_all(self) -> Sequence[Case]:
        """Claim a lot, if there is room; and more, as long as some of it is under way already.

        None of that is driven before all are owned: what a dead worker held is nobody's for the
        time of the claims alone, however many they are. What has not begun keeps its turn among
        that of others until those before it have got on: all that is begun shares the processor.
        """
        cases: list[Case] = []
        lot, is_more_due = self._lot, False
        # Less than a lot is not left over for another claim.
        size = lot if self._room >= 2 * lot else self._room
        while self._room > 0:
            claimed = await self._claim(min(self._room, size))
            for assignment in claimed.assignments:
                quiet_since = self._batches.quiet_since(assignment.pairing)
                case = Case(assignment, self._ports.journal, self._driver, quiet_since)
                self._cases[case.pairing.id] = case
                cases.append(case)
            is_more_due = claimed.has_more
            if not is_more_due or not any(map(_is_under_way, claimed.assignments)):
                break
            size = self._policy.claim_size
        self._is_full = self._room <= 0
        self._is_more_due = is_more_due and not self._is_full
        return cases

    async def _claim(self, limit: int) -> Claimed:
        clock = asyncio.get_running_loop().time
        try:
            await self._disown()
            claimed = await self._ports.claims.claim(limit)
        except StoreUnavailable as trouble:
            # The claim may have taken effect, or still do so.
            self._doubts_until = clock() + self._policy.doubt_s
            self.trouble = str(trouble)
            emit(StoreTroubled(doing="claiming", error=self.trouble))
            return _NOTHING
        self.trouble = None
        return claimed

    async def _disown(self) -> None:
        """Give up what this worker owns without driving it, as long as there may be any."""
        if self._doubts_until == -inf:
            return
        if self._doubts_until <= asyncio.get_running_loop().time():
            self._doubts_until = -inf  # What is dropped from here on is a doubt of its own.
        await self._ports.claims.disown(self._cases.keys())

    async def _drive(self, case: Case) -> None:
        try:
            await self._slots.acquire()  # Who is cancelled before that is freed with the worker.
            self._driven += 1
            try:
                await drive(case, self._ports.fleet, self._policy, self._driver.name)
            except asyncio.CancelledError:
                await self._hand_back(case)
                raise
            finally:
                self._driven -= 1
                self._slots.release()
            await case.let_go()  # The slot is the next one's meanwhile.
        except* (LeaseLost, StoreUnavailable) as troubles:
            # After LeaseLost as well: if notes could not be written, this worker owns it still.
            self._drop(troubles)
        except* UnknownAppliance as gone:
            await self._surrender(case, ApiError("UnknownAppliance", str(gone.exceptions[0])))
        except* Exception as crash:  # noqa: BLE001 - a defect in one pairing must not stop the others
            emit(PairingCrashed(), error=crash)
            await self._surrender(case, DEFECT)
        finally:
            # Who let go of a pairing may have claimed it again before hearing that it has.
            if self._cases.get(case.pairing.id) is case:
                del self._cases[case.pairing.id]
            if self._is_full and self._room >= self._policy.lot:
                self._nudge.set()

    async def _surrender(self, case: Case, error: ApiError) -> None:
        try:
            await surrender(case, error, self._policy)
        except (LeaseLost, StoreUnavailable) as trouble:
            self._drop(trouble)
        except Exception as crash:  # noqa: BLE001 - as in `_drive`
            emit(PairingCrashed(), error=crash)
            await asyncio.sleep(self._policy.idle_s)  # It would be claimed again at once, for ever.
            self._drop(crash)

    def _drop(self, cause: BaseException) -> None:
        """Let go of what a fault of the database or of ours, or a late wish, tore out of our hands:
        it is given up before the next claim, unless another worker owns it, and claimed again from
        its stored state."""
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if not isinstance(cause, Unwanted):  # That is how a late wish is heard, and no fault.
            emit(PairingDropped(reason=str(cause)))
        self._doubts_until = max(self._doubts_until, asyncio.get_running_loop().time())
        self._nudge.set()

    async def _hand_back(self, case: Case) -> None:
        if case.pairing.is_over:
            return
        try:
            async with asyncio.timeout(self._policy.grace_s):
                await case.record(PairingHandedBack(self._driver.name), release=True)
            self.handed_back += 1
        except (SitepairError, TimeoutError) as trouble:
            reason = str(trouble) or "no answer in time"
            emit(PairingDropped(reason=f"not handed back: {reason}"))
        except Exception as crash:  # noqa: BLE001 - as in `_drive`
            emit(PairingCrashed(), error=crash)


def _on(case: Case) -> Context:
    return context_for(WorkContext(case.pairing.operation_id, str(case.pairing.id)))


def _is_under_way(assignment: Assignment) -> bool:
    return assignment.pairing.state is PairingState.RUNNING
