"""The judge itself: each promise, broken on purpose, is found broken, and nothing else is."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tests.chaos.appliances import Json
from tests.chaos.figures import duplicates
from tests.chaos.load import Job
from tests.chaos.truth import Evidence, chained, violations

BOTH_FINE = {"incomingCommError": None, "outgoingCommError": None}


def described(name: str) -> Json:
    """An appliance."""
    return {"apiUrl": f"https://{name}:8048/", "apiThumbprint": f"SHA-256:{name}"}


def record(name: str) -> Json:
    """What an appliance holds of the one of that name."""
    return {"site": name, "url": f"https://{name}:8048", "thumbprint": f"SHA-256:{name}"}


def listed(name: str, **errors: object) -> Json:
    """What an appliance says of the one of that name."""
    return {"site": name, "state": {**BOTH_FINE, **errors}}


def trail(pairing_id: str, *types: str) -> list[Json]:
    """A sound chain of events."""
    events: list[Json] = []
    before = bytes(32)
    for seq, kind in enumerate(types, start=1):
        event: Json = {
            "seq": seq,
            "at": seq,
            "type": kind,
            "actor": "somebody",
            "operationID": "x",
            "detail": {"é": seq},
        }
        before = chained(before, pairing_id, event)
        events.append({**event, "hash": before.hex()})
    return events


def job(name: str, one: str, other: str, state: str = "SUCCEEDED", **more: str) -> Job:
    """A pairing that is over; `more` are the states of its sides, and how it was asked for."""
    sides = [
        {"appliance": each, "state": more.get(each, state), "peer": peer}
        for each, peer in ((one, other), (other, one))
    ]
    final: Json = {"state": state, "endTime": 9, "sides": sides, "error": None, "phase": None}
    return Job(
        id=f"id-{name}",
        name=name,
        couple=(one, other),
        operation=more.get("operation", "pair"),
        on_failure=more.get("on_failure", "rollback"),
        final=final,
        events=trail(f"id-{name}", "PairingAccepted", "PairingSucceeded"),
    )


def taken(seq: int, name: str, appliance: str, peer: str, **more: object) -> Json:
    """A call that an appliance took and that took effect."""
    return {
        "seq": seq,
        "appliance": appliance,
        "peer": peer,
        "kind": "pair",
        "operationID": name,
        "taskId": f"t{seq}",
        "effectMs": seq,
        "outcome": "SUCCEEDED",
        "changed": True,
        **more,
    }


def sound() -> Evidence:
    """a and b were paired by the service, c and d by hand; a and c failed and were rolled back."""
    jobs = [
        job("ab", "a", "b"),
        job("ac", "a", "c", "FAILED", a="ROLLED_BACK", c="FAILED"),
        job("cd", "c", "d", c="ALREADY_PAIRED", d="ALREADY_PAIRED"),
    ]
    names = ("a", "b", "c", "d")
    peers = {"a": "b", "b": "a", "c": "d", "d": "c"}
    return Evidence(
        jobs=jobs,
        by_hand=[("c", "d")],
        described={name: described(name) for name in names},
        accepted=[
            taken(1, "ab", "a", "b", outcome="FAILED", changed=False),
            taken(2, "ab", "a", "b"),
            taken(3, "ab", "b", "a"),
            taken(4, "ac", "a", "c"),
            taken(5, "ac", "a", "c", kind="unpair"),
        ],
        counts={name: {"loginsRefused": 0} for name in names},
        records={name: [record(peers[name])] for name in names},
        listed={name: [listed(peers[name])] for name in names},
        known=[each.id for each in jobs],
    )


def with_job(evidence: Evidence, number: int, **final: object) -> Evidence:
    """The same with other words of the service about one pairing."""
    jobs = list(evidence.jobs)
    jobs[number] = replace(jobs[number], final={**jobs[number].final, **final})
    return replace(evidence, jobs=jobs)


def with_events(evidence: Evidence, events: list[Json]) -> Evidence:
    """The same with another trail of the first pairing."""
    first, *others = evidence.jobs
    return replace(evidence, jobs=[replace(first, events=events), *others])


def with_records(evidence: Evidence, **records: list[Json]) -> Evidence:
    """The same with appliances that hold something else."""
    return replace(evidence, records={**evidence.records, **records})


def with_taken(evidence: Evidence, *calls: Json) -> Evidence:
    """The same with more calls that were taken."""
    return replace(evidence, accepted=[*evidence.accepted, *calls])


def renamed(event: Mapping[str, object]) -> Json:
    """The event with another type."""
    return {**event, "type": "SideFailed"}


LIES: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "a pairing that is not over": (
        lambda e: with_job(e, 0, state="RUNNING", endTime=-1),
        "not over: pair ab",
    ),
    "a pairing that is gone": (
        lambda e: replace(e, known=e.known[1:]),
        "promised, and not listed: pair ab",
    ),
    "a pairing that nobody asked for": (
        lambda e: replace(e, known=[*e.known, "id-x"]),
        "pairing id-x was promised to nobody",
    ),
    "one side created twice": (
        lambda e: with_taken(e, taken(6, "ac", "a", "b")),
        "created twice: b on a by ab task t2, ac task t6",
    ),
    "one side created twice, by a task that failed": (
        lambda e: with_taken(e, taken(6, "ac", "a", "b", outcome="FAILED")),
        "created twice: b on a by ab task t2, ac task t6",
    ),
    "one side asked again for what is there": (
        lambda e: with_taken(e, taken(6, "ab", "a", "b", changed=False)),
        "asked again: a was told to pair b by ab task t6, after task t2",
    ),
    "a record by hand that was made again": (
        lambda e: with_taken(e, taken(6, "cd", "c", "d")),
        "created twice: d on c by by hand",
    ),
    "a SUCCEEDED that is on one side only": (
        lambda e: with_records(e, b=[]),
        "not there: b holds no record of a: pair ab",
    ),
    "a SUCCEEDED with another thumbprint": (
        lambda e: with_records(e, b=[{**record("a"), "thumbprint": "SHA-256:x"}]),
        "wrong: b holds",
    ),
    "a SUCCEEDED that does not work": (
        lambda e: replace(
            e, listed={**e.listed, "a": [listed("b", outgoingCommError={"code": "Dead"})]}
        ),
        "dead: a says outgoingCommError Dead of b: pair ab",
    ),
    "half a pairing": (
        lambda e: with_records(e, a=[record("b"), record("c")]),
        "left behind: a holds a record of c: pair ac",
    ),
    "a record of a couple that nobody asked for": (
        lambda e: with_records(e, a=[record("b"), record("d")]),
        "left behind: a holds a record of d: nobody asked for it",
    ),
    "a record by hand that is gone": (
        lambda e: with_records(e, d=[]),
        "not there: d holds no record of c: pair cd",
    ),
    "a record by hand that was to be unpaired": (
        lambda e: with_taken(e, taken(6, "cd", "c", "d", kind="unpair", outcome="FAILED")),
        "c was told to unpair d, which was there before",
    ),
    "a record that another job unpaired": (
        lambda e: with_taken(e, taken(6, "ac", "b", "a", kind="unpair", outcome="FAILED")),
        "b was told to unpair a by no job of these two",
    ),
    "an event that was changed": (
        lambda e: with_events(e, [renamed(e.jobs[0].events[0]), e.jobs[0].events[1]]),
        "the chain breaks at event 1 SideFailed: pair ab",
    ),
    "an event that was removed": (
        lambda e: with_events(e, e.jobs[0].events[1:]),
        "the chain breaks at event 1 PairingSucceeded: pair ab",
    ),
    "no events at all": (lambda e: with_events(e, []), "no events: pair ab"),
    "a refused login": (
        lambda e: replace(e, counts={**e.counts, "a": {"loginsRefused": 1}}),
        "a refused 1 logins",
    ),
    "a process that ended by itself": (
        lambda e: replace(e, complaints=["worker-1 ended by itself"]),
        "worker-1 ended by itself",
    ),
}


def test_what_kept_every_promise_is_found_sound() -> None:
    assert violations(sound()) == []


@pytest.mark.parametrize("lie", LIES)
def test_each_broken_promise_is_found(lie: str) -> None:
    broken, said = LIES[lie]
    (found,) = violations(broken(sound()))
    assert found.startswith(said)


def test_what_was_unpaired_in_between_may_be_created_again() -> None:
    evidence = with_taken(sound(), taken(6, "ab", "a", "c"))
    assert violations(evidence) == []


@pytest.mark.parametrize("held", [[], [record("b"), record("c")]])
def test_what_is_reported_as_left_behind_may_be_there_or_not(held: list[Json]) -> None:
    sides = [{"appliance": "a", "state": "ROLLBACK_FAILED"}, {"appliance": "c", "state": "FAILED"}]
    evidence = with_job(sound(), 1, sides=sides)
    assert violations(with_records(evidence, a=held or [record("b")])) == []


def test_duplicates_are_told_apart_by_whether_an_answer_was_lost() -> None:
    evidence = with_taken(sound(), taken(6, "ab", "b", "a", outcome="FAILED"))
    assert duplicates(evidence, {("b", "ab")}) == {
        "withLostAnswers": {"sides": 1, "beyondFirst": 1, "perSide": 1.0, "needless": 1},
        "withoutLostAnswers": {"sides": 2, "beyondFirst": 1, "perSide": 0.5, "needless": 0},
    }
