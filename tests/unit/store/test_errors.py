"""How the database's errors are told."""

import pytest
from sqlalchemy.exc import TimeoutError as PoolExhausted

from service.domain.errors import StoreUnavailable
from service.store.errors import translated


def test_that_all_connections_are_in_use_is_told_without_the_librarys_own_words() -> None:
    exhausted = PoolExhausted("QueuePool limit of size 10 overflow 0 reached")
    with (
        pytest.raises(StoreUnavailable, match=r"a statement: all connections .* in use"),
        translated("a statement"),
    ):
        raise exhausted
