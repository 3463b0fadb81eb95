"""What is asked of the service in a run: data, made of a seed."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.chaos.appliances import Couple
from tests.chaos.seeds import seeded

_BY_HAND = 6


@dataclass(frozen=True, slots=True)
class Step:
    """One pairing that is asked for. It may be canceled after a while; if it comes to no good end
    it may be asked for again, once."""

    operation: str = "pair"
    on_failure: str = "rollback"
    cancel_after_s: float | None = None
    is_retried: bool = False


@dataclass(frozen=True, slots=True)
class Errand:
    """What a client wants of a couple, `at_s` after the begin: one step after the other."""

    couple: Couple
    at_s: float
    timeout_s: int
    steps: tuple[Step, ...] = (Step(),)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is asked for in a run. `by_hand` are paired before it, without the service."""

    by_hand: tuple[Couple, ...]
    errands: tuple[Errand, ...]


PAIR = Step()
KEEP = Step(on_failure="keep")
RETRY = Step(is_retried=True)
CANCEL = Step(cancel_after_s=4.0)
CANCEL_RETRY = Step(cancel_after_s=4.0, is_retried=True)
REPAIR = Step(operation="repair")
UNPAIR = Step(operation="unpair")
UNPAIR_CANCEL = Step(operation="unpair", cancel_after_s=3.0)

_STORIES: tuple[tuple[int, tuple[Step, ...]], ...] = (
    (7, (PAIR,)),
    (2, (RETRY,)),
    (1, (KEEP,)),
    (2, (CANCEL,)),
    (1, (CANCEL_RETRY,)),
    (1, (REPAIR,)),
    (1, (PAIR, REPAIR)),
    (2, (PAIR, UNPAIR)),
    (1, (PAIR, UNPAIR_CANCEL)),
    (1, (PAIR, UNPAIR, PAIR)),
)
"""How often, and what."""


def plan(seed: int, seconds: float, names: Sequence[str], errands: int) -> Plan:
    """`errands` couples, each used once. Six are paired by hand, of which two are to be paired
    again, one is to be repaired, and three are left alone."""
    rng = seeded(seed, "errands")
    couples = [
        (one, other) if rng.random() < 0.5 else (other, one)
        for one, other in itertools.combinations(names, 2)
    ]
    rng.shuffle(couples)
    by_hand, fresh = couples[:_BY_HAND], couples[_BY_HAND:]
    stories: list[tuple[Step, ...]] = [(PAIR,), (PAIR,), (REPAIR,)]
    stories += [_story(rng) for _ in range(errands - len(stories))]
    asked = [*by_hand[:3], *fresh[: errands - 3]]
    return Plan(
        by_hand=tuple(by_hand),
        errands=tuple(
            Errand(couple, rng.uniform(0, 0.95 * seconds), rng.choice((60, 90, 120)), story)
            for couple, story in zip(asked, stories, strict=True)
        ),
    )


def _story(rng: random.Random) -> tuple[Step, ...]:
    weights, stories = zip(*_STORIES, strict=True)
    (story,) = rng.choices(stories, weights)
    return tuple([_at_random(step, rng) for step in story])


def _at_random(step: Step, rng: random.Random) -> Step:
    if step.cancel_after_s is None:
        return step
    return replace(step, cancel_after_s=rng.uniform(0, step.cancel_after_s))
