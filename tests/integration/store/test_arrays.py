"""What is spelt as an array comes back as it was."""

from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from service.store.arrays import Element, array
from service.store.database import Database

TEXTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
) | st.sampled_from(
    [
        "",
        "NULL",
        "null",
        "{}",
        ",",
        " a ",
        '"',
        "\\",
        '\\"',
        "\\n",
        "\n",
        "\x1f\\u001f",
        "a\tb\\",
        "\x7f",
    ]
)
WHOLE = st.integers(-(2**63), 2**63 - 1)


async def back(database: Database, kind: str, values: list[Element]) -> list[Element]:
    """`values`, having been to the database."""
    asked = text(f"select cast(cast(:values as text) as {kind}[]) as back")
    (row,) = await database.run(asked, {"values": array(values)})
    return list(row.back)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.none() | TEXTS))
async def test_texts(database: Database, values: list[Element]) -> None:
    assert await back(database, "text", values) == values


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.none() | WHOLE))
async def test_numbers(database: Database, values: list[Element]) -> None:
    assert await back(database, "bigint", values) == values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("boolean", [True, None, False]),
        ("uuid", [UUID(int=0), None, UUID(int=2**128 - 1)]),
        ("text", []),
        ("bigint", [None]),
    ],
)
async def test_others(database: Database, kind: str, values: list[Element]) -> None:
    assert await back(database, kind, values) == values
