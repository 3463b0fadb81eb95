"""The invariants: what the service promised, compared with what the appliances really hold. Pure.

Each check yields one line for each violation, which names the pairing and says what is wrong.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.appliances import Couple, Json
from tests.chaos.load import Job

Side = tuple[str, str]
"""An appliance, and the peer that it may hold a record of."""

_STANDS = frozenset({"pair", "repair"})
_ZERO = bytes(32)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was gathered at the end of a run, after everything was let go of.

    `described` are the appliances as the simulator tells them, `accepted` the calls that they
    took and `counts` what they counted since the begin, `records` what each holds, `listed` what
    its GET /sites says. `known` are the ids of all pairings that the service lists. `complaints`
    are what went wrong on the way: answers, and processes that ended by themselves.
    """

    jobs: Sequence[Job]
    by_hand: Sequence[Couple]
    described: Mapping[str, Json]
    accepted: Sequence[Json]
    counts: Mapping[str, Json]
    records: Mapping[str, Sequence[Json]]
    listed: Mapping[str, Sequence[Json]]
    known: Sequence[str]
    complaints: Sequence[str] = field(default=())

    def record(self, side: Side) -> Json | None:
        """What the appliance holds of its peer, if anything."""
        name, peer = side
        return next((each for each in self.records[name] if each["site"] == peer), None)

    def jobs_of(self, side: Side) -> list[Job]:
        """The pairings of these two, in the order in which they were accepted."""
        return [job for job in self.jobs if set(job.couple) == set(side)]


@dataclass(frozen=True, slots=True)
class Expected:
    """Whether a side shall hold its record, and because of which job; None leaves it open."""

    is_there: bool | None
    job: Job | None


def violations(evidence: Evidence) -> list[str]:
    """Every promise that was broken; none, if all were kept."""
    checks = (
        _lost,
        _not_promised,
        _created_twice,
        _asked_again,
        _wrong_side,
        _dead_pairings,
        _removed,
        _broken_chains,
        _refused_logins,
    )
    return [*evidence.complaints, *(line for check in checks for line in check(evidence))]


def sides_of(couple: Couple) -> tuple[Side, Side]:
    """Both halves of a couple."""
    one, other = couple
    return (one, other), (other, one)


def told(job: Job) -> str:
    """A pairing in one line: which, what, and where it stands."""
    sides = ", ".join(f"{side['appliance']} {side['state']}" for side in job.final["sides"])
    error = (job.final.get("error") or {}).get("code")
    return (
        f"{job.operation} {job.name} {job.id} {job.couple[0]}/{job.couple[1]} "
        f"({job.on_failure}): {job.final['state']}"
        f"{' ' + str(job.final['phase']) if job.final.get('phase') else ''} [{sides}]"
        f"{' ' + error if error else ''}"
    )


def _lost(evidence: Evidence) -> Iterator[str]:
    for job in evidence.jobs:
        if not job.is_over:
            yield f"not over: {told(job)}"


def _not_promised(evidence: Evidence) -> Iterator[str]:
    """One request is one pairing, however often it had to be sent."""
    promised = Counter(job.id for job in evidence.jobs)
    for job in evidence.jobs:
        if promised[job.id] > 1:
            yield f"two requests were promised the same pairing: {told(job)}"
        if job.id not in evidence.known:
            yield f"promised, and not listed: {told(job)}"
    for pairing_id in evidence.known:
        if pairing_id not in promised:
            yield f"pairing {pairing_id} was promised to nobody"


def _created_twice(evidence: Evidence) -> Iterator[str]:
    standing: defaultdict[Side, list[str]] = defaultdict(list)
    for couple in evidence.by_hand:
        for side in sides_of(couple):
            standing[side].append("by hand")
    # A task that acted may have failed all the same.
    effective = [
        each for each in evidence.accepted if each["changed"] or each["outcome"] == "SUCCEEDED"
    ]
    for each in sorted(effective, key=lambda each: (each["effectMs"], each["seq"])):
        side = (each["appliance"], each["peer"])
        if each["kind"] == "unpair":
            standing[side].clear()
        elif each["kind"] == "pair" and each["changed"]:
            standing[side].append(f"{each['operationID']} task {each['taskId']}")
            if len(standing[side]) > 1:
                yield f"created twice: {side[1]} on {side[0]} by {', '.join(standing[side])}"


def _asked_again(evidence: Evidence) -> Iterator[str]:
    """Who looks before it acts again does not ask for what is there, or is being made."""
    took_effect: dict[tuple[str, Side, str], Json] = {}
    for each in sorted(evidence.accepted, key=lambda each: each["seq"]):
        side = (each["appliance"], each["peer"])
        before = took_effect.get((each["operationID"], side, each["kind"]))
        if before is not None and not _was_wanted_again(evidence, each):
            yield (
                f"asked again: {side[0]} was told to {each['kind']} {side[1]} by "
                f"{each['operationID']} task {each['taskId']}, after task {before['taskId']}"
            )
        if each["outcome"] == "SUCCEEDED":
            took_effect[each["operationID"], side, each["kind"]] = each


