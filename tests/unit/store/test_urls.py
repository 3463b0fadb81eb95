"""How databases are named."""

import pytest

from service.store.urls import DatabaseUrl


@pytest.mark.parametrize(
    ("text", "dsn", "pgbouncer"),
    [
        ("postgres://u:p@h:5433/d", "postgresql://u:p@h:5433/d", False),
        ("postgresql+asyncpg://u@h/d", "postgresql://u@h/d", False),
        ("postgresql://u:p%40@/d?host=/run/pg", "postgresql://u:p%40@/d?host=%2Frun%2Fpg", False),
        ("postgresql://h/d?pgbouncer=true", "postgresql://h/d", True),
        ("postgresql://h/d?pgbouncer=0&ssl=require", "postgresql://h/d?ssl=require", False),
        ("postgresql://h", "postgresql://h/", False),
    ],
)
def test_every_spelling_is_understood(text: str, dsn: str, pgbouncer: bool) -> None:
    assert DatabaseUrl.parse(text) == DatabaseUrl(dsn, pgbouncer)


@pytest.mark.parametrize("text", ["mysql://h/d", "h/d", "", "file:///etc/passwd"])
def test_what_is_no_postgresql_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        DatabaseUrl.parse(text)


def test_neither_password_nor_user_is_shown() -> None:
    url = DatabaseUrl.parse("postgresql://admin:hunter2@db.example:5432/pairs?ssl=require")
    assert url.shown == "postgresql://db.example:5432/pairs"
    assert "hunter2" not in repr(url)


def test_a_socket_is_shown_as_its_directory() -> None:
    url = DatabaseUrl.parse("postgresql://u:p@/pairs?host=/run/pg")
    assert url.shown == "postgresql:///run/pg/pairs"
