"""What must hold in every run, each with the words in which its breach is told.

Some is checked the moment it happens, against the truth of that moment; the rest at the end.
"""

import json

from service.appliance.exchange import Answer, Outcome
from service.domain.events import Entry
from service.domain.ids import PairingId
from service.domain.pairing import (
    OnFailure,
    Operation,
    Pairing,
    PairingState,
    Phase,
    Side,
    SideState,
)
from service.domain.registration import ApplianceSpec, Registration
from simulator.appliance import Appliance
from simulator.peers import same_thumbprint, show
from simulator.truth import Accepted
from tests.simulation.appliances import BEGINNING_MS, Departure, Way
from tests.simulation.replay import misfits
from tests.simulation.stage import Stage
from tests.simulation.tables import Row, Written

SESSION_MARK = "authentication token required"


class Promises:
    """Watches a stage. `broken` holds what did not hold, in the order in which it was seen."""

    def __init__(self, stage: Stage) -> None:
        self.broken: list[str] = []
        self.logins = 0
        self._stage = stage
        self._tables = stage.database.tables
        self._world = stage.air.world
        self._reopened: dict[PairingId, list[int]] = {}
        self._verifying_since: dict[PairingId, float] = {}
        self._looks: dict[str, list[float]] = {}
        self._sessions: set[Way] = set()
        stage.air.watch = self.saw_departure
        stage.air.watch_answer = self.saw_answer

    # At the moment.

    def saw_change(self, written: Written) -> None:
        """A change of a pairing's state was committed."""
        before, row = written.before, written.row
        self._judge_writer(written)
        for entry in written.entries:
            self._stage.trace.tell("journal", f"{before.operation_id} {_line(entry)}")
            if entry.type == "SideReopened":
                self._reopened.setdefault(before.id, []).append(self._stage.now_ms)
            elif entry.type == "VerificationStarted":
                self._verifying_since[before.id] = self._noted_s(entry)
            elif entry.type == "PairingSucceeded":
                self._judge_success(row.pairing)
        if row.pairing.error is not None and row.pairing.error.code == "InternalError":
            self._break(row.pairing, "the service ran into a defect of its own")

    def _noted_s(self, entry: Entry) -> float:
        """When it happened, which is before it was written, by its writer's own clock."""
        writers = {f"worker-{id_}": each for each in self._stage.processes for id_ in each.workers}
        skew_ms = writers[entry.actor].node.clock.skew_ms
        return min(self._stage.loop.instant, (entry.at - skew_ms - BEGINNING_MS) / 1000)

    def saw_departure(self, departure: Departure) -> None:
        """A request left a worker."""
        request = departure.request
        if (request.method, request.path) == ("GET", "/sites"):
            self._looks.setdefault(departure.spec.name, []).append(self._stage.loop.instant)
        if request.path == "/sessions":
            self._judge_login(departure)
        elif request.mutating:
            self._judge_caller(departure)

    def saw_answer(self, departure: Departure, outcome: Outcome) -> None:
        """A worker learnt what became of a request."""
        if not isinstance(outcome, Answer):
            return
        key = departure.way
        if departure.request.path == "/sessions":
            if "x-vcav-auth" in outcome.headers:
                self._sessions.add(key)
        elif SESSION_MARK in outcome.headers.get("www-authenticate", "").lower():
            self._sessions.discard(key)

    def _judge_writer(self, written: Written) -> None:
        """Only the owner writes, and only under the newest epoch."""
        before, owner = written.before, written.row.worker
        if written.epoch != before.epoch:
            self._break(before, f"was written under epoch {written.epoch}, not {before.epoch}")
        for entry in written.entries:
            if owner is not None and entry.actor not in {f"worker-{owner}", before.user}:
                self._break(before, f"is owned by {owner}, but {entry.actor} wrote {entry.type}")

    def _judge_caller(self, departure: Departure) -> None:
        """A call that changes something leaves its owner, whose lease outlasts it."""
        row = self._row_of(departure.operation_id)
        process = self._stage.process_of(departure.node)
        if row is None or process is None:
            return
        call = f"{departure.request.method} {departure.request.path} to {departure.spec.name}"
        if row.pairing.is_canceling and row.pairing.phase is not Phase.ROLLING_BACK:
            self._break(row.pairing, f"{call} left {departure.node}, and nobody wants it any more")
        if row.worker not in process.workers:
            self._break(row.pairing, f"{call} left {departure.node}, which does not own it")
        elif self._tables.lease_left_s(row.worker) <= 0 and not self._was_clock_set():
            self._break(row.pairing, f"{call} left {departure.node}, whose lease was over")

    def _was_clock_set(self) -> bool:
        """Whether the database's clock says nothing about leases: then nobody is buried either."""
        stage = self._stage
        return stage.loop.instant - stage.stepped_at_s <= stage.schedule.policy.lease_s

    def _judge_login(self, departure: Departure) -> None:
        if departure.request.method == "DELETE":
            self._sessions.discard(departure.way)
            return
        self.logins += 1
        name = departure.spec.name
        registration = self._tables.registrations.get(name)
        if registration is not None and self._is_refused(registration, departure.spec):
            self.broken.append(f"{departure.node} logs in to {name}, which refused that before")
        if departure.way in self._sessions:
            self.broken.append(f"{departure.node} logs in to {name}, where it has a session")

    def _is_refused(self, registration: Registration, spec: ApplianceSpec) -> bool:
        """Whether it is on record that the appliance refused what `spec` would log in with."""
        refused = self._tables.standing(spec.name).refused_version
        is_current = registration.spec.credentials == spec.credentials
        return is_current and refused == registration.credentials_version

    def _judge_success(self, pairing: Pairing) -> None:
        """Both lists are as the operation wants them, without errors."""
        one, other = pairing.sides
        for side in (one, other):
            holder = self._world.appliances[side.appliance]
            peer = self._world.appliances[side.peer]
            wrong = (
                self._lingers(pairing, holder, peer)
                if pairing.operation is Operation.UNPAIR
                else self._is_amiss(pairing, holder, peer)
            )
            if wrong:
                self._break(pairing, f"SUCCEEDED, but {holder.name} {wrong}")

    def _lingers(self, pairing: Pairing, holder: Appliance, peer: Appliance) -> str:
        record = holder.peers.get(peer.site_id)
        if record is None or self._others_meddled(pairing) or self._stage.is_unknown(record):
            return ""
        return f"still lists {peer.name}"

    def _is_amiss(self, pairing: Pairing, holder: Appliance, peer: Appliance) -> str:
        record = holder.peers.get(peer.site_id)
        if self._others_meddled(pairing):
            return ""
        if record is None:
            return f"does not list {peer.name}"
        if self._was_disturbed(pairing, holder, peer):
            return ""
        if not same_thumbprint(record.thumbprint.upper(), peer.api_thumbprint, holder.knobs):
            return f"lists {peer.name} with another certificate"
        state = show(holder, record, self._stage.now_ms).state
        if state.incoming_comm_error or state.outgoing_comm_error:
            return f"shows a communication error with {peer.name}"
        return ""

    def _was_disturbed(self, pairing: Pairing, *appliances: Appliance) -> bool:
        """Whether what the verification saw may have changed since, by other hands."""
        since = self._seen_since(pairing)
        return any(
            self._stage.disturbed.get(each.name, -1.0)
            >= since - max(each.knobs.comm_refresh_ms, each.knobs.list_lag_ms) / 1000
            for each in appliances
        )

    def _others_meddled(self, pairing: Pairing) -> bool:
        """Whether others changed what is between the two since it was looked at."""
        since_ms = BEGINNING_MS + int(self._seen_since(pairing) * 1000)
        lag_ms = {
            each.appliance: self._world.appliances[each.appliance].knobs.list_lag_ms
            for each in pairing.sides
        }
        return any(
            (each.effect_ms or 0) >= since_ms - lag_ms[side.appliance]
            for side in pairing.sides
            for each in self._effects(side)
            if each.operation_id != pairing.operation_id
        )

    def _seen_since(self, pairing: Pairing) -> float:
        """When the older of the lists was asked for that its verification began with."""
        noted = self._verifying_since.get(pairing.id, 0.0)
        return min(
            max((at for at in self._looks.get(each.appliance, ()) if at <= noted), default=noted)
            for each in pairing.sides
        )

    # At the end.

    def judge_end(self) -> None:
        """What must hold when all is over and nothing is under way any more."""
        self._world.settle(self._stage.now_ms)
        rows = list(self._tables.pairings.values())
        for row in rows:
            pairing = row.pairing
            if not pairing.is_over:
                self._break(pairing, f"is not over: {_words(row)}")
            for misfit in misfits(pairing, row.entries):
                self._break(pairing, f"does not follow from its events: {misfit}")
            for side in pairing.sides:
                self._judge_side(pairing, side)
            self._judge_reach(pairing)
        for name in self._stage.names:
            refused = self._world.truth.counts(name).logins_refused
            appliance = self._world.appliances[name]
            now, who = self._stage.now_ms, appliance.identity
            if any(
                appliance.sessions.is_locked(user, now, appliance.knobs)
                for user in (who.username, who.sso_username)
            ):
                self.broken.append(f"{name} was locked by {refused} refused logins")

    def judge_proof(self, pairing_id: PairingId) -> None:
        """What was asked for in calm weather has succeeded."""
        pairing = self._tables.pairings[pairing_id].pairing
        if pairing.state is not PairingState.SUCCEEDED:
            self._break(pairing, f"is {pairing.state} in calm weather: {pairing.error}")

    def judge_complaints(self) -> None:
        """No process let an exception fall."""
        self.broken += [f"fell: {each}" for each in self._stage.loop.complaints]

    def _judge_reach(self, pairing: Pairing) -> None:
        """It changes nothing between others."""
        couple = {side.appliance for side in pairing.sides}
        for each in self._world.truth.of(operation_id=pairing.operation_id):
            if each.peer is not None and {each.appliance, each.peer} != couple:
                self._break(pairing, f"is not about what it changed: {_told(each)}")

    def _judge_side(self, pairing: Pairing, side: Side) -> None:
        effects = self._effects(side)
        self._judge_patience(pairing, side)
        self._judge_creations(pairing, effects)
        if pairing.operation is not Operation.UNPAIR:
            self._judge_removals(pairing, side, effects)
        is_failed = pairing.state in {PairingState.FAILED, PairingState.CANCELED}
        may_stay = pairing.on_failure is OnFailure.KEEP or side.state is SideState.ROLLBACK_FAILED
        if is_failed and not may_stay and effects:
            last = effects[-1]
            left = "unpair" if pairing.operation is Operation.UNPAIR else "pair"
            is_here = last.appliance == side.appliance and last.kind == left
            is_mine = last.operation_id == pairing.operation_id
            is_unseen = self._was_belied(last) or self._was_hidden(last)
            if is_mine and is_here and not is_unseen:
                self._break(pairing, f"is {pairing.state}, but what it did stays: {_told(last)}")

    def _was_belied(self, effect: Accepted) -> bool:
        """Whether the appliance said twice that nothing was done: by a task that FAILED, and by a
        list that is behind for longer than is looked after such a one."""
        lag_ms = self._world.appliances[effect.appliance].knobs.list_lag_ms
        is_late = lag_ms > self._stage.schedule.policy.settle_s * 1000
        return effect.outcome == "FAILED" and is_late

    def _was_unlisted(self, effect: Accepted, began_ms: int) -> bool:
        """Whether the first look after that could not show it yet, and nobody had waited until one
        could: whoever asked for it had given it up, or was a person."""
        row = self._row_of(effect.operation_id or "")
        if row is not None and any(
            side.appliance == effect.appliance and side.state is not SideState.FAILED
            for side in row.pairing.sides
        ):
            return False
        began_s = (began_ms - BEGINNING_MS) / 1000
        looks = self._looks.get(effect.appliance, ())
        looked_ms = min((BEGINNING_MS + at * 1000 for at in looks if at >= began_s), default=0.0)
        lag_ms = self._world.appliances[effect.appliance].knobs.list_lag_ms
        return (effect.effect_ms or 0) + lag_ms > looked_ms

    def _was_hidden(self, effect: Accepted) -> bool:
        """Whether the service was registered as another user before its task was over, which took
        longer than any list may be behind: from then on the task is hidden (h4-api 3.3)."""
        began_ms, ended_ms = effect.accepted_ms, effect.effect_ms or 0
        is_long = ended_ms - began_ms > self._stage.schedule.policy.verify_timeout_s * 1000
        return is_long and any(
            each.appliance == effect.appliance
            and began_ms <= each.at_ms <= ended_ms
            and each.user not in {None, effect.user}
            for each in self._world.truth.log
        )

    def _judge_patience(self, pairing: Pairing, side: Side) -> None:
        """It does not ask again while the appliance still works on what it asked for."""
        before: Accepted | None = None
        for each in self._world.truth.of(side.appliance, pairing.operation_id, "pair"):
            ends_ms = before.effect_ms if before is not None else None
            is_anew = (
                before is None or self._began_ms(pairing, each.accepted_ms) > before.accepted_ms
            )
            # A task of another user than is registered by now is hidden (h4-api 3.3): nobody can
            # know that it runs still when it takes longer than any list may be behind.
            patience_ms = self._stage.schedule.policy.verify_timeout_s * 1000
            is_hidden = (
                before is not None
                and before.user != each.user
                and each.accepted_ms - before.accepted_ms >= patience_ms
            )
            if ends_ms is not None and each.accepted_ms < ends_ms and not (is_anew or is_hidden):
                self._break(pairing, f"asked {side.appliance} again before its task was over")
            before = each

    def _began_ms(self, pairing: Pairing, before_ms: int) -> int:
        """When it was last begun, or begun anew, before that."""
        began = [pairing.start_time, *self._reopened.get(pairing.id, ())]
        return max([ms for ms in began if ms <= before_ms], default=0)

    def _judge_creations(self, pairing: Pairing, effects: list[Accepted]) -> None:
        """An attempt makes a side once, unless it was removed in between, or brought by somebody
        else under a URL that nobody registered, or by a task that is hidden: that stays unseen."""
        made: Accepted | None = None
        for each in effects:
            is_mine = each.operation_id == pairing.operation_id
            if each.kind == "unpair" or (not is_mine and each.peer in self._stage.moved):
                made = None
            elif each.kind == "pair" and is_mine:
                began_ms = self._began_ms(pairing, each.accepted_ms)
                is_anew = made is None or made.accepted_ms < began_ms or self._was_hidden(made)
                if made is not None and not is_anew:
                    self._break(pairing, f"created a side twice: {_told(made)}, then {_told(each)}")
                made = each

    def _judge_removals(self, pairing: Pairing, side: Side, effects: list[Accepted]) -> None:
        """What was there when it began, or began anew, is not removed; but for what the appliance
        had said twice not to be there, or did not list yet when the first look came."""
        made: Accepted | None = None
        for each in effects:
            at_ms = each.effect_ms or 0
            if each.kind == "pair":
                made = each
            if each.kind != "unpair" or each.appliance != side.appliance:
                continue
            made_ms, made_by = (made.effect_ms or 0, made.operation_id) if made else (0, None)
            is_mine = each.operation_id == pairing.operation_id
            began_ms = self._began_ms(pairing, at_ms)
            was_there = made_ms <= began_ms and made_by != pairing.operation_id
            is_unseen = made is not None and (
                self._was_belied(made) or self._was_unlisted(made, began_ms)
            )
            if is_mine and was_there and not is_unseen:
                self._break(pairing, f"removed what was there before it: {_told(each)}")

    def _effects(self, side: Side) -> list[Accepted]:
        """What really changed on this side, in its order; by the knob an unpair of the other side
        is one of this side too."""
        removes_both = self._world.appliances[side.peer].knobs.unpair_removes_both
        return sorted(
            (
                each
                for each in self._world.truth.accepted
                if each.changed
                and each.effect_ms is not None
                and {each.appliance, each.peer} == {side.appliance, side.peer}
                and (each.appliance == side.appliance or (removes_both and each.kind == "unpair"))
            ),
            key=lambda each: each.effect_ms or 0,
        )

    def _row_of(self, operation_id: str) -> Row | None:
        return next(
            (
                row
                for row in self._tables.pairings.values()
                if row.pairing.operation_id == operation_id
            ),
            None,
        )

    def _break(self, pairing: Pairing, how: str) -> None:
        self.broken.append(f"{pairing.operation} {pairing.operation_id} {how}")


def _told(effect: Accepted) -> str:
    at_s = ((effect.effect_ms or 0) % 1_000_000_000) / 1000
    return (
        f"{effect.kind} of {effect.peer} on {effect.appliance} by {effect.operation_id} at {at_s}"
    )


def _line(entry: Entry) -> str:
    error = json.loads(entry.detail).get("error")
    code = f" ({error['code']}: {error['msg']})" if isinstance(error, dict) else ""
    return f"{entry.type} {entry.appliance or ''}{code} by {entry.actor[:13]}"


def _words(row: Row) -> str:
    pairing = row.pairing
    sides = ", ".join(f"{side.appliance} {side.state}" for side in pairing.sides)
    owner = f"owned by {row.worker}" if row.worker else f"waits for {row.waits_for}"
    return f"{pairing.state} {pairing.phase}, {sides}, {owner}"
