"""The way from a simulated worker to simulated appliances: latencies, losses, lies.

The appliances are `simulator.World`, which has no clock and no transport. A call leaves the
worker's node, arrives on nobody's behalf, and what becomes of it no longer depends on who sent it.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from urllib.parse import urlencode

from service.appliance.conditions import Conditions
from service.appliance.exchange import Answer, Failure, FailureKind, Outcome, Permit, Request
from service.appliance.limits import CallTimeouts
from service.domain.registration import ApplianceSpec
from simulator.appliance import Appliance, Identity
from simulator.faults import Action
from simulator.knobs import Knobs, changed
from simulator.wire import Answer as Reply
from simulator.wire import Call
from simulator.world import Visit, World
from tests.simulation.clockwork import Clockwork, Node, current_node
from tests.simulation.weather import LATEST_S, CallFault, Weather

BEGINNING_MS = 1_790_000_000_000
"""The true time of day when a run begins."""

_BEFORE_SENDING = {
    CallFault.UNREACHABLE: FailureKind.UNREACHABLE,
    CallFault.NO_CONNECTION_IN_TIME: FailureKind.CONNECT_TIMEOUT,
}
_SPOILT_TASKS = {
    CallFault.TASK_FAILS: Action("task_fails", code="TaskSpoilt", msg="The task was made to fail."),
    CallFault.TASK_ACTS_AND_FAILS: Action("task_acts_and_fails", code="TaskSpoilt"),
    CallFault.TASK_MISMATCHES: Action("task_mismatch"),
    CallFault.TASK_LIES: Action("task_lies"),
}
_NOT_ALWAYS = {*_SPOILT_TASKS, CallFault.ROWS_MISSING, CallFault.LATE, *_BEFORE_SENDING}
"""Not every call that these are drawn for is one to which they can happen."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A request as it left a worker."""

    way: "Way"
    request: Request
    headers: Mapping[str, str]

    @property
    def node(self) -> Node:
        """From where."""
        return self.way.node

    @property
    def spec(self) -> ApplianceSpec:
        """Where to, and as whom."""
        return self.way.spec

    @property
    def operation_id(self) -> str:
        """On whose behalf."""
        return self.headers.get("operationID", "")


@dataclass(slots=True)
class Air:
    """All that lies between workers and appliances, and the appliances themselves.

    `cut` holds pairs (node, appliance) that do not reach each other; `down` the appliances that
    nobody reaches. `tell` is told what happens, for the trace. `watch` sees each request leave,
    `watch_answer` what its sender learns of it.
    """

    loop: Clockwork
    world: World
    rng: random.Random
    weather: Weather
    tell: Callable[[str, str], None]
    watch: Callable[[Departure], None] = lambda _: None
    watch_answer: Callable[[Departure, Outcome], None] = lambda *_: None
    cut: set[tuple[str, str]] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    latest_s: float = LATEST_S
    struck: Counter[str] = field(default_factory=Counter)
    """How often each fault really happened."""

    @property
    def now_ms(self) -> int:
        """The true time of day."""
        return BEGINNING_MS + int(self.loop.instant * 1000)

    @property
    def quiet_s(self) -> float:
        """When the last task that any appliance has begun is over."""
        last_ms = max([due_ms for due_ms, _, _ in self.world._agenda], default=0)
        return (last_ms - BEGINNING_MS) / 1000 + 0.001

    @property
    def longest_lag_s(self) -> float:
        """How far behind a list may be."""
        return max(each.knobs.list_lag_ms for each in self.world.appliances.values()) / 1000

    def connect(self, spec: ApplianceSpec, conditions: Conditions) -> "Way":
        """Implements `Conditions.connect`, for the node that runs."""
        return Way(self, current_node(), spec, conditions.timeouts)

    def way_s(self) -> float:
        """How long one way takes this time."""
        return self.rng.uniform(0.1, 1.0) * self.weather.way_s

    def forget(self, appliance: Appliance) -> None:
        """It knows its finished tasks no more. Those that run it would not forget: what takes
        effect later and is not listed now, nobody can foresee."""
        self.world.settle(self.now_ms)
        known = appliance.tasks._known
        for task in [each for each in known.values() if each.outcome is not None]:
            del known[task.id]

    def fault_for(self, node: Node, appliance: str, request: Request) -> CallFault | None:
        """What happens to a call that is to be sent now."""
        if appliance in self.down or (node.name, appliance) in self.cut:
            return self.rng.choice(list(_BEFORE_SENDING))
        lists = request.path == "/sites" and not request.mutating
        fault = self.weather.call_fault(self.rng, changes=request.mutating, lists=lists)
        # Whoever may look may always look; a change is refused for many a reason.
        is_change = request.mutating and request.path.startswith("/sites")
        return None if fault is CallFault.REFUSED and not is_change else fault

    def is_reached(self, node: Node, appliance: str) -> bool:
        """Whether something that is under way gets through."""
        return appliance not in self.down and (node.name, appliance) not in self.cut


