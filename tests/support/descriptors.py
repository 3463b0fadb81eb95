"""A process that has no file descriptor left."""

import contextlib
import os
import resource
from collections.abc import Iterator

KIND = resource.RLIMIT_NOFILE


@contextlib.contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Within, this process may have no descriptor from `limit` on."""
    soft, hard = resource.getrlimit(KIND)
    resource.setrlimit(KIND, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(KIND, (soft, hard))


def next_descriptor() -> int:
    """The one that would be opened next."""
    found = os.dup(0)
    os.close(found)
    return found
