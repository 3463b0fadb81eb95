"""Who is paired with whom."""

import itertools
import random

from bench.options import Options

Places = list[tuple[int, int]]


def chosen(options: Options, count: int | None = None) -> Places:
    """As many couples as pairings are asked for, or `count`, in an order of the seed."""
    couples = list(itertools.combinations(range(options.appliances), 2))
    random.Random(options.seed).shuffle(couples)
    return couples[: options.pairings if count is None else count]


def warmed_up(options: Options, count: int) -> tuple[Places, Places]:
    """Couples that bring all appliances their sessions, and `count` others, of two of those each:
    the bare calls are logged in before they begin, too."""
    first = [(place, place + 1) for place in range(0, options.appliances - 1, 2)]
    others = [couple for couple in chosen(options, options.appliances**2) if couple not in first]
    return first, others[:count]
