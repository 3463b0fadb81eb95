"""Files that are no code."""

import pytest

from service.resources import resource


def test_a_file_that_did_not_come_with_the_service_is_named() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no-such\.yaml is neither in .*/service nor beside"
    ):
        resource("no-such.yaml")