class Way:
    """Implements `Channel`: one worker's way to one appliance."""

    def __init__(self, air: Air, node: Node, spec: ApplianceSpec, timeouts: CallTimeouts) -> None:
        self.node = node
        self.spec = spec
        self._air = air
        self._timeouts = timeouts
        self._appliance = air.world.appliances[spec.name]

    async def send(self, request: Request, headers: Mapping[str, str], permit: Permit) -> Outcome:
        """Implements `Channel.send`."""
        air, name, clock = self._air, self._appliance.name, asyncio.get_running_loop().time
        patience_s = self._timeouts.change_s if request.mutating else self._timeouts.answer_s
        until = clock() + patience_s
        fault = air.fault_for(self.node, name, request)
        if fault in _BEFORE_SENDING:
            is_slow = fault is CallFault.NO_CONNECTION_IN_TIME
            await asyncio.sleep(self._timeouts.connect_s if is_slow else air.way_s())
            air.tell(name, f"{request.method} {request.path} by {self.node.name}: {fault}")
            air.struck[fault] += 1
            return Failure(_BEFORE_SENDING[fault], "simulated")
        await asyncio.sleep(air.way_s())
        if self.spec.management_url != self._appliance.identity.management_url:
            return Failure(FailureKind.UNREACHABLE, "moved away")
        if self.spec.thumbprint not in {None, self._appliance.thumbprint}:
            return Failure(FailureKind.PIN_MISMATCH, "", self.spec.thumbprint, None)
        if request.mutating:
            permit()
        air.watch(Departure(self, request, headers))
        trip = _Trip(air, self.node, self._appliance, _call(request, headers, self.node), fault)
        try:
            async with asyncio.timeout_at(until):
                outcome = await trip.begin()
        except TimeoutError:
            trip.gave_up()
            outcome = Failure(FailureKind.SILENT, "simulated")
        air.watch_answer(Departure(self, request, headers), outcome)
        return outcome

    async def close(self) -> None:
        """Nothing is kept open."""


