"""How often tasks are looked after."""

import random
from itertools import pairwise

import pytest

from service.appliance.pace import Pace, paces

CROWD = 50


def looks_until(end_s: float, pace: Pace, waiting: int = CROWD) -> list[float]:
    """The ages at which a task is looked at, the last one at or after `end_s`."""
    ages = [pace.first_look_s()]
    while ages[-1] < end_s:
        ages.append(ages[-1] + pace.pause_s(ages[-1], waiting))
    return ages


def test_a_young_task_is_looked_at_soon_and_often() -> None:
    ages = looks_until(1.0, Pace())
    assert ages[0] == 0.1
    assert all(later - earlier <= 0.2 + 1e-9 for earlier, later in pairwise(ages))


def test_a_task_of_thirty_seconds_costs_few_looks() -> None:
    assert len(looks_until(30.0, Pace())) <= 28


def test_no_look_comes_much_later_than_the_task_took() -> None:
    for tenths in range(1, 600):
        end_s = tenths / 10
        assert looks_until(end_s, Pace())[-1] - end_s <= max(0.2, 0.2 * end_s) + 1e-9


def test_an_old_task_is_looked_at_every_few_seconds() -> None:
    assert Pace().pause_s(3_600.0, 1) == 5.0


def test_where_tasks_take_long_a_young_one_is_not_hurried_after() -> None:
    pace = Pace()
    for _ in range(50):
        pace.saw_end(30.0)
    assert 1.0 < pace.first_look_s() < 2.0
    assert pace.pause_s(0.5, 1) == 5.0
    assert len(looks_until(30.0, pace)) < len(looks_until(30.0, Pace()))


USUAL = [(0.5, 0.8), (2.0, 3.0), (4.0, 12.0), (28.0, 32.0)]
"""Seconds: the least and the most that tasks take."""


def used_to(shortest_s: float, longest_s: float) -> Pace:
    """After a hundred tasks that took so long."""
    rng, pace = random.Random(4), Pace()  # noqa: S311 - a failure has to be repeatable
    for _ in range(100):
        pace.saw_end(rng.uniform(shortest_s, longest_s))
    return pace


@pytest.mark.parametrize(("shortest_s", "longest_s"), USUAL)
def test_after_a_first_look_none_is_made_before_the_first_can_be_over(
    shortest_s: float, longest_s: float
) -> None:
    pace = used_to(shortest_s, longest_s)
    ages = looks_until(0.6 * shortest_s, pace)
    assert ages[0] <= max(0.5, 0.05 * longest_s)
    assert len(ages) <= 2 + shortest_s // pace.cap_s


@pytest.mark.parametrize(("shortest_s", "longest_s"), USUAL)
def test_who_takes_as_long_as_others_is_seen_over_soon(shortest_s: float, longest_s: float) -> None:
    pace = used_to(shortest_s, longest_s)
    steps = [shortest_s + (longest_s - shortest_s) * step / 50 for step in range(51)]
    delays = [looks_until(end_s, pace)[-1] - end_s for end_s in steps]
    assert sum(delays) / len(delays) <= max(0.05, pace.deviation_s) * 1.2
    assert max(delays) <= max(0.1, 2.5 * pace.deviation_s)


def test_who_takes_longer_than_others_is_looked_after_ever_more_seldom() -> None:
    pace = Pace()
    for _ in range(20):
        pace.saw_end(10.0)
    pauses = [later - earlier for earlier, later in pairwise(looks_until(60.0, pace)) if later > 10]
    assert pauses[1] < 0.2
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == pace.cap_s
    assert len(pauses) < 20


def test_where_no_two_take_equally_long_a_young_one_is_looked_after_soon() -> None:
    pace = Pace()
    for took_s in [0.2, 8.0] * 20:
        pace.saw_end(took_s)
    assert pace.first_look_s() <= 0.5
    assert 0.15 < pace.pause_s(0.1, 1) < 0.3


def test_quick_tasks_after_slow_ones_bring_the_haste_back() -> None:
    pace = Pace()
    for took_s in [30.0] * 10 + [0.15] * 150:
        pace.saw_end(took_s)
    assert pace.first_look_s() < 0.2
    assert pace.pause_s(0.1, CROWD) == 0.1


def test_of_quick_tasks_nearly_all_are_over_at_the_first_look() -> None:
    rng, pace = random.Random(4), Pace()  # noqa: S311 - a failure has to be repeatable
    looks, over = [], 0
    for number in range(600):
        took_s = rng.uniform(0.08, 0.22)
        if number >= 100:
            looks.append(pace.first_look_s())
            over += took_s <= looks[-1]
        pace.saw_end(took_s)
    assert over >= 0.8 * len(looks)
    assert max(looks) < 0.3


def test_no_first_look_is_late_because_others_took_long() -> None:
    """It may fail at once, whatever the others did."""
    for mean_s in (0.3, 1.0, 4.0, 10.0, 30.0, 300.0):
        pace = Pace()
        for _ in range(20):
            pace.saw_end(mean_s)
        assert pace.first_look_s() <= max(0.5, 0.05 * mean_s)


def test_who_waits_alone_is_not_kept_for_the_sake_of_a_crowd() -> None:
    assert looks_until(0.16, Pace(), waiting=1)[-1] < 0.21
    assert Pace().pause_s(0.1, 1) == Pace().rest_s(1) == 0.05
    assert Pace().pause_s(0.1, CROWD) == Pace().rest_s(CROWD) == 0.1


def test_an_appliance_that_is_new_is_expected_to_be_like_the_others() -> None:
    make = paces()
    known, new = make(), make()
    for _ in range(20):
        known.saw_end(0.3)
    assert new.first_look_s() == known.first_look_s() > 0.2
    for _ in range(40):
        new.saw_end(0.1)
    assert new.first_look_s() < 0.2 < known.first_look_s()


def test_rounds_of_a_crowd_keep_to_one_beat_wherever_they_are_made() -> None:
    begun = {Pace().on_beat(due, CROWD) for due in (7.06, 7.1, 7.14)}
    assert [*begun] == pytest.approx([7.1])
    for tenths_of_ms in range(70_000, 72_000, 7):
        due = tenths_of_ms / 10_000
        assert abs(Pace().on_beat(due, CROWD) - due) <= 0.05 + 1e-9


def test_where_few_are_waited_for_a_round_begins_when_it_is_due() -> None:
    assert Pace().on_beat(7.06, 3) == 7.06
