"""What is planned for a run: all of it, by the seed alone."""

import itertools
from collections import Counter

import pytest

from simulator.faults import parse_rule
from simulator.knobs import Knobs, changed
from tests.chaos.errands import plan
from tests.chaos.monkey import Cast, Kind, schedule
from tests.chaos.seeds import seeded
from tests.chaos.weather import climate, weather

NAMES = tuple(f"site-{number}" for number in range(1, 17))
CAST = Cast(workers=3, apis=2, appliances=NAMES, lease_s=20.0)
SEEDS = range(50)


@pytest.mark.parametrize("seconds", [60.0, 300.0])
def test_a_seed_replays(seconds: float) -> None:
    assert schedule(7, seconds, CAST) == schedule(7, seconds, CAST)
    assert schedule(7, seconds, CAST) != schedule(8, seconds, CAST)
    assert plan(7, seconds, NAMES, 90) == plan(7, seconds, NAMES, 90)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_of_disturbance_comes_in_a_minute(seed: int) -> None:
    disturbances = schedule(seed, 60.0, CAST)
    assert {each.kind for each in disturbances} == set(Kind)
    assert [each.at_s for each in disturbances] == sorted(each.at_s for each in disturbances)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_is_stopped_for_longer_than_its_lease_while_there_is_time_for_it(
    seed: int,
) -> None:
    assert any(
        each.kind is Kind.OUTLAST_LEASE
        and each.for_s > CAST.lease_s
        and each.at_s + each.for_s < 60
        for each in schedule(seed, 60.0, CAST)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_each_couple_is_asked_for_once_and_some_that_are_paired_are_left_alone(seed: int) -> None:
    made = plan(seed, 60.0, NAMES, 114)
    couples = Counter(frozenset(errand.couple) for errand in made.errands)
    by_hand = {frozenset(couple) for couple in made.by_hand}
    assert len(made.errands) == len(couples) == 114
    assert len(by_hand & set(couples)) == 3
    assert len(by_hand) == 6


@pytest.mark.parametrize("seed", SEEDS)
def test_the_simulator_takes_every_knob_and_every_fault(seed: int) -> None:
    rng = seeded(seed, "a test")
    changed(Knobs(), climate(rng))
    rules = list(itertools.chain(*weather(rng, NAMES).values()))
    assert rules
    for rule in rules:
        parse_rule(rule)