class _Trip:
    """One request on its way, and its answer back. Lives in the air, not in the worker."""

    def __init__(
        self, air: Air, node: Node, appliance: Appliance, call: Call, fault: CallFault | None
    ) -> None:
        self._air = air
        self._node = node
        self._appliance = appliance
        self._call = call
        self._fault = fault
        self._answer: asyncio.Future[Outcome] = air.loop.create_future()

    def begin(self) -> asyncio.Future[Outcome]:
        """Set out; the future is the worker's to wait for."""
        self._air.loop.at(self._air.loop.instant + self._air.way_s(), self._arrive)
        return self._answer

    def gave_up(self) -> None:
        """The worker waits no more."""
        self._tell("nobody waits any more")
        if self._fault is CallFault.LATE:
            self._act_later()

    def _arrive(self) -> None:
        air, fault = self._air, self._fault
        if fault not in _NOT_ALWAYS:
            self._strike()
        if fault is CallFault.LOST or not air.is_reached(self._node, self._appliance.name):
            self._back(Failure(FailureKind.CUT, "lost on the way"))
        elif fault is CallFault.HANGS:
            self._tell("hangs")
        elif fault is CallFault.LATE:
            # Half of the time the worker learns at once that the connection is gone.
            if air.rng.random() < 0.5:
                self._back(Failure(FailureKind.CUT, "cut, and late"))
                self._act_later()
        elif fault is CallFault.BUSY:
            self._back(Answer(503, {"retry-after": "1"} if air.rng.random() < 0.5 else {}, b""))
        elif fault is CallFault.REFUSED:
            body = b'{"code":"Forbidden","msg":"Permission denied.","args":[],"stacktrace":""}'
            self._back(Answer(403, {}, body))
        else:
            if fault is CallFault.SESSION_GONE:
                self._appliance.sessions.drop_all()
            elif fault is CallFault.TASKS_FORGOTTEN:
                air.forget(self._appliance)
            self._answer_with(self._act())

    def _answer_with(self, reply: Reply) -> None:
        fault = self._fault
        if fault is CallFault.ANSWER_HANGS:
            return
        if fault is CallFault.ANSWER_LOST:
            self._back(Failure(FailureKind.CUT, "answer lost"))
        elif fault is CallFault.FAILS_AFTERWARDS:
            body = b'{"code":"GeneralServerFailure","msg":"Afterwards.","args":[],"stacktrace":""}'
            self._back(Answer(500, {}, body))
        elif fault is CallFault.GARBAGE:
            bodies = (
                b"",
                b"OK",
                b"<html></html>",
                reply.body[: len(reply.body) // 2],
                b"[1,[null]]",
            )
            self._back(Answer(200, {}, self._air.rng.choice(bodies)))
        else:
            if fault is CallFault.ROWS_MISSING and self._call.path == "/tasks/poll":
                whole, reply = reply, _with_rows_missing(reply, self._air.rng)
                self._strike(is_so=reply != whole)
            # Every server tells the time of its answer; the appliance only if it is wrong.
            told = {"Date": formatdate(self._air.now_ms / 1000, usegmt=True), **reply.headers}
            headers = {name.lower(): value for name, value in told.items()}
            slow_s = self._air.rng.uniform(1, 15) if fault is CallFault.SLOW else 0.0
            self._back(Answer(reply.status, headers, reply.body), slow_s)

    def _act(self) -> Reply:
        world, now = self._air.world, self._air.now_ms
        visit: Visit = world.arrive(self._appliance, self._call, now)
        if self._fault in _SPOILT_TASKS and self._call.path.startswith("/sites"):
            visit.action = _SPOILT_TASKS[self._fault]
        reply = world.act(visit, now)
        if visit.action is not None and reply.status == 202:
            self._strike()
        world.leave(visit, now, reply.status)
        self._tell(str(reply.status))
        return reply

    def _strike(self, *, is_so: bool = True) -> None:
        if self._fault is not None and is_so:
            self._air.struck[self._fault] += 1

    def _act_later(self) -> None:
        air = self._air
        self._strike()
        late_s = air.rng.uniform(0.05, air.latest_s)
        air.loop.at(air.loop.instant + late_s, self._act)

    def _back(self, outcome: Outcome, more_s: float = 0.0) -> None:
        if self._fault is not None:
            self._tell(self._fault)
        self._air.loop.at(
            self._air.loop.instant + self._air.way_s() + more_s, lambda: self._deliver(outcome)
        )

    def _deliver(self, outcome: Outcome) -> None:
        if not self._answer.done():
            is_reached = self._air.is_reached(self._node, self._appliance.name)
            cut = Failure(FailureKind.CUT, "lost on the way back")
            self._answer.set_result(outcome if is_reached else cut)

    def _tell(self, what: str) -> None:
        call = self._call
        self._air.tell(
            self._appliance.name,
            f"{call.method} {call.path} by {self._node.name} ({call.operation_id}): {what}",
        )


def _call(request: Request, headers: Mapping[str, str], node: Node) -> Call:
    return Call(
        method=request.method,
        path=request.path,
        query_string=urlencode(request.query),
        body=request.body or b"",
        token=headers.get("X-VCAV-Auth"),
        operation_id=headers.get("operationID"),
        accept=headers.get("Accept"),
        address=node.name,
    )


def _with_rows_missing(reply: Reply, rng: random.Random) -> Reply:
    """Some rows of a bulk poll left out, whichever way the table is laid out."""
    if reply.status != 200:
        return reply
    table = json.loads(reply.body)
    names, values = table["propertyNames"], table["values"]
    by_columns = len(values) == len(names) and values and values[names.index("id")][:1] != []
    rows = list(zip(*values, strict=True)) if by_columns else values
    kept = [row for row in rows if rng.random() < 0.5]
    table["values"] = [list(column) for column in zip(*kept, strict=True)] if by_columns else kept
    if by_columns and not kept:
        table["values"] = [[] for _ in names]
    return replace(reply, body=json.dumps(table).encode())


def thumbprint(rng: random.Random) -> str:
    """A certificate's, without the certificate."""
    return "SHA-256:" + rng.randbytes(32).hex(":").upper()


def identity(name: str, index: int, rng: random.Random) -> Identity:
    """An appliance as it is born, without keys."""
    own, api = thumbprint(rng), thumbprint(rng)
    return Identity(
        name=name,
        site_id=_uuid(rng),
        tunnel_id=_uuid(rng),
        api_url=f"https://10.71.0.{index + 1}:8048/",
        management_url=f"https://{name}.example.test",
        thumbprint=own,
        api_thumbprint=own if rng.random() < 0.3 else api,
        tunnel_cert="MIIB",
        username="root",
        password=f"secret of {name}",
        sso_username="administrator@vsphere.local",
        sso_password="not used",
    )


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join(
        (digits[:8], digits[8:12], "4" + digits[13:16], "8" + digits[17:20], digits[20:])
    )


def drawn_knobs(rng: random.Random) -> Knobs:
    """One way in which an appliance may behave where its vendor says nothing."""
    policies = ("rejected", "task_fails", "succeeds")
    strange = rng.random() < 0.5

    def pick(usual: object, *others: object) -> object:
        return rng.choice((usual, *others)) if strange and rng.random() < 0.5 else usual

    wishes: dict[str, object] = {
        "session_idle_ms": pick(1_800_000, 3_000, 15_000),
        "session_max_age_ms": pick(86_400_000, 8_000, 40_000),
        "already_paired": rng.choice(policies),
        "unreachable_peer": rng.choice(policies),
        "wrong_thumbprint": rng.choice(policies),
        "unknown_peer_id": rng.choice(("rejected", "task_fails")),
        "thumbprint_case": rng.choice(("exact", "any")),
        "unpair_removes_both": rng.random() < 0.1,
        "one_sided_error": rng.choice(("Forbidden", "NotAuthenticated", "SiteNotFound")),
        "one_sided_incoming": rng.choice(("error", "null")),
        "comm_refresh_ms": rng.choice((0, 0, 500, 5_000)),
        "lists_local_site": rng.random() < 0.3,
        "api_url_rewritten": rng.random() < 0.7,
        "public_url_slash": rng.choice(("kept", "added", "removed")),
        "task_ms": rng.choice(((80, 220), (80, 220), (1_000, 5_000), (10_000, 60_000))),
        "queued_ms": rng.choice((0, 20, 20, 3_000)),
        "extra_states": pick((), ("PAUSED",), ("A", "B")),
        "last_updated": rng.choice(("minus_one", "real")),
        "repair_type": pick("repair", "pair", "site", "rePair"),
        "unpair_type": pick("unpair", "delete", "site"),
        "unknown_task_status": rng.choice((404, 400)),
        "unknown_task_code": pick("NotFound", "BadUserInput"),
        "task_retention_ms": pick(0, 1_000, 20_000),
        "tasks_survive_restart": rng.random() < 0.7,
        "list_limit_max": pick(1_000, 1, 2),
        "bulk_poll": pick("yes", "404", "405"),
        "poll_layout": rng.choice(("rows", "rows", "columns")),
        "poll_cells": rng.choice(("nested", "flattened")),
        "poll_order": rng.choice(("random", "fixed")),
        "poll_max_ids": pick(0, 1),
        "poll_unknown_ids": rng.choice(("omitted", "error")),
        "media_type": rng.choice(("vendor", "plain")),
    }
    # Not of the same dice: whatever else was drawn stays as it was.
    lag_ms = random.Random(repr(wishes)).choice((0,) * 6 + (6_000, 1_500))
    result = random.Random(f"result {wishes}").choice(("told", "told", "told", "omitted"))
    return changed(Knobs(), {**wishes, "list_lag_ms": lag_ms, "task_result": result})


def with_more(knobs: Knobs, rng: random.Random, patience_s: float) -> Knobs:
    """What came to be drawn later, with dice of its own. `patience_s` is how far behind its lists
    may be: what they do not show for longer is not there, for all that the engine can know."""
    wishes: dict[str, object] = {}
    if rng.random() < 0.1:
        wishes["poll_cells"] = "omitted"
    if rng.random() < 0.15:
        wishes["api_version"] = rng.choice(("4.6", "4.6", "4.5", "4.4"))
        wishes["version_skew"] = rng.choice(("rejected", "task_fails"))
    if rng.random() < 0.06:
        wishes["list_lag_ms"] = int(rng.uniform(0.3, 0.8) * patience_s * 1000)
    if rng.random() < 0.06:
        wishes["replications"] = rng.choice(("rejected", "task_fails"))
    if rng.random() < 0.05:
        wishes["max_sessions"] = rng.choice((1, 2))
    return changed(knobs, wishes)


CALM_KNOBS = {"api_version": Knobs().api_version, "replications": "none"}
"""Without these not everything can succeed: upgraded, and without replications."""
