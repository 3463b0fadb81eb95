"""A running service for commands."""

import pytest

from tests.support.service import ServiceUnderTest


@pytest.fixture
def remote(service: ServiceUnderTest) -> dict[str, str]:
    """The environment that leads a command to the service."""
    return {"SITEPAIR_URL": service.url, "SITEPAIR_TOKEN": service.token}
