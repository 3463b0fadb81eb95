"""What several rounds say together."""

import pytest

from bench.figures import Target, alone, difference, percentile, ratio

SPEED = Target(must=0.75, aim=1.0, higher_is_better=True)
COST = Target(must=1.4, aim=1.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    """The machine's speed drifts: the ratio of the medians here would be 1."""
    row = ratio("pairings/s", "bare", [(10, 20), (20, 30), (30, 10)], SPEED)
    assert (row.ours, row.other) == (20, 20)
    assert row.median == pytest.approx(2 / 3)


@pytest.mark.parametrize(("target", "worst"), [(SPEED, 0.5), (COST, 2.0)])
def test_the_worst_round_is_the_lowest_of_what_should_be_high(target: Target, worst: float) -> None:
    assert ratio("", "bare", [(1, 2), (1, 1), (2, 1)], target).worst == worst


def test_a_difference_keeps_its_sign() -> None:
    row = difference("ms", "bare", [(5, 9), (7, 9), (9, 9)], COST)
    assert (row.judged, row.median, row.worst) == ("difference", -2, 0)


def test_what_stands_alone_is_compared_with_nobody() -> None:
    row = alone("calls", [6, 4, 5], COST)
    assert (row.against, row.other, row.ours, row.median, row.worst) == ("", None, 5, 5, 6)


@pytest.mark.parametrize(
    ("target", "value", "grade"),
    [
        (SPEED, 1.0, "aim"),
        (SPEED, 0.99, "must"),
        (SPEED, 0.75, "must"),
        (SPEED, 0.74, "neither"),
        (COST, 1.0, "aim"),
        (COST, 1.01, "must"),
        (COST, 1.4, "must"),
        (COST, 1.41, "neither"),
        (Target(must=2), 3, "neither"),
        (Target(), 1, None),
    ],
)
def test_a_limit_that_is_reached_is_met(target: Target, value: float, grade: str | None) -> None:
    assert target.grade(value) == grade


def test_the_median_is_judged_and_not_the_worst() -> None:
    assert alone("calls", [1.0, 1.0, 9.0], COST).grade == "aim"


def test_json_has_the_limits_and_the_verdict() -> None:
    raw = alone("calls", [1.2], COST).as_json()
    assert raw["target"] == {"must": 1.4, "aim": 1.0, "higher_is_better": False}
    assert (raw["figure"], raw["median"], raw["grade"]) == ("calls", 1.2, "must")


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value
