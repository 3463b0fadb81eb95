"""When what was asked of a pairing is done, which is what the exit status tells."""

import pytest

from service.cli.pair import _canceled


@pytest.mark.parametrize(
    ("state", "side", "is_done"),
    [
        ("CANCELED", "ROLLED_BACK", True),
        ("CANCELED", "ROLLBACK_FAILED", False),
        ("SUCCEEDED", "SUCCEEDED", False),
    ],
)
def test_what_was_left_behind_is_not_done_with_being_canceled(
    state: str, side: str, *, is_done: bool
) -> None:
    assert _canceled({"state": state, "sides": [{"state": side}]}) is is_done
