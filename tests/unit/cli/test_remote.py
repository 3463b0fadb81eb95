"""Where a command looks for the service."""

import pytest

from service.cli import remote
from service.settings import InvalidSettings

TOKEN = "a token of no use"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is known."""
    monkeypatch.setenv("SITEPAIR_TOKEN", TOKEN)


async def asked_at() -> str:
    """Where it looks."""
    async with remote.remote() as service:
        return str(service.address)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("", "http://127.0.0.1:8080"),
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("[::]:9", "http://[::1]:9"),
        ("[fd00::1]:9", "http://[fd00::1]:9"),
        ("prague:9", "http://prague:9"),
    ],
)
async def test_without_an_address_it_is_where_the_service_listens(
    listen: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEPAIR_LISTEN", listen)
    assert await asked_at() == url
    monkeypatch.setenv("SITEPAIR_URL", "http://10.0.0.1:7")
    assert await asked_at() == "http://10.0.0.1:7"


async def test_a_port_that_nobody_knows_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEPAIR_LISTEN", "127.0.0.1:0")
    with pytest.raises(InvalidSettings, match="SITEPAIR_URL"):
        await asked_at()
