"""How long ago is long ago."""

from datetime import timedelta

import pytest

from service.cli.prune import age_from


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("1d", timedelta(days=1)),
        ("90d", timedelta(days=90)),
        ("12w", timedelta(weeks=12)),
        ("9999w", timedelta(weeks=9999)),
    ],
)
def test_days_and_weeks_are_understood(text: str, age: timedelta) -> None:
    assert age_from(text) == age


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "d",
        "0d",
        "-1d",
        "090d",
        "1.5d",
        "90 d",
        "90D",
        "90d\n",
        "10000d",
        "1w2d",
        "\u0669d",
        "3mo",
        "12h",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert age_from(text) is None
