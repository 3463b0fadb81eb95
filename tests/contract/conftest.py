"""The service that the contract is tried on: the one of the integration tests."""

from tests.integration.conftest import service, settings

__all__ = ["service", "settings"]
