"""Chains of events as a test has them: all at once."""

from collections.abc import Iterable

from service.domain.chain import Misfit, Walk
from service.domain.events import Entry
from service.domain.pairing import ChainPosition


def first_misfit(entries: Iterable[Entry], head: ChainPosition | None = None) -> Misfit | None:
    """The first of a chain's entries, in stored order, that does not fit; None if all do.

    With `head`, where the chain has to end; without, its end is not looked at.
    """
    walk = Walk(head)
    for entry in entries:
        walk.step(entry)
    return walk.misfit if head is None else walk.end()
