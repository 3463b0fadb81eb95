"""What goes wrong in a run, and how often: drawn from the seed, gone when it is calm."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar


class CallFault(StrEnum):
    """What can happen to one call to an appliance. `ACTS_FIRST`: it takes effect all the same."""

    UNREACHABLE = "not connected"
    NO_CONNECTION_IN_TIME = "no connection in time"
    LOST = "lost on the way"
    ANSWER_LOST = "answer lost"
    LATE = "late: takes effect when nobody waits any more"
    HANGS = "hangs, never acts"
    ANSWER_HANGS = "acts, never answers"
    SLOW = "slow"
    FAILS_AFTERWARDS = "500 after acting"
    BUSY = "503 before acting"
    REFUSED = "403 before acting"
    GARBAGE = "garbage after acting"
    SESSION_GONE = "session gone"
    TASKS_FORGOTTEN = "tasks forgotten"
    TASK_FAILS = "task fails"
    TASK_MISMATCHES = "task succeeds with CertificateMismatch"
    TASK_LIES = "task succeeds, and changes nothing"
    TASK_ACTS_AND_FAILS = "task fails, and has changed what it should"
    ROWS_MISSING = "rows missing in the bulk poll"


class StoreFault(StrEnum):
    """What can happen to one operation of the database."""

    REFUSED = "refused before it took effect"
    ANSWER_LOST = "took effect, answer lost"
    LINGERS = "takes effect after the caller was told that the connection is gone"
    ROLLED_BACK = "a deadlock, undone"


LATEST_S = 1.5
"""How long after its caller gave up a call may still take effect. The engine trusts two looks
that lie `settle_s` apart, so nothing later can be survived."""

MOSTLY, OFTEN, SELDOM = 0.6, 0.12, 0.02

LATER = (CallFault.TASK_ACTS_AND_FAILS,)
"""Drawn with dice of their own: where none of these happens, a seed means what it always meant."""

Fault = TypeVar("Fault")


@dataclass(slots=True)
class Weather:
    """Probabilities per call, `changes` for calls that change something, `slow_lists` for lists of
    peers that take long; the longest ways, in seconds, there and back each."""

    calls: dict[CallFault, float] = field(default_factory=dict)
    changes: dict[CallFault, float] = field(default_factory=dict)
    slow_lists: float = 0.0
    store: dict[StoreFault, float] = field(default_factory=dict)
    way_s: float = 0.02
    store_way_s: float = 0.005
    is_calm: bool = False

    def call_fault(self, rng: random.Random, *, changes: bool, lists: bool) -> CallFault | None:
        """What happens to the next call to an appliance, if anything does."""
        if self.is_calm:
            return None
        fault = _drawn(self.changes, rng) if changes else None
        if lists and rng.random() < self.slow_lists:
            return CallFault.SLOW
        return fault or _drawn(self.calls, rng)

    def store_fault(self, rng: random.Random) -> StoreFault | None:
        """What happens to the next operation of the database, if anything does."""
        return None if self.is_calm else _drawn(self.store, rng)


def _drawn(odds: Mapping[Fault, float], rng: random.Random) -> Fault | None:
    if not odds:
        return None
    draw = rng.random()
    for fault, odd in odds.items():
        draw -= odd
        if draw < 0:
            return fault
    return None


def forecast(rng: random.Random, more: random.Random) -> Weather:
    """A run has few kinds of fault, each seldom or often: all of them at once hide one another."""
    usual = [fault for fault in CallFault if fault not in LATER]
    calls = rng.sample(usual, rng.choice((0, 1, 2, 3, 5)))
    changes = rng.sample(usual, rng.choice((0, 0, 1, 1, 2)))
    store = rng.sample(list(StoreFault), rng.choice((0, 0, 1, 2, 4)))
    weather = Weather(
        calls={fault: rng.choice((SELDOM, SELDOM, OFTEN)) for fault in calls},
        changes={fault: rng.choice((OFTEN, MOSTLY)) / len(changes) for fault in changes},
        slow_lists=rng.choice((0.0, 0.0, 0.0, 0.3)),
        store={fault: rng.choice((SELDOM, OFTEN)) for fault in store},
        way_s=rng.choice((0.002, 0.02, 0.3)),
        store_way_s=rng.choice((0.001, 0.005, 0.1)),
    )
    if more.random() < 0.12:
        weather.changes[CallFault.TASK_ACTS_AND_FAILS] = more.choice((OFTEN, MOSTLY))
    return weather
