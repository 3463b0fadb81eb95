"""How databases are named."""

import pytest

from service.store.urls import DatabaseUrl

PREFERRING = "h,i/d?target_session_attrs=prefer-standby"


@pytest.mark.parametrize(
    ("text", "dsn", "pgbouncer"),
    [
        ("postgres://u:p@h:5433/d", "postgresql://u:p@h:5433/d", False),
        ("postgresql+asyncpg://u@h/d", "postgresql://u@h/d", False),
        ("postgresql://u:p%40@/d?host=/run/pg", "postgresql://u:p%40@/d?host=%2Frun%2Fpg", False),
        ("postgresql://h/d?pgbouncer=true", "postgresql://h/d", True),
        ("postgresql://h/d?pgbouncer=No&ssl=require", "postgresql://h/d?sslmode=require", False),
        ("postgresql://h", "postgresql://h/", False),
        ("postgresql://[::1]:5433,h:/d", "postgresql://[::1]:5433,h:/d", False),
        ("postgresql://%2Frun%2Fpg/d", "postgresql://%2Frun%2Fpg/d", False),
        ("postgresql:///d?user=a@b&host=h,i:1", "postgresql:/d?user=a%40b&host=h%2Ci%3A1", False),
        ("postgresql://h/d?options=-c%20a%3Db", "postgresql://h/d?options=-c+a%3Db", False),
        ("postgresql://h/d?connect_timeout=3&channel_binding=prefer", "postgresql://h/d", False),
        ("postgresql://h/d?sslmode=&application_name=x", "postgresql://h/d", False),
    ],
)
def test_every_spelling_is_understood(text: str, dsn: str, pgbouncer: bool) -> None:
    assert DatabaseUrl.parse(text) == DatabaseUrl(dsn, pgbouncer)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("u:p@h/d?sslmode=require", ["u:p@h/d?sslmode=require"]),
        ("u:p@[::1]:5433,i/d", ["u:p@[::1]:5433/d", "u:p@i/d"]),
        ("h,i:1/d?port=5,6", ["h/d?port=5", "i:1/d?port=6"]),
        ("h,i/d?port=5,6,7", ["h,i/d?port=5%2C6%2C7"]),
        (PREFERRING, [PREFERRING]),
        ("u@/d?host=h,%2Frun&port=5", ["u@/d?host=h&port=5", "u@/d?host=%2Frun&port=5"]),
    ],
)
def test_each_host_has_its_address(text: str, addresses: list[str]) -> None:
    found = DatabaseUrl.parse(f"postgresql://{text}").of_each_host
    assert found == tuple(f"postgresql://{each}" for each in addresses)


@pytest.mark.parametrize("text", ["mysql://h/d", "h/d", "", "file:///etc/passwd"])
def test_what_is_no_postgresql_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        DatabaseUrl.parse(text)


@pytest.mark.parametrize("mark", [*"/#?@[]", "@x?", "@x/", "@/", "\u2100", ":@/"])
@pytest.mark.parametrize("secret", ["sec{}ret", "12{}ret", "{}ret", "sec{}"])
def test_a_password_that_is_not_encoded_is_told_and_not_repeated(secret: str, mark: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded") as raised:
        DatabaseUrl.parse(f"postgresql://postgres:{secret.format(mark)}@host/db")
    told = repr((raised.value, raised.value.__suppress_context__))
    assert not any(part in told for part in ("sec", "ret", "12", mark + "ret"))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("h:abc/d", "a port from 1 to 65535"),
        ("h:65536/d", "a port from 1 to 65535"),
        ("h:0/d", "a port from 1 to 65535"),
        ("h,/d", "expected HOST"),
        ("/d?host=h&port=abc", "port has to be a number from 1 to 65535"),
        ("/d?host=h:abc", "host has to be"),
        ("h/d?foo=bar&connect_timeout=3", "^the parameter 'foo' is not supported$"),
        ("h/d?channel_binding=require", "^channel_binding has to be one of disable, prefer$"),
        ("h/d?ssl=true", "^sslmode has to be one of disable, allow, prefer, require,"),
        ("h/d?target_session_attrs=master", "target_session_attrs has to be one of any, primary"),
        ("h/d?pgbouncer=maybe", "^pgbouncer has to be true or false$"),
        ("h/d?pgbouncer", "^pgbouncer has to be true or false$"),
        ("h:x/d?a=1&pgbouncer=2", "expected HOST.*; the parameter 'a'.*; pgbouncer has"),
    ],
)
def test_what_cannot_be_used_is_told_all_at_once(address: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DatabaseUrl.parse(f"postgresql://{address}")


def test_neither_password_nor_user_is_shown() -> None:
    url = DatabaseUrl.parse("postgresql://admin:hunter2@db.example:5432/pairs?ssl=require")
    assert url.shown == "postgresql://db.example:5432/pairs"
    assert "hunter2" not in repr(url)


def test_a_socket_is_shown_as_its_directory() -> None:
    url = DatabaseUrl.parse("postgresql://u:p@/pairs?host=/run/pg")
    assert url.shown == "postgresql:///run/pg/pairs"
