"""What of a batch is not accepted."""

import json
import tracemalloc

from service.domain.batch import Rejection
from service.domain.errors import LISTED_REJECTIONS
from service.store.rejections import Rejections


def test_all_of_them_are_spelt_and_the_first_ones_kept() -> None:
    given = [Rejection(index, "InvalidBody", '\u017e "\0" \u2026') for index in range(250)]
    rejections = Rejections()
    for first in range(0, 250, 90):
        rejections.add(given[first : first + 90])
        rejections.add([])
    text = rejections.spelt()
    assert text.isascii()
    assert [Rejection(**each) for each in json.loads(text)] == given
    assert rejections.first == given[:LISTED_REJECTIONS]
    assert rejections.count == 250


def test_none_are_an_empty_list() -> None:
    assert Rejections().spelt() == b"[]"


def test_they_take_little_more_memory_than_their_text() -> None:
    rejections = Rejections()
    tracemalloc.start()
    for first in range(0, 50_000, 2_000):
        rejections.add(
            [Rejection(first + each, "InvalidBody", f"{each} " * 20) for each in range(2_000)]
        )
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.3 * len(rejections.spelt())