def _was_wanted_again(evidence: Evidence, call: Json) -> bool:
    return any(job.was_retried for job in evidence.jobs if job.name == call["operationID"])


def _wrong_side(evidence: Evidence) -> Iterator[str]:
    """SUCCEEDED means that both sides are as wanted; anything else, that they are as before."""
    asked = {side for job in evidence.jobs for side in sides_of(job.couple)}
    held = {(name, row["site"]) for name, rows in evidence.records.items() for row in rows}
    by_hand = {side for couple in evidence.by_hand for side in sides_of(couple)}
    for side in sorted(asked | held | by_hand):
        name, peer = side
        expected, record = _expected(evidence, side), evidence.record(side)
        why = told(expected.job) if expected.job is not None else "nobody asked for it"
        if expected.is_there is False and record is not None:
            yield f"left behind: {name} holds a record of {peer}: {why}"
        elif expected.is_there and record is None:
            yield f"not there: {name} holds no record of {peer}: {why}"
        elif record is not None and not _is_right(record, evidence.described[peer]):
            yield f"wrong: {name} holds {record} of {peer}: {why}"


def _dead_pairings(evidence: Evidence) -> Iterator[str]:
    """SUCCEEDED means that it works in both directions."""
    for job in evidence.jobs:
        for side in sides_of(job.couple):
            last = evidence.jobs_of(side)[-1]
            stands = job.final["state"] == "SUCCEEDED" and job.operation in _STANDS
            if job is not last or not stands:
                continue
            row = next((row for row in evidence.listed[side[0]] if row["site"] == side[1]), None)
            state = row["state"] if row is not None else {}
            for word in ("incomingCommError", "outgoingCommError"):
                if state.get(word) is not None:
                    code = state[word]["code"]
                    yield f"dead: {side[0]} says {word} {code} of {side[1]}: {told(job)}"


def _removed(evidence: Evidence) -> Iterator[str]:
    """What nobody wanted unpaired is not even asked to go."""
    unpaired = {(job.name, side) for job in evidence.jobs for side in sides_of(job.couple)}
    by_hand = {side for couple in evidence.by_hand for side in sides_of(couple)}
    for each in evidence.accepted:
        side = (each["appliance"], each["peer"])
        if each["kind"] != "unpair":
            continue
        if side in by_hand:
            yield f"{side[0]} was told to unpair {side[1]}, which was there before: {each}"
        elif (each["operationID"], side) not in unpaired:
            yield f"{side[0]} was told to unpair {side[1]} by no job of these two: {each}"


def _broken_chains(evidence: Evidence) -> Iterator[str]:
    for job in evidence.jobs:
        before = _ZERO
        for number, event in enumerate(job.events, start=1):
            before = chained(before, job.id, event)
            if event["seq"] != number or event["hash"] != before.hex():
                yield f"the chain breaks at event {number} {event['type']}: {told(job)}"
                break
        if not job.events:
            yield f"no events: {told(job)}"


def _refused_logins(evidence: Evidence) -> Iterator[str]:
    for name, counts in evidence.counts.items():
        if counts["loginsRefused"]:
            yield f"{name} refused {counts['loginsRefused']} logins, with the right credentials"


def chained(before: bytes, pairing_id: str, event: Json) -> bytes:
    """The hash that `event` has to carry after one with the hash `before`."""
    content = {
        "chain": pairing_id,
        "appliance": event.get("side"),
        **{name: event[name] for name in ("seq", "at", "type", "actor", "operationID", "detail")},
    }
    spelt = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(before + spelt.encode()).digest()


def _expected(evidence: Evidence, side: Side) -> Expected:
    by_hand = any(side in sides_of(couple) for couple in evidence.by_hand)
    expected = Expected(by_hand, None)
    for job in evidence.jobs_of(side):
        expected = Expected(_after(job, side, before=expected.is_there), job)
    return expected


def _after(job: Job, side: Side, *, before: bool | None) -> bool | None:
    """Whether the record is there after `job`, if it was there `before`."""
    if not job.is_over:
        return None
    if job.final["state"] == "SUCCEEDED":
        return job.operation in _STANDS
    states = {each["appliance"]: each["state"] for each in job.final["sides"]}
    if states[side[0]] == "ROLLBACK_FAILED":
        return None
    if job.on_failure == "keep":
        return before if before and job.operation in _STANDS else None
    return before


def _is_right(record: Json, peer: Json) -> bool:
    same_url = record["url"].rstrip("/") == peer["apiUrl"].rstrip("/")
    return bool(same_url and record["thumbprint"] == peer["apiThumbprint"])
