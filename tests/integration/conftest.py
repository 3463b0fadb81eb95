"""A service for each test that wants one, over a database of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.support.service import ServiceUnderTest, fleet_of, service_over, settings_for


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a service over this test's own database."""
    return settings_for(database_url, tmp_path)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[ServiceUnderTest]:
    """A service with three simulated appliances, none registered yet."""
    async with fleet_of(3) as fleet, service_over(settings, fleet) as running:
        yield running
