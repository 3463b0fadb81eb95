"""What every test may ask for."""

import pytest
from hypothesis import settings

from tests.support.database import (
    database,
    database_url,
    empty_database_url,
    reachable_dir,
    server_url,
    sql,
)

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "reachable_dir",
    "seed",
    "server_url",
    "sql",
]


# A machine that is busy with something else is no defect.
settings.register_profile("sitepair", deadline=None)
settings.load_profile("sitepair")


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """What chance is made of in this run: `Using --randomly-seed=` at its top, an option to
    repeat it."""
    return int(pytestconfig.getoption("randomly_seed"))
