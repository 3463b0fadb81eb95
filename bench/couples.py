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
