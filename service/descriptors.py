"""File descriptors: as many as may be had, and one line in the log when even they are used up."""

import asyncio
import errno
import resource
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from service.observe.events import AcceptFailed
from service.observe.logging import emit

_USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SILENT_S = 60.0


def take_all() -> None:
    """Have as many descriptors as the hard limit allows; where that is refused, those there are.

    The soft limit is often 1024, which suits programs that use `select`. For whoever has the
    process to himself.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class AcceptWatch:
    """An event loop's exception handler that tells `AcceptFailed`, once a minute at most.

    The loop tries again every second, and complains as often as its backlog is long each time.
    All else is told as the loop tells it.
    """

    def __init__(self) -> None:
        self._silent_until = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """What `loop.set_exception_handler` asks for."""
        error = context.get("exception")
        # Only where connections are accepted does the loop itself meet this.
        if not isinstance(error, OSError) or error.errno not in _USED_UP or "socket" not in context:
            loop.default_exception_handler(dict(context))
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + _SILENT_S
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            emit(AcceptFailed(error=str(error.strerror), limit=limit))
