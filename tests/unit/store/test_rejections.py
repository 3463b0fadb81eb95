"""What of a batch is not accepted."""

import json
import tracemalloc
from itertools import chain

from service.domain.batch import Rejection
from service.domain.errors import LISTED_REJECTIONS
from service.store.rejections import PIECE, Rejections

CHUNK = 2000


def rejected(count: int, detail: str) -> list[Rejection]:
    return [Rejection(index, "InvalidBody", detail) for index in range(count)]


def pieces_of(rejections: Rejections, given: list[Rejection]) -> list[str]:
    """What is taken while they are added, and at the end."""
    taken = []
    for first in range(0, len(given), CHUNK):
        rejections.add(given[first : first + CHUNK])
        taken.append(rejections.take_piece())
    taken.append(rejections.take_piece(is_last=True))
    return [each for each in taken if each is not None]


def test_all_of_them_are_spelt_and_the_first_ones_kept() -> None:
    given = rejected(250, '\u017e "\0" \u2026')
    rejections = Rejections()
    for first in range(0, 250, 90):
        rejections.add(given[first : first + 90])
        rejections.add([])
        assert rejections.take_piece() is None
    text = rejections.spelt()
    assert text is not None
    assert text.isascii()
    assert [Rejection(**each) for each in json.loads(text)] == given
    assert rejections.first == given[:LISTED_REJECTIONS]
    assert rejections.count == 250


def test_none_are_an_empty_list() -> None:
    rejections = Rejections()
    assert rejections.take_piece(is_last=True) is None
    assert rejections.spelt() == b"[]"


def test_pieces_are_all_of_them_and_none_is_empty() -> None:
    given = rejected(7 * CHUNK + 5, "x" * 100)
    rejections = Rejections()
    pieces = [json.loads(each) for each in pieces_of(rejections, given)]
    assert [Rejection(**each) for each in chain(*pieces)] == given
    assert all(pieces)
    assert rejections.pieces == len(pieces) > 1
    assert rejections.spelt() is None


def test_what_is_taken_is_not_held() -> None:
    rejections, detail = Rejections(), "x" * 100
    tracemalloc.start()
    for _ in range(50):
        rejections.add(rejected(CHUNK, detail))
        rejections.take_piece()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * PIECE
