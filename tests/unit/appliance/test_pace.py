"""How often tasks are looked after."""

from itertools import pairwise

from service.appliance.pace import Pace


def looks_until(end_s: float, pace: Pace) -> list[float]:
    """The ages at which a task is looked at, the last one at or after `end_s`."""
    ages = [pace.first_look_s()]
    while ages[-1] < end_s:
        ages.append(ages[-1] + pace.pause_s(ages[-1]))
    return ages


def test_a_young_task_is_looked_at_soon_and_often() -> None:
    ages = looks_until(1.0, Pace())
    assert ages[0] == 0.1
    assert all(later - earlier <= 0.2 + 1e-9 for earlier, later in pairwise(ages))


def test_a_task_of_thirty_seconds_costs_few_looks() -> None:
    assert len(looks_until(30.0, Pace())) <= 26


def test_no_look_comes_much_later_than_the_task_took() -> None:
    for tenths in range(1, 600):
        end_s = tenths / 10
        assert looks_until(end_s, Pace())[-1] - end_s <= max(0.2, 0.2 * end_s) + 1e-9


def test_an_old_task_is_looked_at_every_few_seconds() -> None:
    assert Pace().pause_s(3_600.0) == 5.0


def test_where_tasks_take_long_a_young_one_is_not_hurried_after() -> None:
    pace = Pace()
    for _ in range(50):
        pace.saw_end(30.0)
    assert 1.0 < pace.first_look_s() < 2.0
    assert 1.0 < pace.pause_s(0.5) < 2.0
    assert len(looks_until(30.0, pace)) < len(looks_until(30.0, Pace()))


def test_quick_tasks_after_slow_ones_bring_the_haste_back() -> None:
    pace = Pace()
    for age_s in [30.0] * 10 + [0.15] * 30:
        pace.saw_end(age_s)
    assert pace.first_look_s() == 0.1
    assert pace.pause_s(0.1) == 0.2
