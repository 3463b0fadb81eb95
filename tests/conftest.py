"""What every test may ask for."""

import pytest

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


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """What chance is made of in this run: `Using --randomly-seed=` at its top, an option to
    repeat it."""
    return int(pytestconfig.getoption("randomly_seed"))
