"""What the service logs, for a test to read."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from service.observe.logging import configure


@contextmanager
def captured_logs() -> Iterator[io.StringIO]:
    """All that the service logs within, as the lines of JSON that an operator would get."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(level="DEBUG", stream=stream)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
