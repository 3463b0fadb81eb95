"""Garbage: what is there stays out of the search, which is made seldom."""

import gc

from service.garbage import collect_seldom


def test_garbage_is_looked_for_seldom_and_not_in_what_was_there() -> None:
    before = gc.get_threshold()
    try:
        collect_seldom()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
