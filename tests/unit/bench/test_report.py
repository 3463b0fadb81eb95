"""Rows on paper."""

import json

from bench.figures import Row, Target, alone, ratio
from bench.report import as_text


def rows() -> list[Row]:
    return [
        ratio("pairings/s", "bare", [(1234.5, 1000.0)], Target(0.75, 1.0, higher_is_better=True)),
        alone("ms until seen", [30.25], Target()),
    ]


def test_each_line_of_the_table_has_must_aim_and_what_is_met() -> None:
    head, first, second = as_text(rows(), as_json=False).splitlines()
    heads = ["figure", "against", "ours", "other", "judged", "median", "worst"]
    assert head.split() == [*heads, "must", "aim", "meets"]
    limits = ["0.75", "1", "aim"]
    assert first.split() == [
        "pairings/s",
        "bare",
        "1,234",
        "1,000",
        "ratio",
        *2 * ["1.23"],
        *limits,
    ]
    assert second.split() == ["ms", "until", "seen", "30.2", "ours", "30.2", "30.2"]


def test_columns_stand_below_their_heads() -> None:
    head, *lines = as_text(rows(), as_json=False).splitlines()
    end = head.index("ours") + len("ours")
    assert [line[:end].split()[-1] for line in lines] == ["1,234", "30.2"]


def test_json_is_a_list_of_all_rows() -> None:
    told = json.loads(as_text(rows(), as_json=True))
    assert [each["grade"] for each in told] == ["aim", None]
