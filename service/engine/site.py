"""One side's appliance: what its saga, forward or back, may see and ask there."""

from collections.abc import Awaitable
from math import inf

from service.domain.appliance import ApiError, Endpoint, Task
from service.domain.decisions import Call, Sighting, moved, sight
from service.domain.ids import TaskId
from service.domain.pairing import Side, SiteCall
from service.engine.case import Case
from service.engine.evidence import Evidence
from service.engine.policy import Policy, Seconds
from service.engine.ports import Appliance


class Site:
    """What one side may see and ask of its appliance.

    All that looks is cut off at the case's deadline, with TimeoutError; what changes something
    never is. Raises what the appliance's calls raise.
    """

    __slots__ = ("_appliance", "_case", "_evidence", "_policy", "name")

    def __init__(self, case: Case, appliance: Appliance, policy: Policy) -> None:
        self.name = appliance.name
        self._case = case
        self._appliance = appliance
        self._policy = policy
        # Of most nothing is ever in doubt.
        self._evidence: Evidence | None = None

    @property
    def side(self) -> Side:
        """The side, as it is now."""
        return self._case.pairing.side(self.name)

    @property
    def peer(self) -> Endpoint:
        """How its peer is reached."""
        return self._case.peer_of(self.name)

    @property
    def url(self) -> str:
        """Where it is called."""
        return self._appliance.url

    @property
    def closed(self) -> ApiError | None:
        """Why it is not called now; None if it is."""
        return self._appliance.closed

    def moved(self) -> ApiError | None:
        """Why what the side's last call did is not to be looked for there; None unless the name
        means something else by now."""
        return moved(self.side, self._appliance.url)

    def was_there(self, peer_id: str | None) -> bool:
        """Whether a record with this id is known to have been there before anything was called, or
        before what was called began: it is of nobody's doing here, whatever the call made of it."""
        if self._evidence is not None and self._evidence.is_disowned:
            return True
        if peer_id is None:
            return False
        return self._appliance.listed_since(peer_id) <= self._case.first_called_at(self.name)

    async def look(self, since: float = inf, until: float = -inf) -> Sighting:
        """What the appliance lists about the peer now, or listed after `since`; until then (loop
        time), where that is later than the deadline."""
        peers = await self._appliance.peers(since, max(until, self._case.deadline))
        side = self.side
        return sight(peers, self.peer, side.peer_id, side.asked_url)

    async def look_after_tasks(
        self, *calls: SiteCall, own: TaskId | None = None, patience_s: Seconds = inf
    ) -> Sighting:
        """What the appliance lists once no task runs any more that `calls` may have started, nor
        this side's `own`; or after `patience_s`, or half of the time that is left."""
        if self._evidence is None:
            self._evidence = Evidence(self._case, self._appliance, self._policy)
        await self._evidence.gather(calls, own, patience_s)
        return await self.look()

    def is_missed(self, patience_s: Seconds, unknown_s: Seconds) -> bool:
        """Whether what `look_after_tasks` did not show is missed for good, as
        `Evidence.is_missed` judges it."""
        return self._evidence is not None and self._evidence.is_missed(patience_s, unknown_s)

    @property
    def is_outrun(self) -> bool:
        """Whether a task that `look_after_tasks` waited for runs still."""
        return self._evidence is not None and self._evidence.is_outrun

    @property
    def is_unfinished(self) -> bool:
        """Whether something is missed that another look here may tell to be missed for good; who
        takes the pairing up again would begin anew."""
        return self._evidence is not None and self._evidence.is_unfinished

    def finished(self, task_id: TaskId) -> Awaitable[Task]:
        """The task once it is over. Raises TaskForgotten, TaskUnreadable, TaskUnfinished."""
        # Passed on rather than awaited: thousands wait here at once.
        return self._appliance.finished(task_id, self._case.deadline)

    def line_up(self, *, first: bool = False) -> Awaitable[None]:
        """Wait for a place among those who are about to change something there."""
        # Passed on like the above: thousands stand there at once.
        return self._appliance.line_up(self._case.deadline, first=first)

    def leave_line(self) -> None:
        """Leave the place to the next."""
        self._appliance.leave_line()

    async def send(self, step: Call) -> Task:
        """Make the call, once, if the worker's lease outlasts it."""
        if self._evidence is not None:
            self._evidence.begin_anew()
        permit = self._case.permit
        match step.call:
            case SiteCall.PAIR:
                description = self._case.pairing.description
                return await self._appliance.pair(self.peer, description, permit)
            case SiteCall.REPAIR:
                description = self._case.pairing.description
                return await self._appliance.repair(step.peer_id, self.peer, description, permit)
            case SiteCall.UNPAIR:
                return await self._appliance.unpair(step.peer_id, permit)
