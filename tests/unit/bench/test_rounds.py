"""What one round measured."""

import pytest

from bench.rounds import Round


def test_the_rate_between_leaves_out_how_it_began_and_how_it_ended() -> None:
    """Twenty: one second until the first ends, ten a second, and the last one straggles."""
    ended_s = [1 + nth / 10 for nth in range(19)] + [20.0]
    done = Round(ended_s, cpu_s=1.0, calls=80)
    assert (done.pairings, done.wall_s, done.per_s) == (20, 20.0, 1.0)
    assert done.per_s_between == pytest.approx(10)


def test_ends_that_cannot_be_told_apart_have_no_rate_between() -> None:
    done = Round([2.0, 2.0, 2.0], cpu_s=1.0, calls=12)
    assert done.per_s_between == done.per_s == 1.5
