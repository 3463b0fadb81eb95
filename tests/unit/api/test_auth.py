"""Who is let in."""

import pytest

from service.api.auth import ADMIN, principal
from service.api.parts import ProcessParts
from service.api.refusals import NotAuthenticated
from service.observe.metrics import Metrics

TOKEN = "the-right-token-of-this-service"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_lets_in_under_the_name_of_admin(scheme: str) -> None:
    assert principal([f"{scheme} {TOKEN}"], TOKEN) == ADMIN


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer wrong"],
        [TOKEN],
        [f"Basic {TOKEN}"],
        [f"Bearer {TOKEN}x"],
        [f"Bearer {TOKEN[:-1]}"],
        [f"Bearer {TOKEN.upper()}"],
        ["Bearer t\udcffken"],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
    ],
)
def test_everybody_else_hears_the_same(values: list[str]) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        principal(values, TOKEN)

    assert str(caught.value) == str(NotAuthenticated())


def test_the_token_is_not_shown_with_what_it_is_kept_in() -> None:
    async def ready() -> None:
        return None

    parts = ProcessParts(objection=ready, metrics=Metrics(), admin_token=TOKEN)
    assert TOKEN not in repr(parts)
