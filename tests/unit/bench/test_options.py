"""How a part is asked to measure, and what is measured together."""

from importlib.util import find_spec

import pytest

from bench.couples import chosen
from bench.options import Options
from bench.parts import PARTS
from bench.truth import Task, Truth


@pytest.mark.parametrize("name", ["rounds", "seed", "appliances", "pairings", "in_flight"])
def test_nothing_of_something_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="--" + name.replace("_", "-")):
        Options(**{name: 0})


def test_more_pairings_than_couples_are_refused() -> None:
    assert len(set(chosen(Options(appliances=4, pairings=6)))) == 6
    with pytest.raises(ValueError, match="4 appliances make 6 couples"):
        Options(appliances=4, pairings=7)


def test_couples_come_in_the_order_of_the_seed() -> None:
    first = chosen(Options(seed=1))
    assert first == chosen(Options(seed=1))
    assert first != chosen(Options(seed=2))


def test_every_part_can_be_run_by_itself() -> None:
    assert all(find_spec(f"bench.{name}") for name in PARTS)


def test_a_pairing_whose_other_side_was_never_paired_is_noticed() -> None:
    one_sided = {("a", "c"): Task(0, 10)}
    truth = Truth(calls=4, tasks={("a", "b"): Task(0, 10), ("b", "a"): Task(5, 12), **one_sided})
    truth.insist_on([("a", "b")])
    with pytest.raises(RuntimeError, match="1 were never paired"):
        truth.insist_on([("a", "b"), ("a", "c")])


def test_the_later_task_and_the_longer_one_may_be_two() -> None:
    truth = Truth(calls=4, tasks={("a", "b"): Task(0, 10), ("b", "a"): Task(5, 12)})
    assert truth.last_of(("a", "b")) == Task(5, 12)
    assert truth.longest_ms(("b", "a")) == 10
