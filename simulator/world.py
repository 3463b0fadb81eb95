"""The world: appliances that pair with each other. No I/O and no clock; every call brings the time.

Time only moves forward. Nothing waits: what falls due in between (a task's end, a late call) stands
in an agenda and is done, in its order, before the next visitor is let in.
"""

import heapq
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from simulator import endpoints, errors
from simulator.appliance import Appliance, Identity, born
from simulator.faults import WORLDLY, Action, Target
from simulator.knobs import Knobs, changed
from simulator.pairing import (
    Change,
    Pair,
    Repair,
    Unpair,
    address_of,
    belied,
    is_address,
    mismatched,
)
from simulator.peers import touch_all
from simulator.tasks import Effect, Outcome, Task
from simulator.truth import Accepted, Kind, Logged, Truth
from simulator.wire import Answer, Call, WorkflowInfo

Which = Literal["management", "api", "both"]


@dataclass(slots=True)
class Visit:
    """One call at one appliance, from its arrival to its answer."""

    appliance: Appliance
    call: Call
    route: endpoints.Route
    argument: str
    user: str | None
    action: Action | None


class World:
    """All appliances, their agenda and the truth about them."""

    def __init__(self, identities: Sequence[Identity], knobs: Knobs, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a seed has to replay
        self.truth = Truth()
        self.appliances: dict[str, Appliance] = {}
        self._by_id: dict[str, Appliance] = {}
        self._by_address: dict[str, Appliance] = {}
        self._agenda: list[tuple[int, int, Callable[[int], None]]] = []
        self._entered = 0
        for identity in identities:
            appliance = born(identity, knobs, self._by_id, self.rng)
            self.appliances[identity.name] = appliance
            self._by_id[identity.site_id] = appliance
            self._by_address[address_of(identity.api_url)] = appliance

    def resolve(self, url: str) -> Appliance | None:
        """The appliance that peers reach under `url`."""
        return self._by_address.get(address_of(url)) if is_address(url) else None

    def answer(self, name: str, call: Call, now: int) -> Answer:
        """One call from end to end. Faults of the connection do not happen here."""
        visit = self.arrive(self.appliances[name], call, now)
        answer = self.act(visit, now)
        self.leave(visit, now, answer.status)
        return answer

    def arrive(self, appliance: Appliance, call: Call, now: int) -> Visit:
        """Let a call in: it is counted, and a fault rule may have fired for it."""
        self.settle(now)
        route, argument = endpoints.find(call.method, call.path)
        user = appliance.sessions.user_of(call.token)
        counts = self.truth.counts(appliance.name)
        counts.requests[route.template] += 1
        if call.operation_id is None:
            counts.without_operation_id[route.template] += 1
        action = None
        if len(appliance.faults):
            target = Target(call.method, call.path, user, call.operation_id)
            action = appliance.faults.draw(target)
            if action is not None:
                counts.faults[action.kind] += 1
        return Visit(appliance, call, route, argument, user, action)

    def act(self, visit: Visit, now: int) -> Answer:
        """Let the call take effect, long after it arrived perhaps."""
        self.settle(now)
        if visit.action is not None and visit.action.kind in WORLDLY:
            self._upset(visit.appliance, visit.action)
        return endpoints.answer(self, visit, now)

    def leave(self, visit: Visit, now: int, status: int | None) -> None:
        """Note how the call was answered; None: not at all."""
        appliance, call = visit.appliance, visit.call
        if status is not None:
            self.truth.counts(appliance.name).answers[visit.route.template, status] += 1
        self.truth.log.append(
            Logged(
                now, appliance.name, call.method, call.path, visit.user, call.operation_id, status
            )
        )

    def act_later(self, visit: Visit, due_ms: int) -> None:
        """Let the call take effect at `due_ms`, when nobody waits for its answer any more."""
        self._enter(due_ms, lambda instant: self._act_unheard(visit, instant))

    def settle(self, now: int) -> None:
        """Do what fell due up to `now`."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= now:
            due_ms, _, do = heapq.heappop(agenda)
            do(due_ms)

    def start(self, visit: Visit, workflow: WorkflowInfo, effect: Effect, now: int) -> Task:
        """A new task on the visited appliance, by the visitor."""
        appliance, knobs = visit.appliance, visit.appliance.knobs
        duration = self.rng.randint(*knobs.task_ms)
        task = Task(
            id=self.new_id(),
            user=visit.user or "",
            workflow=workflow,
            start_ms=now,
            runs_ms=now + min(knobs.queued_ms, duration),
            end_ms=now + duration,
            effect=effect,
            operation_id=visit.call.operation_id,
        )
        appliance.tasks.add(task)
        self._enter(task.end_ms, lambda instant: _finish(task, instant))
        return task

    def start_change(self, visit: Visit, change: Change, now: int) -> Task:
        """A task that pairs, repairs or unpairs: recorded in the truth."""
        kind, workflow = _described(change)
        peer_id = workflow.resource_id
        peer = self._by_id.get(peer_id or "")
        if isinstance(change, Pair):
            peer = self.resolve(change.wish.url)
            peer_id = peer.site_id if peer else None
        effect = _spoilt(change, visit.action)
        task = self.start(visit, workflow, effect, now)
        entry = Accepted(
            seq=self.truth.next_seq(),
            appliance=visit.appliance.name,
            method=visit.call.method,
            kind=kind,
            peer=peer.name if peer else None,
            peer_id=peer_id,
            user=task.user,
            operation_id=task.operation_id,
            task_id=task.id,
            accepted_ms=now,
        )
        self.truth.accepted.append(entry)
        self._enter(task.end_ms, lambda instant: _record(entry, task, instant))
        return task

    def new_id(self) -> str:
        """A random UUID of the world's own seed."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def turn(self, name: str, changes: Mapping[str, object], now: int) -> None:
        """Change knobs of one appliance. Raises BadKnob."""
        self.settle(now)
        appliance = self.appliances[name]
        appliance.knobs = changed(appliance.knobs, changes)
        for other in self.appliances.values():
            for peer in other.peers.values():
                peer.shown = None

    def rotate(self, name: str, which: Which, thumbprint: str, now: int) -> None:
        """The appliance presents another certificate from `now` on (h4-api 2.3)."""
        self.settle(now)
        appliance = self.appliances[name]
        if which in {"management", "both"}:
            appliance.thumbprint = thumbprint
        if which in {"api", "both"}:
            appliance.api_thumbprint = thumbprint
            touch_all(appliance, now)

    def restart(self, name: str, now: int) -> None:
        """Sessions are gone; tasks go or stay by the knob."""
        self.settle(now)
        self.appliances[name].restart(now)

    def darken(self, name: str, now: int, ms: int = 0) -> None:
        """Its peers can not reach the appliance any more, for `ms` or until `lighten`."""
        self.settle(now)
        appliance = self.appliances[name]
        # The number tells this darkness from a later one, which its end must not end.
        self._entered += 1
        number = appliance.darkness = self._entered
        touch_all(appliance, now)

        def end(instant: int) -> None:
            if appliance.darkness == number:
                appliance.darkness = 0
                touch_all(appliance, instant)

        if ms:
            self._enter(now + ms, end)

    def lighten(self, name: str, now: int) -> None:
        """Its peers reach the appliance again."""
        self.settle(now)
        appliance = self.appliances[name]
        appliance.darkness = 0
        touch_all(appliance, now)

    def _upset(self, appliance: Appliance, action: Action) -> None:
        if action.kind == "forget_tasks":
            appliance.tasks.forget()
        elif action.kind == "expire_sessions":
            appliance.sessions.drop_all()

    def _act_unheard(self, visit: Visit, instant: int) -> None:
        endpoints.answer(self, visit, instant)

    def _enter(self, due_ms: int, do: Callable[[int], None]) -> None:
        self._entered += 1
        heapq.heappush(self._agenda, (due_ms, self._entered, do))


def _finish(task: Task, instant: int) -> None:
    if task.effect is not None:
        task.outcome = task.effect(instant)
        task.effect = None


def _record(entry: Accepted, task: Task, instant: int) -> None:
    if task.outcome is None:
        entry.outcome = "ABANDONED"
        return
    entry.effect_ms = instant
    entry.outcome = "SUCCEEDED" if task.outcome.error is None else "FAILED"
    entry.changed = task.outcome.changed


def _described(change: Change) -> tuple[Kind, WorkflowInfo]:
    knobs = change.holder.knobs
    match change:
        case Pair():
            return "pair", WorkflowInfo("pair", "site")
        case Repair():
            return "repair", _about(change, knobs.repair_type)
        case Unpair():
            return "unpair", _about(change, knobs.unpair_type)


def _about(change: Repair | Unpair, word: str) -> WorkflowInfo:
    peer = change.holder.peers.get(change.peer_id)
    return WorkflowInfo(word, "site", change.peer_id, peer.site if peer else None)


def _spoilt(change: Change, action: Action | None) -> Effect:
    """The effect of a change, or what a fault rule makes of it."""
    if action is None:
        return change.effect
    error = errors.lenient(action.code, action.msg)
    match action.kind:
        case "task_fails":
            return lambda _: Outcome(error=error)
        case "task_acts_and_fails":
            return lambda instant: belied(change, error, instant)
        case "task_lies":
            return lambda _: Outcome()
        case "task_mismatch" if not isinstance(change, Unpair):
            return lambda instant: mismatched(change, instant)
        case _:
            return change.effect
